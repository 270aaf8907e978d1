//! One pass forward and one backward through a model: from tokens to the loss and to the gradient of every weight.
//!
//! The pass is the one that `weights::ModelConfig` describes and the engine serves; what is kept on the way is what the
//! backward pass cannot compute again cheaply. Norms are computed again.

mod layer;

use std::ops::Range;

use kernels::{Matrix, Pool, Precision, RopeKind, RopeTable, Store};
use weights::{Activation, FfnKind, LayerRope, ModelConfig, NormKind, RopeConfig, RopePairing, TensorRole};

use crate::parameters::Parameters;
use layer::LayerTape;

/// Logits that exist at a time: 64 MB.
pub(crate) const LOGITS: usize = 16 << 20;

/// Why a model cannot be trained.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a model of this architecture cannot be trained: it has {0}")]
pub struct Untrainable(&'static str);

/// Tokens to learn from.
#[derive(Debug, Clone, Copy)]
pub struct TokenBatch<'a> {
    /// Ids: `[n_rows]`
    pub tokens: &'a [u32],
    /// Of each token in its sequence: `[n_rows]`
    pub positions: &'a [u32],
    /// Rows of each sequence, in order; together all rows.
    pub sequences: &'a [Range<usize>],
    /// What comes next: `[n_rows]`
    pub targets: &'a [u32],
    /// How much each target counts in the loss, 0 for not at all: `[n_rows]`
    pub weights: &'a [f32],
}

/// A model that is trained.
pub struct Model {
    config: ModelConfig,
    precision: Precision,
    rope: [Option<Rope>; 2],
    tapes: Vec<LayerTape>,
    room: Room,
}

/// A rotation and the one back.
struct Rope {
    there: RopeTable,
    back: RopeTable,
}

/// Buffers that every layer uses anew: `[n_rows, …]` each.
#[derive(Default)]
struct Room {
    /// The residual stream, and its gradient.
    x: Vec<f32>,
    dx: Vec<f32>,
    /// What a projection reads, and its gradient.
    h: Vec<f32>,
    dh: Vec<f32>,
    inverses: Vec<f32>,
    /// What is added to the stream.
    update: Vec<f32>,
    d_update: Vec<f32>,
    wide: [Vec<f32>; 3],
    logits: Vec<f32>,
    losses: Vec<f32>,
}

/// The first `len` numbers of a buffer that grows.
fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

