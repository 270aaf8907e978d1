//! How weights follow their gradient: AdamW, and Muon for the matrices inside layers.
//!
//! Muon (Jordan et al. 2024, <https://kellerjordan.github.io/posts/muon/>) steps along the nearest orthogonal matrix to
//! the gradient's running mean, found by a polynomial of products. Embeddings, output, norms and biases stay with AdamW
//! (Loshchilov and Hutter 2019, arXiv:1711.05101).

use kernels::{AdamW, Matrix, Pool, Precision, Store};
use serde::{Deserialize, Serialize};
use weights::{TensorRole, TensorSpec};

use crate::parameters::Parameters;

/// Who moves the matrices inside layers; all else is AdamW's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MatrixOptimizer {
    /// AdamW as well.
    AdamW,
    /// Muon.
    Muon,
}

/// What the optimiser is told once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerSettings {
    /// Who moves the matrices inside layers.
    pub matrices: MatrixOptimizer,
    /// Learning rate of AdamW, but for embeddings and output.
    pub lr: f32,
    /// Learning rate of the token embeddings.
    pub embedding_lr: f32,
    /// Learning rate of the output matrix.
    pub output_lr: f32,
    /// Learning rate of Muon, whose steps are as large as AdamW's would be with it.
    pub muon_lr: f32,
    /// AdamW's share of the mean that is kept in each step.
    pub beta1: f32,
    /// AdamW's share of the mean of squares that is kept.
    pub beta2: f32,
    /// AdamW's addition to the root of the mean of squares.
    pub eps: f32,
    /// Share of a matrix that a step of learning rate 1 takes away; vectors keep theirs.
    pub weight_decay: f32,
    /// Muon's share of the mean that is kept in each step.
    pub momentum: f32,
}

impl OptimizerSettings {
    /// AdamW for everything, at one rate.
    #[must_use]
    pub const fn adamw(lr: f32) -> OptimizerSettings {
        OptimizerSettings {
            matrices: MatrixOptimizer::AdamW,
            lr,
            embedding_lr: lr,
            output_lr: lr,
            muon_lr: lr,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            momentum: 0.95,
        }
    }

    /// Whether Muon moves this tensor.
    fn is_muons(&self, spec: &TensorSpec) -> bool {
        self.matrices == MatrixOptimizer::Muon && spec.shape.len() == 2 && spec.layer_idx.is_some()
    }

    fn adamw_lr(&self, role: TensorRole) -> f32 {
        match role {
            TensorRole::TokenEmbd => self.embedding_lr,
            TensorRole::Output => self.output_lr,
            _ => self.lr,
        }
    }
}

/// The optimiser's own numbers.
#[derive(Debug)]
pub struct Optimizer {
    settings: OptimizerSettings,
    /// Steps taken.
    step: u64,
    means: Parameters,
    /// Of the tensors that are AdamW's; others stay zero.
    squares: Parameters,
    room: [Vec<f32>; 4],
}

impl Optimizer {
    /// For parameters of this shape.
    #[must_use]
    pub fn new(settings: OptimizerSettings, parameters: &Parameters) -> Optimizer {
        let (means, squares) = (parameters.zeros_like(), parameters.zeros_like());
        Optimizer { settings, step: 0, means, squares, room: Default::default() }
    }

    /// What is kept beside each tensor under a name: its running mean, and of squares where AdamW moves it.
    pub fn state(&self) -> impl Iterator<Item = (&'static str, &TensorSpec, &[f32])> {
        let settings = self.settings;
        let means = self.means.iter().filter(|(spec, _)| !is_fixed(spec));
        let squares =
            self.squares.iter().filter(move |(spec, _)| !is_fixed(spec) && !settings.is_muons(spec));
        means.map(|(spec, x)| ("mean", spec, x)).chain(squares.map(|(spec, x)| ("square", spec, x)))
    }

    /// Takes up what [`Optimizer::state`] gave after `n_steps` steps, each tensor from `read`.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn restore<E>(
        &mut self,
        n_steps: u64,
        mut read: impl FnMut(&str, &TensorSpec, &mut [f32]) -> Result<(), E>,
    ) -> Result<(), E> {
        let settings = self.settings;
        for (spec, values) in self.means.iter_mut().filter(|(spec, _)| !is_fixed(spec)) {
            read("mean", spec, values)?;
        }
        for (spec, values) in self.squares.iter_mut() {
            if !is_fixed(spec) && !settings.is_muons(spec) {
                read("square", spec, values)?;
            }
        }
        self.step = n_steps;
        Ok(())
    }

    /// Moves the parameters by one step. The schedule's `rate` is a factor of both learning rates, `gradient_scale` one
    /// of the gradient.
    pub fn step(
        &mut self,
        pool: &Pool,
        parameters: &mut Parameters,
        gradient: &Parameters,
        rate: f32,
        gradient_scale: f32,
    ) {
        self.step += 1;
        let settings = self.settings;
        let tensors = parameters.iter_mut().zip(gradient.iter());
        let own = self.means.iter_mut().zip(self.squares.iter_mut());
        for (((spec, weights), (_, gradient)), ((_, mean), (_, squares))) in tensors.zip(own) {
            let is_matrix = spec.shape.len() == 2;
            if is_fixed(spec) {
                continue;
            }
            if settings.is_muons(spec) {
                let shape = (spec.shape[0], spec.shape[1]);
                muon(pool, &settings, rate, gradient_scale, shape, weights, gradient, mean, &mut self.room);
                continue;
            }
            let step = AdamW {
                lr: settings.adamw_lr(spec.role) * rate,
                beta1: settings.beta1,
                beta2: settings.beta2,
                eps: settings.eps,
                weight_decay: if is_matrix { settings.weight_decay } else { 0.0 },
                step: self.step,
                gradient_scale,
            };
            kernels::adamw(pool, &step, weights, gradient, mean, squares);
        }
    }
}

