#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};
use tokenizer::Tokenizer;

use super::*;
use crate::test_support::chat_tokenizer;

struct Place {
    folder: tempfile::TempDir,
    tokenizer: Tokenizer,
    kind: LessonKind,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), tokenizer: chat_tokenizer(), kind: LessonKind::Chats }
    }

    fn prepare(&self, records: &[Value], seq_len: usize, on_broken: OnBroken) -> Result<Lessons, DataError> {
        let path = self.folder.path().join("chats.jsonl");
        let lines: Vec<String> = records.iter().map(Value::to_string).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let template = ChatTemplate::chatml(self.tokenizer.special_texts());
        let task = PrepareLessons {
            corpus: &Corpus::find(&[path]).unwrap(),
            on_broken,
            tokenizer: &self.tokenizer,
            template: &template,
            seq_len,
            held_out_share: 0.2,
            kind: self.kind,
        };
        let out = self.folder.path().join("data");
        if out.exists() {
            fs::remove_dir_all(&out).unwrap();
        }
        prepare_lessons(&task, &out)
    }
}

fn chat(question: &str, answer: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": question }, { "role": "assistant", "content": answer }] })
}

fn numbered(n: usize) -> Vec<Value> {
    (0..n)
        .map(|i| chat(&format!("what is {i}?"), &format!("it is {}", "what it is ".repeat(1 + i % 5))))
        .collect()
}

#[test]
fn only_answers_count_and_each_conversation_is_whole() {
    let place = Place::new();
    let mut records = numbered(100);
    records.extend_from_within(10..13);
    let lessons = place.prepare(&records, 200, OnBroken::Stop).unwrap();
    let summary = &lessons.summary;
    assert_eq!(summary.n_duplicates, 3);
    assert_eq!(summary.n_lessons + summary.n_held_out, 100);
    assert!((8..35).contains(&summary.n_held_out), "{summary:?}");
    let mut tuning = FineTuning::new(&lessons, 1, 150, 3);
    let n_batches = tuning.n_batches_of_epoch();
    let mut rows = Rows::default();
    let (mut n_sequences, mut weight) = (0, 0.0);
    for _ in 0..n_batches {
        tuning.next(&mut rows);
        assert!(rows.len() <= 150);
        let batch = rows.batch();
        n_sequences += batch.sequences.len();
        weight += rows.weight();
        for sequence in batch.sequences {
            let learnt: Vec<u32> =
                sequence.clone().filter(|&at| batch.weights[at] > 0.0).map(|at| batch.targets[at]).collect();
            let text = String::from_utf8(place.tokenizer.decode_with_specials(&learnt)).unwrap();
            assert!(text.starts_with("it is what it is") && text.ends_with("<|im_end|>"), "{text:?}");
        }
    }
    assert_eq!(n_sequences as u64, summary.n_lessons);
    assert_eq!(weight, summary.n_answer_tokens as f64);
    assert!((tuning.n_epochs() - 1.0).abs() < 1e-9);
    let held_out: usize = lessons.held_out_rows(150, 1).iter().map(|rows| rows.batch().sequences.len()).sum();
    assert_eq!(held_out as u64, summary.n_held_out);
}

#[test]
fn what_was_skipped_was_taken_and_epochs_differ() {
    let place = Place::new();
    let lessons = place.prepare(&numbered(60), 200, OnBroken::Stop).unwrap();
    let mut whole = Vec::new();
    let mut tuning = FineTuning::new(&lessons, 1, 120, 3);
    for _ in 0..40 {
        let mut rows = Rows::default();
        tuning.next(&mut rows);
        whole.push(rows);
    }
    for n in [0, 1, 7, 30] {
        let mut skipping = FineTuning::new(&lessons, 1, 120, 3);
        skipping.skip(n);
        let mut rows = Rows::default();
        skipping.next(&mut rows);
        assert_eq!(rows, whole[n as usize]);
    }
    let n = tuning.n_batches_of_epoch() as usize;
    assert_ne!(whole[0], whole[n]);
}

#[test]
fn long_conversations_are_cut_off_and_left_out_where_no_answer_remains() {
    let place = Place::new();
    let long = "what ".repeat(100);
    let records = [chat(&long, "it is"), chat("a", &long), chat("a", "it is"), chat("b", "it is what")];
    let lessons = place.prepare(&records, 40, OnBroken::Stop).unwrap();
    assert_eq!((lessons.summary.n_cut_off, lessons.summary.n_without_answer), (2, 1));
    let longest = (0..lessons.len()).map(|idx| lessons.get(idx).tokens.len()).max();
    assert!(longest <= Some(41));
    let error = place.prepare(&records[..1], 40, OnBroken::Stop).unwrap_err().to_string();
    assert!(error.contains("there is no answer to learn from"), "{error}");
}

#[test]
fn what_teaches_nothing_is_named_with_its_line() {
    let place = Place::new();
    let only_questions = json!({ "messages": [{ "role": "user", "content": "a" }] });
    let mut records = numbered(20);
    records.insert(1, only_questions);
    let error = place.prepare(&records, 200, OnBroken::Stop).unwrap_err().to_string();
    assert!(
        error.contains("chats.jsonl, line 2: no message of an assistant, so there is nothing"),
        "{error}"
    );
    let lessons = place.prepare(&records, 200, OnBroken::Skip).unwrap();
    assert_eq!((lessons.summary.n_broken, lessons.summary.broken.len()), (1, 1));
}

#[test]
fn pairs_stay_together_and_only_their_last_answers_count() {
    let place = Place { kind: LessonKind::Pairs, ..Place::new() };
    let pair = |i: usize| {
        json!({
            "prompt": [
                { "role": "user", "content": format!("what is {i}?") },
                { "role": "assistant", "content": "is it?" },
                { "role": "user", "content": "it is" },
            ],
            "chosen": [{ "role": "assistant", "content": format!("what it is {i}") }],
            "rejected": [{ "role": "assistant", "content": format!("it {i}") }],
        })
    };
    let mut records: Vec<Value> = (0..50).map(pair).collect();
    let long = "what ".repeat(300);
    records.push(json!({ "prompt": "a", "chosen": long, "rejected": "b" }));
    records.push(json!({ "prompt": long, "chosen": "a", "rejected": "b" }));
    let lessons = place.prepare(&records, 200, OnBroken::Stop).unwrap();
    assert_eq!(lessons.summary.n_lessons + lessons.summary.n_held_out, 102);
    assert_eq!(lessons.summary.n_without_answer, 2, "nothing is left of the last pair");
    let learnt = |idx: usize| {
        let lesson = lessons.get(idx);
        let tokens = lesson.tokens.iter().zip(&lesson.is_answer).filter(|(_, is_answer)| **is_answer);
        let tokens: Vec<u32> = tokens.map(|(token, _)| *token).collect();
        String::from_utf8(place.tokenizer.decode_with_specials(&tokens)).unwrap()
    };
    for pair in 0..lessons.len() / 2 {
        let (chosen, rejected) = (learnt(2 * pair), learnt(2 * pair + 1));
        let is_long = chosen.len() > 50;
        assert!(
            is_long || chosen.starts_with("what it is") && rejected.starts_with("it "),
            "{chosen} {rejected}"
        );
        assert!(is_long || chosen[11..] == rejected[3..], "{chosen} and {rejected}");
    }
    for rows in lessons.held_out_rows(150, 2) {
        assert!(rows.n_sequences().is_multiple_of(2));
    }
}