impl Model {
    /// A model of this configuration, with products in `precision`.
    ///
    /// # Errors
    /// Where a part of the architecture has no backward pass here.
    pub fn new(config: ModelConfig, precision: Precision) -> Result<Model, Untrainable> {
        check(&config)?;
        let table = |rope: &RopeConfig| {
            let kind = match rope.pairing {
                RopePairing::Norm => RopeKind::Norm,
                RopePairing::Neox => RopeKind::Neox,
            };
            let frequencies = rope.inverse_frequencies(config.max_seq_len);
            let back = frequencies.iter().map(|x| -x).collect();
            Rope {
                there: RopeTable::new(kind, frequencies, rope.attn_factor),
                back: RopeTable::new(kind, back, rope.attn_factor),
            }
        };
        let rope = [config.rope.as_ref().map(table), config.rope_local.as_ref().map(table)];
        let tapes = config.layers.iter().map(|_| LayerTape::default()).collect();
        Ok(Model { config, precision, rope, tapes, room: Room::default() })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Σ weight · loss over the batch, in nats, and its gradient, which is added to `gradient`.
    pub fn loss_and_gradient(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        gradient: &mut Parameters,
    ) -> f64 {
        self.forward(pool, parameters, batch);
        let loss = self.output(pool, parameters, batch, Some(gradient));
        self.backward(pool, parameters, batch, gradient);
        loss
    }

    /// Σ weight · loss over the batch, in nats; `losses` of each row are left in the model.
    pub fn loss(&mut self, pool: &Pool, parameters: &Parameters, batch: &TokenBatch<'_>) -> f64 {
        self.forward(pool, parameters, batch);
        self.output(pool, parameters, batch, None)
    }

    /// The loss of each row of the last batch, 0 where it does not count.
    #[must_use]
    pub fn losses(&self) -> &[f32] {
        &self.room.losses
    }

    /// The logits of what comes behind the last token of each sequence, of which none is empty:
    /// `[n_sequences, vocab_size]`. Targets and weights are not looked at.
    pub fn next_logits(&mut self, pool: &Pool, parameters: &Parameters, batch: &TokenBatch<'_>) -> Vec<f32> {
        self.forward(pool, parameters, batch);
        let Model { config, precision, room: buffers, .. } = self;
        let (norm, output) = output_of(config, parameters);
        let (n, n_embd) = (batch.sequences.len(), config.n_embd);
        let last = room(&mut buffers.update, n * n_embd);
        for (last, sequence) in last.chunks_exact_mut(n_embd).zip(batch.sequences) {
            last.copy_from_slice(&buffers.x[(sequence.end - 1) * n_embd..sequence.end * n_embd]);
        }
        let h = room(&mut buffers.h, n * n_embd);
        let inverses = room(&mut buffers.inverses, n);
        kernels::rms_norm_forward(pool, last, norm, config.norm.eps, h, inverses);
        let mut logits = vec![0.0; n * config.vocab_size];
        let (h, output) = (Matrix::new(h, n, n_embd), Matrix::new(output, config.vocab_size, n_embd));
        kernels::matmul(pool, *precision, h, output.transposed(), &mut logits, Store::Replace);
        kernels::scale(pool, &mut logits, config.logit_scale);
        logits
    }

    /// Numbers that are kept for the backward pass, and in buffers that layers share.
    #[cfg(test)]
    pub(crate) fn n_kept_numbers(&self) -> (usize, usize) {
        let Room { x, dx, h, dh, inverses, update, d_update, wide, logits, losses } = &self.room;
        let shared = [x, dx, h, dh, inverses, update, d_update, logits, losses];
        let n_shared = shared.into_iter().chain(wide).map(Vec::len).sum();
        (self.tapes.iter().map(LayerTape::len).sum(), n_shared)
    }

    fn rope_of(&self, layer_idx: usize) -> Option<&Rope> {
        match self.config.layers[layer_idx].rope {
            LayerRope::None => None,
            LayerRope::Global => self.rope[0].as_ref(),
            LayerRope::Local => self.rope[1].as_ref(),
        }
    }

    /// The residual stream behind the last layer.
    fn forward(&mut self, pool: &Pool, parameters: &Parameters, batch: &TokenBatch<'_>) {
        let n_embd = self.config.n_embd;
        let x = room(&mut self.room.x, batch.tokens.len() * n_embd);
        let embeddings = parameters.get(TensorRole::TokenEmbd, None).expect("every model has embeddings");
        for (row, &token) in x.chunks_exact_mut(n_embd).zip(batch.tokens) {
            let of_token = &embeddings[token as usize * n_embd..][..n_embd];
            row.iter_mut().zip(of_token).for_each(|(x, e)| *x = e * self.config.embd_scale);
        }
        for layer_idx in 0..self.config.n_layers() {
            self.layer_forward(pool, parameters, batch, layer_idx);
        }
    }

    /// From the residual stream to the loss, and back to the stream's gradient where there is one to be computed.
    fn output(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        mut gradient: Option<&mut Parameters>,
    ) -> f64 {
        let Model { config, precision, room: buffers, .. } = self;
        let (n_rows, n_embd, n_vocab) = (batch.tokens.len(), config.n_embd, config.vocab_size);
        let (norm, output) = output_of(config, parameters);
        let role = output_role(config);
        let x = &buffers.x[..n_rows * n_embd];
        let h = room(&mut buffers.h, n_rows * n_embd);
        let inverses = room(&mut buffers.inverses, n_rows);
        kernels::rms_norm_forward(pool, x, norm, config.norm.eps, h, inverses);
        let dh = room(&mut buffers.dh, n_rows * n_embd);
        let losses = room(&mut buffers.losses, n_rows);
        let step = (LOGITS / n_vocab).clamp(1, n_rows.max(1));
        for first in (0..n_rows).step_by(step) {
            let rows = first..n_rows.min(first + step);
            let (targets, weights) = (&batch.targets[rows.clone()], &batch.weights[rows.clone()]);
            let losses = &mut losses[rows.clone()];
            let part = rows.start * n_embd..rows.end * n_embd;
            if weights.iter().all(|&weight| weight == 0.0) {
                losses.fill(0.0);
                dh[part].fill(0.0);
                continue;
            }
            let logits = room(&mut buffers.logits, rows.len() * n_vocab);
            let h = Matrix::new(&h[part.clone()], rows.len(), n_embd);
            let output = Matrix::new(output, n_vocab, n_embd);
            kernels::matmul(pool, *precision, h, output.transposed(), logits, Store::Replace);
            if config.logit_scale != 1.0 {
                kernels::scale(pool, logits, config.logit_scale);
            }
            kernels::cross_entropy(pool, logits, targets, weights, losses);
            if let Some(gradient) = &mut gradient {
                if config.logit_scale != 1.0 {
                    kernels::scale(pool, logits, config.logit_scale);
                }
                let d_logits = Matrix::new(logits, rows.len(), n_vocab);
                kernels::matmul(pool, *precision, d_logits, output, &mut dh[part], Store::Replace);
                let d_output = gradient.get_mut(role, None).expect("as the parameters");
                kernels::matmul(pool, *precision, d_logits.transposed(), h, d_output, Store::Add);
            }
        }
        if let Some(gradient) = gradient {
            let dx = room(&mut buffers.dx, n_rows * n_embd);
            dx.fill(0.0);
            let d_norm = gradient.get_mut(TensorRole::OutputNorm, None).expect("as the parameters");
            kernels::rms_norm_backward(pool, x, norm, inverses, dh, dx, d_norm);
        }
        losses.iter().zip(batch.weights).map(|(&loss, &weight)| f64::from(loss) * f64::from(weight)).sum()
    }

    /// From the stream's gradient behind the last layer to every weight's.
    fn backward(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        gradient: &mut Parameters,
    ) {
        for layer_idx in (0..self.config.n_layers()).rev() {
            self.layer_backward(pool, parameters, batch, layer_idx, gradient);
        }
        let n_embd = self.config.n_embd;
        let d_embeddings = gradient.get_mut(TensorRole::TokenEmbd, None).expect("every model has embeddings");
        for (row, &token) in self.room.dx.chunks_exact(n_embd).zip(batch.tokens) {
            let of_token = &mut d_embeddings[token as usize * n_embd..][..n_embd];
            of_token.iter_mut().zip(row).for_each(|(to, d)| *to += d * self.config.embd_scale);
        }
    }
}

fn output_role(config: &ModelConfig) -> TensorRole {
    if config.tied_output { TensorRole::TokenEmbd } else { TensorRole::Output }
}

/// The norm before the output, and the output matrix.
fn output_of<'a>(config: &ModelConfig, parameters: &'a Parameters) -> (&'a [f32], &'a [f32]) {
    let norm = parameters.get(TensorRole::OutputNorm, None).expect("every model has an output norm");
    let output = parameters.get(output_role(config), None).expect("every model has an output");
    (norm, output)
}

fn check(config: &ModelConfig) -> Result<(), Untrainable> {
    let has = |what| Err(Untrainable(what));
    match config {
        _ if config.norm.kind != NormKind::Rms => has("layer norms"),
        _ if config.learned_positions => has("learned positions"),
        _ if config.qkv_fused => has("queries, keys and values in one tensor"),
        _ if config.attn_out_bias => has("a bias behind attention"),
        _ if config.ffn_bias => has("biases in the feed-forward network"),
        _ if config.output_bias => has("a bias of the output"),
        _ if config.attn_softcap.is_some() || config.final_softcap.is_some() => {
            has("capped scores or logits")
        }
        _ if config.layers.iter().any(|layer| layer.head_dim_k != layer.head_dim_v) => {
            has("values of another length than keys")
        }
        ModelConfig {
            ffn: FfnKind::Gated { fused: false, activation: Activation::Silu | Activation::Gelu },
            ..
        } => Ok(()),
        _ => has("a feed-forward network without a gate of its own"),
    }
}

#[cfg(test)]
mod tests;
