//! From a chat request to a checked conversation.

use serde_json::{Map, Value};
use tokenizer::{ChatMessage, Reasoning, ToolCall};

use super::wire::{ChatFields, Content, WireMessage, WireToolCall};
use crate::error::ApiError;
use crate::generation::ChatInput;
use crate::params::means_something;

/// Values of `reasoning_effort`.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

/// Checks messages, tools and what the template is to be told.
pub(crate) fn check(fields: &ChatFields, reasoning: &Reasoning) -> Result<ChatInput, ApiError> {
    if fields.messages.is_empty() {
        return Err(ApiError::bad_value("messages", "expected at least one message, found none"));
    }
    let messages = fields.messages.iter().enumerate().map(|(idx, message)| check_message(idx, message));
    let mut input = ChatInput::new(messages.collect::<Result<_, _>>()?);
    input.tools = check_tools(fields)?;
    input.kwargs = fields.chat_template_kwargs.clone().unwrap_or_default();
    check_modalities(fields)?;
    if let Some(effort) = fields.reasoning_effort.as_deref() {
        if !EFFORTS.contains(&effort) {
            let reason = format!("expected one of {}, found {effort:?}", EFFORTS.join(", "));
            return Err(ApiError::bad_value("reasoning_effort", reason));
        }
        if effort == "none" {
            input.set_reasoning(reasoning, false);
        } else {
            input.kwargs.entry("reasoning_effort").or_insert_with(|| Value::from(effort));
        }
    }
    Ok(input)
}

fn check_message(idx: usize, message: &WireMessage) -> Result<ChatMessage, ApiError> {
    let param = |field: &str| format!("messages[{idx}].{field}");
    let role = match message.role.as_str() {
        "developer" => "system",
        role @ ("system" | "user" | "assistant" | "tool") => role,
        other => {
            let reason = format!("expected system, developer, user, assistant or tool, found {other:?}");
            return Err(ApiError::bad_value(param("role"), reason));
        }
    };
    let content = match &message.content {
        None => None,
        Some(Content::Text(text)) => Some(text.clone()),
        Some(Content::Parts(parts)) => {
            let mut text = String::new();
            for (part_idx, part) in parts.iter().enumerate() {
                let param = format!("messages[{idx}].content[{part_idx}]");
                match (part.kind.as_str(), &part.text) {
                    ("text" | "input_text" | "output_text" | "refusal", Some(part)) => text.push_str(part),
                    ("text" | "input_text" | "output_text" | "refusal", None) => {
                        return Err(ApiError::Missing { param: format!("{param}.text") });
                    }
                    ("image_url" | "input_image" | "image", _) => {
                        return Err(ApiError::unsupported(
                            param,
                            "pictures are not supported yet; send text",
                        ));
                    }
                    (kind, _) => {
                        let reason = format!("parts of type {kind:?} are not supported, only \"text\"");
                        return Err(ApiError::unsupported(param, reason));
                    }
                }
            }
            Some(text)
        }
    };
    let calls = message.tool_calls.as_deref().unwrap_or_default();
    if content.is_none() && calls.is_empty() {
        return Err(ApiError::Missing { param: param("content") });
    }
    let calls = calls.iter().enumerate().map(|(call_idx, call)| check_call(idx, call_idx, call));
    Ok(ChatMessage {
        role: role.to_string(),
        content,
        reasoning: None,
        tool_calls: calls.collect::<Result<_, _>>()?,
        tool_call_id: message.tool_call_id.clone(),
        name: message.name.clone(),
    })
}

/// Templates want a call's arguments as an object; OpenAI sends them as JSON in a string.
fn check_call(idx: usize, call_idx: usize, call: &WireToolCall) -> Result<ToolCall, ApiError> {
    let arguments = match &call.function.arguments {
        Value::Null => Value::Object(Map::new()),
        Value::String(text) if text.trim().is_empty() => Value::Object(Map::new()),
        Value::String(text) => serde_json::from_str(text).map_err(|error| {
            let param = format!("messages[{idx}].tool_calls[{call_idx}].function.arguments");
            ApiError::bad_value(param, format!("expected JSON: {error}"))
        })?,
        other => other.clone(),
    };
    Ok(ToolCall { id: call.id.clone(), name: call.function.name.clone(), arguments })
}

