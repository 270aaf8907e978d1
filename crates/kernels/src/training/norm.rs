//! The root mean square norm, forward and backward.
#![allow(unsafe_code)]

use crate::Pool;
use crate::disjoint::Disjoint;
use crate::matmul::{DisjointFactors, Factors, FactorsMut, Store, get, put};
use crate::norm::inverse_rms;
use crate::simd::{Kernel, Lanes, run_on_with_bf16};

/// Rows whose part in the weight's gradient is summed up in one piece.
const ROWS: usize = 64;

/// out = x · r · weight with r = 1 / sqrt(mean(x²) + eps), row by row.
///
/// x, out: `[n_rows, weight.len()]`; inverses, the r of each row: `[n_rows]`
///
/// # Panics
/// When shapes do not fit.
pub fn rms_norm_forward(
    pool: &Pool,
    x: Factors<'_>,
    weight: &[f32],
    eps: f32,
    out: FactorsMut<'_>,
    inverses: &mut [f32],
) {
    let n = weight.len();
    assert!(n > 0 && x.len() == inverses.len() * n, "x must be [n_rows, weight.len()]");
    assert_eq!(out.len(), x.len(), "out must be as large as x");
    let n_rows = inverses.len();
    let (out, inverses) = (DisjointFactors::new(out), Disjoint::new(inverses));
    pool.run(n_rows.div_ceil(ROWS), &|tile, _| {
        let (first, len) = (tile * ROWS, ROWS.min(n_rows - tile * ROWS));
        // SAFETY: tiles take rows of their own.
        let (out, inverses) = unsafe { (out.range(first * n, len * n), inverses.range(first, len)) };
        let x = x.part(first * n..(first + len) * n);
        run_on_with_bf16(pool.isa(), Forward { x, weight, eps, out, inverses });
    });
}

struct Forward<'a> {
    x: Factors<'a>,
    weight: &'a [f32],
    eps: f32,
    out: FactorsMut<'a>,
    inverses: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Forward { x, weight, eps, mut out, inverses } = self;
        let n = weight.len();
        for (row, (x, inverse)) in x.rows(n).zip(inverses).enumerate() {
            *inverse = inverse_rms(l, x, eps);
            let factor = l.splat(*inverse);
            let mut out = out.row(row, n);
            for at in (0..n).step_by(L::N) {
                out.put(l, at, l.mul(l.mul(x.vector(l, at), factor), get(l, weight, at)));
            }
        }
    }
}

/// The gradient of x, which is added to dx or takes its place, and d_weight += that of the weight, from that of the
/// result, dy, which is what dx holds if there is none.
///
/// With r as in [`rms_norm_forward`] and g = weight · dy: dx = r · (g − x · r² · mean(g · x)), d_weight = Σ dy · x · r.
///
/// x, dy, dx: `[n_rows, weight.len()]`
///
/// # Panics
/// When shapes do not fit, or something is to be added to halves, or to dx itself.
#[allow(clippy::too_many_arguments)] // what goes in and what comes out
pub fn rms_norm_backward(
    pool: &Pool,
    x: Factors<'_>,
    weight: &[f32],
    inverses: &[f32],
    dy: Option<&[f32]>,
    dx: FactorsMut<'_>,
    into: Store,
    d_weight: &mut [f32],
) {
    let n = weight.len();
    let n_rows = inverses.len();
    assert!(n > 0 && x.len() == n_rows * n, "x must be [n_rows, weight.len()]");
    assert!(
        dx.len() == x.len() && dy.is_none_or(|dy| dy.len() == x.len()),
        "dy and dx must be as large as x"
    );
    let is_sum = matches!(dx, FactorsMut::Floats(_)) && dy.is_some();
    assert!(into == Store::Replace || is_sum, "sums are in single precision, of something else");
    assert_eq!(d_weight.len(), n, "d_weight must be as large as weight");
    let n_tiles = n_rows.div_ceil(ROWS);
    let mut partial = vec![0.0; n_tiles * n];
    let (dx, sums) = (DisjointFactors::new(dx), Disjoint::new(&mut partial));
    pool.run(n_tiles, &|tile, _| {
        let (first, len) = (tile * ROWS, ROWS.min(n_rows - tile * ROWS));
        let all = first * n..(first + len) * n;
        // SAFETY: tiles take rows of their own, and sums of their own.
        let (dx, sums) = unsafe { (dx.range(all.start, all.len()), sums.range(tile * n, n)) };
        let inverses = &inverses[first..first + len];
        let (x, dy) = (x.part(all.clone()), dy.map(|dy| &dy[all]));
        run_on_with_bf16(pool.isa(), Backward { x, weight, inverses, dy, dx, into, sums });
    });
    for sums in partial.chunks_exact(n) {
        d_weight.iter_mut().zip(sums).for_each(|(to, x)| *to += x);
    }
}

