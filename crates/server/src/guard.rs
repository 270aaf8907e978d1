//! Who may ask? Every request passes here first: security headers → host → origin → key or session.
//!
//! A person's server on localhost can be reached by every web page that this person opens. So a request must
//! name a host under which this server is known (against DNS rebinding), must not come from a page of
//! another origin (against forged requests), and, when there is a key, must show it or a session.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::sessions::cookie_token;
use crate::state::AppState;

/// The address of the client, put into each request by the accept loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub SocketAddr);

/// What the page may load and do: its own files, no inline script or style, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
     img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; object-src 'none'; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// How long a wrong key waits for its answer, so that guessing is slow.
const WRONG_KEY_DELAY: Duration = Duration::from_millis(300);

/// Puts the security headers on every answer.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Refuses hosts and origins that are not ours.
pub(crate) async fn host_and_origin(State(state): State<AppState>, request: Request, next: Next) -> Response {
    match check_host_and_origin(&state.config, &request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

fn check_host_and_origin(config: &ServerConfig, request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let host = request_host(request).ok_or_else(|| ApiError::ForeignHost { host: String::new() })?;
    if !host_is_ours(config, host.host()) {
        return Err(ApiError::ForeignHost { host: host.host().to_string() });
    }
    let changes_state = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !changes_state && !request.uri().path().starts_with("/api/") {
        return Ok(());
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or("null");
        return match origin_is_ours(config, origin, &host) {
            true => Ok(()),
            false => Err(ApiError::ForeignOrigin { origin: origin.to_string() }),
        };
    }
    // A browser leaves Origin out of simple GETs, but says here whether another site sent them.
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    match site {
        Some("cross-site" | "same-site") => {
            Err(ApiError::ForeignOrigin { origin: "another site".to_string() })
        }
        _ => Ok(()),
    }
}

/// The host that the request names: of the address line when it is absolute, else of the Host header.
fn request_host(request: &Request) -> Option<Authority> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.clone());
    }
    let mut values = request.headers().get_all(header::HOST).iter();
    let host = values.next()?.to_str().ok()?.parse::<Authority>().ok()?;
    // Two Host headers, or a user name in one, are somebody's trick.
    (values.next().is_none() && !host.as_str().contains('@')).then_some(host)
}

/// Whether this server is known under `host` (without its port).
fn host_is_ours(config: &ServerConfig, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    if bare.eq_ignore_ascii_case("localhost") || same_host(bare, &config.host) {
        return true;
    }
    if config.allowed_hosts.iter().any(|allowed| same_host(bare, allowed) || allowed == "*") {
        return true;
    }
    match bare.parse::<IpAddr>() {
        // Rebinding needs a name: an address names this machine or none.
        Ok(address) => address.is_loopback() || config.address().is_none_or(|bound| !bound.is_loopback()),
        Err(_) => false,
    }
}

fn same_host(bare: &str, other: &str) -> bool {
    bare.eq_ignore_ascii_case(other.trim_start_matches('[').trim_end_matches(']'))
}

/// Whether a page of `origin` may use this server: its own, one behind a named host, or a listed one.
fn origin_is_ours(config: &ServerConfig, origin: &str, host: &Authority) -> bool {
    if config.cors_origins.iter().any(|listed| listed == "*" || listed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let Some((scheme, rest)) = origin.split_once("://") else { return false };
    let Ok(authority) = rest.parse::<Authority>() else { return false };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    // A proxy may speak https outside and http to us, so schemes are not compared; ports are.
    let port = |authority: &Authority, scheme: &str| {
        authority.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 })
    };
    let same = authority.host().eq_ignore_ascii_case(host.host())
        && (authority.port_u16() == host.port_u16() || port(&authority, scheme) == port(host, scheme));
    let named = config.allowed_hosts.iter().any(|allowed| same_host(authority.host(), allowed));
    same || named
}

/// The CORS answers for the listed origins; none when no origin is listed.
pub(crate) fn cors(config: &ServerConfig) -> Option<CorsLayer> {
    if config.cors_origins.is_empty() {
        return None;
    }
    let origins = if config.cors_origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(config.cors_origins.iter().filter_map(|origin| origin.parse().ok()))
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(AllowMethods::list(methods))
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([header::RETRY_AFTER])
            .max_age(Duration::from_secs(600)),
    )
}

/// What is open to everyone: the page's own files, its way to sign in, and whether the server lives.
fn is_open(method: &Method, path: &str) -> bool {
    match path {
        "/api/session" | "/api/state" | "/health" => true,
        _ if path == "/api" || path == "/v1" || path.starts_with("/api/") || path.starts_with("/v1/") => {
            false
        }
        "/tokenize" | "/detokenize" | "/metrics" | "/openapi.json" => false,
        _ => matches!(*method, Method::GET | Method::HEAD),
    }
}

/// Asks for the key, or on `/api` for a session, where the server has a key.
pub(crate) async fn key_or_session(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let Some(key) = &state.config.api_key else { return next.run(request).await };
    if is_open(request.method(), request.uri().path()) {
        return next.run(request).await;
    }
    if let Some(shown) = bearer(request.headers()) {
        if state.sessions.key_matches(key, shown) {
            return next.run(request).await;
        }
        tokio::time::sleep(WRONG_KEY_DELAY).await;
        return ApiError::Unauthorized { reason: "the API key is wrong" }.into_response();
    }
    if request.uri().path().starts_with("/api/") {
        let token = cookie_token(request.headers());
        if token.is_some_and(|token| state.sessions.is_valid(token)) {
            return next.run(request).await;
        }
        return ApiError::Unauthorized { reason: "sign in first: POST /api/session with the API key" }
            .into_response();
    }
    let reason = "an API key is required: send it as `Authorization: Bearer KEY`";
    ApiError::Unauthorized { reason }.into_response()
}

/// The key in `Authorization: Bearer KEY`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests;
