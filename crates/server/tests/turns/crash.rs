//! `kill -9` in the middle of answers: what was acknowledged is there, and what was on a screen a second before.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use server::ServerConfig;

use crate::api::{conversation, finished, follow, load, message, said, say, told, words};
use crate::world;

const DIR: &str = "DAYBREAK_TEST_CRASH_DIR";

/// The child: a server on this data directory that says its address and serves until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the crash test as its child process"]
async fn child_that_serves_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let config = ServerConfig { ctx: Some(8192), ..world::config(dir.as_ref()) };
    let ready = |address: SocketAddr| writeln!(std::io::stdout(), "address {address}").unwrap();
    server::serve(config, ready, std::future::pending()).await.unwrap();
}

fn start(dir: &std::path::Path) -> (Child, SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_that_serves_until_it_is_killed", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let address =
        lines.find_map(|line| line.split("address ").nth(1).map(|text| text.parse().unwrap())).unwrap();
    (child, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_and_no_more_than_a_second_of_an_answer_is_lost() {
    let data = tempfile::tempdir().unwrap();
    let mut expected: Vec<(String, String, String, String)> = Vec::new();
    for round in 0..3_u64 {
        let (mut child, address) = start(data.path());
        for (conversation, user, answer, seen) in &expected {
            check(address, conversation, user, answer, seen).await;
        }
        // As long as the context allows: the fastest machine is not to be done before the kill.
        let mut settings = crate::api::endless();
        settings["max_tokens"] = json!(8000);
        // Each attempt draws its own: the known one ends some day, too.
        settings["seed"] = Value::Null;
        let mut attempts = 0..10;
        // What has been seen, and when.
        let (id, user, answer, seen) = 'attempt: loop {
            attempts.next().expect("ten answers ended before they could be interrupted");
            let id = conversation(address, settings.clone()).await;
            let question = words(None, &format!("Write a very long story, part {round}."));
            let (user, answer) = say(address, &id, &question).await;
            let mut events = follow(address, &answer, 0).await;
            let mut seen: Vec<(Instant, Value)> = Vec::new();
            let until = Instant::now() + Duration::from_millis(1500 + 370 * round);
            while Instant::now() < until {
                match tokio::time::timeout_at(until.into(), events.next()).await {
                    Ok(Some(event)) => seen.push((Instant::now(), event)),
                    // Whatever is drawn, now and then it is the end.
                    Ok(None) => continue 'attempt,
                    Err(_) => break,
                }
            }
            break (id, user, answer, seen);
        };
        child.kill().unwrap(); // SIGKILL
        let killed = Instant::now();
        child.wait().unwrap();
        let old: Vec<Value> = seen
            .into_iter()
            .filter(|(at, _)| killed - *at >= Duration::from_secs(1))
            .map(|(_, event)| event)
            .collect();
        assert!(!told(&old).is_empty(), "the answer had not begun a second before the kill");
        expected.push((id, user, answer, told(&old)));
    }
    let (mut child, address) = start(data.path());
    for (conversation, user, answer, seen) in &expected {
        check(address, conversation, user, answer, seen).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

async fn check(address: SocketAddr, conversation: &str, user: &str, answer: &str, seen: &str) {
    let loaded = load(address, conversation).await;
    assert!(said(message(&loaded, user)).starts_with("Write a very long story"));
    let message = message(&loaded, answer);
    assert_eq!((&message["status"], &message["error"]["code"]), (&json!("stopped"), &json!("interrupted")));
    assert!(said(message).starts_with(seen), "seen: {seen:?}\nsaved: {:?}", said(message));
    assert_eq!(&finished(address, answer).await, message, "its stream ends at once");
}
