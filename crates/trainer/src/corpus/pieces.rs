//! Plain text, a megabyte at a time.

use std::io::{BufRead, Read};

use super::error::BrokenRecord;
use super::{CorpusError, Reader};

/// Bytes of a piece, more or less.
const PIECE_LEN: usize = 1 << 20;
/// What some editors put before UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Where to cut a text so that what stands before the cut is no longer than a piece: at the end of a line, or else
/// of a word, or else of a character.
pub(super) fn cut(text: &[u8]) -> usize {
    if text.len() <= PIECE_LEN {
        return text.len();
    }
    let piece = &text[..PIECE_LEN];
    let after = |byte: u8| piece.iter().rposition(|&other| other == byte).map(|at| at + 1);
    after(b'\n').or_else(|| after(b' ')).unwrap_or_else(|| {
        // Of a character in UTF-8 all bytes but the first begin with the bits 10.
        (PIECE_LEN - 3..=PIECE_LEN).rev().find(|&at| text[at] & 0xC0 != 0x80).unwrap_or(PIECE_LEN)
    })
}

impl Reader<'_> {
    /// Hands over a file that is one document.
    pub(super) fn text(&mut self, from: &mut dyn BufRead, name: &str) -> Result<(), CorpusError> {
        let mut held = Vec::new();
        let mut n_lines = 0;
        let mut is_start = true;
        let mut is_first = true;
        loop {
            let broken =
                |line: u64, what: String| BrokenRecord { file: name.to_owned(), line: Some(line), what };
            let room = 2 * PIECE_LEN - held.len();
            if let Err(error) = Read::take(&mut *from, room as u64).read_to_end(&mut held) {
                return self.broken(broken(n_lines + 1, format!("cannot be read: {error}")));
            }
            if std::mem::take(&mut is_first) && held.starts_with(BYTE_ORDER_MARK) {
                held.drain(..BYTE_ORDER_MARK.len());
            }
            if held.is_empty() {
                self.summary.n_empty += u64::from(is_start);
                return Ok(());
            }
            // No more than a piece is there only at the end: every cut is behind a character.
            let end = cut(&held);
            let piece = &held[..end];
            let line_of =
                |at: usize| n_lines + 1 + piece[..at].iter().filter(|&&byte| byte == b'\n').count() as u64;
            let text = match std::str::from_utf8(piece) {
                Ok(text) => text,
                Err(error) => {
                    let at = error.valid_up_to();
                    let what =
                        format!("not UTF-8 (byte 0x{:02X}): convert it, for instance with iconv", piece[at]);
                    return self.broken(broken(line_of(at), what));
                }
            };
            if let Some(at) = text.find('\0') {
                return self.broken(broken(line_of(at), "a zero byte: this is no text".to_owned()));
            }
            if !(is_start && text.trim().is_empty()) {
                self.piece(text, is_start)?;
                is_start = false;
            }
            n_lines = line_of(end) - 1;
            held.drain(..end);
        }
    }
}
