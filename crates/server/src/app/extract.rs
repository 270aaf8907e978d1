//! Ids in paths and values in queries, with this API's errors instead of axum's plain text.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use store::{ConversationId, JobId, MessageId};

use crate::error::ApiError;

/// An id that can stand in a path.
pub(crate) trait IdInPath: FromStr {
    /// What it is the id of, for "… not found".
    const WHAT: &'static str;
}

impl IdInPath for ConversationId {
    const WHAT: &'static str = "conversation";
}

impl IdInPath for MessageId {
    const WHAT: &'static str = "message";
}

impl IdInPath for JobId {
    const WHAT: &'static str = "run";
}

/// The `{id}` of a path. What is no id names nothing, so it is not found.
pub(crate) struct PathId<T>(pub(crate) T);

impl<T: IdInPath, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let not_found = || ApiError::NotFound { what: T::WHAT };
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| not_found())?;
        text.parse().map(PathId).map_err(|_| not_found())
    }
}

/// The query, read as `T`.
pub(crate) struct QueryOf<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let read = Query::<T>::try_from_uri(&parts.uri);
        read.map(|Query(value)| QueryOf(value)).map_err(|e| ApiError::bad_value("query", e.body_text()))
    }
}
