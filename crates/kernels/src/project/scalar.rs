//! The reference: plain loops over the packed layout.
#![allow(unsafe_code)]

use super::{Kernels, Output, TileKernel};
use crate::WeightType;
use crate::activations::{BLOCK_WORDS, MAX_WIDTH};
use crate::blocks::BLOCK_LEN;
use crate::packed::{Layout, PackedBlock};

/// Rows of a group, as for AVX2.
const ROWS: usize = 8;

/// a · b + c, rounded twice.
#[inline(always)]
pub(super) fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    a * b + c
}

pub(super) fn kernels(ty: WeightType) -> Kernels {
    macro_rules! widths {
        ($ty:ident) => {
            [1, 2, 3, 4, 5, 6, 7, 8].map(|width| -> TileKernel {
                match width {
                    1 => tile::<{ WeightType::$ty as u8 }, 1>,
                    2 => tile::<{ WeightType::$ty as u8 }, 2>,
                    3 => tile::<{ WeightType::$ty as u8 }, 3>,
                    4 => tile::<{ WeightType::$ty as u8 }, 4>,
                    5 => tile::<{ WeightType::$ty as u8 }, 5>,
                    6 => tile::<{ WeightType::$ty as u8 }, 6>,
                    7 => tile::<{ WeightType::$ty as u8 }, 7>,
                    _ => tile::<{ WeightType::$ty as u8 }, MAX_WIDTH>,
                }
            })
        };
    }
    let one = super::for_quantised!(ty, widths);
    Kernels { n_groups: 1, one, several: one }
}

/// # Safety
/// As [`TileKernel`].
unsafe fn tile<const TY: u8, const T: usize>(
    weights: *const u8,
    group_bytes: usize,
    n_supers: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let ty = WeightType::ALL[TY as usize];
    let layout = Layout::new(ty, ROWS);
    let n_blocks = n_supers * layout.n_blocks;
    // SAFETY: the caller gives a whole group and a panel of T tokens with as many blocks.
    let (group, words) = unsafe {
        (
            std::slice::from_raw_parts(weights, group_bytes),
            std::slice::from_raw_parts(activations, n_blocks * BLOCK_WORDS * T),
        )
    };
    let mut sums = [[0.0f32; ROWS]; T];
    for (block_idx, words) in words.chunks_exact(BLOCK_WORDS * T).enumerate() {
        for r in 0..ROWS {
            let block = PackedBlock::read(ty, &layout, group, block_idx, r);
            for (t, sums) in sums.iter_mut().enumerate() {
                add_block(&block, words, T, t, &mut sums[r]);
            }
        }
    }
    for (t, sums) in sums.iter().enumerate() {
        // SAFETY: the caller owns these rows.
        unsafe { output.put(t, 0, sums) };
    }
}

/// Adds one row's block times token `t`'s block of a panel of `width`.
fn add_block(block: &PackedBlock, words: &[u32], width: usize, t: usize, sum: &mut f32) {
    let value = |i: usize| f32::from_bits(words[(8 + i) * width + t]);
    let column = |i: usize| words[i / 4 * width + t].to_le_bytes()[i % 4] as i8;
    let dot = |from: usize, to: usize| -> i32 {
        (from..to).map(|i| (i32::from(block.quants[i]) - block.offset) * i32::from(column(i))).sum()
    };
    let scale = value(0);
    if block.scales[0] == block.scales[1] {
        *sum = multiply_add(dot(0, BLOCK_LEN) as f32, block.scales[0] * scale, *sum);
        if block.min != 0.0 {
            *sum = multiply_add(block.min, value(1), *sum);
        }
    } else {
        for half in 0..2 {
            let dot = dot(half * 16, half * 16 + 16);
            *sum = multiply_add(dot as f32, block.scales[half] * scale, *sum);
        }
    }
}
