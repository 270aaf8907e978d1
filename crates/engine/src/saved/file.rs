//! The file of a saved prefix: a header, then pages of equal length, each with its tokens and a checksum.
//!
//! | bytes | header | | bytes | page |
//! |---|---|---|---|---|
//! | 8 | `DAYBRKKV` | | 4 · page_len | token ids |
//! | 8 | key of the file | | n_bytes | keys and values, layer by layer |
//! | 8 | bytes of a page | | 8 | XXH3 of both, seeded with the pages before |
//!
//! Numbers are little-endian. A file is as good as its longest prefix of right pages.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::Xxh3;

use super::chain;
use crate::request::TokenId;

const MAGIC: &[u8; 8] = b"DAYBRKKV";
const HEADER_LEN: u64 = 24;
const CHECKSUM_LEN: usize = 8;

/// Shape of a file's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tokens of a page.
    pub(crate) page_len: usize,
    /// Bytes of its keys and values in all layers.
    pub(crate) n_bytes: usize,
}

/// A page's tokens and its keys and values.
pub(crate) struct SavedPage {
    /// [page_len]
    pub(crate) tokens: Vec<TokenId>,
    /// Layer by layer, as the layers store them.
    pub(crate) data: Vec<u8>,
}

/// How far a file was found to be right.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Read {
    /// Of each page that holds the tokens that were looked for.
    pub(crate) chain: Vec<u64>,
    /// Whether it ended at a page that is not what it claims to be.
    pub(crate) is_damaged: bool,
}

impl Layout {
    fn record_len(self) -> usize {
        self.page_len * size_of::<TokenId>() + self.n_bytes + CHECKSUM_LEN
    }

    /// Where a page stands.
    pub(crate) fn place(self, page_idx: usize) -> Range<u64> {
        let len = self.record_len() as u64;
        let start = HEADER_LEN + page_idx as u64 * len;
        start..start + len
    }

    fn header(self, key: u64) -> [u8; HEADER_LEN as usize] {
        let mut header = [0; HEADER_LEN as usize];
        header[..8].copy_from_slice(MAGIC);
        header[8..16].copy_from_slice(&key.to_le_bytes());
        header[16..].copy_from_slice(&(self.record_len() as u64).to_le_bytes());
        header
    }
}

/// Begins a file, readable by its owner alone.
pub(crate) fn create(path: &Path, key: u64, layout: Layout) -> io::Result<File> {
    let mut options = File::options();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.write(true).create(true).truncate(true).open(path)?;
    file.write_all_at(&layout.header(key), 0)?;
    Ok(file)
}

/// Writes a page behind those before it, whose chain ends with `before`.
pub(crate) fn write(
    file: &File,
    layout: Layout,
    page_idx: usize,
    before: u64,
    page: &SavedPage,
) -> io::Result<()> {
    let head = token_bytes(&page.tokens);
    let checksum = checksum(before, &[&head, &page.data]).to_le_bytes();
    let mut at = layout.place(page_idx).start;
    for part in [head.as_slice(), &page.data, &checksum] {
        file.write_all_at(part, at)?;
        at += part.len() as u64;
    }
    assert_eq!(at, layout.place(page_idx).end, "a page must have the file's shape");
    Ok(())
}

/// As they stand in the file.
pub(crate) fn token_bytes(tokens: &[TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Reads the pages of `tokens`, as far as they are there and right; those from `first_page` on are shown to `on_page`,
/// which answers whether to go on.
pub(crate) fn read(
    path: &Path,
    key: u64,
    layout: Layout,
    tokens: &[TokenId],
    first_page: usize,
    mut on_page: impl FnMut(SavedPage) -> bool,
) -> Read {
    let mut found = Read::default();
    // A file that ends early, or cannot be read, is one that holds less.
    let _ = read_pages(path, key, layout, tokens, first_page, &mut found, &mut on_page);
    found
}

fn read_pages(
    path: &Path,
    key: u64,
    layout: Layout,
    tokens: &[TokenId],
    first_page: usize,
    found: &mut Read,
    on_page: &mut impl FnMut(SavedPage) -> bool,
) -> io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    let mut header = [0; HEADER_LEN as usize];
    file.read_exact(&mut header)?;
    if header != layout.header(key) {
        found.is_damaged = true;
        return Ok(());
    }
    let mut before = key;
    let mut head = vec![0; layout.page_len * size_of::<TokenId>()];
    for (page_idx, tokens) in tokens.chunks_exact(layout.page_len).enumerate() {
        file.read_exact(&mut head)?;
        if head != token_bytes(tokens) {
            return Ok(());
        }
        if page_idx < first_page {
            file.seek_relative((layout.n_bytes + CHECKSUM_LEN) as i64)?;
        } else {
            let mut data = vec![0; layout.n_bytes];
            let mut expected = [0; CHECKSUM_LEN];
            file.read_exact(&mut data)?;
            file.read_exact(&mut expected)?;
            if checksum(before, &[&head, &data]) != u64::from_le_bytes(expected) {
                found.is_damaged = true;
                return Ok(());
            }
            if !on_page(SavedPage { tokens: tokens.to_vec(), data }) {
                return Ok(());
            }
        }
        before = chain(before, tokens);
        found.chain.push(before);
    }
    Ok(())
}

fn checksum(seed: u64, parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.digest()
}
