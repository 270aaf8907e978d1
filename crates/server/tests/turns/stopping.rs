//! Stop, go on, and what happens to answers when the server ends.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{conversation, expect, finished, follow, load, message, said, say, send, told, words};
use crate::world::{self, shared};

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_answer_keeps_what_it_said_and_can_go_on() {
    let address = shared().await;
    let id = conversation(address, crate::api::endless()).await;
    let (_, answer) = say(address, &id, &words(None, "Write a very long story about a river.")).await;
    let mut events = follow(address, &answer, 0).await;
    let mut seen = events.until_text(40).await;
    let since = Instant::now();
    expect(send(address, "POST", &format!("/api/messages/{answer}/stop"), &json!({})).await, 204);
    println!("stopped and saved after {:?}", since.elapsed());
    seen.extend(events.all().await);
    let stopped = &seen.last().unwrap()["message"];
    assert_eq!(stopped["status"], "stopped");
    assert_eq!(stopped["receipt"]["finish_reason"], "cancelled");
    assert_eq!(told(&seen), said(stopped));
    assert_eq!(message(&load(address, &id).await, &answer), stopped);
    expect(send(address, "POST", &format!("/api/messages/{answer}/stop"), &json!({})).await, 204);

    let path = format!("/api/messages/{answer}/continue");
    let running = expect(send(address, "POST", &path, &json!({})).await, 201)["answer"].clone();
    assert_eq!((&running["id"], &running["status"]), (&json!(answer), &json!("running")));
    assert_eq!(said(&running), said(stopped));
    let last_seq = running["last_seq"].as_u64().unwrap();
    let mut events = follow(address, &answer, last_seq).await;
    let mut more = events.until_text(30).await;
    expect(send(address, "POST", &format!("/api/messages/{answer}/stop"), &json!({})).await, 204);
    more.extend(events.all().await);
    assert!(more.iter().all(|event| event["seq"].as_u64().unwrap() > last_seq));
    let longer = &more.last().unwrap()["message"];
    assert_eq!(said(longer), said(stopped) + &told(&more));
    assert_eq!(longer["receipt"]["continued"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_saves_its_answers_and_the_next_one_shows_them() {
    let data = tempfile::tempdir().unwrap();
    let on_same_data = |config: &mut server::ServerConfig| {
        config.data_dir = data.path().to_path_buf();
        config.limits.shutdown_grace = Duration::from_millis(100);
    };
    let running = world::start(on_same_data).await;
    let address = running.address;
    let id = conversation(address, crate::api::endless()).await;
    let (_, answer) = say(address, &id, &words(None, "Write a very long story.")).await;
    let mut events = follow(address, &answer, 0).await;
    let mut seen = events.until_text(30).await;
    let since = Instant::now();
    let (ended, rest) = tokio::join!(running.stop(), events.all());
    ended.unwrap();
    assert!(since.elapsed() < Duration::from_secs(8), "ending took {:?}", since.elapsed());
    seen.extend(rest);
    let told_last = seen.last().unwrap()["message"].clone();
    assert_eq!(told_last["status"], "stopped");
    assert_eq!(told_last["error"]["code"], "interrupted");

    let running = world::start(on_same_data).await;
    let loaded = load(running.address, &id).await;
    assert_eq!(message(&loaded, &answer), &told_last);
    assert_eq!(told(&seen), said(&told_last));
    assert_eq!(finished(running.address, &answer).await, told_last, "a late stream ends at once");
    running.stop().await.unwrap();
}
