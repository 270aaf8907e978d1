//! One task of attention: some rows over some segments of keys, and the merging of segments.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::block::{PageRun, TILE_ROWS, scores, tiles, values};
use super::{AttentionSpan, Call, Split, Task};
use crate::aligned::LINE;
use crate::disjoint::Disjoint;
use crate::kv::{HeadShape, KvType, PAGE_LEN};
use crate::simd::{Kernel, Lanes};

/// Positions of a segment: long enough that merging costs nothing, short enough to share out a context of a
/// thousand tokens.
pub(super) const SEGMENT_LEN: usize = SEGMENT_PAGES * PAGE_LEN;
const SEGMENT_PAGES: usize = 4;
/// A pair of bf16.
const ONES: u32 = 0x3f80_3f80;
/// Room for the maximum and the sum before the values of a partial sum.
const PARTIAL_HEAD: usize = 16;

/// Floats of one row's partial sums: maximum, sum, and its weighted values.
pub(super) fn partial_len(shape: HeadShape) -> usize {
    PARTIAL_HEAD + shape.v_stride()
}

pub(super) struct AttendTask<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) span: &'a AttentionSpan<'a>,
    pub(super) task: Task,
    /// Whose first keys are fetched meanwhile.
    pub(super) next: Option<(&'a AttentionSpan<'a>, Task)>,
    pub(super) q: &'a [f32],
    pub(super) out: &'a Disjoint<'a, f32>,
    pub(super) partials: &'a Disjoint<'a, f32>,
}

pub(super) struct MergeTask<'a> {
    pub(super) call: &'a Call<'a>,
    pub(super) span: &'a AttentionSpan<'a>,
    pub(super) split: Split,
    pub(super) out: &'a Disjoint<'a, f32>,
    pub(super) partials: &'a Disjoint<'a, f32>,
}

thread_local! {
    /// A worker's buffers, kept so that no task allocates.
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// The buffers of a task, all for its rows: (token, head of the group), heads fastest.
struct Rows<'a> {
    /// [n_rows, head_dim_k], already times the scale
    q: &'a mut [f32],
    /// [TILE_ROWS, SEGMENT_LEN]: a tile's scores of a segment, then their exponentials, these as bf16 if the values are
    scores: &'a mut [f32],
    /// Of the segment at hand: [n_rows], [n_rows], [n_rows, v_stride]
    segment: Sums<'a>,
    /// Of the segments before.
    total: Sums<'a>,
}

/// Maxima (in powers of two), sums of exponentials relative to them, and values weighted with these.
struct Sums<'a> {
    max: &'a mut [f32],
    sum: &'a mut [f32],
    values: &'a mut [f32],
}

impl Sums<'_> {
    fn clear(&mut self) {
        self.max.fill(f32::NEG_INFINITY);
        self.sum.fill(0.0);
        self.values.fill(0.0);
    }
}

