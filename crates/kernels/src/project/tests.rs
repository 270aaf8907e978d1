//! Products against double precision, and the promise that a row's result depends on nothing else.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::test_data::{available_pools, random_blocks, random_floats};
use crate::{Gate, dequantize};

/// Sums in f32 over a few thousand products.
const TOLERANCE: f64 = 2e-5;

struct Case {
    n_rows: usize,
    n_cols: usize,
    n_tokens: usize,
}

fn cases(ty: WeightType) -> Vec<Case> {
    let b = ty.block_len();
    let mut cases = Vec::new();
    for n_rows in [1, 7, 8, 9, 16, 17, 33, 100] {
        cases.push(Case { n_rows, n_cols: 2 * b, n_tokens: 3 });
    }
    for n_tokens in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 20, 130] {
        cases.push(Case { n_rows: 40, n_cols: 3 * b.max(32), n_tokens });
    }
    if b == 1 {
        cases.extend([1, 2, 31, 33].map(|n_cols| Case { n_rows: 17, n_cols, n_tokens: 7 }));
    }
    cases
}

/// What the kernels are asked to compute: the exact product of the dequantised weights with the activations as
/// quantised (or as they are, for float weights), and the sum of magnitudes that rounding is measured by.
fn exact(mat: &PackedMatrix, weights: &[f32], x: &[f32]) -> (f64, f64) {
    let mut quantised = x.to_vec();
    if mat.needs() == Operand::Bf16 {
        quantised.iter_mut().for_each(|x| *x = half::bf16::from_f32(*x).to_f32());
    }
    if mat.needs() == Operand::Int8 {
        for block in quantised.chunks_exact_mut(BLOCK_LEN) {
            let largest = block.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
            block.iter_mut().for_each(|x| *x = (*x * inverse).round_ties_even() * (largest / 127.0));
        }
    }
    let products = weights.iter().zip(&quantised).map(|(&w, &x)| f64::from(w) * f64::from(x));
    // Offsets of weights are added and taken back: they count as if every weight were as large as the largest.
    let largest = weights.iter().fold(0.0f32, |max, w| max.max(w.abs()));
    let size: f64 = quantised.iter().map(|&x| f64::from(x.abs()) * f64::from(largest)).sum();
    (products.sum(), size)
}

/// A random matrix times random activations, compared with double precision.
fn compare(pool: &Pool, ty: WeightType, Case { n_rows, n_cols, n_tokens }: Case) {
    let data = random_blocks(ty, 1 + n_cols as u64, n_rows * n_cols);
    let mut weights = vec![0.0; n_rows * n_cols];
    dequantize(ty, &data, &mut weights);
    let x = random_floats(n_tokens as u64, n_tokens * n_cols);
    let mat = PackedMatrix::pack(pool, ty, n_rows, n_cols, &data).unwrap();
    let mut activations = Activations::new();
    activations.set(pool, &x, n_tokens, n_cols);
    let mut out = vec![f32::NAN; n_tokens * n_rows];
    project(pool, &activations, &[&mat], &mut [&mut out]);
    for (i, &found) in out.iter().enumerate() {
        let (token, row) = (i / n_rows, i % n_rows);
        let (expected, size) =
            exact(&mat, &weights[row * n_cols..][..n_cols], &x[token * n_cols..][..n_cols]);
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= TOLERANCE * size,
            "{:?} {ty:?} [{n_rows}, {n_cols}] token {token} of {n_tokens}, row {row}: found {found}, expected {expected}",
            pool.isa()
        );
    }
    // Added to what is there it is the same product.
    let before = random_floats(6, n_tokens * n_rows);
    let mut added = before.clone();
    project_add(pool, &activations, &mat, 0.22, &mut added);
    for ((added, before), product) in added.iter().zip(&before).zip(&out) {
        assert_eq!(
            *added,
            0.22 * product + before,
            "{:?} {ty:?} [{n_rows}, {n_cols}] of {n_tokens}",
            pool.isa()
        );
    }
}

#[test]
fn products_equal_double_precision_for_every_type_and_shape() {
    for pool in available_pools() {
        for ty in WeightType::ALL {
            cases(ty).into_iter().for_each(|case| compare(&pool, ty, case));
            let n_cols = 2 * ty.block_len().max(32);
            for n_rows in [5, 16, 17, 23, 32, 40, 48, 49] {
                for n_tokens in (1..=17).chain([33]) {
                    compare(&pool, ty, Case { n_rows, n_cols, n_tokens });
                }
            }
        }
    }
}

/// A random matrix of whole blocks.
fn matrix(pool: &Pool, ty: WeightType, seed: u64, n_rows: usize, n_cols: usize) -> PackedMatrix {
    PackedMatrix::pack(pool, ty, n_rows, n_cols, &random_blocks(ty, seed, n_rows * n_cols)).unwrap()
}

