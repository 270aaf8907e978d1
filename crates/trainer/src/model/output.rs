//! From the residual stream to the loss over the vocabulary, and back.

use kernels::{Factors, FactorsMut, Matrix, Pool, RightSide, Store};
use weights::{ModelConfig, TensorRole};

use super::{Model, TokenBatch, Weights, room};
use crate::parameters::Parameters;

/// Logits that exist at a time, if a row has no more: 56 MB. For each such part the output matrix is packed anew.
const MAX_LOGITS: usize = 14 << 20;

/// Of how many of `n_rows` rows logits exist at a time.
pub(crate) fn logit_rows(vocab_size: usize, n_rows: usize) -> usize {
    (MAX_LOGITS / vocab_size).clamp(1, n_rows.max(1))
}

impl Model {
    /// From the residual stream to the loss, and back to the stream's gradient where there is one to be computed. Only
    /// rows that count meet the vocabulary.
    pub(super) fn output(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        mut gradient: Option<&mut Parameters>,
    ) -> f64 {
        let base = self.base.clone();
        let (norm, output) = output_of(&self.config, &self.weights(base.as_deref(), parameters));
        let Model { config, precision, room: buffers, .. } = self;
        let (n_rows, n_embd, n_vocab) = (batch.tokens.len(), config.n_embd, config.vocab_size);
        let counted: Vec<usize> = (0..n_rows).filter(|&row| batch.weights[row] != 0.0).collect();
        let of_counted = |all: &[u32]| -> Vec<u32> { counted.iter().map(|&row| all[row]).collect() };
        let targets = of_counted(batch.targets);
        let weights: Vec<f32> = counted.iter().map(|&row| batch.weights[row]).collect();
        let mut losses = vec![0.0; counted.len()];
        let all_count = counted.len() == n_rows;
        let len = counted.len() * n_embd;
        let [gathered, d_gathered] = &mut buffers.counted;
        let x = if all_count {
            &buffers.x[..len]
        } else {
            let gathered = room(gathered, len);
            for (to, row) in gathered.chunks_exact_mut(n_embd).zip(&counted) {
                to.copy_from_slice(&buffers.x[row * n_embd..][..n_embd]);
            }
            gathered
        };
        let stored = precision.stored(pool, &[n_embd, n_vocab]);
        let inverses = room(&mut buffers.inverses, counted.len());
        let h = buffers.h.room(len, stored);
        let x = Factors::Floats(x);
        kernels::rms_norm_forward(pool, x, norm, config.norm.eps, h, inverses);
        let h = buffers.h.get(len, stored);
        // The gradient of a logit is that of what it is scaled to, scaled likewise.
        let factors: Vec<f32> = weights.iter().map(|weight| weight * config.logit_scale).collect();
        // The gradient of what the product reads, and then, in its place, of the stream.
        let dx = room(&mut buffers.dx, n_rows * n_embd);
        let dh = if all_count { &mut *dx } else { room(d_gathered, len) };
        let step = logit_rows(n_vocab, counted.len());
        let logits = room(&mut buffers.floats, step * n_vocab);
        for first in (0..counted.len()).step_by(step) {
            let rows = first..counted.len().min(first + step);
            let part = rows.start * n_embd..rows.end * n_embd;
            let logits = &mut logits[..rows.len() * n_vocab];
            let h = Matrix::of(h.part(part.clone()), rows.len(), n_embd);
            kernels::matmul(pool, *precision, h, output.transposed(), logits, Store::Replace);
            if config.logit_scale != 1.0 {
                kernels::scale(pool, logits, config.logit_scale);
            }
            let (targets, factors) = (&targets[rows.clone()], &factors[rows.clone()]);
            let losses = &mut losses[rows.clone()];
            let d_logits = kernels::cross_entropy(pool, *precision, logits, targets, factors, losses);
            let Some(gradient) = &mut gradient else { continue };
            kernels::matmul(pool, *precision, d_logits, output, &mut dh[part], Store::Replace);
            if let Some(d_output) = gradient.get_mut(output_role(config), None) {
                kernels::matmul(pool, *precision, d_logits.transposed(), h, d_output, Store::Add);
            }
        }
        if let Some(gradient) = gradient {
            let d_norm = match gradient.get_mut(TensorRole::OutputNorm, None) {
                Some(d_norm) => d_norm,
                None => room(&mut buffers.unused, n_embd),
            };
            let in_place = FactorsMut::Floats(&mut *dh);
            kernels::rms_norm_backward(pool, x, norm, inverses, None, in_place, Store::Replace, d_norm);
            if !all_count {
                dx.fill(0.0);
                for (d, row) in d_gathered[..len].chunks_exact(n_embd).zip(&counted) {
                    dx[row * n_embd..][..n_embd].copy_from_slice(d);
                }
            }
        }
        let of_rows = room(&mut buffers.losses, n_rows);
        of_rows.fill(0.0);
        counted.iter().zip(&losses).for_each(|(&row, &loss)| of_rows[row] = loss);
        losses.iter().zip(&weights).map(|(&loss, &weight)| f64::from(loss) * f64::from(weight)).sum()
    }

    /// The logits of what comes behind the last token of each sequence, of which none is empty:
    /// `[n_sequences, vocab_size]`. Targets and weights are not looked at.
    pub fn next_logits(&mut self, pool: &Pool, parameters: &Parameters, batch: &TokenBatch<'_>) -> Vec<f32> {
        self.forward(pool, parameters, batch);
        let base = self.base.clone();
        let (norm, output) = output_of(&self.config, &self.weights(base.as_deref(), parameters));
        let Model { config, precision, room: buffers, .. } = self;
        let (n, n_embd) = (batch.sequences.len(), config.n_embd);
        let last = room(&mut buffers.update, n * n_embd);
        for (last, sequence) in last.chunks_exact_mut(n_embd).zip(batch.sequences) {
            last.copy_from_slice(&buffers.x[(sequence.end - 1) * n_embd..sequence.end * n_embd]);
        }
        let stored = precision.stored(pool, &[n_embd]);
        let inverses = room(&mut buffers.inverses, n);
        let h = buffers.h.room(n * n_embd, stored);
        let last = Factors::Floats(last);
        kernels::rms_norm_forward(pool, last, norm, config.norm.eps, h, inverses);
        let mut logits = vec![0.0; n * config.vocab_size];
        let h = Matrix::of(buffers.h.get(n * n_embd, stored), n, n_embd);
        kernels::matmul(pool, *precision, h, output.transposed(), &mut logits, Store::Replace);
        kernels::scale(pool, &mut logits, config.logit_scale);
        logits
    }
}

fn output_role(config: &ModelConfig) -> TensorRole {
    if config.tied_output { TensorRole::TokenEmbd } else { TensorRole::Output }
}

/// The norm before the output, and the output matrix.
fn output_of<'a>(config: &ModelConfig, weights: &Weights<'a>) -> (&'a [f32], RightSide<'a>) {
    let norm = weights.vector(TensorRole::OutputNorm, None).expect("every model has an output norm");
    (norm, weights.matrix(output_role(config), None, config.vocab_size, config.n_embd))
}
