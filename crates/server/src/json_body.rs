//! A request's body as a checked value: bounded in size and time, with errors that say where.
//!
//! Broken JSON is told with line and column, a wrong type with the path of the field, a body that is too
//! large is refused by its declared length, before any of it is kept.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, Request};
use axum::http::header;
use futures::StreamExt;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::error::ApiError;
use crate::state::AppState;

/// How much of a refused body is read and thrown away, so that a client that only reads answers once it has
/// sent everything gets to see why.
const DRAIN_BYTES: usize = 512 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(20);

/// The body, read as JSON.
#[derive(Debug)]
pub(crate) struct JsonBody<T>(pub T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
    AppState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let limits = &AppState::from_ref(state).config.limits;
        let bytes = read_body(request, limits.max_body_bytes, limits.body_timeout).await?;
        parse(&bytes).map(JsonBody)
    }
}

/// Reads a body of at most `limit` bytes within `timeout`.
pub(crate) async fn read_body(
    request: Request,
    limit: usize,
    timeout: Duration,
) -> Result<Vec<u8>, ApiError> {
    let declared = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|text| text.parse::<u64>().ok());
    let body = request.into_body();
    if declared.is_some_and(|length| length > limit as u64) {
        drain(body);
        return Err(ApiError::BodyTooLarge { limit });
    }
    let mut chunks = body.into_data_stream();
    let collect = async {
        let mut bytes = Vec::with_capacity(declared.unwrap_or(0).min(limit as u64) as usize);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| ApiError::BodyBroken { reason: error.to_string() })?;
            if bytes.len() + chunk.len() > limit {
                return Err(ApiError::BodyTooLarge { limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    let outcome = tokio::time::timeout(timeout, collect).await;
    let result = outcome.unwrap_or(Err(ApiError::BodyTimeout { seconds: timeout.as_secs() }));
    if matches!(result, Err(ApiError::BodyTooLarge { .. })) {
        drain(Body::from_stream(chunks));
    }
    result
}

/// Reads on in the background and keeps nothing.
fn drain(body: Body) {
    tokio::spawn(tokio::time::timeout(DRAIN_TIME, async move {
        let mut chunks = body.into_data_stream();
        let mut n_bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            n_bytes += chunk.len();
            if n_bytes > DRAIN_BYTES {
                break;
            }
        }
    }));
}

/// Reads a JSON object; an empty body counts as `{}`.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let bytes = if first.is_none() { b"{}" } else { bytes };
    // Serde would also read a list as the fields in their order.
    if first.is_some_and(|byte| *byte != b'{') {
        return Err(match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => {
                ApiError::WrongType { param: "body".to_string(), reason: "expected an object".to_string() }
            }
            Err(error) => explain(error, String::new()),
        });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        explain(error.into_inner(), path)
    })?;
    reader.end().map_err(|error| explain(error, String::new()))?;
    Ok(value)
}

/// A serde error in our words. `path` is where in the document it happened, `.` for the whole.
fn explain(error: serde_json::Error, path: String) -> ApiError {
    let text = error.to_string();
    // serde_json ends its texts with the position, which stands apart here.
    let reason = in_json_words(text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason));
    match error.classify() {
        Category::Data => match missing_field(&reason) {
            Some(field) if path == "." || path.is_empty() => ApiError::Missing { param: field.to_string() },
            Some(field) => ApiError::Missing { param: format!("{path}.{field}") },
            None if path == "." => ApiError::WrongType { param: "body".to_string(), reason },
            None => ApiError::WrongType { param: path, reason },
        },
        Category::Syntax | Category::Eof | Category::Io => {
            ApiError::BadJson { reason, line: error.line(), column: error.column() }
        }
    }
}

/// Serde speaks of Rust's types; who sends JSON knows JSON's.
fn in_json_words(reason: &str) -> String {
    let Some((found, expected)) = reason.rsplit_once(", expected ") else {
        return reason.to_string();
    };
    let kind = expected.split_whitespace().next().unwrap_or_default();
    let expected = match kind {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "sequence" => "a list",
        "map" | "struct" => "an object",
        _ => expected,
    };
    format!("{}, expected {expected}", found.replace(": sequence", ": list").replace(": map", ": object"))
}

/// The name in serde's "missing field `name`".
fn missing_field(reason: &str) -> Option<&str> {
    reason.strip_prefix("missing field `")?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Inner {
        #[allow(dead_code)]
        count: u32,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Outer {
        #[allow(dead_code)]
        items: Vec<Inner>,
    }

    #[test]
    fn broken_json_is_told_with_its_place() {
        let error = parse::<Outer>(b"{\n  \"items\": [,]\n}").unwrap_err();
        assert!(matches!(error, ApiError::BadJson { line: 2, column: 13, .. }), "{error:?}");
        assert_eq!(error.to_string(), "the body is not valid JSON: expected value at line 2, column 13");
        assert!(matches!(parse::<Outer>(b"{\"items\": [").unwrap_err(), ApiError::BadJson { .. }));
        assert!(matches!(parse::<Outer>(b"{\"items\": []} x").unwrap_err(), ApiError::BadJson { .. }));
        assert!(matches!(parse::<Outer>(b"\xff").unwrap_err(), ApiError::BadJson { .. }));
        assert!(matches!(parse::<Outer>(b"[[]]").unwrap_err(), ApiError::WrongType { .. }));
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let error = parse::<Outer>(b"{\"items\": [{\"count\": 1}, {\"count\": \"two\"}]}").unwrap_err();
        assert_eq!(error.param(), Some("items[1].count"));
        assert!(
            error.to_string().ends_with("invalid type: string \"two\", expected a whole number, 0 or more"),
            "{error}"
        );
        assert_eq!(error.code(), "invalid_type");
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(parse::<Outer>(b"{}").unwrap_err().param(), Some("items"));
        assert_eq!(parse::<Outer>(b"{\"items\": [{}]}").unwrap_err().param(), Some("items[0].count"));
        assert_eq!(parse::<Outer>(b" \n").unwrap_err().param(), Some("items"));
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let text = format!("{{\"a\": {}", "[".repeat(100_000));
        assert!(matches!(parse::<serde_json::Value>(text.as_bytes()), Err(ApiError::BadJson { .. })));
    }

    #[tokio::test]
    async fn a_body_is_refused_by_its_declared_length_and_by_its_real_one() {
        let declared = Request::builder().header("content-length", "1000").body(Body::empty()).unwrap();
        let error = read_body(declared, 100, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { limit: 100 }));
        let real = Request::builder().body(Body::from(vec![b' '; 101])).unwrap();
        let error = read_body(real, 100, Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTooLarge { limit: 100 }));
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up() {
        let never = futures::stream::pending::<Result<Vec<u8>, std::io::Error>>();
        let request = Request::builder().body(Body::from_stream(never)).unwrap();
        let error = read_body(request, 100, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, ApiError::BodyTimeout { .. }));
    }
}
