//! The one place that reads the environment: flags, environment and machine become the plain settings
//! that the crates are handed.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// `name` from the environment, when set and not empty.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn home() -> Result<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).context("the home directory is not known: set HOME, or give --data DIR")
}

/// Where models and conversations lie: the flag, else `$XDG_DATA_HOME/daybreak`, else
/// `~/.local/share/daybreak`.
pub(crate) fn data_dir(flag: Option<PathBuf>) -> Result<PathBuf> {
    match (flag, var("XDG_DATA_HOME")) {
        (Some(dir), _) => Ok(dir),
        (None, Some(xdg)) => Ok(PathBuf::from(xdg).join("daybreak")),
        (None, None) => Ok(home()?.join(".local/share/daybreak")),
    }
}

/// Physical cores this process may use: threads that share a core compute no faster here.
pub(crate) fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    allowed.min(physical_cores().unwrap_or(allowed)).max(1)
}

/// Distinct (package, core) pairs in `/proc/cpuinfo`.
fn physical_cores() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut cores = std::collections::BTreeSet::new();
    let mut package = "";
    for line in text.lines() {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("physical id", id)) => package = id,
            Some(("core id", id)) => {
                cores.insert((package.to_owned(), id.to_owned()));
            }
            _ => {}
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}
