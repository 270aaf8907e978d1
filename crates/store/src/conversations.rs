//! Conversations: make, read, change, list.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::database::{Store, now_ms};
use crate::entities::{conversation, message};
use crate::record::storable;
use crate::{Conversation, ConversationId, Message, MessageId, OwnerId, StoreError};

/// The longest title, in characters.
const MAX_TITLE_CHARS: usize = 300;
/// The largest settings object, as JSON text: a system prompt of some fifty pages fits.
const MAX_SETTINGS_BYTES: usize = 256 * 1024;
/// The most conversations in one page of a list.
const MAX_LIST: u64 = 500;

/// A conversation to be made.
#[derive(Clone, Debug, Default)]
pub struct NewConversation {
    /// A title chosen by the person; `None` lets the first message give one.
    pub title: Option<String>,
    /// The model chosen for it.
    pub model: Option<String>,
    /// System prompt and sampling settings: a JSON object, or null for none.
    pub settings: Json,
}

/// What changes about a conversation; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ConversationChange {
    /// A title chosen by the person.
    pub title: Option<String>,
    /// The model chosen for it.
    pub model: Option<String>,
    /// System prompt and sampling settings, replaced as a whole.
    pub settings: Option<Json>,
    /// The leaf that is looked at.
    pub active_leaf_id: Option<MessageId>,
}

/// Which conversations to list, the most recently used first.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Only those whose title or text has all of these words (separated by white space).
    pub search: Option<String>,
    /// At most so many.
    pub limit: u64,
    /// Go on after the page that gave this cursor.
    pub before: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct ConversationPage {
    /// The conversations.
    pub items: Vec<ListedConversation>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// A conversation in a list.
#[derive(Clone, Debug)]
pub struct ListedConversation {
    /// The conversation.
    pub conversation: Conversation,
    /// The text around what was searched for, where it stands in a message.
    pub snippet: Option<String>,
    /// The newest message that has what was searched for; none where only the title has it.
    pub message_id: Option<MessageId>,
}

impl Store {
    /// Makes an empty conversation.
    pub async fn create_conversation(
        &self,
        owner: OwnerId,
        new: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let title = new.title.as_deref().map(clean_title).transpose()?;
        let now = now_ms();
        let row = conversation::Model {
            id: ConversationId::new().0,
            owner_id: owner.0,
            title_is_auto: title.is_none(),
            title: title.unwrap_or_default(),
            model: new.model.as_deref().map(clean_model).transpose()?,
            settings: settings_text(&new.settings)?,
            active_leaf_id: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let txn = self.write().await?;
        conversation::Entity::insert(conversation::ActiveModel::from(row.clone()))
            .exec_without_returning(&txn)
            .await?;
        self.index(&txn, owner, ConversationId(row.id), None, &row.title).await?;
        self.commit(txn).await?;
        Conversation::from_row(row)
    }

    /// A conversation without its messages.
    pub async fn conversation(&self, owner: OwnerId, id: ConversationId) -> Result<Conversation, StoreError> {
        Conversation::from_row(find_conversation(self.read(), owner, id).await?)
    }

    /// A conversation with the messages of all its branches, in the order in which they were made.
    pub async fn conversation_with_messages(
        &self,
        owner: OwnerId,
        id: ConversationId,
    ) -> Result<(Conversation, Vec<Message>), StoreError> {
        let view = self.snapshot().await?;
        let conversation = Conversation::from_row(find_conversation(&view, owner, id).await?)?;
        let messages = crate::messages::all_messages(&view, owner, id).await?;
        view.rollback().await?;
        Ok((conversation, messages))
    }

    /// Changes a conversation. A title given here is the person's own and is never replaced by an automatic one.
    pub async fn update_conversation(
        &self,
        owner: OwnerId,
        id: ConversationId,
        change: ConversationChange,
    ) -> Result<Conversation, StoreError> {
        let title = change.title.as_deref().map(clean_title).transpose()?;
        let mut row = conversation::ActiveModel { id: Set(id.0), ..Default::default() };
        if let Some(title) = &title {
            row.title = Set(title.clone());
            row.title_is_auto = Set(false);
        }
        if let Some(model) = change.model.as_deref() {
            row.model = Set(Some(clean_model(model)?));
        }
        if let Some(settings) = &change.settings {
            row.settings = Set(settings_text(settings)?);
        }
        let txn = self.write().await?;
        let found = find_conversation(&txn, owner, id).await?;
        if let Some(leaf) = change.active_leaf_id {
            let exists = message::Entity::find_by_id(leaf.0)
                .filter(message::Column::OwnerId.eq(owner.0))
                .filter(message::Column::ConversationId.eq(id.0))
                .one(&txn)
                .await?;
            if exists.is_none() {
                return Err(StoreError::invalid("active_leaf_id", "expected a message of this conversation"));
            }
            row.active_leaf_id = Set(Some(leaf.0));
        }
        let nothing = conversation::ActiveModel { id: Set(id.0), ..Default::default() };
        let updated = if row == nothing { found } else { row.update(&txn).await? };
        if let Some(title) = &title {
            self.index(&txn, owner, id, None, title).await?;
        }
        self.commit(txn).await?;
        Conversation::from_row(updated)
    }

    /// Replaces the title by a better automatic one, unless the person has chosen one. Tells whether it did.
    pub async fn set_automatic_title(
        &self,
        owner: OwnerId,
        id: ConversationId,
        title: &str,
    ) -> Result<bool, StoreError> {
        let title = clean_title(title)?;
        let txn = self.write().await?;
        let done = set_auto_title(&txn, owner, id, &title).await?;
        if done {
            self.index(&txn, owner, id, None, &title).await?;
        }
        self.commit(txn).await?;
        Ok(done)
    }

    /// All conversations of all owners that are not deleted, for the server's own housekeeping.
    pub async fn conversation_ids(&self) -> Result<Vec<ConversationId>, StoreError> {
        let view = self.snapshot().await?;
        let ids: Vec<Uuid> = conversation::Entity::find()
            .select_only()
            .column(conversation::Column::Id)
            .filter(conversation::Column::DeletedAt.is_null())
            .into_tuple()
            .all(&view)
            .await?;
        view.rollback().await?;
        Ok(ids.into_iter().map(ConversationId).collect())
    }

    /// The conversations, the most recently used first; with `search`, those that have the words.
    pub async fn list_conversations(
        &self,
        owner: OwnerId,
        query: ListQuery,
    ) -> Result<ConversationPage, StoreError> {
        let limit = query.limit.clamp(1, MAX_LIST);
        let cursor = query.before.as_deref().map(parse_cursor).transpose()?;
        let terms = crate::search::terms(query.search.as_deref().unwrap_or_default());
        let view = self.snapshot().await?;
        // One more than asked for tells whether there is a next page.
        let mut items = if terms.is_empty() {
            recent(&view, owner, limit + 1, cursor).await?
        } else {
            self.search(&view, owner, &terms, limit + 1, cursor).await?
        };
        view.rollback().await?;
        let more = items.len() as u64 > limit;
        items.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = items.last().filter(|_| more);
        let next = last.map(|last| format!("{}:{}", last.conversation.updated_at, last.conversation.id));
        Ok(ConversationPage { items, next })
    }
}

/// The conversation, if it is the owner's and not deleted.
pub(crate) async fn find_conversation(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    id: ConversationId,
) -> Result<conversation::Model, StoreError> {
    conversation::Entity::find_by_id(id.0)
        .filter(conversation::Column::OwnerId.eq(owner.0))
        .filter(conversation::Column::DeletedAt.is_null())
        .one(db)
        .await?
        .ok_or(StoreError::NotFound { what: "conversation" })
}

/// Sets the title of a conversation whose title is automatic.
pub(crate) async fn set_auto_title(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    id: ConversationId,
    title: &str,
) -> Result<bool, StoreError> {
    let done = conversation::Entity::update_many()
        .col_expr(conversation::Column::Title, Expr::value(title))
        .filter(conversation::Column::Id.eq(id.0))
        .filter(conversation::Column::OwnerId.eq(owner.0))
        .filter(conversation::Column::TitleIsAuto.eq(true))
        .exec(db)
        .await?;
    Ok(done.rows_affected > 0)
}

async fn recent(
    db: &impl ConnectionTrait,
    owner: OwnerId,
    limit: u64,
    cursor: Option<(i64, Uuid)>,
) -> Result<Vec<ListedConversation>, StoreError> {
    let mut select = conversation::Entity::find()
        .filter(conversation::Column::OwnerId.eq(owner.0))
        .filter(conversation::Column::DeletedAt.is_null());
    if let Some((updated_at, id)) = cursor {
        select = select.filter(
            Condition::any().add(conversation::Column::UpdatedAt.lt(updated_at)).add(
                Condition::all()
                    .add(conversation::Column::UpdatedAt.eq(updated_at))
                    .add(conversation::Column::Id.lt(id)),
            ),
        );
    }
    let rows = select
        .order_by_desc(conversation::Column::UpdatedAt)
        .order_by_desc(conversation::Column::Id)
        .limit(limit)
        .all(db)
        .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ListedConversation {
                conversation: Conversation::from_row(row)?,
                snippet: None,
                message_id: None,
            })
        })
        .collect()
}

