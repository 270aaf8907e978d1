//! One dial: from a model's depth follow its width, its heads, how many tokens it should see, how many at a time and
//! how fast it learns. Each figure can be overridden by whoever asks for the run.

use weights::{DecoderShape, ModelConfig};

use crate::cost::{ParameterCount, training_flops_per_token};
use crate::optimizer::{MatrixOptimizer, OptimizerSettings};
use crate::plan::TOKENS_PER_PARAMETER;
use crate::schedule::{Decay, Schedule};

/// Width of a layer's stream per layer of depth, and elements of a head.
const WIDTH: usize = 64;
/// Deepest model that the dial goes to: as wide as GPT-3, 12,288, and twice as deep.
pub const MAX_DEPTH: usize = 192;
/// Base of the rotary frequencies.
const ROPE_THETA: f32 = 10_000.0;

/// How often the same text is worth nearly as much as new text (Muennighoff et al. 2023, arXiv:2305.16264).
pub const MAX_EPOCHS: f64 = 4.0;

/// What a model of any depth may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecoderOptions {
    /// Whether the output's weights are the embeddings.
    pub tied_output: bool,
    /// How many tokens most layers see at most, where that is not all before.
    pub window: Option<usize>,
}

/// The sizes of a model of this depth.
#[must_use]
pub fn decoder_shape(
    depth: usize,
    vocab_size: usize,
    max_seq_len: usize,
    options: DecoderOptions,
) -> DecoderShape {
    let DecoderOptions { tied_output, window } = options;
    let n_embd = WIDTH * depth;
    let n_kv_heads = match depth {
        _ if depth.is_multiple_of(3) => depth / 3,
        _ if depth.is_multiple_of(2) => depth / 2,
        _ => depth,
    };
    DecoderShape {
        n_layers: depth,
        n_embd,
        n_heads: depth,
        n_kv_heads,
        head_dim: WIDTH,
        // A gate makes three matrices of two: with 8/3 of the width they have as many weights as two of 4 (Shazeer
        // 2020, arXiv:2002.05202).
        n_ff: (8 * n_embd / 3).next_multiple_of(WIDTH),
        vocab_size,
        max_seq_len,
        tied_output,
        rope_theta: ROPE_THETA,
        window,
    }
}

/// Size of a vocabulary for a model of this depth: small models cannot afford a large one.
#[must_use]
pub fn vocab_size_for(depth: usize) -> usize {
    match depth {
        0..=6 => 8192,
        7..=10 => 16_384,
        _ => 32_768,
    }
}

/// Weights of the products that a token goes through.
#[must_use]
pub fn n_product_weights(config: &ModelConfig) -> u64 {
    let count = ParameterCount::of(config);
    let output = if config.tied_output { count.embeddings } else { count.output };
    count.layers + output
}

/// Tokens that make the best use of arithmetic: [`TOKENS_PER_PARAMETER`] for each weight of a product. Embeddings, which
/// are looked up, want none; in large models they are next to nothing.
#[must_use]
pub fn tokens_for(config: &ModelConfig) -> u64 {
    (TOKENS_PER_PARAMETER * n_product_weights(config) as f64) as u64
}

/// The depth whose model makes the best use of `flops` operations.
#[must_use]
pub fn depth_for(flops: f64, vocab_size: Option<usize>, seq_len: usize, options: DecoderOptions) -> usize {
    let cost = |depth: usize| {
        let vocab_size = vocab_size.unwrap_or_else(|| vocab_size_for(depth));
        let config = decoder_shape(depth, vocab_size, seq_len, options).config();
        tokens_for(&config) as f64 * training_flops_per_token(&config, seq_len)
    };
    (2..=MAX_DEPTH).take_while(|&depth| cost(depth) <= flops).last().unwrap_or(2)
}

/// Tokens of a step for a run over `n_tokens`, a power of two: they grow as the run's length to the power of 0.383
/// (Bergsma et al. 2025, arXiv:2505.13738). The factor is a guess for small runs.
#[must_use]
pub fn step_tokens_for(n_tokens: u64) -> usize {
    let wanted = 25.0 * (n_tokens as f64).powf(0.383);
    1 << wanted.log2().round().clamp(11.0, 20.0) as u32
}

/// Tokens of a step to which the learning rates below belong.
const REFERENCE_STEP_TOKENS: f64 = 16_384.0;
/// Width to which they belong.
const REFERENCE_EMBD: f64 = 256.0;

