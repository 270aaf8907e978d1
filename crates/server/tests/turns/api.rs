//! The app API as the page uses it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::BodyDataStream;
use axum::http::{StatusCode, header};
use futures::StreamExt;
use serde_json::{Value, json};

use crate::client::{self, Answer, call, get};

/// Nothing in these tests takes longer on a machine that works.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn send(address: SocketAddr, method: &str, path: &str, body: &Value) -> Answer {
    let json = [("content-type", "application/json")];
    call(address, method, path, &json, body.to_string().into_bytes()).await
}

/// The answer to a request that must have this status.
pub(crate) fn expect(answer: Answer, status: u16) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

/// Settings under which a model hardly ever ends by itself: any token is nearly as likely as any other, and with a seed
/// that is known an answer that did not end never will.
pub(crate) fn endless() -> Value {
    json!({"max_tokens": 900, "temperature": 2, "top_k": 0, "top_p": 1, "min_p": 0, "seed": 1})
}

/// A new conversation with these settings; its id.
pub(crate) async fn conversation(address: SocketAddr, settings: Value) -> String {
    let made = send(address, "POST", "/api/conversations", &json!({"settings": settings})).await;
    text(&expect(made, 201)["id"])
}

/// A conversation as the page loads it.
pub(crate) async fn load(address: SocketAddr, id: &str) -> Value {
    expect(get(address, &format!("/api/conversations/{id}")).await, 200)
}

/// The message of this id in a loaded conversation.
pub(crate) fn message<'a>(conversation: &'a Value, id: &str) -> &'a Value {
    let messages = conversation["messages"].as_array().unwrap();
    messages.iter().find(|message| message["id"] == id).unwrap_or_else(|| panic!("no message {id}"))
}

/// The body of something said.
pub(crate) fn words(parent_id: Option<&str>, words: &str) -> Value {
    json!({"parent_id": parent_id, "parts": [{"type": "text", "text": words}]})
}

/// Says something; the ids of the message and of its answer.
pub(crate) async fn say(address: SocketAddr, id: &str, body: &Value) -> (String, String) {
    let said = expect(send(address, "POST", &format!("/api/conversations/{id}/messages"), body).await, 201);
    assert_eq!(said["answer"]["status"], "running");
    (text(&said["user"]["id"]), text(&said["answer"]["id"]))
}

/// Says something and waits for the end of the answer; the id of the message and the answer.
pub(crate) async fn ask(address: SocketAddr, id: &str, body: &Value) -> (String, Value) {
    let (user, answer) = say(address, id, body).await;
    (user, finished(address, &answer).await)
}

/// The answer's message when it has ended.
pub(crate) async fn finished(address: SocketAddr, answer: &str) -> Value {
    let events = follow(address, answer, 0).await.all().await;
    let last = events.last().unwrap().clone();
    assert_eq!(last["type"], "done", "{last}");
    last["message"].clone()
}

/// A string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("expected a string, found {value}")).to_owned()
}

/// The text of a message's parts.
pub(crate) fn said(message: &Value) -> String {
    let parts = message["parts"].as_array().unwrap();
    parts.iter().filter(|part| part["type"] == "text").map(|part| text(&part["text"])).collect()
}

/// The text in events.
pub(crate) fn told(events: &[Value]) -> String {
    events.iter().filter(|event| event["type"] == "text").map(|event| text(&event["text"])).collect()
}

/// An answer's events.
pub(crate) struct Events {
    body: BodyDataStream,
    pending: Vec<u8>,
}

/// Follows an answer from the event after this number.
pub(crate) async fn follow(address: SocketAddr, answer: &str, after: u64) -> Events {
    follow_with(address, &format!("/api/messages/{answer}/events?after={after}"), &[]).await
}

pub(crate) async fn follow_with(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Events {
    let request = client::request(address, "GET", path, headers, Vec::new());
    let response = client::send(address, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    Events { body: response.into_body().into_data_stream(), pending: Vec::new() }
}

impl Events {
    /// The next event; none at the end or when the server is gone.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(LIMIT, self.next_of_body()).await.expect("an event or an end in time")
    }

    async fn next_of_body(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.pending.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.pending.drain(..end + 2).collect();
                let block = String::from_utf8(block).unwrap();
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
                if let Some(data) = field("data: ") {
                    let event: Value = serde_json::from_str(data).unwrap();
                    assert_eq!(field("id: "), Some(event["seq"].to_string().as_str()), "{block}");
                    return Some(event);
                }
            }
            self.pending.extend_from_slice(&self.body.next().await?.ok()?);
        }
    }

    /// Events until so many characters of text have come.
    pub(crate) async fn until_text(&mut self, n_chars: usize) -> Vec<Value> {
        let mut events = Vec::new();
        while told(&events).chars().count() < n_chars {
            events.push(self.next().await.expect("more text"));
        }
        events
    }

    /// All events up to the end, which must be one.
    pub(crate) async fn all(mut self) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
        assert!(seqs.is_sorted_by(|a, b| a < b), "numbers go up: {seqs:?}");
        // Only a title that nobody waited for may follow.
        let last = events.iter().rfind(|event| event["type"] != "title").map(|event| text(&event["type"]));
        assert!(matches!(last.as_deref(), Some("done" | "error")), "the stream ended with {last:?}");
        events
    }
}