struct Backward<'a> {
    x: Factors<'a>,
    weight: &'a [f32],
    inverses: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: FactorsMut<'a>,
    into: Store,
    /// Of these rows, for the weight's gradient.
    sums: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Backward { x, weight, inverses, dy, mut dx, into, sums } = self;
        let n = weight.len();
        for (row, (x, &inverse)) in x.rows(n).zip(inverses).enumerate() {
            let mut dx = dx.row(row, n);
            let dy = dy.map(|dy| Factors::Floats(&dy[row * n..(row + 1) * n]));
            let mean = dot_of_three(l, weight, dy.unwrap_or(dx.as_ref()), x) / n as f32;
            let (inverse, factor) = (l.splat(inverse), l.splat(mean * inverse * inverse));
            for at in (0..n).step_by(L::N) {
                let (x, dy) = (x.vector(l, at), dy.unwrap_or(dx.as_ref()).vector(l, at));
                let g = l.mul(get(l, weight, at), dy);
                let d = l.mul(inverse, l.sub(g, l.mul(x, factor)));
                let d = match &dx {
                    FactorsMut::Floats(dx) if into == Store::Add => l.add(get(l, dx, at), d),
                    _ => d,
                };
                dx.put(l, at, d);
                let sum = l.add(get(l, sums, at), l.mul(l.mul(dy, x), inverse));
                put(l, &mut sums[at..], sum);
            }
        }
    }
}

