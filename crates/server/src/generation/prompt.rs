//! Chat or text → token ids that fit: the template is rendered, the context checked, the oldest turns dropped
//! where the caller wants that.
//!
//! Rendering and tokenising a long conversation takes milliseconds to seconds, so both run on a thread that
//! may block.

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::TokenId;
use serde_json::Value;
use tokenizer::{ChatMessage, RenderInput, Specials};

use super::{ChatInput, Overflow};
use crate::error::ApiError;
use crate::model_host::LoadedModel;

/// A prompt that fits into the context.
#[derive(Debug, Clone)]
pub(crate) struct PreparedPrompt {
    /// Token ids, at least one.
    pub(crate) ids: Vec<TokenId>,
    /// The end of the rendered text, for the reasoning parser; empty for raw prompts.
    pub(crate) tail: String,
    /// Whether the model's reasoning is on, as far as the template's own switch tells.
    pub(crate) thinks: bool,
    /// Messages that went into it.
    pub(crate) n_kept_messages: usize,
    /// What did not.
    pub(crate) dropped: Dropped,
}

/// What was left out so that the rest fits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    /// Messages.
    pub(crate) n_messages: usize,
    /// Tokens by which the prompt became shorter.
    pub(crate) n_tokens: usize,
}

/// How much of a rendered prompt the reasoning parser gets to see: an opened tag stands at the very end.
const TAIL_BYTES: usize = 256;

/// Renders, tokenises and fits a conversation.
pub(crate) async fn prepare_chat(
    model: &Arc<LoadedModel>,
    input: ChatInput,
) -> Result<PreparedPrompt, ApiError> {
    let model = Arc::clone(model);
    on_blocking_thread(move || fit(&model, &input)).await?
}

/// Tokens of a conversation as the model would see it, whether it fits or not.
pub(crate) async fn count_chat(model: &Arc<LoadedModel>, input: &ChatInput) -> Result<usize, ApiError> {
    let (model, input) = (Arc::clone(model), input.clone());
    on_blocking_thread(move || Ok(encode(&model, &input, &input.messages)?.0.len())).await?
}

/// Tokens of a text that is part of a message.
pub(crate) async fn count_text(model: &Arc<LoadedModel>, text: String) -> Result<usize, ApiError> {
    let model = Arc::clone(model);
    on_blocking_thread(move || model.open.tokenizer.encode(text.as_bytes(), Specials::AsText).len()).await
}

/// A raw prompt of token ids. `param` is the field that errors name.
pub(crate) fn prepare_tokens(
    model: &LoadedModel,
    ids: Vec<TokenId>,
    param: &'static str,
) -> Result<PreparedPrompt, ApiError> {
    let vocab_size = model.open.tokenizer.vocab_size();
    if ids.is_empty() {
        return Err(ApiError::bad_value(param, "the prompt has no tokens, expected at least one"));
    }
    if let Some(id) = ids.iter().find(|id| **id as usize >= vocab_size) {
        return Err(ApiError::bad_value(
            param,
            format!("token id {id} is beyond the vocabulary of {vocab_size}"),
        ));
    }
    check_length(model, param, ids.len(), 1)?;
    Ok(PreparedPrompt {
        ids,
        tail: String::new(),
        thinks: false,
        n_kept_messages: 0,
        dropped: Dropped::default(),
    })
}

/// Runs on a thread that may block.
pub(crate) async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|_| ApiError::Internal { reason: "a prompt could not be prepared" })
}

fn check_length(
    model: &LoadedModel,
    param: &'static str,
    n_prompt: usize,
    reserve: usize,
) -> Result<(), ApiError> {
    let max_seq_len = model.max_seq_len();
    match n_prompt.saturating_add(reserve.max(1)) <= max_seq_len {
        true => Ok(()),
        false => Err(ApiError::ContextLength { param, n_prompt, max_seq_len }),
    }
}

