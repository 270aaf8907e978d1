//! Downloads that break off: by the other side, by us, by `kill -9`; and parts that belong to something else.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::library::RemoveError;
use crate::pull::SourceError;
use crate::pull::part::{PartIdentity, PartPaths};

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_broke() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(21));
    server.put(REPO, FILE, &bytes);
    server.faults(Faults { cut: (3, 100_000), ..Faults::default() });
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    let starts: Vec<Option<u64>> =
        server.requests("cdn").iter().map(|request| request.range_start()).collect();
    assert_eq!(starts, [None, Some(100_000), Some(200_000), Some(300_000)]);
}

#[tokio::test]
async fn a_transfer_that_goes_silent_is_broken_off_and_resumed() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(22));
    server.put(REPO, FILE, &bytes);
    server.faults(Faults { stall: (1, 100_000), ..Faults::default() });
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert_eq!(server.requests("cdn")[1].range_start(), Some(100_000));
}

#[tokio::test]
async fn a_source_that_never_gets_anywhere_is_given_up_and_its_part_serves_the_next() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(23));
    server.put(REPO, FILE, &bytes);
    let settings = Settings { max_retries: 2, ..settings(&server) };
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    // The first answer brings something, the next three nothing.
    server.faults(Faults { cut: (1, 100_000), status: (0, 0), ..Faults::default() });
    let other = HubServer::start();
    other.put(REPO, FILE, &bytes);
    other.faults(Faults { cut: (4, 0), ..Faults::default() });
    let stuck = Settings { hf_endpoint: other.hub.clone(), ..settings.clone() };
    let error = pull_quietly(&library, "tiny:1", &stuck).await.0.unwrap_err();
    let PullError::AllSourcesFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[0].error, SourceError::Interrupted { .. }), "{error}");
    assert_eq!(other.requests("cdn").len(), 3);
    // What there is of it is known by its digest and taken up from another address.
    pull_quietly(&library, "tiny:1", &settings).await.0.unwrap();
}

#[tokio::test]
async fn a_host_without_ranges_sends_it_all_again() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(24));
    server.put(REPO, FILE, &bytes);
    server.faults(Faults { cut: (1, 100_000), ignore_range: true, ..Faults::default() });
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
}

/// Lays a part of `content` for the file of `tiny:1`, with this identity.
fn lay_part(library: &Library, content: &[u8], identity: &PartIdentity) {
    std::fs::create_dir_all(library.models_dir()).unwrap();
    let paths = PartPaths::new(library.models_dir(), "tiny-1.gguf");
    std::fs::write(&paths.part, content).unwrap();
    paths.write_identity(identity).unwrap();
}

#[tokio::test]
async fn a_part_of_another_version_is_dropped() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(25));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let old = model_bytes(26);
    lay_part(&library, &old[..50_000], &PartIdentity::new(Some(sha256(&old)), "elsewhere"));
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert_eq!(server.requests("cdn")[0].range_start(), None);
}

#[tokio::test]
async fn a_part_that_was_damaged_on_the_disk_costs_a_second_download_only() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(27));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let mut damaged = bytes[..50_000].to_vec();
    damaged[40_000] ^= 1;
    lay_part(&library, &damaged, &PartIdentity::new(Some(sha256(&bytes)), "anywhere"));
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    let starts: Vec<Option<u64>> =
        server.requests("cdn").iter().map(|request| request.range_start()).collect();
    assert_eq!(starts, [Some(50_000), None]);
}

#[tokio::test]
async fn a_part_longer_than_the_file_is_cut() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(28));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    lay_part(&library, &[&bytes[..], b"more"].concat(), &PartIdentity::new(Some(sha256(&bytes)), "anywhere"));
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert!(server.requests("cdn").is_empty(), "all of it was here");
}

#[tokio::test]
async fn without_digest_only_the_same_etag_is_resumed() {
    let (server, folder) = (HubServer::start(), tempfile::tempdir().unwrap());
    let (old, new) = (model_bytes(29), model_bytes(30));
    let url = server.file_url(REPO, FILE);
    let unverified = CatalogEntry {
        sha256: None,
        unverified: true,
        ..entry("tiny:1", &new, vec![Source::Url(url.clone())])
    };
    let library = library(folder.path(), vec![unverified]);
    let identity = |content: &[u8]| {
        let etag = Some(format!("\"{}\"", &sha256(content)[..32]));
        let mut identity = PartIdentity::new(None, &url);
        identity.etag = etag;
        identity
    };
    // The file has changed since: the server sends all of the new one.
    server.put(REPO, FILE, &new);
    lay_part(&library, &old[..50_000], &identity(&old));
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), new);
    assert_eq!(server.requests("cdn")[0].range_start(), Some(50_000));
    library.remove("tiny:1").unwrap();
    // It has not: the rest comes.
    lay_part(&library, &new[..50_000], &identity(&new));
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), new);
    library.remove("tiny:1").unwrap();
    // Nothing is known of the part's version: it is dropped.
    lay_part(&library, &new[..50_000], &PartIdentity::new(None, &url));
    pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(server.requests("cdn").last().unwrap().range_start(), None);
}

