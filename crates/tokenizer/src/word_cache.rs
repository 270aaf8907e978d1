//! Remembers the ids of short words: most words of a text occur again.

use std::ops::Range;

use crate::TokenId;
use crate::piece_table::fold;

/// Longest word that is remembered; with its length it fills one 128-bit number.
const MAX_LEN: usize = 15;

/// Most ids of a remembered word: an entry is half a cache line.
const MAX_IDS: usize = 3;

/// Most entries, which have two megabytes together.
const MAX_ENTRIES: usize = 1 << 16;

/// One remembered word: its bytes and length in one number (0: none yet), and its ids.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
struct Entry {
    bits: u128,
    ids: [TokenId; MAX_IDS],
    n: u32,
}

/// Direct-mapped: a new word takes the place of an old one, so no choice of words makes it slow or large.
#[derive(Debug)]
pub(crate) struct WordCache {
    entries: Vec<Entry>,
}

impl WordCache {
    /// For texts of about `text_len` bytes together.
    pub(crate) fn new(text_len: usize) -> WordCache {
        let n = (text_len / 16).clamp(16, MAX_ENTRIES).next_power_of_two();
        WordCache { entries: vec![Entry::default(); n] }
    }

    /// Where this word of `text` is remembered. Where `is_part`, other ids are remembered than for a word of the same
    /// bytes.
    #[inline]
    pub(crate) fn key(&self, text: &[u8], word: &Range<usize>, is_part: bool) -> Key {
        let bits = bits(text, word) | if is_part { PART } else { 0 };
        let hash = fold(bits as u64 ^ 0xA076_1D64_78BD_642F, (bits >> 64) as u64 ^ 0xE703_7ED1_A0B4_28DB);
        Key { bits, slot: (hash as usize & (self.entries.len() - 1)) as u32 }
    }

    /// Reads the word's place, so that it is at hand afterwards: many such reads overlap.
    #[inline]
    pub(crate) fn touch(&self, key: &Key) -> u32 {
        self.entries[key.slot as usize].n
    }

    /// Whether the word is remembered now.
    #[inline]
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.entries[key.slot as usize].bits == key.bits
    }

    /// Appends the ids of the word to `out` and is true, if it is remembered.
    #[inline]
    pub(crate) fn get(&self, key: &Key, out: &mut Vec<TokenId>) -> bool {
        let entry = &self.entries[key.slot as usize];
        if entry.bits != key.bits {
            return false;
        }
        match entry.n {
            1 => out.push(entry.ids[0]),
            n => out.extend_from_slice(&entry.ids[..n as usize]),
        }
        true
    }

    /// Remembers the ids of the word, unless they are many.
    pub(crate) fn put(&mut self, key: &Key, found: &[TokenId]) {
        if found.len() <= MAX_IDS && key.bits & LONG == 0 {
            let mut ids = [0; MAX_IDS];
            ids[..found.len()].copy_from_slice(found);
            self.entries[key.slot as usize] = Entry { bits: key.bits, ids, n: found.len() as u32 };
        }
    }
}

/// A word's bytes and length in one number, and its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    bits: u128,
    slot: u32,
}

impl Key {
    /// Whether the word is a part.
    #[inline]
    pub(crate) fn is_part(&self) -> bool {
        self.bits & PART != 0
    }
}

/// Above the bytes and the length: the word is a part; it is not remembered.
const PART: u128 = 1 << 127;
const LONG: u128 = 1 << 126;

/// The word as a number: [`LONG`] if it is empty or too long to be remembered.
#[inline]
fn bits(text: &[u8], word: &Range<usize>) -> u128 {
    let len = word.len();
    if len == 0 || len > MAX_LEN {
        return LONG;
    }
    // Inside a text sixteen bytes are read at once and those after the word cut off.
    let bytes = match text.get(word.start..word.start + 16).and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => u128::from_le_bytes(bytes) & (u128::MAX >> (128 - 8 * len)),
        None => {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[word.clone()]);
            u128::from_le_bytes(bytes)
        }
    };
    bytes | (len as u128) << 120
}

#[cfg(test)]
mod tests {
    use super::WordCache;

    #[test]
    fn a_word_of_few_ids_is_remembered() {
        let mut cache = WordCache::new(1 << 10);
        let text = format!("one two three one{}", " ".repeat(20)).into_bytes();
        let key = |cache: &WordCache, word: std::ops::Range<usize>| cache.key(&text, &word, false);
        let (one, two, three) = (key(&cache, 0..3), key(&cache, 4..7), key(&cache, 8..13));
        cache.put(&one, &[7]);
        cache.put(&two, &[1, 2, 3]);
        cache.put(&three, &[1, 2, 3, 4]);
        let mut out = vec![9];
        assert!(cache.get(&key(&cache, 14..17), &mut out) && cache.get(&two, &mut out));
        assert!(!cache.get(&three, &mut out) && cache.has(&one) && !cache.has(&three));
        assert_eq!(out, [9, 7, 1, 2, 3]);
        let part = cache.key(&text, &(0..3), true);
        cache.put(&part, &[8]);
        assert!(cache.get(&part, &mut out) && (cache.get(&one, &mut out) || !cache.has(&one)));
        assert_eq!(out[5], 8);
        for word in [0..16, 3..3] {
            let key = key(&cache, word);
            assert!(!cache.has(&key));
            cache.put(&key, &[5]);
            assert!(!cache.has(&key));
        }
    }

    #[test]
    fn words_that_differ_in_trailing_zeros_or_in_what_follows_are_told_apart() {
        let text = b"a\0\0\0a\0\0a\0aXYZ-------------------------------------";
        let words = [0..4, 4..7, 7..9, 9..10, 0..1, 4..5];
        let lens: Vec<u128> = words.iter().map(|word| super::bits(text, word) >> 120).collect();
        assert_eq!(lens, [4, 3, 2, 1, 1, 1]);
        assert_eq!(super::bits(text, &(9..10)), super::bits(b"a", &(0..1)));
        assert_ne!(super::bits(text, &(0..3)), super::bits(text, &(0..2)));
    }
}
