//! The JSON of the app API: what the page sends, checked, and what it gets.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use store::{Conversation, ListedConversation, Message, MessageId, Part};
use uuid::Uuid;

use crate::error::ApiError;
use crate::generation::Overflow;

/// `GET /api/conversations`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListRequest {
    pub(crate) q: Option<String>,
    pub(crate) limit: Option<u64>,
    pub(crate) before: Option<String>,
}

/// `POST /api/conversations`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewConversationRequest {
    pub(crate) title: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) settings: Json,
}

/// `PATCH /api/conversations/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ChangeRequest {
    pub(crate) title: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) settings: Option<Json>,
    pub(crate) active_leaf_id: Option<String>,
}

/// `POST /api/conversations/{id}/messages`.
#[derive(Debug, Deserialize)]
pub(crate) struct SayRequest {
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) parent_id: Option<String>,
    pub(crate) parts: Vec<Json>,
    #[serde(default)]
    pub(crate) model: Option<String>,
    #[serde(default)]
    pub(crate) overflow: OverflowWord,
    /// Whether the model may write a title for the conversation after its first answer.
    #[serde(default)]
    pub(crate) write_title: bool,
}

/// `POST /api/messages/{id}/regenerate` and `…/continue`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AgainRequest {
    pub(crate) model: Option<String>,
    pub(crate) overflow: OverflowWord,
}

/// `GET /api/messages/{id}/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EventsRequest {
    pub(crate) after: Option<u64>,
}

/// `POST /api/count`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CountRequest {
    pub(crate) model: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) conversation_id: Option<String>,
    pub(crate) leaf_id: Option<String>,
    pub(crate) parts: Vec<Json>,
    pub(crate) system_prompt: Option<String>,
}

/// What is to happen when a conversation does not fit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OverflowWord {
    #[default]
    Refuse,
    DropOldest,
}

impl From<OverflowWord> for Overflow {
    fn from(word: OverflowWord) -> Overflow {
        match word {
            OverflowWord::Refuse => Overflow::Refuse,
            OverflowWord::DropOldest => Overflow::DropOldest,
        }
    }
}

/// The parts of a person's message: words and files, and something in them.
pub(crate) fn said_parts(parts: &[Json]) -> Result<Vec<Part>, ApiError> {
    let mut said = Vec::with_capacity(parts.len());
    for (idx, json) in parts.iter().enumerate() {
        let part = Part::from_json(json, &format!("parts[{idx}]"))?;
        if let Part::Reasoning { .. } = part {
            let reason = "expected text or file, found reasoning";
            return Err(ApiError::bad_value(format!("parts[{idx}].type"), reason));
        }
        said.push(part);
    }
    Ok(said)
}

/// As [`said_parts`], with something said in them.
pub(crate) fn message_parts(parts: &[Json]) -> Result<Vec<Part>, ApiError> {
    let said = said_parts(parts)?;
    match said.iter().any(|part| matches!(part, Part::File { .. }) || !part.text().trim().is_empty()) {
        true => Ok(said),
        false => Err(ApiError::bad_value("parts", "expected some text or a file, found nothing")),
    }
}

/// The client's own id of a message.
pub(crate) fn client_id(id: Option<&str>) -> Result<Option<Uuid>, ApiError> {
    id.map(|id| Uuid::parse_str(id).map_err(|_| ApiError::bad_value("id", "expected a uuid"))).transpose()
}

/// The id of a message in a field.
pub(crate) fn message_id(field: &str, id: Option<&str>) -> Result<Option<MessageId>, ApiError> {
    id.map(|id| id.parse().map_err(|_| ApiError::bad_value(field, "expected the id of a message")))
        .transpose()
}

/// A message as the page gets it.
pub(crate) fn message_json(message: &Message) -> Json {
    let mut object = Map::new();
    let mut set = |key: &str, value: Json| _ = object.insert(key.to_owned(), value);
    set("id", message.id.to_string().into());
    set("conversation_id", message.conversation_id.to_string().into());
    set("parent_id", message.parent_id.map(|id| id.to_string()).into());
    set("role", message.role.name().into());
    set("status", message.status.name().into());
    set("parts", message.parts.iter().map(Part::to_json).collect());
    set("model", message.model.clone().into());
    set("created_at", message.created_at.into());
    if let Some(error) = &message.error {
        set("error", error.clone());
    }
    if let Some(receipt) = &message.receipt {
        set("receipt", receipt.clone());
    }
    set("last_seq", message.last_seq.into());
    Json::Object(object)
}

/// A conversation without its messages.
pub(crate) fn conversation_json(conversation: &Conversation) -> Json {
    json!({
        "id": conversation.id.to_string(),
        "title": conversation.title,
        "title_is_auto": conversation.title_is_auto,
        "model": conversation.model,
        "settings": conversation.settings,
        "active_leaf_id": conversation.active_leaf_id.map(|id| id.to_string()),
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
    })
}

/// A conversation with all its messages.
pub(crate) fn whole_conversation_json(conversation: &Conversation, messages: &[Message]) -> Json {
    let mut json = conversation_json(conversation);
    json["messages"] = messages.iter().map(message_json).collect();
    json
}

/// A conversation in a list.
pub(crate) fn listed_json(item: &ListedConversation) -> Json {
    let conversation = &item.conversation;
    let mut json = json!({
        "id": conversation.id.to_string(),
        "title": conversation.title,
        "model": conversation.model,
        "updated_at": conversation.updated_at,
        "created_at": conversation.created_at,
    });
    if let Some(snippet) = &item.snippet {
        json["snippet"] = snippet.as_str().into();
    }
    if let Some(message_id) = &item.message_id {
        json["message_id"] = message_id.to_string().into();
    }
    json
}
