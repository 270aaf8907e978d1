//! Causal attention over whole sequences, forward and backward.
//!
//! Scores exist for a block of queries at a time and are computed again in the backward pass, from the logarithm of
//! each row's sum (Dao et al. 2022, arXiv:2205.14135). A sequence's key-value head is one task, with all the heads that
//! share it: what several queries add to the gradient of a key is added in one order.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::f32::consts::LOG2_E;
use std::ops::Range;

use crate::Pool;
use crate::aligned::{AlignedWords, LINE};
use crate::disjoint::Disjoint;
use crate::matmul::{
    DisjointFactors, Factors, FactorsMut, LeftBlock, Matrix, Needed, PackedRight, Precision, Rows, Store,
    dispatch, get, is_bf16, pack, product, put,
};
use crate::simd::{Cache, Kernel, Lanes, prefetch};

/// Queries of a block: as many rows as a block of a product has.
const QUERIES: usize = 96;

/// What is the same for both passes.
#[derive(Debug, Clone, Copy)]
pub struct CausalAttention<'a> {
    /// Heads of the queries.
    pub n_heads: usize,
    /// Heads of keys and values; each serves `n_heads / n_kv_heads` heads of the queries.
    pub n_kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// How many keys a query sees at most, its own among them.
    pub window: Option<usize>,
    /// Rows of each sequence, in order; a row in none of them gets nothing.
    pub sequences: &'a [Range<usize>],
    /// In what the factors of the products are.
    pub precision: Precision,
}

/// out = softmax(scale · q kᵀ, causal) v, and the logarithm (base 2) of each row's sum of exponentials.
///
/// q, out: `[n_rows, n_heads, head_dim]`; k, v: `[n_rows, n_kv_heads, head_dim]`; log_sums: `[n_heads, n_rows]`
///
/// # Panics
/// When shapes do not fit or sequences overlap, or where halves come for products in single precision, or for heads that
/// are not whole words of them.
pub fn attention_forward(
    pool: &Pool,
    shape: &CausalAttention<'_>,
    q: Factors<'_>,
    k: Factors<'_>,
    v: Factors<'_>,
    out: FactorsMut<'_>,
    log_sums: &mut [f32],
) {
    let n_rows = shape.check(pool, q, k, v);
    assert_eq!(out.len(), q.len(), "out must be as large as q");
    assert_eq!(log_sums.len(), n_rows * shape.n_heads, "log_sums must be [n_heads, n_rows]");
    let (out, log_sums) = (&DisjointFactors::new(out), &Disjoint::new(log_sums));
    shape.run(pool, &|sequence, kv_head, is_bf16, room| {
        let task = Task { shape, sequence, kv_head, is_bf16, n_rows, q, k, v, room };
        dispatch(pool.isa(), is_bf16, Forward { task, out, log_sums });
    });
}

/// Gradients of q, k and v, which take the place of what is there, from that of `out`.
///
/// `out` and `log_sums` as [`attention_forward`] gave them; `d_out`, `dq` as q, `dk`, `dv` as k
///
/// # Panics
/// When shapes do not fit or sequences overlap.
#[allow(clippy::too_many_arguments)] // what goes in and what comes out
pub fn attention_backward(
    pool: &Pool,
    shape: &CausalAttention<'_>,
    q: Factors<'_>,
    k: Factors<'_>,
    v: Factors<'_>,
    out: Factors<'_>,
    log_sums: &[f32],
    d_out: &[f32],
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let n_rows = shape.check(pool, q, k, v);
    assert!([out.len(), d_out.len(), dq.len()].iter().all(|&len| len == q.len()), "as large as q");
    assert!([dk.len(), dv.len()].iter().all(|&len| len == k.len()), "dk and dv must be as large as k");
    assert_eq!(log_sums.len(), n_rows * shape.n_heads, "log_sums must be [n_heads, n_rows]");
    let [dq, dk, dv] = &[dq, dk, dv].map(Disjoint::new);
    shape.run(pool, &|sequence, kv_head, is_bf16, room| {
        let task = Task { shape, sequence, kv_head, is_bf16, n_rows, q, k, v, room };
        dispatch(pool.isa(), is_bf16, Backward { task, out, log_sums, d_out, dq, dk, dv });
    });
}

