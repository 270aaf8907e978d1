//! How a vocabulary is learnt from text: byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909; bytes as in GPT-2).
//!
//! [`WordCounts`] cuts a corpus into words, one text after the other and on as many threads as there are counters;
//! [`BpeTraining::train`] merges the most frequent pair of neighbouring tokens, again and again. Of equally frequent
//! pairs that of the lowest ids goes first, as in the crate `tokenizers`, so the result depends on the texts alone.

mod merges;
mod words;

use std::ops::ControlFlow;

use crate::byte_level;
use crate::pre_tokenizer::recipe;
use crate::{TokenId, TokenKind, Vocabulary, VocabularyKind};

pub use words::WordCounts;

/// What a vocabulary is to be.
#[derive(Debug, Clone)]
pub struct BpeTraining {
    /// Tokens in all: special tokens, the 256 bytes, and what is merged.
    pub vocab_size: usize,
    /// Texts of control tokens; they get the first ids, in order.
    pub special_tokens: Vec<String>,
    /// Pairs that occur less often are not merged, even if the vocabulary stays smaller for it.
    pub min_count: u64,
}

/// Why no vocabulary came out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrainingError {
    /// The name of the pre-tokenizer.
    #[error("there is no pre-tokenizer named {0:?}; known are {known}", known = crate::known_pre_tokenizers().collect::<Vec<_>>().join(", "))]
    UnknownPreTokenizer(String),
    /// Fewer tokens than every vocabulary has, or more than ids reach.
    #[error("a vocabulary of {asked} tokens is not possible: the {n_special} special ones and the 256 bytes make {least}, and the most is {MAX_VOCAB}", least = n_special + 256)]
    VocabSize {
        /// Tokens asked for.
        asked: usize,
        /// Special tokens among them.
        n_special: usize,
    },
    /// A special token twice, or one that is no longer than the tokens of single bytes.
    #[error("the special token {0:?} is named twice or shorter than two characters")]
    SpecialToken(String),
    /// The corpus holds no word.
    #[error("there is no text to learn from")]
    NoText,
    /// More symbols than positions of 32 bits number.
    #[error(
        "the different words of this corpus have {0} bytes together, more than the 4 GB that one training holds: take a sample"
    )]
    TooManyWords(u64),
    /// The caller's progress function said so.
    #[error("the training was stopped")]
    Stopped,
}

/// Tokens of a vocabulary at most.
const MAX_VOCAB: usize = 1 << 24;

/// A vocabulary that was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainedBpe {
    pre: String,
    n_special: usize,
    /// Special tokens as they are, all others spelled in the alphabet of bytes.
    tokens: Vec<Vec<u8>>,
    /// `left right`, spelled so too, in order.
    merges: Vec<Vec<u8>>,
}

impl BpeTraining {
    /// Whether the settings contradict themselves.
    ///
    /// # Errors
    /// Where they do.
    pub fn check(&self) -> Result<(), TrainingError> {
        let n_special = self.special_tokens.len();
        if self.vocab_size < n_special + 256 || self.vocab_size > MAX_VOCAB {
            return Err(TrainingError::VocabSize { asked: self.vocab_size, n_special });
        }
        for (idx, token) in self.special_tokens.iter().enumerate() {
            if token.chars().nth(1).is_none() || self.special_tokens[..idx].contains(token) {
                return Err(TrainingError::SpecialToken(token.clone()));
            }
        }
        Ok(())
    }

    /// Learns a vocabulary. `progress` hears how many of how many merges are done and may end it.
    ///
    /// # Errors
    /// Where the settings contradict themselves, the counts hold no word, or `progress` breaks off.
    pub fn train(
        &self,
        counts: &WordCounts,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<TrainedBpe, TrainingError> {
        self.check()?;
        let n_special = self.special_tokens.len();
        if counts.is_empty() {
            return Err(TrainingError::NoText);
        }
        let mut tokens: Vec<Vec<u8>> =
            self.special_tokens.iter().map(|text| text.clone().into_bytes()).collect();
        let mut byte_ids = [0; 256];
        for (idx, &byte) in byte_level::alphabet().iter().enumerate() {
            byte_ids[usize::from(byte)] = (n_special + idx) as TokenId;
            tokens.push(vec![byte]);
        }
        let pairs = merges::learn(self, counts, &byte_ids, &mut tokens, progress)?;
        // Until here tokens were bytes; from here on they are spelled.
        for token in &mut tokens[n_special..] {
            *token = byte_level::encode(token);
        }
        let spell = |(left, right): (TokenId, TokenId)| {
            [&tokens[left as usize][..], b" ", &tokens[right as usize]].concat()
        };
        let merges = pairs.into_iter().map(spell).collect();
        Ok(TrainedBpe { pre: counts.pre().to_owned(), n_special, tokens, merges })
    }
}

impl TrainedBpe {
    /// Name of the pre-tokenizer, as `tokenizer.ggml.pre` has it.
    #[must_use]
    pub fn pre(&self) -> &str {
        &self.pre
    }

    /// Tokens in the order of their ids: the special ones as they are, all others in the alphabet of bytes.
    #[must_use]
    pub fn tokens(&self) -> &[Vec<u8>] {
        &self.tokens
    }

    /// The number of special tokens, which are the first.
    #[must_use]
    pub fn n_special(&self) -> usize {
        self.n_special
    }

    /// `left right`, in the order in which they were learnt.
    #[must_use]
    pub fn merges(&self) -> &[Vec<u8>] {
        &self.merges
    }

    /// As a model file would have it, without roles for the special tokens.
    #[must_use]
    pub fn vocabulary(&self) -> Vocabulary<'_> {
        let mut vocabulary =
            Vocabulary::new(VocabularyKind::Bpe, self.tokens.iter().map(Vec::as_slice).collect());
        vocabulary.pre = Some(self.pre.clone());
        vocabulary.kinds = (0..self.tokens.len())
            .map(|id| if id < self.n_special { TokenKind::Control } else { TokenKind::Normal })
            .collect();
        vocabulary.merges = self.merges.iter().map(Vec::as_slice).collect();
        vocabulary.add_bos = Some(false);
        vocabulary
    }
}

#[cfg(test)]
mod tests;
