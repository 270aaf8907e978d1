//! What is done with every fuzzed file of conversations, shared by the fuzz target (`fuzz/`) and by the tests that
//! replay its corpus; in no other build.

#![allow(clippy::unwrap_used)] // a broken promise is to panic

use serde_json::{Value as Json, json};

use crate::transfer::{Checked, check_file, export_conversation};
use crate::{Conversation, EXPORT_FORMAT, EXPORT_VERSION, Message, OwnerId, StoreError};

/// Checks the bytes as a file to import. What passes is exported again, and that file must pass too and say the same.
///
/// Returns the error's text where the file is refused. Panics only if a promise is broken.
pub fn conversations(bytes: &[u8]) -> Option<String> {
    let file: Json = match serde_json::from_slice(bytes) {
        Ok(file) => file,
        Err(error) => return Some(one_line(error)),
    };
    let owner = OwnerId::new();
    let checked = match check_file(owner, &file) {
        Ok(checked) => checked,
        Err(error) => return Some(one_line(error)),
    };
    let exported = export(checked).unwrap();
    let again = check_file(owner, &exported).and_then(export).unwrap();
    assert_eq!(without_ids(&again), without_ids(&exported));
    None
}

/// The export of conversations as they would be in the database.
fn export(checked: Vec<Checked>) -> Result<Json, StoreError> {
    let mut conversations = Vec::new();
    for Checked { row, messages } in checked {
        let conversation = Conversation::from_row(row)?;
        let messages: Vec<Message> = messages
            .into_iter()
            .map(|(row, parts)| Message::from_row(row, parts))
            .collect::<Result<_, _>>()?;
        for (idx, message) in messages.iter().enumerate() {
            let parent = message.parent_id.map(|id| messages.iter().position(|other| other.id == id));
            assert!(parent.is_none_or(|parent| parent.is_some_and(|parent| parent < idx)), "{message:?}");
        }
        let leaf = conversation.active_leaf_id;
        assert!(leaf.is_some() != messages.is_empty());
        assert!(leaf.is_none_or(|leaf| messages.iter().any(|message| message.id == leaf)));
        conversations.push(export_conversation(conversation, &messages));
    }
    Ok(json!({"format": EXPORT_FORMAT, "version": EXPORT_VERSION, "conversations": conversations}))
}

/// The export with every id as the order in which it stands in the file.
fn without_ids(file: &Json) -> Json {
    let mut file = file.clone();
    for conversation in file["conversations"].as_array_mut().unwrap() {
        let ids: Vec<Json> = conversation["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["id"].clone())
            .collect();
        let number = |id: &Json| json!(ids.iter().position(|known| known == id));
        conversation["id"] = Json::Null;
        conversation["active_leaf_id"] = number(&conversation["active_leaf_id"]);
        for message in conversation["messages"].as_array_mut().unwrap() {
            message["id"] = number(&message["id"]);
            message["parent_id"] = number(&message["parent_id"]);
        }
    }
    file
}

/// The text, which must be one line of bounded length whatever the file holds.
fn one_line(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
    assert!(text.len() < 1200, "{} bytes of text: {text}", text.len());
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    #[test]
    fn every_file_of_the_corpus_is_taken_or_refused_as_its_name_says() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/conversations/corpus");
        let mut n_files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let error = super::conversations(&std::fs::read(&path).unwrap());
            assert_eq!(error.is_none(), name.starts_with("ok-"), "{name}: {error:?}");
            n_files += 1;
        }
        assert!(n_files > 5, "found {n_files} files in {folder:?}");
    }
}
