//! Servers to test: one that most tests share, and small ones of their own.

#[path = "../../src/test_support.rs"]
mod test_support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use engine::Isa;
use server::{Limits, ServeError, ServerConfig, serve};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client;

/// The real default model.
pub(crate) fn model_path() -> PathBuf {
    let given = std::env::var_os("DAYBREAK_TEST_MODEL").map(PathBuf::from);
    let path = given.unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cache"));
        cache.join("daybreak/models/smollm2-135m.gguf")
    });
    assert!(path.is_file(), "{} is missing: run `make test-setup`", path.display());
    path
}

/// A server with a data directory of its own, on any free port, that loads the real model.
pub(crate) fn config(data_dir: &std::path::Path) -> ServerConfig {
    ServerConfig {
        models: vec![model_path().to_str().unwrap().to_string()],
        isa: Isa::detect(),
        ctx: Some(1024),
        limits: Limits { shutdown_grace: Duration::from_secs(2), ..Limits::standard() },
        ..test_support::config(data_dir)
    }
}

/// A running server that ends with [`Running::stop`] (or with the test's runtime).
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
    _data_dir: tempfile::TempDir,
}

impl Running {
    /// Asks it to end and waits for that.
    pub(crate) async fn stop(self) -> Result<(), ServeError> {
        self.stop.send(()).unwrap();
        self.serving.await.unwrap()
    }
}

/// Starts a server after `change` has had its say.
pub(crate) async fn start(change: impl FnOnce(&mut ServerConfig)) -> Running {
    let data_dir = tempfile::tempdir().unwrap();
    let mut config = config(data_dir.path());
    change(&mut config);
    let (ready, when_ready) = oneshot::channel();
    let (stop, when_stopped) = oneshot::channel::<()>();
    let shutdown = async move {
        // A dropped sender is no wish to stop.
        if when_stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let serving = tokio::spawn(serve(config, |address| ready.send(address).unwrap(), shutdown));
    match when_ready.await {
        Ok(address) => Running { address, stop, serving, _data_dir: data_dir },
        Err(_) => panic!("{:?}", serving.await.unwrap()),
    }
}

/// The server that tests share. It lives on threads of its own until the process ends.
pub(crate) async fn shared() -> SocketAddr {
    static ADDRESS: OnceLock<SocketAddr> = OnceLock::new();
    let begin = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let running = start(|_| {}).await;
                sender.send(running.address).unwrap();
                std::future::pending::<()>().await;
            });
        });
        receiver.recv().unwrap()
    };
    tokio::task::spawn_blocking(move || *ADDRESS.get_or_init(begin)).await.unwrap()
}

/// A number of `/metrics`: of one line when `name` holds its labels, else summed over all.
pub(crate) async fn metric(address: SocketAddr, name: &str) -> f64 {
    let answer = client::get(address, "/metrics").await;
    let is_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let lines = answer.text().lines().filter(is_it);
    let values: Vec<f64> = lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(!values.is_empty(), "no metric {name} in\n{}", answer.text());
    values.iter().sum()
}

/// Waits until a number of `/metrics` is what it should be.
pub(crate) async fn wait_for_metric(address: SocketAddr, name: &str, expected: f64, limit: Duration) {
    let since = Instant::now();
    loop {
        let found = metric(address, name).await;
        if found == expected {
            return;
        }
        assert!(since.elapsed() < limit, "{name} is {found} after {limit:?}, expected {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
