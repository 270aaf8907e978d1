//! A small HTTP client that can do what well-behaved ones do not: odd hosts, half a stream, huge bodies.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::{HeaderMap, Request, Response, StatusCode, header};
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The answer to a request that must have succeeded.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        self.json()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Response<Body> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap().map(Body::new)
}

/// A request with the right host; `headers` may replace it.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        builder = builder.header(header::HOST, address.to_string());
    }
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body)).unwrap()
}

pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let (parts, body) = send(address, request(address, method, path, headers, body)).await.into_parts();
    let body = axum::body::to_bytes(body, 1 << 30).await.unwrap().to_vec();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    call(address, "GET", path, &[], Vec::new()).await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    call(address, "POST", path, &json, body.to_string().into_bytes()).await
}

/// A stream of server-sent events, one JSON value each.
pub(crate) struct Events {
    body: axum::body::BodyDataStream,
    pending: Vec<u8>,
    /// Whether `[DONE]` was seen.
    pub(crate) done: bool,
}

impl Events {
    /// The next event; none after `[DONE]` or at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                match block.trim().strip_prefix("data: ") {
                    Some("[DONE]") => {
                        self.done = true;
                        return None;
                    }
                    Some(data) => return Some(serde_json::from_str(data).unwrap()),
                    // A comment that keeps the connection alive.
                    None => assert!(block.starts_with(':'), "{block:?}"),
                }
            }
            match self.body.next().await {
                Some(chunk) => self.pending.extend_from_slice(&chunk.ok()?),
                None => return None,
            }
        }
    }

    pub(crate) async fn all(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        assert!(self.done, "the stream ended without [DONE]: {events:?}");
        events
    }
}

/// Begins a stream that must succeed.
pub(crate) async fn stream(address: SocketAddr, path: &str, body: &Value) -> Events {
    let request = request(address, "POST", path, &[], body.to_string().into_bytes());
    let response = send(address, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    Events { body: response.into_body().into_data_stream(), pending: Vec::new(), done: false }
}