#[test]
fn a_gated_pair_equals_its_steps_bit_for_bit() {
    for pool in available_pools() {
        for (gate_ty, up_ty) in WeightType::ALL
            .into_iter()
            .map(|ty| (ty, ty))
            .chain([(WeightType::Q4K, WeightType::Q6K), (WeightType::Q8_0, WeightType::F16)])
        {
            for (n_rows, n_tokens) in
                (1..=17).map(|n| (96, n)).chain([(32, 1), (64, 130), (1024, 1), (1024, 40)])
            {
                let n_cols = 256;
                let (gate, up) =
                    (matrix(&pool, gate_ty, 1, n_rows, n_cols), matrix(&pool, up_ty, 2, n_rows, n_cols));
                let mut x = Activations::new();
                x.set(&pool, &random_floats(3, n_tokens * n_cols), n_tokens, n_cols);
                for function in [Gate::Silu, Gate::GeluTanh] {
                    let mut fused = Activations::new();
                    project_gated(&pool, &x, function, &gate, &up, &mut fused);
                    let mut sums = [0, 1].map(|_| vec![0.0; n_tokens * n_rows]);
                    let [gates, ups] = &mut sums;
                    project(&pool, &x, &[&gate, &up], &mut [gates, ups]);
                    let mut steps = Activations::new();
                    steps.set_gated(&pool, function, gates, ups, n_tokens, n_rows);
                    assert!(fused.has_int8() && !fused.has_f32());
                    for i in 0..n_panels(pool.isa(), n_tokens) {
                        let panel = panel(pool.isa(), n_tokens, i);
                        let is_same = fused.words_of(panel) == steps.words_of(panel);
                        assert!(is_same, "{:?} {gate_ty:?} {up_ty:?} [{n_rows}] of {n_tokens}", pool.isa());
                    }
                }
            }
        }
    }
}

#[test]
fn a_gated_pair_passes_on_that_something_was_no_number() {
    for pool in available_pools() {
        let [gate, up] = [1, 2].map(|seed| matrix(&pool, WeightType::Q8_0, seed, 96, 64));
        let down = matrix(&pool, WeightType::Q8_0, 3, 40, 96);
        let mut x = random_floats(3, 7 * 64);
        x[2 * 64 + 5] = f32::NAN;
        x[4 * 64 + 9] = f32::INFINITY;
        let (mut activations, mut hidden) = (Activations::new(), Activations::new());
        activations.set(&pool, &x, 7, 64);
        project_gated(&pool, &activations, Gate::Silu, &gate, &up, &mut hidden);
        let mut out = vec![0.0; 7 * 40];
        project(&pool, &hidden, &[&down], &mut [&mut out]);
        for (token, out) in out.chunks_exact(40).enumerate() {
            let is_broken = token == 2 || token == 4;
            assert!(out.iter().all(|x| x.is_nan() == is_broken), "{:?} token {token}", pool.isa());
        }
    }
}

/// Blocks whose every quant is the largest or the smallest of its type.
fn extreme_blocks(ty: WeightType, n: usize) -> Vec<u8> {
    let mut data = random_blocks(ty, 3, n);
    for (i, block) in data.chunks_exact_mut(ty.block_bytes()).enumerate() {
        let all = if i % 2 == 0 { 0xff } else { 0x00 };
        let (quants, value) = match ty {
            WeightType::Q4_0 => (2..18, all),
            WeightType::Q4_1 => (4..20, all),
            WeightType::Q5_0 => (2..22, all),
            WeightType::Q5_1 => (4..24, all),
            WeightType::Q8_0 => (2..34, if i % 2 == 0 { 0x80 } else { 0x7f }),
            WeightType::Q4K => (4..144, all),
            WeightType::Q5K => (4..176, all),
            WeightType::Q6K => (0..192, all),
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => continue,
        };
        block[quants].fill(value);
        if ty == WeightType::Q6K {
            block[192..208].fill(if i % 3 == 0 { 0x80 } else { 0x7f });
        }
    }
    data
}

