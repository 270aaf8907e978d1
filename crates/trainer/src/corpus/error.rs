//! What can be wrong with a corpus.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a corpus could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A path that was named.
    #[error("{} cannot be read: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No file of a known kind.
    #[error("no text in {}: expected files that end in {}, or one of these in .gz or .zip", list(.0), super::files::EXTENSIONS.join(", "))]
    NoText(Vec<PathBuf>),
    /// A record that is not to be skipped.
    #[error("{0}; leave such records out with --skip-broken")]
    Broken(BrokenRecord),
    /// Records there were, but none with an answer that is left.
    #[error(
        "there is no answer to learn from: every conversation lacks one, or it stands behind the end of a sequence"
    )]
    NothingToLearn,
    /// Whoever took the documents wants no more.
    #[error("the reading was stopped")]
    Stopped,
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Where a record is and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRecord {
    /// The file, and the entry if it is an archive.
    pub file: String,
    /// Counted from 1; none where it is the file itself.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for BrokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", tokenizer::one_line(&self.file))?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.what)
    }
}
