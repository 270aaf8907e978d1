//! Conversations out of the records in which people keep them: OpenAI's messages, ShareGPT's turns, Alpaca's
//! instructions, and the trees of our own exports.

use serde_json::Value;
use tokenizer::ChatMessage;

/// Messages of a conversation at most.
const MAX_MESSAGES: usize = 10_000;

/// The conversations of a record; an export holds several.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn chats_of(record: &Value) -> Result<Vec<Vec<ChatMessage>>, String> {
    if record.get("format").and_then(Value::as_str) == Some("daybreak-conversations") {
        let conversations = record.get("conversations").and_then(Value::as_array);
        let conversations = conversations.ok_or("an export without \"conversations\"")?;
        let chats =
            conversations.iter().map(branch).filter(|chat| !matches!(chat, Ok(chat) if chat.is_empty()));
        return chats.collect();
    }
    for (list, role, content) in [("messages", "role", "content"), ("conversations", "from", "value")] {
        if let Some(turns) = record.get(list) {
            let turns = turns.as_array().ok_or_else(|| format!("{list:?} is no list"))?;
            return Ok(vec![messages(turns, role, content)?]);
        }
    }
    let field = |name: &str| record.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(instruction), Some(output)) = (field("instruction"), field("output")) else {
        let names: Vec<&str> =
            record.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).take(8).collect();
        return Err(format!(
            "no conversation: expected \"messages\", \"conversations\", or \"instruction\" and \"output\", found {}",
            if names.is_empty() { "none of them".to_owned() } else { tokenizer::one_line(&names.join(", ")) }
        ));
    };
    let question = match field("input") {
        Some(input) => format!("{instruction}\n\n{input}"),
        None => instruction.to_owned(),
    };
    let mut chat = Vec::new();
    chat.extend(field("system").map(|system| ChatMessage::new("system", system)));
    chat.push(ChatMessage::new("user", &question));
    chat.push(ChatMessage::new("assistant", output));
    Ok(vec![chat])
}

/// The two conversations of a record of preferences, the chosen one first: `chosen` and `rejected` behind a `prompt`, each
/// a text or messages (TRL), or OpenAI's `input`, `preferred_output` and `non_preferred_output`.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn pair_of(record: &Value) -> Result<[Vec<ChatMessage>; 2], String> {
    let openai = record.get("preferred_output").is_some();
    let (prompt, chosen, rejected) = match openai {
        true => (
            record.get("input").and_then(|input| input.get("messages")),
            "preferred_output",
            "non_preferred_output",
        ),
        false => (record.get("prompt"), "chosen", "rejected"),
    };
    let said = |value: &Value, role: &str, name: &str| match value {
        Value::String(text) => Ok(vec![ChatMessage::new(role, text)]),
        Value::Array(turns) => messages(turns, "role", "content"),
        _ => Err(format!("{name:?} is neither a text nor a list of messages")),
    };
    let before = prompt.map_or(Ok(Vec::new()), |prompt| said(prompt, "user", "prompt"))?;
    let system =
        record.get("system").and_then(Value::as_str).map(|system| ChatMessage::new("system", system));
    let of = |name: &str| {
        let answer = record.get(name).ok_or_else(|| {
            format!("no preference: expected \"prompt\", \"chosen\" and \"rejected\", found no {name:?}")
        })?;
        let mut chat: Vec<ChatMessage> = system.iter().chain(&before).cloned().collect();
        chat.extend(said(answer, "assistant", name)?);
        if chat.last().is_none_or(|last| last.role != "assistant") {
            return Err(format!("{name:?} does not end with an answer of the assistant"));
        }
        Ok(chat)
    };
    let pair = [of(chosen)?, of(rejected)?];
    if pair[0] == pair[1] {
        return Err("the chosen and the rejected answer are the same".to_owned());
    }
    Ok(pair)
}

