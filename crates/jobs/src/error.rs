//! What can go wrong with jobs.

use std::io;
use std::path::PathBuf;

use store::StoreError;

/// An error of jobs.
#[derive(Debug, thiserror::Error)]
pub enum JobsError {
    /// The records.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What was asked for does not go with how far the job is.
    #[error("{reason}")]
    Conflict {
        /// A word for programs.
        code: &'static str,
        /// One line for people.
        reason: String,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl JobsError {
    pub(crate) fn conflict(code: &'static str, reason: impl Into<String>) -> JobsError {
        JobsError::Conflict { code, reason: reason.into() }
    }
}
