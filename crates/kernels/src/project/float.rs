//! Float weights times float activations: rows in the lanes, column after column, or bf16 by pairs of columns.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use super::{Kernels, Output, TileKernel, fetch};
use crate::activations::{MAX_WIDTH, row_words};
use crate::aligned::LINE;
#[cfg(target_arch = "x86_64")]
use crate::simd::with_bf16;
use crate::simd::{Kernel, Lanes, run_on};
use crate::{Isa, WeightType};

pub(super) fn kernels(isa: Isa, ty: WeightType) -> Kernels {
    macro_rules! widths {
        ($isa:ident, $ty:ident, $g:literal) => {
            [
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 1, $g> as TileKernel,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 2, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 3, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 4, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 5, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 6, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, 7, $g>,
                tile::<{ Isa::$isa as u8 }, { WeightType::$ty as u8 }, MAX_WIDTH, $g>,
            ]
        };
    }
    macro_rules! kernels {
        ($isa:ident) => {
            match ty {
                WeightType::F32 => {
                    Kernels { n_groups: 2, one: widths!($isa, F32, 1), several: widths!($isa, F32, 2) }
                }
                WeightType::F16 => {
                    Kernels { n_groups: 2, one: widths!($isa, F16, 1), several: widths!($isa, F16, 2) }
                }
                _ => Kernels { n_groups: 2, one: widths!($isa, BF16, 1), several: widths!($isa, BF16, 2) },
            }
        };
    }
    match isa {
        Isa::Scalar => kernels!(Scalar),
        Isa::Avx2 => kernels!(Avx2),
        // Tiles multiply bytes only (and bf16, with sums in another order).
        Isa::Avx512 | Isa::Amx => kernels!(Avx512),
    }
}

/// G groups of rows times T tokens.
///
/// # Safety
/// As [`TileKernel`]; the processor must have the instruction set.
unsafe fn tile<const ISA: u8, const TY: u8, const T: usize, const G: usize>(
    weights: *const u8,
    group_bytes: usize,
    n_cols: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let isa = Isa::ALL[ISA as usize];
    run_on(isa, Tile::<TY, T, G> { weights, group_bytes, n_cols, activations: activations.cast(), output });
}

struct Tile<'a, const TY: u8, const T: usize, const G: usize> {
    weights: *const u8,
    group_bytes: usize,
    n_cols: usize,
    activations: *const f32,
    output: &'a Output<'a>,
}

impl<const TY: u8, const T: usize, const G: usize> Kernel for Tile<'_, TY, T, G> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let mut acc = [[l.splat(0.0); T]; G];
        let column_bytes = L::N * const { WeightType::ALL[TY as usize].bytes_of(1) };
        let columns_per_line = (LINE / column_bytes).max(1);
        for col in 0..self.n_cols {
            if self.output.fetch_ahead > 0 && col.is_multiple_of(columns_per_line) {
                for g in 0..G {
                    let at = g * self.group_bytes + col * column_bytes + self.output.fetch_ahead;
                    fetch(self.weights.wrapping_add(at), LINE);
                }
            }
            let mut w = [l.splat(0.0); G];
            for g in 0..G {
                let column = col * L::N;
                // SAFETY: G whole groups follow each other, each with n_cols columns of N rows.
                unsafe {
                    let group = self.weights.add(g * self.group_bytes);
                    w[g] = match const { WeightType::ALL[TY as usize] } {
                        WeightType::F32 => l.load(group.cast::<f32>().add(column)),
                        WeightType::F16 => l.load_f16(group.cast::<u16>().add(column)),
                        _ => l.load_bf16(group.cast::<u16>().add(column)),
                    };
                }
            }
            for t in 0..T {
                // SAFETY: the panel has T floats for each column.
                let x = l.splat(unsafe { *self.activations.add(col * T + t) });
                for g in 0..G {
                    acc[g][t] = l.fma(w[g], x, acc[g][t]);
                }
            }
        }
        store(l, &acc, self.output);
    }
}

/// Stores the sums of G groups of N rows and T tokens.
#[inline(always)]
fn store<L: Lanes, const T: usize, const G: usize>(l: L, acc: &[[L::V; T]; G], output: &Output<'_>) {
    for (g, acc) in acc.iter().enumerate() {
        for (t, &acc) in acc.iter().enumerate() {
            let mut buffer = [0.0; 16];
            // SAFETY: the buffer holds the widest vector; the tile owns its rows of the output.
            unsafe {
                l.store(buffer.as_mut_ptr(), acc);
                output.put(t, g * L::N, &buffer[..L::N]);
            }
        }
    }
}

/// The kernels for pairs of bf16, where [`Isa::has_bf16`].
#[cfg(target_arch = "x86_64")]
pub(super) fn kernels_of_pairs() -> Kernels {
    macro_rules! widths {
        ($g:literal) => {
            [
                pairs_tile::<1, $g> as TileKernel,
                pairs_tile::<2, $g>,
                pairs_tile::<3, $g>,
                pairs_tile::<4, $g>,
                pairs_tile::<5, $g>,
                pairs_tile::<6, $g>,
                pairs_tile::<7, $g>,
                pairs_tile::<MAX_WIDTH, $g>,
            ]
        };
    }
    Kernels { n_groups: 2, one: widths!(1), several: widths!(2) }
}

/// G groups of rows times T tokens; activations: `[T, row_words]`.
///
/// # Safety
/// As [`TileKernel`]; the processor must multiply pairs of bf16.
#[cfg(target_arch = "x86_64")]
unsafe fn pairs_tile<const T: usize, const G: usize>(
    weights: *const u8,
    group_bytes: usize,
    n_cols: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    // SAFETY: as the caller promises.
    unsafe { with_bf16(PairsTile::<T, G> { weights, group_bytes, n_cols, activations, output }) }
}

struct PairsTile<'a, const T: usize, const G: usize> {
    weights: *const u8,
    group_bytes: usize,
    n_cols: usize,
    activations: *const u32,
    output: &'a Output<'a>,
}

impl<const T: usize, const G: usize> Kernel for PairsTile<'_, T, G> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let mut acc = [[l.splat(0.0); T]; G];
        let row_words = row_words(self.n_cols);
        for pair in 0..self.n_cols / 2 {
            let at = pair * L::N * size_of::<u32>();
            if self.output.fetch_ahead > 0 {
                for g in 0..G {
                    let ahead = g * self.group_bytes + at + self.output.fetch_ahead;
                    fetch(self.weights.wrapping_add(ahead), LINE);
                }
            }
            let mut w = [l.splat(0.0); G];
            for g in 0..G {
                // SAFETY: G whole groups follow each other, each with n_cols / 2 pairs of N rows.
                w[g] = unsafe { l.load(self.weights.add(g * self.group_bytes + at).cast()) };
            }
            for t in 0..T {
                // SAFETY: each of the T rows has n_cols / 2 pairs.
                let x = unsafe { *self.activations.add(t * row_words + pair) };
                for g in 0..G {
                    acc[g][t] = l.fma_pairs(x, w[g], acc[g][t]);
                }
            }
        }
        store(l, &acc, self.output);
    }
}
