//! Messages: a turn is saved before anybody is told that it exists; branches are read back.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, SqlErr,
};
use uuid::Uuid;

use crate::conversations::{clean_model, clean_title, find_conversation, set_auto_title};
use crate::database::{Store, now_ms};
use crate::entities::{conversation, event, message, part};
use crate::record::{add_events, storable};
use crate::{
    Conversation, ConversationId, Event, Message, MessageId, OwnerId, Part, Role, Status, StoreError,
};

/// Rows a statement inserts at most: twelve columns of so many stay below SQLite's 32,766 parameters.
pub(crate) const INSERT_CHUNK: usize = 1000;
/// The most text in one part, in bytes; a context of a million tokens is less.
const MAX_PART_BYTES: usize = 16 * 1024 * 1024;
/// The most parts in one message.
const MAX_PARTS: usize = 256;

/// What a person says, and the answer they want to it.
#[derive(Clone, Debug)]
pub struct NewTurn {
    /// The client's own id of this turn: saying it again gives the turn that was saved first.
    pub client_id: Option<Uuid>,
    /// The answer it follows; `None` begins a branch at the root.
    pub parent_id: Option<MessageId>,
    /// What is said.
    pub parts: Vec<Part>,
    /// The model that is to answer.
    pub model: String,
    /// The title for a conversation that has none yet.
    pub title: Option<String>,
}

/// Another answer to something said before.
#[derive(Clone, Debug)]
pub struct NewAnswer {
    /// The message that is answered.
    pub parent_id: MessageId,
    /// The model that is to answer.
    pub model: String,
}

/// A turn on disk.
#[derive(Clone, Debug)]
pub struct SavedTurn {
    /// What was said.
    pub user: Message,
    /// The answer, running and empty (or as far as it has come, when the turn was saved before).
    pub answer: Message,
    /// Whether the client's id was known already, so that nothing new was saved.
    pub repeated: bool,
}

impl Store {
    /// Saves a person's message together with the answer that is going to run. When this returns, both are on disk.
    pub async fn begin_turn(
        &self,
        owner: OwnerId,
        id: ConversationId,
        turn: NewTurn,
    ) -> Result<SavedTurn, StoreError> {
        check_parts(&turn.parts)?;
        let model = clean_model(&turn.model)?;
        match self.try_begin_turn(owner, id, &turn, &model).await {
            // PostgreSQL lets two writers meet: the one that comes second finds what the first has saved.
            Err(StoreError::Database(e))
                if turn.client_id.is_some()
                    && matches!(e.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) =>
            {
                self.try_begin_turn(owner, id, &turn, &model).await
            }
            other => other,
        }
    }

    async fn try_begin_turn(
        &self,
        owner: OwnerId,
        id: ConversationId,
        turn: &NewTurn,
        model: &str,
    ) -> Result<SavedTurn, StoreError> {
        let txn = self.write().await?;
        let conversation = find_conversation(&txn, owner, id).await?;
        if let Some(client_id) = turn.client_id
            && let Some(saved) = saved_turn(&txn, owner, id, client_id).await?
        {
            return Ok(saved);
        }
        if let Some(parent_id) = turn.parent_id {
            check_parent(&txn, owner, id, parent_id, Role::Assistant).await?;
        }
        let user = new_row(owner, id, turn.parent_id, Role::User, Status::Complete, model, turn.client_id);
        let answer =
            new_row(owner, id, Some(MessageId(user.id)), Role::Assistant, Status::Running, model, None);
        insert_messages(&txn, vec![user.clone(), answer.clone()]).await?;
        insert_parts(&txn, MessageId(user.id), &turn.parts).await?;
        // A title that cannot be one is no reason to refuse the message.
        let title = turn.title.as_deref().and_then(|title| clean_title(title).ok());
        if let Some(title) = title
            && conversation.title.is_empty()
            && set_auto_title(&txn, owner, id, &title).await?
        {
            self.index(&txn, owner, id, None, &title).await?;
        }
        touch(&txn, id, MessageId(answer.id), Some(model)).await?;
        self.index_message(&txn, owner, id, MessageId(user.id), &turn.parts).await?;
        self.commit(txn).await?;
        Ok(SavedTurn {
            user: Message::from_row(user, turn.parts.iter().map(stored_part).collect())?,
            answer: Message::from_row(answer, Vec::new())?,
            repeated: false,
        })
    }