/// A worker's memory, kept so that no task allocates.
#[derive(Default)]
struct Room {
    left: AlignedWords,
    /// Packed right sides.
    packed: [AlignedWords; 5],
    /// Scores and their gradients: [QUERIES, n_keys]
    scores: [Vec<f32>; 2],
    /// Both, rounded.
    rounded: [AlignedWords; 2],
    /// What comes out, before it is rounded: [QUERIES, head_dim]
    out: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

impl CausalAttention<'_> {
    fn check(&self, pool: &Pool, q: Factors<'_>, k: Factors<'_>, v: Factors<'_>) -> usize {
        let (row, kv_row) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        assert!(kv_row > 0 && self.n_heads.is_multiple_of(self.n_kv_heads), "heads must be shared evenly");
        let n_rows = q.len() / row;
        assert_eq!(q.len(), n_rows * row, "q must be [n_rows, n_heads, head_dim]");
        assert!(
            k.len() == n_rows * kv_row && v.len() == k.len(),
            "k and v must be [n_rows, n_kv_heads, head_dim]"
        );
        let is_bf16 = is_bf16(self.precision, pool.isa());
        assert!(
            is_bf16 || ![q, k, v].iter().any(Factors::is_halves),
            "halves are factors of products in bf16"
        );
        let mut end = 0;
        for rows in self.sequences {
            assert!(
                rows.start >= end && rows.end >= rows.start,
                "sequences must come in order and not overlap"
            );
            end = rows.end;
        }
        assert!(end <= n_rows, "a sequence ends at row {end} of {n_rows}");
        n_rows
    }

    /// Calls `task` for every key-value head of every sequence.
    fn run(&self, pool: &Pool, task: &(dyn Fn(Range<usize>, usize, bool, &mut Room) + Sync)) {
        let is_bf16 = is_bf16(self.precision, pool.isa());
        pool.run(self.sequences.len() * self.n_kv_heads, &|tile, _| {
            let (sequence, kv_head) = (tile / self.n_kv_heads, tile % self.n_kv_heads);
            let rows = self.sequences[sequence].clone();
            ROOM.with_borrow_mut(|room| task(rows, kv_head, is_bf16, room));
        });
    }
}

/// One key-value head of one sequence.
struct Task<'a> {
    shape: &'a CausalAttention<'a>,
    sequence: Range<usize>,
    kv_head: usize,
    is_bf16: bool,
    /// Of all sequences.
    n_rows: usize,
    q: Factors<'a>,
    k: Factors<'a>,
    v: Factors<'a>,
    room: &'a mut Room,
}

impl Task<'_> {
    /// The heads that share this key-value head.
    fn heads(&self) -> Range<usize> {
        let group = self.shape.n_heads / self.shape.n_kv_heads;
        self.kv_head * group..(self.kv_head + 1) * group
    }

    /// The keys that a query of the sequence sees.
    #[inline(always)]
    fn seen(&self, query: usize) -> Range<usize> {
        (query + 1).saturating_sub(self.shape.window.unwrap_or(usize::MAX))..query + 1
    }

    /// Which keys have weights in some rows of a block of queries.
    #[inline(always)]
    fn keys_of(&self, first_query: usize, rows: Range<usize>) -> Needed {
        let (first, last) = (first_query + rows.start, first_query + rows.end - 1);
        Needed { cols: 0..usize::MAX, depth: self.seen(first).start..self.seen(last).end }
    }

    /// Which queries of a block have weights for some of the keys.
    #[inline(always)]
    fn queries_of(&self, first_query: usize, keys: Range<usize>) -> Needed {
        let end = (keys.end - 1).saturating_add(self.shape.window.unwrap_or(usize::MAX));
        let depth = keys.start.saturating_sub(first_query)..end.saturating_sub(first_query);
        Needed { cols: 0..usize::MAX, depth }
    }
}

