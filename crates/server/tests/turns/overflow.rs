//! A conversation that no longer fits: refused with both numbers, or continued without its oldest turns, which is said.

use serde_json::{Value, json};

use crate::api::{ask, conversation, expect, load, say, send, text, words};
use crate::world::shared;

/// A conversation of 1024 tokens of context that is nearly full; its id and its last answer.
async fn nearly_full(address: std::net::SocketAddr) -> (String, Value) {
    let id = conversation(address, json!({"max_tokens": 4, "system_prompt": "You are a parrot."})).await;
    let mut parent: Option<String> = None;
    let mut last = Value::Null;
    for n in 0..4 {
        let body = words(parent.as_deref(), &format!("{n} {}", "one two three four five ".repeat(42)));
        let (_, answer) = ask(address, &id, &body).await;
        parent = Some(text(&answer["id"]));
        last = answer;
    }
    let n_prompt = last["receipt"]["prompt_tokens"].as_u64().unwrap();
    assert!((850..960).contains(&n_prompt), "the test's text has {n_prompt} tokens");
    (id, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_conversation_is_refused_with_both_numbers_and_nothing_is_saved() {
    let address = shared().await;
    let (id, last) = nearly_full(address).await;
    let mut body = words(last["id"].as_str(), &"six seven eight nine ten ".repeat(42));
    let path = format!("/api/conversations/{id}/messages");
    let refused = expect(send(address, "POST", &path, &body).await, 409);
    let error = &refused["error"];
    assert_eq!((&error["code"], &error["max_tokens"]), (&json!("context_full"), &json!(1024)));
    assert!(error["prompt_tokens"].as_u64().unwrap() > 1000, "{error}");
    assert_eq!(load(address, &id).await["messages"].as_array().unwrap().len(), 8);

    body["overflow"] = "drop_oldest".into();
    let (_, answer) = say(address, &id, &body).await;
    let events = crate::api::follow(address, &answer, 0).await.all().await;
    let notice = events.iter().find(|event| event["type"] == "notice").unwrap();
    assert_eq!(notice["code"], "dropped_turns");
    let receipt = &events.last().unwrap()["message"]["receipt"];
    assert_eq!(notice["n_messages"], receipt["dropped"]["n_messages"]);
    assert_eq!(notice["n_tokens"], receipt["dropped"]["n_tokens"]);
    let n_dropped = receipt["dropped"]["n_messages"].as_u64().unwrap();
    assert!(n_dropped >= 2 && n_dropped % 2 == 0, "whole turns: {receipt}");
    // System prompt, eight messages and the new one, less those dropped.
    assert_eq!(receipt["kept"]["n_messages"].as_u64().unwrap(), 10 - n_dropped);
    assert!(receipt["prompt_tokens"].as_u64().unwrap() <= 1020, "room for the four tokens: {receipt}");
    assert_eq!(load(address, &id).await["messages"].as_array().unwrap().len(), 10, "nothing is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_long_alone_is_refused_whatever_is_dropped() {
    let address = shared().await;
    let id = conversation(address, json!({})).await;
    let path = format!("/api/conversations/{id}/messages");
    let long = "word and ".repeat(2000);
    for overflow in ["refuse", "drop_oldest"] {
        let mut body = words(None, &long);
        body["overflow"] = overflow.into();
        let refused = expect(send(address, "POST", &path, &body).await, 400);
        let error = &refused["error"];
        assert_eq!((&error["code"], &error["max_tokens"]), (&json!("context_length_exceeded"), &json!(1024)));
        assert!(error["prompt_tokens"].as_u64().unwrap() > 3000);
    }
    assert_eq!(load(address, &id).await["messages"], json!([]));
}
