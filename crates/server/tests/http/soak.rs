//! Thousands of requests, most of which end otherwise than they should: nothing of them may stay behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::client::{post, stream};
use crate::world::{metric, start, wait_for_metric};

/// Clients at a time.
const N_CLIENTS: usize = 12;

/// The numbers of one request, drawn from its own number.
struct Dice(u64);

impl Dice {
    /// At least `from`, below `to`.
    fn draw(&mut self, from: u64, to: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from)
    }
}

/// One request, and one of five ways to end it.
async fn one_request(address: SocketAddr, idx: usize) {
    let mut dice = Dice(idx as u64);
    dice.draw(0, 2);
    // Some share their beginning, some do not; some are longer than a page of the cache.
    let topic = ["a river", "the moon", "an old clock"][dice.draw(0, 3) as usize];
    let prompt = format!("Tell me about {topic}. {}", "And then? ".repeat(dice.draw(0, 40) as usize));
    let prompt = if dice.draw(0, 2) == 0 { format!("{idx}: {prompt}") } else { prompt };
    let (streamed, how) = (dice.draw(0, 2) == 0, dice.draw(0, 5));
    let body = json!({"prompt": prompt, "max_tokens": dice.draw(1, 24), "ignore_eos": true, "stream": streamed,
        "n": dice.draw(1, 3), "seed": idx});
    match how {
        // To the end.
        0 if streamed => drop(stream(address, "/v1/completions", &body).await.all().await),
        0 => drop(post(address, "/v1/completions", &body).await.ok()),
        // Gone after some events.
        1 if streamed => {
            let mut events = stream(address, "/v1/completions", &body).await;
            for _ in 0..dice.draw(0, 12) {
                if events.next().await.is_none() {
                    break;
                }
            }
        }
        // A time limit of the client's.
        1 | 2 => {
            let limit = Duration::from_millis(dice.draw(0, 120));
            // Whether it was fast enough does not matter.
            let _ = tokio::time::timeout(limit, post(address, "/v1/completions", &body)).await;
        }
        // Half a request, or a whole one without anyone who waits.
        3 => {
            let body = body.to_string();
            let head = format!(
                "POST /v1/completions HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let whole = [head.as_bytes(), body.as_bytes()].concat();
            let n_sent = dice.draw(1, 2 * whole.len() as u64).min(whole.len() as u64) as usize;
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(&whole[..n_sent]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(dice.draw(0, 20))).await;
        }
        // What is refused.
        _ => {
            let refused = json!({"prompt": prompt, "temperature": -1});
            assert_eq!(post(address, "/v1/completions", &refused).await.status.as_u16(), 400);
        }
    }
}

/// Tasks of this runtime, the server's and the clients'.
fn n_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Bytes of memory that this process, and with it the server, has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

async fn requests(address: SocketAddr, from: usize, to: usize) {
    let next = Arc::new(AtomicUsize::new(from));
    let clients = (0..N_CLIENTS).map(|_| {
        let next = Arc::clone(&next);
        tokio::spawn(async move {
            loop {
                let idx = next.fetch_add(1, Ordering::Relaxed);
                if idx >= to {
                    return;
                }
                one_request(address, idx).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let limit = Duration::from_secs(10);
    for name in ["daybreak_requests_running", "daybreak_requests_queued", "daybreak_kv_pages_used"] {
        wait_for_metric(address, name, 0.0, limit).await;
    }
}

async fn leaves_nothing_behind(n_requests: usize, memory_is_flat: bool) {
    let server = start(|config| {
        // Small enough that pages run out and answers are put back.
        config.kv_memory_bytes = Some(24 << 20);
        config.limits.max_queue = 64;
    })
    .await;
    let address = server.address;
    let n_tasks_before = n_tasks();
    requests(address, 0, n_requests / 4).await;
    let memory = resident();
    requests(address, n_requests / 4, n_requests).await;

    assert!(metric(address, "daybreak_kv_pages_cached").await <= metric(address, "daybreak_kv_pages").await);
    let since = Instant::now();
    while n_tasks() > n_tasks_before {
        // Connections end a moment after their last word.
        assert!(since.elapsed() < Duration::from_secs(10), "{} tasks, {n_tasks_before} at first", n_tasks());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let now = resident();
    assert!(!memory_is_flat || now <= memory + memory / 100, "{memory} bytes became {now}");
    // It still answers, and as ever.
    let body = json!({"prompt": "The capital of Italy is", "max_tokens": 4, "temperature": 0});
    let answer = post(address, "/v1/completions", &body).await.ok();
    assert!(answer["choices"][0]["text"].as_str().unwrap().contains("Rome"), "{answer}");
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_end_badly_leave_nothing_behind() {
    leaves_nothing_behind(200, false).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: make test-long"]
async fn ten_thousand_requests_that_end_badly_leave_nothing_behind_and_memory_flat() {
    leaves_nothing_behind(10_000, true).await;
}
