//! Remembers the ids of the short words of one text: most words of a text occur again.

use crate::TokenId;
use crate::piece_table::hash_pair;

/// Longest word that is remembered; with its length it fills one 128-bit number.
const MAX_LEN: usize = 15;

/// One remembered word: its bytes and length in one number, and where its ids stand in the output.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    key: u128,
    start: u32,
    n: u32,
}

/// Direct-mapped: a new word takes the place of an old one, so no choice of words makes it slow.
#[derive(Debug)]
pub(crate) struct WordCache {
    entries: Vec<Entry>,
}

impl WordCache {
    /// For a text of about `text_len` bytes.
    pub(crate) fn new(text_len: usize) -> WordCache {
        let n = (text_len / 8).next_power_of_two().clamp(16, 1 << 14);
        WordCache { entries: vec![Entry::default(); n] }
    }

    /// Appends the ids of `word`, which `encode` appends when the word is not remembered. Always the same `out`.
    #[inline]
    pub(crate) fn append(
        &mut self,
        word: &[u8],
        out: &mut Vec<TokenId>,
        encode: impl FnOnce(&[u8], &mut Vec<TokenId>),
    ) {
        if word.is_empty() || word.len() > MAX_LEN {
            encode(word, out);
            return;
        }
        let mut bytes = [0; 16];
        bytes[..word.len()].copy_from_slice(word);
        bytes[MAX_LEN] = word.len() as u8;
        let key = u128::from_le_bytes(bytes);
        let slot = hash_pair(key as u32 ^ (key >> 64) as u32, (key >> 32) as u32 ^ (key >> 96) as u32)
            as usize
            & (self.entries.len() - 1);
        let entry = self.entries[slot];
        if entry.key == key {
            let start = entry.start as usize;
            out.extend_from_within(start..start + entry.n as usize);
            return;
        }
        let start = out.len();
        encode(word, out);
        if let (Ok(start), Ok(n)) = (u32::try_from(start), u32::try_from(out.len() - start)) {
            self.entries[slot] = Entry { key, start, n };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::WordCache;

    #[test]
    fn a_repeated_word_gives_the_same_ids_without_being_encoded_again() {
        let mut cache = WordCache::new(0);
        let mut out = vec![];
        let mut n_encoded = 0;
        let words: Vec<String> =
            (0..40).map(|i| format!("w{}", i % 20)).chain(["x".repeat(16), "x".repeat(16)]).collect();
        for word in &words {
            cache.append(word.as_bytes(), &mut out, |word, out| {
                n_encoded += 1;
                out.extend(word.iter().map(|&b| u32::from(b)));
            });
        }
        let expected: Vec<u32> = words.concat().bytes().map(u32::from).collect();
        assert_eq!(out, expected);
        assert!((22..42).contains(&n_encoded), "{n_encoded}");
    }
}