    /// Saves that another answer is going to run. When this returns, it is on disk.
    pub async fn begin_answer(&self, owner: OwnerId, new: NewAnswer) -> Result<Message, StoreError> {
        let model = clean_model(&new.model)?;
        let txn = self.write().await?;
        let parent = find_message(&txn, owner, new.parent_id).await?;
        let id = ConversationId(parent.conversation_id);
        find_conversation(&txn, owner, id).await?;
        check_parent(&txn, owner, id, new.parent_id, Role::User).await?;
        let answer = new_row(owner, id, Some(new.parent_id), Role::Assistant, Status::Running, &model, None);
        insert_messages(&txn, vec![answer.clone()]).await?;
        touch(&txn, id, MessageId(answer.id), Some(&model)).await?;
        self.commit(txn).await?;
        Message::from_row(answer, Vec::new())
    }

    /// Lets an answer that ended go on where it stopped: it runs again, with its parts and the numbers of its events.
    pub async fn continue_answer(&self, owner: OwnerId, id: MessageId) -> Result<Message, StoreError> {
        let txn = self.write().await?;
        let mut row = find_message(&txn, owner, id).await?;
        let conversation_id = ConversationId(row.conversation_id);
        find_conversation(&txn, owner, conversation_id).await?;
        if row.role != Role::Assistant.name() {
            return Err(StoreError::invalid("id", "expected an answer, found a message by the user"));
        }
        if row.status == Status::Running.name() {
            return Err(StoreError::Conflict {
                code: "answer_running",
                reason: "the answer is still running".to_owned(),
            });
        }
        row.status = Status::Running.name().to_owned();
        row.error = None;
        let update = message::ActiveModel {
            id: Set(id.0),
            status: Set(row.status.clone()),
            error: Set(None),
            ..Default::default()
        };
        update.update(&txn).await?;
        touch(&txn, conversation_id, id, None).await?;
        let which = (part::Column::MessageId.eq(id.0), event::Column::MessageId.eq(id.0));
        let message = load(&txn, vec![row], which.0, which.1).await?.pop();
        self.commit(txn).await?;
        message.ok_or(StoreError::NotFound { what: "message" })
    }

    /// The turn that a client's id names, if it was saved before.
    pub async fn turn_of_client_id(
        &self,
        owner: OwnerId,
        id: ConversationId,
        client_id: Uuid,
    ) -> Result<Option<SavedTurn>, StoreError> {
        let view = self.snapshot().await?;
        find_conversation(&view, owner, id).await?;
        let saved = saved_turn(&view, owner, id, client_id).await?;
        view.rollback().await?;
        Ok(saved)
    }

    /// One message with its parts.
    pub async fn message(&self, owner: OwnerId, id: MessageId) -> Result<Message, StoreError> {
        let view = self.snapshot().await?;
        let row = find_message(&view, owner, id).await?;
        // A deleted conversation takes its messages along.
        find_conversation(&view, owner, ConversationId(row.conversation_id))
            .await
            .map_err(|_| StoreError::NotFound { what: "message" })?;
        let message =
            load(&view, vec![row], part::Column::MessageId.eq(id.0), event::Column::MessageId.eq(id.0))
                .await?
                .pop();
        view.rollback().await?;
        message.ok_or(StoreError::NotFound { what: "message" })
    }

    /// The conversation and its branch from the root down to this message.
    pub async fn branch(
        &self,
        owner: OwnerId,
        leaf: MessageId,
    ) -> Result<(Conversation, Vec<Message>), StoreError> {
        let view = self.snapshot().await?;
        let row = find_message(&view, owner, leaf).await?;
        let id = ConversationId(row.conversation_id);
        let conversation = Conversation::from_row(find_conversation(&view, owner, id).await?)?;
        let messages = all_messages(&view, owner, id).await?;
        view.rollback().await?;
        let mut by_id: HashMap<MessageId, Message> = messages.into_iter().map(|m| (m.id, m)).collect();
        let mut branch = Vec::new();
        let mut next = Some(leaf);
        while let Some(message) = next.and_then(|id| by_id.remove(&id)) {
            next = message.parent_id;
            branch.push(message);
        }
        branch.reverse();
        Ok((conversation, branch))
    }
}

/// The message, if it is the owner's and not deleted.
pub(crate) async fn find_message(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    id: MessageId,
) -> Result<message::Model, StoreError> {
    message::Entity::find_by_id(id.0)
        .filter(message::Column::OwnerId.eq(owner.0))
        .filter(message::Column::DeletedAt.is_null())
        .one(db)
        .await?
        .ok_or(StoreError::NotFound { what: "message" })
}

