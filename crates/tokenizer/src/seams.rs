//! Where a word may be cut before it is merged: between two characters that no token holds side by side.
//!
//! Chinese and Japanese are written without spaces, so a word of the pre-tokenizer is all that stands between two marks:
//! long, and rarely seen twice. No merge reaches across a seam, so what lies between seams is merged alone with the
//! same result, and is a character or two that occur again and again.
//!
//! The pairs are kept as bits by their hash: two that share a bit only hide a seam.

use crate::char_class::{Char, char_at};
use crate::piece_table::{Pieces, hash_pair};
use crate::{TokenId, TokenKind};

/// The characters looked at have three bytes or more: those of scripts that are written without spaces.
const FIRST_CODE: u32 = 0x800;

/// Codes from here on stand for a part of a character that a token begins or ends with: its last or its first byte.
const PART: u32 = 0x20_0000;

/// Bits per pair of characters, so that few pairs share one; and the least and most bits: no real vocabulary needs as many.
const BITS_PER_PAIR: usize = 16;
const MIN_BITS: usize = 1 << 12;
const MAX_BITS: usize = 1 << 23;

/// The pairs of characters that tokens hold.
#[derive(Debug)]
pub(crate) struct Seams {
    bits: Vec<u64>,
}

impl Seams {
    /// Those between the tokens of normal kind, which are all that merges can make.
    pub(crate) fn new(pieces: &Pieces, kinds: &[TokenKind]) -> Seams {
        let normal = || (0..).zip(kinds).filter(|(_, kind)| **kind == TokenKind::Normal).map(|(id, _)| id);
        let pairs = |id: TokenId| {
            let piece = pieces.get(id);
            (1..piece.len()).filter_map(|at| pair(piece, at))
        };
        let n_pairs: usize = normal().map(|id| pairs(id).count()).sum();
        let n_bits = (n_pairs * BITS_PER_PAIR).clamp(MIN_BITS, MAX_BITS).next_power_of_two();
        let mut seams = Seams { bits: vec![0; n_bits / 64] };
        for (left, right) in normal().flat_map(pairs) {
            let (word, bit) = seams.place(left, right);
            seams.bits[word] |= bit;
        }
        seams
    }

    /// Where the part of `word` that begins at `at` ends: at the next seam or with the word.
    #[inline]
    pub(crate) fn next(&self, word: &[u8], at: usize) -> usize {
        let mut end = at;
        let mut left: Option<Char> = None;
        while let Some(right) = char_at(word, end) {
            // A stray byte has a code too, but is no character.
            if let Some(left) = left
                && left.code >= FIRST_CODE
                && right.code >= FIRST_CODE
                && left.len > 1
                && right.len > 1
                && !self.are_joined(left.code, right.code, word[end])
            {
                return end;
            }
            left = Some(right);
            end += right.len;
        }
        end
    }

    /// Whether a token may hold these characters side by side, or what it can see of them.
    #[inline]
    fn are_joined(&self, left: u32, right: u32, right_byte: u8) -> bool {
        let left_part = PART | 0x80 | (left & 0x3F);
        let right_part = PART | u32::from(right_byte);
        [(left, right), (left_part, right), (left, right_part), (left_part, right_part)].into_iter().any(
            |(left, right)| {
                let (word, bit) = self.place(left, right);
                self.bits[word] & bit != 0
            },
        )
    }

    #[inline]
    fn place(&self, left: u32, right: u32) -> (usize, u64) {
        let hash = hash_pair(left, right) as usize;
        ((hash >> 6) & (self.bits.len() - 1), 1 << (hash & 63))
    }
}

/// What stands on both sides of `at` in a piece, where a text could have a border of two long characters there.
fn pair(piece: &[u8], at: usize) -> Option<(u32, u32)> {
    let is_inside = |byte: u8| byte & 0xC0 == 0x80;
    if piece[at] < 0xE0 || !is_inside(piece[at - 1]) {
        return None;
    }
    let left = (at.saturating_sub(4)..at).rev().find(|&start| !is_inside(piece[start]));
    let left = match left.and_then(|start| char_at(piece, start).filter(|c| start + c.len == at)) {
        Some(c) => c.code,
        None => PART | u32::from(piece[at - 1]),
    };
    let right = match char_at(piece, at) {
        Some(c) if c.len > 1 => c.code,
        _ => PART | u32::from(piece[at]),
    };
    Some((left, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(tokens: &[&[u8]], word: &[u8]) -> Vec<usize> {
        let mut pieces = Pieces::default();
        for token in tokens {
            pieces.push_with(|out| out.extend_from_slice(token));
        }
        let seams = Seams::new(&pieces, &vec![TokenKind::Normal; tokens.len()]);
        let mut ends = Vec::new();
        let mut at = 0;
        while at < word.len() {
            at = seams.next(word, at);
            ends.push(at);
        }
        ends
    }

    #[test]
    fn a_word_is_cut_where_no_token_reaches_across() {
        let word = "中国人民在中国".as_bytes();
        assert_eq!(parts(&["中国".as_bytes(), "人民在".as_bytes()], word), [6, 15, 21]);
        assert_eq!(parts(&["中国人".as_bytes(), "在中国".as_bytes()], word), [9, 12, 21]);
        assert_eq!(parts(&[], "中国".as_bytes()), [3, 6]);
    }

    #[test]
    fn tokens_that_hold_a_part_of_a_character_hide_the_seam() {
        let word = "中国人".as_bytes();
        for part in [&word[2..6], &word[2..4], &word[0..4], &word[1..5], &word[2..5]] {
            assert_eq!(parts(&[part], word), [6, 9], "{part:?}");
        }
        assert_eq!(parts(&[&word[3..7]], word), [3, 9]);
    }

    #[test]
    fn letters_with_spaces_around_them_and_stray_bytes_are_not_cut() {
        assert_eq!(parts(&[], b"word"), [4]);
        assert_eq!(parts(&[], "слово中".as_bytes()), [13]);
        assert_eq!(parts(&[], b"\xE4\xB8\xE5\x9B\xBD\xFF"), [6]);
        assert!(parts(&[], b"").is_empty());
    }
}
