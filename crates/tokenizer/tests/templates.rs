//! Rendered text equals what `transformers` renders, byte for byte.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use tokenizer::{ChatMessage, ChatTemplate, RenderInput, Rendered, SpecialTexts, TemplateError, ToolCall};

/// A conversation of `conversations.json`.
struct Conversation {
    messages: Vec<ChatMessage>,
    tools: Vec<Value>,
    add_generation_prompt: bool,
    extra: Map<String, Value>,
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/templates")
}

fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| {
        panic!("{}: {error}; run scripts/golden_templates.py", path.display());
    });
    serde_json::from_slice(&bytes).unwrap()
}

fn message(json: &Value) -> ChatMessage {
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    let call = |call: &Value| ToolCall {
        id: call["id"].as_str().map(str::to_owned),
        name: call["function"]["name"].as_str().unwrap().to_owned(),
        arguments: call["function"]["arguments"].clone(),
    };
    ChatMessage {
        role: text("role").unwrap(),
        content: text("content"),
        reasoning: text("reasoning_content"),
        tool_calls: json["tool_calls"].as_array().into_iter().flatten().map(call).collect(),
        tool_call_id: text("tool_call_id"),
        name: text("name"),
    }
}

fn conversation(json: &Value) -> Conversation {
    Conversation {
        messages: json["messages"].as_array().unwrap().iter().map(message).collect(),
        tools: json["tools"].as_array().cloned().unwrap_or_default(),
        add_generation_prompt: json["add_generation_prompt"] == true,
        extra: json["extra"].as_object().cloned().unwrap_or_default(),
    }
}

fn specials(json: &Value) -> SpecialTexts {
    let text = |key: &str| json[key].as_str().unwrap().to_owned();
    let control =
        ["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<end_of_turn>"];
    SpecialTexts {
        bos: text("bos"),
        eos: text("eos"),
        unk: text("unk"),
        pad: text("pad"),
        control: control.map(str::to_owned).to_vec(),
        added: ["<tool_call>", "</tool_call>", "<tool_response>", "<think>", "</think>"]
            .map(str::to_owned)
            .to_vec(),
    }
}

fn render(template: &ChatTemplate, conversation: &Conversation, now: i64) -> Result<Rendered, TemplateError> {
    template.render(&RenderInput {
        messages: &conversation.messages,
        tools: &conversation.tools,
        add_generation_prompt: conversation.add_generation_prompt,
        extra: Some(&conversation.extra),
        now,
    })
}

/// Whether Python failed on the type of a value, not the template on the conversation.
fn is_type_error(error: &Value) -> bool {
    error.as_str().unwrap().starts_with("TypeError: ")
}

/// The first bytes that differ.
fn difference(expected: &str, found: &str) -> String {
    let at = expected.bytes().zip(found.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let bytes = &text.as_bytes()[at.saturating_sub(30)..(at + 60).min(text.len())];
        String::from_utf8_lossy(bytes).into_owned()
    };
    format!("from byte {at} on expected …{:?}, found …{:?}", around(expected), around(found))
}

#[test]
fn text_equals_what_transformers_renders() {
    let mut folders = vec![committed()];
    // More templates, outside the tree: `DAYBREAK_TEMPLATES=folder cargo test`.
    folders.extend(std::env::var_os("DAYBREAK_TEMPLATES").map(PathBuf::from));
    let mut told = Vec::new();
    let mut n_rendered = 0;
    let mut n_unmarked = 0;
    let mut n_lenient = 0;
    for folder in folders {
        let setup = read_json(&folder.join("conversations.json"));
        let mut sources: Vec<PathBuf> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        sources.retain(|path| path.extension().is_some_and(|extension| extension == "jinja"));
        sources.sort();
        assert!(!sources.is_empty(), "no templates in {}", folder.display());
        for path in sources {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&path).unwrap();
            let template = match ChatTemplate::new(&source, specials(&setup["specials"])) {
                Ok(template) => template,
                Err(error) => {
                    told.push(format!("{name}: {error}"));
                    continue;
                }
            };
            for (case, expected) in read_json(&path.with_extension("json")).as_object().unwrap() {
                let conversation = conversation(&setup["conversations"][case]);
                let found = render(&template, &conversation, setup["now"].as_i64().unwrap());
                n_rendered += 1;
                match (expected["text"].as_str(), found) {
                    (Some(text), Ok(found)) => {
                        if found.text() != text {
                            told.push(format!("{name}, {case}: {}", difference(text, found.text())));
                        }
                        n_unmarked +=
                            usize::from(found.contents().is_empty() && !conversation.messages.is_empty());
                    }
                    (None, Err(_)) => {}
                    (Some(_), Err(error)) => told.push(format!("{name}, {case}: {error}")),
                    // A value where Python wants another type: minijinja is more lenient, and so are we.
                    (None, Ok(_)) if is_type_error(&expected["error"]) => n_lenient += 1,
                    (None, Ok(_)) => {
                        told.push(format!("{name}, {case}: rendered, expected {}", expected["error"]))
                    }
                }
            }
        }
    }
    eprintln!(
        "{n_rendered} renderings, {} differ, {n_unmarked} without a content's place, {n_lenient} where Python fails",
        told.len()
    );
    assert!(told.is_empty(), "{} of {n_rendered} renderings differ:\n{}", told.len(), told.join("\n"));
}