/// All messages of a conversation with their parts, in the order in which they were made.
pub(crate) async fn all_messages(
    db: &DatabaseTransaction,
    owner: OwnerId,
    id: ConversationId,
) -> Result<Vec<Message>, StoreError> {
    let of_conversation = || {
        message::Entity::find()
            .filter(message::Column::OwnerId.eq(owner.0))
            .filter(message::Column::ConversationId.eq(id.0))
            .filter(message::Column::DeletedAt.is_null())
    };
    let rows = of_conversation().order_by_asc(message::Column::Id).all(db).await?;
    let ids = || of_conversation().select_only().column(message::Column::Id);
    let running = ids().filter(message::Column::Status.eq(Status::Running.name()));
    load(
        db,
        rows,
        part::Column::MessageId.in_subquery(ids().into_query()),
        event::Column::MessageId.in_subquery(running.into_query()),
    )
    .await
}

/// Joins rows with their parts (and running ones with their events), both found by the conditions given.
async fn load(
    db: &DatabaseTransaction,
    rows: Vec<message::Model>,
    which_parts: impl sea_orm::sea_query::IntoCondition,
    which_events: impl sea_orm::sea_query::IntoCondition,
) -> Result<Vec<Message>, StoreError> {
    let mut parts: HashMap<Uuid, Vec<Part>> = HashMap::with_capacity(rows.len());
    for row in part::Entity::find()
        .filter(which_parts.into_condition())
        .order_by_asc(part::Column::MessageId)
        .order_by_asc(part::Column::Idx)
        .all(db)
        .await?
    {
        parts.entry(row.message_id).or_default().push(Part::from_row(row)?);
    }
    let mut events: HashMap<Uuid, Vec<Event>> = HashMap::new();
    if rows.iter().any(|row| row.status == Status::Running.name()) {
        for row in event::Entity::find()
            .filter(which_events.into_condition())
            .order_by_asc(event::Column::MessageId)
            .order_by_asc(event::Column::Seq)
            .all(db)
            .await?
        {
            events.entry(row.message_id).or_default().push(Event::from_row(row)?);
        }
    }
    rows.into_iter()
        .map(|row| {
            let own = parts.remove(&row.id).unwrap_or_default();
            let said = events.remove(&row.id).unwrap_or_default();
            let mut message = Message::from_row(row, own)?;
            if message.status == Status::Running {
                message.last_seq = said.last().map_or(message.last_seq, |event| event.seq);
                add_events(&mut message.parts, said);
            }
            Ok(message)
        })
        .collect()
}

/// The turn a client's id names: its message and the answer saved with it (the first one).
async fn saved_turn(
    db: &DatabaseTransaction,
    owner: OwnerId,
    id: ConversationId,
    client_id: Uuid,
) -> Result<Option<SavedTurn>, StoreError> {
    let found = message::Entity::find()
        .filter(message::Column::OwnerId.eq(owner.0))
        .filter(message::Column::ClientId.eq(client_id))
        .one(db)
        .await?;
    let Some(user) = found else { return Ok(None) };
    if user.conversation_id != id.0 {
        return Err(StoreError::Conflict {
            code: "id_reused",
            reason: format!("the message id {client_id} was used in another conversation; make a new one"),
        });
    }
    let answer = message::Entity::find()
        .filter(message::Column::OwnerId.eq(owner.0))
        .filter(message::Column::ParentId.eq(user.id))
        .order_by_asc(message::Column::Id)
        .one(db)
        .await?
        .ok_or(StoreError::NotFound { what: "message" })?;
    let ids = [user.id, answer.id];
    let mut both =
        load(db, vec![user, answer], part::Column::MessageId.is_in(ids), event::Column::MessageId.is_in(ids))
            .await?;
    let (Some(answer), Some(user)) = (both.pop(), both.pop()) else { return Ok(None) };
    Ok(Some(SavedTurn { user, answer, repeated: true }))
}