impl Kernel for AttendTask<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let AttendTask { call, span, task, .. } = self;
        let n_rows = task.n_tokens * call.group;
        let (k, stride) = (call.shape.k, call.shape.v_stride());
        let mut scratch = SCRATCH.take();
        let n_floats = TILE_ROWS * SEGMENT_LEN + n_rows * (k + 2 * (2 + stride));
        if scratch.len() < n_floats {
            scratch.resize(n_floats, 0.0);
        }
        let mut rest = &mut scratch[..n_floats];
        let mut take = |len: usize| rest.split_off_mut(..len).expect("the lengths add up");
        let mut rows = Rows {
            q: take(n_rows * k),
            scores: take(TILE_ROWS * SEGMENT_LEN),
            segment: Sums { max: take(n_rows), sum: take(n_rows), values: take(n_rows * stride) },
            total: Sums { max: take(n_rows), sum: take(n_rows), values: take(n_rows * stride) },
        };
        // Exponentials are powers of two: e^x = 2^(x · log2 e). A cap is applied before that factor.
        let scale = if call.softcap.is_none() { call.scale * LOG2_E } else { call.scale };
        for token in 0..task.n_tokens {
            let row = span.first_row + task.first_token + token;
            let q = &self.q[(row * call.n_heads + task.kv_head * call.group) * k..][..call.group * k];
            for (to, q) in rows.q[token * call.group * k..][..call.group * k].iter_mut().zip(q) {
                *to = q * scale;
            }
        }
        rows.total.clear();
        for segment_idx in task.first_segment..task.first_segment + task.n_segments {
            self.segment(l, segment_idx, &mut rows);
            match task.partial {
                Some(partial) => self.keep_partial(partial, &rows),
                None => {
                    for row in 0..n_rows {
                        let values = &rows.segment.values[row * stride..][..stride];
                        let (max, sum) = (rows.segment.max[row], rows.segment.sum[row]);
                        let to = &mut rows.total;
                        let to_values = &mut to.values[row * stride..][..stride];
                        merge(l, max, sum, values, &mut to.max[row], &mut to.sum[row], to_values);
                    }
                }
            }
        }
        if task.partial.is_none() {
            for row in 0..n_rows {
                let values = &rows.total.values[row * stride..][..call.shape.v];
                put_row(call, span, &task, self.out, row, rows.total.sum[row], values);
            }
        }
        SCRATCH.set(scratch);
    }
}

