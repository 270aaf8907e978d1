//! Memory of a training run, by what it is for.

use weights::{FfnKind, LayerConfig, ModelConfig, NormPlace, QkNorm};

use crate::cost::ParameterCount;
use crate::model::LOGITS;

/// Which numbers training computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// Everything in single precision, as the trainer here does.
    Single,
    /// Weights, gradients and activations in 16 bits beside weights in single precision, as is usual on accelerators
    /// (Micikevicius et al. 2018, arXiv:1710.03740).
    Mixed,
}

impl NumberFormat {
    /// Bytes of a weight, of its gradient, and of what AdamW keeps for it: mean and square, and the weight itself where
    /// the other one is short. 16 in all in either format (Rajbhandari et al. 2020, arXiv:1910.02054, § 3.1).
    fn bytes_per_parameter(self) -> [u64; 3] {
        match self {
            NumberFormat::Single => [4, 4, 8],
            NumberFormat::Mixed => [2, 2, 12],
        }
    }

    /// Bytes of an activation.
    fn activation_bytes(self) -> u64 {
        match self {
            NumberFormat::Single => 4,
            NumberFormat::Mixed => 2,
        }
    }
}

/// Bytes that a run needs, on all its machines together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingMemory {
    /// The weights that products are computed with.
    pub weights: u64,
    /// One number for each weight.
    pub gradients: u64,
    /// What AdamW keeps.
    pub optimizer: u64,
    /// What the layers keep for the backward pass.
    pub activations: u64,
    /// What the layers take turns to use, and logits.
    pub buffers: u64,
}

impl TrainingMemory {
    /// For `n_rows` tokens that are at work at a time, with the pass of this crate; others keep more.
    #[must_use]
    pub fn of(config: &ModelConfig, n_rows: u64, format: NumberFormat) -> TrainingMemory {
        let n = ParameterCount::of(config).total;
        let [weights, gradients, optimizer] = format.bytes_per_parameter().map(|bytes| n * bytes);
        let kept: u64 = config.layers.iter().map(|layer| kept_per_row(config, layer)).sum();
        let shared = config.layers.iter().map(|layer| shared_per_row(config, layer)).max().unwrap_or(0);
        let logits = logits(config, n_rows);
        TrainingMemory {
            weights,
            gradients,
            optimizer,
            activations: n_rows.saturating_mul(kept * format.activation_bytes()),
            buffers: n_rows
                .saturating_mul(shared * format.activation_bytes())
                .saturating_add(logits.saturating_mul(4)),
        }
    }

    /// As [`TrainingMemory::of`], where layers are computed again: all keep what goes into them, and one keeps the rest.
    #[must_use]
    pub fn recomputing(config: &ModelConfig, n_rows: u64, format: NumberFormat) -> TrainingMemory {
        let of_one = config.layers.iter().map(|layer| kept_per_row(config, layer)).max().unwrap_or(0);
        let inputs = config.n_layers().saturating_sub(1) * config.n_embd;
        let activations = n_rows.saturating_mul((of_one + inputs as u64) * format.activation_bytes());
        TrainingMemory { activations, ..TrainingMemory::of(config, n_rows, format) }
    }

