//! What every source needs while one model is fetched: settings, client, folder, lock, progress.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::disk;
use super::error::{PullError, SourceError, Stop};
use super::part::{PartFile, PartPaths};
use super::report::{Phase, Report};
use crate::pull_lock::PullLock;
use crate::settings::Settings;
use crate::web::Web;

/// How often a blocking task's counter is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// One model being fetched.
pub(super) struct Job<'a> {
    pub(super) settings: &'a Settings,
    pub(super) web: &'a Web,
    pub(super) report: &'a Report<'a>,
    pub(super) folder: PathBuf,
    pub(super) lock: Arc<PullLock>,
    /// Set when the download is dropped, for the threads that work for it.
    pub(super) stop: Arc<AtomicBool>,
}

/// A file that is complete and under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) size: u64,
    pub(super) sha256: String,
}

/// Tells threads to stop when the download that they work for is dropped.
#[derive(Default)]
pub(super) struct StopOnDrop(pub(super) Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Job<'_> {
    /// Runs `work` on a thread of its own and reports what it counts, on top of `base` bytes.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        phase: Phase,
        base: u64,
        work: impl FnOnce(&AtomicU64, &AtomicBool) -> T + Send + 'static,
    ) -> Result<T, PullError> {
        let counter = Arc::new(AtomicU64::new(0));
        let (count, stop) = (counter.clone(), self.stop.clone());
        let mut task = tokio::task::spawn_blocking(move || work(&count, &stop));
        loop {
            tokio::select! {
                done = &mut task => {
                    return done.map_err(|error| self.io(&self.folder, std::io::Error::other(error)));
                }
                () = tokio::time::sleep(WATCH_INTERVAL) => {
                    self.report.at(phase, base + counter.load(Ordering::Relaxed));
                }
            }
        }
    }

    pub(super) fn io(&self, path: &Path, source: std::io::Error) -> PullError {
        PullError::Io { path: path.to_path_buf(), source }
    }

    /// Opens the part and hashes what is in it.
    pub(super) async fn open_part(&self, paths: &PartPaths, max_len: u64) -> Result<PartFile, Stop> {
        let (place, lock) = (paths.clone(), self.lock.clone());
        let opened = self
            .blocking(Phase::Checking, 0, move |checked, stop| {
                PartFile::open(&place, max_len, lock, checked, stop)
            })
            .await?;
        Ok(opened.map_err(|error| disk::write_error(&paths.part, error))?)
    }

    /// The error for a failed write; a full disk leaves nothing behind.
    pub(super) fn write_failed(&self, paths: &PartPaths, error: std::io::Error) -> Stop {
        let error = disk::write_error(&paths.part, error);
        if matches!(error, PullError::DiskFull { .. }) {
            let _ = paths.drop_part();
        }
        Stop::All(error)
    }

    /// Checks that there is room for `needed` more bytes; a part that cannot be completed is not kept.
    pub(super) fn check_room(&self, paths: &PartPaths, needed: u64) -> Result<(), Stop> {
        disk::check(&self.folder, needed).map_err(|error| {
            let _ = paths.drop_part();
            Stop::All(error)
        })
    }

    /// Checks the complete part against what it must be and gives it its name.
    /// A part that is wrong is dropped.
    pub(super) async fn finish(
        &self,
        mut part: PartFile,
        paths: &PartPaths,
        expected: Option<&str>,
    ) -> Result<Fetched, Stop> {
        let fetched = Fetched { size: part.len(), sha256: part.sha256() };
        let wrong = match expected {
            Some(expected) if expected != fetched.sha256 => {
                let found = fetched.sha256.clone();
                Some(SourceError::WrongHash { expected: expected.to_string(), found })
            }
            Some(_) => None,
            // Nothing to compare with: at least it must not be an error page.
            None => match part.magic().map_err(|error| disk::write_error(&paths.part, error))? {
                magic if magic == b"GGUF" => None,
                magic => {
                    Some(SourceError::NotGguf { found: format!("{:?}", String::from_utf8_lossy(&magic)) })
                }
            },
        };
        if let Some(error) = wrong {
            drop(part);
            paths.drop_part().map_err(|error| self.io(&paths.part, error))?;
            return Err(error.into());
        }
        self.report.tell_now(Phase::Checking, fetched.size);
        let place = paths.clone();
        let published =
            self.blocking(Phase::Checking, fetched.size, move |_, _| part.publish(&place)).await?;
        published.map_err(|error| self.write_failed(paths, error))?;
        Ok(fetched)
    }
}
