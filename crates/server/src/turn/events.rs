//! What a running answer tells, event by event, and how each looks on the wire and in the store.

use serde_json::{Value as Json, json};
use store::EventBody;

/// One event of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TurnEvent {
    /// It waits; this many stand before it.
    Queued { position: usize },
    /// The model is being loaded, from 0 to 1.
    Loading { progress: f32 },
    /// So much of the prompt has been read.
    Prefill { done: usize, total: usize },
    /// More of the answer.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// The oldest turns did not fit and were left out.
    DroppedTurns { n_messages: usize, n_tokens: usize },
    /// The conversation has got a title.
    Title(String),
    /// The answer has ended; its message.
    Done(Json),
    /// The answer has failed; the error, and its message with what there is of it.
    Error { error: Json, message: Json },
}

impl TurnEvent {
    /// `{"seq", "type", …}`.
    pub(crate) fn to_json(&self, seq: u64) -> Json {
        match self {
            TurnEvent::Queued { position } => json!({"seq": seq, "type": "queued", "position": position}),
            TurnEvent::Loading { progress } => json!({"seq": seq, "type": "loading", "progress": progress}),
            TurnEvent::Prefill { done, total } => {
                json!({"seq": seq, "type": "prefill", "done": done, "total": total})
            }
            TurnEvent::Text(text) => json!({"seq": seq, "type": "text", "text": text}),
            TurnEvent::Reasoning(text) => json!({"seq": seq, "type": "reasoning", "text": text}),
            TurnEvent::DroppedTurns { n_messages, n_tokens } => json!({
                "seq": seq, "type": "notice", "code": "dropped_turns",
                "n_messages": n_messages, "n_tokens": n_tokens,
            }),
            TurnEvent::Title(title) => json!({"seq": seq, "type": "title", "title": title}),
            TurnEvent::Done(message) => json!({"seq": seq, "type": "done", "message": message}),
            TurnEvent::Error { error, message } => {
                json!({"seq": seq, "type": "error", "error": error, "message": message})
            }
        }
    }

    /// What the store keeps of it. How far the queue, the loading and the prompt are means nothing later, and the end
    /// is the message itself.
    pub(crate) fn to_stored(&self) -> Option<EventBody> {
        let other = |kind: &str, payload| Some(EventBody::Other { kind: kind.to_owned(), payload });
        match self {
            TurnEvent::Text(text) => Some(EventBody::Text(text.clone())),
            TurnEvent::Reasoning(text) => Some(EventBody::Reasoning(text.clone())),
            TurnEvent::DroppedTurns { n_messages, n_tokens } => other(
                "notice",
                json!({"code": "dropped_turns", "n_messages": n_messages, "n_tokens": n_tokens}),
            ),
            TurnEvent::Title(title) => other("title", json!({"title": title})),
            TurnEvent::Queued { .. }
            | TurnEvent::Loading { .. }
            | TurnEvent::Prefill { .. }
            | TurnEvent::Done(_)
            | TurnEvent::Error { .. } => None,
        }
    }
}
