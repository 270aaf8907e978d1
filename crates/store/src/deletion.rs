//! Deleting conversations and messages, so that it can be undone, until it is purged.

use std::collections::HashMap;

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
};
use uuid::Uuid;

use crate::conversations::find_conversation;
use crate::database::{Store, now_ms};
use crate::entities::{conversation, message};
use crate::messages::{INSERT_CHUNK, find_message};
use crate::{Conversation, ConversationId, MessageId, OwnerId, StoreError};

impl Store {
    /// Deletes a conversation so that [`Store::restore_conversation`] can undo it.
    pub async fn delete_conversation(&self, owner: OwnerId, id: ConversationId) -> Result<(), StoreError> {
        let txn = self.write().await?;
        find_conversation(&txn, owner, id).await?;
        set_deleted(&txn, id, Some(now_ms())).await?;
        self.commit(txn).await
    }

    /// Undoes a deletion; a conversation that is not deleted stays as it is.
    pub async fn restore_conversation(
        &self,
        owner: OwnerId,
        id: ConversationId,
    ) -> Result<Conversation, StoreError> {
        let txn = self.write().await?;
        let found = conversation::Entity::find_by_id(id.0)
            .filter(conversation::Column::OwnerId.eq(owner.0))
            .one(&txn)
            .await?
            .ok_or(StoreError::NotFound { what: "conversation" })?;
        set_deleted(&txn, id, None).await?;
        self.commit(txn).await?;
        Conversation::from_row(found)
    }

    /// Removes for good what was deleted longer ago than this. Returns how many conversations that were.
    pub async fn purge_deleted(&self, older_than: std::time::Duration) -> Result<u64, StoreError> {
        let before = now_ms() - i64::try_from(older_than.as_millis()).unwrap_or(i64::MAX / 2);
        let txn = self.write().await?;
        let done = conversation::Entity::delete_many()
            .filter(conversation::Column::DeletedAt.lt(before))
            .exec(&txn)
            .await?;
        message::Entity::delete_many().filter(message::Column::DeletedAt.lt(before)).exec(&txn).await?;
        self.commit(txn).await?;
        Ok(done.rows_affected)
    }

    /// Deletes a message and everything below it so that [`Store::restore_message`] can undo it. Where the branch that
    /// is looked at passes through it, the newest other branch takes its place.
    pub async fn delete_message(&self, owner: OwnerId, id: MessageId) -> Result<Conversation, StoreError> {
        let txn = self.write().await?;
        let root = find_message(&txn, owner, id).await?;
        let found = find_conversation(&txn, owner, ConversationId(root.conversation_id)).await?;
        let rows = family(&txn, owner, root.conversation_id).await?;
        let below = subtree(&rows, root.id);
        let gone: Vec<Uuid> =
            below.into_iter().filter(|row| row.deleted_at.is_none()).map(|row| row.id).collect();
        mark(&txn, &gone, Some(now_ms())).await?;
        let mut row = found.clone();
        if found.active_leaf_id.is_none_or(|leaf| gone.contains(&leaf)) {
            row.active_leaf_id = newest_leaf(&rows, &gone, root.parent_id);
            let leaf = Set(row.active_leaf_id);
            let update =
                conversation::ActiveModel { id: Set(row.id), active_leaf_id: leaf, ..Default::default() };
            update.update(&txn).await?;
        }
        self.commit(txn).await?;
        Conversation::from_row(row)
    }

    /// Undoes [`Store::delete_message`]: what went with this message comes back with it.
    pub async fn restore_message(&self, owner: OwnerId, id: MessageId) -> Result<Conversation, StoreError> {
        let not_found = StoreError::NotFound { what: "message" };
        let txn = self.write().await?;
        let root = message::Entity::find_by_id(id.0)
            .filter(message::Column::OwnerId.eq(owner.0))
            .one(&txn)
            .await?
            .ok_or(not_found)?;
        let mut row = find_conversation(&txn, owner, ConversationId(root.conversation_id)).await?;
        if root.deleted_at.is_some() {
            if let Some(parent_id) = root.parent_id {
                // Below something deleted it could not be seen.
                find_message(&txn, owner, MessageId(parent_id)).await?;
            }
            let rows = family(&txn, owner, root.conversation_id).await?;
            let below = subtree(&rows, root.id);
            let back: Vec<&message::Model> =
                below.into_iter().filter(|row| row.deleted_at == root.deleted_at).collect();
            let leaf = back.iter().map(|row| row.id).max();
            let ids: Vec<Uuid> = back.iter().map(|row| row.id).collect();
            mark(&txn, &ids, None).await?;
            row.active_leaf_id = leaf;
            let update = conversation::ActiveModel {
                id: Set(row.id),
                active_leaf_id: Set(leaf),
                ..Default::default()
            };
            update.update(&txn).await?;
        }
        self.commit(txn).await?;
        Conversation::from_row(row)
    }
}

async fn set_deleted(
    db: &impl ConnectionTrait,
    id: ConversationId,
    deleted_at: Option<i64>,
) -> Result<(), StoreError> {
    let row = conversation::ActiveModel { id: Set(id.0), deleted_at: Set(deleted_at), ..Default::default() };
    row.update(db).await?;
    Ok(())
}

/// All messages of a conversation, deleted ones too, in the order in which they were made.
async fn family(
    txn: &DatabaseTransaction,
    owner: OwnerId,
    conversation_id: Uuid,
) -> Result<Vec<message::Model>, StoreError> {
    Ok(message::Entity::find()
        .filter(message::Column::OwnerId.eq(owner.0))
        .filter(message::Column::ConversationId.eq(conversation_id))
        .order_by_asc(message::Column::Id)
        .all(txn)
        .await?)
}

/// A message and everything below it. Parents are older than their children, so one pass finds all.
fn subtree(rows: &[message::Model], root: Uuid) -> Vec<&message::Model> {
    let mut inside: HashMap<Uuid, bool> = HashMap::with_capacity(rows.len());
    rows.iter()
        .filter(|row| {
            let is_below = row.id == root
                || row.parent_id.is_some_and(|parent| inside.get(&parent).copied().unwrap_or(false));
            inside.insert(row.id, is_below);
            is_below
        })
        .collect()
}

/// The newest message that is left below this one (or at the root), and then below that; the message itself if nothing
/// is left below it.
fn newest_leaf(rows: &[message::Model], gone: &[Uuid], from: Option<Uuid>) -> Option<Uuid> {
    let mut leaf = from;
    while let Some(child) = rows
        .iter()
        .rev()
        .find(|row| row.parent_id == leaf && row.deleted_at.is_none() && !gone.contains(&row.id))
    {
        leaf = Some(child.id);
    }
    leaf
}

async fn mark(txn: &DatabaseTransaction, ids: &[Uuid], deleted_at: Option<i64>) -> Result<(), StoreError> {
    for chunk in ids.chunks(INSERT_CHUNK) {
        message::Entity::update_many()
            .col_expr(message::Column::DeletedAt, Expr::value(deleted_at))
            .filter(message::Column::Id.is_in(chunk.iter().copied()))
            .exec(txn)
            .await?;
    }
    Ok(())
}
