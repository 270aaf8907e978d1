//! `GET /v1/models` and `GET /v1/models/{id}`: what a request may name.

use axum::Json;
use axum::extract::{Path, State};

use super::wire::{ErrorAnswer, ModelList, WireModel};
use crate::error::ApiError;
use crate::state::AppState;

/// Lists the models on this machine, those in memory first.
#[utoipa::path(
    get,
    path = "/v1/models",
    tag = "openai",
    responses((status = 200, description = "The models", body = ModelList))
)]
pub(super) async fn list(State(state): State<AppState>) -> Result<Json<ModelList>, ApiError> {
    let servable = state.models.servable().await?;
    let data = servable
        .into_iter()
        .map(|model| WireModel {
            id: model.name,
            object: "model",
            created: model.created,
            owned_by: "daybreak",
            loaded: model.loaded,
            max_model_len: model.max_seq_len,
        })
        .collect();
    Ok(Json(ModelList { object: "list", data }))
}

/// One model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    tag = "openai",
    params(("id" = String, Path, description = "Name of the model")),
    responses(
        (status = 200, description = "The model", body = WireModel),
        (status = 404, description = "No such model", body = ErrorAnswer),
    )
)]
pub(super) async fn show(
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<WireModel>, ApiError> {
    let name = state.models.full_name(&id).await?;
    let Json(list) = list(State(state)).await?;
    let found = list.data.into_iter().find(|model| model.id == name);
    let reason = || format!("model {id:?} is not on this machine");
    found.map(Json).ok_or_else(|| ApiError::ModelNotFound { reason: reason() })
}
