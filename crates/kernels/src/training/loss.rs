//! The loss over the vocabulary: cross entropy, with its gradient in the place of the logits.
#![allow(unsafe_code)]

use crate::Pool;
use crate::disjoint::Disjoint;
use crate::matmul::{Matrix, Precision, get, halves_of};
use crate::simd::{Kernel, Lanes, run_on_with_bf16};

/// losses = −ln softmax(logits)[target] for each row, unweighted; returns the gradient of Σ weight · loss, which takes the
/// place of the logits, as products in `precision` read it. A row of weight 0 is left out: its loss is 0 and so is its
/// gradient.
///
/// logits: `[n_rows, n_vocab]`; targets, weights, losses: `[n_rows]`
///
/// # Panics
/// When shapes do not fit or a target lies outside of the vocabulary.
pub fn cross_entropy<'a>(
    pool: &Pool,
    precision: Precision,
    logits: &'a mut [f32],
    targets: &[u32],
    weights: &[f32],
    losses: &mut [f32],
) -> Matrix<'a> {
    let n_rows = targets.len();
    if n_rows == 0 {
        return Matrix::new(&[], 0, 0);
    }
    let n_vocab = logits.len() / n_rows;
    assert_eq!(logits.len(), n_rows * n_vocab, "logits must be [n_rows, n_vocab]");
    assert!(weights.len() == n_rows && losses.len() == n_rows, "a weight and a loss for each row");
    assert!(targets.iter().all(|&target| (target as usize) < n_vocab), "a target outside of the vocabulary");
    let is_rounded = precision.stored(pool, &[n_vocab]) == Precision::Bf16;
    let (shared, losses) = (Disjoint::new(&mut *logits), Disjoint::new(losses));
    pool.run(n_rows, &|row, _| {
        // SAFETY: tiles take rows of their own.
        let (logits, loss) = unsafe { (shared.range(row * n_vocab, n_vocab), losses.range(row, 1)) };
        let (target, weight) = (targets[row] as usize, weights[row]);
        loss[0] = run_on_with_bf16(pool.isa(), Row { logits, is_rounded, target, weight });
    });
    match is_rounded {
        true => Matrix::halves_in_floats(logits, n_rows, n_vocab),
        false => Matrix::new(logits, n_rows, n_vocab),
    }
}

struct Row<'a> {
    logits: &'a mut [f32],
    is_rounded: bool,
    target: usize,
    weight: f32,
}

