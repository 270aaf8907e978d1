//! Starting, refusing to start, ending.

use std::time::{Duration, Instant};

use serde_json::json;
use server::ServeError;

use crate::client::{get, post, stream};
use crate::world::{config, start};

/// Starts a server that must fail to start.
async fn refused(change: impl FnOnce(&mut server::ServerConfig)) -> ServeError {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    change(&mut config);
    let serving = server::serve(config, |_| panic!("it has started"), std::future::pending());
    tokio::time::timeout(Duration::from_secs(20), serving).await.expect("refused at once").unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_refused_with_its_reason() {
    let error = refused(|config| config.host = "0.0.0.0".to_string()).await;
    assert!(matches!(error, ServeError::KeyRequired { .. }), "{error}");
    assert!(error.to_string().contains("--api-key"), "{error}");
    let error = refused(|config| config.host = "chat.example".to_string()).await;
    assert!(matches!(error, ServeError::BadHost { .. }), "{error}");
    let error = refused(|config| config.cors_origins = vec!["chat.example".to_string()]).await;
    assert!(matches!(error, ServeError::BadOrigin { .. }), "{error}");
    let error = refused(|config| config.models = vec!["no-such-model".to_string()]).await;
    assert!(error.to_string().contains("no-such-model"), "{error}");
    let broken = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(broken.path(), b"GGUF but not really").unwrap();
    let path = broken.path().to_str().unwrap().to_string();
    let error = refused(|config| config.models = vec![path.clone()]).await;
    assert!(error.to_string().contains(&path), "{error}");

    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = refused(|config| config.port = port).await;
    assert!(matches!(error, ServeError::PortInUse { .. }), "{error}");
    assert!(error.to_string().contains("--port"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_data_directory_are_one_too_many() {
    let mut data_dir = None;
    let server = start(|config| {
        config.models.clear();
        data_dir = Some(config.data_dir.clone());
    })
    .await;
    let error = refused(|config| config.data_dir = data_dir.unwrap()).await;
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_here_is_told_by_health_and_requests() {
    let server = start(|config| {
        config.models.clear();
        // Nothing answers there, so the download of the default model fails.
        config.default_model = "no-such-model".to_string();
    })
    .await;
    let answer = get(server.address, "/health").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (503, &json!("no_model")));
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(post(server.address, "/v1/chat/completions", &body).await.status, 404);
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_waits_for_short_answers_and_fails_long_ones_in_their_stream() {
    let server = start(|config| {
        config.ctx = Some(8192);
        config.limits.shutdown_grace = Duration::from_millis(1500);
    })
    .await;
    let health = get(server.address, "/health").await;
    assert_eq!(health.ok()["status"], "ok");
    let path = "/v1/chat/completions";
    let asked = |n: usize| {
        json!({"messages": [{"role": "user", "content": "Tell a story."}], "ignore_eos": true, "stream": true,
            "max_tokens": n})
    };
    let mut long = stream(server.address, path, &asked(8000)).await;
    let mut short = stream(server.address, path, &asked(8)).await;
    long.next().await.unwrap();
    short.next().await.unwrap();
    let since = Instant::now();
    let stopping = tokio::spawn(server.stop());
    let rest = short.all().await;
    assert_eq!(
        rest.last().unwrap()["choices"][0]["finish_reason"],
        "length",
        "the short one ends as it should"
    );
    let mut last = None;
    while let Some(event) = long.next().await {
        last = Some(event);
    }
    assert_eq!(last.unwrap()["error"]["code"], "shutting_down");
    stopping.await.unwrap().unwrap();
    assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
}
