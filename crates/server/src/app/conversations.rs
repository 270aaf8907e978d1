//! `/api/conversations`: list, make, show, change, delete, restore.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use store::{ConversationChange, ConversationId, ListQuery, NewConversation};

use super::extract::{PathId, QueryOf};
use super::owner;
use super::wire::{
    ChangeRequest, ListRequest, NewConversationRequest, conversation_json, listed_json, message_id,
    whole_conversation_json,
};
use crate::error::ApiError;
use crate::json_body::JsonBody;
use crate::kept;
use crate::state::AppState;
use crate::turn::settings::Settings;

/// Conversations in a page of the list, when the client does not say.
const LIST_LIMIT: u64 = 50;

pub(crate) async fn list(
    State(state): State<AppState>,
    QueryOf(request): QueryOf<ListRequest>,
) -> Result<Body<Json>, ApiError> {
    let query = ListQuery {
        search: request.q,
        limit: request.limit.unwrap_or(LIST_LIMIT),
        before: request.before.filter(|cursor| !cursor.is_empty()),
    };
    let page = state.store.list_conversations(owner(&state), query).await?;
    let items: Vec<Json> = page.items.iter().map(listed_json).collect();
    Ok(Body(json!({"items": items, "next": page.next})))
}

pub(crate) async fn create(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<NewConversationRequest>,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let new = NewConversation {
        title: request.title.filter(|title| !title.trim().is_empty()),
        model: request.model.filter(|model| !model.is_empty()),
        settings: Settings::from_client(&request.settings)?.to_json(),
    };
    let conversation = state.store.create_conversation(owner(&state), new).await?;
    Ok((StatusCode::CREATED, Body(whole_conversation_json(&conversation, &[]))))
}

pub(crate) async fn show(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
) -> Result<Body<Json>, ApiError> {
    let (conversation, messages) = state.store.conversation_with_messages(owner(&state), id).await?;
    Ok(Body(whole_conversation_json(&conversation, &messages)))
}

pub(crate) async fn change(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
    JsonBody(request): JsonBody<ChangeRequest>,
) -> Result<Body<Json>, ApiError> {
    let settings = request.settings.as_ref().map(Settings::from_client).transpose()?;
    let change = ConversationChange {
        title: request.title,
        model: request.model,
        settings: settings.map(|settings| settings.to_json()),
        active_leaf_id: message_id("active_leaf_id", request.active_leaf_id.as_deref())?,
    };
    let conversation = state.store.update_conversation(owner(&state), id, change).await?;
    Ok(Body(conversation_json(&conversation)))
}

pub(crate) async fn delete(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
) -> Result<StatusCode, ApiError> {
    state.store.delete_conversation(owner(&state), id).await?;
    kept::forget(&state, owner(&state), id).await;
    // Nobody waits for its answers any more; what they have said comes back with the conversation.
    state.runs.stop_conversation(owner(&state), id);
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn restore(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
) -> Result<Body<Json>, ApiError> {
    let conversation = state.store.restore_conversation(owner(&state), id).await?;
    Ok(Body(conversation_json(&conversation)))
}
