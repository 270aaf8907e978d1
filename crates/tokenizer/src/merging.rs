//! Merges the symbols of one word: the adjacent pair of lowest rank first, the leftmost of equals, until no pair has
//! a rank.
//!
//! A short word is scanned for its best pair after each merge; where only its ids matter, in plain arrays
//! ([`merge_few`]). A long one keeps the positions of its pairs by rank,
//! so that millions of symbols take about n log n, and a run of one character is walked in order.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::TokenId;

/// No rank, no token, no neighbour.
pub(crate) const NONE: u32 = u32::MAX;

/// Words up to this many symbols are scanned: up to here that is faster than keeping lists (measured).
const SCAN_LIMIT: usize = 64;

/// What a pair becomes; `rank` is [`NONE`] where it does not merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    pub(crate) rank: u32,
    pub(crate) merged: TokenId,
}

/// The pair that does not merge.
pub(crate) const NO_MERGE: Merge = Merge { rank: NONE, merged: NONE };

/// Two adjacent symbols.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) left: TokenId,
    pub(crate) right: TokenId,
    /// Where the left symbol begins in the word, where the right one does, and where that ends.
    pub(crate) start: u32,
    pub(crate) middle: u32,
    pub(crate) end: u32,
}

/// Most symbols that [`merge_few`] takes.
pub(crate) const FEW: usize = 32;

/// As [`Symbols::merge`], of up to [`FEW`] symbols of which only the ids matter: so few are moved together after each
/// merge rather than linked. `rank` is asked for every pair that comes up, `merged` only for what merges.
pub(crate) fn merge_few(
    ids: &mut Vec<TokenId>,
    rank: impl Fn(TokenId, TokenId) -> u32,
    merged: impl Fn(TokenId, TokenId, u32) -> TokenId,
) {
    let mut ranks = [NONE; FEW];
    for (of_pair, two) in ranks.iter_mut().zip(ids.windows(2)) {
        *of_pair = rank(two[0], two[1]);
    }
    let mut n = ids.len();
    let symbols = &mut ids[..];
    while n > 1 {
        let (mut at, mut least) = (0, NONE);
        for (idx, &rank) in ranks[..n - 1].iter().enumerate() {
            if rank < least {
                (at, least) = (idx, rank);
            }
        }
        if least == NONE {
            break;
        }
        symbols[at] = merged(symbols[at], symbols[at + 1], least);
        symbols.copy_within(at + 2..n, at + 1);
        ranks.copy_within(at + 1..n - 1, at);
        n -= 1;
        if at > 0 {
            ranks[at - 1] = rank(symbols[at - 1], symbols[at]);
        }
        if at + 1 < n {
            ranks[at] = rank(symbols[at], symbols[at + 1]);
        }
    }
    ids.truncate(n);
}

/// The symbols of a word, and buffers that outlive it.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    /// Token of each symbol; [`NONE`] where it is none (it can still become one with a neighbour).
    pub(crate) ids: Vec<TokenId>,
    /// Where each symbol begins in the word.
    pub(crate) starts: Vec<u32>,
    /// Where the word ends.
    pub(crate) end: u32,
    /// While merging, symbols keep their places and are linked; a place that holds none any more is its own `next`.
    prev: Vec<u32>,
    next: Vec<u32>,
    /// Scan: of the symbol here and the next.
    pairs: Vec<Merge>,
    ranks: Vec<u32>,
}

