//! What the store keeps, as plain values, and how parts are written as JSON (in export files, and by the server).
//!
//! A conversation is a tree: each message names its parent, users and assistants take turns along every branch, and the
//! conversation remembers the leaf that was looked at last. A message is a list of typed parts.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

use crate::entities;
use crate::{ConversationId, MessageId, StoreError};

/// Who speaks. A conversation's system prompt is one of its settings, not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// `user` or `assistant`.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    /// The inverse of [`Role::name`].
    pub fn from_name(name: &str) -> Option<Role> {
        [Role::User, Role::Assistant].into_iter().find(|role| role.name() == name)
    }
}

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Said in full.
    Complete,
    /// An answer that is being generated (or was, when the server died: [`crate::Store::recover`]).
    Running,
    /// An answer that ended early, with what it had said until then.
    Stopped,
    /// An answer that ended with an error.
    Failed,
}

impl Status {
    /// `complete`, `running`, `stopped` or `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Complete => "complete",
            Status::Running => "running",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        }
    }

    /// The inverse of [`Status::name`].
    pub fn from_name(name: &str) -> Option<Status> {
        [Status::Complete, Status::Running, Status::Stopped, Status::Failed]
            .into_iter()
            .find(|status| status.name() == name)
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// What was said.
    Text {
        /// Markdown, usually.
        text: String,
    },
    /// What the model thought before it answered.
    Reasoning {
        /// The thoughts.
        text: String,
        /// How long they took.
        seconds: Option<f64>,
    },
    /// A text file that came with a message.
    File {
        /// The file's name, such as `notes.md`.
        name: String,
        /// Such as `text/markdown`.
        media_type: String,
        /// The file's text.
        text: String,
        /// Tokens of the text, by the model it was counted for.
        tokens: Option<u64>,
        /// Bytes of the file.
        size: u64,
    },
}

impl Part {
    /// The part's name in JSON and in the database.
    pub fn kind(&self) -> &'static str {
        match self {
            Part::Text { .. } => "text",
            Part::Reasoning { .. } => "reasoning",
            Part::File { .. } => "file",
        }
    }

    /// The text of the part, whatever its kind.
    pub fn text(&self) -> &str {
        match self {
            Part::Text { text } | Part::Reasoning { text, .. } | Part::File { text, .. } => text,
        }
    }

    /// `{"type": "text", "text": …}` and so on.
    pub fn to_json(&self) -> Json {
        let mut object = Map::new();
        object.insert("type".to_owned(), self.kind().into());
        object.extend(self.data());
        object.insert("text".to_owned(), self.text().into());
        Json::Object(object)
    }

    /// The inverse of [`Part::to_json`]; unknown fields are ignored, unknown kinds are not. `field` is where the part
    /// stands, for the error.
    pub fn from_json(json: &Json, field: &str) -> Result<Part, StoreError> {
        let kind = json.get("type").and_then(Json::as_str);
        let text = string(json, "text", field)?.to_owned();
        match kind {
            Some("text") => Ok(Part::Text { text }),
            Some("reasoning") => Ok(Part::Reasoning { text, seconds: seconds(json, field)? }),
            Some("file") => Ok(Part::File {
                name: string(json, "name", field)?.to_owned(),
                media_type: json.get("media_type").and_then(Json::as_str).unwrap_or("text/plain").to_owned(),
                tokens: json.get("tokens").and_then(Json::as_u64),
                size: json.get("size").and_then(Json::as_u64).unwrap_or(text.len() as u64),
                text,
            }),
            _ => Err(StoreError::invalid(
                format!("{field}.type"),
                format!(
                    "expected text, reasoning or file, found {}",
                    json.get("type").map_or("nothing".to_owned(), |found| excerpt(&found.to_string()))
                ),
            )),
        }
    }

    /// What the kind has besides its text.
    pub(crate) fn data(&self) -> Map<String, Json> {
        let data = match self {
            Part::Text { .. } => json!({}),
            Part::Reasoning { seconds: None, .. } => json!({}),
            Part::Reasoning { seconds: Some(seconds), .. } => json!({ "seconds": seconds }),
            Part::File { name, media_type, tokens, size, .. } => {
                json!({ "name": name, "media_type": media_type, "tokens": tokens, "size": size })
            }
        };
        match data {
            Json::Object(map) => map,
            _ => Map::new(),
        }
    }

    pub(crate) fn from_row(row: entities::part::Model) -> Result<Part, StoreError> {
        let data = match &row.data {
            Some(data) => parse("part", row.message_id, data)?,
            None => json!({}),
        };
        let text = row.text;
        Ok(match row.kind.as_str() {
            "text" => Part::Text { text },
            "reasoning" => Part::Reasoning { text, seconds: data.get("seconds").and_then(Json::as_f64) },
            "file" => Part::File {
                name: data.get("name").and_then(Json::as_str).unwrap_or_default().to_owned(),
                media_type: data.get("media_type").and_then(Json::as_str).unwrap_or_default().to_owned(),
                tokens: data.get("tokens").and_then(Json::as_u64),
                size: data.get("size").and_then(Json::as_u64).unwrap_or(text.len() as u64),
                text,
            },
            other => return Err(bad_record("part kind", row.message_id, other)),
        })
    }
}

fn seconds(json: &Json, field: &str) -> Result<Option<f64>, StoreError> {
    match json.get("seconds") {
        None | Some(Json::Null) => Ok(None),
        Some(found) => match found.as_f64() {
            Some(seconds) if seconds >= 0.0 => Ok(Some(seconds)),
            _ => {
                Err(StoreError::invalid(format!("{field}.seconds"), "expected a number that is not negative"))
            }
        },
    }
}

