//! A file of tokens: little-endian ids of two or four bytes, and behind them where each document begins.
//!
//! | at | what |
//! |---|---|
//! | 0 | `DAYTOKEN` |
//! | 8 | version, u32 |
//! | 12 | bytes of an id, u32 |
//! | 16 | number of tokens, u64 |
//! | 24 | number of documents, u64 |
//! | 32 | bytes of text behind the tokens, u64 |
//! | 64 | the ids |
//! | 8-aligned | the first token of each document, u64 |

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizer::TokenId;
use weights::FileMap;

const MAGIC: &[u8; 8] = b"DAYTOKEN";
const VERSION: u32 = 1;
const HEAD_LEN: usize = 64;

/// What is wrong with a file of tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its content.
    #[error("{} is no file of tokens that can be used: {what}; prepare the data again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Bytes of an id in a vocabulary of this size.
fn id_len(vocab_size: usize) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// A mapped file of tokens.
#[derive(Debug)]
pub struct TokenFile {
    map: FileMap,
    layout: Layout,
}

/// Where things are in a file of tokens, whose bytes each question is about.
#[derive(Debug, Clone, Copy)]
struct Layout {
    id_len: usize,
    n_tokens: usize,
    n_documents: usize,
    n_bytes: u64,
}

impl Layout {
    /// Reads the head and looks at every id; else says what is wrong.
    fn read(bytes: &[u8], vocab_size: usize) -> Result<Layout, String> {
        let damaged = |what: &str| Err(what.to_owned());
        if bytes.len() < HEAD_LEN || &bytes[..8] != MAGIC {
            return damaged("it does not begin as one");
        }
        let small = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let large = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if small(8) != VERSION {
            return damaged(&format!("version {}, expected {VERSION}", small(8)));
        }
        let id_len = small(12) as usize;
        let (n_tokens, n_documents) = (large(16), large(24));
        let starts = n_tokens.checked_mul(id_len as u64).and_then(|n| n.checked_add(HEAD_LEN as u64 + 7));
        let starts = starts.map(|n| n & !7);
        let len = starts.and_then(|starts| starts.checked_add(n_documents.checked_mul(8)?));
        if !matches!(id_len, 2 | 4) || len != Some(bytes.len() as u64) {
            return damaged("its length is not the one it tells");
        }
        let (n_tokens, n_documents) = (n_tokens as usize, n_documents as usize);
        let layout = Layout { id_len, n_tokens, n_documents, n_bytes: large(32) };
        if (0..n_tokens).any(|at| layout.token(bytes, at) as usize >= vocab_size) {
            return damaged("a token outside of the vocabulary");
        }
        let mut before = None;
        for idx in 0..n_documents {
            let start = layout.start(bytes, idx);
            if start >= n_tokens || before.is_some_and(|before| before >= start) {
                return damaged("documents out of order");
            }
            before = Some(start);
        }
        Ok(layout)
    }

    fn token(&self, bytes: &[u8], at: usize) -> TokenId {
        assert!(at < self.n_tokens, "token {at} of {}", self.n_tokens);
        let bytes = &bytes[HEAD_LEN + at * self.id_len..];
        match self.id_len {
            2 => TokenId::from(u16::from_le_bytes([bytes[0], bytes[1]])),
            _ => TokenId::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        }
    }

    fn start(&self, bytes: &[u8], idx: usize) -> usize {
        let at = (HEAD_LEN + self.n_tokens * self.id_len).next_multiple_of(8) + idx * 8;
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
    }

    /// The tokens of a document, from its first to the next document's first.
    fn document(&self, bytes: &[u8], idx: usize) -> Range<usize> {
        let end = if idx + 1 < self.n_documents { self.start(bytes, idx + 1) } else { self.n_tokens };
        self.start(bytes, idx)..end
    }
}

impl TokenFile {
    /// Opens a file and looks at every id.
    ///
    /// # Errors
    /// Where it is missing, of another version, shorter than it says, or holds what `vocab_size` excludes.
    pub fn open(path: &Path, vocab_size: usize) -> Result<TokenFile, TokenFileError> {
        let path = path.to_owned();
        match FileMap::open(&path) {
            Err(source) => Err(TokenFileError::Io { path, source }),
            Ok(map) => match Layout::read(map.bytes(), vocab_size) {
                Ok(layout) => Ok(TokenFile { layout, map }),
                Err(what) => Err(TokenFileError::Damaged { path, what }),
            },
        }
    }

    /// Tokens in all.
    #[must_use]
    pub fn n_tokens(&self) -> u64 {
        self.layout.n_tokens as u64
    }

    /// Documents in all.
    #[must_use]
    pub fn n_documents(&self) -> usize {
        self.layout.n_documents
    }

