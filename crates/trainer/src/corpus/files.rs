//! Which files hold text, and what is inside: plain, in gzip, in zip.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use walkdir::WalkDir;

use super::error::BrokenRecord;
use super::{CorpusError, Reader, Take};

/// What files of text end in.
pub(super) const EXTENSIONS: [&str; 7] = [".txt", ".text", ".md", ".markdown", ".html", ".htm", ".jsonl"];

/// How the documents of a file stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The file is one document.
    Text,
    /// One document, a web page.
    Html,
    /// A JSON object with a document on every line.
    Jsonl,
    /// An array of such objects.
    Json,
    /// Any of these in zip.
    Zip,
}

#[derive(Debug)]
pub(super) struct CorpusFile {
    pub(super) path: PathBuf,
    kind: Kind,
    is_gzip: bool,
    pub(super) bytes: u64,
}

/// The kind that a name's ending tells, and whether what it names is in gzip.
fn kind_of(name: &str) -> Option<(Kind, bool)> {
    let name = name.to_ascii_lowercase();
    let (name, is_gzip) = match name.strip_suffix(".gz") {
        Some(inner) => (inner, true),
        None => (&name[..], false),
    };
    let kind = match name.rsplit_once('.')?.1 {
        "txt" | "text" | "md" | "markdown" => Kind::Text,
        "html" | "htm" => Kind::Html,
        "jsonl" | "ndjson" => Kind::Jsonl,
        "json" => Kind::Json,
        "zip" if !is_gzip => Kind::Zip,
        _ => return None,
    };
    Some((kind, is_gzip))
}

/// The files that `paths` name, and those of a known kind in the folders that they name, hidden ones left aside.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<CorpusFile>, CorpusError> {
    let mut files = Vec::new();
    for path in paths {
        let io = |source| CorpusError::Io { path: path.clone(), source };
        if !std::fs::metadata(path).map_err(io)?.is_dir() {
            // Who names a file knows that it is text.
            let name = path.to_string_lossy();
            let known = kind_of(&name).unwrap_or((Kind::Text, name.to_ascii_lowercase().ends_with(".gz")));
            files.push(found(path, known)?);
            continue;
        }
        let is_shown = |name: &std::ffi::OsStr| !name.to_string_lossy().starts_with('.');
        let entries = WalkDir::new(path).sort_by_file_name().into_iter();
        for entry in entries.filter_entry(|entry| entry.depth() == 0 || is_shown(entry.file_name())) {
            let entry = entry.map_err(|error| io(error.into()))?;
            // What lies about as JSON is seldom text: it counts where it is named.
            if let Some(known) = kind_of(&entry.file_name().to_string_lossy())
                && known.0 != Kind::Json
                && entry.file_type().is_file()
            {
                files.push(found(entry.path(), known)?);
            }
        }
    }
    if files.is_empty() { Err(CorpusError::NoText(paths.to_vec())) } else { Ok(files) }
}

fn found(path: &Path, (kind, is_gzip): (Kind, bool)) -> Result<CorpusFile, CorpusError> {
    let metadata =
        std::fs::metadata(path).map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
    Ok(CorpusFile { path: path.to_owned(), kind, is_gzip, bytes: metadata.len() })
}

impl Reader<'_> {
    /// Hands over the documents of a file.
    pub(super) fn file(&mut self, file: &CorpusFile) -> Result<(), CorpusError> {
        let io = |source| CorpusError::Io { path: file.path.clone(), source };
        let name = file.path.display().to_string();
        let opened = Counted { file: File::open(&file.path).map_err(io)?, n_read: Rc::clone(&self.n_read) };
        if file.kind == Kind::Zip {
            return self.zip(opened, &name);
        }
        let mut plain = BufReader::with_capacity(1 << 18, opened);
        if file.is_gzip {
            self.stream(&mut BufReader::with_capacity(1 << 18, MultiGzDecoder::new(plain)), &name, file.kind)
        } else {
            self.stream(&mut plain, &name, file.kind)
        }
    }

    pub(super) fn zip(&mut self, file: impl Read + Seek, name: &str) -> Result<(), CorpusError> {
        let damaged = |what: zip::result::ZipError, file: &str| BrokenRecord {
            file: file.to_owned(),
            line: None,
            what: format!("the archive is damaged: {what}"),
        };
        let mut zip = match zip::ZipArchive::new(BufReader::new(file)) {
            Ok(zip) => zip,
            Err(error) => return self.broken(damaged(error, name)),
        };
        for idx in 0..zip.len() {
            let mut entry = match zip.by_index(idx) {
                Ok(entry) => entry,
                Err(error) => {
                    self.broken(damaged(error, name))?;
                    continue;
                }
            };
            let within = entry.name().unwrap_or_default().into_owned();
            let Some((kind, is_gzip)) =
                kind_of(&within).filter(|&(kind, _)| !matches!(kind, Kind::Zip | Kind::Json))
            else {
                continue;
            };
            let name = format!("{name}/{within}");
            let mut plain = BufReader::new(&mut entry);
            if is_gzip {
                self.stream(&mut BufReader::new(MultiGzDecoder::new(plain)), &name, kind)?;
            } else {
                self.stream(&mut plain, &name, kind)?;
            }
        }
        Ok(())
    }

    /// Hands over the documents that `from` gives. What cannot be read or unpacked is a broken record: the file was
    /// there, its content is at fault.
    pub(super) fn stream(
        &mut self,
        from: &mut dyn BufRead,
        name: &str,
        kind: Kind,
    ) -> Result<(), CorpusError> {
        self.summary.n_files += 1;
        match kind {
            Kind::Jsonl => self.records(from, name),
            Kind::Json => self.array(from, name),
            // Whatever its ending, who wants records from it says that it holds some.
            Kind::Text | Kind::Html if matches!(self.take, Take::Records(_)) => self.records(from, name),
            Kind::Text => self.text(from, name),
            Kind::Html => self.html(from, name),
            Kind::Zip => unreachable!("an archive is no stream of text, and none is taken out of an archive"),
        }
    }

    fn html(&mut self, from: &mut dyn BufRead, name: &str) -> Result<(), CorpusError> {
        let broken = |what: String| BrokenRecord { file: name.to_owned(), line: None, what };
        let page = match read_at_most(from, MAX_PAGE) {
            Ok(Some(page)) => page,
            Ok(None) => return self.broken(broken(format!("a page of more than {} MB", MAX_PAGE >> 20))),
            Err(error) => return self.broken(broken(format!("cannot be read: {error}"))),
        };
        match html2text::config::plain_no_decorate()
            .no_link_wrapping()
            .string_from_read(&page[..], PAGE_WIDTH)
        {
            Ok(text) => self.document(&text),
            Err(error) => self.broken(broken(format!("no text can be made of this page: {error}"))),
        }
    }
}

/// A file that counts what was read of it.
struct Counted {
    file: File,
    n_read: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(to)?;
        self.n_read.set(self.n_read.get() + n as u64);
        Ok(n)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Bytes of a page at most.
const MAX_PAGE: usize = 32 << 20;
/// Characters of a line: paragraphs stay whole.
const PAGE_WIDTH: usize = 1 << 20;

/// All bytes, or nothing if there are more.
pub(super) fn read_at_most(from: &mut dyn BufRead, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}
