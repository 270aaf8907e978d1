//! What every request handler is handed: settings, models, store, running answers, metrics, sessions.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::SavedPrefixes;
use tokio::sync::watch;

use crate::config::ServerConfig;
use crate::metrics::Metrics;
use crate::model_host::ModelHost;
use crate::sessions::Sessions;
use crate::training::Training;
use crate::turn::Runs;

/// The server's shared state; cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    /// Settings.
    pub(crate) config: Arc<ServerConfig>,
    /// Models, loaded and not.
    pub(crate) models: ModelHost,
    /// Conversations and small values.
    pub(crate) store: store::Store,
    /// Keys and values of conversations on disk, where that is wanted and possible.
    pub(crate) saved: Option<SavedPrefixes>,
    /// Answers in progress.
    pub(crate) runs: Arc<Runs>,
    /// Training, where there is.
    pub(crate) training: Option<Arc<Training>>,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Who has signed in on the page.
    pub(crate) sessions: Arc<Sessions>,
    /// Whether the server is about to end.
    pub(crate) shutdown: Shutdown,
    /// Milliseconds since the Unix epoch.
    pub(crate) started_at_ms: i64,
}

/// How far the server's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// Serving.
    Running,
    /// No new work; running answers may finish.
    Draining,
    /// Running answers end now, with an error event.
    Aborting,
}

/// Tells everyone how far the server's end has come. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown {
    phase: Arc<watch::Sender<Phase>>,
}

impl Shutdown {
    /// A server that runs.
    pub(crate) fn new() -> Shutdown {
        Shutdown { phase: Arc::new(watch::Sender::new(Phase::Running)) }
    }

    /// Goes on to a later phase.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = *now < phase;
            if later {
                *now = phase;
            }
            later
        });
    }

    /// Whether new work is refused.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Returns once the given phase is reached.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut receiver = self.phase.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = receiver.wait_for(|now| *now >= phase).await;
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
