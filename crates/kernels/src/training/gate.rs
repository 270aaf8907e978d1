//! The gate of a feed-forward network, forward and backward.
#![allow(unsafe_code)]

use crate::Pool;
use crate::elementwise::{gelu_of, silu_of};
use crate::matmul::{DisjointFactors, Factors, FactorsMut, get};
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
pub fn gate_forward(
    pool: &Pool,
    function: GateFunction,
    gate: Factors<'_>,
    up: Factors<'_>,
    out: FactorsMut<'_>,
) {
    let len = out.len();
    assert!(gate.len() == len && up.len() == len, "gate, up and out must be equally long");
    let out = DisjointFactors::new(out);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let out = unsafe { out.range(first, len) };
        let [gate, up] = [gate, up].map(|x| x.part(first..first + len));
        run_on_with_bf16(pool.isa(), Forward { function, gate, up, out });
    });
}

/// From gate, up and the gradient of f(gate) · up to the gradients of both, which take their places, and f(gate) · up
/// once more; all equally long.
///
/// # Panics
/// When lengths differ.
pub fn gate_backward(
    pool: &Pool,
    function: GateFunction,
    gate: FactorsMut<'_>,
    up: FactorsMut<'_>,
    d_out: &[f32],
    out: FactorsMut<'_>,
) {
    let len = d_out.len();
    assert!(
        [&gate, &up, &out].iter().all(|x| x.len() == len),
        "gate, up, out and d_out must be equally long"
    );
    let [gate, up, out] = [gate, up, out].map(DisjointFactors::new);
    pool.run(len.div_ceil(CHUNK), &|tile, _| {
        let (first, len) = (tile * CHUNK, CHUNK.min(len - tile * CHUNK));
        // SAFETY: tiles take numbers of their own.
        let [gate, up, out] = [&gate, &up, &out].map(|x| unsafe { x.range(first, len) });
        let d_out = &d_out[first..first + len];
        run_on_with_bf16(pool.isa(), Backward { function, gate, up, d_out, out });
    });
}

struct Forward<'a> {
    function: GateFunction,
    gate: Factors<'a>,
    up: Factors<'a>,
    out: FactorsMut<'a>,
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Forward { function, gate, up, mut out } = self;
        for at in (0..gate.len()).step_by(L::N) {
            out.put(l, at, l.mul(function.of(l, gate.vector(l, at)), up.vector(l, at)));
        }
    }
}

struct Backward<'a> {
    function: GateFunction,
    gate: FactorsMut<'a>,
    up: FactorsMut<'a>,
    d_out: &'a [f32],
    out: FactorsMut<'a>,
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Backward { function, mut gate, mut up, d_out, mut out } = self;
        for at in (0..d_out.len()).step_by(L::N) {
            let (d, of_up) = (get(l, d_out, at), up.as_ref().vector(l, at));
            let (value, slope) = function.with_slope(l, gate.as_ref().vector(l, at));
            out.put(l, at, l.mul(value, of_up));
            gate.put(l, at, l.mul(l.mul(d, of_up), slope));
            up.put(l, at, l.mul(d, value));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Precision;
    use crate::test_data::{as_halves, available_pools, random_floats};

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
    fn halves_have_the_gate_and_the_gradients_of_the_numbers_that_they_are() {
        for pool in available_pools() {
            for n in [2, 30, CHUNK + 18] {
                let (mut gate, mut gate_floats) = as_halves(&pool, &random_floats(1, n));
                let (mut up, mut up_floats) = as_halves(&pool, &random_floats(2, n));
                let d_out = random_floats(3, n);
                let mut outs = [(); 4].map(|()| vec![0.0; n]);
                let [out, again, out_floats, again_floats] = outs.each_mut().map(|x| FactorsMut::Floats(x));
                let (halves, silu) = (Precision::Bf16, GateFunction::Silu);
                gate_forward(&pool, silu, gate.get(n, halves), up.get(n, halves), out);
                gate_forward(
                    &pool,
                    silu,
                    Factors::Floats(&gate_floats),
                    Factors::Floats(&up_floats),
                    out_floats,
                );
                gate_backward(&pool, silu, gate.again(n, halves), up.again(n, halves), &d_out, again);
                let (d_gate, d_up) =
                    (FactorsMut::Floats(&mut gate_floats), FactorsMut::Floats(&mut up_floats));
                gate_backward(&pool, silu, d_gate, d_up, &d_out, again_floats);
                assert!(outs[0] == outs[2] && outs[1] == outs[3], "{:?} {n}", pool.isa());
                for (halves, floats) in [(gate, gate_floats), (up, up_floats)] {
                    let (halves, rounded) = (halves.get(n, Precision::Bf16), as_halves(&pool, &floats).1);
                    assert!((0..n).all(|i| halves.get(i) == rounded[i]), "{:?} {n}", pool.isa());
                }
            }
        }
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
                gate_forward(
                    &pool,
                    function,
                    Factors::Floats(&gate),
                    Factors::Floats(&up),
                    FactorsMut::Floats(&mut out),
                );
                let (mut again, mut d_gate, mut d_up) = (vec![0.0; n], gate.clone(), up.clone());
                let [in_gate, in_up] = [&mut d_gate, &mut d_up].map(|x| FactorsMut::Floats(x));
                gate_backward(&pool, function, in_gate, in_up, &d_out, FactorsMut::Floats(&mut again));
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