/// The string `json[key]`, which must be there.
pub(crate) fn string<'a>(json: &'a Json, key: &str, field: &str) -> Result<&'a str, StoreError> {
    json.get(key)
        .and_then(Json::as_str)
        .ok_or_else(|| StoreError::invalid(format!("{field}.{key}"), "expected a string"))
}

/// The start of a text that goes into an error line, control characters escaped.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut line = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == MAX_CHARS {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

/// A message with its parts. A running answer has the parts that its saved events make.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The message.
    pub id: MessageId,
    /// The conversation it belongs to.
    pub conversation_id: ConversationId,
    /// The message it follows; `None` at the beginning of a branch.
    pub parent_id: Option<MessageId>,
    /// Who speaks.
    pub role: Role,
    /// How far it is.
    pub status: Status,
    /// What it consists of.
    pub parts: Vec<Part>,
    /// The model that answers (or was asked).
    pub model: Option<String>,
    /// How the answer came to be: model, settings, seed, tokens, speed. Opaque here.
    pub receipt: Option<Json>,
    /// `{code, message}` of a failed answer. Opaque here.
    pub error: Option<Json>,
    /// The number of the last saved event.
    pub last_seq: u64,
    /// Milliseconds since 1970.
    pub created_at: i64,
}

impl Message {
    pub(crate) fn from_row(row: entities::message::Model, parts: Vec<Part>) -> Result<Message, StoreError> {
        let json = |what, text: Option<String>| text.map(|text| parse(what, row.id, &text)).transpose();
        Ok(Message {
            id: MessageId(row.id),
            conversation_id: ConversationId(row.conversation_id),
            parent_id: row.parent_id.map(MessageId),
            role: Role::from_name(&row.role).ok_or_else(|| bad_record("role", row.id, &row.role))?,
            status: Status::from_name(&row.status)
                .ok_or_else(|| bad_record("status", row.id, &row.status))?,
            parts,
            receipt: json("receipt", row.receipt)?,
            error: json("error", row.error)?,
            model: row.model,
            last_seq: u64::try_from(row.last_seq).unwrap_or(0),
            created_at: row.created_at,
        })
    }
}

/// A conversation without its messages.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// The conversation.
    pub id: ConversationId,
    /// Its title; empty until something has been said.
    pub title: String,
    /// Whether the title was made from what was said, and may be replaced by a better one.
    pub title_is_auto: bool,
    /// The model chosen for it.
    pub model: Option<String>,
    /// System prompt and sampling settings. A JSON object, opaque here.
    pub settings: Json,
    /// The leaf of the branch that was looked at last.
    pub active_leaf_id: Option<MessageId>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970; the order of the sidebar.
    pub updated_at: i64,
}

impl Conversation {
    pub(crate) fn from_row(row: entities::conversation::Model) -> Result<Conversation, StoreError> {
        Ok(Conversation {
            id: ConversationId(row.id),
            settings: parse("settings", row.id, &row.settings)?,
            title: row.title,
            title_is_auto: row.title_is_auto,
            model: row.model,
            active_leaf_id: row.active_leaf_id.map(MessageId),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Something a running answer said or did, numbered from 1 within the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The number.
    pub seq: u64,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum EventBody {
    /// More of the answer's text.
    Text(String),
    /// More of the model's thoughts.
    Reasoning(String),
    /// Anything else (a notice, a title): its name, and its JSON, opaque here.
    Other {
        /// Such as `notice`.
        kind: String,
        /// The payload.
        payload: Json,
    },
}

impl Event {
    pub(crate) fn from_row(row: entities::event::Model) -> Result<Event, StoreError> {
        let body = match row.kind.as_str() {
            "text" => EventBody::Text(row.payload),
            "reasoning" => EventBody::Reasoning(row.payload),
            _ => EventBody::Other { payload: parse("event", row.message_id, &row.payload)?, kind: row.kind },
        };
        Ok(Event { seq: u64::try_from(row.seq).unwrap_or(0), body })
    }

    /// The row's kind and payload.
    pub(crate) fn into_row(self) -> (String, String) {
        match self.body {
            EventBody::Text(text) => ("text".to_owned(), storable(&text).into_owned()),
            EventBody::Reasoning(text) => ("reasoning".to_owned(), storable(&text).into_owned()),
            EventBody::Other { kind, payload } => (kind, payload.to_string()),
        }
    }
}

/// Adds what a running answer's events say to its parts: neighbours of one kind are one part.
pub(crate) fn add_events(parts: &mut Vec<Part>, events: impl IntoIterator<Item = Event>) {
    for event in events {
        match (event.body, parts.last_mut()) {
            (EventBody::Text(more), Some(Part::Text { text })) => text.push_str(&more),
            (EventBody::Reasoning(more), Some(Part::Reasoning { text, .. })) => text.push_str(&more),
            (EventBody::Text(text), _) => parts.push(Part::Text { text }),
            (EventBody::Reasoning(text), _) => parts.push(Part::Reasoning { text, seconds: None }),
            (EventBody::Other { .. }, _) => {}
        }
    }
}

/// The text as both databases can keep it: PostgreSQL's text has no U+0000, so it becomes U+FFFD in both.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

fn parse(what: &'static str, id: uuid::Uuid, text: &str) -> Result<Json, StoreError> {
    serde_json::from_str(text).map_err(|e| StoreError::BadRecord {
        what,
        id: id.to_string(),
        reason: e.to_string(),
    })
}

fn bad_record(what: &'static str, id: uuid::Uuid, found: &str) -> StoreError {
    StoreError::BadRecord { what, id: id.to_string(), reason: format!("unknown value {}", excerpt(found)) }
}
