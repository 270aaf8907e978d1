//! Memory of a training run, by what it is for.

use weights::{FfnKind, LayerConfig, ModelConfig, NormPlace, QkNorm};

use crate::Products;
use crate::cost::ParameterCount;
use crate::model::logit_rows;

/// Which numbers training computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// Everything in single precision, as the trainer here does where products are.
    Single,
    /// The same, but what products read waits for them as bf16: the trainer here where products are in bf16.
    Bf16Factors,
    /// Weights, gradients and activations in 16 bits beside weights in single precision, as is usual on accelerators
    /// (Micikevicius et al. 2018, arXiv:1710.03740).
    Mixed,
}

impl From<Products> for NumberFormat {
    fn from(products: Products) -> NumberFormat {
        match products {
            Products::F32 => NumberFormat::Single,
            Products::Bf16 => NumberFormat::Bf16Factors,
        }
    }
}

impl NumberFormat {
    /// Bytes of a weight, of its gradient, and of what AdamW keeps for it: mean and square, and the weight itself where
    /// the other one is short. 16 in all in any format (Rajbhandari et al. 2020, arXiv:1910.02054, § 3.1).
    fn bytes_per_parameter(self) -> [u64; 3] {
        match self {
            NumberFormat::Single | NumberFormat::Bf16Factors => [4, 4, 8],
            NumberFormat::Mixed => [2, 2, 12],
        }
    }

    fn bytes(self, numbers: Numbers) -> u64 {
        let (factor, float) = match self {
            NumberFormat::Single => (4, 4),
            NumberFormat::Bf16Factors => (2, 4),
            NumberFormat::Mixed => (2, 2),
        };
        numbers.factors as u64 * factor + numbers.floats as u64 * float
    }
}

