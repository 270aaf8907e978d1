//! `GET /api/training/runs/{id}/events`: the lines of a run's log from any place, then live, and the run itself whenever
//! something about it changes, as server-sent events.
//!
//! The log is looked at a few times a second. When a run goes on from a checkpoint, its log is cut back to that and
//! written anew: who follows is told so (`reset`), and begins again. A run of several stages has a log for each; one is
//! followed, and the run itself tells when the next has begun.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::Value as Json;
use store::{JobId, OwnerId};

use super::Training;
use super::runs::find;
use super::wire::EventsRequest;
use crate::app::extract::{PathId, QueryOf};
use crate::app::owner;
use crate::error::ApiError;
use crate::generation::on_blocking_thread;
use crate::state::{AppState, Phase};

/// A comment after so much silence keeps proxies from closing the stream, and finds clients that went away.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// Lines that are read at once; the rest waits until these are sent.
const MAX_LINES: usize = 500;
/// A longer line is no event of ours, and is left out.
const MAX_LINE_BYTES: usize = 1 << 20;

pub(super) async fn follow(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
    QueryOf(request): QueryOf<EventsRequest>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (training, _, run) = find(&state, id).await?;
    let last_seen = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let after = request.after.into_iter().chain(last_seen).max().unwrap_or(0);
    let folder = training.run_folder(id, &run);
    let path = training.log_of(&folder, request.stage.as_deref())?.path;
    let follower = Follower {
        owner: owner(&state),
        id,
        log: Log { path, after, at: None },
        waiting: VecDeque::new(),
        last_told: Json::Null,
        has_ended: false,
        training,
        state,
    };
    let events = stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok::<_, Infallible>(event), follower))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would hold the events back.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// One client's place in a run.
struct Follower {
    state: AppState,
    training: Arc<Training>,
    owner: OwnerId,
    id: JobId,
    log: Log,
    waiting: VecDeque<Event>,
    last_told: Json,
    has_ended: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            if self.has_ended || self.state.shutdown.is_draining() {
                return None;
            }
            let mut changes = self.training.jobs.changes();
            if self.look().await.is_none() {
                self.end("end");
            }
            if self.waiting.is_empty() {
                tokio::select! {
                    _ = tokio::time::sleep(LOOK_EVERY) => {}
                    _ = changes.changed() => {}
                    () = self.state.shutdown.reached(Phase::Draining) => {}
                }
            }
        }
    }

    /// Puts what is new into the queue; none where the run is gone.
    async fn look(&mut self) -> Option<()> {
        // The run before its log: what it has logged before it ended is told before its end.
        let job = self.training.jobs.get(self.owner, self.id).await.ok()?;
        let is_going = job.status.is_going();
        let training = Arc::clone(&self.training);
        let mut log = std::mem::take(&mut self.log);
        let (told, read, log) = on_blocking_thread(move || {
            let read = log.read();
            (training.run_json(&job), read, log)
        })
        .await
        .ok()?;
        self.log = log;
        let told = told?;
        if told != self.last_told {
            self.waiting.push_back(Event::default().event("run").data(told.to_string()));
            self.last_told = told;
        }
        match read {
            Ok(Read::Lines(lines)) => {
                let is_empty = lines.is_empty();
                for (number, line) in lines {
                    let event = Event::default().id(number.to_string()).event("log").data(line);
                    self.waiting.push_back(event);
                }
                if is_empty && !is_going {
                    self.end("end");
                }
            }
            Ok(Read::CutBack) => self.end("reset"),
            Err(error) => {
                tracing::warn!("{}: {error}", self.log.path.display());
                self.end("end");
            }
        }
        Some(())
    }

    fn end(&mut self, event: &str) {
        self.waiting.push_back(Event::default().event(event).data("{}"));
        self.has_ended = true;
    }
}

/// A place in a log.
#[derive(Debug, Default)]
struct Log {
    path: PathBuf,
    /// Lines before it.
    after: u64,
    /// Which file that was, and the byte; none before the first look.
    at: Option<(u64, u64)>,
}

/// What a look at a log found.
enum Read {
    /// New lines, with their numbers.
    Lines(Vec<(u64, String)>),
    /// The lines before are no longer those that were there.
    CutBack,
}

impl Log {
    fn read(&mut self) -> io::Result<Read> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(if self.at.is_some() { Read::CutBack } else { Read::Lines(Vec::new()) });
            }
            file => file?,
        };
        let meta = file.metadata()?;
        let mut place = match self.at {
            Some((inode, place)) if inode != meta.ino() || place > meta.len() => return Ok(Read::CutBack),
            Some((_, place)) => place,
            None => 0,
        };
        file.seek(SeekFrom::Start(place))?;
        let mut reader = BufReader::with_capacity(1 << 16, file);
        let mut number = if self.at.is_some() { self.after } else { 0 };
        let mut lines = Vec::new();
        let mut line = Vec::new();
        while lines.len() < MAX_LINES {
            line.clear();
            let n_bytes = reader.read_until(b'\n', &mut line)?;
            // A line without its end is still being written.
            if line.pop() != Some(b'\n') {
                break;
            }
            (place, number) = (place + n_bytes as u64, number + 1);
            if number > self.after && line.len() <= MAX_LINE_BYTES {
                lines.push((number, String::from_utf8_lossy(&line).into_owned()));
            }
        }
        if number < self.after {
            return Ok(Read::CutBack);
        }
        self.after = number;
        self.at = Some((meta.ino(), place));
        Ok(Read::Lines(lines))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write;

    use super::*;

    fn lines(log: &mut Log) -> Vec<(u64, String)> {
        match log.read().unwrap() {
            Read::Lines(lines) => lines,
            Read::CutBack => panic!("it was not cut back"),
        }
    }

    #[test]
    fn a_log_is_read_from_any_line_and_only_whole_lines_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        let mut log = Log { path: path.clone(), after: 1, at: None };
        assert_eq!(lines(&mut log), []);
        // Nothing is cut back that was never there: the log begins later than its reader.
        let mut first = Log { path: path.clone(), after: 0, at: None };
        assert_eq!(lines(&mut first), []);
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(lines(&mut log), [(2, "two".to_owned())]);
        assert_eq!(lines(&mut log), []);
        file.write_all(b"ee\n").unwrap();
        assert_eq!(lines(&mut log), [(3, "three".to_owned())]);
        assert_eq!(lines(&mut first).len(), 3);
    }

    #[test]
    fn a_log_that_was_cut_back_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let mut log = Log { path: path.clone(), after: 0, at: None };
        assert_eq!(lines(&mut log).len(), 3);
        let mut too_far = Log { path: path.clone(), after: 4, at: None };
        assert!(matches!(too_far.read().unwrap(), Read::CutBack));
        let beside = dir.path().join("new");
        std::fs::write(&beside, "one\nresumed and more of it\n").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert!(matches!(log.read().unwrap(), Read::CutBack));
    }

    #[test]
    fn many_lines_come_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, "line\n".repeat(MAX_LINES + 7)).unwrap();
        let mut log = Log { path, after: 0, at: None };
        assert_eq!(lines(&mut log).len(), MAX_LINES);
        assert_eq!(lines(&mut log).last().unwrap().0, MAX_LINES as u64 + 7);
    }
}
