//! What texts are there? Files, folders and archives enter; documents leave, one after the other, in pieces that
//! memory holds.
//!
//! The order is that of the paths as given, in folders by name; so one corpus is read the same way each time.

mod error;
mod files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod pieces;
mod records;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

pub use error::{BrokenRecord, CorpusError};
use serde_json::Value;

use files::CorpusFile;

/// Files with text.
#[derive(Debug)]
pub struct Corpus {
    files: Vec<CorpusFile>,
}

/// A document, or one piece of a long one.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Never empty, and not much longer than a megabyte.
    pub text: &'a str,
    /// Whether a document begins here; else it goes on.
    pub is_start: bool,
}

/// What to do with a record that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBroken {
    /// Stop and name it.
    Stop,
    /// Leave it out and count it.
    Skip,
}

/// What was read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CorpusSummary {
    /// Files and entries of archives.
    pub n_files: u64,
    /// Documents: text files, pages and records with text.
    pub n_documents: u64,
    /// Bytes of text.
    pub n_bytes: u64,
    /// Records without any text.
    pub n_empty: u64,
    /// Records that were left out because they could not be read.
    pub n_broken: u64,
    /// The first of them.
    pub broken: Vec<BrokenRecord>,
}

/// Broken records that are named in a summary.
const MAX_NAMED: usize = 10;

impl Corpus {
    /// Finds the files: those named, and in folders all of a known kind. Nothing is read yet.
    ///
    /// # Errors
    /// Where a path does not exist or there is no text at all.
    pub fn find(paths: &[PathBuf]) -> Result<Corpus, CorpusError> {
        Ok(Corpus { files: files::find(paths)? })
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| file.path.clone())
    }

    /// Bytes of all files as they lie on the disk, for a progress bar.
    #[must_use]
    pub fn bytes_on_disk(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Hands over every document. `sink` also hears about how many of [`Corpus::bytes_on_disk`] were read so far.
    ///
    /// # Errors
    /// Where a file cannot be read, a record is broken and is not to be skipped, or `sink` says to stop.
    pub fn read(
        &self,
        on_broken: OnBroken,
        sink: &mut dyn FnMut(Piece<'_>, u64) -> Result<(), CorpusError>,
    ) -> Result<CorpusSummary, CorpusError> {
        self.read_into(Reader::new(on_broken, Take::Texts(sink)))
    }

    /// Hands over every record of files in JSONL, and of arrays in JSON. What `sink` finds wrong with one makes it a
    /// broken record.
    ///
    /// # Errors
    /// As [`Corpus::read`].
    pub fn read_records(
        &self,
        on_broken: OnBroken,
        sink: &mut dyn FnMut(&Value) -> Result<(), String>,
    ) -> Result<CorpusSummary, CorpusError> {
        self.read_into(Reader::new(on_broken, Take::Records(sink)))
    }

    fn read_into(&self, mut reader: Reader<'_>) -> Result<CorpusSummary, CorpusError> {
        for file in &self.files {
            reader.n_file = file.bytes;
            reader.file(file)?;
            reader.n_before += file.bytes;
            reader.n_read.set(0);
        }
        Ok(reader.summary)
    }
}

/// One reading of a corpus.
struct Reader<'a> {
    on_broken: OnBroken,
    take: Take<'a>,
    summary: CorpusSummary,
    /// Bytes on the disk of the files before the one at hand.
    n_before: u64,
    /// Bytes of the file at hand, and how many were read of it; an archive's index may be read twice.
    n_file: u64,
    n_read: Rc<Cell<u64>>,
}

/// What takes what is read: texts in pieces, or records as they are.
enum Take<'a> {
    Texts(&'a mut (dyn FnMut(Piece<'_>, u64) -> Result<(), CorpusError> + 'a)),
    Records(&'a mut (dyn FnMut(&Value) -> Result<(), String> + 'a)),
}

impl<'a> Reader<'a> {
    fn new(on_broken: OnBroken, take: Take<'a>) -> Reader<'a> {
        let summary = CorpusSummary::default();
        Reader { on_broken, take, summary, n_before: 0, n_file: 0, n_read: Rc::default() }
    }

    /// Hands over a piece.
    fn piece(&mut self, text: &str, is_start: bool) -> Result<(), CorpusError> {
        self.summary.n_documents += u64::from(is_start);
        self.summary.n_bytes += text.len() as u64;
        let n_read = self.n_before + self.n_read.get().min(self.n_file);
        match &mut self.take {
            Take::Texts(sink) => sink(Piece { text, is_start }, n_read),
            Take::Records(_) => Ok(()),
        }
    }

    /// Hands over a document that is in memory.
    fn document(&mut self, text: &str) -> Result<(), CorpusError> {
        if text.trim().is_empty() {
            self.summary.n_empty += 1;
            return Ok(());
        }
        let mut at = 0;
        while at < text.len() {
            let end = at + pieces::cut(&text.as_bytes()[at..]);
            self.piece(&text[at..end], at == 0)?;
            at = end;
        }
        Ok(())
    }

    /// A record that cannot be read.
    fn broken(&mut self, record: BrokenRecord) -> Result<(), CorpusError> {
        if self.on_broken == OnBroken::Stop {
            return Err(CorpusError::Broken(record));
        }
        self.summary.n_broken += 1;
        if self.summary.broken.len() < MAX_NAMED {
            self.summary.broken.push(record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