/// Σ a · b
#[inline(always)]
fn dot<L: Lanes>(l: L, a: &[f32], b: Factors<'_>) -> f32 {
    let n_whole = a.len() / L::N * L::N;
    let mut sums = l.splat(0.0);
    for at in (0..n_whole).step_by(L::N) {
        sums = l.fma(get(l, a, at), b.vector(l, at), sums);
    }
    (n_whole..a.len()).fold(l.sum(sums), |sum, i| sum + a[i] * b.get(i))
}

/// Scores of the keys that a query sees, and those around them.
struct ScoreRow<'a> {
    row: &'a mut [f32],
    /// Vectors up to here hold all that is seen; what is not seen among them is −∞.
    end: usize,
}

impl<'a> ScoreRow<'a> {
    #[inline(always)]
    fn new<L: Lanes>(row: &'a mut [f32], seen: Range<usize>) -> ScoreRow<'a> {
        let end = seen.end.next_multiple_of(L::N).min(row.len());
        row[..seen.start].fill(f32::NEG_INFINITY);
        row[seen.end..end].fill(f32::NEG_INFINITY);
        ScoreRow { row, end }
    }

    /// A vector of scores.
    #[inline(always)]
    fn get<L: Lanes>(&self, l: L, at: usize) -> L::V {
        let row = &self.row[at..];
        if row.len() >= L::N {
            // SAFETY: a whole vector.
            return unsafe { l.load(row.as_ptr()) };
        }
        let mut padded = [f32::NEG_INFINITY; 16];
        padded[..row.len()].copy_from_slice(row);
        // SAFETY: the buffer holds the widest vector.
        unsafe { l.load(padded.as_ptr()) }
    }

    /// A factor of a product in its place, or rounded.
    #[inline(always)]
    fn put<L: Lanes, const PAIRS: bool>(&mut self, l: L, at: usize, x: L::V, rounded: &mut [u32]) {
        if PAIRS {
            FactorsMut::Halves(rounded).put(l, at, x);
        } else {
            put(l, &mut self.row[at..], x);
        }
    }

    /// Factors are 0 behind what is seen.
    #[inline(always)]
    fn end<const PAIRS: bool>(self, rounded: &mut [u32]) {
        if PAIRS {
            rounded[self.end.div_ceil(2)..].fill(0);
        } else {
            self.row[self.end..].fill(0.0);
        }
    }

    #[inline(always)]
    fn largest<L: Lanes>(&self, l: L) -> f32 {
        let mut largest = l.splat(f32::NEG_INFINITY);
        for at in (0..self.end).step_by(L::N) {
            largest = l.max(self.get(l, at), largest);
        }
        l.largest(largest)
    }
}

/// Room for factors computed from scores, if they are rounded: rows of whole words. If not, they take the scores' place.
#[inline(always)]
fn rounded_room<const PAIRS: bool>(room: &mut AlignedWords, n_rows: usize, n_keys: usize) -> &mut [u32] {
    let n_words = if PAIRS { n_rows * n_keys.div_ceil(2) } else { 0 };
    room.at_least(n_words);
    &mut room.as_mut_slice()[..n_words]
}

/// Those of a row.
#[inline(always)]
fn rounded_row<const PAIRS: bool>(rounded: &mut [u32], row: usize, n_keys: usize) -> &mut [u32] {
    let n_words = if PAIRS { n_keys.div_ceil(2) } else { 0 };
    &mut rounded[row * n_words..][..n_words]
}

/// All of them; rounded ones with a column of zeros behind an odd number of keys.
#[inline(always)]
fn scored<'a, const PAIRS: bool>(
    scores: &'a [f32],
    rounded: &'a [u32],
    n_rows: usize,
    n_keys: usize,
) -> Matrix<'a> {
    if PAIRS {
        Matrix::of(Factors::Halves(rounded), n_rows, n_keys.next_multiple_of(2))
    } else {
        Matrix::new(scores, n_rows, n_keys)
    }
}