/// The tools that the template is told of; none with `tool_choice: "none"`.
fn check_tools(fields: &ChatFields) -> Result<Option<Value>, ApiError> {
    for (param, value) in [("functions", &fields.functions), ("function_call", &fields.function_call)] {
        let harmless = |value: &Value| !means_something(value) || value == "none" || value == "auto";
        if !value.as_ref().is_none_or(harmless) {
            return Err(ApiError::unsupported(
                param,
                "the old form is not supported; use tools and tool_choice",
            ));
        }
    }
    let tools = fields.tools.as_ref().filter(|tools| !tools.is_empty());
    match fields.tool_choice.as_ref().filter(|choice| means_something(choice)) {
        None => {}
        Some(Value::String(choice)) if choice == "auto" => {}
        Some(Value::String(choice)) if choice == "none" => return Ok(None),
        Some(_) => {
            let reason = "a demanded tool call is not supported yet; use \"auto\" or \"none\"";
            return Err(ApiError::unsupported("tool_choice", reason));
        }
    }
    for (idx, tool) in tools.into_iter().flatten().enumerate() {
        if tool.get("function").and_then(|function| function.get("name")).is_none_or(|name| !name.is_string())
        {
            let reason = "expected {\"type\": \"function\", \"function\": {\"name\": …}}";
            return Err(ApiError::bad_value(format!("tools[{idx}]"), reason));
        }
    }
    Ok(tools.map(|tools| Value::Array(tools.clone())))
}

fn check_modalities(fields: &ChatFields) -> Result<(), ApiError> {
    match fields.modalities.iter().flatten().find(|modality| *modality != "text") {
        Some(other) => {
            Err(ApiError::unsupported("modalities", format!("{other:?} is not supported, only \"text\"")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn reasoning() -> Reasoning {
        Reasoning {
            supported: true,
            can_disable: true,
            kwarg: Some("enable_thinking"),
            system_flag: None,
            tags: ("<think>", "</think>"),
            on_by_default: true,
        }
    }

    fn checked(value: Value) -> Result<ChatInput, ApiError> {
        check(&serde_json::from_value(value).unwrap(), &reasoning())
    }

    #[test]
    fn parts_of_text_become_one_text_and_developer_means_system() {
        let input = checked(json!({"messages": [
            {"role": "developer", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]}))
        .unwrap();
        assert_eq!(input.messages[0].role, "system");
        assert_eq!(input.messages[1].content.as_deref(), Some("ab"));
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        struct Case {
            sent: Value,
            param: &'static str,
        }
        let user = json!([{"role": "user", "content": "hi"}]);
        let picture = json!({"type": "image_url", "image_url": {"url": "data:"}});
        let cases = [
            Case { sent: json!({"messages": []}), param: "messages" },
            Case {
                sent: json!({"messages": [{"role": "robot", "content": "x"}]}),
                param: "messages[0].role",
            },
            Case { sent: json!({"messages": [{"role": "user"}]}), param: "messages[0].content" },
            Case {
                sent: json!({"messages": [{"role": "user", "content": [picture]}]}),
                param: "messages[0].content[0]",
            },
            Case { sent: json!({"messages": user, "tool_choice": "required"}), param: "tool_choice" },
            Case {
                sent: json!({"messages": user, "tool_choice": {"type": "function", "function": {"name": "f"}}}),
                param: "tool_choice",
            },
            Case { sent: json!({"messages": user, "functions": [{"name": "f"}]}), param: "functions" },
            Case { sent: json!({"messages": user, "tools": [{"name": "f"}]}), param: "tools[0]" },
            Case { sent: json!({"messages": user, "modalities": ["text", "audio"]}), param: "modalities" },
            Case { sent: json!({"messages": user, "reasoning_effort": "huge"}), param: "reasoning_effort" },
        ];
        for Case { sent, param } in cases {
            let error = checked(sent.clone()).expect_err(&sent.to_string());
            assert_eq!((error.param(), error.status().as_u16()), (Some(param), 400), "{sent}");
        }
    }

    #[test]
    fn tools_reach_the_template_unless_none_are_wanted() {
        let tool = json!({"type": "function", "function": {"name": "f", "parameters": {}}});
        let user = json!([{"role": "user", "content": "hi"}]);
        let input = checked(json!({"messages": user, "tools": [tool], "tool_choice": "auto"})).unwrap();
        assert_eq!(input.tools, Some(json!([tool])));
        let input = checked(json!({"messages": user, "tools": [tool], "tool_choice": "none"})).unwrap();
        assert_eq!(input.tools, None);
    }

    #[test]
    fn a_call_of_an_earlier_turn_is_handed_on_as_an_object() {
        let input = checked(json!({"messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "function",
                "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ]}))
        .unwrap();
        assert_eq!(input.messages[1].tool_calls[0].arguments, json!({"a": 1}));
        assert_eq!(input.messages[2].tool_call_id.as_deref(), Some("1"));
    }

    #[test]
    fn no_effort_switches_reasoning_off_and_other_efforts_reach_the_template() {
        let user = json!([{"role": "user", "content": "hi"}]);
        let input = checked(json!({"messages": user, "reasoning_effort": "none"})).unwrap();
        assert_eq!(input.kwargs["enable_thinking"], false);
        let input = checked(json!({"messages": user, "reasoning_effort": "low"})).unwrap();
        assert_eq!(input.kwargs["reasoning_effort"], "low");
    }
}