/// How weights follow their gradient. The rates are a start, tried at half and twice on two short runs (`docs/LOG.md`),
/// not swept. Rates shrink with the root of the width and grow with that of the step; that of embeddings is for what
/// they are multiplied to, or where they are the output, too, for that.
#[must_use]
pub fn optimizer_for(
    matrices: MatrixOptimizer,
    config: &ModelConfig,
    step_tokens: usize,
) -> OptimizerSettings {
    let by_width = (REFERENCE_EMBD / config.n_embd as f64).sqrt();
    let by_step = (step_tokens as f64 / REFERENCE_STEP_TOKENS).sqrt();
    let scaled = |rate: f64| (rate * by_width * by_step) as f32;
    let embedding = |rate: f64, tied: f64| {
        scaled(if config.tied_output { tied } else { rate / f64::from(config.embd_scale) })
    };
    let adamw = OptimizerSettings { beta1: 0.8, beta2: 0.95, eps: 1e-10, ..OptimizerSettings::adamw(0.0) };
    match matrices {
        MatrixOptimizer::Muon => OptimizerSettings {
            matrices,
            lr: scaled(0.01),
            embedding_lr: embedding(0.05, 0.015),
            output_lr: scaled(0.004),
            muon_lr: scaled(0.01),
            weight_decay: 0.0,
            ..adamw
        },
        MatrixOptimizer::AdamW => OptimizerSettings {
            matrices,
            lr: scaled(0.004),
            embedding_lr: embedding(0.02, 0.008),
            output_lr: scaled(0.004),
            beta1: 0.9,
            weight_decay: 0.1,
            ..adamw
        },
    }
}

/// How the learning rate goes over a run of so many steps.
#[must_use]
pub fn schedule_for(decay: Decay, n_steps: u64) -> Schedule {
    Schedule { n_warmup: (n_steps / 50).min(100), decay, decay_share: 0.5, end: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_64_wide_for_each_layer() {
        let shape = decoder_shape(12, 32_768, 1024, DecoderOptions::default());
        assert_eq!((shape.n_embd, shape.n_heads, shape.n_kv_heads, shape.n_ff), (768, 12, 4, 2048));
        // 1706.7 is not a whole number of blocks.
        assert_eq!(decoder_shape(10, 32_768, 1024, DecoderOptions::default()).n_ff, 1728);
        for depth in 1..=MAX_DEPTH {
            let shape = decoder_shape(depth, 100, 32, DecoderOptions::default());
            assert!(shape.n_heads.is_multiple_of(shape.n_kv_heads), "depth {depth}");
        }
    }

    #[test]
    fn what_arithmetic_pays_for_is_the_deepest_model_that_sees_its_tokens() {
        let options = DecoderOptions::default();
        for depth in [2, 5, 12] {
            let config = decoder_shape(depth, 8192, 512, options).config();
            let flops = tokens_for(&config) as f64 * training_flops_per_token(&config, 512);
            assert_eq!(depth_for(flops * 1.001, Some(8192), 512, options), depth);
            assert_eq!(depth_for(flops * 0.999, Some(8192), 512, options), (depth - 1).max(2));
        }
        assert_eq!(depth_for(1.0, None, 512, options), 2);
    }

    #[test]
    fn longer_runs_take_larger_steps_at_higher_rates() {
        let steps: Vec<usize> = [1e5, 1e6, 1e7, 1e8, 1e9, 1e12].map(|n| step_tokens_for(n as u64)).to_vec();
        assert!(steps.windows(2).all(|pair| pair[0] <= pair[1] && pair[1].is_power_of_two()), "{steps:?}");
        assert!(steps[0] < steps[5] && steps[3] == 32_768, "{steps:?}");
        let plain = DecoderOptions::default();
        let rates = |depth, options, step_tokens| {
            let config = decoder_shape(depth, 100, 32, options).config();
            optimizer_for(MatrixOptimizer::Muon, &config, step_tokens)
        };
        let rate = |depth, step_tokens| rates(depth, plain, step_tokens).muon_lr;
        assert!((rate(4, 65_536) / rate(4, 16_384) - 2.0).abs() < 1e-5);
        assert!((rate(16, 16_384) / rate(4, 16_384) - 0.5).abs() < 1e-5);
        // Embeddings that are multiplied by the root of a width of 256 are moved by as much in what comes of it.
        let windowed = rates(4, DecoderOptions { window: Some(8), ..plain }, 16_384);
        let tied = rates(4, DecoderOptions { tied_output: true, ..plain }, 16_384);
        let plain = rates(4, plain, 16_384);
        assert_eq!(windowed.embedding_lr, plain.embedding_lr / 16.0);
        assert_eq!(windowed.muon_lr, plain.muon_lr);
        assert!(plain.output_lr < tied.embedding_lr && tied.embedding_lr < plain.embedding_lr);
    }
}
