//! Byte-level BPE: a word is its bytes, and the adjacent pair of lowest rank is merged until none is left.
//!
//! Merges are looked up by their pair of ids. Short words that occur again in one text are copied from the output.

use crate::TokenId;
use crate::byte_level;
use crate::char_class;
use crate::merging::{Merge, NO_MERGE, NONE, Symbols};
use crate::piece_table::{PieceMap, Pieces, hash_pair};
use crate::sentence_piece::unmark_spaces;
use crate::word_cache::WordCache;

/// Longest word that is merged whole.
const MAX_WORD_LEN: usize = 1 << 30;

/// How a word begins before anything is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Each byte is a symbol.
    Byte,
    /// Each character is a symbol, or its `<0x0A>` bytes where it is no token.
    Character,
}

/// The merges of a vocabulary.
#[derive(Debug)]
pub(crate) struct Bpe {
    unit: Unit,
    merges: MergeTable,
    /// Token of each byte, `NONE` where the vocabulary lacks it.
    byte_ids: Box<[TokenId; 256]>,
    /// Whole words that are tokens, where the merges have no say in them; characters in `Unit::Character`.
    words: PieceMap,
    whole_words: bool,
    unk: Option<TokenId>,
}

/// What a BPE vocabulary says beyond its pieces.
pub(crate) struct BpeParts<'a, 'v> {
    pub(crate) unit: Unit,
    /// `left right`, in order of rank.
    pub(crate) merges: &'a [&'v [u8]],
    /// The pieces that merges may make, by their bytes.
    pub(crate) words: PieceMap,
    /// `<0x0A>` tokens by their byte.
    pub(crate) byte_ids: Box<[TokenId; 256]>,
    pub(crate) whole_words: bool,
    pub(crate) unk: Option<TokenId>,
}

impl Bpe {
    /// Resolves the merges. Those that name no tokens are left out; the result tells how many.
    pub(crate) fn new(pieces: &Pieces, parts: BpeParts<'_, '_>) -> (Bpe, usize) {
        let BpeParts { unit, merges, words, mut byte_ids, whole_words, unk } = parts;
        let mut table = MergeTable::with_capacity(merges.len());
        let mut n_lost = 0;
        let mut scratch = Vec::new();
        for (rank, merge) in (0u32..).zip(merges) {
            match resolve(merge, unit, pieces, &words, &mut scratch) {
                Some((left, right, merged)) => table.insert(left, right, rank, merged),
                None => n_lost += 1,
            }
        }
        if unit == Unit::Byte {
            for byte in 0..=255u8 {
                byte_ids[usize::from(byte)] = words.get(pieces, &[byte]).unwrap_or(NONE);
            }
        }
        (Bpe { unit, merges: table, byte_ids, words, whole_words, unk }, n_lost)
    }

    /// The token with these bytes, among those that merges can make.
    pub(crate) fn token(&self, pieces: &Pieces, bytes: &[u8]) -> Option<TokenId> {
        self.words.get(pieces, bytes)
    }

    /// Appends the ids of one word.
    fn encode_word(&self, pieces: &Pieces, word: &[u8], symbols: &mut Symbols, out: &mut Vec<TokenId>) {
        if self.whole_words
            && let Some(id) = self.words.get(pieces, word)
        {
            out.push(id);
            return;
        }
        // Positions in a word are 32 bits wide: a longer one is cut, which no caller's text reaches.
        for word in word.chunks(MAX_WORD_LEN) {
            symbols.clear();
            match self.unit {
                Unit::Byte => symbols.ids.extend(word.iter().map(|&byte| self.byte_ids[usize::from(byte)])),
                Unit::Character => self.characters(pieces, word, &mut symbols.ids),
            }
            if symbols.ids.contains(&NONE) {
                self.replace_unknown(&mut symbols.ids);
            }
            // Merges go by ids here: where a symbol begins does not matter.
            symbols.starts.resize(symbols.ids.len(), 0);
            symbols.merge(|pair| self.merges.get(pair.left, pair.right));
            out.extend_from_slice(&symbols.ids);
        }
    }

