//! SentencePiece BPE: a text is its characters, and the adjacent pair whose joint piece has the highest score is
//! merged until none is left; what is no piece then is spelled in bytes.
//!
//! The reference writes a space as `▁` and merges over the whole text. Here both are written as a space, and the text
//! is cut where no piece can reach across (before a space, after a character that never precedes one inside a
//! piece), which changes nothing and makes words short enough to scan and to remember.

use std::collections::HashMap;

use crate::TokenId;
use crate::char_class;
use crate::merging::{Merge, NO_MERGE, NONE, Symbols};
use crate::piece_table::{PieceMap, Pieces};
use crate::special_tokens::SpecialTokens;
use crate::word_cache::WordCache;

/// U+2581, which stands for a space in the files.
pub(crate) const SPACE_MARK: &[u8] = "\u{2581}".as_bytes();

/// Longest chunk that is merged whole.
const MAX_CHUNK_LEN: usize = 1 << 30;

/// The merging part of a vocabulary.
#[derive(Debug)]
pub(crate) struct SentencePiece {
    /// Pieces that merges may make, by their bytes with spaces for `▁`.
    words: PieceMap,
    /// One for each token, by score.
    ranks: Vec<u32>,
    /// Added words, atomic wherever they stand in the text.
    user_defined: SpecialTokens,
    byte_ids: Box<[TokenId; 256]>,
    unk: Option<TokenId>,
    add_space_prefix: bool,
    /// Characters that stand before a space inside some piece, ascending.
    joined_to_space: Vec<u32>,
    /// Reserved rows: they may be merged on the way but are split again at the end. Empty when there are none.
    unused: Vec<bool>,
}

/// What a SentencePiece vocabulary says beyond its pieces.
pub(crate) struct SentencePieceParts<'a> {
    pub(crate) words: PieceMap,
    /// Ids in `words`.
    pub(crate) word_ids: Vec<TokenId>,
    /// One score for each token.
    pub(crate) scores: &'a [f32],
    pub(crate) user_defined: SpecialTokens,
    pub(crate) byte_ids: Box<[TokenId; 256]>,
    pub(crate) unk: Option<TokenId>,
    pub(crate) add_space_prefix: bool,
    pub(crate) unused: Vec<bool>,
}

impl SentencePiece {
    pub(crate) fn new(pieces: &Pieces, parts: SentencePieceParts<'_>) -> SentencePiece {
        let mut joined_to_space = Vec::new();
        for &id in &parts.word_ids {
            let piece = pieces.get(id);
            let inner_spaces = (1..piece.len()).filter(|&at| piece[at] == b' ' && piece[at - 1] != b' ');
            joined_to_space.extend(inner_spaces.map(|at| char_before(piece, at)));
        }
        joined_to_space.sort_unstable();
        joined_to_space.dedup();
        SentencePiece {
            words: parts.words,
            ranks: parts.scores.iter().map(|&score| rank_of(score)).collect(),
            user_defined: parts.user_defined,
            byte_ids: parts.byte_ids,
            unk: parts.unk,
            add_space_prefix: parts.add_space_prefix,
            joined_to_space,
            unused: parts.unused,
        }
    }

    /// The texts of added words.
    pub(crate) fn user_defined(&self) -> impl Iterator<Item = &[u8]> {
        self.user_defined.texts().map(|(text, _)| text)
    }

    /// The token with these bytes, among merged and added ones.
    pub(crate) fn token(&self, pieces: &Pieces, bytes: &[u8]) -> Option<TokenId> {
        self.user_defined.get(bytes).or_else(|| self.words.get(pieces, bytes))
    }

    fn is_unused(&self, id: TokenId) -> bool {
        self.unused.get(id as usize).copied().unwrap_or(false)
    }

    /// The end of the chunk that begins at `at`: no piece reaches across it.
    fn chunk_end(&self, text: &[u8], at: usize) -> usize {
        let is_border = |&end: &usize| {
            text[end] == b' '
                && text[end - 1] != b' '
                && self.joined_to_space.binary_search(&char_before(text, end)).is_err()
        };
        (at + 1..text.len()).find(is_border).unwrap_or(text.len())
    }
}

/// The code of the character that ends at `at`, which is above 0.
fn char_before(text: &[u8], at: usize) -> u32 {
    let mut start = at - 1;
    while start > 0 && at - start < 4 && text[start] & 0xC0 == 0x80 {
        start -= 1;
    }
    match char_class::char_at(text, start) {
        Some(c) if start + c.len == at => c.code,
        _ => 0xFFFD,
    }
}

/// Encodes the fragments of one text.
#[derive(Debug)]
pub(crate) struct SentencePieceCall<'a> {
    model: &'a SentencePiece,
    pieces: &'a Pieces,
    cache: WordCache,
    normalized: Vec<u8>,
    scratch: Scratch,
}

