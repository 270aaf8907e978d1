//! A store and jobs of their own for each test.

use std::path::Path;
use std::time::{Duration, Instant};

use jobs::process::Process;
use jobs::{JobOrder, Jobs, JobsConfig};
use serde_json::{Value as Json, json};
use store::{Job, JobId, JobStatus, OwnerId, Store, StoreConfig};

/// How long anything may take that takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Goes on until it is interrupted, and says so. A minute and a half is as good as for ever, and leaves nothing behind
/// where a test fails.
pub(crate) const UNTIL_INTERRUPTED: &str =
    "trap 'echo saved; exit 130' INT; echo begun; for n in $(seq 1800); do sleep 0.05; done";
/// Does not care.
pub(crate) const STUBBORN: &str = "trap '' INT; echo begun; for n in $(seq 1800); do sleep 0.05; done";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) jobs: Jobs,
    pub(crate) owner: OwnerId,
    pub(crate) config: JobsConfig,
    _dir: tempfile::TempDir,
}

pub(crate) async fn world() -> World {
    world_with(|_| {}).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut JobsConfig)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let store = StoreConfig { data_dir: dir.path().join("data"), database_url: None };
    let store = Store::open(store).await.unwrap();
    let mut wrapper = vec![std::env::current_exe().unwrap().into_os_string()];
    wrapper.extend(["--ignored", "--exact", "--nocapture", "as_wrapper"].map(Into::into));
    let mut config = JobsConfig {
        folder: dir.path().join("runs"),
        wrapper,
        max_running: 1,
        min_free_bytes: 0,
        end_limit: LIMIT,
    };
    change(&mut config);
    let jobs = Jobs::open(store.clone(), config.clone()).unwrap();
    World { owner: store.local_owner(), store, jobs, config, _dir: dir }
}

impl World {
    /// As after a restart of the server: what was known only in memory is gone.
    pub(crate) async fn restart(&mut self, meanwhile: impl AsyncFnOnce(&World)) {
        self.jobs.close().await;
        meanwhile(self).await;
        self.jobs = Jobs::open(self.store.clone(), self.config.clone()).unwrap();
    }

    pub(crate) async fn order(&self, script: &str) -> JobId {
        self.order_command(JobId::new(), shell(script)).await
    }

    pub(crate) async fn order_command(&self, id: JobId, command: Vec<String>) -> JobId {
        let new = JobOrder { name: "a job".to_owned(), purpose: json!({}), command };
        self.jobs.submit(self.owner, id, new).await.unwrap();
        id
    }

    pub(crate) async fn job(&self, id: JobId) -> Job {
        self.jobs.get(self.owner, id).await.unwrap()
    }

    /// Waits until the job has this status.
    pub(crate) async fn until(&self, id: JobId, status: JobStatus) -> Job {
        let since = Instant::now();
        loop {
            let job = self.job(id).await;
            if job.status == status {
                return job;
            }
            assert!(since.elapsed() < LIMIT, "it is not {status:?}: {job:?}\n{}", self.printed(id));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the job has printed this, and its command has a name.
    pub(crate) async fn until_printed(&self, id: JobId, text: &str) {
        until(|| self.printed(id).contains(text) && !self.processes(id)["command"].is_null()).await;
    }

    pub(crate) fn printed(&self, id: JobId) -> String {
        self.jobs.output_tail(id, 100_000).unwrap()
    }

    /// What the wrapper has noted about the processes.
    pub(crate) fn processes(&self, id: JobId) -> Json {
        let text = std::fs::read(self.jobs.folder(id).join("process.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    pub(crate) fn process(&self, id: JobId, which: &str) -> Process {
        serde_json::from_value(self.processes(id)[which].clone()).unwrap()
    }
}

pub(crate) fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < LIMIT, "it does not come true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn kill(process: &Process) {
    assert!(process.signal(rustix::process::Signal::KILL).unwrap());
}

pub(crate) fn write(path: &Path, json: &Json) {
    std::fs::write(path, json.to_string()).unwrap();
}
