//! The stream of an answer: left, taken up again, followed by several, and never in the answer's way.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::{conversation, finished, follow, follow_with, load, message, said, say, told, words};
use crate::world::shared;

fn last_seq(events: &[Value]) -> u64 {
    events.last().unwrap()["seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_left_is_taken_up_where_it_was() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 150})).await;
    let (_, answer) = say(address, &id, &words(None, "Write about the history of bridges.")).await;
    let mut all = Vec::new();
    // Three times a bit, each on a connection that is then dropped.
    for n_chars in [5, 60, 60] {
        let after = if all.is_empty() { 0 } else { last_seq(&all) };
        let mut events = follow(address, &answer, after).await;
        all.extend(events.until_text(n_chars).await);
        drop(events);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    all.extend(follow(address, &answer, last_seq(&all)).await.all().await);
    let seqs: Vec<u64> = all.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "no event twice, none out of order: {seqs:?}");
    let done = &all.last().unwrap()["message"];
    assert_eq!(told(&all), said(done));
    assert!(said(done).len() > 125);
    assert_eq!(told(&follow(address, &answer, 0).await.all().await), said(done), "all of it once more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_when_nobody_looks() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 60})).await;
    let (_, answer) = say(address, &id, &words(None, "Write about the moon.")).await;
    let mut glance = follow(address, &answer, 0).await;
    glance.until_text(1).await;
    drop(glance);
    let since = Instant::now();
    loop {
        let loaded = load(address, &id).await;
        if message(&loaded, &answer)["status"] == "complete" {
            assert!(said(message(&loaded, &answer)).len() > 60);
            break;
        }
        assert!(since.elapsed() < crate::api::LIMIT, "it never ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_follow_see_the_same() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 60})).await;
    let (_, answer) = say(address, &id, &words(None, "Write about rivers.")).await;
    let mut first = follow(address, &answer, 0).await;
    let mut begun = first.until_text(20).await;
    let others: Vec<_> = (0..20)
        .map(|_| {
            let answer = answer.clone();
            tokio::spawn(async move { follow(address, &answer, 0).await.all().await })
        })
        .collect();
    begun.extend(first.all().await);
    for other in others {
        assert_eq!(other.await.unwrap(), begun);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reloaded_page_finds_the_running_answer_and_joins_it() {
    let address = shared().await;
    let id = conversation(address, crate::api::endless()).await;
    let (_, answer) = say(address, &id, &words(None, "Write a long story.")).await;
    let mut events = follow(address, &answer, 0).await;
    let shown = events.until_text(30).await;
    let since = Instant::now();
    // What has been on a screen for a second is on disk.
    let running = loop {
        let loaded = load(address, &id).await;
        let running = message(&loaded, &answer).clone();
        if said(&running).starts_with(&told(&shown)) {
            break running;
        }
        assert!(since.elapsed() < Duration::from_secs(1), "shown: {shown:?}, saved: {running}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(running["status"], "running");
    let rest = follow(address, &answer, running["last_seq"].as_u64().unwrap()).await.all().await;
    let done = &rest.last().unwrap()["message"];
    assert_eq!(said(&running) + &told(&rest), said(done));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browsers_own_header_takes_the_stream_up_too() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 20})).await;
    let (_, answer) = say(address, &id, &words(None, "Hello there.")).await;
    let done = finished(address, &answer).await;
    let seen = done["last_seq"].as_u64().unwrap() - 1;
    let path = format!("/api/messages/{answer}/events");
    let headers = [("last-event-id", seen.to_string())];
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let events = follow_with(address, &path, &headers).await.all().await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["message"], done);
}
