//! Conversations ↔ one JSON file: export, and import, which believes nothing.
//!
//! ```text
//! {"format": "daybreak-conversations", "version": 1, "exported_at": ms, "conversations": [
//!   {"title", "title_is_auto", "model", "settings", "active_leaf_id", "created_at", "updated_at", "messages": [
//!     {"id", "parent_id", "role", "status", "model", "created_at", "parts", "receipt"?, "error"?}]}]}
//! ```
//!
//! Everything imported gets new ids, so that a file can be imported where its originals still are. It is imported as a
//! whole or not at all.

use std::collections::{HashMap, HashSet};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Map, Value as Json, json};

use crate::conversations::{clean_model, clean_title, find_conversation, settings_text};
use crate::database::{Store, now_ms};
use crate::entities::{conversation, message};
use crate::messages::{all_messages, check_parts, insert_messages, insert_parts};
use crate::record::{excerpt, string};
use crate::{Conversation, ConversationId, Message, MessageId, OwnerId, Part, Role, Status, StoreError};

/// `format` of an export file.
pub const EXPORT_FORMAT: &str = "daybreak-conversations";
/// `version` of an export file.
pub const EXPORT_VERSION: i64 = 1;

/// Conversations in one file: far more than anybody has.
const MAX_CONVERSATIONS: usize = 100_000;
/// Messages in one conversation.
const MAX_MESSAGES: usize = 100_000;
/// The largest receipt or error, as JSON text: a receipt holds the system prompt, escaped.
const MAX_OPAQUE_BYTES: usize = 256 * 1024;

impl Store {
    /// One conversation, or all of an owner's, as the JSON of an export file.
    pub async fn export(&self, owner: OwnerId, only: Option<ConversationId>) -> Result<Json, StoreError> {
        let view = self.snapshot().await?;
        let rows = match only {
            Some(id) => vec![find_conversation(&view, owner, id).await?],
            None => {
                conversation::Entity::find()
                    .filter(conversation::Column::OwnerId.eq(owner.0))
                    .filter(conversation::Column::DeletedAt.is_null())
                    .order_by_asc(conversation::Column::Id)
                    .all(&view)
                    .await?
            }
        };
        let mut conversations = Vec::with_capacity(rows.len());
        for row in rows {
            let messages = all_messages(&view, owner, ConversationId(row.id)).await?;
            conversations.push(export_conversation(Conversation::from_row(row)?, &messages));
        }
        view.rollback().await?;
        Ok(json!({
            "format": EXPORT_FORMAT,
            "version": EXPORT_VERSION,
            "exported_at": now_ms(),
            "conversations": conversations,
        }))
    }

    /// Takes in an export file. Returns how many conversations it brought.
    pub async fn import(&self, owner: OwnerId, file: &Json) -> Result<usize, StoreError> {
        let checked = check_file(owner, file)?;
        let n = checked.len();
        let txn = self.write().await?;
        for new in checked {
            let id = ConversationId(new.row.id);
            let title = new.row.title.clone();
            conversation::Entity::insert(conversation::ActiveModel::from(new.row))
                .exec_without_returning(&txn)
                .await?;
            self.index(&txn, owner, id, None, &title).await?;
            let (rows, parts): (Vec<_>, Vec<_>) = new.messages.into_iter().unzip();
            let ids: Vec<MessageId> = rows.iter().map(|row| MessageId(row.id)).collect();
            insert_messages(&txn, rows).await?;
            for (message_id, parts) in ids.into_iter().zip(&parts) {
                insert_parts(&txn, message_id, parts).await?;
                self.index_message(&txn, owner, id, message_id, parts).await?;
            }
        }
        self.commit(txn).await?;
        Ok(n)
    }
}

pub(crate) fn export_conversation(conversation: Conversation, messages: &[Message]) -> Json {
    json!({
        "id": conversation.id.to_string(),
        "title": conversation.title,
        "title_is_auto": conversation.title_is_auto,
        "model": conversation.model,
        "settings": conversation.settings,
        "active_leaf_id": conversation.active_leaf_id.map(|id| id.to_string()),
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
        "messages": messages.iter().map(export_message).collect::<Vec<_>>(),
    })
}

fn export_message(message: &Message) -> Json {
    let mut object = Map::new();
    let mut set = |key: &str, value: Json| _ = object.insert(key.to_owned(), value);
    set("id", message.id.to_string().into());
    set("parent_id", message.parent_id.map(|id| id.to_string()).into());
    set("role", message.role.name().into());
    set("status", message.status.name().into());
    set("model", message.model.clone().into());
    set("created_at", message.created_at.into());
    set("parts", message.parts.iter().map(Part::to_json).collect());
    if let Some(receipt) = &message.receipt {
        set("receipt", receipt.clone());
    }
    if let Some(error) = &message.error {
        set("error", error.clone());
    }
    Json::Object(object)
}

