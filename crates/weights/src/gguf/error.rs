//! What can be wrong with a model file, each case as one line: what, where, expected, found.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::byte_reader::Short;
use super::looks_like::LooksLike;
use super::quoted::quote;

/// Why a model file could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: open, map, write …
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, pipe or device.
    #[error("{} is {what}; expected a .gguf file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Zero bytes.
    #[error("{} is empty (0 bytes); expected a GGUF file, download it again", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Another format.
    #[error("{} is not a GGUF file: expected the bytes \"GGUF\" at the start, found {looks_like}", .path.display())]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// What the first bytes look like.
        looks_like: LooksLike,
    },
    /// Written for a big-endian machine.
    #[error("{} is a big-endian GGUF file, which is not supported; expected a little-endian one (convert it with gguf_convert_endian.py)", .path.display())]
    BigEndian {
        /// The file.
        path: PathBuf,
    },
    /// Not version 2 or 3.
    #[error("{}: unsupported GGUF version at byte 4: expected 2 or 3, found {found}{}", .path.display(), version_hint(*.found))]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it states.
        found: u32,
    },
    /// A fault at a known place.
    #[error("{}: {damage}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault.
        damage: Box<Damage>,
    },
    /// Parts of a split model are not there.
    #[error("{}: part of a model split into {n_parts} files, of which {} missing: {}", .path.display(), if .missing.len() == 1 { "one is".to_owned() } else { format!("{} are", .missing.len()) }, name_some(.missing))]
    MissingParts {
        /// The part that was opened.
        path: PathBuf,
        /// How many there must be.
        n_parts: usize,
        /// File names that were not found.
        missing: Vec<String>,
    },
    /// The file says it is a part, but its name or its siblings say otherwise.
    #[error("{}: {field} of a split model: expected {expected}, found {found}", .path.display())]
    Split {
        /// The part.
        path: PathBuf,
        /// Which fact disagrees.
        field: &'static str,
        /// What the other facts say.
        expected: String,
        /// What it says.
        found: String,
    },
    /// A key holds another type than its reader needs.
    #[error("metadata key {key}: expected {expected}, found {found}")]
    ValueType {
        /// The key, quoted.
        key: String,
        /// What was needed.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// Something handed to the writer cannot be written.
    #[error("cannot write {subject}: {field}: expected {expected}, found {found}")]
    Unwritable {
        /// Key or tensor.
        subject: Subject,
        /// Which fact of it.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        found: String,
    },
}

fn version_hint(found: u32) -> &'static str {
    if found == 1 { " (convert the model again with a newer tool)" } else { "" }
}

/// At most five names, and how many more there are.
fn name_some(names: &[String]) -> String {
    let mut text = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(&format!(" and {} more", names.len() - 5));
    }
    text
}

/// A fault of a file's content.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Damage {
    /// The file ends too early.
    #[error(
        "truncated: {subject} ({field}) at byte {offset} needs {needed} bytes, {available} are left (an unfinished download? fetch the file again)"
    )]
    Truncated {
        /// What was being read.
        subject: Subject,
        /// Which fact of it.
        field: &'static str,
        /// Where.
        offset: u64,
        /// Bytes needed from there.
        needed: u64,
        /// Bytes there are.
        available: u64,
    },
    /// A fact outside what is allowed.
    #[error("{subject}: {field} at byte {offset}: expected {expected}, found {found}")]
    Invalid {
        /// What was being read.
        subject: Subject,
        /// Which fact of it.
        field: &'static str,
        /// Where.
        offset: u64,
        /// What is allowed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A key or tensor name occurs twice.
    #[error("{subject} at byte {offset}: expected a name used once, found it a second time (duplicate)")]
    Duplicate {
        /// The key or tensor.
        subject: Subject,
        /// Where the second one is.
        offset: u64,
    },
    /// A big-endian file.
    #[error("big-endian GGUF")]
    BigEndian,
    /// Not version 2 or 3.
    #[error("GGUF version {0}")]
    Version(u32),
}

impl Damage {
    /// The error of the file that has this fault.
    pub(super) fn in_file(self, path: &Path) -> GgufError {
        let path = path.to_owned();
        match self {
            Damage::BigEndian => GgufError::BigEndian { path },
            Damage::Version(found) => GgufError::Version { path, found },
            damage => GgufError::Damaged { path, damage: Box::new(damage) },
        }
    }

    /// The fault of a read that ran past the end.
    pub(super) fn truncated(subject: Subject, field: &'static str, short: Short) -> Damage {
        let Short { offset, needed, available } = short;
        Damage::Truncated { subject, field, offset, needed, available }
    }

    /// The fault of a fact that is not allowed.
    pub(super) fn invalid(
        subject: Subject,
        field: &'static str,
        offset: usize,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Damage {
        let offset = offset as u64;
        Damage::Invalid { subject, field, offset, expected: expected.to_string(), found: found.to_string() }
    }
}

/// Which thing in a file an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Magic, version and counts.
    Header,
    /// The n-th metadata key, whose name could not be read.
    KeyNumber(u64),
    /// A metadata key, quoted.
    Key(String),
    /// The n-th tensor, whose name could not be read.
    TensorNumber(u64),
    /// A tensor, quoted.
    Tensor(String),
}

impl Subject {
    /// The key with these bytes.
    pub(crate) fn key(bytes: &[u8]) -> Subject {
        Subject::Key(quote(bytes))
    }

    /// The tensor with these bytes as its name.
    pub(crate) fn tensor(bytes: &[u8]) -> Subject {
        Subject::Tensor(quote(bytes))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Header => f.write_str("GGUF header"),
            Subject::KeyNumber(i) => write!(f, "metadata key number {i}"),
            Subject::Key(key) => write!(f, "metadata key {key}"),
            Subject::TensorNumber(i) => write!(f, "tensor number {i}"),
            Subject::Tensor(name) => write!(f, "tensor {name}"),
        }
    }
}
