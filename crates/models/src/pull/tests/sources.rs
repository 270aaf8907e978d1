//! One source after the other; tokens, licences, proxies; what is right and what is left behind.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::catalog::Source;
use crate::pull::{Phase, SourceError};

#[tokio::test]
async fn a_model_comes_through_the_redirect_whole_and_checked() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(1));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let (result, told) = pull_quietly(&library, "tiny", &settings(&server)).await;
    let model = result.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert_eq!(model.name, "tiny:1");
    assert_eq!(model.sha256, Some(sha256(&bytes)));
    assert_eq!(left_behind(&library), ["tiny-1.gguf", "tiny-1.json"]);
    assert_eq!(library.resolve("tiny:1").unwrap(), model);
    let last = told.last().unwrap();
    assert_eq!(
        (last.phase, last.done, last.total),
        (Phase::Checking, bytes.len() as u64, Some(bytes.len() as u64))
    );
    assert!(told.iter().any(|progress| progress.phase == Phase::Downloading), "{told:?}");
    // Asked again, nothing is fetched again.
    let before = server.requests("cdn").len();
    pull_quietly(&library, "tiny", &settings(&server)).await.0.unwrap();
    assert_eq!(server.requests("cdn").len(), before);
}

#[tokio::test]
async fn the_token_goes_to_the_hub_and_never_to_the_host_it_redirects_to() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(2));
    server.put(REPO, FILE, &bytes);
    server.gate(REPO);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let settings = Settings { hf_token: Some("good".to_string()), ..settings(&server) };
    pull_quietly(&library, "tiny:1", &settings).await.0.unwrap();
    let authorization = |host| -> Vec<Option<String>> {
        server.requests(host).iter().map(|request| request.headers.get("authorization").cloned()).collect()
    };
    assert_eq!(authorization("hub"), [Some("Bearer good".to_string())]);
    assert_eq!(authorization("cdn"), [None]);
    assert!(!format!("{settings:?}").contains("good"), "the token stays out of logs");
}

#[tokio::test]
async fn a_gated_model_says_where_to_accept_the_licence() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(3));
    server.put(REPO, FILE, &bytes);
    server.gate(REPO);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let error = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "model_gated");
    let expected = format!("accept the licence at {}/{REPO} and set HF_TOKEN", server.hub);
    assert!(error.to_string().contains(&expected), "{error}");
    // With a token that has no access, the message speaks of its account.
    let settings = Settings { hf_token: Some("other".to_string()), ..settings(&server) };
    let error = pull_quietly(&library, "tiny:1", &settings).await.0.unwrap_err();
    assert!(error.to_string().contains("with the account that HF_TOKEN belongs to"), "{error}");
    assert!(left_behind(&library).is_empty());
}

#[tokio::test]
async fn a_wrong_hash_says_so_and_leaves_nothing() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(4));
    server.put(REPO, FILE, &bytes);
    server.faults(Faults { corrupt: true, ..Faults::default() });
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let error = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "wrong_content");
    assert!(error.to_string().contains(&sha256(&bytes)), "{error}");
    assert!(left_behind(&library).is_empty(), "{:?}", left_behind(&library));
}

#[tokio::test]
async fn a_file_of_another_length_is_not_even_begun() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(5));
    server.put(REPO, FILE, &bytes[..1000]);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let error = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap_err();
    assert!(error.to_string().contains("expected 500004 bytes, found 1000"), "{error}");
    assert!(left_behind(&library).is_empty());
}