/// A conversation that passed all checks, with its new ids.
pub(crate) struct Checked {
    pub(crate) row: conversation::Model,
    /// Parents before children.
    pub(crate) messages: Vec<(message::Model, Vec<Part>)>,
}

/// Every conversation of an export file.
pub(crate) fn check_file(owner: OwnerId, file: &Json) -> Result<Vec<Checked>, StoreError> {
    let conversations = check_header(file)?.iter().enumerate();
    conversations
        .map(|(idx, json)| check_conversation(owner, json, &format!("conversations[{idx}]")))
        .collect()
}

fn check_header(file: &Json) -> Result<&Vec<Json>, StoreError> {
    let format = file.get("format").and_then(Json::as_str);
    if format != Some(EXPORT_FORMAT) {
        let found = format.map_or("nothing".to_owned(), excerpt);
        return Err(StoreError::invalid("format", format!("expected {EXPORT_FORMAT}, found {found}")));
    }
    let version = file.get("version").and_then(Json::as_i64);
    if version != Some(EXPORT_VERSION) {
        let found = version.map_or("nothing".to_owned(), |version| version.to_string());
        let reason = format!("this build reads version {EXPORT_VERSION}, found {found}");
        return Err(StoreError::invalid("version", reason));
    }
    list(file, "conversations", "", MAX_CONVERSATIONS)
}

fn check_conversation(owner: OwnerId, json: &Json, field: &str) -> Result<Checked, StoreError> {
    let messages = list(json, "messages", field, MAX_MESSAGES)?;
    let ordered = parents_first(messages, field)?;
    let id = ConversationId::new();
    let mut new_ids: HashMap<&str, MessageId> = HashMap::with_capacity(messages.len());
    let mut roles: HashMap<&str, Role> = HashMap::with_capacity(messages.len());
    let mut checked = Vec::with_capacity(messages.len());
    for idx in ordered {
        let json = &messages[idx];
        let field = format!("{field}.messages[{idx}]");
        let old_id = string(json, "id", &field)?;
        let parent = json.get("parent_id").and_then(Json::as_str);
        let (mut row, parts) = check_message(json, &field)?;
        let role = Role::from_name(&row.role);
        let expected = match parent.and_then(|parent| roles.get(parent)) {
            Some(Role::User) => Role::Assistant,
            Some(Role::Assistant) | None => Role::User,
        };
        if role != Some(expected) {
            let reason = format!("expected {} after its parent, found {}", expected.name(), row.role);
            return Err(StoreError::invalid(format!("{field}.role"), reason));
        }
        row.owner_id = owner.0;
        row.conversation_id = id.0;
        row.parent_id = parent.and_then(|parent| new_ids.get(parent)).map(|id| id.0);
        new_ids.insert(old_id, MessageId(row.id));
        roles.insert(old_id, expected);
        checked.push((row, parts));
    }
    let title = json.get("title").and_then(Json::as_str).unwrap_or_default();
    let title = if title.trim().is_empty() { Ok(String::new()) } else { clean_title(title) };
    let leaf = json.get("active_leaf_id").and_then(Json::as_str).and_then(|leaf| new_ids.get(leaf));
    let leaf = leaf.copied().or(checked.last().map(|(row, _)| MessageId(row.id)));
    let row = conversation::Model {
        id: id.0,
        owner_id: owner.0,
        title: title.map_err(|e| within(e, field))?,
        title_is_auto: json.get("title_is_auto").and_then(Json::as_bool).unwrap_or(false),
        model: check_model(json, field)?,
        settings: settings_text(json.get("settings").unwrap_or(&Json::Null)).map_err(|e| within(e, field))?,
        active_leaf_id: leaf.map(|id| id.0),
        created_at: time(json, "created_at", field)?,
        updated_at: time(json, "updated_at", field)?,
        deleted_at: None,
    };
    Ok(Checked { row, messages: checked })
}

/// One message with a new id, not yet joined to its conversation and parent.
fn check_message(json: &Json, field: &str) -> Result<(message::Model, Vec<Part>), StoreError> {
    let name = string(json, "role", field)?;
    let role = Role::from_name(name).ok_or_else(|| {
        let reason = format!("expected user or assistant, found {}", excerpt(name));
        StoreError::invalid(format!("{field}.role"), reason)
    })?;
    let name = json.get("status").and_then(Json::as_str).unwrap_or("complete");
    let status = match Status::from_name(name) {
        Some(Status::Running) => Status::Stopped, // nothing runs any more in a file
        Some(status) => status,
        None => {
            let reason = format!("expected complete, stopped or failed, found {}", excerpt(name));
            return Err(StoreError::invalid(format!("{field}.status"), reason));
        }
    };
    let parts = list(json, "parts", field, usize::MAX)?
        .iter()
        .enumerate()
        .map(|(idx, part)| Part::from_json(part, &format!("{field}.parts[{idx}]")))
        .collect::<Result<Vec<_>, _>>()?;
    if !(parts.is_empty() && role == Role::Assistant) {
        check_parts(&parts).map_err(|e| within(e, field))?;
    }
    let row = message::Model {
        id: MessageId::new().0,
        owner_id: uuid::Uuid::nil(),
        conversation_id: uuid::Uuid::nil(),
        parent_id: None,
        role: role.name().to_owned(),
        status: status.name().to_owned(),
        model: check_model(json, field)?,
        receipt: opaque(json, "receipt", field)?,
        error: opaque(json, "error", field)?,
        client_id: None,
        last_seq: 0,
        created_at: time(json, "created_at", field)?,
        deleted_at: None,
    };
    Ok((row, parts))
}

