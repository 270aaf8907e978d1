//! The two small products of attention: scores of rows and keys, and weighted sums of values.
//!
//! Some rows times some vectors, with all sums in registers. Every sum runs over its dimensions or keys in
//! order, whatever the shape of the tile.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use std::sync::atomic::{Ordering, compiler_fence};

use crate::aligned::LINE;
use crate::kv::{BLOCK_LEN, PAGE_LEN};
use crate::simd::{Cache, Lanes, prefetch};

/// Rows of a tile at most: with two vectors beside each other (of 16 floats, of which there are 32 registers, four) they
/// keep the registers busy.
pub(super) const TILE_ROWS: usize = 6;

/// The tiles of so many rows, alike in size, as (first row, number of rows).
pub(super) fn tiles(n_rows: usize) -> impl ExactSizeIterator<Item = (usize, usize)> {
    let n_tiles = n_rows.div_ceil(TILE_ROWS);
    let first_of = move |tile: usize| tile * n_rows / n_tiles;
    (0..n_tiles).map(move |tile| (first_of(tile), first_of(tile + 1) - first_of(tile)))
}

/// Expands `$call!(M, V)` for the number of rows that `$m` is and a number of vectors beside each other: fewer sums
/// would wait for each other, more would not fit the registers, of which the widest vectors have 32 and others 16.
macro_rules! for_rows {
    ($l:ident, $m:expr, $call:ident) => {
        if const { $l::N == BLOCK_LEN } {
            for_rows!(@ 4, $m, $call)
        } else {
            for_rows!(@ 2, $m, $call)
        }
    };
    (@ $v:literal, $m:expr, $call:ident) => {
        match $m {
            1 => $call!(1, 4),
            2 => $call!(2, 4),
            3 => $call!(3, $v),
            4 => $call!(4, $v),
            5 => $call!(5, $v),
            _ => $call!(6, $v),
        }
    };
}

/// Steps of a sum between two bursts of fetches.
const STEPS_PER_BURST: usize = 8;

/// What is fetched into the cache while a tile is computed: little by little, so that it never fills the queue of
/// misses.
struct Ahead {
    next: *const u8,
    /// Lines at a time.
    burst: usize,
}

impl Ahead {
    /// Fetches these bytes while `n_sums` sums of `n_steps` steps each are computed.
    fn new(bytes: &[u8], n_sums: usize, n_steps: usize) -> Ahead {
        let n_bursts = n_sums * n_steps.div_ceil(STEPS_PER_BURST);
        Ahead { next: bytes.as_ptr(), burst: (bytes.len() / LINE).div_ceil(n_bursts.max(1)) }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        for _ in 0..self.burst {
            prefetch(self.next, Cache::Second);
            self.next = self.next.wrapping_add(LINE);
        }
    }
}

/// scores[m][key] = Σ q[m][dim] · key[dim] for the vectors of keys `from_key .. to_key` (rounded
/// outwards to whole tiles, within the page). Meanwhile the bytes `ahead` are fetched into the cache.
///
/// q: `[n_rows, n_dims]`, keys: `[4][n_dims][16]`, scores: `[n_rows, 64]`, rows `row_len` apart
///
/// # Safety
/// The slices behind the pointers must have those shapes; `n_rows` at most [`TILE_ROWS`], `to_key` at most 64.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a product, its shape and what comes next
pub(super) unsafe fn scores<L: Lanes, const F16: bool>(
    l: L,
    n_rows: usize,
    n_dims: usize,
    q: *const f32,
    keys: *const u8,
    keys_used: std::ops::Range<usize>,
    scores: *mut f32,
    row_len: usize,
    ahead: &[u8],
) {
    macro_rules! tiles {
        ($m:literal, $v:literal) => {
            // SAFETY: as the caller says; four of the widest vectors are a page.
            unsafe { scores_tiles::<L, F16, $m, $v>(l, n_dims, q, keys, keys_used, scores, row_len, ahead) }
        };
    }
    for_rows!(L, n_rows, tiles);
}

/// # Safety
/// As [`scores`], with M rows and V vectors at once, which divide the page.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // as above
unsafe fn scores_tiles<L: Lanes, const F16: bool, const M: usize, const V: usize>(
    l: L,
    n_dims: usize,
    q: *const f32,
    keys: *const u8,
    keys_used: std::ops::Range<usize>,
    scores: *mut f32,
    row_len: usize,
    ahead: &[u8],
) {
    let step = V * L::N;
    let first = keys_used.start / step * step;
    let mut ahead = Ahead::new(ahead, (keys_used.end - first).div_ceil(step), n_dims);
    for key in (first..keys_used.end).step_by(step) {
        let mut acc = [[l.splat(0.0); V]; M];
        for from in (0..n_dims).step_by(STEPS_PER_BURST) {
            ahead.fetch();
            for dim in from..n_dims.min(from + STEPS_PER_BURST) {
                // SAFETY: 64 is a multiple of the step, so all lie in the page; the rest as the caller says.
                unsafe {
                    tile_product(
                        |m| l.splat(*q.add(m * n_dims + dim)),
                        |v| load::<L, F16>(l, keys, in_blocks(key + v * L::N, n_dims) + dim * BLOCK_LEN),
                        |x, y, sum| l.fma(x, y, sum),
                        &mut acc,
                    );
                }
            }
        }
        // SAFETY: as above.
        unsafe { store_tile(l, &acc, scores.add(key), row_len) };
    }
}

