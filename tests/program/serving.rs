//! `daybreak serve` as a process: start, answers, what stands in its way, and how it ends.

use std::io::Read;
use std::process::Stdio;

use crate::serve::Server;
use crate::{assert_one_line_error, daybreak, model};

#[test]
fn a_question_over_http_is_answered_and_the_server_ends_cleanly() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(home.path(), &["--ctx", "512"]);
    let answer = server.post(
        "/v1/chat/completions",
        r#"{"model": "", "messages": [{"role": "user", "content": "What is the capital of Italy?"}],
            "temperature": 0, "max_tokens": 40}"#,
    );
    // No model is named by the empty string.
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    let models = server.get("/v1/models");
    let body: serde_json::Value =
        serde_json::from_str(models.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
    let id = body["data"][0]["id"].as_str().expect("a model");
    let answer = server.post(
        "/v1/chat/completions",
        &serde_json::json!({
            "model": id, "temperature": 0, "max_tokens": 40,
            "messages": [{"role": "user", "content": "What is the capital of Italy?"}],
        })
        .to_string(),
    );
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
    let content = body["choices"][0]["message"]["content"].as_str().expect("an answer");
    assert!(content.split_whitespace().count() > 3, "{content}");
    assert_eq!(server.terminate(), 0);
}

#[test]
fn when_no_model_can_be_fetched_the_server_says_so_and_comes_up_without_one() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = daybreak(home.path());
    // Nothing listens at the hub's address, and there is no pip.
    command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("DAYBREAK_PYTHON", "/nonexistent/python3");
    command.args(["serve", "--port", "0"]).stderr(Stdio::piped());
    let mut server = Server::spawn(&mut command);
    let page = server.get("/");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let health = server.get("/health");
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("no_model"), "{health}");
    let answer = server.post("/v1/chat/completions", r#"{"messages": [{"role": "user", "content": "hi"}]}"#);
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("daybreak pull smollm2:135m"), "{answer}");
    let mut stderr = server.child.stderr.take().expect("piped");
    assert_eq!(server.terminate(), 0);
    let mut told = String::new();
    stderr.read_to_string(&mut told).expect("text");
    assert!(told.contains("127.0.0.1:9") && told.contains("/nonexistent/python3"), "{told}");
    assert!(told.contains("going on without a model; choose one on the page"), "{told}");
}

#[test]
fn a_second_server_on_one_data_directory_names_the_first() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(home.path(), &["--ctx", "512"]);
    let second = daybreak(home.path())
        .args(["serve", "--port", "0", "--model"])
        .arg(model())
        .output()
        .expect("starts");
    assert_one_line_error(&second, &[&server.child.id().to_string()]);
    // A terminal command beside the running server works.
    let run = daybreak(home.path())
        .arg("run")
        .arg(model())
        .args(["Say hello", "-n", "5"])
        .output()
        .expect("starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn a_port_in_use_and_a_read_only_data_directory_say_so() {
    let home = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = daybreak(home.path())
        .args(["serve", "--port", &port, "--model"])
        .arg(model())
        .output()
        .expect("starts");
    assert_one_line_error(&output, &[&port, "in use"]);

    let output = daybreak(home.path())
        .args(["serve", "--port", "0", "--data", "/proc/daybreak", "--model"])
        .arg(model())
        .output();
    assert_one_line_error(&output.expect("starts"), &["/proc/daybreak"]);
}

#[test]
fn beyond_loopback_a_key_is_required() {
    let home = tempfile::tempdir().expect("a folder");
    let output = daybreak(home.path())
        .args(["serve", "--host", "0.0.0.0", "--port", "0", "--model"])
        .arg(model())
        .output()
        .expect("starts");
    assert_one_line_error(&output, &["--api-key", "0.0.0.0"]);
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_start_with_its_error() {
    let home = tempfile::tempdir().expect("a folder");
    let broken = home.path().join("broken.gguf");
    std::fs::write(&broken, b"GGUF\x03\0\0\0").expect("a file");
    let output = daybreak(home.path())
        .args(["serve", "--port", "0", "--model"])
        .arg(&broken)
        .output()
        .expect("starts");
    assert_one_line_error(&output, &["broken.gguf"]);
}