fn messages(turns: &[Value], role: &str, content: &str) -> Result<Vec<ChatMessage>, String> {
    if turns.len() > MAX_MESSAGES {
        return Err(format!("{} messages in one conversation, at most {MAX_MESSAGES} are read", turns.len()));
    }
    let of = |(idx, turn): (usize, &Value)| {
        let said = turn.get(role).and_then(Value::as_str);
        let said = said.ok_or_else(|| format!("message {} has no {role:?}", idx + 1))?;
        let role = role_of(said).ok_or_else(|| {
            format!(
                "message {} is by {:?}, expected system, user or assistant",
                idx + 1,
                tokenizer::one_line(said)
            )
        })?;
        let text = turn.get(content).ok_or_else(|| format!("message {} has no {content:?}", idx + 1))?;
        let text = text_of(text).ok_or_else(|| format!("message {}: {content:?} is no text", idx + 1))?;
        Ok(ChatMessage::new(role, &text))
    };
    turns.iter().enumerate().map(of).collect()
}

/// The template's word for who speaks.
fn role_of(name: &str) -> Option<&'static str> {
    match name {
        "system" => Some("system"),
        "user" | "human" => Some("user"),
        "assistant" | "gpt" | "chatgpt" | "bot" | "model" => Some("assistant"),
        _ => None,
    }
}

/// Text, or the texts among OpenAI's parts.
fn text_of(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            let texts = parts.iter().map(|part| match part.get("type").and_then(Value::as_str) {
                Some("text") => part.get("text").and_then(Value::as_str),
                _ => None,
            });
            texts.collect::<Option<Vec<&str>>>().map(|texts| texts.concat())
        }
        _ => None,
    }
}