/// The values of some pages, and what is fetched while each is read.
pub(super) type PageRun<'a, const P: usize> = [(&'a [u8], &'a [u8]); P];

/// sums[m] = Σ weights[m][key] · values[key] over `keys_used` of P pages.
///
/// weights: `[n_rows, 64 P]`, values of a page: `[stride / 16][64][16]`, sums: `[n_rows, stride]`; with PAIRS weights are
/// pairs of bf16, `[n_rows, 32 P]` but rows as far apart, and so are values, `[stride / 16][32][16]`.
///
/// # Safety
/// The slices behind the pointers must have those shapes, pages without used keys aside; `n_rows` at most
/// [`TILE_ROWS`], `stride` a multiple of the vector, keys below 64 P.
#[inline(always)]
pub(super) unsafe fn values<L: Lanes, const F16: bool, const PAIRS: bool, const P: usize>(
    l: L,
    n_rows: usize,
    stride: usize,
    weights: *const f32,
    pages: &PageRun<'_, P>,
    keys_used: std::ops::Range<usize>,
    sums: *mut f32,
) {
    macro_rules! tile {
        ($m:literal, $v:literal, $at:ident) => {
            if PAIRS {
                value_pairs_tile::<L, $m, $v, P>(l, $at, weights.cast(), pages, sums)
            } else {
                values_tile::<L, F16, $m, $v, P>(l, $at, weights, pages, sums)
            }
        };
    }
    macro_rules! tiles {
        ($m:literal, $v:literal) => {{
            let mut col = 0;
            while col < stride {
                let at = ValuesAt { stride, col, keys_used: keys_used.clone() };
                let is_whole = col + $v * L::N <= stride;
                // SAFETY: so many vectors from `col` on lie in the row; the rest as the caller says.
                col += unsafe { if is_whole { tile!($m, $v, at) } else { tile!($m, 1, at) } };
            }
        }};
    }
    for_rows!(L, n_rows, tiles);
}

/// A tile of the second product.
struct ValuesAt {
    stride: usize,
    /// The first column.
    col: usize,
    keys_used: std::ops::Range<usize>,
}

impl ValuesAt {
    /// The pages with used keys.
    #[inline(always)]
    fn pages(&self) -> std::ops::Range<usize> {
        self.keys_used.start / PAGE_LEN..self.keys_used.end.div_ceil(PAGE_LEN)
    }

    /// The first key of a page, and which of the page's keys are used.
    #[inline(always)]
    fn keys_of(&self, page: usize) -> (usize, std::ops::Range<usize>) {
        let first = page * PAGE_LEN;
        (first, self.keys_used.start.saturating_sub(first)..PAGE_LEN.min(self.keys_used.end - first))
    }

    /// What a tile of `n_cols` columns fetches of the bytes that all tiles of a row fetch.
    #[inline(always)]
    fn share_of<'a>(&self, ahead: &'a [u8], n_cols: usize) -> &'a [u8] {
        let upto = |col: usize| ahead.len() * col / self.stride;
        &ahead[upto(self.col)..upto(self.col + n_cols)]
    }
}

/// # Safety
/// As [`values`], with M rows and V vectors of columns from `at.col` on; returns the number of columns.
#[inline(always)]
unsafe fn values_tile<L: Lanes, const F16: bool, const M: usize, const V: usize, const P: usize>(
    l: L,
    at: ValuesAt,
    weights: *const f32,
    pages: &PageRun<'_, P>,
    sums: *mut f32,
) -> usize {
    let ValuesAt { stride, col, .. } = at;
    let mut acc = [[l.splat(0.0); V]; M];
    let n_cols = V * L::N;
    for page in at.pages() {
        let (first, keys) = at.keys_of(page);
        let (values, ahead) = (pages[page].0, at.share_of(pages[page].1, n_cols));
        let mut ahead = Ahead::new(ahead, 1, keys.len());
        for from in keys.clone().step_by(STEPS_PER_BURST) {
            ahead.fetch();
            for key in from..keys.end.min(from + STEPS_PER_BURST) {
                // SAFETY: as the caller says.
                unsafe {
                    tile_product(
                        |m| l.splat(*weights.add(m * P * PAGE_LEN + first + key)),
                        |v| {
                            let at = in_blocks(col + v * L::N, PAGE_LEN) + key * BLOCK_LEN;
                            load::<L, F16>(l, values.as_ptr(), at)
                        },
                        |x, y, sum| l.fma(x, y, sum),
                        &mut acc,
                    );
                }
            }
        }
    }
    // SAFETY: as above.
    unsafe { store_tile(l, &acc, sums.add(col), stride) };
    n_cols
}