    /// All parts; what is beyond counting stays at the largest number.
    #[must_use]
    pub fn total(&self) -> u64 {
        let parts = [self.weights, self.gradients, self.optimizer, self.activations, self.buffers];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// Numbers in the buffer of logits.
fn logits(config: &ModelConfig, n_rows: u64) -> u64 {
    let vocab_size = config.vocab_size as u64;
    (LOGITS as u64 / vocab_size).max(1).min(n_rows) * vocab_size
}

/// Numbers that a layer keeps of a row: see `LayerTape`.
fn kept_per_row(config: &ModelConfig, layer: &LayerConfig) -> u64 {
    let (q_dim, k_dim, n_embd) = (layer.q_dim(), layer.k_dim(), config.n_embd);
    let stream = 2 * n_embd;
    let qk_plain = match config.qk_norm {
        QkNorm::None => 0,
        QkNorm::PerHead => q_dim + k_dim + layer.n_heads + layer.n_kv_heads,
        QkNorm::Whole => q_dim + k_dim + 2,
    };
    let attention = q_dim + k_dim + layer.v_dim() + layer.attn_out_dim() + layer.n_heads;
    let ffn = match config.ffn {
        FfnKind::Gated { .. } => 2 * layer.n_ff,
        FfnKind::Plain { .. } => layer.n_ff,
    };
    let updates = if config.norm.place == NormPlace::Pre { 0 } else { 2 * (n_embd + 1) };
    (stream + qk_plain + attention + ffn + updates) as u64
}

/// Numbers of a row in buffers that layers take turns to use: the stream and what a projection reads, with their
/// gradients; inverses and losses; what the network's gate lets through and three gradients as wide; gradients of queries,
/// keys and values, and again behind their norms; what is added to the stream, where it is not added as it comes.
fn shared_per_row(config: &ModelConfig, layer: &LayerConfig) -> u64 {
    let heads = layer.q_dim() + 2 * layer.k_dim();
    let normed = if config.qk_norm == QkNorm::None { 0 } else { layer.q_dim() + layer.k_dim() };
    let has_post = config.norm.place != NormPlace::Pre;
    let updates = usize::from(has_post || config.residual_scale != 1.0) + usize::from(has_post);
    let narrow = (4 + updates) * config.n_embd + 2;
    let wide = 3 * layer.n_ff + layer.n_ff.max(layer.q_dim()) + heads + normed;
    (narrow + wide) as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::single_range_in_vec_init)] // one sequence
    use kernels::{Isa, Pool, Precision};
    use weights::DecoderShape;

    use super::*;
    use crate::{Model, Parameters, TokenBatch, plan};

    fn config() -> ModelConfig {
        DecoderShape {
            n_layers: 3,
            n_embd: 64,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            n_ff: 192,
            vocab_size: 100,
            max_seq_len: 32,
            tied_output: true,
            rope_theta: 10_000.0,
        }
        .config()
    }

    #[test]
    fn activations_and_buffers_are_what_a_step_leaves_behind() {
        let pool = Pool::new(1, Isa::detect()).unwrap();
        let mut norms_after = config();
        norms_after.norm.place = NormPlace::Post;
        norms_after.qk_norm = QkNorm::Whole;
        for config in [config(), norms_after] {
            let parameters = Parameters::zeros(&config);
            let mut gradient = parameters.zeros_like();
            let mut model = Model::new(config.clone(), Precision::F32).unwrap();
            let n = 20usize;
            let batch = TokenBatch {
                tokens: &vec![1; n],
                positions: &(0..n as u32).collect::<Vec<_>>(),
                sequences: &[0..n],
                targets: &vec![2; n],
                weights: &vec![1.0; n],
            };
            model.loss_and_gradient(&pool, &parameters, &batch, &mut gradient);
            let memory = TrainingMemory::of(&config, n as u64, NumberFormat::Single);
            let (kept, shared) = model.n_kept_numbers();
            assert_eq!(memory.activations, 4 * kept as u64);
            assert_eq!(memory.buffers, 4 * shared as u64);
            let mut model = Model::new(config.clone(), Precision::F32).unwrap().with_recomputation();
            model.loss_and_gradient(&pool, &parameters, &batch, &mut gradient);
            let memory = TrainingMemory::recomputing(&config, n as u64, NumberFormat::Single);
            let (kept, shared) = model.n_kept_numbers();
            assert_eq!(memory.activations, 4 * kept as u64);
            assert_eq!(memory.buffers, 4 * shared as u64);
        }
    }

    #[test]
    fn a_weight_takes_sixteen_bytes_in_either_format() {
        let config = config();
        let n = ParameterCount::of(&config).total;
        for (format, weights) in [(NumberFormat::Single, 4), (NumberFormat::Mixed, 2)] {
            let memory = TrainingMemory::of(&config, 1, format);
            assert_eq!((memory.weights, memory.gradients), (weights * n, weights * n));
            assert_eq!(memory.weights + memory.gradients + memory.optimizer, 16 * n);
            let parts = memory.activations + memory.buffers;
            assert_eq!(memory.total(), 16 * n + parts);
        }
    }

    #[test]
    fn the_states_of_gpt_3_fill_2_8_terabytes() {
        let memory = TrainingMemory::of(&plan::gpt3::config(), 2048, NumberFormat::Mixed);
        let states = memory.weights + memory.gradients + memory.optimizer;
        assert_eq!(states, 174_604_259_328 * 16);
        // 2 n_embd of the stream, 4 of queries, keys, values and what attention gives, 4 of the network, and a number a
        // head, in each of 96 layers.
        assert_eq!(memory.activations, 2048 * 96 * (10 * 12_288 + 96) * 2);
    }
}