#[test]
fn the_largest_weights_and_activations_do_not_overflow() {
    for pool in available_pools() {
        for ty in WeightType::ALL.into_iter().filter(|ty| ty.block_len() > 1) {
            let (n_rows, n_cols) = (16, 4 * ty.block_len());
            let data = extreme_blocks(ty, n_rows * n_cols);
            let mut weights = vec![0.0; n_rows * n_cols];
            dequantize(ty, &data, &mut weights);
            let mat = PackedMatrix::pack(&pool, ty, n_rows, n_cols, &data).unwrap();
            for signs in [[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]] {
                let n_tokens = 6;
                let x: Vec<f32> = (0..n_tokens * n_cols).map(|i| signs[i % 2]).collect();
                let mut activations = Activations::new();
                activations.set(&pool, &x, n_tokens, n_cols);
                let mut out = vec![0.0; n_tokens * n_rows];
                project(&pool, &activations, &[&mat], &mut [&mut out]);
                for (i, &found) in out.iter().enumerate() {
                    let (expected, size) =
                        exact(&mat, &weights[i % n_rows * n_cols..][..n_cols], &x[..n_cols]);
                    let error = (f64::from(found) - expected).abs();
                    assert!(
                        error <= TOLERANCE * size,
                        "{:?} {ty:?} {signs:?} {found} {expected}",
                        pool.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn a_token_has_the_same_bits_alone_in_any_batch_and_with_any_threads() {
    let isas = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    for isa in isas {
        let pools = [1, 2, 3].map(|n_threads| Pool::new(n_threads, isa).unwrap());
        for ty in WeightType::ALL {
            let (n_rows, n_cols) = (100, 512);
            let data = random_blocks(ty, 8, n_rows * n_cols);
            let mat = PackedMatrix::pack(&pools[0], ty, n_rows, n_cols, &data).unwrap();
            let x = random_floats(9, 600 * n_cols);
            let run = |pool: &Pool, n_tokens: usize| {
                let mut activations = Activations::new();
                activations.set(pool, &x[..n_tokens * n_cols], n_tokens, n_cols);
                let mut out = vec![0.0; n_tokens * n_rows];
                project(pool, &activations, &[&mat], &mut [&mut out]);
                out
            };
            let all = run(&pools[0], 600);
            for pool in &pools {
                for n_tokens in [1, 2, 3, 5, 7, 8, 9, 13, 20, 97, 512] {
                    let found = run(pool, n_tokens);
                    assert!(
                        found[..] == all[..n_tokens * n_rows],
                        "{isa:?} {ty:?}, {n_tokens} tokens, {} threads",
                        pool.n_threads()
                    );
                }
            }
        }
    }
}

#[test]
fn several_matrices_at_once_give_what_each_gives_alone() {
    for pool in available_pools() {
        let shapes =
            [(WeightType::Q5_0, 96), (WeightType::Q8_0, 17), (WeightType::F16, 40), (WeightType::Q4K, 1)];
        let n_cols = 256;
        let mats = shapes.map(|(ty, n_rows)| {
            PackedMatrix::pack(&pool, ty, n_rows, n_cols, &random_blocks(ty, 4, n_rows * n_cols)).unwrap()
        });
        for n_tokens in [1, 4, 50] {
            let mut activations = Activations::new();
            activations.set(&pool, &random_floats(5, n_tokens * n_cols), n_tokens, n_cols);
            let mut together: Vec<Vec<f32>> =
                mats.iter().map(|mat| vec![0.0; n_tokens * mat.n_rows()]).collect();
            let mut outs: Vec<&mut [f32]> = together.iter_mut().map(|out| &mut out[..]).collect();
            project(&pool, &activations, &mats.each_ref(), &mut outs);
            for (mat, together) in mats.iter().zip(&together) {
                let mut alone = vec![0.0; n_tokens * mat.n_rows()];
                project(&pool, &activations, &[mat], &mut [&mut alone]);
                assert_eq!(&alone, together);
            }
        }
    }
}

#[test]
fn a_projection_can_be_added_to_what_is_there() {
    for pool in available_pools() {
        for ty in [WeightType::Q4_1, WeightType::F32] {
            let (n_rows, n_cols, n_tokens) = (21, 64, 9);
            let mat = PackedMatrix::pack(&pool, ty, n_rows, n_cols, &random_blocks(ty, 4, n_rows * n_cols))
                .unwrap();
            let mut activations = Activations::new();
            activations.set(&pool, &random_floats(5, n_tokens * n_cols), n_tokens, n_cols);
            let mut product = vec![0.0; n_tokens * n_rows];
            project(&pool, &activations, &[&mat], &mut [&mut product]);
            let before = random_floats(6, n_tokens * n_rows);
            let mut found = before.clone();
            project_add(&pool, &activations, &mat, 0.22, &mut found);
            for ((found, before), product) in found.iter().zip(&before).zip(&product) {
                assert_eq!(*found, 0.22 * product + before, "{:?}", pool.isa());
            }
        }
    }
}

#[test]
fn a_row_that_is_not_finite_gives_not_a_number_and_harms_no_other() {
    for pool in available_pools() {
        for bad in [f32::NAN, f32::INFINITY] {
            let (n_rows, n_cols, n_tokens) = (16, 64, 5);
            let data = random_blocks(WeightType::Q4_0, 4, n_rows * n_cols);
            let mat = PackedMatrix::pack(&pool, WeightType::Q4_0, n_rows, n_cols, &data).unwrap();
            let mut x = random_floats(5, n_tokens * n_cols);
            x[2 * n_cols + 40] = bad;
            let mut activations = Activations::new();
            activations.set(&pool, &x, n_tokens, n_cols);
            let mut out = vec![0.0; n_tokens * n_rows];
            project(&pool, &activations, &[&mat], &mut [&mut out]);
            for (token, out) in out.chunks_exact(n_rows).enumerate() {
                assert!(
                    out.iter().all(|x| x.is_nan() == (token == 2)),
                    "{:?} token {token}: {out:?}",
                    pool.isa()
                );
            }
        }
    }
}
