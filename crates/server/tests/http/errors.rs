//! Every wrong request gets the right status, in OpenAI's shape, naming the field.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{call, get, post};
use crate::world::{shared, start};

struct Case {
    path: &'static str,
    body: String,
    status: u16,
    code: &'static str,
    param: Value,
}

fn case(path: &'static str, body: Value, status: u16, code: &'static str, param: Value) -> Case {
    Case { path, body: body.to_string(), status, code, param }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_what_is_wrong() {
    let address = shared().await;
    const CHAT: &str = "/v1/chat/completions";
    const RAW: &str = "/v1/completions";
    let user = json!([{"role": "user", "content": "hi"}]);
    let long = "word ".repeat(3000);
    let bad = "invalid_value";
    let unsupported = "unsupported_parameter";
    let cases = [
        Case {
            path: CHAT,
            body: "{\"messages\": ".into(),
            status: 400,
            code: "invalid_json",
            param: Value::Null,
        },
        Case { path: CHAT, body: "not json".into(), status: 400, code: "invalid_json", param: Value::Null },
        case(CHAT, json!([1, 2]), 400, "invalid_type", json!("body")),
        case(CHAT, json!({}), 400, "missing_required_parameter", json!("messages")),
        case(CHAT, json!({"messages": []}), 400, bad, json!("messages")),
        case(CHAT, json!({"messages": "hi"}), 400, "invalid_type", json!("messages")),
        case(
            CHAT,
            json!({"messages": [{"content": "hi"}]}),
            400,
            "missing_required_parameter",
            json!("messages[0].role"),
        ),
        case(
            CHAT,
            json!({"messages": [{"role": "user", "content": 5}]}),
            400,
            "invalid_type",
            json!("messages[0].content"),
        ),
        case(
            CHAT,
            json!({"messages": user, "temperature": "hot"}),
            400,
            "invalid_type",
            json!("temperature"),
        ),
        case(CHAT, json!({"messages": user, "temperature": 3}), 400, bad, json!("temperature")),
        case(CHAT, json!({"messages": user, "max_tokens": 0}), 400, bad, json!("max_tokens")),
        case(
            CHAT,
            json!({"messages": user, "max_completion_tokens": -5}),
            400,
            bad,
            json!("max_completion_tokens"),
        ),
        case(CHAT, json!({"messages": user, "n": 0}), 400, bad, json!("n")),
        case(CHAT, json!({"messages": user, "n": 1000}), 400, bad, json!("n")),
        case(
            CHAT,
            json!({"messages": user, "logprobs": true, "top_logprobs": 21}),
            400,
            bad,
            json!("top_logprobs"),
        ),
        case(CHAT, json!({"messages": user, "top_logprobs": 3}), 400, bad, json!("top_logprobs")),
        case(
            CHAT,
            json!({"messages": user, "logit_bias": {"9999999": 1}}),
            400,
            bad,
            json!("logit_bias.9999999"),
        ),
        case(CHAT, json!({"messages": user, "stop": [1]}), 400, "invalid_type", json!("stop")),
        case(CHAT, json!({"messages": user, "stream_options": {}}), 400, bad, json!("stream_options")),
        case(
            CHAT,
            json!({"messages": user, "tool_choice": "required"}),
            400,
            unsupported,
            json!("tool_choice"),
        ),
        case(
            CHAT,
            json!({"messages": user, "response_format": {"type": "xml"}}),
            400,
            unsupported,
            json!("response_format.type"),
        ),
        case(
            CHAT,
            json!({"messages": user, "model": "no-such-model"}),
            404,
            "model_not_found",
            json!("model"),
        ),
        case(CHAT, json!({"messages": user, "model": "/etc/passwd"}), 404, "model_not_found", json!("model")),
        case(
            CHAT,
            json!({"messages": user, "model": "../../x.gguf"}),
            404,
            "model_not_found",
            json!("model"),
        ),
        case(
            CHAT,
            json!({"messages": user, "model": "qwen2.5-coder:0.5b"}),
            404,
            "model_not_downloaded",
            json!("model"),
        ),
        case(
            CHAT,
            json!({"messages": [{"role": "user", "content": long}]}),
            400,
            "context_length_exceeded",
            json!("messages"),
        ),
        case(RAW, json!({"prompt": long}), 400, "context_length_exceeded", json!("prompt")),
        case(RAW, json!({"prompt": ""}), 400, bad, json!("prompt")),
        case(RAW, json!({"prompt": []}), 400, bad, json!("prompt")),
        case(RAW, json!({"prompt": [9_999_999]}), 400, bad, json!("prompt")),
        case(RAW, json!({"prompt": {"text": "x"}}), 400, "invalid_type", json!("prompt")),
        case(RAW, json!({"prompt": "x", "logprobs": 21}), 400, bad, json!("logprobs")),
        case(RAW, json!({"prompt": "x", "best_of": 3}), 400, unsupported, json!("best_of")),
        case(RAW, json!({"prompt": "x", "suffix": "y"}), 400, unsupported, json!("suffix")),
        case("/tokenize", json!({}), 400, "missing_required_parameter", json!("content")),
        case("/detokenize", json!({"tokens": [9_999_999]}), 400, bad, json!("tokens[0]")),
        case("/v1/nothing", json!({}), 404, "unknown_path", Value::Null),
        case("/v1/models", json!({}), 405, "method_not_allowed", Value::Null),
    ];
    for Case { path, body, status, code, param } in cases {
        let shown = &body[..body.len().min(120)];
        let answer = call(address, "POST", path, &[], body.clone().into_bytes()).await;
        let error = answer.json()["error"].clone();
        assert_eq!(answer.status, status, "{path} {shown}: {error}");
        assert_eq!((&error["code"], &error["param"]), (&json!(code), &param), "{path} {shown}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{path} {shown}");
        assert!(error["type"].is_string(), "{path} {shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_beyond_the_context_is_told_with_both_numbers() {
    let address = shared().await;
    let answer = post(address, "/v1/completions", &json!({"prompt": "word ".repeat(3000)})).await;
    let error = &answer.json()["error"];
    assert_eq!(error["max_tokens"], 1024);
    let n_prompt = error["prompt_tokens"].as_u64().unwrap();
    assert!(n_prompt >= 3000);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("1024") && message.contains(&n_prompt.to_string()), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_ignored() {
    let address = shared().await;
    let body = json!({"messages": [{"role": "user", "content": "hi", "colour": "blue"}], "max_tokens": 1,
        "user": "me", "metadata": {}, "store": true, "some_future_field": [1, 2]});
    post(address, "/v1/chat/completions", &body).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_addresses_are_told_in_json() {
    let address = shared().await;
    for path in ["/v1", "/v1/", "/v1/engines", "/api/nothing", "/missing.js"] {
        let answer = get(address, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["code"], "unknown_path", "{path}");
    }
    let answer = call(address, "DELETE", "/v1/chat/completions", &[], vec![]).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("allow"), "POST");
    let answer = get(address, "/v1/models/no-such-model").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (404, &json!("model_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_100_megabytes_is_refused_and_the_refusal_arrives() {
    let address = shared().await;
    let answer = call(address, "POST", "/v1/chat/completions", &[], vec![b' '; 100 << 20]).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["code"], "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_or_body_that_does_not_come_is_given_up() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = start(|config| {
        config.models.clear();
        config.limits.head_timeout = Duration::from_millis(200);
        config.limits.body_timeout = Duration::from_millis(200);
    })
    .await;
    let limit = Duration::from_secs(5);
    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow").await.unwrap();
    let mut rest = Vec::new();
    tokio::time::timeout(limit, socket.read_to_end(&mut rest)).await.expect("closed").unwrap();

    let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{";
    socket.write_all(head).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(limit, socket.read_to_end(&mut answer)).await.expect("closed").unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body_timeout"), "{answer}");
    server.stop().await.unwrap();
}
