#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tokenizer::{Specials, TokenId, Tokenizer};
use whatlang::Lang;

use super::*;
use crate::corpus::{Corpus, OnBroken};
use crate::test_support::tokenizer_of;

const DOCUMENT: TokenId = 0;

fn tokenizer() -> Tokenizer {
    tokenizer_of(b"the rain in the main falls mainly in the plain and in the lane", 300)
}

struct Task {
    languages: Vec<Lang>,
    held_out_share: f64,
    n_threads: usize,
}

impl Default for Task {
    fn default() -> Task {
        Task { languages: Vec::new(), held_out_share: 0.0, n_threads: 2 }
    }
}

impl Task {
    fn run(&self, folder: &Path, sources: &[DataSource]) -> Result<Data, DataError> {
        let task = PrepareData {
            sources,
            on_broken: OnBroken::Stop,
            languages: &self.languages,
            held_out_share: self.held_out_share,
            tokenizer: &tokenizer(),
            document_token: DOCUMENT,
            n_threads: NonZeroUsize::new(self.n_threads).unwrap(),
        };
        prepare_data(&task, &folder.join("data"), &mut |_| ControlFlow::Continue(()))
    }
}

fn source(path: PathBuf) -> DataSource {
    DataSource { corpus: Corpus::find(&[path]).unwrap(), weight: None }
}

/// A file of records, one text each.
fn records(folder: &Path, name: &str, texts: &[String]) -> DataSource {
    let lines: Vec<String> =
        texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
    let path = folder.join(name);
    std::fs::write(&path, lines.join("\n")).unwrap();
    source(path)
}

fn texts(file: &TokenFile) -> Vec<String> {
    let tokenizer = tokenizer();
    (0..file.n_documents())
        .map(|idx| {
            let tokens: Vec<TokenId> = file.document(idx).map(|at| file.token(at)).collect();
            assert_eq!(tokens[0], DOCUMENT);
            String::from_utf8(tokenizer.decode(&tokens[1..])).unwrap()
        })
        .collect()
}

fn numbered(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("text {i}: the rain in the main, 雨, {}", "in the lane ".repeat(i % 7))).collect()
}

#[test]
fn documents_come_out_in_order_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let all = numbered(3000);
    let mut digests = Vec::new();
    for n_threads in [1, 3] {
        let sources = [records(folder.path(), "a.jsonl", &all)];
        let data = Task { n_threads, ..Task::default() }.run(folder.path(), &sources).unwrap();
        assert_eq!(texts(&data.train[0]), all);
        assert_eq!(data.train[0].n_bytes(), all.iter().map(|text| text.len() as u64).sum::<u64>());
        digests.push(data.summary.digest);
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_text_counts_once_in_all_sources_however_long_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let long = "in the lane and in the plain ".repeat(120_000);
    assert!(long.len() > 3 << 20, "longer than a piece");
    let longer = format!("{long}the rain");
    let first = ["one".to_owned(), "two".to_owned(), "one".to_owned(), long.clone()];
    let second = [long.clone(), "two".to_owned(), longer.clone(), "three".to_owned()];
    let sources = [records(folder.path(), "a.jsonl", &first), records(folder.path(), "b.jsonl", &second)];
    let data = Task::default().run(folder.path(), &sources).unwrap();
    assert!(texts(&data.train[0]) == ["one", "two", &long]);
    assert!(texts(&data.train[1]) == [&longer, "three"]);
    let doubles: Vec<u64> = data.summary.sources.iter().map(|source| source.n_duplicates).collect();
    assert_eq!(doubles, [1, 2]);
    assert_eq!(data.train[1].n_bytes(), (longer.len() + 5) as u64);
}

#[test]
fn what_is_held_out_is_not_learnt_from_and_stays_out() {
    let folder = tempfile::tempdir().unwrap();
    let all = numbered(400);
    let task = Task { held_out_share: 0.2, ..Task::default() };
    let data = task.run(folder.path(), &[records(folder.path(), "a.jsonl", &all)]).unwrap();
    let (train, held_out) = (texts(&data.train[0]), texts(&data.held_out[0]));
    assert_eq!(train.len() + held_out.len(), 400);
    assert!((50..110).contains(&held_out.len()), "{}", held_out.len());
    assert!(held_out.iter().all(|text| !train.contains(text)));
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    let fewer = task.run(folder.path(), &[records(folder.path(), "a.jsonl", &all[200..])]).unwrap();
    assert!(texts(&fewer.held_out[0]).iter().all(|text| held_out.contains(text)));
}

