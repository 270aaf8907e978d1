//! A server as a process, and requests to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use crate::{daybreak, model};

pub(crate) struct Server {
    pub(crate) child: Child,
    port: u16,
}

impl Server {
    /// Starts it and waits for the line with its address.
    pub(crate) fn spawn(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("starts");
        let stdout = child.stdout.take().expect("piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the address");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Server { child, port: port.unwrap_or_else(|| panic!("no port in {line:?}")) }
    }

    /// With the real model, once it answers.
    pub(crate) fn start(home: &Path, args: &[&str]) -> Server {
        let model = model();
        Server::start_with(home, model.to_str().expect("a plain path"), args)
    }

    /// With a model by name or path, once it answers.
    pub(crate) fn start_with(home: &Path, model: &str, args: &[&str]) -> Server {
        let mut command = daybreak(home);
        command.args(["serve", "--model", model, "--port", "0"]).args(args);
        let server = Server::spawn(&mut command);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.get("/health").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "the server did not become healthy");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn request(&self, text: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time limit");
        stream.write_all(text.as_bytes()).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn get(&self, path: &str) -> String {
        self.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> String {
        self.send("POST", path, body)
    }

    fn send(&self, method: &str, path: &str, body: &str) -> String {
        self.request(&format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Calls the page's API; the answer must be JSON, or nothing.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: &Json) -> Json {
        let answer = self.send(method, path, &body.to_string());
        assert!(answer.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
        match answer.split_once("\r\n\r\n") {
            Some((_, body)) if !body.is_empty() => serde_json::from_str(body).expect("JSON"),
            _ => Json::Null,
        }
    }

    pub(crate) fn terminate(mut self) -> i32 {
        let kill = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill runs");
        assert!(kill.success());
        self.child.wait().expect("it ends").code().expect("an exit code, not a signal")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended after `terminate`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
