//! Replays the fuzz corpora: no file may panic or take long, and each must be taken or refused as its name says.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../fuzz/src/reasoning_body.rs"]
mod reasoning_body;
#[path = "../../../fuzz/src/templates_body.rs"]
mod templates_body;
#[path = "../../../fuzz/src/tokenizers_body.rs"]
mod tokenizers_body;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Far more than the fuel of a template lasts, even on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(20);

/// The files of a folder below `testdata`, by name; there are at least so many.
fn files(folder: &str, at_least: usize) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(paths.len() >= at_least, "found {} files in {}", paths.len(), folder.display());
    let read = |path: &PathBuf| std::fs::read(path).unwrap();
    paths.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(path))).collect()
}

fn replay(files: Vec<(String, Vec<u8>)>, exercise: fn(&[u8]) -> Option<String>) {
    let mut wrong = Vec::new();
    for (name, bytes) in files {
        let start = Instant::now();
        let error = exercise(&bytes);
        assert!(start.elapsed() < MOST_TIME, "{name} took {:?}", start.elapsed());
        match (name.starts_with("ok-"), error) {
            (true, Some(error)) => wrong.push(format!("{name} was refused: {error}")),
            (false, None) => wrong.push(format!("{name} was taken")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn vocabularies_are_taken_or_refused_and_keep_their_promises() {
    replay(files("tokenizers/corpus", 6), tokenizers_body::exercise);
}

#[test]
fn templates_end_within_their_fuel() {
    replay(files("templates/corpus", 6), templates_body::exercise);
}

/// Values nested as deep as fuel allows. They have a folder of their own, because a fuzzer's instruments make them a
/// hundred times slower: as its seeds they would be its only findings.
#[test]
fn deep_values_of_templates_do_not_overflow_the_stack() {
    replay(files("templates/deep", 5), templates_body::exercise);
}

#[test]
fn answers_are_split_alike_however_they_are_cut() {
    files("reasoning/corpus", 6).iter().for_each(|(_, bytes)| reasoning_body::exercise(bytes));
}
