//! Export, import, and a conversation of two thousand messages.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{ask, conversation, expect, load, send, text, words};
use crate::client::get;
use crate::world;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_can_be_imported() {
    let running = world::start(|_| {}).await;
    let address = running.address;
    let id = conversation(address, json!({"max_tokens": 5, "temperature": 0.1})).await;
    let (_, first) = ask(address, &id, &words(None, "你好, export me")).await;
    ask(address, &id, &words(first["id"].as_str(), "and this")).await;
    let answer = get(address, &format!("/api/conversations/{id}/export")).await;
    let disposition = answer.header("content-disposition").to_owned();
    assert!(disposition.starts_with("attachment; filename=\"daybreak-"), "{disposition}");
    let file = answer.ok();
    assert_eq!((&file["format"], &file["version"]), (&json!("daybreak-conversations"), &json!(1)));
    assert_eq!(expect(send(address, "POST", "/api/import", &file).await, 200), json!({"imported": 1}));
    let all = get(address, "/api/export").await.ok();
    let conversations = all["conversations"].as_array().unwrap();
    assert_eq!(conversations.len(), 2);
    assert_ne!(conversations[0]["id"], conversations[1]["id"]);
    let said = |conversation: &Value| -> Vec<Value> {
        let messages = conversation["messages"].as_array().unwrap();
        messages
            .iter()
            .map(|message| json!([message["role"], message["parts"], message["receipt"]]))
            .collect()
    };
    assert_eq!(said(&conversations[0]), said(&conversations[1]));

    let mut broken = file.clone();
    broken["conversations"][0]["messages"][1]["parent_id"] = "nobody".into();
    let error = expect(send(address, "POST", "/api/import", &broken).await, 400);
    assert_eq!(error["error"]["param"], "conversations[0].messages[1].parent_id");
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_messages_load_quickly_and_can_go_on() {
    let running = world::start(|_| {}).await;
    let address = running.address;
    let messages: Vec<Value> = (0..2000)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            let parent = (n > 0).then(|| (n - 1).to_string());
            let words = format!("message {n} 的内容 {}", "and more words ".repeat(20));
            json!({"id": n.to_string(), "parent_id": parent, "role": role,
                   "parts": [{"type": "text", "text": words}]})
        })
        .collect();
    let file = json!({"format": "daybreak-conversations", "version": 1,
                      "conversations": [{"title": "long", "settings": {"max_tokens": 3}, "messages": messages}]});
    let since = Instant::now();
    expect(send(address, "POST", "/api/import", &file).await, 200);
    println!("import of 2000 messages: {:?}", since.elapsed());
    let listed = get(address, "/api/conversations").await.ok();
    let id = text(&listed["items"][0]["id"]);
    let mut times = Vec::new();
    let mut leaf = String::new();
    for _ in 0..5 {
        let since = Instant::now();
        let loaded = load(address, &id).await;
        times.push(since.elapsed());
        assert_eq!(loaded["messages"].as_array().unwrap().len(), 2000);
        leaf = text(&loaded["active_leaf_id"]);
    }
    println!("2000 messages over HTTP: {times:?}");
    let best = times.iter().min().unwrap();
    assert!(*best < Duration::from_millis(500), "{times:?}");
    let since = Instant::now();
    let found = get(address, "/api/conversations?q=内容").await.ok();
    println!("search: {:?}", since.elapsed());
    assert_eq!(found["items"].as_array().unwrap().len(), 1);

    let mut body = words(Some(&leaf), "go on");
    let path = format!("/api/conversations/{id}/messages");
    let since = Instant::now();
    let refused = expect(send(address, "POST", &path, &body).await, 409);
    println!("refused after {:?}: {}", since.elapsed(), refused["error"]["message"]);
    assert_eq!(refused["error"]["code"], "context_full");
    body["overflow"] = "drop_oldest".into();
    let since = Instant::now();
    let (_, answer) = ask(address, &id, &body).await;
    println!("answered without the oldest turns after {:?}", since.elapsed());
    assert!(answer["receipt"]["dropped"]["n_messages"].as_u64().unwrap() > 1900);
    running.stop().await.unwrap();
}