impl AttendTask<'_> {
    /// Positions that the token sees.
    #[inline(always)]
    fn seen(&self, token: usize) -> Range<usize> {
        let end = self.span.first_pos + self.task.first_token + token + 1;
        end.saturating_sub(self.call.window)..end
    }

    /// Computes a segment's sums.
    #[inline(always)]
    fn segment<L: Lanes>(&self, l: L, segment_idx: usize, rows: &mut Rows<'_>) {
        match self.call.kv.kv_type() {
            KvType::F16 => self.segment_of::<L, true, false>(l, segment_idx, rows),
            KvType::F16Bf16 => self.segment_of::<L, true, true>(l, segment_idx, rows),
            KvType::F32 => self.segment_of::<L, false, false>(l, segment_idx, rows),
        }
    }

    /// With F16 for keys (and values), PAIRS for values in pairs of bf16.
    #[inline(always)]
    fn segment_of<L: Lanes, const F16: bool, const PAIRS: bool>(
        &self,
        l: L,
        segment_idx: usize,
        rows: &mut Rows<'_>,
    ) {
        let (call, task) = (self.call, &self.task);
        let (k, stride) = (call.shape.k, call.shape.v_stride());
        let key_bytes = k * PAGE_LEN * call.kv.kv_type().bytes();
        let first_pos = segment_idx * SEGMENT_LEN;
        // The keys of this segment that a token sees.
        let seen = |token: usize| {
            let seen = self.seen(token);
            seen.start.saturating_sub(first_pos).min(SEGMENT_LEN)
                ..seen.end.saturating_sub(first_pos).min(SEGMENT_LEN)
        };
        let page_of = |page: usize| {
            let page = self.span.pages[segment_idx * SEGMENT_PAGES + page];
            call.kv.head(page, task.kv_head).split_at(key_bytes)
        };
        let n_rows = task.n_tokens * call.group;
        let n_tiles = tiles(n_rows).len();
        for (tile, (first, n)) in tiles(n_rows).enumerate() {
            let sums = &mut rows.segment.values[first * stride..(first + n) * stride];
            let used = seen(first / call.group).start..seen((first + n - 1) / call.group).end;
            if used.is_empty() {
                rows.segment.max[first..first + n].fill(f32::NEG_INFINITY);
                rows.segment.sum[first..first + n].fill(0.0);
                sums.fill(0.0);
                continue;
            }
            let pages = used.start / PAGE_LEN..used.end.div_ceil(PAGE_LEN);
            for page in pages.clone() {
                // What is read four pages later; the first tile fetches for all.
                let ahead = if tile == 0 { page_of(page).1 } else { &[] };
                let of_page =
                    used.start.saturating_sub(page * PAGE_LEN)..PAGE_LEN.min(used.end - page * PAGE_LEN);
                // SAFETY: n rows of q and of scores are there; keys are a whole page's.
                unsafe {
                    let q = rows.q[first * k..(first + n) * k].as_ptr();
                    let to = rows.scores[page * PAGE_LEN..].as_mut_ptr();
                    scores::<L, F16>(l, n, k, q, page_of(page).0.as_ptr(), of_page, to, SEGMENT_LEN, ahead);
                }
            }
            for (row, scores) in (first..first + n).zip(rows.scores.as_chunks_mut().0) {
                let seen = seen(row / call.group);
                (rows.segment.max[row], rows.segment.sum[row]) =
                    exponentials::<L, PAIRS>(l, call.softcap, scores, seen, used.clone());
            }
            let run: PageRun<'_, SEGMENT_PAGES> = std::array::from_fn(|page| {
                if !pages.contains(&page) {
                    return (&[][..], &[][..]);
                }
                let ahead = self.after(segment_idx, page);
                let upto = |tile: usize| ahead.len() / LINE * tile / n_tiles * LINE;
                let ahead = &ahead[upto(tile)..upto(tile + 1)];
                (page_of(page).1, ahead)
            });
            // SAFETY: as above, n rows of weights and sums, and whole pages of values where keys are used.
            unsafe {
                let (weights, sums) = (rows.scores.as_ptr(), sums.as_mut_ptr());
                values::<L, F16, PAIRS, SEGMENT_PAGES>(l, n, stride, weights, &run, used, sums);
            }
        }
    }

    /// Keys of a page of the segment that is read next, here or by the next task; empty if there are none.
    fn after(&self, segment_idx: usize, page: usize) -> &[u8] {
        let AttendTask { call, span, task, next, .. } = self;
        let (span, task, segment_idx) = match next {
            _ if segment_idx + 1 < task.first_segment + task.n_segments => (span, task, segment_idx + 1),
            Some((span, next)) => (span, next, next.first_segment),
            None => return &[],
        };
        let page_idx = segment_idx * SEGMENT_PAGES + page;
        let end = span.first_pos + task.first_token + task.n_tokens;
        if page_idx * PAGE_LEN >= end {
            return &[];
        }
        let key_bytes = call.shape.k * PAGE_LEN * call.kv.kv_type().bytes();
        &call.kv.head(span.pages[page_idx], task.kv_head)[..key_bytes]
    }

    /// Writes the sums of the segment at hand for the merge.
    fn keep_partial(&self, partial: usize, rows: &Rows<'_>) {
        let (len, stride) = (partial_len(self.call.shape), self.call.shape.v_stride());
        for (row, values) in rows.segment.values.chunks_exact(stride).enumerate() {
            // SAFETY: a partial belongs to one task.
            let to = unsafe { self.partials.range((partial + row) * len, len) };
            (to[0], to[1]) = (rows.segment.max[row], rows.segment.sum[row]);
            to[PARTIAL_HEAD..].copy_from_slice(values);
        }
    }
}

