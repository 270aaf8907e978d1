//! Digests that were taken from a hub at the first download (`pins.json`). They outlive the model: a later
//! download must bring the same bytes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::SourceError;
use crate::manifest::{read_json, write_json};
use crate::pull_lock::PullLock;

/// Where pins are kept.
pub(super) fn path(folder: &Path) -> PathBuf {
    folder.join("pins.json")
}

fn read(folder: &Path) -> BTreeMap<String, Vec<String>> {
    read_json(&path(folder)).unwrap_or_default()
}

/// Checks what a hub states today (the digests of the files in order) against the pin of `name`, if there is one.
pub(super) fn check(folder: &Path, name: &str, stated: &[String]) -> Result<(), SourceError> {
    match read(folder).get(name) {
        Some(pinned) if pinned != stated => Err(SourceError::PinChanged {
            pinned: pinned.join(" "),
            stated: stated.join(" "),
            pins: path(folder),
        }),
        _ => Ok(()),
    }
}

/// Pins the digests of `name`.
pub(super) fn set(folder: &Path, name: &str, digests: Vec<String>) -> io::Result<()> {
    // Another model may be pinned in the same moment.
    let _lock = PullLock::take(folder, "pins.json")?;
    let mut pins = read(folder);
    if pins.get(name) == Some(&digests) {
        return Ok(());
    }
    pins.insert(name.to_string(), digests);
    write_json(&path(folder), &pins)
}
