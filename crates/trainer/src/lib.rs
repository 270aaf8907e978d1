//! How does a corpus become a model?
//!
//! [`Corpus`] finds the texts; [`learn_tokenizer`] makes a vocabulary of them, which other programs read as
//! [`tokenizer_json`] or in a model file ([`vocabulary_gguf`]). [`Model`] goes forward and backward through an
//! architecture of `weights`, with [`Parameters`] for its numbers and for their gradients,
//! which an [`Optimizer`] follows. [`plan`] says beforehand what that takes.

mod corpus;
mod cost;
mod export;
mod learn_tokenizer;
mod model;
mod optimizer;
mod parameters;
pub mod plan;

#[cfg(any(test, fuzzing))]
pub use corpus::fuzzing;
pub use corpus::{BrokenRecord, Corpus, CorpusError, CorpusSummary, OnBroken, Piece};
pub use cost::{ParameterCount, training_flops_per_token, unmasked_flops_per_token};
pub use export::{tokenizer_json, vocabulary_gguf};
pub use learn_tokenizer::{
    LanguageShare, LearnTokenizer, LearntTokenizer, TokenizerProgress, TokenizerTrainingError,
    learn_tokenizer,
};
pub use model::{Model, TokenBatch, Untrainable};
pub use optimizer::{MatrixOptimizer, Optimizer, OptimizerSettings};
pub use parameters::{Parameters, ParametersError};