/// Turns a row's scores into exponentials relative to their maximum, 0 outside of `seen` (but within the pairs of vectors
/// that `used` touches); with BF16 they are rounded and lie in the first half of the room. Returns the maximum, in powers
/// of two, and their sum.
#[inline(always)]
fn exponentials<L: Lanes, const BF16: bool>(
    l: L,
    softcap: Option<f32>,
    scores: &mut [f32; SEGMENT_LEN],
    seen: Range<usize>,
    used: Range<usize>,
) -> (f32, f32) {
    let nothing = l.splat(f32::NEG_INFINITY);
    let step = 2 * L::N;
    let vectors = used.start / step * step..used.end.next_multiple_of(step);
    let mut largest = nothing;
    for key in vectors.clone().step_by(L::N) {
        let at = scores[key..key + L::N].as_mut_ptr();
        // SAFETY: N scores from `key` on, which is a multiple of N below the segment's length.
        unsafe {
            let mut score = l.load(at);
            if let Some(cap) = softcap {
                score = l.mul(l.splat(cap * LOG2_E), l.tanh(l.div(score, l.splat(cap))));
                l.store(at, score);
            }
            if key < seen.start || key + L::N > seen.end {
                score = l.first(seen.end.saturating_sub(key), score, nothing);
                score = l.first(seen.start.saturating_sub(key), nothing, score);
                l.store(at, score);
            }
            largest = l.max(score, largest);
        }
    }
    let max = l.largest(largest);
    if max == f32::NEG_INFINITY {
        scores.fill(0.0);
        return (max, 0.0);
    }
    let mut sums = l.splat(0.0);
    for key in vectors.step_by(step) {
        let at = scores[key..key + step].as_mut_ptr();
        // SAFETY: twice N scores from `key` on. What is rounded is half as long and overwrites what was read.
        unsafe {
            let a = l.exp2(l.sub(l.load(at), l.splat(max)));
            let b = l.exp2(l.sub(l.load(at.add(L::N)), l.splat(max)));
            if BF16 {
                let pairs = l.store_bf16_pairs(scores.as_mut_ptr().cast::<u16>().add(key), a, b);
                sums = l.fma_pairs(ONES, pairs, sums);
            } else {
                l.store(at, a);
                l.store(at.add(L::N), b);
                sums = l.add(l.add(sums, a), b);
            }
        }
    }
    (max, l.sum(sums))
}

/// 2^x of one number, as the vectors compute it; 1 for 0, 0 for −infinity.
#[inline(always)]
fn exp2_scalar<L: Lanes>(l: L, x: f32) -> f32 {
    if x == 0.0 { 1.0 } else { l.largest(l.exp2(l.splat(x))) }
}

/// Adds a segment's sums to those of the segments before it.
#[inline(always)]
fn merge<L: Lanes>(
    l: L,
    max: f32,
    sum: f32,
    values: &[f32],
    to_max: &mut f32,
    to_sum: &mut f32,
    to_values: &mut [f32],
) {
    if max == f32::NEG_INFINITY {
        return;
    }
    let now = if max > *to_max { max } else { *to_max };
    let (factor, to_factor) = (exp2_scalar(l, max - now), exp2_scalar(l, *to_max - now));
    *to_sum = *to_sum * to_factor + sum * factor;
    *to_max = now;
    for (to, x) in to_values.iter_mut().zip(values) {
        *to = *to * to_factor + x * factor;
    }
}

/// Writes a finished row: values / sum.
#[inline(always)]
fn put_row(
    call: &Call<'_>,
    span: &AttentionSpan<'_>,
    task: &Task,
    out: &Disjoint<'_, f32>,
    row: usize,
    sum: f32,
    values: &[f32],
) {
    let (token, head) = (row / call.group, row % call.group);
    let row = span.first_row + task.first_token + token;
    let at = (row * call.n_heads + task.kv_head * call.group + head) * call.shape.v;
    // SAFETY: spans do not overlap (checked by `attention`), and a row's head belongs to one task.
    let out = unsafe { out.range(at, call.shape.v) };
    let inverse = 1.0 / sum;
    for (out, x) in out.iter_mut().zip(values) {
        *out = x * inverse;
    }
}

impl Kernel for MergeTask<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let MergeTask { call, span, split: Split { task, first_partial }, out, partials } = self;
        let n_rows = task.n_tokens * call.group;
        let (len, stride) = (partial_len(call.shape), call.shape.v_stride());
        let mut total = SCRATCH.take();
        if total.len() < stride {
            total.resize(stride, 0.0);
        }
        let values = &mut total[..stride];
        for row in 0..n_rows {
            let (mut max, mut sum) = (f32::NEG_INFINITY, 0.0);
            values.fill(0.0);
            for segment in 0..task.n_segments {
                // SAFETY: all tasks are done, and this split alone reads these partials.
                let from = unsafe { partials.range((first_partial + segment * n_rows + row) * len, len) };
                merge(l, from[0], from[1], &from[PARTIAL_HEAD..], &mut max, &mut sum, values);
            }
            put_row(call, span, &task, out, row, sum, &values[..call.shape.v]);
        }
        SCRATCH.set(total);
    }
}
