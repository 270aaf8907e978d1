//! What is done with every fuzzed chat template and conversation, shared by the fuzz target and the corpus test of
//! `crates/tokenizer`.
//!
//! The bytes are a template's source, a line `=====`, and a list of messages as JSON (or an object with `messages`,
//! `tools`, `extra`).

use serde_json::{Map, Value};
use tokenizer::{ChatMessage, ChatTemplate, RenderInput, SpecialTexts, ToolCall};

/// Between source and conversation.
const SEPARATOR: &str = "\n=====\n";

/// The most text that one rendering may give: the fuel's worth of bytes, and far above.
const MAX_RENDERED: usize = 128 << 20;

fn message(json: &Value) -> ChatMessage {
    let text = |json: &Value, key: &str| json[key].as_str().map(str::to_owned);
    let call = |call: &Value| ToolCall {
        id: text(call, "id"),
        name: text(&call["function"], "name").unwrap_or_default(),
        arguments: call["function"]["arguments"].clone(),
    };
    ChatMessage {
        role: text(json, "role").unwrap_or_else(|| "user".to_owned()),
        content: text(json, "content"),
        reasoning: text(json, "reasoning_content"),
        tool_calls: json["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: text(json, "tool_call_id"),
        name: text(json, "name"),
    }
}

fn specials() -> SpecialTexts {
    SpecialTexts {
        bos: "<s>".to_owned(),
        eos: "</s>".to_owned(),
        unk: "<unk>".to_owned(),
        pad: String::new(),
        control: ["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"].map(str::to_owned).to_vec(),
        added: ["<tool_call>", "<think>", "</think>"].map(str::to_owned).to_vec(),
    }
}

/// Renders the conversation with the template.
///
/// Returns the error's text where the template is refused or fails. Panics only if a promise is broken; that it
/// ends at all is one of them.
pub(crate) fn exercise(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (source, conversation) = text.split_once(SEPARATOR).unwrap_or((&text, ""));
    let conversation: Value = serde_json::from_str(conversation).unwrap_or_default();
    let list = |key: &str| conversation[key].as_array().cloned().unwrap_or_default();
    let messages = conversation.as_array().cloned().unwrap_or_else(|| list("messages"));
    let messages: Vec<ChatMessage> = messages.iter().map(message).collect();
    let tools = list("tools");
    let extra: Map<String, Value> = conversation["extra"].as_object().cloned().unwrap_or_default();

    let template = match ChatTemplate::new(source, specials()) {
        Ok(template) => template,
        Err(error) => return Some(one_line(error)),
    };
    let _ = template.reasoning().off_kwargs();
    let mut failed = None;
    for add_generation_prompt in [false, true] {
        let input = RenderInput {
            messages: &messages,
            tools: &tools,
            add_generation_prompt,
            extra: Some(&extra),
            now: 1_700_000_000,
        };
        let rendered = match template.render(&input) {
            Ok(rendered) => rendered,
            Err(error) => {
                failed = Some(one_line(error));
                continue;
            }
        };
        let text = rendered.text();
        assert!(text.len() <= MAX_RENDERED, "{} bytes of prompt", text.len());
        let mut end = 0;
        for range in rendered.data() {
            assert!(end <= range.start && range.start < range.end, "{:?}", rendered.data());
            assert!(text.get(range.clone()).is_some(), "{range:?} cuts a character of {text:?}");
            end = range.end;
        }
        for (idx, range) in rendered.contents() {
            let content = messages[*idx].content.as_deref().unwrap_or_default().trim();
            assert_eq!(&text[range.clone()], content, "the content of message {idx}");
        }
    }
    failed
}

/// The text, which must be one line of bounded length whatever the template says.
fn one_line(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
    assert!(text.len() < 1200, "{} bytes of text: {text}", text.len());
    text
}
