//! `GET /health` and `GET /metrics`: how the server is doing.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::openai::wire::ErrorAnswer;
use crate::state::AppState;

/// The server answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
}

/// 200 when a question would be answered now, 503 while a model is being loaded or none can be had.
#[utoipa::path(
    get,
    path = "/health",
    tag = "server",
    responses(
        (status = 200, description = "A model is loaded", body = Health),
        (status = 503, description = "Not yet, or not any more; the message says why", body = ErrorAnswer),
    )
)]
pub(crate) async fn show(State(state): State<AppState>) -> Response {
    let (message, code) = if state.shutdown.is_draining() {
        ("the server is shutting down", "shutting_down")
    } else if state.models.all_loaded().iter().any(|model| model.engine.health().is_ok()) {
        return Json(Health { status: "ok" }).into_response();
    } else if state.models.is_loading() {
        ("a model is being loaded", "loading_model")
    } else {
        ("no model is loaded; a request that names one loads it", "no_model")
    };
    let error =
        json!({"error": {"message": message, "type": "unavailable_error", "param": null, "code": code}});
    (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response()
}

/// Counters in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "server",
    responses((status = 200, description = "Requests, queue, tokens, latencies, cache use", body = String,
        content_type = "text/plain"))
)]
pub(crate) async fn metrics(state: State<AppState>) -> Response {
    crate::metrics::show(state).await
}
