//! Training over HTTP: from a text to a model that answers, through pauses, restarts and kills.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::serve::Server;
use crate::train_pretrain::text;

const LIMIT: Duration = Duration::from_secs(120);

fn start(home: &Path) -> Server {
    Server::start(home, &["--ctx", "512"])
}

fn upload(server: &Server, dataset: &str, file: &str, text: &str) -> String {
    server.request(&format!(
        "PUT /api/training/datasets/{dataset}/files/{file} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    ))
}

fn show(server: &Server, id: &str) -> Json {
    server.call("GET", &format!("/api/training/runs/{id}"), &Json::Null)
}

fn act(server: &Server, id: &str, what: &str) -> Json {
    server.call("POST", &format!("/api/training/runs/{id}/{what}"), &json!({}))
}

/// Waits until the run is as it should be.
#[track_caller]
fn until(server: &Server, id: &str, holds: impl Fn(&Json) -> bool) -> Json {
    let since = Instant::now();
    loop {
        let run = show(server, id);
        if holds(&run) {
            return run;
        }
        let log = || server.get(&format!("/api/training/runs/{id}/log"));
        assert!(since.elapsed() < LIMIT && run["status"] != "failed", "{run:#}\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn step(run: &Json) -> u64 {
    run["progress"]["step"].as_u64().expect("a number")
}

/// Waits until it has taken so many steps.
#[track_caller]
fn until_step(server: &Server, id: &str, n: u64) -> Json {
    until(server, id, |run| run["status"] == "running" && step(run) >= n)
}

/// The pid of the run's command, as its folder has it.
fn pid(home: &Path, id: &str) -> String {
    let path = home.join(".local/share/daybreak/runs").join(id).join("process.json");
    let processes: Json = serde_json::from_slice(&std::fs::read(path).expect("it runs")).expect("JSON");
    processes["command"]["pid"].to_string()
}

fn is_there(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn a_run_survives_pauses_restarts_and_kills_and_its_model_answers() {
    let home = tempfile::tempdir().expect("a folder");
    let server = start(home.path());
    let texts = std::fs::read_to_string(text()).expect("a text");
    let uploaded = upload(&server, "books", "licence.txt", &texts);
    assert!(uploaded.starts_with("HTTP/1.1 201"), "{uploaded}");
    let settings = json!({
        "depth": 1, "vocab_size": 700, "seq_len": 64, "tokens": 400_000, "step_tokens": 256, "held_out": 0.1,
        "checkpoint_every": "1s", "threads": 1, "eval_every": 200,
    });
    let mut order =
        json!({"recipe": "pretrain", "name": "My first!", "dataset": "books", "settings": settings});
    let plan = server.call("POST", "/api/training/plan", &order);
    assert_eq!(plan["n_steps"], 1562);
    assert!(plan["seconds"].as_f64() > Some(0.0) && plan["memory_bytes"].as_u64() > Some(0), "{plan}");

    let made = server.call("POST", "/api/training/runs", &order);
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!(made["command"][0], "daybreak");
    order["name"] = json!("second");
    order["settings"]["tokens"] = json!(20_000);
    let second = server.call("POST", "/api/training/runs", &order);
    let second = second["id"].as_str().expect("an id").to_owned();

    // A pause ends the process, and the next in the queue gets its turn.
    until_step(&server, &id, 20);
    assert_eq!(show(&server, &second)["status"], "queued");
    let refused = server.request(
        "DELETE /api/training/datasets/books HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    );
    assert!(refused.starts_with("HTTP/1.1 409") && refused.contains("dataset_in_use"), "{refused}");
    let running = pid(home.path(), &id);
    act(&server, &id, "pause");
    let paused = until(&server, &id, |run| run["status"] == "paused");
    assert!(!is_there(&running));
    assert!(step(&paused) >= 20 && paused["progress"]["n_steps"] == 1562, "{paused}");
    until(&server, &second, |run| run["status"] == "done");
    act(&server, &id, "resume");
    let resumed = until_step(&server, &id, step(&paused) + 20);
    assert_eq!(resumed["n_starts"], 2);

    // The run goes on without its server, and obeys the next one.
    let running = pid(home.path(), &id);
    assert_eq!(server.terminate(), 0);
    assert!(is_there(&running));
    let mut server = start(home.path());
    let found = until_step(&server, &id, step(&resumed) + 1);
    assert_eq!((&found["n_starts"], pid(home.path(), &id)), (&json!(2), running.clone()));
    server.child.kill().expect("it was running");
    drop(server);
    assert!(is_there(&running));
    let server = start(home.path());
    let found = until_step(&server, &id, step(&found) + 1);

    // What is killed is lost, and goes on from its last checkpoint.
    assert!(Command::new("kill").args(["-9", &running]).status().expect("kill runs").success());
    let lost = until(&server, &id, |run| run["status"] == "lost");
    assert!(lost["reason"].as_str().expect("why").contains("signal 9"), "{lost}");
    assert_eq!(lost["exit_code"], Json::Null);
    act(&server, &id, "resume");
    let done = until(&server, &id, |run| run["status"] == "done");
    assert_eq!((step(&done), &done["n_starts"]), (1562, &json!(3)), "{found}");
    assert_eq!(done["lineage"][0]["name"], "books");
    assert_eq!(done["lineage"][0]["bytes"], texts.len());
    assert_eq!(done["lineage"][0]["digest"].as_str().map(str::len), Some(32));

    // What it was like, for who comes late.
    let series = server.call("GET", &format!("/api/training/runs/{id}/series?max=100"), &Json::Null);
    let losses: Vec<f64> = series["loss"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|loss| loss.as_f64().expect("a number"))
        .collect();
    assert_eq!(losses.len(), 98, "each of sixteen steps, the last of ten");
    assert!(losses[97] < losses[0] - 1.0, "{losses:?}");
    assert!(series["samples"].as_array().expect("a list").len() >= 16);
    let n_lines = series["n_lines"].as_u64().expect("a number");
    let stream = server.get(&format!("/api/training/runs/{id}/events?after={}", n_lines - 1));
    assert!(stream.contains("event: run\n") && stream.contains("\"event\":\"done\""), "{stream}");
    assert!(stream.contains(&format!("id: {n_lines}\n")) && stream.contains("event: end\n"), "{stream}");
    let stream = server.get(&format!("/api/training/runs/{id}/events?after={}", n_lines + 1));
    assert!(stream.contains("event: reset\n"), "{stream}");
    let log = server.get(&format!("/api/training/runs/{id}/log"));
    assert!(log.contains("going on from step") && log.contains("the model:"), "{log}");

    // Its model is one that the chat can choose, also after the next start.
    assert_eq!(act(&server, &id, "serve"), json!({"model": "run/My first!"}));
    let question = json!({"model": "run/My first!", "prompt": "The", "max_tokens": 8, "temperature": 0});
    let answer = server.call("POST", "/v1/completions", &question);
    let said = answer["choices"][0]["text"].as_str().expect("an answer").to_owned();
    assert!(!said.is_empty());
    assert_eq!(server.terminate(), 0);
    let server = start(home.path());
    assert_eq!(server.call("POST", "/v1/completions", &question)["choices"][0]["text"], said);

    server.call("DELETE", &format!("/api/training/runs/{second}"), &Json::Null);
    let left = server.call("GET", "/api/training/runs", &Json::Null);
    assert_eq!(left["items"].as_array().expect("a list").len(), 1);
    assert!(!home.path().join(".local/share/daybreak/runs").join(second).exists());
    server.call("DELETE", "/api/training/datasets/books", &Json::Null);
}