impl<'a> Task<'a> {
    /// Rows `rows` of the sequence, of one of `n_heads` heads of `data`.
    fn head(&self, data: Factors<'a>, rows: Range<usize>, n_heads: usize, head: usize) -> Matrix<'a> {
        let head_dim = self.shape.head_dim;
        let stride = n_heads * head_dim;
        let first = (self.sequence.start + rows.start) * stride + head * head_dim;
        Matrix::strided(data.from(first), rows.len(), head_dim, stride)
    }

    /// As [`Task::head`], to be written.
    fn rows<'b>(&self, data: &'b Disjoint<'b, f32>, first: usize, n_heads: usize, head: usize) -> Rows<'b> {
        let stride = n_heads * self.shape.head_dim;
        Rows { data, first: (self.sequence.start + first) * stride + head * self.shape.head_dim, stride }
    }

    /// Where the numbers of a head begin, of one of the sequence's rows.
    fn at(&self, row: usize, n_heads: usize, head: usize) -> usize {
        ((self.sequence.start + row) * n_heads + head) * self.shape.head_dim
    }

    /// Queries of each block.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let n = self.sequence.len();
        (0..n).step_by(QUERIES).map(move |first| first..n.min(first + QUERIES))
    }

    /// Where the logarithms of a head's sums begin.
    fn log_sums(&self, head: usize) -> usize {
        head * self.n_rows + self.sequence.start
    }
}

/// left · right → out.
#[inline(always)]
fn multiply<L: Lanes, const PAIRS: bool>(
    l: L,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    into: Store,
    out: &Rows<'_>,
    needed: impl Fn(Range<usize>) -> Needed,
    room: &mut [u32],
) {
    product::<L, PAIRS>(l, left, right, 0..left.n_rows(), right.panels::<L>(), into, out, needed, room);
}

/// `[n_queries, n_keys]` of a buffer that grows.
fn scores_room(room: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if room.len() < len {
        room.resize(len, 0.0);
    }
    &mut room[..len]
}

/// The product of a block's queries (or their gradients) and the keys (or values) up to their own.
#[inline(always)]
fn scores_of<'a, L: Lanes, const PAIRS: bool>(
    l: L,
    first_query: usize,
    queries: Matrix<'_>,
    keys: PackedRight<'_>,
    n_keys: usize,
    to: &'a mut Vec<f32>,
    room: &mut [u32],
) -> &'a mut [f32] {
    let to = scores_room(to, queries.n_rows() * n_keys);
    let out = Rows { data: &Disjoint::new(to), first: 0, stride: n_keys };
    let keys = PackedRight { n_cols: n_keys, ..keys };
    let needed = |rows: Range<usize>| Needed { cols: 0..first_query + rows.end, depth: 0..usize::MAX };
    multiply::<L, PAIRS>(l, queries, keys, Store::Replace, &out, needed, room);
    to
}

