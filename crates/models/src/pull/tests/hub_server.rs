//! A server that behaves like the hub: a listing, files behind a redirect to another host (port), ranges, etags,
//! licences that must be accepted; and the ways in which such a server fails.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a file's host does wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    /// How many answers break off, and after how many bytes of the body.
    pub(super) cut: (usize, usize),
    /// How many answers go silent in the middle instead, and after how many bytes.
    pub(super) stall: (usize, usize),
    /// Every byte is sent with its bits flipped.
    pub(super) corrupt: bool,
    /// Ranges are ignored.
    pub(super) ignore_range: bool,
    /// No etag is sent.
    pub(super) no_etag: bool,
    /// How many requests are answered with this status first.
    pub(super) status: (usize, u16),
    /// Pause before each 16 kB.
    pub(super) slow: Option<Duration>,
}

/// One request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `hub` or `cdn`.
    pub(super) host: &'static str,
    /// Path and query, or the whole address when it came as to a proxy.
    pub(super) target: String,
    /// Headers, names in lower case.
    pub(super) headers: HashMap<String, String>,
}

impl Request {
    /// First byte that is asked for.
    pub(super) fn range_start(&self) -> Option<u64> {
        self.headers.get("range")?.strip_prefix("bytes=")?.split('-').next()?.parse().ok()
    }
}

#[derive(Default)]
struct State {
    /// Path in a repository (`owner/repo/file`) → content.
    files: HashMap<String, Vec<u8>>,
    /// Repositories that need the token `good`.
    gated: Vec<String>,
    faults: Faults,
    requests: Vec<Request>,
    /// The listing states this length for every file.
    lie_about_size: Option<u64>,
}

/// The server; it ends with its value.
pub(super) struct HubServer {
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    /// Address of the hub.
    pub(super) hub: String,
    cdn: String,
}

impl HubServer {
    pub(super) fn start() -> HubServer {
        let state = Arc::new(Mutex::new(State::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let cdn = listen("cdn", state.clone(), stop.clone(), String::new());
        let hub = listen("hub", state.clone(), stop.clone(), cdn.clone());
        HubServer { state, stop, hub, cdn }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a file into a repository.
    pub(super) fn put(&self, repo: &str, file: &str, content: &[u8]) {
        self.state().files.insert(format!("{repo}/{file}"), content.to_vec());
    }

    pub(super) fn gate(&self, repo: &str) {
        self.state().gated.push(repo.to_string());
    }

    pub(super) fn faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(super) fn lie_about_size(&self, size: u64) {
        self.state().lie_about_size = Some(size);
    }

    /// Requests so far to `hub` or `cdn`.
    pub(super) fn requests(&self, host: &str) -> Vec<Request> {
        self.state().requests.iter().filter(|request| request.host == host).cloned().collect()
    }

    /// Address of a file at the second host, without the hub before it.
    pub(super) fn file_url(&self, repo: &str, file: &str) -> String {
        format!("{}/blob/{repo}/{file}", self.cdn)
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for url in [&self.hub, &self.cdn] {
            let _ = TcpStream::connect(url.trim_start_matches("http://")); // wakes `accept`
        }
    }
}

fn listen(host: &'static str, state: Arc<Mutex<State>>, stop: Arc<AtomicBool>, cdn: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let (state, cdn) = (state.clone(), cdn.clone());
            // A client that hangs up in the middle is part of the play.
            std::thread::spawn(move || serve(host, &stream, &state, &cdn));
        }
    });
    url
}

fn serve(host: &'static str, stream: &TcpStream, state: &Mutex<State>, cdn: &str) -> std::io::Result<()> {
    let Some(request) = read_request(host, stream)? else {
        return Ok(());
    };
    state.lock().unwrap().requests.push(request.clone());
    let path = match request.target.strip_prefix("http://") {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path).to_string(), // as to a proxy
        None => request.target.trim_start_matches('/').to_string(),
    };
    let path = path.split('?').next().unwrap_or("").to_string();
    if host == "cdn" {
        return match path.strip_prefix("blob/") {
            Some(file) => send_file(&request, stream, state, file),
            None => status(stream, 404, ""),
        };
    }
    let segments: Vec<&str> = path.split('/').collect();
    let repo = match segments.as_slice() {
        ["api", "models", owner, repo, ..] | [owner, repo, ..] => format!("{owner}/{repo}"),
        _ => return status(stream, 404, ""),
    };
    let (known, gated, lie) = {
        let state = state.lock().unwrap();
        let known = state.files.keys().any(|file| file.starts_with(&format!("{repo}/")));
        (known, state.gated.contains(&repo), state.lie_about_size)
    };
    let token = request.headers.get("authorization").map(String::as_str);
    match segments.as_slice() {
        // The hub says 401 for what does not exist when nobody is signed in, not always with a code.
        _ if repo == "maker/Hidden" => status(stream, 401, ""),
        _ if !known => status(stream, 401, "x-error-code: RepoNotFound\r\n"),
        ["api", "models", _, _, "revision", "main"] => {
            let body = listing(&repo, &state.lock().unwrap().files, lie);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            (&*stream).write_all(head.as_bytes())?;
            (&*stream).write_all(body.as_bytes())
        }
        [_, _, "resolve", "main", ..] if gated && token != Some("Bearer good") => {
            let code = if token.is_some() { 403 } else { 401 };
            status(stream, code, "x-error-code: GatedRepo\r\n")
        }
        [_, _, "resolve", "main", file @ ..] => {
            let file = format!("{repo}/{}", file.join("/"));
            if state.lock().unwrap().files.contains_key(&file) {
                status(stream, 302, &format!("location: {cdn}/blob/{file}\r\n"))
            } else {
                status(stream, 404, "x-error-code: EntryNotFound\r\n")
            }
        }
        _ => status(stream, 404, ""),
    }
}

