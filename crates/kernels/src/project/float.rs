//! Float weights times float activations: rows in the lanes, column after column.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use super::{Kernels, Output, TileKernel, fetch};
use crate::activations::MAX_WIDTH;
use crate::aligned::LINE;
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
        for (g, acc) in acc.iter().enumerate() {
            for (t, &acc) in acc.iter().enumerate() {
                let mut buffer = [0.0; 16];
                // SAFETY: the buffer holds the widest vector; the tile owns its rows of the output.
                unsafe {
                    l.store(buffer.as_mut_ptr(), acc);
                    self.output.put(t, g * L::N, &buffer[..L::N]);
                }
            }
        }
    }
}
