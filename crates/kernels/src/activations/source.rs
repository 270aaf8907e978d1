//! What activations are before they are quantised: plain rows, behind a norm, or gated.
#![allow(unsafe_code)]

use crate::elementwise::{gelu_of, silu_of};
use crate::matmul::Factors;
use crate::norm::{inverse_rms, mean_and_inverse_deviation};
use crate::simd::{Lanes, Portable};

/// The function of a gated feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// x · sigmoid(x)
    Silu,
    /// The tanh form of GELU.
    GeluTanh,
}

/// What the rows are, before they are quantised. Methods are `#[inline(always)]`, for [`crate::simd::Kernel`].
pub(super) trait Source: Sync {
    /// What is known of a row before its elements are asked for.
    type Row<L: Lanes>: Copy;
    fn row<L: Lanes>(&self, l: L, token: usize) -> Self::Row<L>;
    /// Elements `col .. col + N`.
    ///
    /// # Safety
    /// They must exist in the row.
    unsafe fn vector<L: Lanes>(&self, l: L, row: Self::Row<L>, token: usize, col: usize) -> L::V;
    /// The element at `col`, for rows that are not whole vectors.
    fn element(&self, token: usize, col: usize) -> f32;
}

pub(super) struct Plain<'a> {
    pub(super) x: &'a [f32],
    pub(super) n_cols: usize,
}

impl Source for Plain<'_> {
    type Row<L: Lanes> = ();
    #[inline(always)]
    fn row<L: Lanes>(&self, _: L, _: usize) {}
    #[inline(always)]
    unsafe fn vector<L: Lanes>(&self, l: L, (): (), token: usize, col: usize) -> L::V {
        // SAFETY: the caller asks for columns of the row.
        unsafe { l.load(self.x.as_ptr().add(token * self.n_cols + col)) }
    }
    #[inline(always)]
    fn element(&self, token: usize, col: usize) -> f32 {
        self.x[token * self.n_cols + col]
    }
}

pub(super) struct RmsNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) n_cols: usize,
    pub(super) weight: &'a [f32],
    pub(super) eps: f32,
}

impl RmsNorm<'_> {
    #[inline(always)]
    fn of(&self, token: usize) -> &[f32] {
        &self.x[token * self.n_cols..][..self.n_cols]
    }
}

impl Source for RmsNorm<'_> {
    type Row<L: Lanes> = L::V;
    #[inline(always)]
    fn row<L: Lanes>(&self, l: L, token: usize) -> L::V {
        l.splat(inverse_rms(l, Factors::Floats(self.of(token)), self.eps))
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(&self, l: L, inverse: L::V, token: usize, col: usize) -> L::V {
        // SAFETY: the caller asks for columns of the row; the weight has as many.
        let (x, w) = unsafe {
            (l.load(self.x.as_ptr().add(token * self.n_cols + col)), l.load(self.weight.as_ptr().add(col)))
        };
        l.mul(l.mul(x, inverse), w)
    }
    #[inline(always)]
    fn element(&self, token: usize, col: usize) -> f32 {
        let inverse = inverse_rms(Portable, Factors::Floats(self.of(token)), self.eps);
        self.of(token)[col] * inverse * self.weight[col]
    }
}

pub(super) struct LayerNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) n_cols: usize,
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) eps: f32,
}

impl LayerNorm<'_> {
    #[inline(always)]
    fn of(&self, token: usize) -> &[f32] {
        &self.x[token * self.n_cols..][..self.n_cols]
    }
}

impl Source for LayerNorm<'_> {
    type Row<L: Lanes> = (L::V, L::V);
    #[inline(always)]
    fn row<L: Lanes>(&self, l: L, token: usize) -> (L::V, L::V) {
        let (mean, inverse) = mean_and_inverse_deviation(l, self.of(token), self.eps);
        (l.splat(mean), l.splat(inverse))
    }
    #[inline(always)]
    unsafe fn vector<L: Lanes>(&self, l: L, (mean, inverse): (L::V, L::V), token: usize, col: usize) -> L::V {
        // SAFETY: the caller asks for columns of the row; weight and bias have as many.
        let (x, w, b) = unsafe {
            (
                l.load(self.x.as_ptr().add(token * self.n_cols + col)),
                l.load(self.weight.as_ptr().add(col)),
                l.load(self.bias.as_ptr().add(col)),
            )
        };
        l.fma(l.mul(l.sub(x, mean), inverse), w, b)
    }
    #[inline(always)]
    fn element(&self, token: usize, col: usize) -> f32 {
        let (mean, inverse) = mean_and_inverse_deviation(Portable, self.of(token), self.eps);
        (self.of(token)[col] - mean) * inverse * self.weight[col] + self.bias[col]
    }
}

pub(super) struct Gated<'a> {
    pub(super) gate: &'a [f32],
    pub(super) up: &'a [f32],
    pub(super) n_cols: usize,
    pub(super) function: Gate,
}

impl Source for Gated<'_> {
    type Row<L: Lanes> = ();
    #[inline(always)]
    fn row<L: Lanes>(&self, _: L, _: usize) {}
    #[inline(always)]
    unsafe fn vector<L: Lanes>(&self, l: L, (): (), token: usize, col: usize) -> L::V {
        let at = token * self.n_cols + col;
        // SAFETY: the caller asks for columns of the row; gate and up have the same shape.
        let (gate, up) = unsafe { (l.load(self.gate.as_ptr().add(at)), l.load(self.up.as_ptr().add(at))) };
        let gate = match self.function {
            Gate::Silu => silu_of(l, gate),
            Gate::GeluTanh => gelu_of(l, gate),
        };
        l.mul(gate, up)
    }
    #[inline(always)]
    fn element(&self, token: usize, col: usize) -> f32 {
        let at = token * self.n_cols + col;
        let gate = [self.gate[at]; 8];
        let gate = match self.function {
            Gate::Silu => silu_of(Portable, gate),
            Gate::GeluTanh => gelu_of(Portable, gate),
        };
        gate[0] * self.up[at]
    }
}