impl Kernel for Row<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let Row { logits, is_rounded, target, weight } = self;
        if weight == 0.0 {
            logits.fill(0.0);
            return 0.0;
        }
        let of_target = logits[target];
        let n_whole = logits.len() / L::N * L::N;
        let (whole, rest) = logits.split_at_mut(n_whole);
        let mut largest = l.splat(f32::NEG_INFINITY);
        for x in whole.chunks_exact(L::N) {
            // SAFETY: a whole vector.
            largest = l.max(unsafe { l.load(x.as_ptr()) }, largest);
        }
        let max = rest.iter().fold(l.largest(largest), |max, &x| if x > max { x } else { max });
        let of_max = l.splat(max);
        let mut sums = l.splat(0.0);
        for x in whole.chunks_exact_mut(L::N) {
            // SAFETY: as above.
            unsafe {
                let e = l.exp(l.sub(l.load(x.as_ptr()), of_max));
                sums = l.add(sums, e);
                l.store(x.as_mut_ptr(), e);
            }
        }
        let mut sum = l.sum(sums);
        for x in &mut *rest {
            *x = l.largest(l.exp(l.splat(*x - max)));
            sum += *x;
        }
        let factor = weight / sum;
        let d_target = logits[target] * factor - weight;
        if is_rounded {
            // Halves of a row fill its first half: none is written over what is still to be read.
            for at in (0..logits.len()).step_by(L::N) {
                let d = l.mul(get(l, logits, at), l.splat(factor));
                halves_of(logits).put(l, at, d);
            }
            halves_of(logits).set(target, d_target);
        } else {
            logits.iter_mut().for_each(|x| *x *= factor);
            logits[target] = d_target;
        }
        sum.ln() + max - of_target
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::matmul::{Store, matmul};
    use crate::test_data::{available_pools, random_floats};

    #[test]
    fn losses_and_gradients_equal_the_definition() {
        for pool in available_pools() {
            for n_vocab in [1, 5, 16, 1000, 1003] {
                let n_rows = 6;
                let logits: Vec<f32> =
                    random_floats(n_vocab as u64, n_rows * n_vocab).iter().map(|x| 9.0 * x).collect();
                let targets: Vec<u32> = (0..n_rows).map(|row| (row * 7919 % n_vocab) as u32).collect();
                let weights = [1.0, 0.0, 0.25, 2.0, -1.0, 1.0];
                let (mut found, mut losses) = (logits.clone(), vec![9.0; n_rows]);
                cross_entropy(&pool, Precision::F32, &mut found, &targets, &weights, &mut losses);
                for row in 0..n_rows {
                    let x: Vec<f64> =
                        logits[row * n_vocab..][..n_vocab].iter().map(|&x| f64::from(x)).collect();
                    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = x.iter().map(|x| (x - max).exp()).sum();
                    let (target, weight) = (targets[row] as usize, f64::from(weights[row]));
                    let loss = if weight == 0.0 { 0.0 } else { sum.ln() + max - x[target] };
                    assert!((f64::from(losses[row]) - loss).abs() < 1e-5 * (1.0 + loss), "{row}: {loss}");
                    for (i, x) in x.iter().enumerate() {
                        let expected = weight * ((x - max).exp() / sum - f64::from(u8::from(i == target)));
                        let found = f64::from(found[row * n_vocab + i]);
                        assert!((found - expected).abs() < 1e-6, "{row} {i}: {found} for {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_rounded_gradient_is_the_gradient_rounded() {
        for pool in available_pools() {
            for n_vocab in [2, 14, 16, 1000, 1002] {
                let n_rows = 5;
                let logits = random_floats(n_vocab as u64, n_rows * n_vocab);
                let targets: Vec<u32> = (0..n_rows).map(|row| (row * 7919 % n_vocab) as u32).collect();
                let weights = [1.0, 0.0, 0.25, -1.0, 1.0];
                // Its rows, as a product with the unit matrix shows them.
                let gradient = |precision: Precision| {
                    let (mut logits, mut losses) = (logits.clone(), vec![0.0; n_rows]);
                    let d = cross_entropy(&pool, precision, &mut logits, &targets, &weights, &mut losses);
                    let unit: Vec<f32> =
                        (0..n_vocab * n_vocab).map(|i| f32::from(u8::from(i % (n_vocab + 1) == 0))).collect();
                    let mut out = vec![0.0; n_rows * n_vocab];
                    matmul(
                        &pool,
                        precision,
                        d,
                        Matrix::new(&unit, n_vocab, n_vocab),
                        &mut out,
                        Store::Replace,
                    );
                    (out, losses)
                };
                let ((plain, losses), (rounded, same)) =
                    (gradient(Precision::F32), gradient(Precision::Bf16));
                assert_eq!(losses, same);
                for (x, y) in plain.iter().zip(&rounded) {
                    let has_bf16 = pool.isa().has_bf16();
                    let expected = if has_bf16 { half::bf16::from_f32(*x).to_f32() } else { *x };
                    assert_eq!(*y, expected, "{:?} {n_vocab}", pool.isa());
                }
            }
        }
    }

    #[test]
    fn a_logit_that_is_not_a_number_is_seen_in_the_loss() {
        for pool in available_pools() {
            let mut logits = vec![0.5; 40];
            logits[3] = f32::NAN;
            let mut losses = [0.0; 2];
            cross_entropy(&pool, Precision::F32, &mut logits, &[1, 1], &[1.0, 1.0], &mut losses);
            assert!(losses[0].is_nan() && !losses[1].is_nan(), "{losses:?}");
        }
    }
}