#[test]
fn of_a_single_document_the_end_is_held_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    let text = "the rain in the main ".repeat(500);
    std::fs::write(&path, &text).unwrap();
    let data = Task { held_out_share: 0.1, ..Task::default() }.run(folder.path(), &[source(path)]).unwrap();
    let (train, held_out) = (texts(&data.train[0]), texts(&data.held_out[0]));
    assert!(data.summary.sources[0].held_out_within);
    assert_eq!(format!("{}{}", train[0], held_out[0]), text);
    let share = data.held_out[0].n_tokens() as f64 / data.n_tokens() as f64;
    assert!((0.1..0.13).contains(&share), "{share}");
    assert_eq!(data.train[0].n_bytes() + data.held_out[0].n_bytes(), text.len() as u64);
}

#[test]
fn something_is_learnt_and_something_held_out_whatever_the_draw() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..12 {
        let text = format!("{i} the rain in the main ").repeat(40);
        let sources = [records(folder.path(), "a.jsonl", std::slice::from_ref(&text))];
        let data = Task { held_out_share: 0.5, ..Task::default() }.run(folder.path(), &sources).unwrap();
        let (train, held_out) = (texts(&data.train[0]), texts(&data.held_out[0]));
        assert_eq!(format!("{}{}", train[0], held_out[0]), text);
        assert_eq!(std::fs::read_dir(folder.path().join("data")).unwrap().count(), 3);
        std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    }
}

#[test]
fn other_languages_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let english = "This is a sentence in English, which is long enough to be recognised as such.";
    let german = "Dies ist ein deutscher Satz, der lang genug ist, damit man ihn als solchen erkennt.";
    let chinese = "这是一个中文句子，足够长，可以被识别出来。";
    let all = [english, german, chinese].map(str::to_owned);
    let task = Task { languages: vec![Lang::Eng, Lang::Cmn], ..Task::default() };
    let data = task.run(folder.path(), &[records(folder.path(), "a.jsonl", &all)]).unwrap();
    assert_eq!(texts(&data.train[0]), [english, chinese]);
    assert_eq!(data.summary.sources[0].n_other_language, 1);
}

#[test]
fn special_tokens_in_a_text_are_text() {
    let folder = tempfile::tempdir().unwrap();
    let text = "a<|endoftext|>b".to_owned();
    let data = Task::default()
        .run(folder.path(), &[records(folder.path(), "a.jsonl", std::slice::from_ref(&text))])
        .unwrap();
    assert_eq!(data.train[0].n_documents(), 1);
    let tokens: Vec<TokenId> = data.train[0].document(0).skip(1).map(|at| data.train[0].token(at)).collect();
    assert_eq!(tokens, tokenizer().encode(text.as_bytes(), Specials::AsText));
}

#[test]
fn what_is_broken_or_stopped_leaves_no_folder() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jsonl");
    std::fs::write(&path, "{\"text\": \"one\"}\n{\"text\"").unwrap();
    let error = Task::default().run(folder.path(), &[source(path.clone())]).unwrap_err();
    assert!(error.to_string().contains("a.jsonl, line 2: not JSON"), "{error}");
    assert!(!folder.path().join("data").exists());
    let lines =
        numbered(20_000).into_iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n");
    std::fs::write(&path, lines.collect::<String>()).unwrap();
    let task = PrepareData {
        sources: &[source(path)],
        on_broken: OnBroken::Stop,
        languages: &[],
        held_out_share: 0.0,
        tokenizer: &tokenizer(),
        document_token: DOCUMENT,
        n_threads: NonZeroUsize::MIN,
    };
    let error =
        prepare_data(&task, &folder.path().join("data"), &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(error, DataError::Corpus(CorpusError::Stopped)), "{error}");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn damaged_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    Task::default().run(folder.path(), &[records(folder.path(), "a.jsonl", &numbered(20))]).unwrap();
    let data = folder.path().join("data");
    let path = data.join("train-0.tokens");
    let whole = std::fs::read(&path).unwrap();
    let last_start = whole.len() - 8;
    let spoils: [(&dyn Fn(&mut Vec<u8>), &str); 6] = [
        (&|bytes| bytes[0] = b'X', "it does not begin as one"),
        (&|bytes| bytes[8] = 9, "version 9, expected 1"),
        (&|bytes| bytes[16] ^= 1, "its length is not the one it tells"),
        (&|bytes| bytes[65] = 0xff, "a token outside of the vocabulary"),
        (&|bytes| bytes.truncate(60), "it does not begin as one"),
        (&|bytes| bytes[last_start..].fill(0), "documents out of order"),
    ];
    for (spoil, what) in spoils {
        let mut bytes = whole.clone();
        spoil(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let error = Data::open(&data).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("prepare the data again"), "{error}");
    }
}

#[test]
fn every_file_of_tokens_is_taken_or_refused_as_its_name_says() {
    let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokens/corpus");
    let mut n_files = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let error = token_files(&std::fs::read(&path).unwrap());
        assert_eq!(error.is_none(), name.starts_with("ok-"), "{name}: {error:?}");
        n_files += 1;
    }
    assert!(n_files > 8, "found {n_files} files in {folder:?}");
}