/// Σ a · b · c
#[inline(always)]
fn dot_of_three<L: Lanes>(l: L, a: &[f32], b: Factors<'_>, c: Factors<'_>) -> f32 {
    let n_whole = a.len() / L::N * L::N;
    let mut sums = l.splat(0.0);
    for at in (0..n_whole).step_by(L::N) {
        // SAFETY: whole vectors of each, which are equally long.
        unsafe {
            let ab = l.mul(l.load(a.as_ptr().add(at)), b.vector(l, at));
            sums = l.fma(ab, c.vector(l, at), sums);
        }
    }
    let rest = (n_whole..a.len()).map(|i| a[i] * b.get(i) * c.get(i));
    l.sum(sums) + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Precision;
    use crate::test_data::{as_halves, available_pools, random_floats};

    fn expected(x: &[f64], weight: &[f64], eps: f64) -> Vec<f64> {
        let n = weight.len();
        let row = |x: &[f64]| {
            let r = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / n as f64 + eps).sqrt();
            x.iter().zip(weight).map(|(x, w)| x * r * w).collect::<Vec<_>>()
        };
        x.chunks_exact(n).flat_map(row).collect()
    }

    fn wide(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| f64::from(x)).collect()
    }

    #[test]
    fn halves_have_the_norm_and_the_gradients_of_the_numbers_that_they_are() {
        for pool in available_pools() {
            for (n_rows, n) in [(1, 2), (3, 6), (130, 64), (70, 100)] {
                let (halves, floats) = as_halves(&pool, &random_floats(1, n_rows * n));
                let (weight, dy) = (random_floats(2, n), random_floats(3, n_rows * n));
                let passes = |x: Factors<'_>| {
                    let (mut out, mut inverses) = (vec![0.0; n_rows * n], vec![0.0; n_rows]);
                    rms_norm_forward(&pool, x, &weight, 1e-2, FactorsMut::Floats(&mut out), &mut inverses);
                    let (mut dx, mut d_weight) = (vec![1.0; n_rows * n], vec![2.0; n]);
                    let to = FactorsMut::Floats(&mut dx);
                    rms_norm_backward(&pool, x, &weight, &inverses, Some(&dy), to, Store::Add, &mut d_weight);
                    [out, inverses, dx, d_weight]
                };
                let of_halves = passes(halves.get(n_rows * n, Precision::Bf16));
                assert_eq!(of_halves, passes(Factors::Floats(&floats)), "{:?} {n_rows}x{n}", pool.isa());
            }
        }
    }

    #[test]
    fn the_norm_and_its_gradients_equal_the_definition() {
        const STEP: f64 = 1e-5;
        for pool in available_pools() {
            for (n_rows, n) in [(1, 1), (3, 7), (130, 64), (70, 100)] {
                let (x, weight, dy) =
                    (random_floats(1, n_rows * n), random_floats(2, n), random_floats(3, n_rows * n));
                let (mut out, mut inverses) = (vec![0.0; n_rows * n], vec![0.0; n_rows]);
                rms_norm_forward(
                    &pool,
                    Factors::Floats(&x),
                    &weight,
                    1e-2,
                    FactorsMut::Floats(&mut out),
                    &mut inverses,
                );
                let (wide_x, wide_w, wide_dy) = (wide(&x), wide(&weight), wide(&dy));
                for (x, y) in out.iter().zip(expected(&wide_x, &wide_w, 1e-2)) {
                    assert!((f64::from(*x) - y).abs() < 1e-5 * (1.0 + y.abs()), "{x} for {y}");
                }
                // Both gradients are added to what is there.
                let (mut dx, mut d_weight) = (vec![1.0; n_rows * n], vec![2.0; n]);
                let to = FactorsMut::Floats(&mut dx);
                rms_norm_backward(
                    &pool,
                    Factors::Floats(&x),
                    &weight,
                    &inverses,
                    Some(&dy),
                    to,
                    Store::Add,
                    &mut d_weight,
                );
                let (mut in_place, mut d_weight_in_place) = (dy.clone(), vec![2.0; n]);
                let (to, d) = (FactorsMut::Floats(&mut in_place), &mut d_weight_in_place);
                rms_norm_backward(
                    &pool,
                    Factors::Floats(&x),
                    &weight,
                    &inverses,
                    None,
                    to,
                    Store::Replace,
                    d,
                );
                assert!(in_place.iter().zip(&dx).all(|(x, y)| (x + 1.0 - y).abs() < 1e-6 * (1.0 + x.abs())));
                assert_eq!(d_weight_in_place, d_weight);
                let loss = |x: &[f64], w: &[f64]| -> f64 {
                    expected(x, w, 1e-2).iter().zip(&wide_dy).map(|(x, d)| x * d).sum()
                };
                for place in (0..n_rows * n).step_by(13) {
                    let moved = |step: f64| {
                        let mut x = wide_x.clone();
                        x[place] += step;
                        loss(&x, &wide_w)
                    };
                    let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let found = f64::from(dx[place]) - 1.0;
                    assert!(
                        (found - difference).abs() < 1e-4 * (1.0 + difference.abs()),
                        "{found} for {difference}"
                    );
                }
                for place in (0..n).step_by(5) {
                    let moved = |step: f64| {
                        let mut weight = wide_w.clone();
                        weight[place] += step;
                        loss(&wide_x, &weight)
                    };
                    let difference = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let found = f64::from(d_weight[place]) - 2.0;
                    assert!(
                        (found - difference).abs() < 1e-4 * (1.0 + difference.abs()),
                        "{found} for {difference}"
                    );
                }
            }
        }
    }
}