struct Forward<'a> {
    task: Task<'a>,
    out: &'a DisjointFactors<'a>,
    log_sums: &'a Disjoint<'a, f32>,
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if self.task.is_bf16 { self.pass::<L, true>(l) } else { self.pass::<L, false>(l) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn pass<L: Lanes, const PAIRS: bool>(self, l: L) {
        let Forward { task, out, log_sums } = self;
        let CausalAttention { n_heads, n_kv_heads, head_dim, scale, .. } = *task.shape;
        let n = task.sequence.len();
        let mut room = std::mem::take(task.room);
        let [room_k, room_v, ..] = &mut room.packed;
        let keys =
            pack::<L, PAIRS>(l, task.head(task.k, 0..n, n_kv_heads, task.kv_head).transposed(), room_k);
        let values = pack::<L, PAIRS>(l, task.head(task.v, 0..n, n_kv_heads, task.kv_head), room_v);
        room.left.at_least(LeftBlock::WORDS);
        let left = room.left.as_mut_slice();
        for head in task.heads() {
            for block in task.blocks() {
                let queries = task.head(task.q, block.clone(), n_heads, head);
                let to = &mut room.scores[0];
                let scores = scores_of::<L, PAIRS>(l, block.start, queries, keys, block.end, to, left);
                // SAFETY: a task alone writes its heads of its sequence.
                let sums = unsafe { log_sums.range(task.log_sums(head) + block.start, block.len()) };
                let n_keys = block.end;
                let rounded = rounded_room::<PAIRS>(&mut room.rounded[0], block.len(), n_keys);
                // Of each row the weights' sum, by which its output is divided.
                let mut totals = [0.0; QUERIES];
                for (i, query) in block.clone().enumerate() {
                    let rounded = rounded_row::<PAIRS>(rounded, i, n_keys);
                    let mut row = ScoreRow::new::<L>(&mut scores[i * n_keys..][..n_keys], task.seen(query));
                    let max = row.largest(l);
                    let (of_max, factor) = (l.splat(max), l.splat(scale * LOG2_E));
                    let mut total = l.splat(0.0);
                    for at in (0..row.end).step_by(L::N) {
                        let e = l.exp2(l.mul(l.sub(row.get(l, at), of_max), factor));
                        total = l.add(total, e);
                        row.put::<L, PAIRS>(l, at, e, rounded);
                    }
                    row.end::<PAIRS>(rounded);
                    totals[i] = l.sum(total);
                    sums[i] = max * scale * LOG2_E + totals[i].log2();
                }
                let weights = scored::<PAIRS>(scores, rounded, block.len(), n_keys);
                let to = scores_room(&mut room.out, block.len() * head_dim);
                let rows = Rows { data: &Disjoint::new(to), first: 0, stride: head_dim };
                let seen = |rows: Range<usize>| task.keys_of(block.start, rows);
                multiply::<L, PAIRS>(l, weights, values, Store::Replace, &rows, seen, left);
                for ((query, from), total) in block.zip(to.chunks_exact(head_dim)).zip(totals) {
                    let inverse = l.splat(1.0 / total);
                    // SAFETY: a task alone writes its heads of its sequence.
                    let mut to = unsafe { out.range(task.at(query, n_heads, head), head_dim) };
                    for at in (0..head_dim).step_by(L::N) {
                        to.put(l, at, l.mul(get(l, from, at), inverse));
                    }
                }
            }
        }
        *task.room = room;
    }
}

