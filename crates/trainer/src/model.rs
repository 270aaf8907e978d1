//! One pass forward and one backward through a model: from tokens to the loss and to the gradient of every weight.
//!
//! The pass is the one that `weights::ModelConfig` describes and the engine serves; what is kept on the way is what the
//! backward pass cannot compute again cheaply. Norms are computed again.

mod layer;
mod linear;
mod output;

use std::ops::Range;
use std::sync::Arc;

use kernels::{FactorRoom, FactorsMut, Matrix, Pool, Precision, RightSide, RopeKind, RopeTable};
use weights::{Activation, FfnKind, LayerRope, ModelConfig, NormKind, RopeConfig, RopePairing, TensorRole};

use crate::frozen::Frozen;
use crate::parameters::Parameters;
use layer::LayerTape;
pub(crate) use output::logit_rows;

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
    /// What stays as it is, where only an adapter is learnt, and what B · A of the adapter is multiplied by.
    base: Option<Arc<Frozen>>,
    lora_factor: f32,
    /// The residual stream before each layer, where layers are computed again: `[n_rows, n_embd]`
    inputs: Vec<Vec<f32>>,
    /// Of each layer, or one for all where layers are computed again.
    tapes: Vec<LayerTape>,
    room: Room,
}

/// The numbers of a model, from wherever they come.
#[derive(Clone, Copy)]
struct Weights<'a> {
    learnt: &'a Parameters,
    base: Option<&'a Frozen>,
    lora_factor: f32,
}

impl<'a> Weights<'a> {
    /// A norm or a bias.
    fn vector(&self, role: TensorRole, layer_idx: Option<usize>) -> Option<&'a [f32]> {
        match self.base {
            None => self.learnt.get(role, layer_idx),
            Some(base) => base.vector(role, layer_idx),
        }
    }

    /// The matrix `[n_out, n_in]`, without an adapter.
    fn matrix(&self, role: TensorRole, layer_idx: Option<usize>, n_out: usize, n_in: usize) -> RightSide<'a> {
        let found = match self.base {
            None => self.learnt.get(role, layer_idx).map(|w| Matrix::new(w, n_out, n_in).into()),
            Some(base) => base.matrix(role, layer_idx).map(RightSide::from),
        };
        found.expect("the table of tensors has it wherever this is asked")
    }
}

/// A rotation and the one back.
struct Rope {
    there: RopeTable,
    back: RopeTable,
}

