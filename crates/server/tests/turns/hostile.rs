//! Whatever is sent: a 4xx that says what was expected, never a 500, and the server answers on.

use serde_json::{Value, json};

use crate::api::{conversation, expect, say, send, words};
use crate::client::{call, get, post};
use crate::world::shared;

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bodies_are_named_by_their_field() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 3})).await;
    let conversations = "/api/conversations".to_owned();
    let one = format!("/api/conversations/{id}");
    let messages = format!("/api/conversations/{id}/messages");
    let (_, answer) = say(address, &id, &words(None, "hi")).await;
    let again = format!("/api/messages/{answer}/regenerate");
    let part = |part: Value| json!({"parts": [part]});
    let cases = [
        ("POST", &conversations, json!({"title": 5}), "title"),
        ("POST", &conversations, json!({"title": "x".repeat(400)}), "title"),
        ("POST", &conversations, json!({"model": "x".repeat(5000)}), "model"),
        ("POST", &conversations, json!({"settings": []}), "settings"),
        ("POST", &conversations, json!({"settings": {"temperature": 99}}), "settings.temperature"),
        ("PATCH", &one, json!({"title": "  "}), "title"),
        ("PATCH", &one, json!({"settings": {"top_k": "x"}}), "settings.top_k"),
        ("PATCH", &one, json!({"active_leaf_id": "nonsense"}), "active_leaf_id"),
        ("PATCH", &one, json!({"active_leaf_id": id}), "active_leaf_id"),
        ("POST", &messages, json!({}), "parts"),
        ("POST", &messages, json!({"parts": []}), "parts"),
        ("POST", &messages, json!({"parts": "x"}), "parts"),
        ("POST", &messages, part(json!({"type": "text", "text": " \n"})), "parts"),
        ("POST", &messages, part(json!({"type": "text"})), "parts[0].text"),
        ("POST", &messages, part(json!({"type": "picture", "text": ""})), "parts[0].type"),
        ("POST", &messages, part(json!({"type": "reasoning", "text": "x"})), "parts[0].type"),
        ("POST", &messages, part(json!({"type": "file", "text": "x"})), "parts[0].name"),
        ("POST", &messages, part(json!(null)), "parts[0].text"),
        ("POST", &messages, json!({"id": "no uuid", "parts": [{"type": "text", "text": "x"}]}), "id"),
        ("POST", &messages, words(Some("no uuid"), "x"), "parent_id"),
        ("POST", &messages, words(Some("01890000-0000-7000-8000-000000000000"), "x"), "parent_id"),
        ("POST", &messages, json!({"overflow": "maybe", "parts": []}), "overflow"),
        ("POST", &again, json!({"overflow": "later"}), "overflow"),
    ];
    let mut wrong = Vec::new();
    for (method, path, body, param) in cases {
        let answer = send(address, method, path, &body).await;
        let error = answer.json();
        if answer.status != 400 || error["error"]["param"] != param {
            wrong.push(format!("{method} {path} {body}: {} {error}", answer.status));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_are_none_and_ids_of_nothing_are_not_found() {
    let address = shared().await;
    let ids = [
        "01890000-0000-7000-8000-000000000000",
        "x",
        "..%2f..%2fetc%2fpasswd",
        "%00",
        "%ff",
        "'%20OR%201=1%20--",
        "99999999999999999999",
        &"a".repeat(4000),
    ];
    let routes = [
        ("GET", "/api/conversations/{id}"),
        ("PATCH", "/api/conversations/{id}"),
        ("DELETE", "/api/conversations/{id}"),
        ("POST", "/api/conversations/{id}/restore"),
        ("GET", "/api/conversations/{id}/export"),
        ("DELETE", "/api/messages/{id}"),
        ("POST", "/api/messages/{id}/restore"),
        ("POST", "/api/messages/{id}/regenerate"),
        ("POST", "/api/messages/{id}/continue"),
        ("POST", "/api/messages/{id}/stop"),
        ("GET", "/api/messages/{id}/events"),
    ];
    for id in ids {
        for (method, route) in routes {
            let answer = send(address, method, &route.replace("{id}", id), &json!({})).await;
            assert_eq!(answer.status, 404, "{method} {route} {id}: {}", answer.text());
            assert_eq!(answer.json()["error"]["code"], "not_found", "{method} {route} {id}");
        }
    }
    let said = words(None, "x");
    let answer = send(address, "POST", "/api/conversations/x/messages", &said).await;
    assert_eq!(expect(answer, 404)["error"]["code"], "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_queries_bodies_and_models_are_refused() {
    let address = shared().await;
    let id = conversation(address, json!({})).await;
    for query in ["limit=-1", "limit=x", "before=x", "before=1:2", "limit=99999999999999999999999"] {
        let answer = get(address, &format!("/api/conversations?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
    }
    for query in ["q=%00", "q=%ff", "q=%22%20AND", "limit=0", "limit=500", "q=&before=", "unknown=1"] {
        let answer = get(address, &format!("/api/conversations?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    }
    let path = format!("/api/conversations/{id}/messages");
    let headers = [("content-type", "application/json")];
    for body in ["", "{", "[1]", "null", "\"x\"", "{\"parts\": [", "\u{feff}{}"] {
        let answer = call(address, "POST", &path, &headers, body.as_bytes().to_vec()).await;
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
    }
    let nested = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let answer = call(address, "POST", "/api/import", &headers, nested.into_bytes()).await;
    assert_eq!(answer.status, 400);
    for model in ["no-such-model", "../../etc/passwd", "/etc/passwd"] {
        let mut body = words(None, "x");
        body["model"] = model.into();
        let error = expect(send(address, "POST", &path, &body).await, 404);
        assert_eq!(error["error"]["code"], "model_not_found", "{model}: {error}");
    }
    let mut body = words(None, "x");
    body["model"] = "qwen2.5-coder:0.5b".into();
    let error = expect(send(address, "POST", &path, &body).await, 404);
    assert_eq!(error["error"]["code"], "model_not_downloaded");
    let answer = get(address, "/api/messages/x/events?after=-1").await;
    assert_eq!(answer.status, 404);
    for body in [json!({"leaf_id": "x"}), json!({"conversation_id": 5}), json!({"parts": [1]})] {
        let answer = post(address, "/api/count", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_any_characters_comes_back_as_it_was() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 2})).await;
    let nasty = "\u{202e}<script>alert(1)</script>\u{1}\u{7f}\u{fffe}👩‍🚀 </s><|im_end|>\r\n\t\"\\";
    let (user, _) = crate::api::ask(address, &id, &words(None, nasty)).await;
    let loaded = crate::api::load(address, &id).await;
    assert_eq!(crate::api::said(crate::api::message(&loaded, &user)), nasty);
    let (user, _) = crate::api::ask(address, &id, &words(None, "a\0b")).await;
    let loaded = crate::api::load(address, &id).await;
    assert_eq!(crate::api::said(crate::api::message(&loaded, &user)), "a\u{fffd}b");
}
