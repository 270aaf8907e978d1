//! Why a file is no adapter, or not one for this base.

use std::path::{Path, PathBuf};

use crate::gguf::GgufError;

/// What is wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The file is damaged or no GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A readable file that is not an adapter that can be used.
    #[error("adapter {}: {what}: expected {expected}, found {found}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What would do.
        expected: String,
        /// What it holds.
        found: String,
    },
    /// An adapter for another architecture or shape.
    #[error("adapter {} was made for another model: {what}: expected {expected}, found {found}", .path.display())]
    OtherBase {
        /// The file.
        path: PathBuf,
        /// Where they differ.
        what: String,
        /// What the base has.
        expected: String,
        /// What the adapter has.
        found: String,
    },
}

impl AdapterError {
    pub(super) fn invalid(path: &Path, what: String, expected: String, found: String) -> AdapterError {
        AdapterError::Invalid { path: path.to_owned(), what, expected, found }
    }
}
