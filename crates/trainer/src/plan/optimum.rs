//! The other way round: from arithmetic that can be afforded to the model that makes the most of it.

use weights::ModelConfig;

use crate::cost::training_flops_per_token;

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
}