/// Waits until the part has some bytes.
async fn wait_for_part(library: &Library) {
    let part = library.models_dir().join("tiny-1.gguf.part");
    let started = Instant::now();
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 50_000 {
        assert!(started.elapsed() < Duration::from_secs(20), "no bytes came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn slow_server(bytes: &[u8]) -> HubServer {
    let server = HubServer::start();
    server.put(REPO, FILE, bytes);
    server.faults(Faults { slow: Some(Duration::from_millis(60)), ..Faults::default() });
    server
}

#[tokio::test]
async fn cancelling_stops_at_once_and_the_next_pull_goes_on() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), model_bytes(31));
    let server = slow_server(&bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let cancel = Cancel::new();
    let task = {
        let (library, settings, cancel) = (library.clone(), settings(&server), cancel.clone());
        tokio::spawn(async move { pull(&library, "tiny:1", &settings, &|_| (), &cancel).await })
    };
    wait_for_part(&library).await;
    assert!(matches!(library.remove("tiny:1"), Err(RemoveError::Busy { .. })));
    let cancelled = Instant::now();
    cancel.cancel();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.code(), "cancelled");
    assert!(cancelled.elapsed() < Duration::from_secs(1));
    assert_eq!(left_behind(&library), ["tiny-1.gguf.part", "tiny-1.gguf.part.json"]);
    server.faults(Faults::default());
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert!(server.requests("cdn").last().unwrap().range_start() >= Some(50_000));
}

#[tokio::test]
async fn removing_takes_an_unfinished_download_away() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(32));
    server.put(REPO, FILE, &bytes);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    lay_part(&library, &bytes[..50_000], &PartIdentity::new(Some(sha256(&bytes)), "anywhere"));
    assert!(library.remove("tiny").unwrap() >= 50_000);
    assert!(left_behind(&library).is_empty());
    assert!(matches!(library.remove("tiny"), Err(RemoveError::Resolve(_))));
}

#[tokio::test]
async fn two_pulls_of_one_model_fetch_it_once() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), model_bytes(33));
    let server = slow_server(&bytes);
    // Two libraries on one folder stand for two processes: they share nothing but the disk.
    let entries = vec![entry("tiny:1", &bytes, vec![hub_source()])];
    let (first, second) = (library(folder.path(), entries.clone()), library(folder.path(), entries));
    let settings = settings(&server);
    let (one, two) =
        tokio::join!(pull_quietly(&first, "tiny:1", &settings), pull_quietly(&second, "tiny:1", &settings));
    assert_eq!(one.0.unwrap(), two.0.unwrap());
    assert_eq!(server.requests("cdn").len(), 1);
    let waited =
        |told: &[Progress]| told.iter().any(|progress| progress.phase == crate::pull::Phase::Waiting);
    assert!(waited(&one.1) ^ waited(&two.1));
}

/// Set in the child process that `kill_9_loses_nothing` starts and kills: hub, folder.
const CHILD: &str = "DAYBREAK_PULL_CHILD";

#[test]
fn kill_9_loses_nothing_and_the_next_pull_goes_on() {
    let bytes = model_bytes(34);
    let run = |hub: String, folder: &Path| {
        let library = library(folder, vec![entry("tiny:1", &bytes, vec![hub_source()])]);
        let settings = Settings { hf_endpoint: hub, ..Settings::from_vars(|_| None) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(pull_quietly(&library, "tiny:1", &settings)).0.map(|model| (library, model))
    };
    if let Ok(child) = std::env::var(CHILD) {
        let (hub, folder) = child.split_once(' ').unwrap();
        run(hub.to_string(), Path::new(folder)).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = slow_server(&bytes);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "pull::tests::interrupted::kill_9_loses_nothing_and_the_next_pull_goes_on"])
        .env(CHILD, format!("{} {}", server.hub, folder.path().display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let part = folder.path().join("models/tiny-1.gguf.part");
    let started = Instant::now();
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) < 50_000 {
        assert!(started.elapsed() < Duration::from_secs(20), "no bytes came");
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.path().join("models/tiny-1.gguf").exists(), "nothing appears before it is whole");
    server.faults(Faults::default());
    let (library, model) = run(server.hub.clone(), folder.path()).unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert_eq!(left_behind(&library), ["tiny-1.gguf", "tiny-1.json"]);
    assert!(server.requests("cdn").last().unwrap().range_start() >= Some(50_000));
}
