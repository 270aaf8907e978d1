//! The gate of a feed-forward network, forward and backward.
#![allow(unsafe_code)]

use crate::Pool;
use crate::elementwise::{gelu_of, silu_of};
use crate::matmul::{DisjointFactors, FactorsMut, get};
use crate::simd::{Kernel, Lanes, run_on_with_bf16};

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
pub fn gate_forward(pool: &Pool, function: GateFunction, gate: &[f32], up: &[f32], out: FactorsMut<'_>) {
    let len = out.len();
    assert!(gate.len() == len && up.len() == len, "gate, up and out must be equally long");
    let out = DisjointFactors::new(out);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let out = unsafe { out.range(first, len) };
        let (gate, up) = (&gate[first..first + len], &up[first..first + len]);
        run_on_with_bf16(pool.isa(), Forward { function, gate, up, out });
    });
}

/// What [`gate_backward`] gives, all as long as what it reads.
pub struct GateGradients<'a> {
    /// f(gate) · up, once more.
    pub out: FactorsMut<'a>,
    /// The gradient of gate.
    pub d_gate: FactorsMut<'a>,
    /// The gradient of up.
    pub d_up: FactorsMut<'a>,
}

/// From gate, up and the gradient of f(gate) · up to the gradients of both; all equally long.
///
/// # Panics
/// When lengths differ.
pub fn gate_backward(
    pool: &Pool,
    function: GateFunction,
    gate: &[f32],
    up: &[f32],
    d_out: &[f32],
    to: GateGradients<'_>,
) {
    let len = d_out.len();
    assert!(gate.len() == len && up.len() == len, "gate, up and d_out must be equally long");
    let GateGradients { out, d_gate, d_up } = to;
    assert!([&out, &d_gate, &d_up].iter().all(|to| to.len() == len), "gradients must be as long as d_out");
    let [out, d_gate, d_up] = [out, d_gate, d_up].map(DisjointFactors::new);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let [out, d_gate, d_up] =
            unsafe { [out.range(first, len), d_gate.range(first, len), d_up.range(first, len)] };
        let to = GateGradients { out, d_gate, d_up };
        let [gate, up, d_out] = [gate, up, d_out].map(|x| &x[first..first + len]);
        run_on_with_bf16(pool.isa(), Backward { function, gate, up, d_out, to });
    });
}

struct Forward<'a> {
    function: GateFunction,
    gate: &'a [f32],
    up: &'a [f32],
    out: FactorsMut<'a>,
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Forward { function, gate, up, mut out } = self;
        for at in (0..gate.len()).step_by(L::N) {
            out.put(l, at, l.mul(function.of(l, get(l, gate, at)), get(l, up, at)));
        }
    }
}

struct Backward<'a> {
    function: GateFunction,
    gate: &'a [f32],
    up: &'a [f32],
    d_out: &'a [f32],
    to: GateGradients<'a>,
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Backward { function, gate, up, d_out, to: GateGradients { mut out, mut d_gate, mut d_up } } =
            self;
        for at in (0..d_out.len()).step_by(L::N) {
            let (d, up) = (get(l, d_out, at), get(l, up, at));
            let (value, slope) = function.with_slope(l, get(l, gate, at));
            out.put(l, at, l.mul(value, up));
            d_gate.put(l, at, l.mul(l.mul(d, up), slope));
            d_up.put(l, at, l.mul(d, value));
        }
    }
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
                gate_forward(&pool, function, &gate, &up, FactorsMut::Floats(&mut out));
                let (mut again, mut d_gate, mut d_up) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
                let to = GateGradients {
                    out: FactorsMut::Floats(&mut again),
                    d_gate: FactorsMut::Floats(&mut d_gate),
                    d_up: FactorsMut::Floats(&mut d_up),
                };
                gate_backward(&pool, function, &gate, &up, &d_out, to);
                let close_to = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * (1.0 + a.abs());
                assert!(again.iter().zip(&out).all(close_to), "{function:?}");
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
