//! Many at once, clients that go away, clients that do not read.

use std::time::Duration;

use serde_json::json;

use crate::client::{post, stream};
use crate::world::{metric, start, wait_for_metric};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_frees_its_sequence() {
    let server = start(|_| {}).await;
    let body = json!({"messages": [{"role": "user", "content": "Tell a long story."}],
        "ignore_eos": true, "stream": true});
    let mut events = stream(server.address, "/v1/chat/completions", &body).await;
    for _ in 0..4 {
        events.next().await.unwrap();
    }
    assert_eq!(metric(server.address, "daybreak_requests_running").await, 1.0);
    drop(events);
    let limit = Duration::from_secs(2);
    wait_for_metric(server.address, "daybreak_requests_running", 0.0, limit).await;

    // Also when nothing was streamed yet: the request is dropped while it waits for its answer.
    let body = json!({"prompt": "Once", "ignore_eos": true, "max_tokens": 900});
    let waiting =
        tokio::time::timeout(Duration::from_millis(300), post(server.address, "/v1/completions", &body));
    assert!(waiting.await.is_err(), "900 tokens in 300 ms?");
    wait_for_metric(server.address, "daybreak_requests_running", 0.0, limit).await;
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_200_parallel_requests_each_is_answered_or_told_when_to_come_back() {
    let server = start(|config| {
        config.limits.max_running = 4;
        config.limits.max_queue = 16;
    })
    .await;
    let address = server.address;
    let requests = (0..200).map(|idx| {
        let body = json!({"prompt": format!("Number {idx} is"), "max_tokens": 3, "ignore_eos": true});
        tokio::spawn(async move { post(address, "/v1/completions", &body).await })
    });
    let (mut n_ok, mut n_busy) = (0, 0);
    for request in requests.collect::<Vec<_>>() {
        let answer = request.await.unwrap();
        match answer.status.as_u16() {
            200 => {
                assert_eq!(answer.json()["usage"]["completion_tokens"], 3);
                n_ok += 1;
            }
            429 => {
                assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
                assert_eq!(answer.json()["error"]["code"], "queue_full");
                n_busy += 1;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert_eq!(n_ok + n_busy, 200);
    assert!(n_ok >= 20, "{n_ok} answered, {n_busy} refused");
    // An engine tells its numbers once a step.
    wait_for_metric(address, "daybreak_requests_running", 0.0, Duration::from_secs(2)).await;
    wait_for_metric(address, "daybreak_requests_queued", 0.0, Duration::from_secs(2)).await;
    assert_eq!(metric(address, "daybreak_generated_tokens_total").await, 3.0 * f64::from(n_ok));
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_room_for_all_200_requests_are_all_answered() {
    let server = start(|config| config.limits.max_queue = 256).await;
    let address = server.address;
    let requests = (0..200).map(|idx| {
        let body = json!({"messages": [{"role": "user", "content": format!("Say {idx}")}], "max_tokens": 2});
        tokio::spawn(async move { post(address, "/v1/chat/completions", &body).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().ok();
    }
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off() {
    use tokio::io::AsyncWriteExt;
    let server = start(|config| config.limits.write_stall_timeout = Duration::from_millis(300)).await;
    // Twenty alternatives of each token fill the socket's buffers soon.
    let body = json!({"messages": [{"role": "user", "content": "Tell a long story."}], "ignore_eos": true,
        "stream": true, "logprobs": true, "top_logprobs": 20, "n": 16})
    .to_string();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut socket = socket.connect(server.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    wait_for_metric(
        server.address,
        "daybreak_generations_total{how=\"cancelled\"}",
        16.0,
        Duration::from_secs(60),
    )
    .await;
    drop(socket);
    server.stop().await.unwrap();
}