/// Whether a tensor is a fact rather than a weight.
fn is_fixed(spec: &TensorSpec) -> bool {
    matches!(spec.role, TensorRole::RopeFreqs | TensorRole::RopeFactorsLong | TensorRole::RopeFactorsShort)
}

/// w = w (1 − lr · decay) − lr · 0.2 √max(rows, cols) · orthogonal(g + momentum · mean): the factor makes a step as large,
/// in root mean square, as AdamW's usually is (Liu et al. 2025, arXiv:2502.16982).
#[allow(clippy::too_many_arguments)] // what goes in and what comes out
fn muon(
    pool: &Pool,
    settings: &OptimizerSettings,
    rate: f32,
    gradient_scale: f32,
    (n_rows, n_cols): (usize, usize),
    weights: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    room: &mut [Vec<f32>; 4],
) {
    let momentum = settings.momentum;
    kernels::scale(pool, mean, momentum);
    kernels::add_scaled(pool, mean, gradient, gradient_scale);
    let [direction, rest @ ..] = room;
    direction.clear();
    direction.extend_from_slice(mean);
    kernels::scale(pool, direction, momentum);
    kernels::add_scaled(pool, direction, gradient, gradient_scale);
    orthogonalise(pool, direction, n_rows, n_cols, rest);
    let lr = settings.muon_lr * rate;
    kernels::scale(pool, weights, 1.0 - lr * settings.weight_decay);
    kernels::add_scaled(pool, weights, direction, -lr * 0.2 * (n_rows.max(n_cols) as f32).sqrt());
}

/// Rounds of the polynomial.
const ROUNDS: usize = 5;
/// Its coefficients: they push every singular value to between 0.7 and 1.2 rather than quite to 1.
const POLYNOMIAL: (f32, f32, f32) = (3.4445, -4.775, 2.0315);

/// x → nearly U Vᵀ of its singular value decomposition: x = a x + (b A + c A²) x with A = x xᵀ (or from the right with
/// xᵀ x, whichever is smaller), five times.
fn orthogonalise(pool: &Pool, x: &mut Vec<f32>, n_rows: usize, n_cols: usize, room: &mut [Vec<f32>]) {
    let (a, b, c) = POLYNOMIAL;
    let length = kernels::sum_of_squares(pool, x).sqrt() as f32;
    kernels::scale(pool, x, 1.0 / (length + 1e-7));
    let is_wide = n_rows <= n_cols;
    let n = n_rows.min(n_cols);
    let [squares, polynomial, next] = room else { unreachable!("three buffers") };
    squares.resize(n * n, 0.0);
    polynomial.resize(n * n, 0.0);
    next.resize(x.len(), 0.0);
    for _ in 0..ROUNDS {
        let of = Matrix::new(x, n_rows, n_cols);
        let (left, right) = if is_wide { (of, of.transposed()) } else { (of.transposed(), of) };
        kernels::matmul(pool, Precision::Bf16, left, right, squares, Store::Replace);
        let square = Matrix::new(squares, n, n);
        kernels::matmul(pool, Precision::Bf16, square, square, polynomial, Store::Replace);
        kernels::scale(pool, polynomial, c);
        kernels::add_scaled(pool, polynomial, squares, b);
        let polynomial = Matrix::new(polynomial, n, n);
        let (left, right) = if is_wide { (polynomial, of) } else { (of, polynomial) };
        kernels::matmul(pool, Precision::Bf16, left, right, next, Store::Replace);
        kernels::add_scaled(pool, next, x, a);
        std::mem::swap(x, next);
    }
}

#[cfg(test)]
mod muon_tests;
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use kernels::Isa;

    use super::*;

    fn random(n: usize) -> Vec<f32> {
        let mut state = 5u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..4).map(|_| next()).sum()).collect()
    }

    #[test]
    fn what_is_orthogonalised_keeps_lengths_from_either_side() {
        let pool = Pool::new(2, Isa::detect()).unwrap();
        for (n_rows, n_cols) in [(16, 48), (48, 16), (32, 32)] {
            let mut x = random(n_rows * n_cols);
            let before = x.clone();
            orthogonalise(&pool, &mut x, n_rows, n_cols, &mut [Vec::new(), Vec::new(), Vec::new()]);
            // The sum of the squares of singular values, each between 0.7 and 1.2, of which there are as many as the
            // shorter side has numbers.
            let n = n_rows.min(n_cols) as f32;
            let length: f32 = x.iter().map(|x| x * x).sum();
            assert!(length > 0.6 * n && length < 1.4 * n, "{n_rows} x {n_cols}: {length}");
            let along: f32 = x.iter().zip(&before).map(|(a, b)| a * b).sum();
            assert!(along > 0.0, "it points where it pointed");
        }
    }
}