fn parse_cursor(cursor: &str) -> Result<(i64, Uuid), StoreError> {
    let parse = |text: &str| {
        let (updated_at, id) = text.split_once(':')?;
        Some((updated_at.parse().ok()?, Uuid::parse_str(id).ok()?))
    };
    parse(cursor).ok_or_else(|| StoreError::invalid("before", "expected the `next` value of an earlier page"))
}

/// A title on one line, within its limit, not empty.
pub(crate) fn clean_title(title: &str) -> Result<String, StoreError> {
    let title = storable(title).split_whitespace().collect::<Vec<_>>().join(" ");
    let n_chars = title.chars().count();
    if n_chars == 0 || n_chars > MAX_TITLE_CHARS {
        return Err(StoreError::invalid(
            "title",
            format!("expected 1 to {MAX_TITLE_CHARS} characters, found {n_chars}"),
        ));
    }
    Ok(title)
}

/// A model's name as it is kept.
pub(crate) fn clean_model(model: &str) -> Result<String, StoreError> {
    const MAX_MODEL_BYTES: usize = 1024; // a path to a file may be the name
    if model.is_empty() || model.len() > MAX_MODEL_BYTES {
        let reason = format!("expected 1 to {MAX_MODEL_BYTES} bytes, found {}", model.len());
        return Err(StoreError::invalid("model", reason));
    }
    Ok(storable(model).into_owned())
}

/// The settings as they are kept.
pub(crate) fn settings_text(settings: &Json) -> Result<String, StoreError> {
    let text = match settings {
        Json::Null => "{}".to_owned(),
        Json::Object(_) => settings.to_string(),
        _ => return Err(StoreError::invalid("settings", "expected an object")),
    };
    if text.len() > MAX_SETTINGS_BYTES {
        let reason = format!("expected at most {MAX_SETTINGS_BYTES} bytes of JSON, found {}", text.len());
        return Err(StoreError::invalid("settings", reason));
    }
    Ok(text)
}
