//! What a model costs to train, counted from its configuration: numbers, arithmetic, memory.

use weights::{LayerConfig, ModelConfig, TensorRole, tensor_specs};

/// How many numbers a model has, and what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParameterCount {
    /// All of them.
    pub total: u64,
    /// Token embeddings (and learned positions); a token reads one row, so no arithmetic goes with them.
    pub embeddings: u64,
    /// The output matrix; tied models have none of their own.
    pub output: u64,
    /// Matrices inside layers.
    pub layers: u64,
    /// Norms and biases.
    pub vectors: u64,
}

impl ParameterCount {
    /// Counts a model's numbers.
    #[must_use]
    pub fn of(config: &ModelConfig) -> ParameterCount {
        let mut count = ParameterCount { total: 0, embeddings: 0, output: 0, layers: 0, vectors: 0 };
        for spec in tensor_specs(config) {
            let n: u64 = spec.shape.iter().map(|&n| n as u64).product();
            count.total += n;
            match spec.role {
                TensorRole::TokenEmbd | TensorRole::PositionEmbd => count.embeddings += n,
                TensorRole::Output => count.output += n,
                _ if spec.shape.len() == 2 => count.layers += n,
                _ => count.vectors += n,
            }
        }
        count
    }
}

/// Floating-point operations of one token, forward and backward, in sequences of `seq_len`: 6 for every weight of a
/// product (Kaplan et al. 2020, arXiv:2001.08361, § 2.1), and for each score of attention 12 · head_dim, of which a
/// token sees half the sequence in the mean, or its window.
#[must_use]
pub fn training_flops_per_token(config: &ModelConfig, seq_len: usize) -> f64 {
    let len = seq_len as f64;
    flops_per_token(config, |layer| match layer.window {
        // Full in the window's first tokens, then level.
        Some(window) if window < seq_len => {
            let window = window as f64;
            (window * window / 2.0 + (len - window) * window) / len
        }
        _ => len / 2.0,
    })
}

/// As [`training_flops_per_token`], with the scores that masks hide: what an attention costs that computes all of them,
/// and how utilisations are usually counted (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).
#[must_use]
pub fn unmasked_flops_per_token(config: &ModelConfig, seq_len: usize) -> f64 {
    flops_per_token(config, |_| seq_len as f64)
}

/// With `seen` scores of a token in each layer.
fn flops_per_token(config: &ModelConfig, seen: impl Fn(&LayerConfig) -> f64) -> f64 {
    let count = ParameterCount::of(config);
    let output = if config.tied_output { (config.vocab_size * config.n_embd) as u64 } else { count.output };
    let attention: f64 = config
        .layers
        .iter()
        .map(|layer| 6.0 * (layer.q_dim() + layer.attn_out_dim()) as f64 * seen(layer))
        .sum();
    6.0 * (count.layers + output) as f64 + attention
}

#[cfg(test)]
mod tests {
    use weights::DecoderShape;

    use super::*;

    fn shape() -> DecoderShape {
        DecoderShape {
            n_layers: 2,
            n_embd: 64,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            n_ff: 192,
            vocab_size: 100,
            max_seq_len: 32,
            tied_output: false,
            rope_theta: 10_000.0,
            window: None,
        }
    }

    #[test]
    fn parts_are_counted_by_what_they_are_for() {
        let count = ParameterCount::of(&shape().config());
        let layer = 64 * (64 + 2 * 32) + 64 * 64 + 3 * 64 * 192;
        assert_eq!(count.embeddings, 6400);
        assert_eq!(count.output, 6400);
        assert_eq!(count.layers, 2 * layer);
        assert_eq!(count.vectors, 2 * (2 * 64 + 2 * 16) + 64);
        assert_eq!(count.total, count.embeddings + count.output + count.layers + count.vectors);
        let windowed = ParameterCount::of(&DecoderShape { window: Some(8), ..shape() }.config());
        assert_eq!(windowed.total, count.total + 2 * 2 * 64, "two norms more in each layer");
    }

    #[test]
    fn a_window_spares_attention_and_a_tied_output_spares_nothing() {
        let config = shape().config();
        let flops = training_flops_per_token(&config, 32);
        let products = 6.0 * (ParameterCount::of(&config).layers + 6400) as f64;
        assert_eq!(flops - products, 2.0 * 12.0 * 64.0 * 16.0);
        let tied = DecoderShape { tied_output: true, ..shape() }.config();
        assert_eq!(training_flops_per_token(&tied, 32), flops);
        let windowed = DecoderShape { window: Some(8), ..shape() }.config();
        assert_eq!(
            training_flops_per_token(&windowed, 32) - products,
            2.0 * 12.0 * 64.0 * (8.0 * 4.0 + 24.0 * 8.0) / 32.0
        );
        assert_eq!(unmasked_flops_per_token(&windowed, 32) - products, 2.0 * 12.0 * 64.0 * 32.0);
    }
}
