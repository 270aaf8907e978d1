//! Against the definition in double precision, and its gradient by differences.
#![allow(clippy::unwrap_used)]
#![allow(clippy::single_range_in_vec_init)] // one sequence

use super::*;
use crate::Isa;
use crate::test_data::{as_halves, available_pools, random_floats};

/// The definition, in double precision: out of one query head.
fn expected(shape: &CausalAttention<'_>, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (heads, kv_heads, dim) = (shape.n_heads, shape.n_kv_heads, shape.head_dim);
    let mut out = vec![0.0; q.len()];
    for rows in shape.sequences {
        for row in rows.clone() {
            for head in 0..heads {
                let at = |row: usize| (row * kv_heads + head / (heads / kv_heads)) * dim;
                let q = &q[(row * heads + head) * dim..][..dim];
                let first = (row + 1).saturating_sub(shape.window.unwrap_or(usize::MAX)).max(rows.start);
                let scores: Vec<f64> = (first..=row)
                    .map(|key| {
                        q.iter().zip(&k[at(key)..]).map(|(a, b)| a * b).sum::<f64>() * f64::from(shape.scale)
                    })
                    .collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|score| (score - max).exp()).sum();
                for (key, score) in (first..=row).zip(&scores) {
                    let weight = (score - max).exp() / sum;
                    for i in 0..dim {
                        out[(row * heads + head) * dim + i] += weight * v[at(key) + i];
                    }
                }
            }
        }
    }
    out
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

struct Case {
    n_rows: usize,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    window: Option<usize>,
    sequences: Vec<Range<usize>>,
}

fn cases() -> Vec<Case> {
    let case = |n_rows, n_heads, n_kv_heads, head_dim, window, sequences| Case {
        n_rows,
        n_heads,
        n_kv_heads,
        head_dim,
        window,
        sequences,
    };
    vec![
        case(1, 1, 1, 4, None, vec![0..1]),
        case(9, 4, 2, 8, None, vec![0..5, 5..9]),
        // An odd number of keys up to the end of what there is.
        case(7, 2, 1, 8, None, vec![0..2, 2..7]),
        case(230, 2, 1, 16, None, vec![0..200, 203..230]),
        case(110, 3, 3, 64, Some(7), vec![0..110]),
        case(300, 6, 2, 24, Some(120), vec![0..1, 1..300]),
        // Longer than what a product sums up at once, most of which the last queries do not see.
        case(600, 2, 1, 8, Some(7), vec![0..600]),
    ]
}

/// All inputs, and outputs of both passes.
struct Passes {
    inputs: [Vec<f32>; 4],
    out: Vec<f32>,
    gradients: [Vec<f32>; 3],
}

fn passes(pool: &Pool, case: &Case, precision: Precision) -> Passes {
    let (q_len, k_len) =
        (case.n_rows * case.n_heads * case.head_dim, case.n_rows * case.n_kv_heads * case.head_dim);
    let inputs = [q_len, k_len, k_len, q_len].map(|len| random_floats(len as u64 + 1, len));
    let [q, k, v, d_out] = &inputs;
    let (out, gradients) = passes_of(pool, case, precision, [q, k, v].map(|x| Factors::Floats(x)), d_out);
    Passes { inputs, out, gradients }
}

fn passes_of(
    pool: &Pool,
    case: &Case,
    precision: Precision,
    [q, k, v]: [Factors<'_>; 3],
    d_out: &[f32],
) -> (Vec<f32>, [Vec<f32>; 3]) {
    let shape = shape_of(case, precision);
    let mut out = vec![0.0; q.len()];
    let mut log_sums = vec![0.0; case.n_rows * case.n_heads];
    attention_forward(pool, &shape, q, k, v, FactorsMut::Floats(&mut out), &mut log_sums);
    let mut gradients = [q, k, v].map(|x| vec![0.0; x.len()]);
    let [dq, dk, dv] = &mut gradients;
    attention_backward(pool, &shape, q, k, v, Factors::Floats(&out), &log_sums, d_out, dq, dk, dv);
    (out, gradients)
}

fn shape_of(case: &Case, precision: Precision) -> CausalAttention<'_> {
    CausalAttention {
        n_heads: case.n_heads,
        n_kv_heads: case.n_kv_heads,
        head_dim: case.head_dim,
        scale: 1.0 / (case.head_dim as f32).sqrt(),
        window: case.window,
        sequences: &case.sequences,
        precision,
    }
}

#[test]
fn outputs_equal_the_definition() {
    for pool in available_pools() {
        for case in cases() {
            for (precision, tolerance) in [(Precision::F32, 1e-5), (Precision::Bf16, 2e-2)] {
                let Passes { inputs: [q, k, v, _], out, .. } = passes(&pool, &case, precision);
                let expected = expected(&shape_of(&case, precision), &wide(&q), &wide(&k), &wide(&v));
                for (i, (&x, y)) in out.iter().zip(&expected).enumerate() {
                    assert!(
                        (f64::from(x) - y).abs() < tolerance,
                        "{:?} {precision:?} {i}: {x} for {y}",
                        pool.isa()
                    );
                }
            }
        }
    }
}

#[test]
fn gradients_equal_differences_of_the_definition() {
    const STEP: f64 = 1e-4;
    for pool in available_pools() {
        for case in cases() {
            for (precision, tolerance) in [(Precision::F32, 2e-4), (Precision::Bf16, 4e-2)] {
                let Passes { inputs, gradients, .. } = passes(&pool, &case, precision);
                let shape = shape_of(&case, precision);
                let [q, k, v, d_out] = inputs.each_ref().map(|x| wide(x));
                let loss = |q: &[f64], k: &[f64], v: &[f64]| -> f64 {
                    expected(&shape, q, k, v).iter().zip(&d_out).map(|(x, d)| x * d).sum()
                };
                for (which, gradient) in gradients.iter().enumerate() {
                    // Some places of each: every one takes two passes of the definition.
                    let n = gradient.len();
                    for place in (0..8).map(|i| (i * 7919 + which * 31) % n) {
                        let moved = |step: f64| {
                            let mut inputs = [q.clone(), k.clone(), v.clone()];
                            inputs[which][place] += step;
                            let [q, k, v] = &inputs;
                            loss(q, k, v)
                        };
                        let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                        let found = f64::from(gradient[place]);
                        assert!(
                            (found - difference).abs() < tolerance * (1.0 + difference.abs()),
                            "{:?} {precision:?} input {which} at {place}: {found} for {difference}",
                            pool.isa()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn factors_that_were_rounded_beforehand_give_the_same_bits() {
    for pool in available_pools().into_iter().filter(|pool| pool.isa().has_bf16()) {
        for case in cases() {
            let Passes { inputs: [q, k, v, d_out], out, gradients } = passes(&pool, &case, Precision::Bf16);
            let halves = [&q, &k, &v].map(|x| as_halves(&pool, x).0);
            let [q, k, v] = [(&halves[0], &q), (&halves[1], &k), (&halves[2], &v)]
                .map(|(room, x)| room.get(x.len(), Precision::Bf16));
            let found = passes_of(&pool, &case, Precision::Bf16, [q, k, v], &d_out);
            assert!(found == (out, gradients), "{:?}", pool.isa());
        }
    }
}

#[test]
fn both_passes_have_the_same_bits_with_any_threads() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for case in cases() {
            let bits = |n_threads: usize| {
                let Passes { out, gradients, .. } =
                    passes(&Pool::new(n_threads, isa).unwrap(), &case, Precision::Bf16);
                [&[out][..], &gradients].concat().concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(bits(1), bits(3));
        }
    }
}
