//! Full-text search over titles and messages, the same on both databases: the grams narrow the rows down through an
//! index, then the database looks for the words themselves in the normalised text. See `grams.rs`.

use std::collections::HashMap;
use std::fmt::Write;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QueryOrder,
    Statement, Value,
};
use uuid::Uuid;

use crate::database::Store;
use crate::entities::{conversation, part};
use crate::grams::{self, normalise, push_normalised};
use crate::{Conversation, ConversationId, ListedConversation, MessageId, OwnerId, Part, StoreError};

/// So much of one message is searched, in bytes of normalised text; a book in one message is found by its first part.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// So many words of a search count.
const MAX_TERMS: usize = 8;
/// So many characters of a word count.
const MAX_TERM_CHARS: usize = 100;
/// Grams that the index is asked for; more would not narrow much.
const MAX_GRAMS: usize = 24;
/// Characters of a snippet before and after the beginning of what was found.
const SNIPPET: (usize, usize) = (24, 72);

/// The words of a search, normalised.
pub(crate) fn terms(search: &str) -> Vec<String> {
    normalise(search)
        .split(' ')
        .filter(|term| !term.is_empty())
        .take(MAX_TERMS)
        .map(|term| term.chars().take(MAX_TERM_CHARS).collect())
        .collect()
}

impl Store {
    /// Makes a message findable.
    pub(crate) async fn index_message(
        &self,
        txn: &DatabaseTransaction,
        owner: OwnerId,
        conversation_id: ConversationId,
        id: MessageId,
        parts: &[Part],
    ) -> Result<(), StoreError> {
        let text = searchable_text(parts);
        self.index(txn, owner, conversation_id, Some(id), &text).await
    }

    /// Makes a text findable as this message, or as the conversation's title, in place of what was there before.
    pub(crate) async fn index(
        &self,
        txn: &DatabaseTransaction,
        owner: OwnerId,
        conversation_id: ConversationId,
        message_id: Option<MessageId>,
        text: &str,
    ) -> Result<(), StoreError> {
        let backend = self.backend();
        let message: Option<Uuid> = message_id.map(|id| id.0);
        let (sql, id) = match message {
            Some(id) => ("DELETE FROM search_docs WHERE message_id = $1", id),
            None => (
                "DELETE FROM search_docs WHERE conversation_id = $1 AND message_id IS NULL",
                conversation_id.0,
            ),
        };
        txn.execute_raw(Statement::from_sql_and_values(backend, sql, [id.into()])).await?;
        let mut body = normalise(text);
        body.truncate(body.floor_char_boundary(MAX_BODY_BYTES));
        if body.is_empty() {
            return Ok(());
        }
        let grams = grams::of_text(&body);
        let mut values: Vec<Value> =
            vec![owner.0.into(), conversation_id.0.into(), message.into(), body.into()];
        if backend == DbBackend::Postgres {
            values.push(array_literal(grams).into());
            let sql = "INSERT INTO search_docs (owner_id, conversation_id, message_id, body, grams) \
                       VALUES ($1, $2, $3, $4, CAST(CAST($5 AS text) AS integer[]))";
            txn.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        } else {
            let sql = "INSERT INTO search_docs (owner_id, conversation_id, message_id, body) \
                       VALUES ($1, $2, $3, $4)";
            txn.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
            let sql = "INSERT INTO search_grams (rowid, grams) VALUES (last_insert_rowid(), $1)";
            let grams: Vec<String> = grams.into_iter().map(hexadecimal).collect();
            txn.execute_raw(Statement::from_sql_and_values(backend, sql, [grams.join(" ").into()])).await?;
        }
        Ok(())
    }

    /// Conversations in whose title or one of whose messages all terms occur, the most recently used first.
    pub(crate) async fn search(
        &self,
        view: &DatabaseTransaction,
        owner: OwnerId,
        terms: &[String],
        limit: u64,
        cursor: Option<(i64, Uuid)>,
    ) -> Result<Vec<ListedConversation>, StoreError> {
        let hits = view.query_all_raw(self.search_statement(owner, terms, limit, cursor)).await?;
        let mut found: Vec<(Uuid, Option<Uuid>)> = Vec::with_capacity(hits.len());
        for hit in hits {
            found.push((hit.try_get("", "id")?, hit.try_get("", "message_id")?));
        }
        let rows = conversation::Entity::find()
            .filter(conversation::Column::OwnerId.eq(owner.0))
            .filter(conversation::Column::Id.is_in(found.iter().map(|(id, _)| *id)))
            .all(view)
            .await?;
        let mut rows: HashMap<Uuid, conversation::Model> =
            rows.into_iter().map(|row| (row.id, row)).collect();
        let parts = part::Entity::find()
            .filter(part::Column::MessageId.is_in(found.iter().filter_map(|(_, message)| *message)))
            .order_by_asc(part::Column::MessageId)
            .order_by_asc(part::Column::Idx)
            .all(view)
            .await?;
        let mut texts: HashMap<Uuid, Vec<Part>> = HashMap::new();
        for row in parts {
            texts.entry(row.message_id).or_default().push(Part::from_row(row)?);
        }
        let mut items = Vec::with_capacity(found.len());
        for (id, message) in found {
            let Some(row) = rows.remove(&id) else { continue };
            let parts = message.and_then(|message| texts.get(&message));
            let snippet = parts.and_then(|parts| snippet(&searchable_text(parts), terms));
            items.push(ListedConversation {
                conversation: Conversation::from_row(row)?,
                snippet,
                message_id: message.map(MessageId),
            });
        }
        Ok(items)
    }