/// Users follow answers and answers follow users, inside one conversation, and only what has been said in full.
async fn check_parent(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    id: ConversationId,
    parent_id: MessageId,
    expected: Role,
) -> Result<(), StoreError> {
    let parent = message::Entity::find_by_id(parent_id.0)
        .filter(message::Column::OwnerId.eq(owner.0))
        .filter(message::Column::ConversationId.eq(id.0))
        .filter(message::Column::DeletedAt.is_null())
        .one(db)
        .await?
        .ok_or_else(|| StoreError::invalid("parent_id", "expected a message of this conversation"))?;
    if parent.role != expected.name() {
        let reason =
            format!("expected a message by the {}, found one by the {}", expected.name(), parent.role);
        return Err(StoreError::invalid("parent_id", reason));
    }
    if parent.status == Status::Running.name() {
        return Err(StoreError::Conflict {
            code: "answer_running",
            reason: "the answer before this message is still running; stop it or wait for its end".to_owned(),
        });
    }
    Ok(())
}

/// The parts of a message that is to be saved, within their limits.
pub(crate) fn check_parts(parts: &[Part]) -> Result<(), StoreError> {
    if parts.is_empty() || parts.len() > MAX_PARTS {
        let reason = format!("expected 1 to {MAX_PARTS} parts, found {}", parts.len());
        return Err(StoreError::invalid("parts", reason));
    }
    for (idx, part) in parts.iter().enumerate() {
        let n_bytes = part.text().len();
        if n_bytes > MAX_PART_BYTES {
            let reason = format!("expected at most {MAX_PART_BYTES} bytes, found {n_bytes}");
            return Err(StoreError::invalid(format!("parts[{idx}].text"), reason));
        }
        if let Part::File { name, media_type, .. } = part {
            for (field, value) in [("name", name), ("media_type", media_type)] {
                if value.len() > 1024 {
                    let reason = format!("expected at most 1024 bytes, found {}", value.len());
                    return Err(StoreError::invalid(format!("parts[{idx}].{field}"), reason));
                }
            }
        }
    }
    Ok(())
}

fn new_row(
    owner: OwnerId,
    conversation_id: ConversationId,
    parent_id: Option<MessageId>,
    role: Role,
    status: Status,
    model: &str,
    client_id: Option<Uuid>,
) -> message::Model {
    message::Model {
        id: MessageId::new().0,
        owner_id: owner.0,
        conversation_id: conversation_id.0,
        parent_id: parent_id.map(|id| id.0),
        role: role.name().to_owned(),
        status: status.name().to_owned(),
        model: Some(model.to_owned()),
        receipt: None,
        error: None,
        client_id,
        last_seq: 0,
        created_at: now_ms(),
        deleted_at: None,
    }
}

/// Inserts messages, parents before children.
pub(crate) async fn insert_messages(
    db: &impl ConnectionTrait,
    rows: Vec<message::Model>,
) -> Result<(), StoreError> {
    for chunk in rows.chunks(INSERT_CHUNK) {
        message::Entity::insert_many(chunk.iter().cloned().map(message::ActiveModel::from))
            .exec_without_returning(db)
            .await?;
    }
    Ok(())
}

/// Inserts a message's parts.
pub(crate) async fn insert_parts(
    db: &impl ConnectionTrait,
    id: MessageId,
    parts: &[Part],
) -> Result<(), StoreError> {
    if parts.is_empty() {
        return Ok(());
    }
    let rows = parts.iter().enumerate().map(|(idx, part)| part::ActiveModel {
        message_id: Set(id.0),
        idx: Set(i64::try_from(idx).unwrap_or(i64::MAX)),
        kind: Set(part.kind().to_owned()),
        text: Set(storable(part.text()).into_owned()),
        data: Set(Some(part.data())
            .filter(|data| !data.is_empty())
            .map(|data| serde_json::Value::Object(data).to_string())),
    });
    part::Entity::insert_many(rows).exec_without_returning(db).await?;
    Ok(())
}

/// The part as it reads back.
fn stored_part(part: &Part) -> Part {
    let mut part = part.clone();
    let (Part::Text { text } | Part::Reasoning { text, .. } | Part::File { text, .. }) = &mut part;
    if let std::borrow::Cow::Owned(stored) = storable(text) {
        *text = stored;
    }
    part
}

/// Makes this message the one that is looked at, and the conversation the most recent.
async fn touch(
    db: &impl ConnectionTrait,
    id: ConversationId,
    leaf: MessageId,
    model: Option<&str>,
) -> Result<(), StoreError> {
    let mut row = conversation::ActiveModel {
        id: Set(id.0),
        active_leaf_id: Set(Some(leaf.0)),
        updated_at: Set(now_ms()),
        ..Default::default()
    };
    if let Some(model) = model {
        row.model = Set(Some(model.to_owned()));
    }
    row.update(db).await?;
    Ok(())
}
