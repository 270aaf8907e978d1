//! A projection, forward and backward: by a matrix that is learnt, or by one that stays and an adapter beside it.

use kernels::{Factors, Matrix, Pool, Precision, RightSide, Store};
use weights::TensorRole;

use super::{Weights, room};
use crate::parameters::Parameters;

/// What a product is computed with.
#[derive(Clone, Copy)]
pub(super) struct Products<'a> {
    pub(super) pool: &'a Pool,
    pub(super) precision: Precision,
    pub(super) n_rows: usize,
}

/// A matrix of a layer.
pub(super) struct Linear<'a> {
    role: TensorRole,
    layer_idx: usize,
    n_in: usize,
    n_out: usize,
    /// `[n_out, n_in]`
    weight: RightSide<'a>,
    /// A `[rank, n_in]`, B `[n_out, rank]`, and what B · A is multiplied by.
    lora: Option<([&'a [f32]; 2], f32)>,
}

impl<'a> Linear<'a> {
    /// The matrix `[n_out, n_in]` of this role.
    pub(super) fn of(
        weights: &Weights<'a>,
        role: TensorRole,
        layer_idx: usize,
        n_in: usize,
        n_out: usize,
    ) -> Linear<'a> {
        let weight = weights.matrix(role, Some(layer_idx), n_out, n_in);
        let lora = weights.learnt.lora(role, Some(layer_idx)).map(|pair| (pair, weights.lora_factor));
        Linear { role, layer_idx, n_in, n_out, weight, lora }
    }

    /// out (+)= x · wᵀ; x: `[n_rows, n_in]`, out: `[n_rows, n_out]`. An adapter's part between A and B is kept in `low`.
    pub(super) fn forward(
        &self,
        by: Products<'_>,
        x: Factors<'_>,
        (out, into): (&mut [f32], Store),
        low: &mut Vec<f32>,
    ) {
        by.product(Matrix::of(x, by.n_rows, self.n_in), self.weight.transposed(), out, into);
        self.keep_low(by, x, low);
        if let Some(([_, b], _)) = self.lora {
            let rank = b.len() / self.n_out;
            let low = Matrix::new(&low[..by.n_rows * rank], by.n_rows, rank);
            by.product(low, Matrix::new(b, self.n_out, rank).transposed(), out, Store::Add);
        }
    }

    /// As [`Linear::forward`], of which nothing is wanted but what it keeps.
    pub(super) fn keep_low(&self, by: Products<'_>, x: Factors<'_>, low: &mut Vec<f32>) {
        let Some(([a, _], factor)) = self.lora else { return };
        let rank = a.len() / self.n_in;
        let low = room(low, by.n_rows * rank);
        let (x, a) = (Matrix::of(x, by.n_rows, self.n_in), Matrix::new(a, rank, self.n_in));
        by.product(x, a.transposed(), low, Store::Replace);
        kernels::scale(by.pool, low, factor);
    }

    /// dx (+)= dy · w, where there is a dx, and the gradients of what is learnt; `low` is what [`Linear::forward`] kept.
    pub(super) fn backward(
        &self,
        by: Products<'_>,
        x: Factors<'_>,
        dy: Factors<'_>,
        dx: Option<(&mut [f32], Store)>,
        low: &mut LowRank<'_>,
        gradient: &mut Parameters,
    ) {
        match dx {
            Some(dx) => self.input_gradient(by, dy, dx, low),
            None => self.low_gradient(by, dy, low),
        }
        self.weight_gradient(by, x, dy, low, gradient);
    }

    /// dx (+)= dy · w
    pub(super) fn input_gradient(
        &self,
        by: Products<'_>,
        dy: Factors<'_>,
        (dx, into): (&mut [f32], Store),
        low: &mut LowRank<'_>,
    ) {
        by.product(Matrix::of(dy, by.n_rows, self.n_out), self.weight, dx, into);
        self.low_gradient(by, dy, low);
        if let Some(([a, _], _)) = self.lora {
            let rank = a.len() / self.n_in;
            let d_low = Matrix::new(&low.gradient[..by.n_rows * rank], by.n_rows, rank);
            by.product(d_low, Matrix::new(a, rank, self.n_in), dx, Store::Add);
        }
    }

    /// What comes back to between A and B.
    fn low_gradient(&self, by: Products<'_>, dy: Factors<'_>, low: &mut LowRank<'_>) {
        let Some(([_, b], factor)) = self.lora else { return };
        let rank = b.len() / self.n_out;
        let d_low = room(low.gradient, by.n_rows * rank);
        let dy = Matrix::of(dy, by.n_rows, self.n_out);
        by.product(dy, Matrix::new(b, self.n_out, rank), d_low, Store::Replace);
        kernels::scale(by.pool, d_low, factor);
    }

    /// The gradients of what is learnt, behind [`Linear::input_gradient`].
    pub(super) fn weight_gradient(
        &self,
        by: Products<'_>,
        x: Factors<'_>,
        dy: Factors<'_>,
        low: &mut LowRank<'_>,
        gradient: &mut Parameters,
    ) {
        let (x, dy) = (Matrix::of(x, by.n_rows, self.n_in), Matrix::of(dy, by.n_rows, self.n_out));
        if let Some(dw) = gradient.get_mut(self.role, Some(self.layer_idx)) {
            by.product(dy.transposed(), x, dw, Store::Add);
        }
        let Some(([a, _], _)) = self.lora else { return };
        let rank = a.len() / self.n_in;
        let [da, db] = gradient.lora_mut(self.role, Some(self.layer_idx)).expect("as the parameters");
        let kept = Matrix::new(&low.kept[..by.n_rows * rank], by.n_rows, rank);
        by.product(dy.transposed(), kept, db, Store::Add);
        let d_low = Matrix::new(&low.gradient[..by.n_rows * rank], by.n_rows, rank);
        by.product(d_low.transposed(), x, da, Store::Add);
    }
}

/// What lies between an adapter's A and B: `[n_rows, rank]` each.
pub(super) struct LowRank<'a> {
    pub(super) kept: &'a [f32],
    pub(super) gradient: &'a mut Vec<f32>,
}

impl Products<'_> {
    fn product<'b>(self, left: Matrix<'_>, right: impl Into<RightSide<'b>>, out: &mut [f32], into: Store) {
        kernels::matmul(self.pool, self.precision, left, right, out, into);
    }
}
