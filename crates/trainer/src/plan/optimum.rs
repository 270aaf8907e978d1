//! The other way round: from arithmetic that can be afforded to the model that makes the most of it.

use weights::{DecoderShape, ModelConfig};

use crate::cost::{ParameterCount, training_flops_per_token};

/// Tokens for each parameter of a model that is trained with as little arithmetic as its loss allows: Hoffmann et al.
/// 2022, arXiv:2203.15556, whose three estimates lie near it (Chinchilla: 1.4 trillion tokens for 70 billion).
pub const TOKENS_PER_PARAMETER: f64 = 20.0;

/// Parameters and tokens for which C = 6 N D and D = 20 N.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimum {
    /// Floating-point operations, C.
    pub flops: f64,
    /// N = √(C / 120)
    pub parameters: f64,
    /// D = 20 N
    pub tokens: f64,
}

impl Optimum {
    /// For this arithmetic.
    #[must_use]
    pub fn of(flops: f64) -> Optimum {
        let parameters = (flops / (6.0 * TOKENS_PER_PARAMETER)).sqrt();
        Optimum { flops, parameters, tokens: TOKENS_PER_PARAMETER * parameters }
    }

    /// The decoder whose parameters come nearest, as a ratio.
    #[must_use]
    pub fn shape(&self, vocab_size: usize, max_seq_len: usize) -> DecoderShape {
        let distance = |shape: &DecoderShape| {
            let n = ParameterCount::of(&shape.config()).total as f64;
            (n / self.parameters).ln().abs()
        };
        (1..=MAX_DEPTH)
            .map(|depth| shape_of_depth(depth, vocab_size, max_seq_len))
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .expect("there is a depth")
    }
}

/// As wide as GPT-3, 12,288, and twice as deep.
pub const MAX_DEPTH: usize = 192;
/// Width for each layer, and elements of a head.
const HEAD_DIM: usize = 64;

/// The decoder of a depth: 64 wide for each layer, with heads of 64; a network 8/3 as wide (Shazeer 2020,
/// arXiv:2002.05202: a gate's third matrix is paid for with width), in whole blocks of 64; the output tied to the
/// embeddings.
#[must_use]
pub fn shape_of_depth(depth: usize, vocab_size: usize, max_seq_len: usize) -> DecoderShape {
    let n_embd = HEAD_DIM * depth;
    DecoderShape {
        n_layers: depth,
        n_embd,
        n_heads: depth,
        n_kv_heads: depth,
        head_dim: HEAD_DIM,
        n_ff: (8 * n_embd).div_ceil(3 * 64) * 64,
        vocab_size,
        max_seq_len,
        tied_output: true,
        rope_theta: 10_000.0,
    }
}

/// Tokens that a model learns from with this arithmetic, at least one.
#[must_use]
pub fn affordable_tokens(flops: f64, config: &ModelConfig, seq_len: usize) -> u64 {
    (flops / training_flops_per_token(config, seq_len)).max(1.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinchilla_is_its_own_optimum() {
        // Hoffmann et al. 2022, table 3: 5.76e23 operations give 67 billion parameters and 1.5 trillion tokens by their
        // first estimate; the model that they trained has 70 billion and 1.4.
        let optimum = Optimum::of(5.76e23);
        assert!((optimum.parameters / 69.28e9 - 1.0).abs() < 1e-3, "{optimum:?}");
        assert!((optimum.tokens / 1.3856e12 - 1.0).abs() < 1e-3, "{optimum:?}");
        assert!((6.0 * optimum.parameters * optimum.tokens / 5.76e23 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_depth_is_64_wide_for_each_layer() {
        let shape = shape_of_depth(12, 32_768, 1024);
        assert_eq!((shape.n_embd, shape.n_heads, shape.head_dim, shape.n_ff), (768, 12, 64, 2048));
        // 1706.7 is not a whole number of blocks.
        assert_eq!(shape_of_depth(10, 32_768, 1024).n_ff, 1728);
        let parts = 12 * (4 * 768 * 768 + 3 * 768 * 2048) + 32_768 * 768;
        let vectors = 12 * (2 * 768 + 2 * 64) + 768;
        assert_eq!(ParameterCount::of(&shape.config()).total, parts + vectors);
    }

    #[test]
    fn the_nearest_depth_is_found() {
        for depth in [1, 4, 12, 30] {
            let n = ParameterCount::of(&shape_of_depth(depth, 32_768, 1024).config()).total as f64;
            for nudge in [0.98, 1.0, 1.02] {
                let flops = 120.0 * (n * nudge).powi(2);
                assert_eq!(Optimum::of(flops).shape(32_768, 1024).n_layers, depth);
            }
        }
        assert_eq!(Optimum::of(1.0).shape(32_768, 1024).n_layers, 1);
    }
}
