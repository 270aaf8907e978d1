//! Byte-level BPE: a word is its bytes, and the adjacent pair of lowest rank is merged until none is left.
//!
//! Merges are looked up by their pair of ids. Long words are cut at their seams first, and the ids of what is short
//! are remembered.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::byte_level;
use crate::char_class;
use crate::merging::{FEW, Merge, NO_MERGE, NONE, Symbols, merge_few};
use crate::piece_table::{PieceMap, Pieces, hash_bytes, hash_pair, slots_for};
use crate::pre_tokenizer::PreTokenizer;
use crate::seams::Seams;
use crate::sentence_piece::unmark_spaces;
use crate::word_cache::{Key, WordCache};
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
    /// Tokens whose bytes were seen to merge into them, as almost all do: they need no merging again.
    is_whole: Box<[AtomicBool]>,
    /// `None` where symbols may be left out of a word: what stood apart can meet then.
    seams: Option<Seams>,
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
        let is_whole = kinds.iter().map(|_| AtomicBool::new(false)).collect();
        let has_seams = unit == Unit::Byte && !byte_ids[0x80..].contains(&NONE);
        let seams = has_seams.then(|| Seams::new(pieces, kinds));
        (Bpe { unit, merges: table, byte_ids, words, whole_words, is_whole, seams, unk }, n_lost)
    }

    /// The token with these bytes, among those that merges can make.
    pub(crate) fn token(&self, pieces: &Pieces, bytes: &[u8]) -> Option<TokenId> {
        self.words.get(pieces, bytes)
    }

    /// Appends the ids of a word, or of a part of one that lies between seams. Where `is_whole`, a token stays one
    /// whatever the merges say.
    fn encode_word(
        &self,
        pieces: &Pieces,
        word: &[u8],
        is_whole: bool,
        symbols: &mut Symbols,
        out: &mut Vec<TokenId>,
    ) {
        let token = self.words.get(pieces, word);
        if let Some(id) = token
            && (is_whole || self.is_whole[id as usize].load(Ordering::Relaxed))
        {
            out.push(id);
            return;
        }
        let start = out.len();
        self.merge_bytes(pieces, word, symbols, out);
        if let Some(id) = token
            && out[start..] == [id]
        {
            self.is_whole[id as usize].store(true, Ordering::Relaxed);
        }
    }

    fn merge_bytes(&self, pieces: &Pieces, word: &[u8], symbols: &mut Symbols, out: &mut Vec<TokenId>) {
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
            if symbols.ids.len() <= FEW {
                let merged = |_, _, rank| self.merges.merged(rank);
                merge_few(&mut symbols.ids, |left, right| self.merges.rank(left, right), merged);
            } else {
                symbols.starts.resize(symbols.ids.len(), 0);
                symbols.merge(|pair| self.merges.get(pair.left, pair.right));
            }
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

/// From a pair of ids to its merge.
#[derive(Debug)]
struct MergeTable {
    /// Open addressing, at most three quarters full. Most pairs that are asked for do not merge, so a slot is small.
    slots: Vec<Slot>,
    mask: usize,
    /// Bits by hash: most pairs that are asked for do not merge, and are told apart here, in a table that fits a cache.
    is_known: Vec<u64>,
    /// By rank: the pair and what it becomes. Merges that are often asked for stand together here.
    merges: Vec<[TokenId; 3]>,
    /// Of pairs of low ids: the rank plus one, or zero. [`LOW`] × [`LOW`].
    low: Vec<u32>,
}

/// Half of a pair's hash, and its rank.
#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    rank: u32,
}

const EMPTY: Slot = Slot { tag: 0, rank: NONE };

/// Ids below are the bytes and the first merges, where every word begins: their pairs have a table of their own, whose
/// busy part is small.
const LOW: u32 = 512;

impl MergeTable {
    fn with_capacity(n: usize) -> MergeTable {
        let n_slots = slots_for(n);
        MergeTable {
            slots: vec![EMPTY; n_slots],
            mask: n_slots - 1,
            is_known: vec![0; n_slots / 16],
            merges: Vec::with_capacity(n),
            low: vec![0; (LOW * LOW) as usize],
        }
    }

