//! Training over real sockets, with a trainer whose runs are shell scripts: what may be ordered, how it is told, what is
//! bounded. The real trainer is in the tests of the program.
#![allow(clippy::unwrap_used)]

#[path = "../http/client.rs"]
#[allow(dead_code)]
mod client;
mod datasets;
mod desk;
mod runs;
mod trials;
#[path = "../http/world.rs"]
#[allow(dead_code)]
mod world;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use server::{ServerConfig, TrainingConfig, TrainingLimits};

use crate::client::{call, get, post};
use crate::world::{Running, start};

/// The wrapper of the jobs of these tests is this program, told to run this "test" alone.
#[test]
#[ignore = "no test: the process between the other tests and their commands"]
fn as_wrapper() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some(at) = args.iter().position(|arg| arg == "--") else { return };
    let code = jobs::wrapper::run(Path::new(&args[at - 1]), 5, &args[at + 1..]);
    std::process::exit(code.unwrap().into());
}

/// A server without models.
async fn server(change: impl FnOnce(&mut TrainingLimits)) -> Running {
    server_with(change, |_| {}).await
}

async fn server_with(
    change: impl FnOnce(&mut TrainingLimits),
    configure: impl FnOnce(&mut ServerConfig),
) -> Running {
    let mut limits = TrainingLimits { min_free_bytes: 0, ..TrainingLimits::standard() };
    change(&mut limits);
    let mut wrapper = vec![std::env::current_exe().unwrap().into_os_string()];
    wrapper.extend(["--ignored", "--exact", "--nocapture", "as_wrapper"].map(Into::into));
    let desk = Arc::new(desk::Shell::new());
    let background = vec!["env".into()];
    start(|config| {
        config.models.clear();
        config.training = Some(TrainingConfig { desk, wrapper, background, limits });
        configure(config);
    })
    .await
}

async fn upload(address: SocketAddr, path: &str, text: &str) -> client::Answer {
    call(address, "PUT", &format!("/api/training/datasets/{path}"), &[], text.as_bytes().to_vec()).await
}

async fn order(address: SocketAddr, n: u64) -> String {
    let body = json!({"recipe": "count", "name": "a run", "dataset": "books", "settings": {"n": n}});
    let answer = post(address, "/api/training/runs", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().unwrap().to_owned()
}

async fn act(address: SocketAddr, id: &str, what: &str) -> client::Answer {
    post(address, &format!("/api/training/runs/{id}/{what}"), &json!({})).await
}

async fn until(address: SocketAddr, id: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let since = Instant::now();
    loop {
        let run = get(address, &format!("/api/training/runs/{id}")).await.ok();
        if holds(&run) {
            return run;
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{run}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn assert_error(answer: &client::Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (status, &json!(code)),
        "{}",
        answer.text()
    );
}