/// # Safety
/// As [`values`] with PAIRS, with M rows and V vectors of columns from `at.col` on; returns the number of columns.
#[inline(always)]
unsafe fn value_pairs_tile<L: Lanes, const M: usize, const V: usize, const P: usize>(
    l: L,
    at: ValuesAt,
    weights: *const u32,
    pages: &PageRun<'_, P>,
    sums: *mut f32,
) -> usize {
    const PAIRS: usize = PAGE_LEN / 2;
    let ValuesAt { stride, col, .. } = at;
    let mut acc = [[l.splat(0.0); V]; M];
    let n_cols = V * L::N;
    for page in at.pages() {
        let (first, keys) = at.keys_of(page);
        let (values, ahead) = (pages[page].0, at.share_of(pages[page].1, n_cols));
        let pairs = keys.start / 2..keys.end.div_ceil(2);
        let mut ahead = Ahead::new(ahead, 1, pairs.len());
        let step = |pair: usize, mask: Option<u32>, acc: &mut [[L::V; V]; M]| {
            let left = |m: usize| {
                // SAFETY: as the caller says.
                unsafe { *weights.add(m * P * PAGE_LEN + first / 2 + pair) }
            };
            let right = |v: usize| {
                let at = in_blocks(col + v * L::N, PAIRS) + pair * BLOCK_LEN;
                // SAFETY: as the caller says.
                let pairs = unsafe { l.load(values.as_ptr().cast::<f32>().add(at)) };
                mask.map_or(pairs, |mask| l.and_bits(pairs, mask))
            };
            tile_product(left, right, |x, y, sum| l.fma_pairs(x, y, sum), acc);
        };
        // Where half of a pair is used, the other may hold anything.
        if !keys.start.is_multiple_of(2) {
            step(pairs.start, Some(!0xffff), &mut acc);
        }
        for from in (keys.start.div_ceil(2)..keys.end / 2).step_by(STEPS_PER_BURST) {
            ahead.fetch();
            for pair in from..(keys.end / 2).min(from + STEPS_PER_BURST) {
                step(pair, None, &mut acc);
            }
        }
        if !keys.end.is_multiple_of(2) {
            step(keys.end / 2, Some(0xffff), &mut acc);
        }
    }
    // SAFETY: as above.
    unsafe { store_tile(l, &acc, sums.add(col), stride) };
    n_cols
}

/// Writes the sums of a tile into rows that lie `stride` apart.
///
/// # Safety
/// M rows of V vectors must be writable there.
#[inline(always)]
unsafe fn store_tile<L: Lanes, const M: usize, const V: usize>(
    l: L,
    acc: &[[L::V; V]; M],
    to: *mut f32,
    stride: usize,
) {
    for m in 0..M {
        for v in 0..V {
            // SAFETY: as the caller promises.
            unsafe { l.store(to.add(m * stride + v * L::N), acc[m][v]) };
        }
    }
}

/// Where column `i` of blocks of 16 columns and `n_rows` rows begins.
#[inline(always)]
fn in_blocks(i: usize, n_rows: usize) -> usize {
    i / BLOCK_LEN * n_rows * BLOCK_LEN + i % BLOCK_LEN
}

/// acc[m][v] = fma(left(m), right(v), acc[m][v]); what there are fewer of stays in registers.
#[inline(always)]
fn tile_product<X: Copy, V: Copy, const N_ROWS: usize, const N_VECTORS: usize>(
    left: impl Fn(usize) -> X,
    right: impl Fn(usize) -> V,
    fma: impl Fn(X, V, V) -> V,
    acc: &mut [[V; N_VECTORS]; N_ROWS],
) {
    if N_ROWS < N_VECTORS {
        let x: [X; N_ROWS] = std::array::from_fn(&left);
        for v in 0..N_VECTORS {
            let y = right(v);
            for m in 0..N_ROWS {
                acc[m][v] = fma(x[m], y, acc[m][v]);
            }
        }
    } else {
        let y: [V; N_VECTORS] = std::array::from_fn(&right);
        for m in 0..N_ROWS {
            // Loaded for all rows beforehand, they would not leave enough registers.
            compiler_fence(Ordering::SeqCst);
            let x = left(m);
            for v in 0..N_VECTORS {
                acc[m][v] = fma(x, y[v], acc[m][v]);
            }
        }
    }
}

/// The vector at element `at`.
///
/// # Safety
/// It must be readable there, as f16 or f32.
#[inline(always)]
unsafe fn load<L: Lanes, const F16: bool>(l: L, from: *const u8, at: usize) -> L::V {
    // SAFETY: as the caller promises.
    unsafe { if F16 { l.load_f16(from.cast::<u16>().add(at)) } else { l.load(from.cast::<f32>().add(at)) } }
}
