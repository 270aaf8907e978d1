//! The gate of a feed-forward network, forward and backward.
#![allow(unsafe_code)]

use crate::Pool;
use crate::disjoint::Disjoint;
use crate::elementwise::{gelu_of, silu_of};
use crate::simd::{Kernel, Lanes, run_on};

/// Numbers that a task takes.
const CHUNK: usize = 1 << 14;

/// The function of the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateFunction {
    /// x · sigmoid(x)
    Silu,
    /// GELU in its tanh form.
    Gelu,
    /// max(x, 0)²
    ReluSquared,
}

impl GateFunction {
    /// Its value.
    #[inline(always)]
    fn of<L: Lanes>(self, l: L, x: L::V) -> L::V {
        match self {
            GateFunction::Silu => silu_of(l, x),
            GateFunction::Gelu => gelu_of(l, x),
            GateFunction::ReluSquared => {
                let positive = l.max(l.splat(0.0), x);
                l.mul(positive, positive)
            }
        }
    }

    /// Its value and its slope.
    #[inline(always)]
    fn with_slope<L: Lanes>(self, l: L, x: L::V) -> (L::V, L::V) {
        let one = l.splat(1.0);
        match self {
            GateFunction::Silu => {
                // s(x) (1 + x (1 − s(x)))
                let s = l.div(one, l.add(one, l.exp(l.sub(l.splat(0.0), x))));
                let value = l.mul(x, s);
                (value, l.fma(l.sub(one, s), value, s))
            }
            GateFunction::Gelu => {
                // With u = √(2/π) (x + 0.044715 x³) and t = tanh u: (1 + t)/2 + x/2 (1 − t²) u'
                const SQRT_2_OVER_PI: f32 = 0.797_884_6;
                let x2 = l.mul(x, x);
                let u = l.mul(l.splat(SQRT_2_OVER_PI), l.fma(l.mul(l.splat(0.044_715), x2), x, x));
                let du = l.mul(l.splat(SQRT_2_OVER_PI), l.fma(l.splat(3.0 * 0.044_715), x2, one));
                let t = l.tanh(u);
                let half = l.mul(l.splat(0.5), l.add(one, t));
                let bend = l.mul(l.mul(l.splat(0.5), x), l.mul(l.sub(one, l.mul(t, t)), du));
                (l.mul(x, half), l.add(half, bend))
            }
            GateFunction::ReluSquared => {
                let positive = l.max(l.splat(0.0), x);
                (l.mul(positive, positive), l.mul(l.splat(2.0), positive))
            }
        }
    }
}

/// out = f(gate) · up; all equally long.
///
/// # Panics
/// When lengths differ.
pub fn gate_forward(pool: &Pool, function: GateFunction, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == out.len() && up.len() == out.len(), "gate, up and out must be equally long");
    let len = out.len();
    let out = Disjoint::new(out);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let out = unsafe { out.range(first, len) };
        let (gate, up) = (&gate[first..first + len], &up[first..first + len]);
        run_on(pool.isa(), Forward { function, gate, up, out });
    });
}

/// From gate, up and the gradient of f(gate) · up to the gradients of both, in their place; all equally long.
///
/// # Panics
/// When lengths differ.
pub fn gate_backward(pool: &Pool, function: GateFunction, gate: &mut [f32], up: &mut [f32], d_out: &[f32]) {
    assert!(gate.len() == d_out.len() && up.len() == d_out.len(), "gate, up and d_out must be equally long");
    let (gate, up) = (Disjoint::new(gate), Disjoint::new(up));
    pool.run(d_out.len().div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(d_out.len() - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let (gate, up) = unsafe { (gate.range(first, len), up.range(first, len)) };
        run_on(pool.isa(), Backward { function, gate, up, d_out: &d_out[first..first + len] });
    });
}

struct Forward<'a> {
    function: GateFunction,
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Forward { function, gate, up, out } = self;
        let parts = gate.chunks(L::N).zip(up.chunks(L::N)).zip(out.chunks_mut(L::N));
        for ((gate, up), out) in parts {
            let value = l.mul(function.of(l, padded(l, gate)), padded(l, up));
            put(l, out, value);
        }
    }
}

struct Backward<'a> {
    function: GateFunction,
    gate: &'a mut [f32],
    up: &'a mut [f32],
    d_out: &'a [f32],
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Backward { function, gate, up, d_out } = self;
        let parts = gate.chunks_mut(L::N).zip(up.chunks_mut(L::N)).zip(d_out.chunks(L::N));
        for ((gate, up), d) in parts {
            let d = padded(l, d);
            let (value, slope) = function.with_slope(l, padded(l, gate));
            let d_gate = l.mul(l.mul(d, padded(l, up)), slope);
            put(l, gate, d_gate);
            put(l, up, l.mul(d, value));
        }
    }
}

/// A vector of at most N numbers, filled up with zeros.
#[inline(always)]
fn padded<L: Lanes>(l: L, x: &[f32]) -> L::V {
    if x.len() == L::N {
        // SAFETY: a whole vector.
        return unsafe { l.load(x.as_ptr()) };
    }
    let mut room = [0.0; 16];
    room[..x.len()].copy_from_slice(x);
    // SAFETY: the buffer holds the widest vector.
    unsafe { l.load(room.as_ptr()) }
}

/// The first lanes of a vector.
#[inline(always)]
fn put<L: Lanes>(l: L, to: &mut [f32], x: L::V) {
    if to.len() == L::N {
        // SAFETY: a whole vector.
        unsafe { l.store(to.as_mut_ptr(), x) };
        return;
    }
    let mut room = [0.0; 16];
    // SAFETY: the buffer holds the widest vector.
    unsafe { l.store(room.as_mut_ptr(), x) };
    to.copy_from_slice(&room[..to.len()]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::test_data::{available_pools, random_floats};

    fn expected(function: GateFunction, gate: f64, up: f64) -> f64 {
        let f = match function {
            GateFunction::Silu => gate / (1.0 + (-gate).exp()),
            GateFunction::Gelu => {
                0.5 * gate
                    * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (gate + 0.044715 * gate.powi(3))).tanh())
            }
            GateFunction::ReluSquared => gate.max(0.0).powi(2),
        };
        f * up
    }

    #[test]
    fn gates_and_their_gradients_equal_the_definition() {
        const STEP: f64 = 1e-5;
        for pool in available_pools() {
            for function in [GateFunction::Silu, GateFunction::Gelu, GateFunction::ReluSquared] {
                let n = CHUNK + 19;
                let gate: Vec<f32> = random_floats(1, n).iter().map(|x| 4.0 * x).collect();
                let (up, d_out) = (random_floats(2, n), random_floats(3, n));
                let mut out = vec![0.0; n];
                gate_forward(&pool, function, &gate, &up, &mut out);
                let (mut d_gate, mut d_up) = (gate.clone(), up.clone());
                gate_backward(&pool, function, &mut d_gate, &mut d_up, &d_out);
                for i in 0..n {
                    let (gate, up, d) = (f64::from(gate[i]), f64::from(up[i]), f64::from(d_out[i]));
                    let close = |found: f32, expected: f64| {
                        let error = (f64::from(found) - expected).abs();
                        assert!(
                            error < 2e-5 * (1.0 + expected.abs()),
                            "{function:?}({gate}): {found} for {expected}"
                        );
                    };
                    close(out[i], expected(function, gate, up));
                    let slope = (expected(function, gate + STEP, up) - expected(function, gate - STEP, up))
                        / (2.0 * STEP);
                    close(d_gate[i], d * slope);
                    close(d_up[i], d * expected(function, gate, 1.0));
                }
            }
        }
    }
}
