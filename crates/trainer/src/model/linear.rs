//! A projection, forward and backward: by a matrix that is learnt, or by one that stays and an adapter beside it.

use kernels::{Factors, Matrix, Pool, Precision, RightSide, Store};
use weights::TensorRole;

use super::{Weights, room};
use crate::parameters::{Parameters, Part};

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
    adapter: Option<Adapter<'a>>,
}

/// What is learnt beside a matrix that stays.
#[derive(Clone, Copy)]
struct Adapter<'a> {
    rank: usize,
    /// `[rank, n_in]`
    a: Matrix<'a>,
    /// `[n_out, rank]`
    b: Matrix<'a>,
    /// What B · A is multiplied by.
    factor: f32,
}

impl Adapter<'_> {
    /// What lies between A and B.
    fn low<'b>(&self, kept: &'b [f32], n_rows: usize) -> Matrix<'b> {
        Matrix::new(&kept[..n_rows * self.rank], n_rows, self.rank)
    }
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
        let adapter = weights.learnt.lora(role, Some(layer_idx)).map(|[a, b]| {
            let rank = a.len() / n_in;
            let (a, b) = (Matrix::new(a, rank, n_in), Matrix::new(b, n_out, rank));
            Adapter { rank, a, b, factor: weights.lora_factor }
        });
        Linear { role, layer_idx, n_in, n_out, weight, adapter }
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
        if let Some(adapter) = self.adapter {
            by.product(adapter.low(low, by.n_rows), adapter.b.transposed(), out, Store::Add);
        }
    }

    /// As [`Linear::forward`], of which nothing is wanted but what it keeps.
    pub(super) fn keep_low(&self, by: Products<'_>, x: Factors<'_>, low: &mut Vec<f32>) {
        let Some(Adapter { a, rank, factor, .. }) = self.adapter else { return };
        let low = room(low, by.n_rows * rank);
        by.product(Matrix::of(x, by.n_rows, self.n_in), a.transposed(), low, Store::Replace);
        kernels::scale(by.pool, low, factor);
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
        if let Some(adapter) = self.adapter {
            by.product(adapter.low(low.gradient, by.n_rows), adapter.a, dx, Store::Add);
        }
    }

    /// What comes back to between A and B.
    fn low_gradient(&self, by: Products<'_>, dy: Factors<'_>, low: &mut LowRank<'_>) {
        let Some(Adapter { b, rank, factor, .. }) = self.adapter else { return };
        let d_low = room(low.gradient, by.n_rows * rank);
        by.product(Matrix::of(dy, by.n_rows, self.n_out), b, d_low, Store::Replace);
        kernels::scale(by.pool, d_low, factor);
    }
}

/// A projection on the way back.
pub(super) struct Back<'a> {
    pub(super) linear: Linear<'a>,
    /// The gradient of what it gave: `[n_rows, n_out]`
    pub(super) dy: Factors<'a>,
    pub(super) low: LowRank<'a>,
}

impl Back<'_> {
    /// dx (+)= dy · w
    pub(super) fn input_gradient(&mut self, by: Products<'_>, dx: (&mut [f32], Store)) {
        self.linear.input_gradient(by, self.dy, dx, &mut self.low);
    }

    /// What x is multiplied by for the gradient of the matrix, `[n_out, n_rows]`, or for that of an adapter's A, if there
    /// is one, `[rank, n_rows]`.
    fn left(&self, part: Part, n_rows: usize) -> Option<Matrix<'_>> {
        let left = match part {
            Part::LoraA => self.linear.adapter?.low(self.low.gradient, n_rows),
            Part::Whole | Part::LoraB => Matrix::of(self.dy, n_rows, self.linear.n_out),
        };
        Some(left.transposed())
    }
}

/// dx = Σ dy · w, where there is a dx, and the gradients of what is learnt, of projections that read the same x.
pub(super) fn backward<const N: usize>(
    by: Products<'_>,
    x: Factors<'_>,
    mut of: [Back<'_>; N],
    dx: Option<&mut [f32]>,
    gradient: &mut Parameters,
) {
    match dx {
        Some(dx) => {
            for (i, back) in of.iter_mut().enumerate() {
                let into = if i == 0 { Store::Replace } else { Store::Add };
                back.input_gradient(by, (&mut *dx, into));
            }
        }
        None => of.iter_mut().for_each(|back| back.linear.low_gradient(by, back.dy, &mut back.low)),
    }
    weight_gradients(by, x, of, gradient);
}

/// The gradients of what is learnt, behind [`Back::input_gradient`], of projections that read the same x.
pub(super) fn weight_gradients<const N: usize>(
    by: Products<'_>,
    x: Factors<'_>,
    of: [Back<'_>; N],
    gradient: &mut Parameters,
) {
    let Some(&Back { linear: Linear { layer_idx, n_in, .. }, .. }) = of.first() else { return };
    let x = Matrix::of(x, by.n_rows, n_in);
    for part in [Part::Whole, Part::LoraA] {
        let gradients =
            gradient.parts_mut(of.each_ref().map(|back| (back.linear.role, part)), Some(layer_idx));
        let products = of.iter().zip(gradients);
        let mut products: Vec<_> =
            products.filter_map(|(back, gradient)| Some((back.left(part, by.n_rows)?, gradient?))).collect();
        kernels::matmul_each(by.pool, by.precision, &mut products, x, Store::Add);
    }
    for back in &of {
        let Some(adapter) = back.linear.adapter else { continue };
        let [db] = gradient.parts_mut([(back.linear.role, Part::LoraB)], Some(layer_idx));
        if let (Some(db), Some(left)) = (db, back.left(Part::LoraB, by.n_rows)) {
            by.product(left, adapter.low(back.low.kept, by.n_rows), db, Store::Add);
        }
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
