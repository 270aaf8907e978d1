//! Causal attention of some rows over the pages of their sequences.
//!
//! Keys are taken in segments of four pages (256 positions). For a segment all scores of a row are computed, then their
//! maximum, their exponentials (as powers of two: the factor log2 e is in the queries) and the weighted values;
//! segments are merged in order (online softmax). Their borders are fixed positions of the sequence, so a row's result
//! depends neither on how its prompt was cut nor on who computes which segment: long contexts of few rows are shared
//! out by segments, prompts by blocks of rows.
//!
//! The heads that share a key-value head are rows of one tile, so each key and value is read once for all.
#![allow(unsafe_code)]

mod block;
mod segment;

use std::cell::RefCell;

use crate::disjoint::Disjoint;
use crate::kv::{KvType, PAGE_LEN};
use crate::simd::{run_on, run_on_with_bf16};
use crate::{KvLayer, Pool};

use segment::{AttendTask, MergeTask, SEGMENT_LEN, partial_len};

/// Rows of a task at most, unless one token has more heads than that: their sums fit the second cache.
const TASK_ROWS: usize = 48;
/// With fewer tasks per worker than this, spans of few rows are split by segments.
const TASKS_PER_WORKER: usize = 6;
/// Spans of more tokens than this are never split by segments.
const SPLIT_MAX_TOKENS: usize = 8;

/// Consecutive tokens of one sequence among the rows of a batch.
#[derive(Clone, Copy, Debug)]
pub struct AttentionSpan<'a> {
    /// The row of the first token.
    pub first_row: usize,
    /// Number of tokens.
    pub n_rows: usize,
    /// Position of the first token in its sequence.
    pub first_pos: usize,
    /// `pages[i]` holds positions 64 i .. 64 i + 64 of the sequence; its own keys are already written.
    pub pages: &'a [u32],
}

/// out = softmax(scale · q·K, capped) · V for every row of every span. A row at position p sees positions
/// up to p, with `window` only the last `window` of them; with `softcap` c scores become c · tanh(score / c).
///
/// q: `[n_rows, n_heads, head_dim_k]`, out: `[n_rows, n_heads, head_dim_v]`; rows outside of all spans are
/// left as they are.
///
/// # Panics
/// When shapes do not fit, spans overlap or lie outside of the rows, or pages end too early or do not exist.
#[allow(clippy::too_many_arguments)] // what attention is
pub fn attention(
    pool: &Pool,
    q: &[f32],
    n_heads: usize,
    spans: &[AttentionSpan<'_>],
    kv: &KvLayer,
    scale: f32,
    softcap: Option<f32>,
    window: Option<usize>,
    out: &mut [f32],
) {
    let shape = kv.shape();
    check(q, n_heads, spans, kv, out);
    let group = n_heads / kv.n_kv_heads();
    let call =
        Call { kv, shape, n_heads, group, scale, softcap, window: window.unwrap_or(usize::MAX).max(1) };
    TASKS.with_borrow_mut(|room| {
        let Room { tasks, splits, partials } = room;
        let n_partials = plan(pool, spans, kv.n_kv_heads(), &call, tasks, splits);
        let len = n_partials * partial_len(shape);
        if partials.len() < len {
            partials.resize(len, 0.0);
        }
        let out = Disjoint::new(out);
        let partials = Disjoint::new(&mut partials[..len]);
        pool.run(tasks.len(), &|tile, _| {
            let task = tasks[tile];
            let span = &spans[task.span];
            // What this worker does next, unless another took it.
            let next = tasks.get(tile + 1).map(|&task| (&spans[task.span], task));
            let attend = AttendTask { call: &call, span, task, next, q, out: &out, partials: &partials };
            match kv.kv_type() {
                KvType::F16Bf16 => run_on_with_bf16(pool.isa(), attend),
                KvType::F16 | KvType::F32 => run_on(pool.isa(), attend),
            }
        });
        // Merging is a few microseconds for one sequence, worth sharing for several.
        let merge = |split_idx: usize| {
            let split = splits[split_idx];
            let span = &spans[split.task.span];
            run_on(pool.isa(), MergeTask { call: &call, span, split, out: &out, partials: &partials });
        };
        if splits.len() < 2 * pool.n_threads() {
            (0..splits.len()).for_each(merge);
        } else {
            pool.run(splits.len(), &|tile, _| merge(tile));
        }
    });
}

/// What is the same for all tasks of a call.
struct Call<'a> {
    kv: &'a KvLayer,
    shape: crate::kv::HeadShape,
    n_heads: usize,
    /// Heads that share a key-value head.
    group: usize,
    scale: f32,
    softcap: Option<f32>,
    window: usize,
}