impl Symbols {
    /// Forgets the word.
    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.starts.clear();
    }

    /// Adds a symbol.
    pub(crate) fn push(&mut self, id: TokenId, start: u32) {
        self.ids.push(id);
        self.starts.push(start);
    }

    /// Merges until `join` has a rank for no pair. What remains stands in `ids` and `starts`.
    pub(crate) fn merge(&mut self, join: impl FnMut(Pair) -> Merge) {
        if self.ids.len() < 2 {
            return;
        }
        self.link();
        if self.ids.len() <= SCAN_LIMIT {
            self.merge_by_scan(join);
        } else {
            self.merge_by_lists(join);
        }
        self.close_up();
    }

    fn link(&mut self) {
        let n = u32::try_from(self.ids.len()).expect("words are cut to 32-bit lengths");
        self.prev.clear();
        self.prev.push(NONE);
        self.prev.extend(0..n - 1);
        self.next.clear();
        self.next.extend(1..n);
        self.next.push(NONE);
    }

    fn merge_by_scan(&mut self, mut join: impl FnMut(Pair) -> Merge) {
        self.pairs.clear();
        self.ranks.clear();
        for at in 0..self.ids.len() as u32 {
            let merge = self.join(at, &mut join);
            self.pairs.push(merge);
            self.ranks.push(merge.rank);
        }
        while let Some(&least) = self.ranks.iter().min()
            && least != NONE
        {
            let at =
                self.ranks.iter().position(|&rank| rank == least).expect("the least rank is among the ranks");
            let right = self.next[at];
            let at = at as u32;
            let prev = self.merge_at(at, self.pairs[at as usize].merged);
            self.ranks[right as usize] = NONE;
            for changed in [prev, at] {
                if changed != NONE {
                    let merge = self.join(changed, &mut join);
                    self.pairs[changed as usize] = merge;
                    self.ranks[changed as usize] = merge.rank;
                }
            }
        }
    }

    fn merge_by_lists(&mut self, mut join: impl FnMut(Pair) -> Merge) {
        let mut waiting = Waiting::default();
        for at in 0..self.ids.len() as u32 {
            waiting.add(self.join(at, &mut join).rank, at);
        }
        // What is walked now, and what was left for something better: ranks fall from one to the next.
        let mut walks: Vec<Walk> = Vec::new();
        loop {
            if walks.last().is_none_or(|walk| waiting.least <= walk.rank)
                && let Some((rank, positions)) = waiting.pop_least()
            {
                match walks.last_mut() {
                    Some(walk) if walk.rank == rank => walk.join(positions),
                    _ => walks.push(Walk::new(rank, positions)),
                }
                continue;
            }
            let Some(walk) = walks.last_mut() else { break };
            let Some(at) = walk.next() else {
                walks.pop();
                continue;
            };
            // The position may be stale: the pair that stands here now must have this rank.
            let merge = self.join(at, &mut join);
            if merge.rank == walk.rank {
                let prev = self.merge_at(at, merge.merged);
                for changed in [prev, at] {
                    waiting.add(self.join(changed, &mut join).rank, changed);
                }
            }
        }
    }

    /// What the symbol at `at` becomes with its right neighbour.
    #[inline]
    fn join(&self, at: u32, join: &mut impl FnMut(Pair) -> Merge) -> Merge {
        let Some(&right) = self.next.get(at as usize) else { return NO_MERGE };
        if right == NONE || right == at {
            return NO_MERGE;
        }
        let after = self.next[right as usize];
        join(Pair {
            left: self.ids[at as usize],
            right: self.ids[right as usize],
            start: self.starts[at as usize],
            middle: self.starts[right as usize],
            end: self.starts.get(after as usize).copied().unwrap_or(self.end),
        })
    }

    /// Merges the symbol at `at` with its right neighbour and returns the place before.
    #[inline]
    fn merge_at(&mut self, at: u32, merged: TokenId) -> u32 {
        let right = self.next[at as usize];
        let after = self.next[right as usize];
        self.ids[at as usize] = merged;
        self.next[at as usize] = after;
        self.next[right as usize] = right;
        if after != NONE {
            self.prev[after as usize] = at;
        }
        self.prev[at as usize]
    }

    /// Moves the symbols that are left together.
    fn close_up(&mut self) {
        let mut n = 0;
        let mut at = 0;
        while at != NONE {
            self.ids[n] = self.ids[at as usize];
            self.starts[n] = self.starts[at as usize];
            n += 1;
            at = self.next[at as usize];
        }
        self.ids.truncate(n);
        self.starts.truncate(n);
    }
}

/// The positions of one rank, in order.
struct Walk {
    rank: u32,
    positions: Vec<u32>,
    n_done: usize,
    /// Positions that came up while others were walked.
    late: BinaryHeap<Reverse<u32>>,
}

impl Walk {
    fn new(rank: u32, mut positions: Vec<u32>) -> Walk {
        positions.sort_unstable();
        Walk { rank, positions, n_done: 0, late: BinaryHeap::new() }
    }

    fn join(&mut self, positions: Vec<u32>) {
        self.late.extend(positions.into_iter().map(Reverse));
    }

    fn next(&mut self) -> Option<u32> {
        let in_order = self.positions.get(self.n_done).copied();
        match self.late.peek() {
            Some(&Reverse(late)) if in_order.is_none_or(|at| late < at) => {
                self.late.pop();
                Some(late)
            }
            _ => {
                self.n_done += 1;
                in_order
            }
        }
    }
}

/// Lists that are kept at hand: a run of one character adds to a few ranks in turn.
const N_AT_HAND: usize = 16;

/// Positions of pairs by rank.
#[derive(Debug)]
struct Waiting {
    /// The least rank that waits; [`NONE`] when nothing does.
    least: u32,
    by_rank: BTreeMap<u32, Vec<u32>>,
    at_hand: [(u32, Vec<u32>); N_AT_HAND],
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting {
            least: NONE,
            by_rank: BTreeMap::new(),
            at_hand: std::array::from_fn(|_| (NONE, Vec::new())),
        }
    }
}

