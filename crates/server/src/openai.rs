//! The OpenAI API: chat completions, raw completions, models; beside it tokenize and detokenize as
//! llama-server has them.
//!
//! sent (`wire.rs`) → checked (`messages.rs`, [`crate::params`]) → [`crate::generation`] → told (`chat.rs`,
//! `completions.rs`), in one piece or as events.

mod answers;
mod chat;
pub(crate) mod completions;
pub(crate) mod constraint;
pub(crate) mod messages;
mod model_list;
mod openapi;
mod prompt_scores;
mod tokens;
pub(crate) mod wire;

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::extract::{FromRequest, Request};
use axum::routing::{get, post};

use crate::error::ApiError;
use crate::guard::Peer;
use crate::json_body::read_body;
use crate::state::{AppState, now_ms};

/// All routes of the API.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(model_list::list))
        .route("/v1/models/{*id}", get(model_list::show))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/openapi.json", get(openapi::show))
}

/// A request's body as bytes, and who sent it.
pub(crate) struct RawRequest {
    body: Vec<u8>,
    /// Who shares the machine with whom, and whose cached prefixes may be used: one share for each address.
    sender: u64,
}

impl FromRequest<AppState> for RawRequest {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<RawRequest, ApiError> {
        let mut hasher = DefaultHasher::new();
        request.extensions().get::<Peer>().map(|peer| peer.0.ip()).hash(&mut hasher);
        let limits = &state.config.limits;
        let body = read_body(request, limits.max_body_bytes, limits.body_timeout).await?;
        Ok(RawRequest { body, sender: hasher.finish() })
    }
}

/// What every piece of one answer begins with.
#[derive(Debug, Clone)]
struct Head {
    id: String,
    created: i64,
    model: String,
    system_fingerprint: String,
}

impl Head {
    fn new(state: &AppState, prefix: &str, model: &str) -> Head {
        let build = &state.config.build;
        // Which program computed this: the same fingerprint and seed give the same answer.
        let commit = build.commit.iter().map(|commit| format!("-{}", commit.get(..8).unwrap_or(commit)));
        let commit = commit.collect::<String>();
        Head {
            id: format!("{prefix}-{}", uuid::Uuid::now_v7().simple()),
            created: now_ms() / 1000,
            model: model.to_string(),
            system_fingerprint: format!("daybreak-{}{commit}-{}", build.version, state.config.isa.name()),
        }
    }
}