/// Tokens `first_token .. + n_tokens` of a span, one key-value head, some segments.
#[derive(Clone, Copy, Debug)]
struct Task {
    span: usize,
    kv_head: usize,
    first_token: usize,
    n_tokens: usize,
    first_segment: usize,
    n_segments: usize,
    /// Where its rows' sums go when another task has other segments of them.
    partial: Option<usize>,
}

/// A task whose segments were computed apart: `n_segments` runs of `n_tokens · group` partial sums each.
#[derive(Clone, Copy, Debug)]
struct Split {
    task: Task,
    first_partial: usize,
}

#[derive(Default)]
struct Room {
    tasks: Vec<Task>,
    splits: Vec<Split>,
    partials: Vec<f32>,
}

thread_local! {
    /// Lists and sums of the calling thread, kept so that no call allocates.
    static TASKS: RefCell<Room> = RefCell::default();
}

fn check(q: &[f32], n_heads: usize, spans: &[AttentionSpan<'_>], kv: &KvLayer, out: &[f32]) {
    let shape = kv.shape();
    assert!(kv.n_kv_heads() > 0 && shape.k > 0 && shape.v > 0, "keys and values must not be empty");
    assert!(n_heads > 0 && n_heads.is_multiple_of(kv.n_kv_heads()), "heads must be shared evenly");
    let n_rows = q.len() / (n_heads * shape.k);
    assert_eq!(q.len(), n_rows * n_heads * shape.k, "q must be [n_rows, n_heads, head_dim_k]");
    assert_eq!(out.len(), n_rows * n_heads * shape.v, "out must be [n_rows, n_heads, head_dim_v]");
    let mut end = 0;
    for span in spans {
        assert!(span.first_row >= end, "spans must come in order and not overlap");
        end = span.first_row + span.n_rows;
        assert!(end <= n_rows, "rows {}..{end} of {n_rows}", span.first_row);
        let n_pages = (span.first_pos + span.n_rows).div_ceil(PAGE_LEN);
        assert!(span.pages.len() >= n_pages, "{} pages are too few for {n_pages}", span.pages.len());
        for &page in &span.pages[..n_pages] {
            assert!((page as usize) < kv.n_pages(), "page {page} of {}", kv.n_pages());
        }
    }
}

/// Fills the lists of tasks and splits; returns the number of partial sums.
fn plan(
    pool: &Pool,
    spans: &[AttentionSpan<'_>],
    n_kv_heads: usize,
    call: &Call<'_>,
    tasks: &mut Vec<Task>,
    splits: &mut Vec<Split>,
) -> usize {
    tasks.clear();
    splits.clear();
    let tokens_per_task = (TASK_ROWS / call.group).max(1);
    let n_whole: usize = spans.iter().map(|span| span.n_rows.div_ceil(tokens_per_task) * n_kv_heads).sum();
    let may_split = pool.n_threads() > 1 && n_whole < TASKS_PER_WORKER * pool.n_threads();
    let mut n_partials = 0;
    for (span_idx, span) in spans.iter().enumerate() {
        // The last rows see the most keys: the longest tasks first.
        for block in (0..span.n_rows.div_ceil(tokens_per_task)).rev() {
            let first_token = block * tokens_per_task;
            let n_tokens = tokens_per_task.min(span.n_rows - first_token);
            let first_pos = span.first_pos + first_token;
            let first_segment = (first_pos + 1).saturating_sub(call.window) / SEGMENT_LEN;
            let n_segments = (first_pos + n_tokens - 1) / SEGMENT_LEN + 1 - first_segment;
            let split = may_split && n_segments > 1 && span.n_rows <= SPLIT_MAX_TOKENS;
            for kv_head in 0..n_kv_heads {
                let task = Task {
                    span: span_idx,
                    kv_head,
                    first_token,
                    n_tokens,
                    first_segment,
                    n_segments,
                    partial: None,
                };
                if !split {
                    tasks.push(task);
                    continue;
                }
                let n_rows = n_tokens * call.group;
                for i in 0..n_segments {
                    let partial = Some(n_partials + i * n_rows);
                    tasks.push(Task { first_segment: first_segment + i, n_segments: 1, partial, ..task });
                }
                splits.push(Split { task, first_partial: n_partials });
                n_partials += n_segments * n_rows;
            }
        }
    }
    n_partials
}

#[cfg(test)]
mod tests;