/// The branch of an exported conversation that was last looked at, from its root to its leaf.
fn branch(conversation: &Value) -> Result<Vec<ChatMessage>, String> {
    let all = conversation.get("messages").and_then(Value::as_array);
    let all = all.ok_or("an exported conversation without \"messages\"")?;
    let id_of = |message: &Value, key: &str| message.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut next = id_of(conversation, "active_leaf_id");
    let mut chat = Vec::new();
    while let Some(id) = next {
        let found = all.iter().find(|message| id_of(message, "id").as_ref() == Some(&id));
        let found = found.ok_or("an exported conversation whose messages point at one that is not there")?;
        if chat.len() > all.len() {
            return Err("an exported conversation whose messages go in a circle".to_owned());
        }
        let role = found.get("role").and_then(Value::as_str).and_then(role_of);
        // Reasoning and tools are parts of other kinds: what was said is the text.
        let texts = found.get("parts").and_then(Value::as_array).into_iter().flatten();
        let texts = texts.filter(|part| part.get("type").and_then(Value::as_str) == Some("text"));
        let text: String =
            texts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect::<Vec<_>>().concat();
        if let Some(role) = role {
            chat.push(ChatMessage::new(role, &text));
        }
        next = id_of(found, "parent_id");
    }
    chat.reverse();
    Ok(chat)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(record: &Value) -> Result<Vec<Vec<(String, String)>>, String> {
        let plain = |message: ChatMessage| (message.role, message.content.unwrap_or_default());
        Ok(chats_of(record)?.into_iter().map(|chat| chat.into_iter().map(plain).collect()).collect())
    }

    fn said(turns: &[(&str, &str)]) -> Vec<Vec<(String, String)>> {
        vec![turns.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()]
    }

    #[test]
    fn every_way_to_write_a_conversation_is_read() {
        let expected = said(&[("user", "hi"), ("assistant", "hello")]);
        for record in [
            json!({ "messages": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "hello" }] }),
            json!({ "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "hi" }] },
                { "role": "assistant", "content": "hello" },
            ] }),
            json!({ "conversations": [{ "from": "human", "value": "hi" }, { "from": "gpt", "value": "hello" }] }),
            json!({ "instruction": "hi", "input": "", "output": "hello" }),
            json!({ "format": "daybreak-conversations", "version": 1, "conversations": [{
                "active_leaf_id": "b",
                "messages": [
                    { "id": "a", "parent_id": null, "role": "user", "parts": [{ "type": "text", "text": "hi" }] },
                    { "id": "c", "parent_id": "a", "role": "assistant", "parts": [{ "type": "text", "text": "no" }] },
                    { "id": "b", "parent_id": "a", "role": "assistant",
                      "parts": [{ "type": "reasoning", "text": "hm" }, { "type": "text", "text": "hello" }] },
                ],
            }] }),
        ] {
            assert_eq!(read(&record).as_ref(), Ok(&expected), "{record}");
        }
        let record = json!({ "system": "be kind", "instruction": "add", "input": "1 1", "output": "2" });
        assert_eq!(
            read(&record),
            Ok(said(&[("system", "be kind"), ("user", "add\n\n1 1"), ("assistant", "2")]))
        );
    }

    #[test]
    fn every_way_to_write_a_preference_is_read() {
        let user = json!([{ "role": "user", "content": "hi" }]);
        let answer = |text: &str| json!([{ "role": "assistant", "content": text }]);
        let whole = |text: &str| json!([{ "role": "user", "content": "hi" }, { "role": "assistant", "content": text }]);
        let expected = ["yes", "no"]
            .map(|text| vec![ChatMessage::new("user", "hi"), ChatMessage::new("assistant", text)]);
        for record in [
            json!({ "prompt": "hi", "chosen": "yes", "rejected": "no" }),
            json!({ "prompt": user, "chosen": answer("yes"), "rejected": answer("no") }),
            json!({ "chosen": whole("yes"), "rejected": whole("no") }),
            json!({ "input": { "messages": user }, "preferred_output": answer("yes"),
                "non_preferred_output": answer("no") }),
        ] {
            assert_eq!(pair_of(&record).as_ref(), Ok(&expected), "{record}");
        }
        for (record, what) in [
            (json!({ "prompt": "hi", "chosen": "yes" }), "found no \"rejected\""),
            (
                json!({ "prompt": 1, "chosen": "a", "rejected": "b" }),
                "\"prompt\" is neither a text nor a list",
            ),
            (json!({ "prompt": "hi", "chosen": "a", "rejected": "a" }), "are the same"),
            (json!({ "prompt": "hi", "chosen": user, "rejected": "a" }), "does not end with an answer"),
        ] {
            let error = pair_of(&record).err().unwrap_or_default();
            assert!(error.contains(what), "{record}: {error:?}");
        }
    }

    #[test]
    fn what_is_no_conversation_is_named() {
        for (record, what) in [
            (json!([1]), "no conversation: expected \"messages\""),
            (json!({ "text": "a" }), "found text"),
            (json!({ "messages": 1 }), "\"messages\" is no list"),
            (json!({ "messages": [{ "content": "a" }] }), "message 1 has no \"role\""),
            (json!({ "messages": [{ "role": "user" }] }), "message 1 has no \"content\""),
            (json!({ "messages": [{ "role": "user", "content": 1 }] }), "message 1: \"content\" is no text"),
            (
                json!({ "messages": [{ "role": "tool", "content": "a" }] }),
                "message 1 is by \"tool\", expected",
            ),
            (
                json!({ "format": "daybreak-conversations", "conversations": [{ "active_leaf_id": "a", "messages": [
                    { "id": "a", "parent_id": "a", "role": "user", "parts": [] }] }] }),
                "go in a circle",
            ),
            (
                json!({ "format": "daybreak-conversations",
                    "conversations": [{ "active_leaf_id": "x", "messages": [] }] }),
                "point at one that is not there",
            ),
        ] {
            let error = read(&record).err().unwrap_or_default();
            assert!(error.contains(what), "{record}: {error:?}");
        }
    }
}
