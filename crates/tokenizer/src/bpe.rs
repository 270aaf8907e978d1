//! Byte-level BPE: a word is its bytes, and the adjacent pair of lowest rank is merged until none is left.
//!
//! Merges are looked up by their pair of ids. Short words that occur again in one text are copied from the output.

use crate::byte_level;
use crate::char_class;
use crate::merging::{Merge, NO_MERGE, NONE, Symbols};
use crate::piece_table::{PieceMap, Pieces, hash_bytes, hash_pair, slots_for};
use crate::sentence_piece::unmark_spaces;
use crate::word_cache::WordCache;
use crate::{TokenId, TokenKind};

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
    /// The pieces that merges may make, by their bytes: those of normal kind.
    pub(crate) words: PieceMap,
    pub(crate) kinds: &'a [TokenKind],
    /// `<0x0A>` tokens by their byte.
    pub(crate) byte_ids: Box<[TokenId; 256]>,
    pub(crate) whole_words: bool,
    pub(crate) unk: Option<TokenId>,
}

impl Bpe {
    /// Resolves the merges. Those that name no tokens are left out; the result tells how many.
    pub(crate) fn new(pieces: &Pieces, parts: BpeParts<'_, '_>) -> (Bpe, usize) {
        let BpeParts { unit, merges, words, kinds, mut byte_ids, whole_words, unk } = parts;
        let mut table = MergeTable::with_capacity(merges.len());
        let mut n_lost = 0;
        let resolver = Resolver { unit, pieces, words: &words, kinds };
        let mut halves = Halves::default();
        let mut made = 0;
        for batch in merges.chunks(BATCH_LEN) {
            resolver.prepare(batch, &mut halves);
            for (idx, merge) in batch.iter().enumerate() {
                match resolver.resolve(merge, idx, &mut halves, made) {
                    Some((left, right, merged)) => {
                        table.push(left, right, merged);
                        made = merged;
                    }
                    None => n_lost += 1,
                }
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

/// Merges that are looked up together.
const BATCH_LEN: usize = 32;

/// Finds the tokens that merges name.
struct Resolver<'a> {
    unit: Unit,
    pieces: &'a Pieces,
    words: &'a PieceMap,
    kinds: &'a [TokenKind],
}

/// The bytes of a batch of merges, cut at their first space.
#[derive(Default)]
struct Halves {
    bytes: Vec<u8>,
    /// Where each merge begins, where its right half does, where it ends, and the hashes of the halves.
    spans: Vec<(usize, usize, usize, [u64; 2])>,
}

impl Resolver<'_> {
    /// Decodes a batch and begins its look-ups.
    fn prepare(&self, batch: &[&[u8]], halves: &mut Halves) {
        let Halves { bytes, spans } = halves;
        bytes.clear();
        spans.clear();
        let mut touched = 0;
        for merge in batch {
            let start = bytes.len();
            let at = merge.iter().skip(1).position(|&byte| byte == b' ').map_or(merge.len(), |at| at + 1);
            self.decode(&merge[..at], bytes);
            let middle = bytes.len();
            self.decode(merge.get(at + 1..).unwrap_or_default(), bytes);
            let hashes = [hash_bytes(&bytes[start..middle]), hash_bytes(&bytes[middle..])];
            touched |= self.words.touch(hashes[0]) | self.words.touch(hashes[1]);
            spans.push((start, middle, bytes.len(), hashes));
        }
        // The reads must happen although nothing needs what they found.
        std::hint::black_box(touched);
    }

    /// Appends the bytes of half a merge. One that is not spelled in the alphabet of bytes is no token's.
    fn decode(&self, half: &[u8], bytes: &mut Vec<u8>) {
        match self.unit {
            Unit::Byte => byte_level::decode_into(half, bytes),
            Unit::Character => unmark_spaces(half, bytes),
        };
    }

    /// Left, right and merged token of merge `idx` of the batch; the merge before it made `made`.
    fn resolve(
        &self,
        merge: &[u8],
        idx: usize,
        halves: &mut Halves,
        made: TokenId,
    ) -> Option<(TokenId, TokenId, TokenId)> {
        let Halves { bytes, spans } = halves;
        let (start, middle, end, [left, right]) = spans[idx];
        let left = self.words.get_hashed(self.pieces, &bytes[start..middle], left);
        let right = self.words.get_hashed(self.pieces, &bytes[middle..end], right);
        if let (Some(left), Some(right)) = (left, right) {
            return Some((left, right, self.whole(&bytes[start..end], made)?));
        }
        // A half may hold spaces itself where pieces are plain text: any other space may be the border.
        let spaces = (1..merge.len()).filter(|&at| merge[at] == b' ').skip(1);
        spaces.take(MAX_SPACES).find_map(|at| {
            let mut bytes = Vec::new();
            self.decode(&merge[..at], &mut bytes);
            let middle = bytes.len();
            self.decode(&merge[at + 1..], &mut bytes);
            let left = self.words.get(self.pieces, &bytes[..middle])?;
            let right = self.words.get(self.pieces, &bytes[middle..])?;
            Some((left, right, self.whole(&bytes, made)?))
        })
    }

    /// The token that a merge makes. Merges mostly stand in the order of their tokens: those nearby are tried first.
    fn whole(&self, bytes: &[u8], made: TokenId) -> Option<TokenId> {
        let is_near = |id: &TokenId| {
            self.pieces.get(*id) == bytes && self.kinds.get(*id as usize) == Some(&TokenKind::Normal)
        };
        [made + 1, made].into_iter().find(is_near).or_else(|| self.words.get(self.pieces, bytes))
    }
}

/// Spaces of a merge that are tried as its border; real halves hold few.
const MAX_SPACES: usize = 64;

/// From a pair of ids to its merge: open addressing, at most three quarters full.
#[derive(Debug)]
struct MergeTable {
    slots: Vec<Slot>,
    mask: usize,
    /// By rank: what the merge makes.
    merged: Vec<TokenId>,
}

/// Twelve bytes, for the whole table is walked at random.
#[derive(Debug, Clone, Copy)]
struct Slot {
    left: TokenId,
    right: TokenId,
    rank: u32,
}

const EMPTY: Slot = Slot { left: NONE, right: NONE, rank: NONE };

impl MergeTable {
    fn with_capacity(n: usize) -> MergeTable {
        let n_slots = slots_for(n);
        MergeTable { slots: vec![EMPTY; n_slots], mask: n_slots - 1, merged: Vec::with_capacity(n) }
    }

    /// Adds the merge of the next rank; of two for one pair, the lower rank (the first) stays.
    fn push(&mut self, left: TokenId, right: TokenId, merged: TokenId) {
        let rank = self.merged.len() as u32;
        self.merged.push(merged);
        let mut at = hash_pair(left, right) as usize & self.mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.left == NONE {
                *slot = Slot { left, right, rank };
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
                return Merge { rank: slot.rank, merged: self.merged[slot.rank as usize] };
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