    fn search_statement(
        &self,
        owner: OwnerId,
        terms: &[String],
        limit: u64,
        cursor: Option<(i64, Uuid)>,
    ) -> Statement {
        let backend = self.backend();
        let postgres = backend == DbBackend::Postgres;
        let mut values: Vec<Value> = vec![owner.0.into()];
        let mut place = |value: Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut conditions = String::new();
        let grams: Vec<i32> = terms.iter().flat_map(|term| grams::of_piece(term)).take(MAX_GRAMS).collect();
        if !grams.is_empty() && postgres {
            let grams = place(array_literal(grams).into());
            _ = write!(conditions, " AND d.grams @> CAST(CAST({grams} AS text) AS integer[])");
        } else if !grams.is_empty() {
            let grams: Vec<String> = grams.into_iter().map(hexadecimal).collect();
            let grams = place(grams.join(" AND ").into());
            _ = write!(
                conditions,
                " AND d.id IN (SELECT rowid FROM search_grams WHERE search_grams MATCH {grams})"
            );
        }
        for term in terms {
            let function = if postgres { "strpos" } else { "instr" };
            _ = write!(conditions, " AND {function}(d.body, {}) > 0", place(term.as_str().into()));
        }
        if let Some((updated_at, id)) = cursor {
            let (updated_at, id) = (place(updated_at.into()), place(id.into()));
            _ = write!(conditions, " AND (c.updated_at, c.id) < ({updated_at}, {id})");
        }
        // The newest message that was hit gives the snippet; the inner query finds it by the row number, because
        // PostgreSQL has no maximum of ids.
        let sql = format!(
            "SELECT h.id, d.message_id FROM (
                 SELECT c.id, c.updated_at, MAX(CASE WHEN d.message_id IS NULL THEN 0 ELSE d.id END) AS doc_id
                 FROM search_docs d JOIN conversations c ON c.id = d.conversation_id
                 LEFT JOIN messages m ON m.id = d.message_id
                 WHERE c.owner_id = $1 AND d.owner_id = $1 AND c.deleted_at IS NULL AND m.deleted_at IS NULL{conditions}
                 GROUP BY c.id, c.updated_at ORDER BY c.updated_at DESC, c.id DESC LIMIT {limit}
             ) h LEFT JOIN search_docs d ON d.id = h.doc_id
             ORDER BY h.updated_at DESC, h.id DESC"
        );
        Statement::from_sql_and_values(backend, sql, values)
    }
}

/// What is searched of a message: all but the model's thoughts.
fn searchable_text(parts: &[Part]) -> String {
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Text { text: more } => text.push_str(more),
            Part::File { name, text: more, .. } => text.extend([name, "\n", more]),
            Part::Reasoning { .. } => continue,
        }
        text.push('\n');
    }
    text
}

/// The text around the first place where one of the terms stands, on one line.
fn snippet(text: &str, terms: &[String]) -> Option<String> {
    // For each byte of the normalised text, the character of the original that it came from.
    let mut body = String::with_capacity(text.len());
    let mut origins: Vec<u32> = Vec::with_capacity(text.len());
    let mut chars: Vec<char> = Vec::new();
    for (idx, c) in text.chars().enumerate() {
        push_normalised(&mut body, c);
        origins.resize(body.len(), u32::try_from(idx).ok()?);
        chars.push(c);
        if body.len() >= MAX_BODY_BYTES {
            break;
        }
    }
    let at = terms.iter().filter_map(|term| body.find(term.as_str())).min()?;
    let hit = *origins.get(at)? as usize;
    let (start, end) = (hit.saturating_sub(SNIPPET.0), (hit + SNIPPET.1).min(chars.len()));
    let middle: String = chars.get(start..end)?.iter().collect();
    let middle = middle.split_whitespace().collect::<Vec<_>>().join(" ");
    let before = if start > 0 { "…" } else { "" };
    let after = if end < chars.len() { "…" } else { "" };
    Some(format!("{before}{middle}{after}"))
}

/// A gram as FTS5 takes it: one word of letters and digits.
fn hexadecimal(gram: i32) -> String {
    format!("g{gram:08x}")
}

/// Grams as PostgreSQL writes an array.
fn array_literal(grams: impl IntoIterator<Item = i32>) -> String {
    let grams: Vec<String> = grams.into_iter().map(|gram| gram.to_string()).collect();
    format!("{{{}}}", grams.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snippet_shows_the_original_text_around_the_hit() {
        let text = format!("{} Straße, ÜBER\n\nden Fluss {}", "a ".repeat(50), "b ".repeat(100));
        let found = snippet(&text, &terms("über")).unwrap_or_default();
        assert!(found.starts_with('…') && found.ends_with('…'), "{found}");
        assert!(found.contains("Straße, ÜBER den Fluss"), "{found}");
        assert_eq!(snippet("今天天气很好", &terms("天气")).as_deref(), Some("今天天气很好"));
        assert_eq!(snippet("nothing here", &terms("else")), None);
    }
}
