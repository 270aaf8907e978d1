//! Conversations that go on after a restart, however the server ended.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::serve::Server;
use crate::{daybreak, model, stderr};

/// The real model under a name of its own: pulled, so that its digest is known.
fn pull(home: &Path) {
    let catalog = home.join("catalog.toml");
    let entry = format!(
        "[[model]]\nname = \"kept:135m\"\ntitle = \"SmolLM2\"\narchitecture = \"llama\"\nparameters = 134_515_008\n\
         quant = \"Q4_1\"\nfile_size = 98_362_432\nlicense = \"Apache-2.0\"\nlanguages = [\"en\"]\n\
         context_length = 8192\npurpose = \"chat\"\n\
         sha256 = \"b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53\"\n\
         sources = [{{ path = {:?} }}]\n",
        model()
    );
    std::fs::write(&catalog, entry).expect("written");
    let output =
        daybreak(home).args(["pull", "kept:135m", "--catalog"]).arg(&catalog).output().expect("starts");
    assert!(output.status.success(), "{}", stderr(&output));
}

fn start(home: &Path) -> Server {
    Server::start_with(home, "kept:135m", &["--ctx", "4096"])
}

/// Says something and waits for the answer; its receipt.
pub(crate) fn say(server: &Server, id: &str, parent: Option<&str>, text: &str) -> (String, Json) {
    let body = json!({"parts": [{"type": "text", "text": text}], "parent_id": parent});
    let said = server.call("POST", &format!("/api/conversations/{id}/messages"), &body);
    let answer = said["answer"]["id"].as_str().expect("an id").to_owned();
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let whole = server.call("GET", &format!("/api/conversations/{id}"), &Json::Null);
        let messages = whole["messages"].as_array().expect("messages");
        let found = messages.iter().find(|message| message["id"] == *answer).expect("the answer");
        match found["status"].as_str() {
            Some("running") => assert!(Instant::now() < deadline, "the answer does not end"),
            Some("complete") => return (answer, found["receipt"].clone()),
            other => panic!("{other:?}: {found}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics");
    let line = text.lines().find(|line| line.starts_with(name)).expect("the metric");
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_of(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn a_conversation_survives_every_end_and_goes_with_its_deletion() {
    let home = tempfile::tempdir().expect("a folder");
    pull(home.path());
    let mut server = start(home.path());
    let settings = json!({"settings": {"temperature": 0, "max_tokens": 8}});
    let conversation = server.call("POST", "/api/conversations", &settings);
    let id = conversation["id"].as_str().expect("an id").to_owned();
    let kept = home.path().join(".local/share/daybreak/kv").join(&id);

    let long = "The sea was calm, and the boat lay still under a grey sky. ".repeat(90);
    let (mut parent, _) = say(&server, &id, None, &long);
    let mut n_restored = 0.0;
    for pause_ms in [0, 3, 10, 40, 400] {
        std::thread::sleep(Duration::from_millis(pause_ms));
        // Killed while it saves, at one moment or another.
        drop(server);
        server = start(home.path());
        let (answer, receipt) = say(&server, &id, Some(&parent), "And then?");
        parent = answer;
        n_restored = metric(&server, "daybreak_restored_tokens_total{");
        let n_cached = receipt["cached_tokens"].as_f64().expect("a number");
        assert!(n_cached >= n_restored, "{receipt}");
    }
    assert!(n_restored > 1000.0, "{n_restored} tokens came back after a rest of 400 ms");

    assert_eq!(server.terminate(), 0);
    assert!(bytes_of(&kept) > 20_000_000, "{} bytes in {}", bytes_of(&kept), kept.display());
    server = start(home.path());
    assert_eq!(metric(&server, "daybreak_kv_disk_bytes "), bytes_of(&kept) as f64);
    server.call("DELETE", &format!("/api/conversations/{id}"), &Json::Null);
    assert_eq!(metric(&server, "daybreak_kv_disk_bytes "), 0.0);
    assert!(!kept.exists(), "{} is there", kept.display());
    assert_eq!(server.terminate(), 0);
    assert_eq!(bytes_of(kept.parent().expect("a folder")), 0);
}
