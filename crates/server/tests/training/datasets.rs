//! Uploads: whole or not at all, within their bounds.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use futures::StreamExt;
use serde_json::json;

use crate::client::{call, get, send};
use crate::{act, assert_error, order, server, server_with, until, upload};

#[tokio::test(flavor = "multi_thread")]
async fn files_come_are_replaced_listed_and_go() {
    let server = server(|_| {}).await;
    let address = server.address;
    assert_eq!(get(address, "/api/training/datasets").await.ok(), json!({"items": []}));
    let made = upload(address, "books/files/one.txt", "first").await;
    assert_eq!(made.status, 201);
    let name = "%E7%AC%AC%E4%B8%80%20%E6%9C%AC.txt";
    upload(address, &format!("books/files/{name}"), "第二").await;
    let made = upload(address, "books/files/one.txt", "first again").await.json();
    let files = json!([{"name": "one.txt", "bytes": 11}, {"name": "第一 本.txt", "bytes": 6}]);
    assert_eq!((&made["files"], &made["n_files"], &made["bytes"]), (&files, &json!(2), &json!(17)));
    let left = call(address, "DELETE", "/api/training/datasets/books/files/one.txt", &[], vec![]).await.ok();
    assert_eq!(left["n_files"], 1);
    let gone = call(address, "DELETE", "/api/training/datasets/books/files/one.txt", &[], vec![]).await;
    assert_error(&gone, 404, "not_found");
    assert_eq!(call(address, "DELETE", "/api/training/datasets/books", &[], vec![]).await.status, 204);
    assert_error(
        &call(address, "DELETE", "/api/training/datasets/books", &[], vec![]).await,
        404,
        "not_found",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_more_than_a_name_are_refused() {
    let server = server(|_| {}).await;
    for path in [
        "..%2F..%2Fetc/files/x.txt",
        "books/files/..%2Fx",
        "books/files/.hidden",
        "books/files/a%00b",
        "%2e%2e/files/x",
        ".plan/files/x",
        "books/files/%20x",
    ] {
        let answer = upload(server.address, path, "x").await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
    }
    for path in ["..%2Fruns", ".", "%2e%2e"] {
        let answer =
            call(server.address, "DELETE", &format!("/api/training/datasets/{path}"), &[], vec![]).await;
        assert!(answer.status == 404 || answer.status == 405, "{path}: {}", answer.text());
    }
    assert_eq!(get(server.address, "/api/training/datasets").await.ok(), json!({"items": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_too_large_or_broken_off_leaves_nothing() {
    let server = server(|limits| {
        limits.max_bytes = 1000;
        limits.max_files = 2;
        limits.max_datasets = 2;
        limits.upload_stall = Duration::from_millis(300);
    })
    .await;
    let address = server.address;
    assert_eq!(upload(address, "books/files/1", &"x".repeat(600)).await.status, 201);
    assert_error(&upload(address, "books/files/2", &"x".repeat(401)).await, 409, "no_room");
    assert_error(&upload(address, "more/files/2", &"x".repeat(401)).await, 409, "no_room");
    assert_eq!(upload(address, "books/files/2", &"x".repeat(400)).await.status, 201);
    assert_error(&upload(address, "books/files/2", "x").await, 409, "no_room");
    call(address, "DELETE", "/api/training/datasets/books/files/2", &[], vec![]).await.ok();

    // A client that sends nothing more, and one that goes away.
    let slow = futures::stream::iter([Ok::<_, std::io::Error>("half")]).chain(futures::stream::pending());
    let path = "/api/training/datasets/slow/files/x";
    let request =
        |body| Request::builder().method("PUT").uri(path).header("host", address.to_string()).body(body);
    let answer = send(address, request(Body::from_stream(slow)).unwrap()).await;
    assert_eq!(answer.status(), 408);
    let gone = futures::stream::iter([Ok("half"), Err(std::io::Error::other("gone"))]);
    let sending = tokio::spawn(send(address, request(Body::from_stream(gone)).unwrap()));
    let _ = sending.await;

    assert_eq!(upload(address, "books/files/2", "x").await.status, 201);
    assert_error(&upload(address, "books/files/3", "x").await, 409, "too_many_files");
    assert_eq!(upload(address, "second/files/1", "x").await.status, 201);
    assert_error(&upload(address, "third/files/1", "x").await, 409, "too_many_files");
    let left = get(address, "/api/training/datasets").await.ok();
    let names: Vec<&str> =
        left["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_stays_while_a_run_may_have_to_read_it() {
    let server = server(|_| {}).await;
    let address = server.address;
    upload(address, "books/files/one.txt", "first").await;
    let id = order(address, 100_000).await;
    until(address, &id, |run| run["status"] == "running").await;
    let delete = async |path: &str| call(address, "DELETE", path, &[], vec![]).await;
    assert_error(&delete("/api/training/datasets/books").await, 409, "dataset_in_use");
    assert_error(&delete("/api/training/datasets/books/files/one.txt").await, 409, "dataset_in_use");
    act(address, &id, "stop").await.ok();
    until(address, &id, |run| run["status"] == "stopped").await;
    assert_eq!(delete("/api/training/datasets/books").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn training_is_for_who_has_signed_in() {
    let server = server_with(|_| {}, |config| config.api_key = Some("sesame".to_owned())).await;
    let answer = get(server.address, "/api/training/runs").await;
    assert_eq!(answer.status, 401);
    assert_eq!(upload(server.address, "books/files/one.txt", "first").await.status, 401);
    let key = [("authorization", "Bearer sesame")];
    call(server.address, "GET", "/api/training/recipes", &key, vec![]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upload_left_that_ended_with_the_server_is_gone_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let books = dir.path().join("datasets/books");
    std::fs::create_dir_all(&books).unwrap();
    std::fs::write(books.join(".upload-0"), "cut o").unwrap();
    std::fs::write(books.join("one.txt"), "whole").unwrap();
    let _server = server_with(|_| {}, |config| config.data_dir = dir.path().to_path_buf()).await;
    let left = std::fs::read_dir(&books).unwrap().flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["one.txt"]);
}