/// Numbers of a row.
#[derive(Clone, Copy)]
struct Numbers {
    /// That products read.
    factors: usize,
    /// That are sums.
    floats: usize,
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
        let kept: u64 = config.layers.iter().map(|layer| format.bytes(kept_per_row(config, layer))).sum();
        let shared = config.layers.iter().map(|layer| format.bytes(shared_per_row(config, layer, format)));
        let floats = floats(config, n_rows).saturating_mul(4);
        TrainingMemory {
            weights,
            gradients,
            optimizer,
            activations: n_rows.saturating_mul(kept),
            buffers: n_rows.saturating_mul(shared.max().unwrap_or(0)).saturating_add(floats),
        }
    }

    /// As [`TrainingMemory::of`], where layers are computed again: the stream before each but the last is kept, and what
    /// one of them keeps otherwise.
    #[must_use]
    pub fn recomputing(config: &ModelConfig, n_rows: u64, format: NumberFormat) -> TrainingMemory {
        let of_one = config.layers.iter().map(|layer| format.bytes(kept_per_row(config, layer))).max();
        let stream = Numbers { factors: 0, floats: config.n_layers().saturating_sub(1) * config.n_embd };
        let activations = n_rows.saturating_mul(of_one.unwrap_or(0) + format.bytes(stream));
        TrainingMemory { activations, ..TrainingMemory::of(config, n_rows, format) }
    }

    /// All parts; what is beyond counting stays at the largest number.
    #[must_use]
    pub fn total(&self) -> u64 {
        let parts = [self.weights, self.gradients, self.optimizer, self.activations, self.buffers];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

/// What a layer keeps of a row: see `LayerTape`.
fn kept_per_row(config: &ModelConfig, layer: &LayerConfig) -> Numbers {
    let n_embd = config.n_embd;
    let stream = 2 * n_embd;
    let attention = layer.q_dim() + layer.k_dim() + layer.v_dim() + layer.attn_out_dim();
    let ffn = match config.ffn {
        FfnKind::Gated { .. } => 2 * layer.n_ff,
        FfnKind::Plain { .. } => layer.n_ff,
    };
    let n_updates = if config.norm.place == NormPlace::Pre { 0 } else { 2 };
    Numbers { factors: stream + attention + ffn + n_updates * n_embd, floats: layer.n_heads + n_updates }
}

/// What of a row is in buffers that layers take turns to use, without [`floats`]: see `Room`.
fn shared_per_row(config: &ModelConfig, layer: &LayerConfig, format: NumberFormat) -> Numbers {
    let (q_dim, k_dim, n_embd, n_ff) = (layer.q_dim(), layer.k_dim(), config.n_embd, layer.n_ff);
    let has_post = config.norm.place != NormPlace::Pre;
    let qk_inverses = match config.qk_norm {
        QkNorm::None => 0,
        QkNorm::PerHead => layer.n_heads + layer.n_kv_heads,
        QkNorm::Whole => 2,
    };
    // What is in single precision anyway is read where it is.
    let is_rounded = format != NumberFormat::Single;
    let if_copied = |copied: bool, dim| if copied || is_rounded { dim } else { 0 };
    let wide = n_ff.max(if_copied(qk_inverses > 0, q_dim));
    let narrow = if_copied(has_post, n_embd).max(if_copied(qk_inverses > 0, k_dim));
    let update = if has_post || config.residual_scale != 1.0 { n_embd } else { 0 };
    Numbers { factors: n_embd + wide + narrow, floats: 2 * n_embd + update + qk_inverses + 2 }
}

/// Numbers in single precision that are never needed at one time: logits, what projections give before it is rounded, and
/// gradients within a layer.
fn floats(config: &ModelConfig, n_rows: u64) -> u64 {
    let of_layer = |layer: &LayerConfig| {
        let attention = layer.q_dim().max(config.n_embd) + layer.q_dim() + 2 * layer.k_dim();
        layer.n_ff.max(attention) as u64
    };
    let fits = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let logits =
        (logit_rows(config.vocab_size, fits(n_rows)) as u64).saturating_mul(config.vocab_size as u64);
    let of_layers = config.layers.iter().map(of_layer).max().unwrap_or(0).saturating_mul(n_rows);
    of_layers.max(logits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::single_range_in_vec_init)] // one sequence
    use kernels::{Isa, Pool};
    use weights::DecoderShape;

    use super::*;
    use crate::{Model, Parameters, TokenBatch, plan};

    fn shape() -> DecoderShape {
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
            window: None,
        }
    }

    fn config() -> ModelConfig {
        shape().config()
    }

    #[test]
    fn activations_and_buffers_are_what_a_step_leaves_behind() {
        let pool = Pool::new(1, Isa::detect()).unwrap();
        let mut norms_after = config();
        norms_after.norm.place = NormPlace::Post;
        norms_after.qk_norm = QkNorm::Whole;
        let mut plain = config();
        plain.qk_norm = QkNorm::None;
        let windowed = DecoderShape { window: Some(8), ..shape() }.config();
        let configs = [config(), norms_after, plain, windowed];
        for (config, products) in
            configs.into_iter().flat_map(|c| [Products::F32, Products::Bf16].map(|p| (c.clone(), p)))
        {
            if products == Products::Bf16 && !pool.isa().has_bf16() {
                continue;
            }
            let format = NumberFormat::from(products);
            let parameters = Parameters::zeros(&config);
            let mut gradient = parameters.zeros_like();
            let mut model = Model::new(config.clone(), products.precision()).unwrap();
            let n = 20usize;
            let batch = TokenBatch {
                tokens: &vec![1; n],
                positions: &(0..n as u32).collect::<Vec<_>>(),
                sequences: &[0..n],
                targets: &vec![2; n],
                weights: &vec![1.0; n],
            };
            model.loss_and_gradient(&pool, &parameters, &batch, &mut gradient);
            let memory = TrainingMemory::of(&config, n as u64, format);
            let (kept, shared) = model.n_kept_numbers();
            assert_eq!(memory.activations, 4 * kept as u64);
            assert_eq!(memory.buffers, 4 * shared as u64);
            let mut model = Model::new(config.clone(), products.precision()).unwrap().with_recomputation();
            model.loss_and_gradient(&pool, &parameters, &batch, &mut gradient);
            let memory = TrainingMemory::recomputing(&config, n as u64, format);
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
