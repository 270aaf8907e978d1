//! Running answers: their events are appended as they come, their parts written when they end, and what a crash left
//! running is found again.

use sea_orm::ActiveValue::Set;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value as Json, json};

use crate::database::{Store, now_ms};
use crate::entities::{conversation, event, message, part};
use crate::messages::{INSERT_CHUNK, find_message, insert_parts};
use crate::record::add_events;
use crate::{ConversationId, Event, Message, MessageId, OwnerId, Part, Status, StoreError};

/// How an answer ended.
#[derive(Clone, Debug)]
pub struct FinishedAnswer {
    /// Complete, stopped or failed.
    pub status: Status,
    /// All it said.
    pub parts: Vec<Part>,
    /// How it came to be. Opaque here.
    pub receipt: Option<Json>,
    /// `{code, message}` of a failed answer. Opaque here.
    pub error: Option<Json>,
    /// The number of its last event.
    pub last_seq: u64,
}

impl Store {
    /// Appends events to a running answer. When this returns, they are on disk.
    pub async fn append_events(
        &self,
        owner: OwnerId,
        id: MessageId,
        events: Vec<Event>,
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let txn = self.write().await?;
        find_running(&txn, owner, id).await?;
        let rows: Vec<event::ActiveModel> = events
            .into_iter()
            .map(|event| {
                let seq = Set(i64::try_from(event.seq).unwrap_or(i64::MAX));
                let (kind, payload) = event.into_row();
                event::ActiveModel { message_id: Set(id.0), seq, kind: Set(kind), payload: Set(payload) }
            })
            .collect();
        for chunk in rows.chunks(INSERT_CHUNK) {
            event::Entity::insert_many(chunk.iter().cloned()).exec_without_returning(&txn).await?;
        }
        self.commit(txn).await
    }

    /// The saved events of a running answer after this number.
    pub async fn events_after(
        &self,
        owner: OwnerId,
        id: MessageId,
        after: u64,
    ) -> Result<Vec<Event>, StoreError> {
        let view = self.snapshot().await?;
        find_message(&view, owner, id).await?;
        let rows = event::Entity::find()
            .filter(event::Column::MessageId.eq(id.0))
            .filter(event::Column::Seq.gt(i64::try_from(after).unwrap_or(i64::MAX)))
            .order_by_asc(event::Column::Seq)
            .all(&view)
            .await?;
        view.rollback().await?;
        rows.into_iter().map(Event::from_row).collect()
    }

    /// Ends a running answer: writes its parts in place of its events. When this returns, it is on disk.
    pub async fn finish_answer(
        &self,
        owner: OwnerId,
        id: MessageId,
        end: FinishedAnswer,
    ) -> Result<Message, StoreError> {
        let txn = self.write().await?;
        let row = find_running(&txn, owner, id).await?;
        let message = self.finish(&txn, row, end).await?;
        self.commit(txn).await?;
        Ok(message)
    }

    /// After a crash: ends every answer that is still marked as running, with what was saved of it. To be called once,
    /// before any answer runs. Returns how many there were.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let running = message::Entity::find()
            .filter(message::Column::Status.eq(Status::Running.name()))
            .all(self.read())
            .await?;
        let n = running.len();
        for row in running {
            self.interrupt(OwnerId(row.owner_id), MessageId(row.id)).await?;
        }
        Ok(n)
    }

    /// Ends an answer that is marked as running although nobody writes it any more, with what was saved of it.
    pub async fn interrupt(&self, owner: OwnerId, id: MessageId) -> Result<Message, StoreError> {
        let txn = self.write().await?;
        let row = find_running(&txn, owner, id).await?;
        let saved = event::Entity::find()
            .filter(event::Column::MessageId.eq(id.0))
            .order_by_asc(event::Column::Seq)
            .all(&txn)
            .await?;
        let events = saved.into_iter().map(Event::from_row).collect::<Result<Vec<_>, _>>()?;
        let last_seq = events.last().map_or(u64::try_from(row.last_seq).unwrap_or(0), |event| event.seq);
        let before = part::Entity::find()
            .filter(part::Column::MessageId.eq(id.0))
            .order_by_asc(part::Column::Idx)
            .all(&txn)
            .await?;
        let mut parts = before.into_iter().map(Part::from_row).collect::<Result<Vec<_>, _>>()?;
        add_events(&mut parts, events);
        let end = FinishedAnswer {
            status: Status::Stopped,
            last_seq,
            parts,
            receipt: None,
            error: Some(json!({
                "code": "interrupted",
                "message": "the server ended while this answer was being written"
            })),
        };
        let message = self.finish(&txn, row, end).await?;
        self.commit(txn).await?;
        Ok(message)
    }

    async fn finish(
        &self,
        txn: &sea_orm::DatabaseTransaction,
        row: message::Model,
        end: FinishedAnswer,
    ) -> Result<Message, StoreError> {
        let (id, owner) = (MessageId(row.id), OwnerId(row.owner_id));
        let conversation_id = ConversationId(row.conversation_id);
        event::Entity::delete_many().filter(event::Column::MessageId.eq(id.0)).exec(txn).await?;
        part::Entity::delete_many().filter(part::Column::MessageId.eq(id.0)).exec(txn).await?;
        insert_parts(txn, id, &end.parts).await?;
        let update = message::ActiveModel {
            id: Set(id.0),
            status: Set(end.status.name().to_owned()),
            receipt: Set(end.receipt.map(|receipt| receipt.to_string())),
            error: Set(end.error.map(|error| error.to_string())),
            last_seq: Set(i64::try_from(end.last_seq).unwrap_or(i64::MAX)),
            ..Default::default()
        };
        let updated = update.update(txn).await?;
        self.index_message(txn, owner, conversation_id, id, &end.parts).await?;
        let recent = conversation::ActiveModel {
            id: Set(conversation_id.0),
            updated_at: Set(now_ms()),
            ..Default::default()
        };
        recent.update(txn).await?;
        Message::from_row(updated, end.parts)
    }
}

async fn find_running(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    id: MessageId,
) -> Result<message::Model, StoreError> {
    // Deleted or not: what runs must be able to end.
    let row = message::Entity::find_by_id(id.0)
        .filter(message::Column::OwnerId.eq(owner.0))
        .one(db)
        .await?
        .ok_or(StoreError::NotFound { what: "message" })?;
    if row.status != Status::Running.name() {
        return Err(StoreError::Conflict {
            code: "answer_ended",
            reason: format!("the answer {id} has ended ({})", row.status),
        });
    }
    Ok(row)
}
