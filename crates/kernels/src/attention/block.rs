//! The two small products of attention: scores of rows and keys, and weighted sums of values.
//!
//! Up to six rows times two vectors, with all sums in registers. Every sum runs over its dimensions or keys in
//! order, whatever the shape of the tile.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use crate::kv::PAGE_LEN;
use crate::simd::Lanes;

/// Rows of a tile at most.
pub(super) const TILE_ROWS: usize = 6;

/// Expands `$call!(M)` for the number of rows that `$m` is.
macro_rules! for_rows {
    ($m:expr, $call:ident) => {
        match $m {
            1 => $call!(1),
            2 => $call!(2),
            3 => $call!(3),
            4 => $call!(4),
            5 => $call!(5),
            _ => $call!(6),
        }
    };
}

/// scores[m][key] = Σ q[m][dim] · keys[dim][key] for the vectors of keys `from_key .. to_key` (rounded
/// outwards to pairs of vectors, within the page).
///
/// q: `[n_rows, n_dims]`, keys: `[n_dims][64]`, scores: `[n_rows, 64]`
///
/// # Safety
/// The slices behind the pointers must have those shapes; `n_rows` at most [`TILE_ROWS`], `to_key` at most 64.
#[inline(always)]
pub(super) unsafe fn scores<L: Lanes, const F16: bool>(
    l: L,
    n_rows: usize,
    n_dims: usize,
    q: *const f32,
    keys: *const u8,
    keys_used: std::ops::Range<usize>,
    scores: *mut f32,
) {
    let step = 2 * L::N;
    for key in (keys_used.start / step * step..keys_used.end).step_by(step) {
        macro_rules! tile {
            ($m:literal) => {
                // SAFETY: 64 is a multiple of two vectors, so both lie in the page; the rest as the caller says.
                unsafe { scores_tile::<L, F16, $m>(l, n_dims, q, keys, key, scores) }
            };
        }
        for_rows!(n_rows, tile);
    }
}

/// # Safety
/// As [`scores`], with M rows and two vectors of keys from `key` on.
#[inline(always)]
unsafe fn scores_tile<L: Lanes, const F16: bool, const M: usize>(
    l: L,
    n_dims: usize,
    q: *const f32,
    keys: *const u8,
    key: usize,
    scores: *mut f32,
) {
    let mut acc = [[l.splat(0.0); 2]; M];
    for dim in 0..n_dims {
        // SAFETY: dim, key and m are below the lengths that the caller promises.
        unsafe {
            let k0 = load::<L, F16>(l, keys, dim * PAGE_LEN + key);
            let k1 = load::<L, F16>(l, keys, dim * PAGE_LEN + key + L::N);
            for m in 0..M {
                let q = l.splat(*q.add(m * n_dims + dim));
                acc[m][0] = l.fma(q, k0, acc[m][0]);
                acc[m][1] = l.fma(q, k1, acc[m][1]);
            }
        }
    }
    for m in 0..M {
        // SAFETY: as above.
        unsafe {
            l.store(scores.add(m * PAGE_LEN + key), acc[m][0]);
            l.store(scores.add(m * PAGE_LEN + key + L::N), acc[m][1]);
        }
    }
}

/// sums[m] = factors[m] · sums[m] + Σ weights[m][key] · values[key] over `keys_used`.
///
/// weights: `[n_rows, 64]`, values: `[64][stride]`, sums: `[n_rows, stride]`, factors: `[n_rows]`
///
/// # Safety
/// The slices behind the pointers must have those shapes; `n_rows` at most [`TILE_ROWS`], `stride` a multiple of
/// the vector, keys below 64.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a product and its shape
pub(super) unsafe fn values<L: Lanes, const F16: bool>(
    l: L,
    n_rows: usize,
    stride: usize,
    weights: *const f32,
    values: *const u8,
    keys_used: std::ops::Range<usize>,
    factors: *const f32,
    sums: *mut f32,
) {
    let mut col = 0;
    while col < stride {
        let two = col + 2 * L::N <= stride;
        macro_rules! tile {
            ($m:literal) => {
                // SAFETY: one or two vectors from `col` on lie in the row; the rest as the caller says.
                unsafe {
                    if two {
                        values_tile::<L, F16, $m, 2>(
                            l,
                            stride,
                            weights,
                            values,
                            keys_used.clone(),
                            factors,
                            sums,
                            col,
                        )
                    } else {
                        values_tile::<L, F16, $m, 1>(
                            l,
                            stride,
                            weights,
                            values,
                            keys_used.clone(),
                            factors,
                            sums,
                            col,
                        )
                    }
                }
            };
        }
        for_rows!(n_rows, tile);
        col += if two { 2 * L::N } else { L::N };
    }
}

/// # Safety
/// As [`values`], with M rows and V vectors of columns from `col` on.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a product and its shape
unsafe fn values_tile<L: Lanes, const F16: bool, const M: usize, const V: usize>(
    l: L,
    stride: usize,
    weights: *const f32,
    values: *const u8,
    keys_used: std::ops::Range<usize>,
    factors: *const f32,
    sums: *mut f32,
    col: usize,
) {
    let mut acc = [[l.splat(0.0); V]; M];
    for m in 0..M {
        for v in 0..V {
            // SAFETY: m and the columns are below the lengths that the caller promises.
            unsafe {
                acc[m][v] = l.mul(l.splat(*factors.add(m)), l.load(sums.add(m * stride + col + v * L::N)));
            }
        }
    }
    for key in keys_used {
        let mut x = [l.splat(0.0); V];
        for v in 0..V {
            // SAFETY: as above.
            x[v] = unsafe { load::<L, F16>(l, values, key * stride + col + v * L::N) };
        }
        for m in 0..M {
            // SAFETY: as above.
            let weight = l.splat(unsafe { *weights.add(m * PAGE_LEN + key) });
            for v in 0..V {
                acc[m][v] = l.fma(weight, x[v], acc[m][v]);
            }
        }
    }
    for m in 0..M {
        for v in 0..V {
            // SAFETY: as above.
            unsafe { l.store(sums.add(m * stride + col + v * L::N), acc[m][v]) };
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
