//! What does training read? The tokens of a corpus, written once to files that are mapped: one pair of files a source,
//! what is learnt from and what is held out.
//!
//! Every document begins with the vocabulary's document token. A text that was seen before, in whichever source, is
//! left out, and which documents are held out follows from their content alone.

mod selection;
mod token_file;
mod tokenise;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::corpus::{BrokenRecord, CorpusError};

pub use selection::{UnknownLanguage, language_by_name};
pub(crate) use token_file::TokenFileWriter;
#[cfg(any(test, fuzzing))]
pub use token_file::token_files;
pub use token_file::{TokenFile, TokenFileError};
pub use tokenise::{DataProgress, DataSource, PrepareData, prepare_data};

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The texts.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The files of tokens.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// The folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being written or read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A description that is not one.
    #[error("{}: {what}", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// What lies in a folder of tokens, kept there as `data.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSummary {
    /// Of the sources in the order in which they were given.
    pub sources: Vec<SourceSummary>,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Digest of the vocabulary and of all tokens in their order: the same data has the same.
    pub digest: String,
}

/// One source.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceSummary {
    /// How often it is read for its size; none means as often as the others.
    pub weight: Option<f64>,
    /// Files and entries of archives.
    pub n_files: u64,
    /// Documents in both parts.
    pub n_documents: u64,
    /// Documents that were there before, here or in a source above.
    pub n_duplicates: u64,
    /// Documents in a language that was not asked for.
    pub n_other_language: u64,
    /// Records without text.
    pub n_empty: u64,
    /// Records that could not be read and were left out.
    pub n_broken: u64,
    /// The first of them, in words.
    pub broken: Vec<String>,
    /// Tokens to learn from.
    pub n_tokens: u64,
    /// Bytes of text to learn from.
    pub n_bytes: u64,
    /// Tokens held out.
    pub n_held_out_tokens: u64,
    /// Bytes of text held out.
    pub n_held_out_bytes: u64,
    /// Whether too few documents were there to hold any out, so that the end of the text was.
    pub held_out_within: bool,
}

impl SourceSummary {
    fn name_broken(&mut self, records: &[BrokenRecord]) {
        self.broken = records.iter().map(ToString::to_string).collect();
    }
}

/// A folder of tokens, mapped.
#[derive(Debug)]
pub struct Data {
    /// What is in it.
    pub summary: DataSummary,
    /// To learn from, one file a source.
    pub train: Vec<TokenFile>,
    /// Held out, one file a source.
    pub held_out: Vec<TokenFile>,
}

impl Data {
    /// Opens what [`prepare_data`] wrote.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another version.
    pub fn open(folder: &Path) -> Result<Data, DataError> {
        let path = folder.join(DESCRIPTION);
        let text = fs::read(&path).map_err(|source| DataError::Io { path: path.clone(), source })?;
        let summary: DataSummary = serde_json::from_slice(&text)
            .map_err(|error| DataError::Description { path: path.clone(), what: error.to_string() })?;
        Data::map(folder, summary)
    }

    /// Maps the files that a description tells of.
    fn map(folder: &Path, summary: DataSummary) -> Result<Data, DataError> {
        let mut data = Data { train: Vec::new(), held_out: Vec::new(), summary };
        for idx in 0..data.summary.sources.len() {
            data.train.push(TokenFile::open(&train_path(folder, idx), data.summary.vocab_size)?);
            data.held_out.push(TokenFile::open(&held_out_path(folder, idx), data.summary.vocab_size)?);
        }
        Ok(data)
    }

    /// Tokens to learn from.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.train.iter().map(TokenFile::n_tokens).sum()
    }
}

const DESCRIPTION: &str = "data.json";

fn train_path(folder: &Path, source_idx: usize) -> PathBuf {
    folder.join(format!("train-{source_idx}.tokens"))
}

fn held_out_path(folder: &Path, source_idx: usize) -> PathBuf {
    folder.join(format!("held-out-{source_idx}.tokens"))
}

#[cfg(test)]
mod tests;