    /// Adds the merge of the next rank; of two for one pair, the lower rank (the first) stays.
    fn push(&mut self, left: TokenId, right: TokenId, merged: TokenId) {
        let rank = self.merges.len() as u32;
        self.merges.push([left, right, merged]);
        if left < LOW && right < LOW {
            let low = &mut self.low[(left * LOW + right) as usize];
            if *low == 0 {
                *low = rank + 1;
            }
            return;
        }
        let hash = hash_pair(left, right);
        let tag = (hash >> 32) as u32;
        let (word, bit) = self.known(hash);
        self.is_known[word] |= bit;
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.rank == NONE {
                self.slots[at] = Slot { tag, rank };
                return;
            }
            if slot.tag == tag && self.merges[slot.rank as usize][..2] == [left, right] {
                return;
            }
            at = (at + 1) & self.mask;
        }
    }

    #[inline]
    fn known(&self, hash: u64) -> (usize, u64) {
        ((hash >> 38) as usize & (self.is_known.len() - 1), 1 << (hash >> 32 & 63))
    }

    #[inline]
    fn get(&self, left: TokenId, right: TokenId) -> Merge {
        match self.rank(left, right) {
            NONE => NO_MERGE,
            rank => Merge { rank, merged: self.merged(rank) },
        }
    }

    /// What the pair of this rank becomes.
    #[inline]
    fn merged(&self, rank: u32) -> TokenId {
        self.merges[rank as usize][2]
    }

    /// [`NONE`] for a pair that does not merge.
    #[inline]
    fn rank(&self, left: TokenId, right: TokenId) -> u32 {
        if left < LOW && right < LOW {
            return self.low[(left * LOW + right) as usize].wrapping_sub(1);
        }
        let hash = hash_pair(left, right);
        let (word, bit) = self.known(hash);
        if self.is_known[word] & bit == 0 {
            return NONE;
        }
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & self.mask;
        loop {
            let slot = self.slots[at];
            if slot.rank == NONE {
                return NONE;
            }
            if slot.tag == tag {
                let [its_left, its_right, _] = self.merges[slot.rank as usize];
                if (its_left, its_right) == (left, right) {
                    return slot.rank;
                }
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// Words that are looked up together: the reads of many overlap, where one after the other each would wait for memory.
const N_TOGETHER: usize = 64;

/// Encodes the words of texts and remembers them.
#[derive(Debug)]
pub(crate) struct BpeCall<'a> {
    bpe: &'a Bpe,
    pieces: &'a Pieces,
    symbols: Symbols,
    cache: WordCache,
    waiting: Vec<Waiting>,
}

/// A word of the text, or a part of one, whose ids are not in the output yet.
#[derive(Debug)]
struct Waiting {
    word: Range<usize>,
    key: Key,
}

impl<'a> BpeCall<'a> {
    /// For texts of about `text_len` bytes together.
    pub(crate) fn new(bpe: &'a Bpe, pieces: &'a Pieces, text_len: usize) -> BpeCall<'a> {
        BpeCall {
            bpe,
            pieces,
            symbols: Symbols::default(),
            cache: WordCache::new(text_len),
            waiting: Vec::with_capacity(N_TOGETHER),
        }
    }

    /// Appends the ids of a text.
    pub(crate) fn text(&mut self, pre: &PreTokenizer, text: &[u8], out: &mut Vec<TokenId>) {
        pre.for_each(text, |word| self.word(text, word, out));
        self.encode_waiting(text, out);
    }

    #[inline]
    fn word(&mut self, text: &[u8], word: Range<usize>, out: &mut Vec<TokenId>) {
        let bpe = self.bpe;
        // What begins otherwise seldom has a seam. A word that is a token has none.
        let is_long = |at: usize| text[at] >= 0xE0;
        if let Some(seams) = &bpe.seams
            && word.len() > 3
            && (is_long(word.start) || is_long(word.start + 1))
        {
            let mut start = word.start;
            while start < word.end {
                let end = seams.next(&text[..word.end], start);
                self.wait(text, start..end, bpe.whole_words && end - start < word.len(), out);
                start = end;
            }
        } else {
            self.wait(text, word, false, out);
        }
    }

    /// Adds what is to be encoded. Where `is_part`, it is merged even if it is a token.
    #[inline]
    fn wait(&mut self, text: &[u8], word: Range<usize>, is_part: bool, out: &mut Vec<TokenId>) {
        if self.waiting.len() == N_TOGETHER {
            self.encode_waiting(text, out);
        }
        self.waiting.push(Waiting { key: self.cache.key(text, &word, is_part), word });
    }

    /// Appends the ids of all that waits.
    fn encode_waiting(&mut self, text: &[u8], out: &mut Vec<TokenId>) {
        let BpeCall { bpe, pieces, symbols, cache, waiting } = self;
        let mut touched = 0;
        for Waiting { key, .. } in &*waiting {
            touched ^= cache.touch(key);
        }
        for Waiting { word, key } in &*waiting {
            if !cache.has(key) {
                touched ^= bpe.words.touch(hash_bytes(&text[word.clone()]));
            }
        }
        // The reads must happen although nothing needs what they found.
        std::hint::black_box(touched);
        for Waiting { word, key } in waiting.drain(..) {
            if cache.get(&key, out) {
                continue;
            }
            let start = out.len();
            bpe.encode_word(pieces, &text[word], bpe.whole_words && !key.is_part(), symbols, out);
            cache.put(&key, &out[start..]);
        }
    }
}
