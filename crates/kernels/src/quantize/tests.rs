//! Every type on ordinary, odd and extreme weights: what is stored comes back close, nothing becomes infinite.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::Isa;
use crate::blocks::{pack_scales_and_mins, scale_and_min};
use crate::test_data::{Random, available_pools, random_floats};

fn quantised() -> impl Iterator<Item = WeightType> {
    WeightType::ALL.into_iter().filter(|ty| ty.block_len() > 1)
}

fn pool() -> Pool {
    Pool::new(2, Isa::detect()).unwrap()
}

fn f32_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn quantized(ty: WeightType, x: &[f32], n_cols: usize, importance: Option<&[f32]>) -> Vec<u8> {
    let mut out = vec![0; ty.bytes_of(x.len())];
    requantize(&pool(), WeightType::F32, &f32_bytes(x), ty, n_cols, importance, &mut out).unwrap();
    out
}

/// The weights as they come back.
fn stored(ty: WeightType, x: &[f32], n_cols: usize, importance: Option<&[f32]>) -> Vec<f32> {
    let mut back = vec![0.0; x.len()];
    dequantize(ty, &quantized(ty, x, n_cols, importance), &mut back);
    back
}

fn refusal(ty: WeightType, x: &[f32], n_cols: usize) -> KernelError {
    let mut out = vec![0; ty.bytes_of(x.len())];
    requantize(&pool(), WeightType::F32, &f32_bytes(x), ty, n_cols, None, &mut out).unwrap_err()
}

/// Σ (x − y)² / Σ x²
fn relative_error(x: &[f32], y: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let error: f64 = x.iter().zip(y).map(|(x, y)| square(x - y)).sum();
    error / x.iter().map(|x| square(*x)).sum::<f64>()
}

/// Numbers as a trained matrix has them: nearly normal.
fn normal(seed: u64, n: usize) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..n).map(|_| (0..6).map(|_| random.float()).sum::<f32>() * 0.02).collect()
}

