//! How well a model predicts a text, and how far its predictions are from another model's.
//!
//! The rules are those of llama.cpp's `llama-perplexity`, so that figures can be compared: the tokens of a text
//! are cut into windows of equal length; in each the first token gives way to the model's BOS where it wants one,
//! and the tokens of the second half are predicted from all before them in their window.

mod divergence;
mod logits_file;

pub use divergence::{Divergence, DivergenceReport};
pub use logits_file::{LogitsFileError, LogitsHeader, LogitsReader, LogitsRow, LogitsWriter};

use crate::TokenId;

/// A text cut into windows.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    tokens: &'a [TokenId],
    n_ctx: usize,
    bos: Option<TokenId>,
}

impl<'a> Windows<'a> {
    /// Windows of `n_ctx` tokens, at least 4, at most `limit` of them; an incomplete last one is left out.
    pub fn new(tokens: &'a [TokenId], n_ctx: usize, bos: Option<TokenId>, limit: usize) -> Windows<'a> {
        assert!(n_ctx >= 4, "a window must have a second half to predict");
        let n = (tokens.len() / n_ctx).min(limit);
        Windows { tokens: &tokens[..n * n_ctx], n_ctx, bos }
    }

    /// Number of windows.
    pub fn len(&self) -> usize {
        self.tokens.len() / self.n_ctx
    }

    /// Whether the text is shorter than one window.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens of all windows, as the text has them.
    pub fn tokens(&self) -> &'a [TokenId] {
        self.tokens
    }

    /// What the model reads of a window.
    pub fn input(&self, window_idx: usize) -> Vec<TokenId> {
        let mut input = self.tokens[window_idx * self.n_ctx..][..self.n_ctx].to_vec();
        if let Some(bos) = self.bos {
            input[0] = bos;
        }
        input
    }

    /// The place, within a window, of the first token from which the next is predicted.
    pub fn first_scored(&self) -> usize {
        self.n_ctx / 2
    }

    /// Predictions that count in a window.
    pub fn n_scored(&self) -> usize {
        self.n_ctx - 1 - self.first_scored()
    }
}

/// Mean of a quantity and how certain it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// Sums for a mean and its standard error.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sums {
    pub(crate) n: u64,
    sum: f64,
    sum_of_squares: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, x: f64) {
        self.n += 1;
        self.sum += x;
        self.sum_of_squares += x * x;
    }

    pub(crate) fn estimate(&self) -> Estimate {
        let n = self.n as f64;
        let mean = self.sum / n;
        let variance = (self.sum_of_squares / n - mean * mean).max(0.0);
        Estimate { value: mean, error: (variance / (n - 1.0)).sqrt() }
    }
}

/// Collects how surprised a model was by each token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Perplexity {
    surprise: Sums,
}

impl Perplexity {
    /// One token with this log-probability came.
    pub fn add(&mut self, log_prob: f32) {
        self.surprise.add(-f64::from(log_prob));
    }

    /// Tokens so far.
    pub fn n_tokens(&self) -> u64 {
        self.surprise.n
    }

    /// exp of the mean surprise; not a number before the first token.
    pub fn estimate(&self) -> Estimate {
        perplexity(self.surprise.estimate())
    }
}

/// The perplexity that belongs to a mean surprise.
pub(crate) fn perplexity(surprise: Estimate) -> Estimate {
    let value = surprise.value.exp();
    Estimate { value, error: surprise.error * value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_leave_out_what_is_incomplete_and_begin_with_bos() {
        let tokens: Vec<TokenId> = (10..31).collect();
        let windows = Windows::new(&tokens, 6, Some(1), usize::MAX);
        assert_eq!((windows.len(), windows.first_scored(), windows.n_scored()), (3, 3, 2));
        assert_eq!(windows.input(1), [1, 17, 18, 19, 20, 21]);
        assert_eq!(windows.tokens(), &tokens[..18]);
        assert_eq!(Windows::new(&tokens, 6, None, 2).input(1), [16, 17, 18, 19, 20, 21]);
        assert_eq!(Windows::new(&tokens, 6, None, 2).len(), 2);
        assert!(Windows::new(&tokens[..5], 6, None, 2).is_empty());
    }

    #[test]
    fn perplexity_is_the_inverse_of_the_mean_probability() {
        let mut perplexity = Perplexity::default();
        for p in [0.5f32, 0.25, 0.125] {
            perplexity.add(p.ln());
        }
        let estimate = perplexity.estimate();
        assert!((estimate.value - 4.0).abs() < 1e-6, "{estimate:?}");
        // Surprises of 1, 2, 3 times ln 2: standard error ln 2 · √(2/3 / 2), times the perplexity.
        let expected = 4.0 * std::f64::consts::LN_2 / 3f64.sqrt();
        assert!((estimate.error - expected).abs() < 1e-6, "{estimate:?}");
    }
}
