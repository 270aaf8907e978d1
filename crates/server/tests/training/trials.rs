//! Plans and previews: children that are bounded, and that end with who waits for them.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{post, request, send};
use crate::{assert_error, server, upload};

fn plan(n: u64) -> serde_json::Value {
    json!({"recipe": "count", "dataset": "books", "settings": {"n": n}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_what_a_dry_run_printed_or_why_it_was_refused() {
    let server = server(|limits| limits.trial_timeout = Duration::from_millis(2000)).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let made = post(address, "/api/training/plan", &plan(30)).await.ok();
    assert_eq!(
        made,
        json!({"lines": [{"key": "n", "value": 30}], "n_steps": 30, "memory_bytes": 7, "n_running": 0})
    );
    let refused = post(address, "/api/training/plan", &plan(13)).await;
    assert_error(&refused, 400, "training_refused");
    assert_eq!(refused.json()["error"]["message"], "13 is unlucky");
    let slow = post(address, "/api/training/plan", &plan(14)).await;
    assert_error(&slow, 400, "training_refused");
    assert!(slow.text().contains("took longer than 2 s"), "{}", slow.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_nobody_waits_for_any_more_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = crate::server_with(|_| {}, |config| config.data_dir = dir.path().to_path_buf()).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let body = plan(14).to_string().into_bytes();
    let asking = tokio::spawn(send(address, request(address, "POST", "/api/training/plan", &[], body)));
    let pid = dir.path().join("datasets/books/plan.pid");
    let since = Instant::now();
    let wait = async |what: &str, holds: &dyn Fn() -> bool| {
        while !holds() {
            assert!(since.elapsed() < Duration::from_secs(60), "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    wait("it begins", &|| std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))).await;
    let pid = std::fs::read_to_string(&pid).unwrap().trim().to_owned();
    asking.abort();
    let _ = asking.await;
    let stat = format!("/proc/{pid}/stat");
    wait("it ends", &|| std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))).await;
    let runs = dir.path().join("runs");
    let is_plan = |name: std::ffi::OsString| name.to_string_lossy().starts_with(".plan-");
    let left =
        || std::fs::read_dir(&runs).unwrap().flatten().filter(|entry| is_plan(entry.file_name())).count();
    wait("its folder goes", &|| left() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_comes_in_pages() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let path = "/api/training/datasets/books/preview";
    let first = post(address, path, &json!({"recipe": "count"})).await.ok();
    assert_eq!((first["items"].as_array().unwrap().len(), &first["next_offset"]), (8, &json!(8)));
    let second = post(address, path, &json!({"recipe": "count", "offset": 8})).await.ok();
    assert_eq!(second["items"].as_array().unwrap().len(), 4);
    assert_eq!(second.get("next_offset"), None);
    let nothing = post(address, "/api/training/datasets/songs/preview", &json!({"recipe": "count"})).await;
    assert_error(&nothing, 404, "not_found");
}
