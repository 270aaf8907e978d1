//! What happens to every element alone: activation functions, gates, sums, biases, caps. All in place.
#![allow(unsafe_code)]

use crate::Pool;
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on};

/// Elements that one tile takes: some ten microseconds of exponentials.
const CHUNK: usize = 8 * 1024;

/// x += y; equal lengths.
pub fn add(pool: &Pool, x: &mut [f32], y: &[f32]) {
    add_scaled(pool, x, y, 1.0);
}

/// x += factor · y; equal lengths.
pub fn add_scaled(pool: &Pool, x: &mut [f32], y: &[f32], factor: f32) {
    map(pool, x, Some(y), AddScaled(factor));
}

/// x = factor · x
pub fn scale(pool: &Pool, x: &mut [f32], factor: f32) {
    map(pool, x, None, Scale(factor));
}

/// x = 0
pub fn clear(pool: &Pool, x: &mut [f32]) {
    for_row_chunks(pool, x, 1, |x, _| x.fill(0.0));
}

/// Adds `bias` to each row of x: `[n_rows, bias.len()]`.
pub fn add_bias(pool: &Pool, x: &mut [f32], bias: &[f32]) {
    assert!(!bias.is_empty() && x.len().is_multiple_of(bias.len()), "x must be [n_rows, bias.len()]");
    for_row_chunks(pool, x, bias.len(), |rows, _| {
        for row in rows.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
    });
}

/// x = cap · tanh(x / cap)
pub fn softcap(pool: &Pool, x: &mut [f32], cap: f32) {
    map(pool, x, None, Softcap(cap));
}

/// x = x · sigmoid(x)
pub fn silu(pool: &Pool, x: &mut [f32]) {
    map(pool, x, None, Silu);
}

/// x = gelu(x), in the tanh form that ggml computes.
pub fn gelu(pool: &Pool, x: &mut [f32]) {
    map(pool, x, None, Gelu);
}

/// gate = silu(gate) · up; equal lengths.
pub fn silu_mul(pool: &Pool, gate: &mut [f32], up: &[f32]) {
    map(pool, gate, Some(up), SiluMul);
}

/// gate = gelu(gate) · up; equal lengths.
pub fn gelu_mul(pool: &Pool, gate: &mut [f32], up: &[f32]) {
    map(pool, gate, Some(up), GeluMul);
}

/// x / (1 + e^−x)
#[inline(always)]
pub(crate) fn silu_of<L: Lanes>(l: L, x: L::V) -> L::V {
    let one = l.splat(1.0);
    l.div(x, l.add(one, l.exp(l.sub(l.splat(0.0), x))))
}

/// 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))
#[inline(always)]
pub(crate) fn gelu_of<L: Lanes>(l: L, x: L::V) -> L::V {
    const SQRT_2_OVER_PI: f32 = 0.797_884_6;
    let inner = l.fma(l.mul(l.splat(0.044_715), l.mul(x, x)), x, x);
    let tanh = l.tanh(l.mul(l.splat(SQRT_2_OVER_PI), inner));
    l.mul(l.mul(l.splat(0.5), x), l.add(l.splat(1.0), tanh))
}

/// A function of one element, and of another beside it. `of` must be `#[inline(always)]`.
trait Function: Copy + Sync {
    fn of<L: Lanes>(self, l: L, x: L::V, y: L::V) -> L::V;
}

macro_rules! function {
    ($name:ident $(($field:ident))?, |$l:ident, $x:ident, $y:ident| $body:expr) => {
        #[derive(Clone, Copy)]
        struct $name$((/* the constant: */ function!(@f32 $field)))?;
        impl Function for $name {
            #[inline(always)]
            fn of<L: Lanes>(self, $l: L, $x: L::V, $y: L::V) -> L::V {
                $(let $field = self.0;)?
                $body
            }
        }
    };
    (@f32 $field:ident) => { f32 };
}

function!(AddScaled(factor), |l, x, y| l.fma(l.splat(factor), y, x));
function!(Scale(factor), |l, x, _y| l.mul(l.splat(factor), x));
function!(Softcap(cap), |l, x, _y| l.mul(l.splat(cap), l.tanh(l.div(x, l.splat(cap)))));
function!(Silu, |l, x, _y| silu_of(l, x));
function!(Gelu, |l, x, _y| gelu_of(l, x));
function!(SiluMul, |l, x, y| l.mul(silu_of(l, x), y));
function!(GeluMul, |l, x, y| l.mul(gelu_of(l, x), y));

struct Map<'a, F> {
    x: &'a mut [f32],
    /// As long as x, or absent.
    y: Option<&'a [f32]>,
    function: F,
}

