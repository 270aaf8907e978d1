//! All pieces of a vocabulary in one buffer, and the way from a piece's bytes to its id.

use crate::TokenId;

/// Bytes of every token, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    bytes: Vec<u8>,
    /// Where piece `id` ends in `bytes`.
    ends: Vec<u32>,
}

impl Pieces {
    /// An empty list with room for `n_tokens` pieces of `n_bytes` together.
    pub(crate) fn with_capacity(n_tokens: usize, n_bytes: usize) -> Pieces {
        Pieces { bytes: Vec::with_capacity(n_bytes), ends: Vec::with_capacity(n_tokens) }
    }

    /// Appends the piece that `write` writes to the end of the buffer.
    pub(crate) fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(u32::try_from(self.bytes.len()).expect("the vocabulary's total length was checked"));
    }

    /// Number of pieces.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of a piece; empty for an id that is none.
    #[inline]
    pub(crate) fn get(&self, id: TokenId) -> &[u8] {
        let idx = id as usize;
        let Some(&end) = self.ends.get(idx) else { return &[] };
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        &self.bytes[start as usize..end as usize]
    }
}

/// From bytes to ids: open addressing over a power of two; a slot holds the hash's upper half and the id plus one.
#[derive(Debug)]
pub(crate) struct PieceMap {
    slots: Vec<(u32, u32)>,
    mask: usize,
}

impl PieceMap {
    /// An empty map with room for `n` pieces.
    pub(crate) fn with_capacity(n: usize) -> PieceMap {
        let n_slots = slots_for(n);
        PieceMap { slots: vec![(0, 0); n_slots], mask: n_slots - 1 }
    }

    /// Adds a piece of `pieces` unless one with the same bytes is there; tells whether it was added.
    pub(crate) fn insert(&mut self, pieces: &Pieces, id: TokenId) -> bool {
        let bytes = pieces.get(id);
        let hash = hash_bytes(bytes);
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & self.mask;
        loop {
            let (slot_tag, slot_id) = self.slots[at];
            if slot_id == 0 {
                self.slots[at] = (tag, id + 1);
                return true;
            }
            if slot_tag == tag && pieces.get(slot_id - 1) == bytes {
                return false;
            }
            at = (at + 1) & self.mask;
        }
    }

    /// The id of the piece with exactly these bytes.
    #[inline]
    pub(crate) fn get(&self, pieces: &Pieces, bytes: &[u8]) -> Option<TokenId> {
        self.get_hashed(pieces, bytes, hash_bytes(bytes))
    }

    /// Reads the slot where the search for this hash begins, so that it is at hand when [`PieceMap::get_hashed`]
    /// comes: many such reads overlap, where searches one after the other would each wait for memory.
    #[inline]
    pub(crate) fn touch(&self, hash: u64) -> u32 {
        self.slots[hash as usize & self.mask].1
    }

    /// As [`PieceMap::get`], with the hash of the bytes known.
    #[inline]
    pub(crate) fn get_hashed(&self, pieces: &Pieces, bytes: &[u8], hash: u64) -> Option<TokenId> {
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & self.mask;
        loop {
            let (slot_tag, slot_id) = self.slots[at];
            if slot_id == 0 {
                return None;
            }
            if slot_tag == tag && pieces.get(slot_id - 1) == bytes {
                return Some(slot_id - 1);
            }
            at = (at + 1) & self.mask;
        }
    }
}

/// How many slots a table of `n` entries gets: a power of two, at most three quarters of it full.
pub(crate) fn slots_for(n: usize) -> usize {
    (n + n / 3 + 1).next_power_of_two().max(16)
}

/// A fast hash of short byte strings: eight bytes at a time, multiplied and folded (the scheme of `wyhash`).
#[inline]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = fold(bytes.len() as u64 ^ K, 0xA076_1D64_78BD_642F);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = fold(hash ^ u64::from_le_bytes(*word), K);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = fold(hash ^ u64::from_le_bytes(last), K);
    }
    hash
}

/// Hash of a pair of ids.
#[inline]
pub(crate) fn hash_pair(left: TokenId, right: TokenId) -> u64 {
    fold((u64::from(left) << 32 | u64::from(right)) ^ 0xE703_7ED1_A0B4_28DB, 0x9E37_79B9_7F4A_7C15)
}

/// Both halves of a product: the step of `wyhash`.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_piece_is_found_and_nothing_else() {
        let mut pieces = Pieces::default();
        let words: Vec<String> = (0..5000).map(|i| format!("{}{i}", "x".repeat(i % 19))).collect();
        for word in &words {
            pieces.push_with(|out| out.extend_from_slice(word.as_bytes()));
        }
        let mut map = PieceMap::with_capacity(words.len());
        for id in 0..words.len() {
            assert!(map.insert(&pieces, u32::try_from(id).unwrap()));
        }
        for (id, word) in words.iter().enumerate() {
            assert_eq!(map.get(&pieces, word.as_bytes()), Some(u32::try_from(id).unwrap()));
            assert_eq!(map.get(&pieces, format!("{word} ").as_bytes()), None);
        }
    }

    #[test]
    fn the_first_of_two_equal_pieces_stays() {
        let mut pieces = Pieces::default();
        for word in ["a", "b", "a", ""] {
            pieces.push_with(|out| out.extend_from_slice(word.as_bytes()));
        }
        let mut map = PieceMap::with_capacity(4);
        assert_eq!([0, 1, 2, 3].map(|id| map.insert(&pieces, id)), [true, true, false, true]);
        assert_eq!(map.get(&pieces, b"a"), Some(0));
        assert_eq!(map.get(&pieces, b""), Some(3));
        assert_eq!(pieces.get(9), b"");
    }
}
