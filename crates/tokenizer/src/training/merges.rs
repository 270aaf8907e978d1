//! The most frequent pair, again and again.
//!
//! All words lie in one row of symbols. For each pair of neighbours its places are known, so a merge touches only
//! these; the pairs that come and go beside them are counted on the way. The queue of pairs holds counts that may
//! have fallen since: what comes out of it too high goes in again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use hashbrown::HashMap;

use super::{BpeTraining, TrainingError, WordCounts};
use crate::TokenId;
use crate::byte_level;
use crate::piece_table::hash_pair;

/// No token: the end of a word, or a place inside a merged token.
const NONE: TokenId = TokenId::MAX;
/// Merges between two reports.
const REPORT_EVERY: usize = 64;

/// One byte of the words, or what was merged from it on.
#[derive(Clone, Copy)]
struct Symbol {
    id: TokenId,
    /// Bytes of the token, at its first and its last byte.
    len: u32,
    word: u32,
}

type Pair = (TokenId, TokenId);

#[derive(Default)]
struct Found {
    /// Words count as often as they occur. May pass below zero while a merge is under way.
    count: i64,
    /// Where it stands or stood, ascending but for pairs that came in two merges.
    places: Vec<u32>,
    /// Merged before; two merges that make the same token can let it occur again.
    is_learnt: bool,
}

/// The pairs of neighbours.
#[derive(Default)]
struct Pairs {
    ids: HashMap<Pair, u32, PairHash>,
    found: Vec<Found>,
}

impl Pairs {
    fn index(&mut self, pair: Pair) -> u32 {
        *self.ids.entry(pair).or_insert_with(|| {
            self.found.push(Found::default());
            (self.found.len() - 1) as u32
        })
    }

    /// An occurrence of one pair is one of another now.
    #[inline]
    fn move_to(&mut self, from: usize, to: usize, weight: i64, place: usize) {
        self.found[from].count -= weight;
        self.found[to].count += weight;
        self.found[to].places.push(place as u32);
    }
}

#[derive(Clone, Copy, Default)]
struct PairHash;

impl std::hash::BuildHasher for PairHash {
    type Hasher = PairHasher;
    fn build_hasher(&self) -> PairHasher {
        PairHasher::default()
    }
}

/// Takes the two ids of a pair.
#[derive(Default)]
struct PairHasher {
    last: TokenId,
    hash: u64,
}

