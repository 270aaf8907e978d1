//! The file of log-probabilities that one model leaves and another is compared with, in llama.cpp's format:
//! ```text
//! "_logits_" · n_ctx u32 · vocab_size u32 · n_windows u32 · tokens u32 …     n_windows · n_ctx of them
//! for each prediction that counts: step f32 · lowest f32 · level u16 …      vocab_size of them, made even
//! ```
//! The log-probability of token t is lowest + step · level[t]. What is 16 nats or more below the likeliest has
//! level 0. All little-endian.

use std::io::{self, Read, Write};

use kernels::Isa;

use super::Windows;
use crate::TokenId;

const MAGIC: &[u8; 8] = b"_logits_";
/// Nats below the likeliest token that are told apart, from llama.cpp.
const DEPTH: f32 = 16.0;
/// Longest window that is read: no model was trained for more.
const MAX_CTX: u32 = 1 << 20;
/// Most tokens that are read: 256 MB of them.
const MAX_TOKENS: u64 = 1 << 26;

/// Why a file of log-probabilities could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogitsFileError {
    /// The system refused, or the file ends early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The content is not that of such a file.
    #[error("{field}: expected {expected}, found {found}")]
    Invalid {
        /// Which part of it.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What it holds.
        found: String,
    },
}

/// What a file of log-probabilities begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogitsHeader {
    /// Tokens of a window.
    pub n_ctx: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// The tokens of all windows.
    pub tokens: Vec<TokenId>,
}

/// Bytes of a row.
fn row_bytes(vocab_size: usize) -> usize {
    8 + 2 * vocab_size.next_multiple_of(2)
}

/// Writes such a file, row by row.
pub struct LogitsWriter<W> {
    out: W,
    isa: Isa,
    vocab_size: usize,
    row: Vec<u8>,
}

impl<W: Write> LogitsWriter<W> {
    /// Writes what stands before the rows of these windows.
    pub fn new(mut out: W, isa: Isa, vocab_size: usize, windows: &Windows<'_>) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        for n in [windows.n_ctx, vocab_size, windows.len()] {
            let n = u32::try_from(n).map_err(io::Error::other)?;
            out.write_all(&n.to_le_bytes())?;
        }
        for token in windows.tokens() {
            out.write_all(&token.to_le_bytes())?;
        }
        Ok(LogitsWriter { out, isa, vocab_size, row: Vec::with_capacity(row_bytes(vocab_size)) })
    }

    /// The row of one prediction. logits: `[vocab_size]`
    pub fn write(&mut self, logits: &[f32]) -> io::Result<()> {
        assert_eq!(logits.len(), self.vocab_size, "logits must be [vocab_size]");
        let log_sum_exp = kernels::log_sum_exp(self.isa, logits, 1.0);
        let high = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let low = logits.iter().copied().fold(f32::INFINITY, f32::min).max(high - DEPTH);
        let step = (high - low) / f32::from(u16::MAX);
        let per_step = if step > 0.0 { 1.0 / step } else { 0.0 };
        self.row.clear();
        self.row.extend(step.to_le_bytes());
        self.row.extend((low - log_sum_exp).to_le_bytes());
        for &logit in logits {
            // `as` keeps what lies outside at the ends.
            let level = ((logit - low) * per_step).round_ties_even() as u16;
            self.row.extend(level.to_le_bytes());
        }
        self.row.resize(row_bytes(self.vocab_size), 0);
        self.out.write_all(&self.row)
    }

    /// Gives back what was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

/// Reads such a file, row by row.
pub struct LogitsReader<R> {
    input: R,
    header: LogitsHeader,
    row: Vec<u8>,
}

impl<R: Read> LogitsReader<R> {
    /// Reads what stands before the rows; the model's vocabulary has `vocab_size` tokens.
    pub fn new(mut input: R, vocab_size: usize) -> Result<Self, LogitsFileError> {
        let invalid =
            |field, expected: String, found: String| Err(LogitsFileError::Invalid { field, expected, found });
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            let found = format!("{:?}", String::from_utf8_lossy(&magic));
            return invalid("first bytes", "\"_logits_\"".to_owned(), found);
        }
        let mut number = || -> io::Result<u32> {
            let mut bytes = [0; 4];
            input.read_exact(&mut bytes)?;
            Ok(u32::from_le_bytes(bytes))
        };
        let (n_ctx, found_vocab, n_windows) = (number()?, number()?, number()?);
        if !(4..=MAX_CTX).contains(&n_ctx) {
            return invalid("tokens of a window", format!("4 to {MAX_CTX}"), n_ctx.to_string());
        }
        if found_vocab as usize != vocab_size {
            let expected = format!("{vocab_size}, the model's");
            return invalid("tokens of the vocabulary", expected, found_vocab.to_string());
        }
        let n_tokens = u64::from(n_ctx) * u64::from(n_windows);
        if n_windows == 0 || n_tokens > MAX_TOKENS {
            let expected = format!("1 to {}", MAX_TOKENS / u64::from(n_ctx));
            return invalid("number of windows", expected, n_windows.to_string());
        }
        // Nothing is allocated for tokens that are not there.
        let mut bytes = Vec::new();
        input.by_ref().take(4 * n_tokens).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != 4 * n_tokens {
            return invalid("tokens", format!("{n_tokens}"), format!("{}", bytes.len() / 4));
        }
        let tokens: Vec<TokenId> = bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect();
        if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab_size) {
            return invalid("token ids", format!("less than {vocab_size}"), id.to_string());
        }
        let header = LogitsHeader { n_ctx: n_ctx as usize, vocab_size, tokens };
        Ok(LogitsReader { input, header, row: vec![0; row_bytes(vocab_size)] })
    }

    /// What stands before the rows.
    pub fn header(&self) -> &LogitsHeader {
        &self.header
    }

    /// The next row.
    pub fn read(&mut self) -> Result<LogitsRow<'_>, LogitsFileError> {
        self.input.read_exact(&mut self.row)?;
        let float = |at: usize| {
            let bytes = &self.row[at..at + 4];
            f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        };
        let (step, lowest) = (float(0), float(4));
        if !(step >= 0.0 && step.is_finite() && lowest.is_finite()) {
            return Err(LogitsFileError::Invalid {
                field: "scale of a row",
                expected: "finite numbers".to_owned(),
                found: format!("{step} and {lowest}"),
            });
        }
        let levels = &self.row[8..8 + 2 * self.header.vocab_size];
        Ok(LogitsRow { step, lowest, levels: levels.as_chunks().0 })
    }
}

