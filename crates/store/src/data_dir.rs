//! The data directory: made on first use (readable by its owner only), and held by one server at a time.
//!
//! The lock is the operating system's (`flock`), so it ends with the process however that ends; the pid inside the
//! file is only there to be named to a second server.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::StoreError;

/// The lock's file name inside the data directory.
const LOCK_FILE: &str = "daybreak.lock";

/// A data directory that this process holds; dropping it lets it go.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, takes its lock and writes our pid into it.
    pub fn lock(path: &Path) -> Result<DataDir, StoreError> {
        create_private(path).map_err(|e| not_writable(path, &e))?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(|e| not_writable(path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::Locked { path: path.to_owned(), pid: holder(&lock) });
            }
            Err(TryLockError::Error(e)) => return Err(not_writable(path, &e)),
        }
        write_pid(&mut lock).map_err(|e| not_writable(path, &e))?;
        Ok(DataDir { path: path.to_owned(), _lock: lock })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The pid in a lock file held by somebody else.
fn holder(lock: &File) -> String {
    let mut text = String::new();
    // 32 bytes hold any pid; a file that holds something else is not read whole.
    match lock.take(32).read_to_string(&mut text) {
        Ok(_) if text.trim().parse::<u32>().is_ok() => text.trim().to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn write_pid(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    lock.sync_all()
}

#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)
}

fn not_writable(path: &Path, error: &std::io::Error) -> StoreError {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return StoreError::Full { path: path.to_owned() };
    }
    StoreError::NotWritable { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_second_holder_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::lock(dir.path()).unwrap();
        match DataDir::lock(dir.path()) {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("expected Locked, got {other:?}"),
        }
        drop(first);
        DataDir::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_lock_file_with_rubbish_is_taken_over_when_nobody_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK_FILE), [0xff; 100]).unwrap();
        DataDir::lock(dir.path()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(LOCK_FILE)).unwrap();
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_one_clear_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = DataDir::lock(file.path()).unwrap_err().to_string();
        assert!(
            line.contains("cannot be written") && line.contains("--data") && !line.contains('\n'),
            "{line}"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_one_clear_line() {
        // /proc refuses new folders to everybody, root included.
        let line = DataDir::lock(Path::new("/proc/daybreak-data")).unwrap_err().to_string();
        assert!(line.contains("/proc/daybreak-data") && line.contains("--data"), "{line}");
    }
}