#[tokio::test]
async fn sources_are_tried_in_order_and_every_failure_is_told() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(6));
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_url = format!("http://{}/model.gguf", silent.local_addr().unwrap());
    server.put(REPO, "wrong.gguf", &model_bytes(7));
    server.put(REPO, FILE, &bytes);
    let missing = Source::HuggingFace {
        repo: REPO.to_string(),
        file: Some("missing.gguf".to_string()),
        quant: None,
        revision: "main".to_string(),
    };
    let bad = vec![
        Source::Url("http://no-such-host.invalid/model.gguf".to_string()),
        Source::Url(silent_url),
        missing,
        Source::Url(server.file_url(REPO, "wrong.gguf")),
        Source::File(folder.path().join("nowhere.gguf")),
    ];
    let good = [bad.clone(), vec![hub_source()]].concat();
    let library = library(folder.path(), vec![entry("good:1", &bytes, good), entry("bad:1", &bytes, bad)]);
    let error = pull_quietly(&library, "bad:1", &settings(&server)).await.0.unwrap_err();
    let PullError::AllSourcesFailed { failures, .. } = &error else { panic!("{error}") };
    let errors: Vec<&SourceError> = failures.iter().map(|failure| &failure.error).collect();
    assert!(
        matches!(
            errors.as_slice(),
            [
                SourceError::Unreachable { .. } | SourceError::NoAnswer { .. },
                SourceError::NoAnswer { .. },
                SourceError::NotFound { .. },
                SourceError::WrongHash { .. },
                SourceError::File { .. }
            ]
        ),
        "{errors:?}"
    );
    let text = error.to_string();
    for part in
        ["no-such-host.invalid", "did not answer within 2 s", "missing.gguf", "wrong content", "nowhere.gguf"]
    {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(left_behind(&library).is_empty());
    let started = Instant::now();
    pull_quietly(&library, "good:1", &settings(&server)).await.0.unwrap();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[test]
fn a_source_is_given_up_after_five_seconds_unless_told_otherwise() {
    assert_eq!(Settings::from_vars(|_| None).reach_limit, Duration::from_secs(5));
}

#[tokio::test]
async fn an_overloaded_source_is_asked_again() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(8));
    server.put(REPO, FILE, &bytes);
    server.faults(Faults { status: (2, 503), ..Faults::default() });
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(server.requests("cdn").len(), 3);
}

#[tokio::test]
async fn a_proxy_is_asked_instead_of_the_host() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(9));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let settings = Settings {
        hf_endpoint: "http://hub.invalid".to_string(),
        http_proxy: Some(server.hub.clone()),
        no_proxy: Some("127.0.0.1".to_string()),
        ..settings(&server)
    };
    pull_quietly(&library, "tiny:1", &settings).await.0.unwrap();
    assert!(
        server.requests("hub")[0].target.starts_with("http://hub.invalid/"),
        "{:?}",
        server.requests("hub")
    );
    // The second host is in `no_proxy`.
    assert!(server.requests("cdn")[0].target.starts_with("/blob/"));
}

#[tokio::test]
async fn a_local_file_is_copied_and_checked() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(10));
    let path = folder.path().join("there.gguf");
    std::fs::write(&path, &bytes).unwrap();
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![Source::File(path.clone())])]);
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert!(path.exists() && model.path() != path);
}

#[tokio::test]
async fn an_address_without_digest_must_at_least_give_a_gguf_file() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(11));
    server.put(REPO, "page.gguf", b"<html>sign in</html>");
    server.put(REPO, FILE, &bytes);
    let unverified = |name: &str, file: &str| CatalogEntry {
        sha256: None,
        unverified: true,
        ..entry(name, &bytes, vec![Source::Url(server.file_url(REPO, file))])
    };
    let library = library(folder.path(), vec![unverified("page:1", "page.gguf"), unverified("good:1", FILE)]);
    let error = pull_quietly(&library, "page:1", &settings(&server)).await.0.unwrap_err();
    assert!(error.to_string().contains("not a GGUF file"), "{error}");
    assert!(left_behind(&library).is_empty());
    let model = pull_quietly(&library, "good:1", &settings(&server)).await.0.unwrap();
    assert_eq!(model.sha256, Some(sha256(&bytes)));
}

#[tokio::test]
async fn what_does_not_fit_on_the_disk_is_not_begun() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(12));
    server.put(REPO, FILE, &bytes);
    server.lie_about_size(1 << 60);
    let library = library(folder.path(), Vec::new());
    let error = pull_quietly(&library, &format!("hf:{REPO}"), &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "disk_full", "{error}");
    assert!(error.to_string().contains("1152.9 PB"), "{error}");
    assert!(left_behind(&library).is_empty());
    assert!(server.requests("cdn").is_empty());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(13));
    std::fs::write(folder.path().join("models"), "in the way").unwrap();
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let error = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "io_error");
    assert!(error.to_string().contains("models"), "{error}");
}
