//! Tokens that a model reads at a time: sequences one after the other, without padding.

use std::ops::Range;

use tokenizer::TokenId;

use crate::model::TokenBatch;

/// A batch that is filled anew for each pass.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Rows {
    tokens: Vec<TokenId>,
    positions: Vec<u32>,
    sequences: Vec<Range<usize>>,
    targets: Vec<TokenId>,
    weights: Vec<f32>,
}

impl Rows {
    /// Takes everything out.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.sequences.clear();
        self.targets.clear();
        self.weights.clear();
    }

    /// How many tokens there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Adds a sequence: each token with what comes next and how much that counts.
    pub fn push(&mut self, rows: impl IntoIterator<Item = (TokenId, TokenId, f32)>) {
        let start = self.tokens.len();
        for (token, target, weight) in rows {
            self.positions.push((self.tokens.len() - start) as u32);
            self.tokens.push(token);
            self.targets.push(target);
            self.weights.push(weight);
        }
        if self.tokens.len() > start {
            self.sequences.push(start..self.tokens.len());
        }
    }

    /// How many sequences there are.
    #[must_use]
    pub fn n_sequences(&self) -> usize {
        self.sequences.len()
    }

    /// What a sequence's rows count, times a factor.
    ///
    /// # Panics
    /// Where there is no such sequence.
    pub fn scale_weights(&mut self, sequence: usize, factor: f32) {
        let rows = self.sequences[sequence].clone();
        self.weights[rows].iter_mut().for_each(|weight| *weight *= factor);
    }

    /// The sum of the weights.
    #[must_use]
    pub fn weight(&self) -> f64 {
        self.weights.iter().map(|&weight| f64::from(weight)).sum()
    }

    /// What a model reads.
    #[must_use]
    pub fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            tokens: &self.tokens,
            positions: &self.positions,
            sequences: &self.sequences,
            targets: &self.targets,
            weights: &self.weights,
        }
    }
}