impl<'a> SentencePieceCall<'a> {
    /// For a text of about `text_len` bytes.
    pub(crate) fn new(
        model: &'a SentencePiece,
        pieces: &'a Pieces,
        text_len: usize,
    ) -> SentencePieceCall<'a> {
        SentencePieceCall {
            model,
            pieces,
            cache: WordCache::new(text_len),
            normalized: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Appends the ids of `text`, which stands between two special tokens; `first` where none stands before it or
    /// one directly does.
    pub(crate) fn fragment(&mut self, text: &[u8], first: bool, out: &mut Vec<TokenId>) {
        let SentencePieceCall { model, pieces, cache, normalized, scratch } = self;
        normalized.clear();
        if first && model.add_space_prefix {
            normalized.push(b' ');
        }
        normalize_into(text, normalized);
        let mut at = 0;
        while at < normalized.len() {
            let found = model.user_defined.find(normalized, at, &|_, _| true);
            let end = found.map_or(normalized.len(), |found| found.start);
            let words = &normalized[at..end];
            let mut from = 0;
            while from < words.len() {
                let to = model.chunk_end(words, from);
                let key = cache.key(words, &(from..to), false);
                if !cache.get(&key, out) {
                    let start = out.len();
                    merge_chunk(model, pieces, &words[from..to], scratch, out);
                    cache.put(&key, &out[start..]);
                }
                from = to;
            }
            let Some(found) = found else { break };
            out.push(found.id);
            at = found.end;
        }
    }

    /// Joins the unknown tokens of a run into one, when the whole text is done; its ids stand in `out` from `start`.
    pub(crate) fn finish(&self, out: &mut Vec<TokenId>, start: usize) {
        if let Some(unk) = self.model.unk
            && self.model.byte_ids.contains(&NONE)
        {
            let mut own = out.split_off(start);
            own.dedup_by(|id, before| *id == unk && *before == unk);
            out.append(&mut own);
        }
    }
}

/// Writes `▁` as a space and a stray byte as U+FFFD, as the reference does.
fn normalize_into(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte < 0x80 {
            out.push(byte);
            at += 1;
            continue;
        }
        let (code, len) = char_class::decode(&text[at..]);
        match code {
            0x2581 => out.push(b' '),
            0xFFFD => out.extend_from_slice("\u{FFFD}".as_bytes()),
            _ => out.extend_from_slice(&text[at..at + len]),
        }
        at += len;
    }
}

/// Appends the bytes of a piece as the file writes it, `▁` as a space. Every piece can be read so.
pub(crate) fn unmark_spaces(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(SPACE_MARK) {
            out.push(b' ');
            rest = after;
        } else {
            out.push(first);
            rest = after;
        }
    }
    true
}

/// Buffers of one call.
#[derive(Debug, Default)]
struct Scratch {
    symbols: Symbols,
    /// For a reserved row that was made: how many bytes its left half had.
    made_of: HashMap<TokenId, usize>,
}

fn merge_chunk(
    model: &SentencePiece,
    pieces: &Pieces,
    chunk: &[u8],
    scratch: &mut Scratch,
    out: &mut Vec<TokenId>,
) {
    let Scratch { symbols, made_of } = scratch;
    // Positions in a chunk are 32 bits wide: a longer one is cut, which no caller's text reaches.
    for chunk in chunk.chunks(MAX_CHUNK_LEN) {
        symbols.clear();
        symbols.end = chunk.len() as u32;
        made_of.clear();
        let mut at = 0;
        while let Some(c) = char_class::char_at(chunk, at) {
            let id = model.words.get(pieces, &chunk[at..at + c.len]).unwrap_or(NONE);
            symbols.push(id, at as u32);
            at += c.len;
        }
        symbols.merge(|pair| {
            let (start, end) = (pair.start as usize, pair.end as usize);
            let Some(id) = model.words.get(pieces, &chunk[start..end]) else { return NO_MERGE };
            if model.is_unused(id) {
                made_of.insert(id, pair.middle as usize - start);
            }
            Merge { rank: model.ranks[id as usize], merged: id }
        });
        for (idx, &id) in symbols.ids.iter().enumerate() {
            let start = symbols.starts[idx] as usize;
            let end = symbols.starts.get(idx + 1).map_or(chunk.len(), |&end| end as usize);
            emit(model, pieces, &chunk[start..end], id, made_of, out);
        }
    }
}

/// A rank for each score, the highest first: floats in order are their bits in order, once the negative ones are
/// turned round.
fn rank_of(score: f32) -> u32 {
    let bits = score.to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    // The highest rank means "none": it is shared with the lowest of scores, a NaN.
    (!ascending).min(NONE - 1)
}

/// Appends one symbol: its piece, or the halves of a reserved row, or its bytes, or the unknown token.
fn emit(
    model: &SentencePiece,
    pieces: &Pieces,
    text: &[u8],
    id: TokenId,
    made_of: &HashMap<TokenId, usize>,
    out: &mut Vec<TokenId>,
) {
    if id != NONE {
        match made_of.get(&id) {
            Some(&n) if model.is_unused(id) && n > 0 && n < text.len() => {
                let (left, right) = text.split_at(n);
                for half in [left, right] {
                    let id = model.words.get(pieces, half).unwrap_or(NONE);
                    emit(model, pieces, half, id, made_of, out);
                }
            }
            _ => out.push(id),
        }
        return;
    }
    let bytes = if text == b" " { SPACE_MARK } else { text };
    if bytes.iter().all(|&byte| model.byte_ids[usize::from(byte)] != NONE) {
        out.extend(bytes.iter().map(|&byte| model.byte_ids[usize::from(byte)]));
    } else {
        out.extend(model.unk);
    }
}
