//! Every way a request can fail, and what is told of it: status, OpenAI's error object, headers.
//!
//! The status, `type` and `code` of each variant are decided in one place, [`ApiError::facts`]. The message
//! is the variant's own text, in English; the page has its own sentence for each `code`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokenizer::one_line;

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The body is not JSON.
    #[error("the body is not valid JSON: {reason} at line {line}, column {column}")]
    BadJson {
        /// What the parser expected.
        reason: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// A field is missing.
    #[error("missing required parameter: {param}")]
    Missing {
        /// The field.
        param: String,
    },
    /// A field has the wrong type.
    #[error("{param}: {reason}")]
    WrongType {
        /// The field, as a path (`messages[0].content`).
        param: String,
        /// Expected and found.
        reason: String,
    },
    /// A field's value is outside of its limits.
    #[error("{param}: {reason}")]
    BadValue {
        /// The field, as a path.
        param: String,
        /// Expected and found.
        reason: String,
    },
    /// A field asks for something that this server cannot do (yet), and that must not be ignored.
    #[error("{param}: {reason}")]
    Unsupported {
        /// The field, as a path.
        param: String,
        /// What is not supported, and what is.
        reason: String,
    },
    /// The prompt alone does not fit.
    #[error(
        "this model's maximum context length is {max_seq_len} tokens, but the prompt has {n_prompt} tokens; \
         shorten the prompt, or start the server with a larger --ctx"
    )]
    ContextLength {
        /// The field that holds the prompt.
        param: &'static str,
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Tokens the context holds.
        max_seq_len: usize,
    },
    /// A conversation of the page no longer fits; the page offers a choice.
    #[error(
        "the conversation has {prompt_tokens} tokens, the context holds {max_tokens}; \
         drop the oldest turns or begin a new chat"
    )]
    ContextFull {
        /// Tokens of the conversation.
        prompt_tokens: usize,
        /// Tokens the context holds.
        max_tokens: usize,
    },
    /// No model of that name.
    #[error("{reason}")]
    ModelNotFound {
        /// What is known of the name, and what to do.
        reason: String,
    },
    /// A model of the catalog that is not on this disk.
    #[error("{reason}")]
    ModelNotDownloaded {
        /// Its name and how to fetch it.
        reason: String,
    },
    /// The model is on this disk and does not work.
    #[error("model {model:?} cannot be served: {reason}")]
    ModelFailed {
        /// The model.
        model: String,
        /// A word for programs.
        code: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The model does not fit beside those in use.
    #[error(
        "model {model:?} needs {needed} bytes of memory, {available} are free; \
         close other programs, or choose a smaller model, --ctx or --kv-memory"
    )]
    NotEnoughMemory {
        /// The model.
        model: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// What was asked for contradicts what is.
    #[error("{reason}")]
    Conflict {
        /// A word for programs.
        code: &'static str,
        /// What stands against it.
        reason: String,
    },
    /// No such object, or somebody else's.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, for example `conversation`.
        what: &'static str,
    },
    /// No such address.
    #[error("unknown address {method} {path}; /openapi.json lists what there is")]
    UnknownPath {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The address exists, but not for this method.
    #[error("{path} does not take {method}")]
    MethodNotAllowed {
        /// The request's method.
        method: String,
        /// The request's path.
        path: String,
    },
    /// The body is larger than the limit.
    #[error("the body is larger than {limit} bytes; send less at once")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("the body did not arrive within {seconds} s")]
    BodyTimeout {
        /// The limit.
        seconds: u64,
    },
    /// The client went away, or broke the protocol, while its body was read.
    #[error("the body could not be read: {reason}")]
    BodyBroken {
        /// What happened.
        reason: String,
    },
    /// No key, no session, or the wrong one.
    #[error("{reason}")]
    Unauthorized {
        /// What was expected.
        reason: &'static str,
    },
    /// Too many failed attempts to sign in.
    #[error("too many failed attempts; try again in {retry_after_s} s")]
    TooManyAttempts {
        /// When to try again.
        retry_after_s: u64,
    },
    /// The request names a host under which this server is not known (DNS rebinding looks like that).
    #[error("host {host:?} is not served here; start the server with --allowed-host {host} if it should be")]
    ForeignHost {
        /// The host named.
        host: String,
    },
    /// A web page of another origin wants something.
    #[error("pages of {origin} may not use this server; --cors-origin {origin} would allow it")]
    ForeignOrigin {
        /// The origin.
        origin: String,
    },
    /// As many requests wait as may.
    #[error("the server is busy: the queue is full; try again in {retry_after_s} s")]
    QueueFull {
        /// When to try again.
        retry_after_s: u64,
    },
    /// As many answers of this person run as may.
    #[error("{limit} answers are running already; wait for one to end, or stop one")]
    TooManyAnswers {
        /// How many may.
        limit: usize,
    },
    /// The server is about to end.
    #[error("the server is shutting down; send the request again when it is back")]
    ShuttingDown,
    /// The engine broke.
    #[error("the engine failed: {reason}")]
    EngineFailed {
        /// Its own words.
        reason: String,
    },
    /// A command of the trainer says that it cannot do what was ordered.
    #[error("{reason}")]
    TrainingRefused {
        /// Its own words.
        reason: String,
    },
    /// A file or folder could not be read or written.
    #[error("{reason}")]
    Disk {
        /// Which, and the system's words.
        reason: String,
    },
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// A task of ours panicked or was lost: a fault of this program.
    #[error("internal error: {reason}; the server's log says more")]
    Internal {
        /// What was being done.
        reason: &'static str,
    },
}

