//! From the queue to the end: starts what may start, asks to end what is to end, and notes how each ended.
//!
//! Nothing is remembered here that is not in the records and folders, so the first look after a restart is a look like
//! any other.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use store::{Job, JobMove, JobStatus, JobWish};
use tokio::process::Command;

use crate::folder::{Exit, Folder};
use crate::handle::{Inner, guard};
use crate::{INTERRUPTED, JobsError, free_bytes};

/// Time between two looks while something is going.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// The same while nothing is.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(10);
/// Time between two tries where the records cannot be read or written.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// A wrapper that was started just before the server ended may not have written its name yet.
const NAME_WITHIN_MS: i64 = 5000;

pub(crate) async fn watch(inner: Arc<Inner>) {
    while !inner.is_closed() {
        match inner.look_at_all().await {
            // Nothing to do until somebody orders something, here or at another server.
            Ok(false) => _ = tokio::time::timeout(IDLE_LOOK_EVERY, inner.wake.notified()).await,
            Ok(true) => _ = tokio::time::timeout(LOOK_EVERY, inner.wake.notified()).await,
            Err(error) => {
                tracing::error!("jobs: {error}");
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

impl Inner {
    /// Looks at everything that is going; whether anything is.
    async fn look_at_all(&self) -> Result<bool, JobsError> {
        let going = self.store.going_jobs(&self.place).await?;
        let (waiting, running): (Vec<_>, Vec<_>) =
            going.into_iter().partition(|job| job.status == JobStatus::Queued);
        let mut n_running = 0;
        for job in &running {
            n_running += usize::from(self.look_at(job).await?);
        }
        let free = self.config.max_running.saturating_sub(n_running);
        let mut n_waiting = waiting.len();
        for job in waiting.iter().take(free) {
            n_running += usize::from(self.start(job).await?);
            n_waiting -= 1;
        }
        self.n_waiting.store(n_waiting, Ordering::Relaxed);
        self.n_running.store(n_running, Ordering::Relaxed);
        Ok(n_running > 0 || n_waiting > 0)
    }

    /// Starts a job's process; whether it is running.
    async fn start(&self, job: &Job) -> Result<bool, JobsError> {
        let folder = self.folder(job.id);
        let failed =
            |reason| JobMove::End { status: JobStatus::Failed, reason: Some(reason), exit_code: None };
        let output = match self
            .check_disk()
            .and_then(|()| folder.prepare().map_err(|error| format!("{}: {error}", folder.path().display())))
        {
            Ok(output) => output,
            Err(reason) => {
                self.store.move_job(job.owner, job.id, &[JobStatus::Queued], failed(reason)).await?;
                self.changed();
                return Ok(false);
            }
        };
        // On record before there is a process.
        if self.store.move_job(job.owner, job.id, &[JobStatus::Queued], JobMove::Start).await?.is_none() {
            return Ok(false);
        }
        self.changed();
        match self.spawn(job, &folder, output) {
            Ok(()) => Ok(true),
            Err(error) => {
                let reason = format!("its process cannot be started: {error}");
                self.store.move_job(job.owner, job.id, &[JobStatus::Running], failed(reason)).await?;
                self.changed();
                Ok(false)
            }
        }
    }

    fn spawn(&self, job: &Job, folder: &Folder, output: std::fs::File) -> std::io::Result<()> {
        let (program, first_args) =
            self.config.wrapper.split_first().ok_or_else(|| std::io::Error::other("no wrapper"))?;
        let child = Command::new(program)
            .args(first_args)
            .arg(folder.path())
            .arg("--")
            .args(&job.command)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        guard(&self.wrappers).insert(job.id, child);
        Ok(())
    }

    /// A run that cannot write its first checkpoint had better not begin.
    fn check_disk(&self) -> Result<(), String> {
        let folder = &self.config.folder;
        let needed = self.config.min_free_bytes;
        // A file system that does not tell: the run itself will.
        let Some(free) = free_bytes(folder).filter(|free| *free < needed) else { return Ok(()) };
        Err(format!(
            "no space left: {} MB are free in {}, {} MB are needed to begin; free some space and resume",
            free >> 20,
            folder.display(),
            needed >> 20
        ))
    }

    /// Looks at a job with a process; whether it is still going.
    async fn look_at(&self, job: &Job) -> Result<bool, JobsError> {
        let folder = self.folder(job.id);
        let processes = folder.processes();
        if processes.as_ref().is_some_and(|processes| processes.are_alive()) {
            if job.status == JobStatus::Ending {
                self.ask_to_end(job, &folder);
            }
            return Ok(true);
        }
        // Looked for only now: the wrapper writes it and ends.
        let exit = match folder.exit() {
            Some(exit) => Some(exit),
            None => {
                let wrapper = guard(&self.wrappers).get_mut(&job.id).map(|wrapper| wrapper.try_wait());
                match wrapper {
                    // It has only just been started.
                    Some(Ok(None)) => return Ok(true),
                    // It could not write, on a full disk for instance, and tells by its own end.
                    Some(Ok(Some(status))) if status.code().is_some() => {
                        folder.exit().or(Some(Exit { code: status.code(), signal: None }))
                    }
                    None if processes.is_none() && is_recent(job.started_at) => return Ok(true),
                    _ => folder.exit(),
                }
            }
        };
        let (status, reason) = end_of(job.wish, exit, &folder);
        let exit_code = exit.and_then(|exit| exit.code).map(i64::from);
        let from = [JobStatus::Running, JobStatus::Ending];
        self.store.move_job(job.owner, job.id, &from, JobMove::End { status, reason, exit_code }).await?;
        self.forget(job.id);
        self.changed();
        Ok(false)
    }

    /// Once, then again when it takes too long, and at last without asking.
    fn ask_to_end(&self, job: &Job, folder: &Folder) {
        let Some(command) = folder.processes().and_then(|processes| processes.command) else { return };
        let waited = Duration::from_millis(job.wished_at.map_or(0, |at| now_ms() - at).max(0).unsigned_abs());
        let limit = self.config.end_limit;
        let signal = match folder.is_interrupted() {
            false => Signal::INT,
            true if waited > 2 * limit => Signal::KILL,
            true if waited > limit => Signal::INT,
            true => return,
        };
        // Noted first: a second interruption of a command that is saving would end it before it has.
        if let Err(error) = folder.mark_interrupted().and_then(|()| command.signal(signal).map(|_| ())) {
            tracing::error!("job {}: cannot be asked to end: {error}", job.id);
        }
    }
}

/// What a process's end means for its job, and why.
fn end_of(wish: Option<JobWish>, exit: Option<Exit>, folder: &Folder) -> (JobStatus, Option<String>) {
    let ended = match wish {
        Some(JobWish::Stop) => JobStatus::Stopped,
        Some(JobWish::Pause) | None => JobStatus::Paused,
    };
    let Some(exit) = exit else {
        let reason =
            "its process is gone and has not said how it ended: it was killed, or the machine was off";
        return (JobStatus::Lost, Some(reason.to_owned()));
    };
    let (int, kill, term) = (Signal::INT.as_raw(), Signal::KILL.as_raw(), Signal::TERM.as_raw());
    match (exit.code, exit.signal) {
        (Some(0), _) => (JobStatus::Done, None),
        (Some(INTERRUPTED), _) => (ended, None),
        (_, Some(signal)) if signal == int => (ended, None),
        (_, Some(signal)) if wish.is_some() && (signal == kill || signal == term) => {
            (ended, Some("its process did not end when it was asked to, and was killed".to_owned()))
        }
        (_, Some(signal)) if signal == kill => {
            let reason = "its process was killed (signal 9), as the system does when memory runs out";
            (JobStatus::Lost, Some(reason.to_owned()))
        }
        (_, Some(signal)) if signal == term => {
            (JobStatus::Lost, Some("its process was told to end by the system (signal 15)".to_owned()))
        }
        (_, Some(signal)) => (JobStatus::Failed, Some(format!("its process was ended by signal {signal}"))),
        (code, None) => {
            let code = code.map_or(String::new(), |code| format!("exit code {code}"));
            (JobStatus::Failed, Some(folder.last_line().unwrap_or(code)))
        }
    }
}

fn is_recent(started_at: Option<i64>) -> bool {
    started_at.is_some_and(|at| now_ms() - at < NAME_WITHIN_MS)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