/// The log-probabilities of one prediction.
#[derive(Debug, Clone, Copy)]
pub struct LogitsRow<'a> {
    step: f32,
    lowest: f32,
    levels: &'a [[u8; 2]],
}

impl LogitsRow<'_> {
    /// The log-probability of a token.
    pub fn log_prob(&self, id: TokenId) -> f32 {
        self.of(self.levels[id as usize])
    }

    /// The log-probabilities of all tokens, in order.
    pub fn log_probs(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        self.levels.iter().map(|level| self.of(*level))
    }

    fn of(&self, level: [u8; 2]) -> f32 {
        self.lowest + self.step * f32::from(u16::from_le_bytes(level))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const VOCAB: usize = 5;

    /// A file of one window of four tokens and its one row.
    fn file(logits: &[f32; VOCAB]) -> Vec<u8> {
        let tokens = [0, 1, 2, 3];
        let windows = Windows::new(&tokens, 4, None, 1);
        let mut writer = LogitsWriter::new(Vec::new(), Isa::Scalar, VOCAB, &windows).unwrap();
        writer.write(logits).unwrap();
        writer.into_inner()
    }

    #[test]
    fn rows_come_back_within_half_a_step() {
        let logits = [1.0, -3.5, 0.25, -40.0, 2.0];
        let bytes = file(&logits);
        assert_eq!(bytes.len(), 8 + 12 + 16 + 8 + 12, "five levels are stored as six");
        let mut reader = LogitsReader::new(&bytes[..], VOCAB).unwrap();
        assert_eq!(reader.header(), &LogitsHeader { n_ctx: 4, vocab_size: VOCAB, tokens: vec![0, 1, 2, 3] });
        let row = reader.read().unwrap();
        let total = kernels::log_sum_exp(Isa::Scalar, &logits, 1.0);
        for (id, (found, logit)) in row.log_probs().zip(logits).enumerate() {
            let expected = logit.max(2.0 - DEPTH) - total;
            assert!((found - expected).abs() <= 16.0 / 65535.0 * 0.51, "{id}: {found}, not {expected}");
            assert_eq!(row.log_prob(id as u32), found);
        }
        assert!(reader.read().is_err(), "there is one row only");
    }

    #[test]
    fn equal_logits_are_a_row_without_steps() {
        let bytes = file(&[3.0; VOCAB]);
        let mut reader = LogitsReader::new(&bytes[..], VOCAB).unwrap();
        assert!(reader.read().unwrap().log_probs().all(|x| (x + 5f32.ln()).abs() < 1e-6));
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = file(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        for n in 0..good.len() {
            let whole = LogitsReader::new(&good[..n], VOCAB).and_then(|mut reader| reader.read().map(|_| ()));
            assert!(whole.is_err(), "{n} bytes");
        }
        let changed = |at: usize, four: [u8; 4]| {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&four);
            let whole = LogitsReader::new(&bytes[..], VOCAB).and_then(|mut reader| reader.read().map(|_| ()));
            whole.unwrap_err().to_string()
        };
        let max = u32::MAX.to_le_bytes();
        for (at, bytes, text) in [
            (0, *b"GGUF", "first bytes: expected"),
            (8, max, "tokens of a window: expected 4 to 1048576, found 4294967295"),
            (12, max, "tokens of the vocabulary: expected 5, the model's, found 4294967295"),
            (16, max, "number of windows: expected 1 to 16777216, found 4294967295"),
            (16, 1_000_000u32.to_le_bytes(), "tokens: expected 4000000, found"),
            (20, 5u32.to_le_bytes(), "token ids: expected less than 5, found 5"),
            (36, f32::NAN.to_le_bytes(), "scale of a row: expected finite numbers, found NaN"),
        ] {
            let error = changed(at, bytes);
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
