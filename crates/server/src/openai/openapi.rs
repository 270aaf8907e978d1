//! `GET /openapi.json`, derived from the wire types and handlers; a test holds it against the routes.

use axum::Json;
use utoipa::OpenApi;

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybreak",
        description = "Language models on this machine: the OpenAI API, tokens, health and metrics. \
            Where the server has a key, send it as `Authorization: Bearer KEY`."
    ),
    paths(
        super::chat::create,
        super::completions::create,
        super::model_list::list,
        super::model_list::show,
        super::tokens::tokenize,
        super::tokens::detokenize,
        crate::health::show,
        crate::health::metrics,
    ),
    components(schemas(super::wire::ChatChunk)),
    tags(
        (name = "openai", description = "As OpenAI has them"),
        (name = "tokens", description = "As llama-server has them"),
        (name = "server", description = "How the server is doing"),
    )
)]
pub(crate) struct Document;

/// The OpenAPI document.
pub(super) async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
