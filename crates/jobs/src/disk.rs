//! How much room there is.

use std::path::Path;

/// Bytes that an ordinary user may still write below this folder, where the file system tells.
#[must_use]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
