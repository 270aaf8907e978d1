//! More models than fit into memory: who stays, who goes, and what is said when nobody can.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use server::ServerConfig;

use crate::{client, world};

/// Models that are one file under several names, loaded at the start one after the other.
fn models_of_one_file(config: &mut ServerConfig, folder: &Path, names: &[&str], limit: Option<u64>) {
    let link = |name: &&str| {
        let link = folder.join(format!("{name}.gguf"));
        if !link.exists() {
            std::os::unix::fs::symlink(world::model_path(), &link).unwrap();
        }
        link.to_str().unwrap().to_owned()
    };
    config.models = names.iter().map(link).collect();
    config.ctx = Some(512);
    config.kv_memory_bytes = Some(32 << 20);
    config.limits.max_model_bytes = limit;
}

async fn ask(address: SocketAddr, model: &str) -> client::Answer {
    let body = json!({"model": model, "prompt": "Once", "max_tokens": 1, "temperature": 0});
    client::post(address, "/v1/completions", &body).await
}

/// The models in memory, by name.
async fn loaded(address: SocketAddr) -> Vec<String> {
    let list = client::get(address, "/v1/models").await.ok();
    let items = list["data"].as_array().unwrap().iter();
    let mut names: Vec<String> = items
        .filter(|item| item["loaded"] == true)
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Bytes that one of them takes.
async fn bytes_of_one(folder: &Path) -> u64 {
    let server = world::start(|config| models_of_one_file(config, folder, &["one"], None)).await;
    let list = client::get(server.address, "/api/models").await.ok();
    let one = list["items"].as_array().unwrap().iter().find(|item| item["name"] == "one").unwrap().clone();
    server.stop().await.unwrap();
    assert_eq!(one["state"], "loaded");
    one["memory_needed"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_recently_used_model_goes_when_another_needs_its_memory() {
    let folder = tempfile::tempdir().unwrap();
    let limit = bytes_of_one(folder.path()).await * 5 / 2;
    let names = ["one", "two", "three"];
    let server = world::start(|config| models_of_one_file(config, folder.path(), &names, Some(limit))).await;
    let address = server.address;
    assert_eq!(loaded(address).await, ["three", "two"], "there is room for two, and one came first");
    // Loaded before three, but used after it.
    let said = ask(address, "two").await.ok()["choices"][0]["text"].clone();
    ask(address, "one").await.ok();
    assert_eq!(loaded(address).await, ["one", "two"], "three was used least recently");
    ask(address, "three").await.ok();
    assert_eq!(loaded(address).await, ["one", "three"]);
    assert_eq!(
        ask(address, "two").await.ok()["choices"][0]["text"],
        said,
        "it comes back when it is asked for"
    );
    assert_eq!(loaded(address).await, ["three", "two"]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_answers_stays_and_the_newcomer_is_told_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let one = bytes_of_one(folder.path()).await;
    let server =
        world::start(|config| models_of_one_file(config, folder.path(), &["one", "two"], Some(one * 3 / 2)))
            .await;
    let address = server.address;
    let long =
        json!({"model": "two", "prompt": "Once", "max_tokens": 500, "ignore_eos": true, "stream": true});
    let mut stream = client::stream(address, "/v1/completions", &long).await;
    stream.next().await.expect("it answers");
    let refused = ask(address, "one").await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    let error = &refused.json()["error"];
    assert_eq!(error["code"], "not_enough_memory");
    assert!(error["message"].as_str().unwrap().contains("one"), "{error}");
    let item =
        |list: &Value| list["items"].as_array().unwrap().iter().find(|item| item["name"] == "one").cloned();
    let list = client::get(address, "/api/models").await.ok();
    assert_eq!(item(&list).unwrap()["error"]["code"], "not_enough_memory", "the page is told, too");
    stream.next().await.expect("the answer goes on");
    drop(stream);
    // Once nobody uses it, it makes room.
    let since = Instant::now();
    while ask(address, "one").await.status != StatusCode::OK {
        assert!(since.elapsed() < Duration::from_secs(60), "an idle model keeps its memory");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(loaded(address).await, ["one"]);
    server.stop().await.unwrap();
}