    /// Bytes of text that the tokens stand for.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.layout.n_bytes
    }

    /// A token.
    ///
    /// # Panics
    /// Behind the last one.
    #[must_use]
    pub fn token(&self, at: usize) -> TokenId {
        self.layout.token(self.map.bytes(), at)
    }

    /// The tokens of a document, from its first to the next document's first.
    #[must_use]
    pub fn document(&self, idx: usize) -> Range<usize> {
        self.layout.document(self.map.bytes(), idx)
    }

    /// All that the file holds, as bytes.
    pub(crate) fn content(&self) -> &[u8] {
        self.map.bytes()
    }
}

/// A file of tokens that is complete.
pub(crate) struct Written {
    pub(super) path: PathBuf,
    pub(super) n_tokens: u64,
    /// Bytes of text.
    pub(super) n_bytes: u64,
}

/// A file of tokens on its way.
pub(crate) struct TokenFileWriter {
    path: PathBuf,
    out: BufWriter<File>,
    id_len: usize,
    n_tokens: u64,
    n_bytes: u64,
    starts: Vec<u64>,
    /// Bytes of text before the document at hand.
    n_bytes_before: u64,
}

impl TokenFileWriter {
    pub(crate) fn create(path: &Path, vocab_size: usize) -> io::Result<TokenFileWriter> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(&[0; HEAD_LEN])?;
        Ok(TokenFileWriter {
            path: path.to_owned(),
            out,
            id_len: id_len(vocab_size),
            n_tokens: 0,
            n_bytes: 0,
            starts: Vec::new(),
            n_bytes_before: 0,
        })
    }

    /// A document begins.
    pub(crate) fn begin(&mut self, first: TokenId) -> io::Result<()> {
        self.starts.push(self.n_tokens);
        self.n_bytes_before = self.n_bytes;
        self.append(&[first], 0)
    }

    /// Tokens of the document at hand, and how many bytes of text they are.
    pub(crate) fn append(&mut self, tokens: &[TokenId], n_bytes: u64) -> io::Result<()> {
        for &token in tokens {
            match self.id_len {
                2 => self.out.write_all(&(token as u16).to_le_bytes())?,
                _ => self.out.write_all(&token.to_le_bytes())?,
            }
        }
        self.n_tokens += tokens.len() as u64;
        self.n_bytes += n_bytes;
        Ok(())
    }

    /// The document at hand was none.
    pub(super) fn take_back(&mut self) -> io::Result<()> {
        let Some(start) = self.starts.pop() else { return Ok(()) };
        self.out.flush()?;
        let end = HEAD_LEN as u64 + start * self.id_len as u64;
        self.out.get_mut().set_len(end)?;
        self.out.seek(SeekFrom::Start(end))?;
        self.n_tokens = start;
        self.n_bytes = self.n_bytes_before;
        Ok(())
    }

    pub(super) fn n_tokens(&self) -> u64 {
        self.n_tokens
    }

    pub(super) fn n_documents(&self) -> usize {
        self.starts.len()
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> io::Result<Written> {
        let end = HEAD_LEN + self.n_tokens as usize * self.id_len;
        self.out.write_all(&vec![0; end.next_multiple_of(8) - end])?;
        for start in &self.starts {
            self.out.write_all(&start.to_le_bytes())?;
        }
        let mut head = [0; HEAD_LEN];
        head[..8].copy_from_slice(MAGIC);
        head[8..12].copy_from_slice(&VERSION.to_le_bytes());
        head[12..16].copy_from_slice(&(self.id_len as u32).to_le_bytes());
        for (at, n) in [(16, self.n_tokens), (24, self.starts.len() as u64), (32, self.n_bytes)] {
            head[at..at + 8].copy_from_slice(&n.to_le_bytes());
        }
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&head)?;
        self.out.flush()?;
        self.out.get_ref().sync_all()?;
        Ok(Written { path: self.path, n_tokens: self.n_tokens, n_bytes: self.n_bytes })
    }
}

/// Reads any bytes as a file of tokens of a vocabulary of 300, and every token of every document of what is one. Returns what
/// is wrong, or `None`. For the fuzz target and the test that replays its corpus; in no other build.
#[cfg(any(test, fuzzing))]
pub fn token_files(bytes: &[u8]) -> Option<String> {
    let layout = match Layout::read(bytes, 300) {
        Ok(layout) => layout,
        Err(what) => return Some(what),
    };
    let mut n_seen = 0;
    for idx in 0..layout.n_documents {
        let document = layout.document(bytes, idx);
        assert!(!document.is_empty(), "an empty document");
        n_seen += document.len();
        assert!(document.into_iter().all(|at| layout.token(bytes, at) < 300));
    }
    assert!(n_seen <= layout.n_tokens);
    None
}