impl<F: Function> Kernel for Map<'_, F> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Map { x, y, function } = self;
        let n_whole = x.len() / L::N * L::N;
        for i in (0..n_whole).step_by(L::N) {
            // SAFETY: vectors that lie wholly in x, and in y, which is as long.
            unsafe {
                let a = l.load(x.as_ptr().add(i));
                let b = y.map_or(a, |y| l.load(y.as_ptr().add(i)));
                l.store(x.as_mut_ptr().add(i), function.of(l, a, b));
            }
        }
        let rest = &mut x[n_whole..];
        if rest.is_empty() {
            return;
        }
        // The end as a vector filled up with zeros: the same arithmetic for every element.
        let (mut a, mut b) = ([0.0; 16], [0.0; 16]);
        a[..rest.len()].copy_from_slice(rest);
        b[..rest.len()].copy_from_slice(y.map_or(&*rest, |y| &y[n_whole..]));
        // SAFETY: the buffers hold the widest vector.
        unsafe {
            let value = function.of(l, l.load(a.as_ptr()), l.load(b.as_ptr()));
            l.store(a.as_mut_ptr(), value);
        }
        rest.copy_from_slice(&a[..rest.len()]);
    }
}

fn map<F: Function>(pool: &Pool, x: &mut [f32], y: Option<&[f32]>, function: F) {
    assert!(y.is_none_or(|y| y.len() == x.len()), "both sides must be equally long");
    let isa = pool.isa();
    for_row_chunks(pool, x, 1, |x, first| {
        let y = y.map(|y| &y[first..first + x.len()]);
        run_on(isa, Map { x, y, function });
    });
}

/// Calls `f(rows, index of their first element)` for chunks of whole rows of `x`, in parallel when there is
/// enough to do.
pub(crate) fn for_row_chunks(
    pool: &Pool,
    x: &mut [f32],
    row_len: usize,
    f: impl Fn(&mut [f32], usize) + Sync,
) {
    let len = x.len();
    if len <= CHUNK {
        f(x, 0);
        return;
    }
    let chunk = (CHUNK / row_len).max(1) * row_len;
    let shared = Disjoint::new(x);
    pool.run(len.div_ceil(chunk), &|tile, _| {
        let first = tile * chunk;
        // SAFETY: tiles take disjoint chunks.
        f(unsafe { shared.range(first, chunk.min(len - first)) }, first);
    });
}

/// Calls `f(row index, row)` for every row of `x`, in parallel when there is enough to do.
pub(crate) fn for_each_row(pool: &Pool, x: &mut [f32], row_len: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if x.is_empty() {
        return;
    }
    for_row_chunks(pool, x, row_len, |rows, first| {
        rows.chunks_exact_mut(row_len).enumerate().for_each(|(i, row)| f(first / row_len + i, row));
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_data::{available_pools, random_floats};

    /// The exponential's three units in the last place, doubled by what stands around it.
    const TOLERANCE: f64 = 4e-6;

    fn check(name: &str, apply: impl Fn(&Pool, &mut [f32], &[f32]), exact: impl Fn(f64, f64) -> f64) {
        for pool in available_pools() {
            for n in [0, 1, 7, 8, 9, 16, 17, 1000, 3 * CHUNK + 5] {
                let x: Vec<f32> = random_floats(n as u64, n).iter().map(|x| x * 12.0).collect();
                let y = random_floats(n as u64 + 1, n);
                let mut found = x.clone();
                apply(&pool, &mut found, &y);
                for i in 0..n {
                    let expected = exact(f64::from(x[i]), f64::from(y[i]));
                    let error = (f64::from(found[i]) - expected).abs();
                    assert!(
                        error <= TOLERANCE * (0.1 + expected.abs()),
                        "{name} {:?} n {n}: f({}, {}) = {}, expected {expected}",
                        pool.isa(),
                        x[i],
                        y[i],
                        found[i]
                    );
                }
            }
        }
    }

    fn exact_gelu(x: f64) -> f64 {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
    }

    #[test]
    fn functions_equal_their_definitions_at_every_length() {
        let silu_f64 = |x: f64| x / (1.0 + (-x).exp());
        check("add", add, |x, y| x + y);
        check("add_scaled", |pool, x, y| add_scaled(pool, x, y, 0.22), |x, y| x + f64::from(0.22f32) * y);
        check("scale", |pool, x, _| scale(pool, x, 3.0), |x, _| 3.0 * x);
        check("softcap", |pool, x, _| softcap(pool, x, 5.0), |x, _| 5.0 * (x / 5.0).tanh());
        check("silu", |pool, x, _| silu(pool, x), |x, _| silu_f64(x));
        check("gelu", |pool, x, _| gelu(pool, x), |x, _| exact_gelu(x));
        check("silu_mul", silu_mul, |x, y| silu_f64(x) * y);
        check("gelu_mul", gelu_mul, |x, y| exact_gelu(x) * y);
    }

    #[test]
    fn gates_of_extremes_stay_finite() {
        for pool in available_pools() {
            let mut x = vec![-1e30, -1000.0, -88.0, 88.0, 1000.0];
            let mut y = x.clone();
            silu(&pool, &mut x);
            gelu(&pool, &mut y);
            assert!(x.iter().chain(&y).all(|x| x.is_finite()), "{:?}: {x:?} {y:?}", pool.isa());
            assert_eq!((x[4], y[4]), (1000.0, 1000.0));
        }
    }

    #[test]
    fn a_bias_is_added_to_every_row() {
        for pool in available_pools() {
            let bias = random_floats(1, 33);
            let mut x = vec![1.0; 33 * 700];
            add_bias(&pool, &mut x, &bias);
            assert!(x.chunks_exact(33).all(|row| row.iter().zip(&bias).all(|(x, b)| *x == 1.0 + b)));
        }
    }
}