fn fit(model: &LoadedModel, input: &ChatInput) -> Result<PreparedPrompt, ApiError> {
    let (ids, tail) = encode(model, input, &input.messages)?;
    let n_all = ids.len();
    let reasoning = model.open.template.reasoning();
    let switch = reasoning.kwarg.and_then(|name| input.kwargs.get(name)).and_then(Value::as_bool);
    let thinks = switch.unwrap_or(reasoning.on_by_default);
    let n_kept_messages = input.messages.len();
    let whole = PreparedPrompt { ids, tail, thinks, n_kept_messages, dropped: Dropped::default() };
    let too_long = match check_length(model, "messages", n_all, input.reserve) {
        Ok(()) if whole.ids.is_empty() => {
            return Err(ApiError::bad_value("messages", "the prompt has no tokens, expected at least one"));
        }
        Ok(()) => return Ok(whole),
        Err(error) => error,
    };
    if input.overflow == Overflow::Refuse {
        return Err(too_long);
    }
    // The more turns are dropped, the shorter the prompt: the fewest that are enough lie at the border.
    let turns = turns(&input.messages);
    let mut found = None;
    let (mut low, mut high) = (1, turns.len());
    while low < high {
        let n_dropped = low.midpoint(high);
        let kept = without_turns(&input.messages, &turns[..n_dropped]);
        let (ids, tail) = encode(model, input, &kept)?;
        if check_length(model, "messages", ids.len(), input.reserve).is_ok() {
            let dropped = Dropped {
                n_messages: input.messages.len() - kept.len(),
                n_tokens: n_all.saturating_sub(ids.len()),
            };
            found = Some(PreparedPrompt { ids, tail, thinks, n_kept_messages: kept.len(), dropped });
            high = n_dropped;
        } else {
            low = n_dropped + 1;
        }
    }
    found.ok_or(too_long)
}

/// The turns of a conversation, oldest first: each begins with a user's message and holds what follows it.
/// System messages belong to none.
fn turns(messages: &[ChatMessage]) -> Vec<Range<usize>> {
    let mut turns: Vec<Range<usize>> = Vec::new();
    for (idx, message) in messages.iter().enumerate() {
        match (message.role.as_str(), turns.last_mut()) {
            ("system", _) => {}
            ("user", _) | (_, None) => turns.push(idx..idx + 1),
            (_, Some(turn)) => turn.end = idx + 1,
        }
    }
    turns
}

fn without_turns(messages: &[ChatMessage], dropped: &[Range<usize>]) -> Vec<ChatMessage> {
    let is_dropped = |idx: usize| dropped.iter().any(|turn| turn.contains(&idx));
    let kept = messages.iter().enumerate();
    kept.filter(|(idx, message)| message.role == "system" || !is_dropped(*idx))
        .map(|(_, m)| m.clone())
        .collect()
}

/// Token ids of the conversation, and the end of its text.
fn encode(
    model: &LoadedModel,
    input: &ChatInput,
    messages: &[ChatMessage],
) -> Result<(Vec<TokenId>, String), ApiError> {
    let tools = match &input.tools {
        Some(Value::Array(tools)) => tools.as_slice(),
        _ => &[],
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let render = RenderInput {
        messages,
        tools,
        add_generation_prompt: true,
        extra: (!input.kwargs.is_empty()).then_some(&input.kwargs),
        now: i64::try_from(now).unwrap_or(i64::MAX),
    };
    let rendered = model
        .open
        .template
        .render(&render)
        .map_err(|error| ApiError::BadValue { param: "messages".to_string(), reason: error.to_string() })?;
    let tokenizer = &model.open.tokenizer;
    let mut ids = tokenizer.encode_rendered(&rendered);
    let text = rendered.text();
    let mut from = text.len().saturating_sub(TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    let mut tail = text[from..].to_string();
    if let Some(begun) = &input.answer_so_far {
        ids.extend(tokenizer.encode(begun.as_bytes(), Specials::AsText));
        tail.push_str(begun);
    }
    Ok((ids, tail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(roles: &[&str]) -> Vec<ChatMessage> {
        roles.iter().map(|role| ChatMessage::new(role, "x")).collect()
    }

    #[test]
    fn a_turn_is_a_user_message_and_what_follows_it() {
        let messages =
            roles(&["system", "user", "assistant", "tool", "assistant", "user", "assistant", "user"]);
        assert_eq!(turns(&messages), [1..5, 5..7, 7..8]);
        assert_eq!(turns(&roles(&["assistant", "user"])), [0..1, 1..2]);
    }

    #[test]
    fn system_messages_stay_when_turns_go() {
        let messages = roles(&["system", "user", "assistant", "system", "user"]);
        let kept = without_turns(&messages, &turns(&messages)[..1]);
        let kept: Vec<&str> = kept.iter().map(|message| message.role.as_str()).collect();
        assert_eq!(kept, ["system", "system", "user"]);
    }
}
