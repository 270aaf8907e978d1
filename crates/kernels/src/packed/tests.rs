//! Packing loses nothing, and refuses what is damaged.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::dequantize;
use crate::test_data::{available_pools, random_blocks};

#[test]
fn packed_rows_come_back_as_the_file_dequantised() {
    for pool in available_pools() {
        for ty in WeightType::ALL {
            for (n_rows, n_blocks) in [(0, 1), (1, 1), (7, 1), (8, 3), (9, 2), (16, 1), (17, 2), (100, 1)] {
                let n_cols = n_blocks * ty.block_len();
                let data = random_blocks(ty, 5, n_rows * n_cols);
                let mut expected = vec![0.0; n_rows * n_cols];
                dequantize(ty, &data, &mut expected);
                let packed = PackedMatrix::pack(&pool, ty, n_rows, n_cols, &data).unwrap();
                let rows: Vec<u32> = (0..n_rows as u32).rev().collect();
                let mut found = vec![f32::NAN; n_rows * n_cols];
                packed.unpack_rows(&pool, &rows, &mut found);
                for (row, expected) in expected.chunks_exact(n_cols).enumerate() {
                    let found = &found[(n_rows - 1 - row) * n_cols..][..n_cols];
                    assert_eq!(found, expected, "{:?} {ty:?} [{n_rows}, {n_cols}] row {row}", pool.isa());
                }
            }
        }
    }
}

#[test]
fn a_packed_matrix_is_at_most_three_percent_larger_than_the_file() {
    for pool in available_pools() {
        for ty in WeightType::ALL {
            let data = random_blocks(ty, 6, 64 * 512);
            let packed = PackedMatrix::pack(&pool, ty, 64, 512, &data).unwrap();
            assert!(packed.bytes() * 100 <= data.len() * 103, "{ty:?}: {} {}", packed.bytes(), data.len());
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused_with_their_row() {
    let infinity = half::f16::INFINITY.to_le_bytes();
    for pool in available_pools() {
        for ty in WeightType::ALL {
            let n_cols = 2 * ty.block_len();
            let mut data = random_blocks(ty, 7, 50 * n_cols);
            let at = 33 * ty.bytes_of(n_cols) + ty.block_bytes();
            match ty {
                WeightType::F32 => data[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes()),
                WeightType::BF16 => data[at..at + 2].copy_from_slice(&half::bf16::NAN.to_le_bytes()),
                WeightType::Q6K => data[at + 208..at + 210].copy_from_slice(&infinity),
                _ => data[at..at + 2].copy_from_slice(&infinity),
            }
            let result = PackedMatrix::pack(&pool, ty, 50, n_cols, &data);
            assert_eq!(result.err(), Some(KernelError::NonFinite { row: 33 }), "{ty:?}");
            let blocks = crate::check_finite(&pool, ty, &data);
            assert_eq!(blocks.err(), Some(KernelError::NonFinite { row: 67 }), "{ty:?}");
        }
    }
}

#[test]
fn wrong_lengths_and_broken_rows_are_refused() {
    let pool = Pool::new(1, Isa::Scalar).unwrap();
    let short = PackedMatrix::pack(&pool, WeightType::Q4_0, 2, 32, &[0; 35]);
    assert!(matches!(short.err(), Some(KernelError::BadLength { expected: 36, found: 35, .. })));
    let broken = PackedMatrix::pack(&pool, WeightType::Q4K, 1, 32, &[0; 18]);
    assert!(matches!(broken.err(), Some(KernelError::BadColumns { n_cols: 32, block_len: 256, .. })));
    let huge = PackedMatrix::pack(&pool, WeightType::F32, usize::MAX, 4, &[0; 16]);
    assert!(matches!(huge.err(), Some(KernelError::BadLength { .. })));
}
