//! `/api/messages`: say, answer again, go on, stop, delete, restore.

use axum::Json as Body;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value as Json, json};
use store::{ConversationId, MessageId, Status, StoreError};

use super::extract::PathId;
use super::owner;
use super::wire::{
    AgainRequest, SayRequest, client_id, message_id, message_json, message_parts, whole_conversation_json,
};
use crate::error::ApiError;
use crate::json_body::JsonBody;
use crate::kept;
use crate::state::AppState;
use crate::turn::run::Stop;
use crate::turn::start;

/// Saves a message and lets its answer run. Saying it again under the same id changes nothing and gives the same.
pub(crate) async fn say(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
    JsonBody(request): JsonBody<SayRequest>,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let said = start::Said {
        client_id: client_id(request.id.as_deref())?,
        parent_id: message_id("parent_id", request.parent_id.as_deref())?,
        parts: message_parts(&request.parts)?,
        model: request.model,
        overflow: request.overflow.into(),
        write_title: request.write_title,
    };
    let saved = finish_even_if_alone({
        let state = state.clone();
        async move { start::begin_turn(&state, owner(&state), id, said).await }
    })
    .await?;
    let status = if saved.repeated { StatusCode::OK } else { StatusCode::CREATED };
    let body = json!({"user": message_json(&saved.user), "answer": message_json(&saved.answer)});
    Ok((status, Body(body)))
}

/// Another answer beside this one.
pub(crate) async fn regenerate(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
    JsonBody(request): JsonBody<AgainRequest>,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let answer = finish_even_if_alone(async move {
        let (model, overflow) = (request.model.as_deref(), request.overflow.into());
        start::regenerate(&state, owner(&state), id, model, overflow).await
    })
    .await?;
    Ok((StatusCode::CREATED, Body(json!({"answer": message_json(&answer)}))))
}

/// An answer that ended early goes on.
pub(crate) async fn go_on(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
    JsonBody(request): JsonBody<AgainRequest>,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let answer = finish_even_if_alone(async move {
        start::continue_answer(&state, owner(&state), id, request.model.as_deref()).await
    })
    .await?;
    Ok((StatusCode::CREATED, Body(json!({"answer": message_json(&answer)}))))
}

/// Stops an answer and waits a little for its end to be saved; one that has ended stays as it is.
pub(crate) async fn stop(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
) -> Result<StatusCode, ApiError> {
    const END_LIMIT: std::time::Duration = std::time::Duration::from_secs(2);
    let owner = owner(&state);
    if let Some(run) = state.runs.get(owner, id) {
        run.stop(Stop::Asked);
        // If it takes longer, it is on its way all the same.
        let _ = tokio::time::timeout(END_LIMIT, run.ended()).await;
        return Ok(StatusCode::NO_CONTENT);
    }
    let message = state.store.message(owner, id).await?;
    if message.status == Status::Running {
        end_orphan(&state, id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes a message and everything below it.
pub(crate) async fn delete(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
) -> Result<StatusCode, ApiError> {
    let owner = owner(&state);
    let conversation = state.store.delete_message(owner, id).await?;
    kept::forget(&state, owner, conversation.id).await;
    for run in state.runs.of_conversation(owner, conversation.id) {
        if let Err(StoreError::NotFound { .. }) = state.store.message(owner, run.id).await {
            run.stop(Stop::Asked);
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Undoes a deletion.
pub(crate) async fn restore(
    State(state): State<AppState>,
    PathId(id): PathId<MessageId>,
) -> Result<Body<Json>, ApiError> {
    let owner = owner(&state);
    let conversation = state.store.restore_message(owner, id).await?;
    let (conversation, messages) = state.store.conversation_with_messages(owner, conversation.id).await?;
    Ok(Body(whole_conversation_json(&conversation, &messages)))
}

/// Ends an answer that is marked as running although nothing runs, because its end could not be saved.
pub(super) async fn end_orphan(state: &AppState, id: MessageId) -> Result<(), ApiError> {
    match state.store.interrupt(owner(state), id).await {
        // It ended in this very moment.
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Work that must not stay half done when the client goes away in the middle of it: between the commit and the start of
/// the answer there is no way back.
async fn finish_even_if_alone<T: Send + 'static>(
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or(Err(ApiError::Internal { reason: "an answer was about to begin" }))
}