/// Buffers that every layer uses anew: `[n_rows, …]` each. What is never needed at one time shares its memory.
#[derive(Default)]
struct Room {
    /// The residual stream, and its gradient.
    x: Vec<f32>,
    dx: Vec<f32>,
    /// What a projection reads.
    h: FactorRoom,
    inverses: Vec<f32>,
    qk_inverses: [Vec<f32>; 2],
    /// What is added to the stream, where it is not added as it comes.
    update: Vec<f32>,
    /// What the feed-forward network's gate lets through; in attention queries behind their norm, then their gradient.
    wide: FactorRoom,
    /// The gradient of what is added to the stream; in attention keys behind their norm, then their gradient.
    narrow: FactorRoom,
    /// What is in single precision for a moment: logits, what a projection gives before it is rounded, and gradients.
    floats: Vec<f32>,
    /// The gradients between A and B of adapters that read the same.
    d_low: [Vec<f32>; 3],
    /// Gradients that nobody asked for.
    unused: Vec<f32>,
    /// What the rows that count make of the stream, and its gradient.
    counted: [Vec<f32>; 2],
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
        let inputs = vec![Vec::new(); config.n_layers()];
        Ok(Model {
            config,
            precision,
            rope,
            base: None,
            lora_factor: 1.0,
            inputs,
            tapes,
            room: Room::default(),
        })
    }

    /// The parameters are an adapter of this base, B · A times `factor`.
    #[must_use]
    pub fn with_base(mut self, base: Arc<Frozen>, factor: f32) -> Model {
        self.base = Some(base);
        self.lora_factor = factor;
        self
    }

    /// Keeps nothing of a layer but what goes into it, and computes the rest again on the way back: a third more work
    /// for a fraction of the memory, and the same numbers.
    #[must_use]
    pub fn with_recomputation(mut self) -> Model {
        self.tapes.truncate(1);
        self
    }

    /// Whether layers are computed again on the way back.
    fn recomputes(&self) -> bool {
        self.tapes.len() < self.config.n_layers()
    }

    fn tape(&mut self, layer_idx: usize) -> &mut LayerTape {
        let n_tapes = self.tapes.len();
        &mut self.tapes[layer_idx % n_tapes]
    }

    fn weights<'a>(&self, base: Option<&'a Frozen>, learnt: &'a Parameters) -> Weights<'a> {
        Weights { learnt, base, lora_factor: self.lora_factor }
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

    /// Numbers that are kept for the backward pass, and in buffers that layers share.
    #[cfg(test)]
    pub(crate) fn n_kept_numbers(&self) -> (usize, usize) {
        let Room { x, dx, inverses, qk_inverses, update, floats, d_low, unused, counted, losses, .. } =
            &self.room;
        let Room { h, wide, narrow, .. } = &self.room;
        let floats = [x, dx, inverses, update, floats, unused, losses].into_iter().chain(d_low);
        let n_floats: usize = floats.chain(counted).chain(qk_inverses).map(Vec::len).sum();
        let factors = [h, wide, narrow].into_iter();
        let n_shared = n_floats + factors.map(|room| room.bytes() / size_of::<f32>()).sum::<usize>();
        let n_inputs: usize = self.inputs.iter().map(Vec::len).sum();
        (n_inputs + self.tapes.iter().map(LayerTape::len).sum::<usize>(), n_shared)
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
        match &self.base {
            Some(base) => base.rows(pool, TensorRole::TokenEmbd, batch.tokens, x),
            None => {
                let embeddings =
                    parameters.get(TensorRole::TokenEmbd, None).expect("every model has embeddings");
                for (row, &token) in x.chunks_exact_mut(n_embd).zip(batch.tokens) {
                    row.copy_from_slice(&embeddings[token as usize * n_embd..][..n_embd]);
                }
            }
        }
        if self.config.embd_scale != 1.0 {
            kernels::scale(pool, x, self.config.embd_scale);
        }
        for layer_idx in 0..self.config.n_layers() {
            if self.recomputes() && layer_idx + 1 < self.config.n_layers() {
                let x = &self.room.x[..batch.tokens.len() * n_embd];
                let kept = room(&mut self.inputs[layer_idx], x.len());
                kernels::copy(pool, x, FactorsMut::Floats(kept));
            }
            self.layer_forward(pool, parameters, batch, layer_idx, true);
        }
    }

    /// From the stream's gradient behind the last layer to every weight's.
    fn backward(
        &mut self,
        pool: &Pool,
        parameters: &Parameters,
        batch: &TokenBatch<'_>,
        gradient: &mut Parameters,
    ) {
        let n_layers = self.config.n_layers();
        let n_embd = self.config.n_embd;
        for layer_idx in (0..n_layers).rev() {
            if self.recomputes() && layer_idx + 1 < n_layers {
                self.room.x[..batch.tokens.len() * n_embd]
                    .copy_from_slice(&self.inputs[layer_idx][..batch.tokens.len() * n_embd]);
                self.layer_forward(pool, parameters, batch, layer_idx, false);
            }
            self.layer_backward(pool, parameters, batch, layer_idx, gradient);
        }
        let Some(d_embeddings) = gradient.get_mut(TensorRole::TokenEmbd, None) else { return };
        for (row, &token) in self.room.dx.chunks_exact(n_embd).zip(batch.tokens) {
            let of_token = &mut d_embeddings[token as usize * n_embd..][..n_embd];
            of_token.iter_mut().zip(row).for_each(|(to, d)| *to += d * self.config.embd_scale);
        }
    }
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
mod lora_tests;
#[cfg(test)]
pub(crate) mod steps_tests;
#[cfg(test)]
mod tests;