/// What a variant is to the outside.
struct Facts {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
}

impl ApiError {
    /// A value outside of its limits.
    pub fn bad_value(param: impl Into<String>, reason: impl Into<String>) -> ApiError {
        ApiError::BadValue { param: param.into(), reason: reason.into() }
    }

    /// Something this server does not do, and must not ignore.
    pub fn unsupported(param: impl Into<String>, reason: impl Into<String>) -> ApiError {
        ApiError::Unsupported { param: param.into(), reason: reason.into() }
    }

    /// The one table of statuses, types and codes.
    fn facts(&self) -> Facts {
        use store::StoreError;
        const INVALID: &str = "invalid_request_error";
        const SERVER: &str = "server_error";
        let (status, kind, code) = match self {
            ApiError::BadJson { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_json"),
            ApiError::Missing { .. } => (StatusCode::BAD_REQUEST, INVALID, "missing_required_parameter"),
            ApiError::WrongType { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_type"),
            ApiError::BadValue { .. } => (StatusCode::BAD_REQUEST, INVALID, "invalid_value"),
            ApiError::Unsupported { .. } => (StatusCode::BAD_REQUEST, INVALID, "unsupported_parameter"),
            ApiError::ContextLength { .. } => (StatusCode::BAD_REQUEST, INVALID, "context_length_exceeded"),
            ApiError::ContextFull { .. } => (StatusCode::CONFLICT, INVALID, "context_full"),
            ApiError::ModelNotFound { .. } => (StatusCode::NOT_FOUND, INVALID, "model_not_found"),
            ApiError::ModelNotDownloaded { .. } => (StatusCode::NOT_FOUND, INVALID, "model_not_downloaded"),
            ApiError::ModelFailed { code, .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, *code),
            ApiError::NotEnoughMemory { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, SERVER, "not_enough_memory")
            }
            ApiError::Conflict { code, .. } => (StatusCode::CONFLICT, INVALID, *code),
            ApiError::NotFound { .. } => (StatusCode::NOT_FOUND, INVALID, "not_found"),
            ApiError::UnknownPath { .. } => (StatusCode::NOT_FOUND, INVALID, "unknown_path"),
            ApiError::MethodNotAllowed { .. } => {
                (StatusCode::METHOD_NOT_ALLOWED, INVALID, "method_not_allowed")
            }
            ApiError::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            ApiError::BodyTimeout { .. } => (StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout"),
            ApiError::BodyBroken { .. } => (StatusCode::BAD_REQUEST, INVALID, "body_broken"),
            ApiError::Unauthorized { .. } => (StatusCode::UNAUTHORIZED, INVALID, "invalid_api_key"),
            ApiError::TooManyAttempts { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_attempts")
            }
            ApiError::ForeignHost { .. } => (StatusCode::FORBIDDEN, INVALID, "host_not_allowed"),
            ApiError::ForeignOrigin { .. } => (StatusCode::FORBIDDEN, INVALID, "origin_not_allowed"),
            ApiError::QueueFull { .. } => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "queue_full"),
            ApiError::TooManyAnswers { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "too_many_answers")
            }
            ApiError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "shutting_down"),
            ApiError::EngineFailed { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "engine_failed"),
            ApiError::TrainingRefused { .. } => (StatusCode::BAD_REQUEST, INVALID, "training_refused"),
            ApiError::Disk { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "disk_failed"),
            ApiError::Store(StoreError::NotFound { .. }) => (StatusCode::NOT_FOUND, INVALID, "not_found"),
            ApiError::Store(StoreError::Conflict { code, .. }) => (StatusCode::CONFLICT, INVALID, *code),
            ApiError::Store(StoreError::Invalid { .. }) => {
                (StatusCode::BAD_REQUEST, INVALID, "invalid_value")
            }
            ApiError::Store(StoreError::Full { .. }) => {
                (StatusCode::INSUFFICIENT_STORAGE, SERVER, "disk_full")
            }
            ApiError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "store_failed"),
            ApiError::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal"),
        };
        Facts { status, kind, code }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.facts().status
    }

    /// The word for programs.
    pub fn code(&self) -> &'static str {
        self.facts().code
    }

    /// The field that is to blame, if one is.
    pub fn param(&self) -> Option<&str> {
        match self {
            ApiError::Missing { param }
            | ApiError::WrongType { param, .. }
            | ApiError::BadValue { param, .. }
            | ApiError::Unsupported { param, .. } => Some(param),
            ApiError::ContextLength { param, .. } => Some(param),
            ApiError::ModelNotFound { .. } | ApiError::ModelNotDownloaded { .. } => Some("model"),
            ApiError::Store(store::StoreError::Invalid { field, .. }) => Some(field),
            _ => None,
        }
    }

    /// `{"error": {…}}`, as a body or as the last event of a stream that began well.
    pub fn to_json(&self) -> Value {
        let Facts { kind, code, .. } = self.facts();
        let mut error = json!({
            // Words of the request come back in errors.
            "message": one_line(&self.to_string()),
            "type": kind,
            "param": self.param().map(one_line),
            "code": code,
        });
        match self {
            ApiError::ContextLength { n_prompt, max_seq_len, .. } => {
                error["prompt_tokens"] = json!(n_prompt);
                error["max_tokens"] = json!(max_seq_len);
            }
            ApiError::ContextFull { prompt_tokens, max_tokens } => {
                error["prompt_tokens"] = json!(prompt_tokens);
                error["max_tokens"] = json!(max_tokens);
            }
            _ => {}
        }
        json!({ "error": error })
    }
}

