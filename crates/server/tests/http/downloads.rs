//! Downloads through the page's API, from a server that behaves like the hub.

// Shared with the tests of `models`, which need more of it.
#[allow(dead_code)]
#[path = "../../../models/src/pull/tests/hub_server.rs"]
mod hub_server;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use hub_server::{Faults, HubServer};
use models::{CacheFolders, Catalog, Library, LibraryConfig, Settings};
use serde_json::{Value, json};
use server::ServerConfig;
use sha2::{Digest, Sha256};

use crate::{client, world};

const NAME: &str = "tiny:1";
const REPO: &str = "maker/Tiny-GGUF";
const FILE: &str = "tiny-Q8_0.gguf";
/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";
/// Far more than any wait here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// For the hub's listing, too.
fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 400 kB that begin like a model and repeat nowhere.
fn content() -> Vec<u8> {
    let noise = (0..100_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    b"GGUF".iter().copied().chain(noise).collect()
}

/// How the world outside is reached: this hub and nothing else.
fn only(hub: &str) -> Settings {
    Settings {
        hf_endpoint: hub.to_string(),
        modelscope_endpoint: NOWHERE.to_string(),
        python: PathBuf::from("/nonexistent/python3"),
        reach_limit: Duration::from_secs(2),
        ..Settings::from_vars(|_| None)
    }
}

/// A server whose catalog holds the one model, beside the model that is loaded at the start.
fn with_catalog(config: &mut ServerConfig, hub: &str, bytes: &[u8]) {
    let text = format!(
        r#"
        [[model]]
        name = "{NAME}"
        title = "Tiny"
        architecture = "llama"
        parameters = 1000
        quant = "Q8_0"
        file_size = {}
        license = "MIT"
        languages = ["en"]
        context_length = 128
        sha256 = "{}"
        sources = [{{ hf = "{REPO}", file = "{FILE}" }}]
        "#,
        bytes.len(),
        sha256(bytes)
    );
    let file = config.data_dir.join("catalog.toml");
    std::fs::write(&file, text).unwrap();
    config.library = library(config, Catalog::with_files(&[file]).unwrap());
    config.pull = only(hub);
}

fn library(config: &ServerConfig, catalog: Catalog) -> Library {
    Library::new(LibraryConfig {
        models_dir: config.data_dir.join("models"),
        shared_dir: None,
        caches: CacheFolders::default(),
        catalog,
    })
}

/// What the page is told of a model.
async fn listed(address: SocketAddr, name: &str) -> Value {
    let list = client::get(address, "/api/models").await.ok();
    let item = list["items"].as_array().unwrap().iter().find(|item| item["name"] == name);
    item.unwrap_or_else(|| panic!("no {name} in {list}")).clone()
}

/// Looks again and again, as the page does, until the model is as it should be.
async fn wait_until(address: SocketAddr, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let since = Instant::now();
    loop {
        let item = listed(address, name).await;
        if is_it(&item) {
            return item;
        }
        assert!(since.elapsed() < PATIENCE, "after {PATIENCE:?} it is {item}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pull(address: SocketAddr) -> client::Answer {
    client::post(address, &format!("/api/models/{NAME}/pull"), &json!({})).await
}

async fn cancel(address: SocketAddr) -> client::Answer {
    client::call(address, "DELETE", &format!("/api/models/{NAME}/pull"), &[], Vec::new()).await
}

/// Files in the models folder that bear the model's name.
fn files(models_dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(models_dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("tiny-1")).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_tells_its_progress_is_cancelled_and_goes_on_where_it_was() {
    let (hub, bytes) = (HubServer::start(), content());
    hub.put(REPO, FILE, &bytes);
    hub.faults(Faults { slow: Some(Duration::from_millis(30)), ..Faults::default() });
    let mut models_dir = PathBuf::new();
    let server = world::start(|config| {
        with_catalog(config, &hub.hub, &bytes);
        models_dir = config.library.models_dir().to_path_buf();
    })
    .await;
    let address = server.address;
    assert_eq!(listed(address, NAME).await["state"], "available");
    assert_eq!(cancel(address).await.status, StatusCode::NOT_FOUND, "nothing runs yet");

    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED);
    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED, "once more changes nothing");
    let total = bytes.len() as u64;
    let done = |item: &Value| item["progress"]["done"].as_u64().unwrap_or(0);
    let early = wait_until(address, NAME, |item| done(item) > 0).await;
    assert_eq!(early["state"], "downloading");
    assert_eq!(
        (&early["progress"]["total"], &early["progress"]["phase"]),
        (&json!(total), &json!("downloading"))
    );
    let later = wait_until(address, NAME, |item| done(item) > done(&early)).await;
    assert!(done(&later) < total, "it was to be cancelled on its way: {later}");

    assert_eq!(cancel(address).await.status, StatusCode::NO_CONTENT);
    let item = wait_until(address, NAME, |item| item["state"] == "available").await;
    assert!(item.get("error").is_none(), "a cancelled download is no failure: {item}");
    assert_eq!(files(&models_dir), ["tiny-1.gguf.part", "tiny-1.gguf.part.json"]);
    let kept = std::fs::metadata(models_dir.join("tiny-1.gguf.part")).unwrap().len();
    assert!((1..total).contains(&kept), "{kept} bytes are kept");

    hub.faults(Faults::default());
    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED);
    let item = wait_until(address, NAME, |item| item["state"] == "downloaded").await;
    assert_eq!((&item["origin"], &item["file_size"]), (&json!("pulled"), &json!(total)));
    let starts: Vec<_> = hub.requests("cdn").iter().map(hub_server::Request::range_start).collect();
    assert_eq!(starts.len(), 2, "one request before the cancelling, one after it: {starts:?}");
    assert_eq!(starts[1], Some(kept), "what was here is not fetched again");
    assert_eq!(files(&models_dir), ["tiny-1.gguf", "tiny-1.json"]);
    assert_eq!(std::fs::read(models_dir.join("tiny-1.gguf")).unwrap(), bytes);
    assert_eq!(cancel(address).await.status, StatusCode::NOT_FOUND, "it has ended");

    let removed = client::call(address, "DELETE", &format!("/api/models/{NAME}"), &[], Vec::new()).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(listed(address, NAME).await["state"], "available");
    assert_eq!(files(&models_dir), [""; 0]);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_fails_tells_why_and_may_be_tried_again() {
    let (hub, bytes) = (HubServer::start(), content());
    hub.put(REPO, FILE, &bytes);
    hub.faults(Faults { corrupt: true, ..Faults::default() });
    let mut models_dir = PathBuf::new();
    let server = world::start(|config| {
        with_catalog(config, &hub.hub, &bytes);
        models_dir = config.library.models_dir().to_path_buf();
    })
    .await;
    let address = server.address;
    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED);
    let item = wait_until(address, NAME, |item| item["state"] == "failed").await;
    assert_eq!(item["error"]["code"], "wrong_content", "{item}");
    let message = item["error"]["message"].as_str().unwrap();
    assert!(message.contains("sha256") && message.contains(&sha256(&bytes)), "{message}");
    assert!(!message.contains('\n'), "{message}");
    assert_eq!(files(&models_dir), [""; 0], "nothing of it stays");
    // Whoever asks for it is told that it is not here.
    let body = json!({"model": NAME, "messages": [{"role": "user", "content": "hi"}]});
    let answer = client::post(address, "/v1/chat/completions", &body).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("model_not_downloaded"))
    );

    assert_eq!(cancel(address).await.status, StatusCode::NO_CONTENT, "the failure is forgotten");
    assert_eq!(listed(address, NAME).await["state"], "available");
    hub.faults(Faults::default());
    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED);
    let item = wait_until(address, NAME, |item| item["state"] == "downloaded").await;
    assert!(item.get("error").is_none(), "{item}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_cannot_be_reached_is_told_and_unknown_names_are_refused() {
    let bytes = content();
    let server = world::start(|config| with_catalog(config, NOWHERE, &bytes)).await;
    let address = server.address;
    assert_eq!(pull(address).await.status, StatusCode::ACCEPTED);
    let item = wait_until(address, NAME, |item| item["state"] == "failed").await;
    assert_eq!(item["error"]["code"], "sources_unreachable", "{item}");
    let message = item["error"]["message"].as_str().unwrap();
    assert!(message.contains(NAME) && message.contains("127.0.0.1:9"), "{message}");
    let answer = client::post(address, "/api/models/nobody:1/pull", &json!({})).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("model_not_found"))
    );
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_model_the_server_comes_up_and_says_what_is_missing() {
    let server = world::start(|config| {
        config.models.clear();
        config.library = library(config, Catalog::builtin());
        config.pull = only(NOWHERE);
    })
    .await;
    let address = server.address;
    // The page is there, and is told which model was tried and why it did not come.
    assert_eq!(client::get(address, "/").await.status, StatusCode::OK);
    assert_eq!(client::get(address, "/api/state").await.ok()["default_model"], "smollm2:135m");
    let item = wait_until(address, "smollm2:135m", |item| item["state"] == "failed").await;
    assert_eq!(item["default"], true);
    let message = item["error"]["message"].as_str().unwrap();
    assert!(message.contains("127.0.0.1:9"), "{message}");
    let health = client::get(address, "/health").await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["error"]["code"], "no_model");

    // So are programs, and a person who asks all the same.
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let answer = client::post(address, "/v1/chat/completions", &body).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    assert_eq!(answer.json()["error"]["code"], "model_not_downloaded");
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("smollm2:135m") && message.contains("daybreak pull"), "{message}");
    assert_eq!(client::get(address, "/v1/models").await.ok()["data"], json!([]));
    let id = client::post(address, "/api/conversations", &json!({})).await.json()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let said = json!({"parts": [{"type": "text", "text": "hi"}]});
    let answer = client::post(address, &format!("/api/conversations/{id}/messages"), &said).await;
    assert_eq!(
        (answer.status, &answer.json()["error"]["code"]),
        (StatusCode::NOT_FOUND, &json!("model_not_downloaded"))
    );
    server.stop().await.unwrap();
}
