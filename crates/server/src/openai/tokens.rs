//! `POST /tokenize` and `POST /detokenize`, in llama-server's shapes.

use axum::Json;
use axum::extract::State;
use tokenizer::Specials;

use super::wire::{
    DetokenizeAnswer, DetokenizeRequest, ErrorAnswer, Piece, TokenizeAnswer, TokenizeRequest, WireToken,
};
use crate::error::ApiError;
use crate::generation::on_blocking_thread;
use crate::json_body::JsonBody;
use crate::state::AppState;

/// The token ids of a text.
#[utoipa::path(
    post,
    path = "/tokenize",
    tag = "tokens",
    request_body = TokenizeRequest,
    responses(
        (status = 200, description = "The ids", body = TokenizeAnswer),
        (status = "4XX", description = "The request is wrong", body = ErrorAnswer),
    )
)]
pub(super) async fn tokenize(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<TokenizeRequest>,
) -> Result<Json<TokenizeAnswer>, ApiError> {
    let model = state.models.get_or_default(request.model.as_deref()).await?;
    let work = move || {
        let tokenizer = &model.open.tokenizer;
        let specials =
            if request.parse_special.unwrap_or(false) { Specials::Parse } else { Specials::AsText };
        let text = request.content.as_bytes();
        let ids = match request.add_special.unwrap_or(false) {
            true => tokenizer.encode_with_bos(text, specials),
            false => tokenizer.encode(text, specials),
        };
        let with_pieces = request.with_pieces.unwrap_or(false);
        let token = |id: u32| match with_pieces {
            false => WireToken::Id(id),
            true => {
                let piece = tokenizer.piece(id).to_vec();
                let piece =
                    String::from_utf8(piece).map_or_else(|no| Piece::Bytes(no.into_bytes()), Piece::Text);
                WireToken::Piece { id, piece }
            }
        };
        TokenizeAnswer { tokens: ids.into_iter().map(token).collect() }
    };
    Ok(Json(on_blocking_thread(work).await?))
}

/// The text of token ids.
#[utoipa::path(
    post,
    path = "/detokenize",
    tag = "tokens",
    request_body = DetokenizeRequest,
    responses(
        (status = 200, description = "The text", body = DetokenizeAnswer),
        (status = "4XX", description = "The request is wrong", body = ErrorAnswer),
    )
)]
pub(super) async fn detokenize(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<DetokenizeRequest>,
) -> Result<Json<DetokenizeAnswer>, ApiError> {
    let model = state.models.get_or_default(request.model.as_deref()).await?;
    let tokenizer = &model.open.tokenizer;
    let vocab_size = tokenizer.vocab_size();
    if let Some((idx, id)) = request.tokens.iter().enumerate().find(|(_, id)| **id as usize >= vocab_size) {
        let reason = format!("token id {id} is beyond the vocabulary of {vocab_size}");
        return Err(ApiError::bad_value(format!("tokens[{idx}]"), reason));
    }
    let bytes = tokenizer.decode_with_specials(&request.tokens);
    Ok(Json(DetokenizeAnswer { content: String::from_utf8_lossy(&bytes).into_owned() }))
}