/// The order in which each message comes after its parent; refuses unknown parents, repeated ids and circles.
fn parents_first(messages: &[Json], field: &str) -> Result<Vec<usize>, StoreError> {
    let mut by_id: HashMap<&str, usize> = HashMap::with_capacity(messages.len());
    for (idx, json) in messages.iter().enumerate() {
        let field = format!("{field}.messages[{idx}]");
        let id = string(json, "id", &field)?;
        if by_id.insert(id, idx).is_some() {
            let reason = format!("{} stands twice in this conversation", excerpt(id));
            return Err(StoreError::invalid(format!("{field}.id"), reason));
        }
    }
    let mut parents: Vec<Option<usize>> = Vec::with_capacity(messages.len());
    for (idx, json) in messages.iter().enumerate() {
        parents.push(match json.get("parent_id") {
            None | Some(Json::Null) => None,
            Some(parent) => {
                let known = parent.as_str().and_then(|parent| by_id.get(parent));
                Some(*known.ok_or_else(|| {
                    let reason = format!(
                        "expected a message of this conversation, found {}",
                        excerpt(&parent.to_string())
                    );
                    StoreError::invalid(format!("{field}.messages[{idx}].parent_id"), reason)
                })?)
            }
        });
    }
    let mut placed: HashSet<usize> = HashSet::with_capacity(messages.len());
    let mut ordered = Vec::with_capacity(messages.len());
    for start in 0..messages.len() {
        // Up to the first ancestor that has its place, then down again.
        let mut chain = Vec::new();
        let mut next = Some(start);
        while let Some(idx) = next.filter(|idx| !placed.contains(idx)) {
            if chain.len() > messages.len() {
                let reason = "the message is its own ancestor".to_owned();
                return Err(StoreError::invalid(format!("{field}.messages[{start}].parent_id"), reason));
            }
            chain.push(idx);
            next = parents[idx];
        }
        for idx in chain.into_iter().rev() {
            placed.insert(idx);
            ordered.push(idx);
        }
    }
    Ok(ordered)
}

fn list<'a>(json: &'a Json, key: &str, field: &str, max: usize) -> Result<&'a Vec<Json>, StoreError> {
    let place = if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") };
    let found = json.get(key).and_then(Json::as_array);
    let found = found.ok_or_else(|| StoreError::invalid(place.clone(), "expected a list"))?;
    if found.len() > max {
        return Err(StoreError::invalid(place, format!("expected at most {max}, found {}", found.len())));
    }
    Ok(found)
}

fn check_model(json: &Json, field: &str) -> Result<Option<String>, StoreError> {
    json.get("model").and_then(Json::as_str).map(clean_model).transpose().map_err(|e| within(e, field))
}

/// A time in milliseconds since 1970; now, when it is missing.
fn time(json: &Json, key: &str, field: &str) -> Result<i64, StoreError> {
    const YEAR_9999: i64 = 253_402_300_800_000;
    match json.get(key) {
        None | Some(Json::Null) => Ok(now_ms()),
        Some(found) => found.as_i64().filter(|ms| (0..YEAR_9999).contains(ms)).ok_or_else(|| {
            let reason = format!("expected milliseconds since 1970, found {}", excerpt(&found.to_string()));
            StoreError::invalid(format!("{field}.{key}"), reason)
        }),
    }
}

/// An object that only the server reads.
fn opaque(json: &Json, key: &str, field: &str) -> Result<Option<String>, StoreError> {
    let found = match json.get(key) {
        None | Some(Json::Null) => return Ok(None),
        Some(found) => found,
    };
    let text = found.to_string();
    if !found.is_object() || text.len() > MAX_OPAQUE_BYTES {
        let reason = format!("expected an object of at most {MAX_OPAQUE_BYTES} bytes");
        return Err(StoreError::invalid(format!("{field}.{key}"), reason));
    }
    Ok(Some(text))
}

/// Puts the place before an error's field.
fn within(error: StoreError, place: &str) -> StoreError {
    match error {
        StoreError::Invalid { field, reason } => {
            StoreError::Invalid { field: format!("{place}.{field}"), reason }
        }
        other => other,
    }
}
