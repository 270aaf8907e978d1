//! A branch of a conversation as the model is to see it.
//!
//! Files stand before the text of their message, each under its name between fences; what a model thought is not sent
//! back to it.

use store::{Message, Part, Role};
use tokenizer::ChatMessage;

/// The system prompt, if there is one, and the messages of the branch.
pub(crate) fn chat_messages(system_prompt: Option<&str>, branch: &[Message]) -> Vec<ChatMessage> {
    let system = system_prompt.filter(|prompt| !prompt.trim().is_empty());
    let system = system.map(|prompt| ChatMessage::new("system", prompt));
    let said = branch.iter().map(|message| match message.role {
        Role::User => user_message(&message.parts),
        Role::Assistant => ChatMessage::new("assistant", &words_of(&message.parts)),
    });
    system.into_iter().chain(said).collect()
}

/// What a person says: files first, then the words.
pub(crate) fn user_message(parts: &[Part]) -> ChatMessage {
    let mut pieces: Vec<String> = Vec::new();
    for part in parts {
        if let Part::File { name, text, .. } = part {
            pieces.push(fenced(name, text));
        }
    }
    for part in parts {
        if let Part::Text { text } = part {
            pieces.push(text.clone());
        }
    }
    ChatMessage::new("user", &pieces.join("\n\n"))
}

/// What was said in words: no files, no thoughts.
pub(crate) fn words_of(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.as_str()),
        Part::Reasoning { .. } | Part::File { .. } => None,
    });
    texts.collect()
}

/// A file under its name, between fences that do not occur in it.
fn fenced(name: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let language = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let language = if language.chars().all(|c| c.is_ascii_alphanumeric()) { language } else { "" };
    // A name on one line, whatever it was.
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let line_end = if text.ends_with('\n') { "" } else { "\n" };
    format!("File: {name}\n{fence}{language}\n{text}{line_end}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> Part {
        let media_type = "text/plain".to_owned();
        Part::File { name: name.into(), media_type, text: text.into(), tokens: None, size: 0 }
    }

    #[test]
    fn files_stand_before_the_words_between_fences() {
        let parts =
            [Part::Text { text: "what is this?".into() }, file("a.md", "# a"), file("b c.py", "print()\n")];
        let content = user_message(&parts).content.unwrap_or_default();
        assert_eq!(
            content,
            "File: a.md\n```md\n# a\n```\n\nFile: b c.py\n```py\nprint()\n```\n\nwhat is this?"
        );
    }

    #[test]
    fn a_file_cannot_close_its_own_fence_or_break_its_line() {
        let content = user_message(&[file("x\n```\ny.m d", "a ```` b\n```\n")]).content.unwrap_or_default();
        assert_eq!(content, "File: x ``` y.m d\n`````\na ```` b\n```\n`````");
    }

    #[test]
    fn thoughts_are_not_sent_back() {
        let parts = [Part::Reasoning { text: "hm".into(), seconds: None }, Part::Text { text: "yes".into() }];
        assert_eq!(words_of(&parts), "yes");
    }
}