fn read_request(host: &'static str, stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else {
        return Ok(None);
    };
    let target = first.split(' ').nth(1).unwrap_or("").to_string();
    let mut headers = HashMap::new();
    for line in lines {
        let line = line?;
        match line.split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_string()),
            None => break,
        };
    }
    Ok(Some(Request { host, target, headers }))
}

/// `GET /api/models/OWNER/REPO/revision/main?blobs=true`
fn listing(repo: &str, files: &HashMap<String, Vec<u8>>, lie: Option<u64>) -> String {
    let siblings: Vec<serde_json::Value> = files
        .iter()
        .filter_map(|(path, content)| {
            let name = path.strip_prefix(&format!("{repo}/"))?;
            let size = lie.unwrap_or(content.len() as u64);
            let mut sibling = serde_json::json!({ "rfilename": name, "size": size, "blobId": "0" });
            if name.ends_with(".gguf") {
                let sha256 = super::sha256(content);
                sibling["lfs"] = serde_json::json!({ "sha256": sha256, "size": size, "pointerSize": 134 });
            }
            Some(sibling)
        })
        .collect();
    serde_json::json!({ "id": repo, "siblings": siblings }).to_string()
}

fn status(mut stream: &TcpStream, code: u16, headers: &str) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {code} X\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n")
}

fn send_file(
    request: &Request,
    mut stream: &TcpStream,
    state: &Mutex<State>,
    file: &str,
) -> std::io::Result<()> {
    let (content, faults, cut, stall, busy) = {
        let mut state = state.lock().unwrap();
        let Some(content) = state.files.get(file).cloned() else {
            return status(stream, 404, "");
        };
        let mut take = |of: fn(&mut Faults) -> &mut usize| {
            let left = of(&mut state.faults);
            let any = *left > 0;
            *left = left.saturating_sub(1);
            any
        };
        let busy = take(|faults| &mut faults.status.0);
        let cut = !busy && take(|faults| &mut faults.cut.0);
        let stall = !busy && !cut && take(|faults| &mut faults.stall.0);
        (content, state.faults.clone(), cut, stall, busy)
    };
    if busy {
        return status(stream, faults.status.1, "");
    }
    let etag = format!("\"{}\"", &super::sha256(&content)[..32]);
    let same = request.headers.get("if-range").is_none_or(|wanted| *wanted == etag);
    let start = match request.range_start() {
        Some(start) if same && !faults.ignore_range => start as usize,
        _ => 0,
    };
    if start > 0 && start >= content.len() {
        return status(stream, 416, &format!("content-range: bytes */{}\r\n", content.len()));
    }
    let body: Vec<u8> =
        content[start..].iter().map(|byte| if faults.corrupt { !byte } else { *byte }).collect();
    let mut head = match start {
        0 => "HTTP/1.1 200 OK\r\n".to_string(),
        start => {
            let (last, total) = (content.len() - 1, content.len());
            format!("HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {start}-{last}/{total}\r\n")
        }
    };
    if !faults.no_etag {
        head += &format!("etag: {etag}\r\n");
    }
    write!(stream, "{head}content-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    let end = match (cut, stall) {
        (true, _) => faults.cut.1.min(body.len()),
        (_, true) => faults.stall.1.min(body.len()),
        _ => body.len(),
    };
    for chunk in body[..end].chunks(16 << 10) {
        if let Some(pause) = faults.slow {
            std::thread::sleep(pause);
        }
        stream.write_all(chunk)?;
    }
    if stall {
        std::thread::sleep(Duration::from_secs(20));
    }
    Ok(())
}
