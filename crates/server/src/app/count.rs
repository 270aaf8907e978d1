//! `POST /api/count`: how many tokens a text has, or a conversation with what is being written.

use axum::Json as Body;
use axum::extract::State;
use serde_json::{Value as Json, json};
use store::ConversationId;

use super::owner;
use super::wire::{CountRequest, message_id, said_parts};
use crate::error::ApiError;
use crate::generation::{Overflow, count_chat, count_text};
use crate::json_body::JsonBody;
use crate::state::AppState;
use crate::turn::history::{chat_messages, user_message};
use crate::turn::settings::Settings;
use crate::turn::start::{Plan, chat_input, model_name};

/// Counts with the model's own tokenizer and template. A model that is not in memory is not loaded for that.
pub(crate) async fn count(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<CountRequest>,
) -> Result<Body<Json>, ApiError> {
    let name = model_name(&state, [request.model.as_deref()]).await?;
    let Some(model) = state.models.loaded(&name) else {
        let reason = format!("model {name:?} is not in memory; load it first");
        return Err(ApiError::Conflict { code: "model_not_loaded", reason });
    };
    let n_tokens = match &request.text {
        Some(text) => count_text(&model, text.clone()).await?,
        None => {
            let input = chat_input(&model, &plan(&state, &request).await?);
            // Nothing said is nothing to render: many templates read the first message unasked.
            if input.messages.is_empty() { 0 } else { count_chat(&model, &input).await? }
        }
    };
    Ok(Body(json!({"tokens": n_tokens, "max_tokens": model.max_seq_len()})))
}

/// The conversation down to the leaf, and the draft.
async fn plan(state: &AppState, request: &CountRequest) -> Result<Plan, ApiError> {
    let owner = owner(state);
    let leaf = message_id("leaf_id", request.leaf_id.as_deref())?;
    let id = request.conversation_id.as_deref().map(|id| {
        id.parse::<ConversationId>()
            .map_err(|_| ApiError::bad_value("conversation_id", "expected the id of a conversation"))
    });
    let (conversation, branch) = match (leaf, id.transpose()?) {
        (Some(leaf), _) => {
            let (conversation, branch) = state.store.branch(owner, leaf).await?;
            (Some(conversation), branch)
        }
        (None, Some(id)) => (Some(state.store.conversation(owner, id).await?), Vec::new()),
        (None, None) => (None, Vec::new()),
    };
    let mut settings = conversation.as_ref().map(Settings::of).transpose()?.unwrap_or_default();
    if request.system_prompt.is_some() {
        settings.system_prompt.clone_from(&request.system_prompt);
    }
    let mut messages = chat_messages(settings.system_prompt.as_deref(), &branch);
    let draft = said_parts(&request.parts)?;
    if !draft.is_empty() {
        messages.push(user_message(&draft));
    }
    let overflow = Overflow::Refuse;
    Ok(Plan { owner, conversation_id: None, messages, settings, overflow, answer_so_far: None })
}