    fn characters(&self, pieces: &Pieces, word: &[u8], ids: &mut Vec<TokenId>) {
        let mut at = 0;
        while let Some(c) = char_class::char_at(word, at) {
            let bytes = &word[at..at + c.len];
            match self.words.get(pieces, bytes) {
                Some(id) => ids.push(id),
                None => ids.extend(bytes.iter().map(|&byte| self.byte_ids[usize::from(byte)])),
            }
            at += c.len;
        }
    }

    /// What has no token becomes the unknown token, or nothing.
    #[cold]
    fn replace_unknown(&self, ids: &mut Vec<TokenId>) {
        match self.unk {
            Some(unk) => ids.iter_mut().filter(|id| **id == NONE).for_each(|id| *id = unk),
            None => ids.retain(|&id| id != NONE),
        }
    }
}

/// Splits `left right` and finds the three tokens. The space that separates is the first one after which both halves
/// are tokens (in plain UTF-8 vocabularies a half may hold spaces).
fn resolve(
    merge: &[u8],
    unit: Unit,
    pieces: &Pieces,
    words: &PieceMap,
    scratch: &mut Vec<u8>,
) -> Option<(TokenId, TokenId, TokenId)> {
    let spaces = (1..merge.len()).filter(|&at| merge[at] == b' ');
    for at in spaces {
        scratch.clear();
        let half = |text: &[u8], out: &mut Vec<u8>| match unit {
            Unit::Byte => byte_level::decode_into(text, out),
            Unit::Character => unmark_spaces(text, out),
        };
        if !half(&merge[..at], scratch) {
            continue;
        }
        let middle = scratch.len();
        if !half(&merge[at + 1..], scratch) {
            continue;
        }
        let left = words.get(pieces, &scratch[..middle]);
        let right = words.get(pieces, &scratch[middle..]);
        if let (Some(left), Some(right)) = (left, right) {
            return Some((left, right, words.get(pieces, scratch)?));
        }
    }
    None
}

/// From a pair of ids to its merge: open addressing, at most half full.
#[derive(Debug)]
struct MergeTable {
    slots: Vec<Slot>,
    mask: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    left: TokenId,
    right: TokenId,
    merge: Merge,
}

const EMPTY: Slot = Slot { left: NONE, right: NONE, merge: NO_MERGE };

impl MergeTable {
    fn with_capacity(n: usize) -> MergeTable {
        let n_slots = (n * 2).next_power_of_two().max(16);
        MergeTable { slots: vec![EMPTY; n_slots], mask: n_slots - 1 }
    }

    /// Adds a merge; of two for one pair, the lower rank (the first) stays.
    fn insert(&mut self, left: TokenId, right: TokenId, rank: u32, merged: TokenId) {
        let mut at = hash_pair(left, right) as usize & self.mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.left == NONE {
                *slot = Slot { left, right, merge: Merge { rank, merged } };
                return;
            }
            if (slot.left, slot.right) == (left, right) {
                return;
            }
            at = (at + 1) & self.mask;
        }
    }

    #[inline]
    fn get(&self, left: TokenId, right: TokenId) -> Merge {
        let mut at = hash_pair(left, right) as usize & self.mask;
        loop {
            let slot = &self.slots[at];
            if (slot.left, slot.right) == (left, right) {
                return slot.merge;
            }
            if slot.left == NONE {
                return NO_MERGE;
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// Encodes the words of one text.
#[derive(Debug)]
pub(crate) struct BpeCall<'a> {
    bpe: &'a Bpe,
    pieces: &'a Pieces,
    symbols: Symbols,
    cache: WordCache,
}

impl<'a> BpeCall<'a> {
    /// For a text of about `text_len` bytes.
    pub(crate) fn new(bpe: &'a Bpe, pieces: &'a Pieces, text_len: usize) -> BpeCall<'a> {
        BpeCall { bpe, pieces, symbols: Symbols::default(), cache: WordCache::new(text_len) }
    }

    /// Appends the ids of one word to `out`, always the same one.
    pub(crate) fn word(&mut self, word: &[u8], out: &mut Vec<TokenId>) {
        let BpeCall { bpe, pieces, symbols, cache } = self;
        cache.append(word, out, |word, out| bpe.encode_word(pieces, word, symbols, out));
    }
}
