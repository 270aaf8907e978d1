//! Jobs as they are ordered, looked at and ended.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use store::{Job, JobId, JobMove, JobStatus, JobWish, NewJob, OwnerId, Store};
use tokio::process::Child;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::JobsError;
use crate::folder::Folder;
use crate::process::Usage;
use crate::supervisor;

/// What the jobs are told.
#[derive(Debug, Clone)]
pub struct JobsConfig {
    /// Where each has a folder, named by its id.
    pub folder: PathBuf,
    /// Program and first arguments of the wrapper; the job's folder, `--` and the command follow.
    pub wrapper: Vec<OsString>,
    /// Jobs at once; more wait.
    pub max_running: usize,
    /// Bytes that must be free on the disk for a job to begin.
    pub min_free_bytes: u64,
    /// A process that was asked to end and is still there after this is asked again, and after twice this killed.
    pub end_limit: Duration,
}

/// A job to be done.
#[derive(Debug, Clone)]
pub struct JobOrder {
    /// As people call it.
    pub name: String,
    /// What it is for; read by whoever orders it.
    pub purpose: Json,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// All jobs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Jobs {
    pub(crate) inner: Arc<Inner>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) config: JobsConfig,
    /// Which jobs are ours, of all that are on record.
    pub(crate) place: String,
    /// Something is to be done.
    pub(crate) wake: Notify,
    /// How many waited and how many were running at the last look.
    pub(crate) n_waiting: AtomicUsize,
    pub(crate) n_running: AtomicUsize,
    /// Counts what has changed.
    pub(crate) changes: watch::Sender<u64>,
    /// Wrappers that this process has started.
    pub(crate) wrappers: Mutex<HashMap<JobId, Child>>,
    looks: Mutex<HashMap<JobId, Look>>,
    is_closed: watch::Sender<bool>,
}

/// When a job's processor time was looked at last.
#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    cpu_seconds: f64,
    usage: Usage,
}

/// Processor time is told in ticks of some 10 ms: over less than this, shares would be noise.
const LOOK_EVERY: Duration = Duration::from_millis(900);
/// The file with the name of the folder of jobs.
const PLACE: &str = ".place";
/// Names of folders whose jobs are deleted.
const GONE: &str = ".gone-";