impl Waiting {
    fn add(&mut self, rank: u32, at: u32) {
        if rank == NONE {
            return;
        }
        let (known, list) = &mut self.at_hand[rank as usize % N_AT_HAND];
        if *known != rank {
            if !list.is_empty() {
                self.by_rank.entry(*known).or_default().append(list);
            }
            *known = rank;
        }
        list.push(at);
        self.least = self.least.min(rank);
    }

    /// The positions of the least rank, in no order.
    fn pop_least(&mut self) -> Option<(u32, Vec<u32>)> {
        let rank = self.least;
        if rank == NONE {
            return None;
        }
        let mut positions = self.by_rank.remove(&rank).unwrap_or_default();
        let (known, list) = &mut self.at_hand[rank as usize % N_AT_HAND];
        if *known == rank {
            positions.append(list);
        }
        let at_hand = self.at_hand.iter().filter(|(_, list)| !list.is_empty()).map(|(rank, _)| *rank);
        self.least = at_hand.chain(self.by_rank.keys().next().copied()).min().unwrap_or(NONE);
        Some((rank, positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: the leftmost pair of the least rank, one merge at a time.
    fn slow(ids: &[u32], ends: &[u32], join: impl Fn(Pair) -> Merge) -> Vec<u32> {
        let mut symbols: Vec<(u32, u32)> = ids.iter().copied().zip(ends.iter().copied()).collect();
        loop {
            let pairs = (0..symbols.len().saturating_sub(1)).map(|at| {
                let start = if at == 0 { 0 } else { symbols[at - 1].1 };
                let (left, middle) = symbols[at];
                let (right, end) = symbols[at + 1];
                (join(Pair { left, right, start, middle, end }), at)
            });
            let Some((merge, at)) = pairs.min_by_key(|(merge, at)| (merge.rank, *at)) else { break };
            if merge.rank == NONE {
                break;
            }
            let end = symbols[at + 1].1;
            symbols[at] = (merge.merged, end);
            symbols.remove(at + 1);
        }
        symbols.into_iter().map(|(id, _)| id).collect()
    }

    /// Merges of random rank, many equal, some better than those that led to them.
    fn join(pair: Pair) -> Merge {
        let mut hash =
            (u64::from(pair.left) << 20 | u64::from(pair.right)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 29;
        if hash % 3 == 0 || pair.end - pair.start > 40 {
            return NO_MERGE;
        }
        Merge { rank: (hash >> 7) as u32 % 50, merged: (hash >> 40) as u32 % 12 }
    }

    fn word(n: u32, seed: u32) -> Symbols {
        let mut symbols = Symbols { end: n, ..Symbols::default() };
        let mut state = seed;
        for start in 0..n {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            symbols.push(if seed.is_multiple_of(4) { 1 } else { (state >> 16) % 6 }, start);
        }
        symbols
    }

    #[test]
    fn both_ways_merge_as_the_definition_says() {
        for n in [0, 1, 2, 3, 7, 30, 63, 64, 65, 200] {
            for seed in 0..40 {
                let symbols = word(n, seed);
                let ends: Vec<u32> = (1..=n).collect();
                let expected = slow(&symbols.ids, &ends, join);
                if n as usize <= FEW {
                    // Where a symbol begins is all the same to this way.
                    let mut ids = symbols.ids.clone();
                    let of = |left, right| join(Pair { left, right, start: 0, middle: 0, end: 0 });
                    merge_few(
                        &mut ids,
                        |left, right| of(left, right).rank,
                        |left, right, _| of(left, right).merged,
                    );
                    assert_eq!(ids, slow(&symbols.ids, &[0; 200], join), "few, {n} symbols, seed {seed}");
                }
                let mut whole = word(n, seed);
                whole.merge(join);
                assert_eq!(whole.ids, expected, "{n} symbols, seed {seed}");
                if n < 2 {
                    continue;
                }
                let (mut scanned, mut listed) = (word(n, seed), word(n, seed));
                scanned.link();
                scanned.merge_by_scan(join);
                scanned.close_up();
                listed.link();
                listed.merge_by_lists(join);
                listed.close_up();
                assert_eq!(scanned.ids, expected, "scan, {n} symbols, seed {seed}");
                assert_eq!(listed.ids, expected, "lists, {n} symbols, seed {seed}");
                assert_eq!(listed.starts, scanned.starts);
            }
        }
    }

    #[test]
    fn a_long_run_takes_a_time_in_proportion() {
        // Each merge brings up a better one: a list that was sorted or copied again for each would take hours.
        let mut symbols = Symbols { end: 1_000_000, ..Symbols::default() };
        (0..1_000_000).for_each(|start| symbols.push(0, start));
        symbols.merge(|pair| {
            if pair.left == pair.right && pair.left < 4 {
                Merge { rank: 10 - pair.left, merged: pair.left + 1 }
            } else {
                NO_MERGE
            }
        });
        assert_eq!(symbols.ids, [4; 62_500]);
    }
}