impl From<jobs::JobsError> for ApiError {
    fn from(error: jobs::JobsError) -> ApiError {
        match error {
            jobs::JobsError::Store(error) => error.into(),
            jobs::JobsError::Conflict { code, reason } => ApiError::Conflict { code, reason },
            jobs::JobsError::Io { .. } => ApiError::Disk { reason: error.to_string() },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(code = self.code(), "{self}");
        }
        let mut response = (status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        match self {
            ApiError::QueueFull { retry_after_s } | ApiError::TooManyAttempts { retry_after_s } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s.max(1)));
            }
            ApiError::ShuttingDown => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(5));
            }
            ApiError::Unauthorized { .. } => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body is not worth a second request on this connection.
            ApiError::BodyTooLarge { .. } | ApiError::BodyTimeout { .. } => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_error_is_told_in_openais_shape() {
        let error = ApiError::bad_value("temperature", "expected 0 to 2, found 3");
        let body = error.to_json();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        assert_eq!(body["error"]["param"], "temperature");
        assert_eq!(body["error"]["type"], "invalid_request_error");
        assert_eq!(body["error"]["code"], "invalid_value");
        assert_eq!(body["error"]["message"], "temperature: expected 0 to 2, found 3");
    }

    #[test]
    fn words_of_the_request_come_back_bounded_and_on_one_line() {
        let error = ApiError::bad_value("a\n\u{1b}".repeat(1000), "x".repeat(100_000));
        for words in [&error.to_json()["error"]["message"], &error.to_json()["error"]["param"]] {
            let words = words.as_str().unwrap();
            assert!(words.len() < 2000 && !words.chars().any(char::is_control), "{words}");
        }
    }

    #[test]
    fn a_prompt_too_long_tells_both_numbers() {
        let error = ApiError::ContextLength { param: "messages", n_prompt: 9000, max_seq_len: 8192 };
        let text = error.to_string();
        assert!(text.contains("9000") && text.contains("8192"), "{text}");
        assert_eq!(error.to_json()["error"]["prompt_tokens"], 9000);
        assert_eq!(error.code(), "context_length_exceeded");
    }

    #[test]
    fn a_full_queue_says_when_to_come_back() {
        let response = ApiError::QueueFull { retry_after_s: 0 }.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
