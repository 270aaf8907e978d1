//! A step of the optimiser, and the length of a gradient.
#![allow(unsafe_code)]

use crate::Pool;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on};

/// Numbers that a task takes, and whose squares are summed up in one piece.
const CHUNK: usize = 1 << 14;

/// AdamW with decoupled decay (Loshchilov and Hutter 2019, arXiv:1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f32,
    /// Share of the mean that is kept in each step.
    pub beta1: f32,
    /// Share of the mean of squares that is kept.
    pub beta2: f32,
    /// Added to the root of the mean of squares.
    pub eps: f32,
    /// Share of a weight that a step of learning rate 1 takes away.
    pub weight_decay: f32,
    /// Counted from 1.
    pub step: u64,
    /// Factor of the gradient: what clipping leaves of it.
    pub gradient_scale: f32,
}

/// One step for weights, all equally long; `mean` and `mean_of_squares` are the optimiser's own, zero at first.
///
/// # Panics
/// When lengths differ.
pub fn adamw(
    pool: &Pool,
    step: &AdamW,
    weights: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    mean_of_squares: &mut [f32],
) {
    let len = weights.len();
    let lens = [gradient.len(), mean.len(), mean_of_squares.len()];
    assert!(lens.iter().all(|&other| other == len), "weights, gradient and means must be equally long");
    let [weights, mean, squares] = [weights, mean, mean_of_squares].map(Disjoint::new);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let (weights, mean, squares) =
            unsafe { (weights.range(first, len), mean.range(first, len), squares.range(first, len)) };
        run_on(pool.isa(), Step { step, weights, gradient: &gradient[first..first + len], mean, squares });
    });
}

struct Step<'a> {
    step: &'a AdamW,
    weights: &'a mut [f32],
    gradient: &'a [f32],
    mean: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Step { step, weights, gradient, mean, squares } = self;
        let AdamW { lr, beta1, beta2, eps, weight_decay, step, gradient_scale } = *step;
        let t = step.min(1 << 30) as i32;
        let (correction1, correction2) = (1.0 - f64::from(beta1).powi(t), 1.0 - f64::from(beta2).powi(t));
        let (rate, inverse2) = ((f64::from(lr) / correction1) as f32, (1.0 / correction2) as f32);
        let kept = 1.0 - lr * weight_decay;
        for (((w, g), m), s) in weights.iter_mut().zip(gradient).zip(mean).zip(squares) {
            let g = g * gradient_scale;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *s = beta2 * *s + (1.0 - beta2) * g * g;
            *w = *w * kept - rate * *m / ((*s * inverse2).sqrt() + eps);
        }
    }
}

/// Σ x², in double precision; summed up in pieces of a fixed length.
#[must_use]
pub fn sum_of_squares(pool: &Pool, x: &[f32]) -> f64 {
    let mut sums = vec![0.0; x.len().div_ceil(CHUNK)];
    let n_sums = sums.len();
    let shared = Disjoint::new(&mut sums);
    pool.run(n_sums, &|tile, _| {
        let x = &x[tile * CHUNK..x.len().min((tile + 1) * CHUNK)];
        // SAFETY: a sum for each tile.
        unsafe { shared.range(tile, 1)[0] = f64::from(run_on(pool.isa(), Squares(x))) };
    });
    sums.iter().sum()
}

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (whole, rest) = self.0.split_at(self.0.len() / (4 * L::N) * (4 * L::N));
        let mut sums = [l.splat(0.0); 4];
        for part in whole.chunks_exact(4 * L::N) {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: four whole vectors.
                let x = unsafe { l.load(part.as_ptr().add(i * L::N)) };
                *sum = l.fma(x, x, *sum);
            }
        }
        let [a, b, c, d] = sums;
        l.sum(l.add(l.add(a, b), l.add(c, d))) + rest.iter().map(|x| x * x).sum::<f32>()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_data::{available_pools, random_floats};

    #[test]
    fn steps_equal_the_definition() {
        for pool in available_pools() {
            let n = CHUNK + 5;
            let mut weights = random_floats(1, n);
            let (mut mean, mut squares) = (vec![0.0; n], vec![0.0; n]);
            let mut expected: Vec<[f64; 3]> = weights.iter().map(|&w| [f64::from(w), 0.0, 0.0]).collect();
            for step in 1..4 {
                let gradient = random_floats(step + 10, n);
                let settings = AdamW {
                    lr: 1e-2,
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: 0.1,
                    step,
                    gradient_scale: 0.5,
                };
                adamw(&pool, &settings, &mut weights, &gradient, &mut mean, &mut squares);
                for ([w, m, s], g) in expected.iter_mut().zip(&gradient) {
                    let g = f64::from(*g) * 0.5;
                    *m = 0.9 * *m + 0.1 * g;
                    *s = 0.95 * *s + 0.05 * g * g;
                    let (m, s) =
                        (*m / (1.0 - 0.9f64.powi(step as i32)), *s / (1.0 - 0.95f64.powi(step as i32)));
                    *w -= 1e-2 * 0.1 * *w;
                    *w -= 1e-2 * m / (s.sqrt() + 1e-8);
                }
            }
            for (w, [expected, ..]) in weights.iter().zip(&expected) {
                assert!((f64::from(*w) - expected).abs() < 1e-5, "{w} for {expected}");
            }
        }
    }

    #[test]
    fn the_sum_of_squares_is_right_and_the_same_with_any_threads() {
        for pool in available_pools() {
            for n in [0, 1, 63, CHUNK, 3 * CHUNK + 77] {
                let x = random_floats(n as u64, n);
                let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
                let found = sum_of_squares(&pool, &x);
                assert!((found - expected).abs() <= 1e-5 * expected, "{found} for {expected}");
                let other = Pool::new(3, pool.isa()).unwrap();
                assert_eq!(sum_of_squares(&other, &x).to_bits(), found.to_bits());
            }
        }
    }
}
