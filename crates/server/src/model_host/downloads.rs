//! Downloads in the background: their progress, their end, their cancelling.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use models::{Cancel, HubName, Progress, PullError, pull};

use super::listing::DownloadProgress;
use super::{ModelHost, Slot};
use crate::error::ApiError;

/// A download, running or failed; one that succeeded is a model on this disk.
#[derive(Clone)]
pub(super) struct Download {
    cancel: Cancel,
    view: Arc<Mutex<View>>,
}

struct View {
    progress: DownloadProgress,
    /// The last measurement of the speed.
    measured: (Instant, u64),
    failed: Option<(&'static str, String)>,
}

impl Download {
    fn new() -> Download {
        let progress = DownloadProgress { done: 0, total: None, bytes_per_second: 0, phase: "connecting" };
        let view = View { progress, measured: (Instant::now(), 0), failed: None };
        Download { cancel: Cancel::new(), view: Arc::new(Mutex::new(view)) }
    }

    pub(super) fn is_running(&self) -> bool {
        self.failed().is_none()
    }

    pub(super) fn progress(&self) -> DownloadProgress {
        self.view().progress.clone()
    }

    /// Code and message.
    pub(super) fn failed(&self) -> Option<(&'static str, String)> {
        self.view().failed.clone()
    }

    fn update(&self, progress: Progress) {
        let mut view = self.view();
        let (since, before) = view.measured;
        let seconds = since.elapsed().as_secs_f64();
        if seconds >= 0.5 {
            let now = progress.done.saturating_sub(before) as f64 / seconds;
            let old = view.progress.bytes_per_second as f64;
            // Halfway to the newest speed: it neither jumps nor lags.
            let smooth = if old == 0.0 { now } else { (old + now) / 2.0 };
            view.progress.bytes_per_second = smooth as u64;
            view.measured = (Instant::now(), progress.done);
        }
        view.progress.done = progress.done;
        view.progress.total = progress.total;
        view.progress.phase = progress.phase.as_str();
    }

    fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl ModelHost {
    /// Begins a download; one that runs already goes on. With `then_load`, the model is loaded when it is here.
    pub(crate) async fn pull(&self, name: &str, then_load: bool) -> Result<(), ApiError> {
        let config = &self.inner.config;
        let entry = config.library.catalog().find(name).map(|entry| entry.name.clone());
        let Some(name) = entry.or_else(|| HubName::parse(name).map(|hub| hub.to_string())) else {
            let reason =
                format!("unknown model {name:?}: expected a name of the catalog or hf:OWNER/REPO[:QUANT]");
            return Err(ApiError::ModelNotFound { reason });
        };
        if let Ok(_here) = self.find(&name).await {
            return if then_load { self.load(&name).await } else { Ok(()) };
        }
        let download = {
            let mut state = self.state();
            if state.downloads.get(&name).is_some_and(Download::is_running) {
                return Ok(());
            }
            let n_running = state.downloads.values().filter(|download| download.is_running()).count();
            if n_running >= config.max_downloads {
                let reason = format!("{n_running} downloads are running already: wait for one or cancel one");
                return Err(ApiError::Conflict { code: "too_many_downloads", reason });
            }
            let download = Download::new();
            state.downloads.insert(name.clone(), download.clone());
            // A failure belongs to the file that was there before.
            if matches!(state.slots.get(&name), Some(Slot::Failed { .. })) {
                state.slots.remove(&name);
            }
            download
        };
        tokio::spawn(self.clone().pull_now(name, download, then_load));
        Ok(())
    }

    async fn pull_now(self, name: String, download: Download, then_load: bool) {
        let config = &self.inner.config;
        let progress = {
            let download = download.clone();
            move |progress: Progress| download.update(progress)
        };
        tracing::info!(model = name, "downloading");
        match pull(&config.library, &name, &config.pull, &progress, &download.cancel).await {
            Ok(model) => {
                tracing::info!(model = name, path = %model.path().display(), "downloaded");
                self.state().downloads.remove(&name);
                if then_load && let Err(error) = self.load(&model.name).await {
                    tracing::error!("{error}");
                }
            }
            Err(PullError::Cancelled { .. }) => {
                self.state().downloads.remove(&name);
            }
            Err(error) => {
                tracing::error!(model = name, "{error}");
                download.view().failed = Some((error.code(), error.to_string()));
            }
        }
    }

    /// Stops a download, or forgets one that failed. What has come stays for the next try.
    pub(crate) fn cancel_pull(&self, name: &str) -> Result<(), ApiError> {
        let name = self.catalog_name(name);
        let mut state = self.state();
        let Some(download) = state.downloads.get(&name) else {
            return Err(ApiError::NotFound { what: "download" });
        };
        if download.is_running() {
            download.cancel.cancel();
        } else {
            state.downloads.remove(&name);
        }
        Ok(())
    }

    /// Stops all downloads; the server is about to end.
    pub(crate) fn cancel_all_pulls(&self) {
        self.state().downloads.values().for_each(|download| download.cancel.cancel());
    }
}