impl Jobs {
    /// Takes up the jobs that are on record: what is running is watched again, what is gone is marked, what waits gets
    /// its turn.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(store: Store, config: JobsConfig) -> Result<Jobs, JobsError> {
        let at = |source| JobsError::Io { path: config.folder.clone(), source };
        fs::create_dir_all(&config.folder).map_err(at)?;
        for entry in fs::read_dir(&config.folder).map_err(at)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(GONE) {
                // What is left of a deletion; what cannot be removed now is tried again at the next start.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let inner = Arc::new(Inner {
            store,
            place: place(&config.folder).map_err(at)?,
            config,
            wake: Notify::new(),
            n_waiting: AtomicUsize::new(0),
            n_running: AtomicUsize::new(0),
            changes: watch::Sender::new(0),
            wrappers: Mutex::default(),
            looks: Mutex::default(),
            is_closed: watch::Sender::new(false),
        });
        let task = tokio::spawn(supervisor::watch(Arc::clone(&inner)));
        Ok(Jobs { inner, task: Arc::new(Mutex::new(Some(task))) })
    }

    /// Watches no longer. The processes go on.
    pub async fn close(&self) {
        self.inner.is_closed.send_replace(true);
        self.inner.wake.notify_one();
        let task = guard(&self.task).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// Makes a job, which begins when it is its turn. The id names its folder, which the command may need to know.
    ///
    /// # Errors
    /// Where it cannot be recorded.
    pub async fn submit(&self, owner: OwnerId, id: JobId, order: JobOrder) -> Result<Job, JobsError> {
        let JobOrder { name, purpose, command } = order;
        let new = NewJob { place: self.inner.place.clone(), name, purpose, command };
        let job = self.inner.store.create_job(owner, id, new).await?;
        self.inner.changed();
        Ok(job)
    }

    /// A job.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn get(&self, owner: OwnerId, id: JobId) -> Result<Job, JobsError> {
        Ok(self.inner.store.job(owner, id).await?)
    }

    /// All jobs of an owner, the newest first.
    ///
    /// # Errors
    /// Where the records cannot be read.
    pub async fn list(&self, owner: OwnerId) -> Result<Vec<Job>, JobsError> {
        Ok(self.inner.store.jobs(owner).await?)
    }

    /// Gives a job another name.
    ///
    /// # Errors
    /// Where there is none, or the name is no name.
    pub async fn rename(&self, owner: OwnerId, id: JobId, name: &str) -> Result<Job, JobsError> {
        let job = self.inner.store.rename_job(owner, id, name).await?;
        self.inner.changed();
        Ok(job)
    }

    /// Asks a job to end, to go on later or for good. It has ended once its process has.
    ///
    /// # Errors
    /// Where it is not going, so that there is nothing to end.
    pub async fn interrupt(&self, owner: OwnerId, id: JobId, wish: JobWish) -> Result<Job, JobsError> {
        let ended = match wish {
            JobWish::Pause => JobStatus::Paused,
            JobWish::Stop => JobStatus::Stopped,
        };
        // What has no process has ended at once.
        let idle: &[JobStatus] = match wish {
            JobWish::Pause => &[JobStatus::Queued],
            JobWish::Stop => &[JobStatus::Queued, JobStatus::Paused, JobStatus::Lost],
        };
        let end = JobMove::End { status: ended, reason: None, exit_code: None };
        let store = &self.inner.store;
        let mut moved = store.move_job(owner, id, idle, end).await?;
        if moved.is_none() {
            let going = [JobStatus::Running, JobStatus::Ending];
            moved = store.move_job(owner, id, &going, JobMove::Ask(wish)).await?;
        }
        self.inner.changed();
        match moved {
            Some(job) => Ok(job),
            None => {
                let status = store.job(owner, id).await?.status.name();
                Err(JobsError::conflict("not_running", format!("it is {status}, so there is nothing to end")))
            }
        }
    }

    /// Puts a job back into the queue, with the command that takes it up again.
    ///
    /// # Errors
    /// Where it is going, or done.
    pub async fn resume(&self, owner: OwnerId, id: JobId, command: Vec<String>) -> Result<Job, JobsError> {
        let from = [JobStatus::Paused, JobStatus::Stopped, JobStatus::Failed, JobStatus::Lost];
        let moved = self.inner.store.move_job(owner, id, &from, JobMove::Queue { command }).await?;
        self.inner.changed();
        match moved {
            Some(job) => Ok(job),
            None => {
                let status = self.inner.store.job(owner, id).await?.status.name();
                Err(JobsError::conflict("not_resumable", format!("it is {status}, so it cannot be resumed")))
            }
        }
    }

    /// Deletes a job that is not going, with its folder.
    ///
    /// # Errors
    /// Where it is going.
    pub async fn remove(&self, owner: OwnerId, id: JobId) -> Result<(), JobsError> {
        let job = self.inner.store.job(owner, id).await?;
        let running = || JobsError::conflict("still_running", "it is still going; pause or stop it first");
        if job.status.is_going() {
            return Err(running());
        }
        // Out of the way first: a folder without a record would stay for ever.
        let (path, gone) = (self.folder(id), self.inner.config.folder.join(format!("{GONE}{id}")));
        match fs::rename(&path, &gone) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(JobsError::Io { path, source: error });
            }
            _ => {}
        }
        match self.inner.store.delete_job(owner, id).await {
            Ok(true) => {}
            not_deleted => {
                let _ = fs::rename(&gone, &path);
                not_deleted?;
                return Err(running());
            }
        }
        self.inner.changed();
        tokio::task::spawn_blocking(move || fs::remove_dir_all(&gone));
        Ok(())
    }

    /// A job's folder, whether it is there yet or not.
    #[must_use]
    pub fn folder(&self, id: JobId) -> PathBuf {
        self.inner.folder(id).path().to_owned()
    }

    /// The folder of all folders.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.config.folder
    }

    /// The last bytes of what a job has printed.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn output_tail(&self, id: JobId, n_bytes: u64) -> Result<String, JobsError> {
        let folder = self.inner.folder(id);
        folder.tail(n_bytes).map_err(|source| JobsError::Io { path: folder.output(), source })
    }

    /// The last line that a job has printed: what it is doing, or why it failed.
    #[must_use]
    pub fn last_line(&self, id: JobId) -> Option<String> {
        self.inner.folder(id).last_line()
    }

    /// What a job's command takes, if it is running.
    #[must_use]
    pub fn usage(&self, id: JobId) -> Option<Usage> {
        let (cpu_seconds, memory_bytes) = self.inner.folder(id).processes()?.command?.consumption()?;
        let mut looks = guard(&self.inner.looks);
        let now = Instant::now();
        let cpu_share = match looks.get(&id) {
            Some(last) if now - last.at < LOOK_EVERY => {
                return Some(Usage { memory_bytes, ..last.usage });
            }
            // Another process than at the last look.
            Some(last) if last.cpu_seconds > cpu_seconds => 0.0,
            Some(last) => {
                let n_cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
                let seconds = (now - last.at).as_secs_f64() * n_cpus as f64;
                ((cpu_seconds - last.cpu_seconds) / seconds).clamp(0.0, 1.0)
            }
            None => 0.0,
        };
        let usage = Usage { memory_bytes, cpu_share };
        looks.insert(id, Look { at: now, cpu_seconds, usage });
        Some(usage)
    }

    /// How many jobs wait, and how many are running.
    #[must_use]
    pub fn n_going(&self) -> (usize, usize) {
        (self.inner.n_waiting.load(Ordering::Relaxed), self.inner.n_running.load(Ordering::Relaxed))
    }

    /// Hears of every change of any job.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }
}

impl Inner {
    pub(crate) fn folder(&self, id: JobId) -> Folder {
        Folder::new(self.config.folder.join(id.to_string()))
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n += 1);
        self.wake.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.is_closed.borrow()
    }

    pub(crate) fn forget(&self, id: JobId) {
        guard(&self.looks).remove(&id);
        guard(&self.wrappers).remove(&id);
    }
}

/// The name of a folder of jobs, which stays with it wherever it is moved.
fn place(folder: &Path) -> io::Result<String> {
    let path = folder.join(PLACE);
    match fs::read_to_string(&path) {
        Ok(name) if !name.trim().is_empty() => return Ok(name.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let name = JobId::new().to_string();
    fs::write(&path, &name)?;
    Ok(name)
}

pub(crate) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
