//! The app API: conversations, messages and running answers for the page, as JSON under `/api`.
//!
//! Each file has the routes of one subject; `wire` is what goes over the wire. The objects are the signed-in person's
//! (the single local person until accounts come): every call hands the owner on, and what belongs to somebody else is
//! told in the words of what does not exist.

mod conversations;
mod count;
mod events;
pub(crate) mod extract;
mod messages;
mod transfer;
pub(crate) mod wire;

use axum::Router;
use axum::routing::{get, post};
use store::OwnerId;

use crate::state::AppState;

/// The routes under `/api`, except those of the models, the session and the state of the server.
pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/conversations", get(conversations::list).post(conversations::create))
        .route(
            "/api/conversations/{id}",
            get(conversations::show).patch(conversations::change).delete(conversations::delete),
        )
        .route("/api/conversations/{id}/restore", post(conversations::restore))
        .route("/api/conversations/{id}/messages", post(messages::say))
        .route("/api/conversations/{id}/export", get(transfer::export_one))
        .route("/api/messages/{id}", axum::routing::delete(messages::delete))
        .route("/api/messages/{id}/restore", post(messages::restore))
        .route("/api/messages/{id}/regenerate", post(messages::regenerate))
        .route("/api/messages/{id}/continue", post(messages::go_on))
        .route("/api/messages/{id}/stop", post(messages::stop))
        .route("/api/messages/{id}/events", get(events::follow))
        .route("/api/count", post(count::count))
        .route("/api/export", get(transfer::export_all))
        .route("/api/import", post(transfer::import))
}

/// Whose objects a request is about.
pub(crate) fn owner(state: &AppState) -> OwnerId {
    state.store.local_owner()
}