struct Backward<'a> {
    task: Task<'a>,
    out: Factors<'a>,
    log_sums: &'a [f32],
    d_out: &'a [f32],
    dq: &'a Disjoint<'a, f32>,
    dk: &'a Disjoint<'a, f32>,
    dv: &'a Disjoint<'a, f32>,
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        if self.task.is_bf16 { self.pass::<L, true>(l) } else { self.pass::<L, false>(l) }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn pass<L: Lanes, const PAIRS: bool>(self, l: L) {
        let Backward { task, out, log_sums, d_out, dq, dk, dv } = self;
        let CausalAttention { n_heads, n_kv_heads, head_dim, scale, .. } = *task.shape;
        let n = task.sequence.len();
        let mut room = std::mem::take(task.room);
        let [room_k, room_kt, room_vt, room_q, room_d_out] = &mut room.packed;
        let (k, v) = (
            task.head(task.k, 0..n, n_kv_heads, task.kv_head),
            task.head(task.v, 0..n, n_kv_heads, task.kv_head),
        );
        let keys = pack::<L, PAIRS>(l, k, room_k);
        let keys_transposed = pack::<L, PAIRS>(l, k.transposed(), room_kt);
        let values_transposed = pack::<L, PAIRS>(l, v.transposed(), room_vt);
        let (to_dk, to_dv) =
            (task.rows(dk, 0, n_kv_heads, task.kv_head), task.rows(dv, 0, n_kv_heads, task.kv_head));
        for to in [&to_dk, &to_dv] {
            for row in 0..n {
                // SAFETY: a task alone writes its key-value head of its sequence.
                unsafe { to.data.range(to.first + row * to.stride, head_dim) }.fill(0.0);
            }
        }
        room.left.at_least(LeftBlock::WORDS);
        let left = room.left.as_mut_slice();
        let [scores, gradients] = &mut room.scores;
        let [weights_rounded, gradients_rounded] = &mut room.rounded;
        for head in task.heads() {
            for block in task.blocks() {
                let n_keys = block.end;
                let queries = task.head(task.q, block.clone(), n_heads, head);
                let d_block = task.head(Factors::Floats(d_out), block.clone(), n_heads, head);
                // Read by rows far from each other, once the products are there.
                for query in block.clone() {
                    let at = task.at(query, n_heads, head);
                    let (start, bytes) = out.part(at..at + head_dim).start();
                    for line in (0..head_dim * bytes).step_by(LINE) {
                        prefetch(start.wrapping_add(line), Cache::Second);
                    }
                }
                let weights =
                    scores_of::<L, PAIRS>(l, block.start, queries, keys_transposed, n_keys, scores, left);
                let gradients = scores_of::<L, PAIRS>(
                    l,
                    block.start,
                    d_block,
                    values_transposed,
                    n_keys,
                    gradients,
                    left,
                );
                let weights_rounded = rounded_room::<PAIRS>(weights_rounded, block.len(), n_keys);
                let gradients_rounded = rounded_room::<PAIRS>(gradients_rounded, block.len(), n_keys);
                let sums = &log_sums[task.log_sums(head) + block.start..];
                for (i, query) in block.clone().enumerate() {
                    let at = task.at(query, n_heads, head);
                    let of_row = dot(l, &d_out[at..at + head_dim], out.part(at..at + head_dim));
                    let of_weights = rounded_row::<PAIRS>(weights_rounded, i, n_keys);
                    let of_gradients = rounded_row::<PAIRS>(gradients_rounded, i, n_keys);
                    let mut weights =
                        ScoreRow::new::<L>(&mut weights[i * n_keys..][..n_keys], task.seen(query));
                    let mut gradients =
                        ScoreRow { row: &mut gradients[i * n_keys..][..n_keys], end: weights.end };
                    let (factor, sum) = (l.splat(scale * LOG2_E), l.splat(sums[i]));
                    let (of_row, scale) = (l.splat(of_row), l.splat(scale));
                    for at in (0..weights.end).step_by(L::N) {
                        let weight = l.exp2(l.sub(l.mul(weights.get(l, at), factor), sum));
                        let gradient = l.mul(l.mul(weight, l.sub(get(l, gradients.row, at), of_row)), scale);
                        weights.put::<L, PAIRS>(l, at, weight, of_weights);
                        gradients.put::<L, PAIRS>(l, at, gradient, of_gradients);
                    }
                    weights.end::<PAIRS>(of_weights);
                    gradients.end::<PAIRS>(of_gradients);
                }
                let queries = pack::<L, PAIRS>(l, queries, room_q);
                let d_block = pack::<L, PAIRS>(l, d_block, room_d_out);
                let weights = scored::<PAIRS>(weights, weights_rounded, block.len(), n_keys);
                let gradients = scored::<PAIRS>(gradients, gradients_rounded, block.len(), n_keys);
                let to_dq = task.rows(dq, block.start, n_heads, head);
                let seen = |rows: Range<usize>| task.keys_of(block.start, rows);
                multiply::<L, PAIRS>(l, gradients, keys, Store::Replace, &to_dq, seen, left);
                let [gradients, weights] =
                    [gradients, weights].map(|of| of.transposed().part(0..n_keys, 0..block.len()));
                let seen_by = |keys: Range<usize>| task.queries_of(block.start, keys);
                multiply::<L, PAIRS>(l, gradients, queries, Store::Add, &to_dk, seen_by, left);
                multiply::<L, PAIRS>(l, weights, d_block, Store::Add, &to_dv, seen_by, left);
            }
        }
        *task.room = room;
    }
}

#[cfg(test)]
mod tests;