#[test]
fn ordinary_weights_come_back_within_the_error_of_their_bits() {
    // (type, most relative error on normal weights). Rounding between the extremes of each block without any
    // search (the Python package gguf 0.19) gives 0.0069, 0.0058, 0.0017, 0.0014 and 0.0000269 for the first five.
    let cases = [
        (WeightType::Q4_0, 0.0063),
        (WeightType::Q4_1, 0.0048),
        (WeightType::Q5_0, 0.001_55),
        (WeightType::Q5_1, 0.001_12),
        (WeightType::Q8_0, 0.000_024_8),
        (WeightType::Q4K, 0.0048),
        (WeightType::Q5K, 0.001_18),
        (WeightType::Q6K, 0.000_29),
        (WeightType::F32, 0.0),
        (WeightType::F16, 1e-7),
        (WeightType::BF16, 1e-5),
    ];
    let x = normal(1, 64 * 1024);
    let mut misses = Vec::new();
    for (ty, most) in cases {
        let error = relative_error(&x, &stored(ty, &x, 1024, None));
        if error > most {
            misses.push(format!("{}: {error:.3e}, at most {most:.3e}", ty.name()));
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn no_block_is_worse_than_rounding_between_its_extremes() {
    // (type, levels): under a scale of range / levels no weight of a block is off by more than half a scale, its
    // rounding to f16 and that of the minimum aside.
    let cases = [(WeightType::Q4_1, 15.0f32), (WeightType::Q5_1, 31.0)];
    let mut x = normal(2, 32 * 500);
    // Blocks far from 0, and blocks with one weight far from the others.
    x[..3200].iter_mut().for_each(|x| *x += 3.0);
    x[3200..6400].iter_mut().step_by(32).for_each(|x| *x = 1.0);
    for (ty, n_levels) in cases {
        let back = stored(ty, &x, 32, None);
        for (i, (x, y)) in x.chunks(32).zip(back.chunks(32)).enumerate() {
            let low = x.iter().copied().fold(f32::INFINITY, f32::min);
            let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let step = (high - low) / n_levels;
            let rounding = (low.abs() + (high - low)) / 2048.0;
            let bound = 32.0 * (step / 2.0 + rounding).powi(2);
            let error: f32 = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum();
            assert!(error <= bound, "{} block {i}: {error:e} > {bound:e}", ty.name());
        }
    }
}

#[test]
fn weights_that_a_block_can_hold_come_back_exactly() {
    // Whole multiples of a power of two, with the lowest and the highest level in each block.
    let mut random = Random::new(3);
    for (ty, low, high) in [
        (WeightType::Q4_0, -8, 7),
        (WeightType::Q5_0, -16, 15),
        (WeightType::Q8_0, -127, 127),
        (WeightType::Q4_1, 3, 18),
        (WeightType::Q5_1, -40, -9),
    ] {
        let n_levels = (high - low + 1) as usize;
        let mut x: Vec<f32> =
            (0..32 * 50).map(|_| (low + random.below(n_levels) as i32) as f32 / 64.0).collect();
        for block in x.chunks_mut(32) {
            block[5] = low as f32 / 64.0;
            block[20] = high as f32 / 64.0;
        }
        assert_eq!(stored(ty, &x, 64, None), x, "{}", ty.name());
    }
}

#[test]
fn threads_and_instruction_sets_make_no_difference() {
    let n_cols = 768;
    let x = normal(4, n_cols * 70);
    let importance: Vec<f32> = random_floats(5, n_cols).iter().map(|x| x * x).collect();
    for ty in WeightType::ALL {
        for importance in [None, Some(&importance[..])] {
            let expected = quantized(ty, &x, n_cols, importance);
            for pool in available_pools() {
                let mut found = vec![0; expected.len()];
                let bytes = f32_bytes(&x);
                requantize(&pool, WeightType::F32, &bytes, ty, n_cols, importance, &mut found).unwrap();
                assert!(found == expected, "{} {:?} {}", ty.name(), pool.isa(), pool.n_threads());
            }
        }
    }
}

#[test]
fn any_type_becomes_any_other() {
    let (n_cols, n_rows) = (256, 3);
    let x = normal(6, n_cols * n_rows);
    for from in WeightType::ALL {
        let source = quantized(from, &x, n_cols, None);
        let mut expected = vec![0.0; x.len()];
        dequantize(from, &source, &mut expected);
        for to in WeightType::ALL {
            let mut found = vec![0; to.bytes_of(x.len())];
            requantize(&pool(), from, &source, to, n_cols, None, &mut found).unwrap();
            assert_eq!(found, quantized(to, &expected, n_cols, None), "{} to {}", from.name(), to.name());
        }
    }
}

#[test]
fn zeros_stay_zeros() {
    for ty in WeightType::ALL {
        let mut x = normal(7, 3 * 256);
        x[256..512].fill(0.0);
        x[300] = -0.0;
        let back = stored(ty, &x, 256, None);
        assert!(back[256..512].iter().all(|x| *x == 0.0), "{}", ty.name());
    }
}

#[test]
fn tiny_and_huge_weights_stay_finite_and_in_order_of_size() {
    // Below the smallest f16, around it, far above 1, and all of that in one block.
    for size in [f32::MIN_POSITIVE / 1e5, 1e-20, 3e-8, 1e-6, 1e4, 6e4] {
        for ty in WeightType::ALL {
            let mut x: Vec<f32> = random_floats(8, 512).iter().map(|x| x * size).collect();
            x[256..].iter_mut().step_by(3).for_each(|x| *x *= 1e-6);
            let back = stored(ty, &x, 512, None);
            assert!(back.iter().all(|x| x.is_finite()), "{} at {size:e}", ty.name());
            let largest = back.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            // A scale near the smallest f16 may be twice or none of what it should be.
            assert!(largest <= size * 1.2 + 2e-6, "{} at {size:e}: {largest:e}", ty.name());
            if size >= 1e-4 {
                assert!(largest >= size * 0.8, "{} at {size:e}: {largest:e}", ty.name());
            }
        }
    }
}

#[test]
fn what_is_too_large_for_the_type_is_refused_with_its_row() {
    for ty in WeightType::ALL {
        let Some(limit) = largest(ty) else { continue };
        let mut x = normal(9, 40 * 512);
        for sign in [1.0, -1.0] {
            x[23 * 512 + 300] = sign * limit;
            let back = stored(ty, &x, 512, None);
            assert!(back.iter().all(|x| x.is_finite()), "{} at its limit", ty.name());
            let off = (back[23 * 512 + 300] / x[23 * 512 + 300] - 1.0).abs();
            assert!(off < 0.05, "{} at its limit is {off} off", ty.name());
            for beyond in [(limit * 1.01).min(f32::MAX), f32::MAX] {
                x[23 * 512 + 300] = sign * beyond;
                assert_eq!(refusal(ty, &x, 512), KernelError::TooLarge { row: 23, ty: ty.name() });
            }
        }
    }
}

#[test]
fn what_is_not_a_finite_number_is_refused_with_its_row() {
    for ty in WeightType::ALL {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = normal(10, 40 * 512);
            x[31 * 512 + 7] = bad;
            x[39 * 512] = bad;
            assert_eq!(refusal(ty, &x, 512), KernelError::NonFinite { row: 31 }, "{} {bad}", ty.name());
        }
    }
}

#[test]
fn rows_must_consist_of_whole_blocks() {
    let error = refusal(WeightType::Q4K, &[0.0; 512], 128);
    assert_eq!(error, KernelError::BadColumns { ty: "Q4_K", n_cols: 128, block_len: 256 });
    for (ty, n_cols) in [(WeightType::F16, 5), (WeightType::Q4_0, 32), (WeightType::Q8_0, 96)] {
        let x = normal(11, 7 * n_cols);
        let error = relative_error(&x, &stored(ty, &x, n_cols, None));
        assert!(error < 0.01, "{} rows of {n_cols}: {error}", ty.name());
    }
    assert!(stored(WeightType::Q6K, &[], 256, None).is_empty());
}

#[test]
fn important_columns_lose_less() {
    let n_cols = 256;
    let x = normal(12, n_cols * 200);
    let importance: Vec<f32> = (0..n_cols).map(|c| if c % 8 == 3 { 50.0 } else { 1.0 }).collect();
    let of_important = |back: &[f32]| {
        let pick = |x: &[f32]| x.iter().skip(3).step_by(8).copied().collect::<Vec<f32>>();
        relative_error(&pick(&x), &pick(back))
    };
    for ty in quantised() {
        let (with, without) = (
            of_important(&stored(ty, &x, n_cols, Some(&importance))),
            of_important(&stored(ty, &x, n_cols, None)),
        );
        // Eight bits leave little to choose.
        let most = if ty == WeightType::Q8_0 { 1.0 } else { 0.8 };
        assert!(with < most * without, "{}: {with:e} with, {without:e} without", ty.name());
    }
}

#[test]
fn importance_has_no_scale_and_nothing_important_is_no_importance() {
    let n_cols = 256;
    let x = normal(13, n_cols * 20);
    let importance: Vec<f32> = random_floats(14, n_cols).iter().map(|x| x * x).collect();
    // A power of two, so that the proportions are the same to the last bit.
    let scaled: Vec<f32> = importance.iter().map(|x| x * 1_048_576.0).collect();
    for ty in quantised() {
        let plain = quantized(ty, &x, n_cols, None);
        assert_eq!(quantized(ty, &x, n_cols, Some(&vec![0.0; n_cols])), plain, "{}", ty.name());
        assert_eq!(
            quantized(ty, &x, n_cols, Some(&importance)),
            quantized(ty, &x, n_cols, Some(&scaled)),
            "{}",
            ty.name()
        );
    }
}

#[test]
fn small_scales_are_packed_as_they_are_read() {
    let mut random = Random::new(15);
    for _ in 0..200 {
        let scales: [u8; 8] = std::array::from_fn(|_| random.below(64) as u8);
        let mins: [u8; 8] = std::array::from_fn(|_| random.below(64) as u8);
        let packed = pack_scales_and_mins(&scales, &mins);
        for b in 0..8 {
            assert_eq!(scale_and_min(&packed, b), (scales[b], mins[b]));
        }
    }
}
