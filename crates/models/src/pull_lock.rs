//! One download of a model at a time, also between processes: a locked file in `.locks/`.
//!
//! The lock belongs to the open file, so that it ends with the process however that ends. The file itself
//! stays: removing it would let two processes lock two files of the same name.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Held while a model is downloaded or removed.
#[derive(Debug)]
pub(crate) struct PullLock {
    _file: File,
}

impl PullLock {
    /// Takes the lock of `stem`; none when another process holds it.
    pub(crate) fn try_take(folder: &Path, stem: &str) -> io::Result<Option<PullLock>> {
        let file = open(folder, stem)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(PullLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            // A file system without locks (some network mounts): go on without one.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(PullLock { _file: file }))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits for the lock of `stem`; for what takes a moment only. Blocking.
    pub(crate) fn take(folder: &Path, stem: &str) -> io::Result<PullLock> {
        let file = open(folder, stem)?;
        match file.lock() {
            Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(error),
            _ => Ok(PullLock { _file: file }),
        }
    }
}

fn open(folder: &Path, stem: &str) -> io::Result<File> {
    let locks = folder.join(".locks");
    std::fs::create_dir_all(&locks)?;
    File::options().create(true).truncate(false).write(true).open(locks.join(stem))
}
