//! A read-only map of one file: the only place of this crate with `unsafe`.
//!
//! A map is only as stable as its file. Another process that shortens a mapped file makes the kernel send SIGBUS
//! on the next access; no check here can prevent that, so model files must be replaced by rename, never rewritten
//! in place (this crate's writer does so). Lengths are taken once, when the map is made, and never re-read.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use memmap2::{Mmap, UncheckedAdvice};

/// A whole file, mapped read-only.
#[derive(Debug)]
pub struct FileMap {
    map: Mmap,
}

impl FileMap {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be opened or mapped.
    pub fn open(path: &Path) -> io::Result<FileMap> {
        FileMap::new(&File::open(path)?)
    }

    /// Maps all of `file`. The file may be closed afterwards.
    pub(crate) fn new(file: &File) -> io::Result<FileMap> {
        // SAFETY: the map is read-only and this crate never writes to a file it has mapped; bytes are only read as
        // plain `u8`s, for which every bit pattern is valid, and all lengths come from this one map.
        let map = unsafe { Mmap::map(file)? };
        Ok(FileMap { map })
    }

    /// All bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Gives the pages of `range` back to the system; a later read fetches them from the file again.
    ///
    /// Only whole pages inside the range are released, so neighbours that are still in use stay resident.
    /// A refusal by the system is ignored: releasing is an optimisation.
    pub(crate) fn release(&self, range: Range<usize>) {
        let page = 4096;
        let start = range.start.next_multiple_of(page);
        let end = range.end.min(self.map.len()) / page * page;
        if start >= end {
            return;
        }
        // SAFETY: the map is a read-only view of a file, so dropped pages are read back unchanged from the file on
        // the next access (they hold no modifications that could be lost); the range lies within the map.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
    }
}
