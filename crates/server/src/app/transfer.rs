//! Export as a JSON file, and import of one.

use std::time::Duration;

use axum::Json as Body;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};
use store::ConversationId;

use super::extract::PathId;
use super::owner;
use crate::error::ApiError;
use crate::generation::on_blocking_thread;
use crate::json_body::{parse, read_body};
use crate::state::AppState;

/// The largest file that is imported: a heavy user's years.
const MAX_IMPORT_BYTES: usize = 256 << 20;
/// A file of that size over a slow line.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(600);

/// One conversation.
pub(crate) async fn export_one(
    State(state): State<AppState>,
    PathId(id): PathId<ConversationId>,
) -> Result<Response, ApiError> {
    let file = state.store.export(owner(&state), Some(id)).await?;
    // The id, not the title: a file name must not hold what people write.
    download(file, &format!("daybreak-{id}.json")).await
}

/// All conversations.
pub(crate) async fn export_all(State(state): State<AppState>) -> Result<Response, ApiError> {
    let file = state.store.export(owner(&state), None).await?;
    download(file, "daybreak-conversations.json").await
}

/// Takes in a file that an export gave.
pub(crate) async fn import(State(state): State<AppState>, request: Request) -> Result<Body<Json>, ApiError> {
    let bytes = read_body(request, MAX_IMPORT_BYTES, IMPORT_TIMEOUT).await?;
    let file: Json = on_blocking_thread(move || parse(&bytes)).await??;
    let n = state.store.import(owner(&state), &file).await?;
    Ok(Body(json!({"imported": n})))
}

async fn download(file: Json, name: &str) -> Result<Response, ApiError> {
    let bytes = on_blocking_thread(move || serde_json::to_vec_pretty(&file)).await?;
    let bytes = bytes.map_err(|_| ApiError::Internal { reason: "an export was being written" })?;
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Bytes::from(bytes)).into_response())
}
