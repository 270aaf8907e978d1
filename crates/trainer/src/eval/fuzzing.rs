//! What is done with every fuzzed file of a task, shared by the fuzz target (`fuzz/`) and by the test that replays its
//! corpus; in no other build.

use super::prompts::{chat_messages, examples_for, plain_context};
use super::records::Records;

/// Reads the bytes as JSONL with the records of a task and puts its questions.
///
/// Returns the first error's text, or `None` where all could be read. Panics only if a promise is broken.
pub fn eval_tasks(bytes: &[u8]) -> Option<String> {
    let mut records = Records::default();
    for line in bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        let error = match serde_json::from_slice(line) {
            Ok(record) => records.add(&record).err(),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            assert!(!error.chars().any(char::is_control), "control characters in {error:?}");
            assert!(error.len() < 2400, "{} bytes of text: {error}", error.len());
            return Some(error);
        }
    }
    let Some(task) = records.finish("fuzz") else { return Some("nothing to ask".to_owned()) };
    assert!(!task.name.chars().chain(task.about.chars()).any(char::is_control));
    for (idx, document) in task.documents.iter().enumerate() {
        let Ok(examples) = examples_for(&task, idx, task.options.n_few_shot.min(3), 7) else { continue };
        assert!(examples.iter().all(|example| example.question() != document.question()));
        let context = plain_context(&task, &examples, document);
        assert!(context.contains(document.question()));
        assert_eq!(chat_messages(&examples, document).len(), 2 * examples.len() + 1);
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    #[test]
    fn every_file_of_the_corpus_is_taken_or_refused_as_its_name_says() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/eval/corpus");
        let mut n_files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let error = super::eval_tasks(&std::fs::read(&path).unwrap());
            assert_eq!(error.is_none(), name.starts_with("ok-"), "{name}: {error:?}");
            n_files += 1;
        }
        assert!(n_files > 8, "found {n_files} files in {folder:?}");
    }
}
