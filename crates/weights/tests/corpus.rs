//! Replays the fuzz corpora: no file may panic, and each must be taken or refused as its name says.

#![allow(clippy::unwrap_used)]

#[path = "../../../fuzz/src/gguf_body.rs"]
mod gguf_body;

#[path = "../../../fuzz/src/adapters_body.rs"]
mod adapters_body;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Far more than any of these small files needs, even on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(5);

/// Each file of the corpus through `exercise`, which gives an error's text; how many there are.
fn replay(corpus: &str, exercise: fn(&[u8]) -> Option<String>) -> usize {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(corpus).join("corpus");
    let mut n_files = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let start = Instant::now();
        let error = exercise(&std::fs::read(&path).unwrap());
        assert!(start.elapsed() < MOST_TIME, "{name} took {:?}", start.elapsed());
        match (name.starts_with("ok-"), error) {
            (true, Some(error)) => wrong.push(format!("{name} was refused: {error}")),
            (false, None) if name.starts_with("bad-") => wrong.push(format!("{name} was taken")),
            _ => {}
        }
        n_files += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    n_files
}

#[test]
fn every_model_of_the_corpus_is_taken_or_refused_as_its_name_says() {
    let n_files = replay("gguf", gguf_body::exercise);
    assert!(n_files > 60, "found {n_files} files; run scripts/gguf_corpus.py");
}

#[test]
fn every_adapter_of_the_corpus_is_taken_or_refused_as_its_name_says() {
    let n_files = replay("adapters", adapters_body::exercise);
    assert!(n_files > 20, "found {n_files} files; run scripts/adapter_corpus.py");
}