impl std::hash::Hasher for PairHasher {
    fn write_u32(&mut self, id: u32) {
        self.hash = hash_pair(self.last, id);
        self.last = id;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// For one side of the pair at hand: which pair each neighbour makes with a token, looked up once in a merge.
struct Beside {
    of: Vec<u32>,
    touched: Vec<TokenId>,
}

impl Beside {
    fn new(vocab_size: usize) -> Beside {
        Beside { of: vec![NONE; vocab_size], touched: Vec::new() }
    }

    #[inline]
    fn pair(&mut self, neighbour: TokenId, pair: impl FnOnce() -> u32) -> usize {
        let slot = &mut self.of[neighbour as usize];
        if *slot == NONE {
            *slot = pair();
            self.touched.push(neighbour);
        }
        *slot as usize
    }

    fn clear(&mut self) {
        for neighbour in self.touched.drain(..) {
            self.of[neighbour as usize] = NONE;
        }
    }
}

/// Appends merged tokens, as bytes, until there are `vocab_size`, and returns what each was merged from.
pub(super) fn learn(
    settings: &BpeTraining,
    counts: &WordCounts,
    byte_ids: &[TokenId; 256],
    tokens: &mut Vec<Vec<u8>>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Pair>, TrainingError> {
    let vocab_size = settings.vocab_size;
    let n_merges = vocab_size - tokens.len();
    let (mut symbols, weights) = row(counts, byte_ids)?;
    let mut pairs = Pairs::default();
    for (at, two) in symbols.windows(2).enumerate() {
        if two[0].id != NONE && two[1].id != NONE {
            let idx = pairs.index((two[0].id, two[1].id));
            let found = &mut pairs.found[idx as usize];
            found.count += weights[two[0].word as usize];
            found.places.push(at as u32);
        }
    }
    let least = i64::try_from(settings.min_count.max(1)).unwrap_or(i64::MAX);
    let mut queue: BinaryHeap<(i64, Reverse<Pair>, u32)> = pairs
        .ids
        .iter()
        .map(|(&pair, &idx)| (pairs.found[idx as usize].count, Reverse(pair), idx))
        .filter(|&(count, ..)| count >= least)
        .collect();
    let mut ids: HashMap<Vec<u8>, TokenId> =
        tokens.iter().enumerate().map(|(id, bytes)| (bytes.clone(), id as TokenId)).collect();
    let special_tokens = &settings.special_tokens;
    let is_special = |bytes: &[u8]| special_tokens.iter().any(|text| text.as_bytes() == bytes);
    let mut merges = Vec::with_capacity(n_merges);
    // Pairs with the new token and without it, left and right of it.
    let [mut old_left, mut old_right, mut new_left, mut new_right] =
        [(); 4].map(|()| Beside::new(vocab_size));
    while tokens.len() < vocab_size {
        let Some((count, Reverse((a, b)), idx)) = queue.pop() else { break };
        let found = &mut pairs.found[idx as usize];
        if found.count != count {
            if found.count >= least {
                queue.push((found.count, Reverse((a, b)), idx));
            }
            continue;
        }
        if merges.len().is_multiple_of(REPORT_EVERY) && progress(merges.len(), n_merges).is_break() {
            return Err(TrainingError::Stopped);
        }
        let mut places = std::mem::take(&mut found.places);
        found.count = 0;
        let bytes = [&tokens[a as usize][..], &tokens[b as usize]].concat();
        // A text that spells a special token never becomes one token: that would be the special token itself.
        if is_special(&bytes) || is_special(&byte_level::encode(&bytes)) {
            continue;
        }
        let c = *ids.entry_ref(&bytes).or_insert_with(|| {
            tokens.push(bytes.clone());
            (tokens.len() - 1) as TokenId
        });
        if !std::mem::replace(&mut pairs.found[idx as usize].is_learnt, true) {
            merges.push((a, b));
        }
        if !places.is_sorted() {
            places.sort_unstable();
        }
        for &place in &places {
            let at = place as usize;
            let first = symbols[at];
            if first.id != a {
                continue;
            }
            let next = at + first.len as usize;
            let second = symbols[next];
            if second.id != b {
                continue;
            }
            let weight = weights[first.word as usize];
            let len = first.len + second.len;
            let end = at + len as usize;
            // Every word has an end before it and behind it.
            let before = at - symbols[at - 1].len as usize;
            let (left, right) = (symbols[before].id, symbols[end].id);
            symbols[next].id = NONE;
            symbols[end - 1].len = len;
            symbols[at] = Symbol { id: c, len, ..first };
            if left != NONE {
                let from = old_left.pair(left, || pairs.index((left, a)));
                let to = new_left.pair(left, || pairs.index((left, c)));
                pairs.move_to(from, to, weight, before);
            }
            if right != NONE {
                let from = old_right.pair(right, || pairs.index((b, right)));
                let to = new_right.pair(right, || pairs.index((c, right)));
                pairs.move_to(from, to, weight, at);
            }
        }
        // What the pair itself lost or won meanwhile (as in "aaa") is no place of it.
        pairs.found[idx as usize].count = 0;
        let beside = [(&new_left, true), (&new_right, false)];
        for (beside, is_left) in beside {
            for &neighbour in &beside.touched {
                let pair = if is_left { (neighbour, c) } else { (c, neighbour) };
                let idx = beside.of[neighbour as usize];
                let count = pairs.found[idx as usize].count;
                // The pair of the token with itself is in both lists.
                let is_double = !is_left && neighbour == c && new_left.of[c as usize] != NONE;
                if count >= least && !is_double {
                    queue.push((count, Reverse(pair), idx));
                }
            }
        }
        for beside in [&mut old_left, &mut old_right, &mut new_left, &mut new_right] {
            beside.clear();
        }
    }
    let _ = progress(merges.len(), merges.len());
    Ok(merges)
}

/// All words as bytes with an end before, between and behind them, and how often each occurs.
fn row(counts: &WordCounts, byte_ids: &[TokenId; 256]) -> Result<(Vec<Symbol>, Vec<i64>), TrainingError> {
    let n_bytes: u64 = counts.iter().map(|(word, _)| word.len() as u64 + 1).sum();
    if n_bytes >= u64::from(u32::MAX) {
        return Err(TrainingError::TooManyWords(n_bytes));
    }
    let end = Symbol { id: NONE, len: 1, word: NONE };
    let mut symbols = Vec::with_capacity(n_bytes as usize + 1);
    let mut weights = Vec::with_capacity(counts.len());
    symbols.push(end);
    for (word, n) in counts.iter() {
        let idx = weights.len() as u32;
        weights.push(i64::try_from(n).unwrap_or(i64::MAX));
        symbols.extend(word.iter().map(|&byte| Symbol {
            id: byte_ids[usize::from(byte)],
            len: 1,
            word: idx,
        }));
        symbols.push(end);
    }
    Ok((symbols, weights))
}
