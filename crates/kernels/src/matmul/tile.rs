//! A few rows times a panel, all sums in registers.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use std::sync::atomic::{Ordering, compiler_fence};

use super::pack::LeftBlock;
use crate::Isa;
use crate::aligned::LINE;
use crate::disjoint::Disjoint;
use crate::simd::{Cache, Lanes, Portable, prefetch};

/// Rows of a tile at most.
pub(super) const TILE_ROWS: usize = 6;
/// Vectors of a tile beside each other: with six rows 24 sums where there are 32 registers, 12 where there are 16.
const WIDE: usize = 4;
const NARROW: usize = 2;

/// Columns of a panel.
pub(super) const fn width_of<L: Lanes>() -> usize {
    if L::N == 16 { WIDE * L::N } else { NARROW * L::N }
}

/// As [`width_of`] the vectors of an instruction set.
pub(super) fn width(isa: Isa) -> usize {
    match isa {
        Isa::Scalar | Isa::Avx2 => width_of::<Portable>(),
        Isa::Avx512 | Isa::Amx => WIDE * 16,
    }
}

/// A tile of the result.
pub(super) struct Tile {
    pub(super) n_rows: usize,
    pub(super) n_cols: usize,
    /// Words of K.
    pub(super) depth: usize,
    pub(super) left: *const u32,
    /// Words between two rows of a left side that is not transposed.
    pub(super) left_stride: usize,
    pub(super) right: *const u32,
    /// Where it begins in the result, and how long the result's rows are.
    pub(super) first: usize,
    pub(super) row_len: usize,
    /// To what is there, rather than in its place.
    pub(super) adds: bool,
}

/// # Safety
/// `left` must be a block from the tile's first row on, packed if it is transposed, `right` a panel, both `depth` words
/// deep, and the tile the caller's alone.
#[inline(always)]
pub(super) unsafe fn multiply<L: Lanes, const PAIRS: bool, const TRANSPOSED: bool>(
    l: L,
    tile: &Tile,
    out: &Disjoint<'_, f32>,
) {
    macro_rules! rows {
        ($m:literal) => {
            // SAFETY: as the caller promises.
            unsafe {
                if L::N == 16 {
                    rows::<L, PAIRS, TRANSPOSED, $m, WIDE>(l, tile, out)
                } else {
                    rows::<L, PAIRS, TRANSPOSED, $m, NARROW>(l, tile, out)
                }
            }
        };
    }
    match tile.n_rows {
        1 => rows!(1),
        2 => rows!(2),
        3 => rows!(3),
        4 => rows!(4),
        5 => rows!(5),
        _ => rows!(6),
    }
}

/// # Safety
/// As [`multiply`], with M rows and V vectors, which are a panel.
#[inline(always)]
unsafe fn rows<L: Lanes, const PAIRS: bool, const TRANSPOSED: bool, const M: usize, const V: usize>(
    l: L,
    tile: &Tile,
    out: &Disjoint<'_, f32>,
) {
    let row_stride = if TRANSPOSED { LeftBlock::row_stride(true) } else { tile.left_stride };
    let col_stride = const { LeftBlock::col_stride(TRANSPOSED) };
    let mut rows = [tile.left; M];
    for m in 0..M {
        rows[m] = tile.left.wrapping_add(m * row_stride);
    }
    // The result's lines come while the sums are made.
    for m in 0..M {
        for v in (0..V * L::N).step_by(LINE / size_of::<f32>()) {
            prefetch(out.address(tile.first + m * tile.row_len + v).cast(), Cache::FirstToWrite);
        }
    }
    let mut acc = [[l.splat(0.0); V]; M];
    for word in 0..tile.depth {
        // SAFETY: words of the panel and of the block, as the caller promises.
        unsafe {
            // No closure: not every one of them would be compiled with the kernel's vectors.
            let mut right = [l.splat(0.0); V];
            for v in 0..V {
                right[v] = l.load(tile.right.cast::<f32>().add((word * V + v) * L::N));
            }
            for m in 0..M {
                // Loaded for all rows beforehand, they would not leave enough registers.
                compiler_fence(Ordering::SeqCst);
                let left = *rows[m].add(word * col_stride);
                for v in 0..V {
                    acc[m][v] = if PAIRS {
                        l.fma_pairs(left, right[v], acc[m][v])
                    } else {
                        l.fma(l.splat(f32::from_bits(left)), right[v], acc[m][v])
                    };
                }
            }
        }
    }
    // With indices that are known here sums stay in registers: whatever else happens to them happens to a copy.
    if tile.n_cols == V * L::N {
        let to = out.part(tile.first, (M - 1) * tile.row_len + tile.n_cols);
        for m in 0..M {
            for v in 0..V {
                // SAFETY: V whole vectors are there, and the tile is the caller's alone.
                unsafe {
                    let at = to.add(m * tile.row_len + v * L::N);
                    l.store(at, if tile.adds { l.add(l.load(at), acc[m][v]) } else { acc[m][v] });
                }
            }
        }
        return;
    }
    let mut sums = [[0.0; WIDE * 16]; M];
    for m in 0..M {
        for v in 0..V {
            // SAFETY: room for the widest vectors.
            unsafe { l.store(sums[m].as_mut_ptr().add(v * L::N), acc[m][v]) };
        }
    }
    for (m, sums) in sums.iter().enumerate() {
        // SAFETY: the tile is the caller's alone.
        let to = unsafe { out.range(tile.first + m * tile.row_len, tile.n_cols) };
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = if tile.adds { *to + sum } else { *sum };
        }
    }
}
