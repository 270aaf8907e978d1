//! Normalisation of rows, in place: root mean square, and mean and deviation.
#![allow(unsafe_code)]

use crate::Pool;
use crate::elementwise::for_row_chunks;
use crate::matmul::Factors;
use crate::simd::{Kernel, Lanes, run_on};

/// x = x / sqrt(mean(x²) + eps) · weight, row by row.
///
/// x: `[n_rows, weight.len()]`
pub fn rms_norm(pool: &Pool, x: &mut [f32], weight: &[f32], eps: f32) {
    assert!(!weight.is_empty() && x.len().is_multiple_of(weight.len()), "x must be [n_rows, weight.len()]");
    for_row_chunks(pool, x, weight.len(), |rows, _| run_on(pool.isa(), RmsNorm { rows, weight, eps }));
}

/// x = (x − mean(x)) / sqrt(variance(x) + eps) · weight + bias, row by row.
///
/// x: `[n_rows, weight.len()]`, bias: `[weight.len()]`
pub fn layer_norm(pool: &Pool, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    assert!(!weight.is_empty() && x.len().is_multiple_of(weight.len()), "x must be [n_rows, weight.len()]");
    assert_eq!(bias.len(), weight.len(), "bias must be as long as weight");
    for_row_chunks(pool, x, weight.len(), |rows, _| {
        run_on(pool.isa(), LayerNorm { rows, weight, bias, eps })
    });
}

/// 1 / sqrt(mean(x²) + eps)
#[inline(always)]
pub(crate) fn inverse_rms<L: Lanes>(l: L, x: Factors<'_>, eps: f32) -> f32 {
    let squares = sum_of(l, x, |x| l.mul(x, x));
    1.0 / (squares / x.len() as f32 + eps).sqrt()
}

/// mean(x) and 1 / sqrt(variance(x) + eps)
#[inline(always)]
pub(crate) fn mean_and_inverse_deviation<L: Lanes>(l: L, x: &[f32], eps: f32) -> (f32, f32) {
    let mean = sum_of(l, Factors::Floats(x), |x| x) / x.len() as f32;
    let of = l.splat(mean);
    let squares = sum_of(l, Factors::Floats(x), |x| l.mul(l.sub(x, of), l.sub(x, of)));
    // The last vector is filled up with zeros, each of which counted mean².
    let n_padding = x.len().next_multiple_of(L::N) - x.len();
    let variance = (squares - n_padding as f32 * mean * mean).max(0.0) / x.len() as f32;
    (mean, 1.0 / (variance + eps).sqrt())
}

/// The sum of f over x, the last vector filled up with zeros.
#[inline(always)]
fn sum_of<L: Lanes>(l: L, x: Factors<'_>, f: impl Fn(L::V) -> L::V) -> f32 {
    // Four sums, so that additions need not wait for each other.
    let mut sums = [l.splat(0.0); 4];
    let n_whole = x.len() / L::N;
    for i in 0..n_whole {
        sums[i % 4] = l.add(sums[i % 4], f(x.vector(l, i * L::N)));
    }
    if !x.len().is_multiple_of(L::N) {
        sums[0] = l.add(sums[0], f(x.vector(l, n_whole * L::N)));
    }
    l.sum(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])))
}

struct RmsNorm<'a> {
    rows: &'a mut [f32],
    weight: &'a [f32],
    eps: f32,
}

impl Kernel for RmsNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for row in self.rows.chunks_exact_mut(self.weight.len()) {
            let inverse = inverse_rms(l, Factors::Floats(row), self.eps);
            for (x, w) in row.iter_mut().zip(self.weight) {
                *x = *x * inverse * w;
            }
        }
    }
}

struct LayerNorm<'a> {
    rows: &'a mut [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    eps: f32,
}

impl Kernel for LayerNorm<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for row in self.rows.chunks_exact_mut(self.weight.len()) {
            let (mean, inverse) = mean_and_inverse_deviation(l, row, self.eps);
            for ((x, w), b) in row.iter_mut().zip(self.weight).zip(self.bias) {
                *x = (*x - mean) * inverse * w + b;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_data::{available_pools, random_floats};

    /// f32 sums of up to a few thousand terms.
    const TOLERANCE: f64 = 1e-5;

    #[test]
    fn norms_equal_their_definitions_at_every_length() {
        for pool in available_pools() {
            for n in [1, 2, 7, 8, 9, 31, 64, 577] {
                let x: Vec<f32> = random_floats(n as u64, 3 * n).iter().map(|x| x + 0.5).collect();
                let (w, b) = (random_floats(1, n), random_floats(2, n));
                let (mut rms, mut layer) = (x.clone(), x.clone());
                rms_norm(&pool, &mut rms, &w, 1e-5);
                layer_norm(&pool, &mut layer, &w, &b, 1e-5);
                for (row_idx, row) in x.chunks_exact(n).enumerate() {
                    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64;
                    let squares = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
                    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n as f64;
                    for i in 0..n {
                        let (x, w, b) = (f64::from(row[i]), f64::from(w[i]), f64::from(b[i]));
                        let expected = x / (squares + 1e-5).sqrt() * w;
                        let found = f64::from(rms[row_idx * n + i]);
                        assert!(
                            (found - expected).abs() < TOLERANCE * (1.0 + expected.abs()),
                            "{:?} rms n {n}: {found} {expected}",
                            pool.isa()
                        );
                        // One element alone has no deviation: its norm hangs on eps and on rounding.
                        let expected = (x - mean) / (variance + 1e-5).sqrt() * w + b;
                        let found = f64::from(layer[row_idx * n + i]);
                        assert!(
                            (found - expected).abs() < 100.0 * TOLERANCE * (1.0 + expected.abs()),
                            "{:?} layer n {n}: {found} {expected}",
                            pool.isa()
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_normalised_alike_alone_and_among_many() {
        for pool in available_pools() {
            let (n, n_rows) = (576, 100);
            let (x, w) = (random_floats(3, n * n_rows), random_floats(4, n));
            let mut all = x.clone();
            rms_norm(&pool, &mut all, &w, 1e-6);
            let mut one = x[77 * n..78 * n].to_vec();
            rms_norm(&pool, &mut one, &w, 1e-6);
            assert_eq!(one, all[77 * n..78 * n]);
        }
    }
}
