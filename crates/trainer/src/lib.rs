//! How does a corpus become a model?
//!
//! [`Corpus`] finds the texts; [`learn_tokenizer`] makes a vocabulary of them, which other programs read as
//! [`tokenizer_json`] or in a model file ([`vocabulary_gguf`]); [`write_hugging_face`] writes a whole model for them.
//! [`Model`] goes forward and backward through an architecture of `weights`, with [`Parameters`] for its numbers and for
//! their gradients, which an [`Optimizer`] follows.

mod corpus;
mod cost;
mod export;
mod learn_tokenizer;
mod model;
mod optimizer;
mod parameters;

#[cfg(any(test, fuzzing))]
pub use corpus::fuzzing;
pub use corpus::{BrokenRecord, Corpus, CorpusError, CorpusSummary, OnBroken, Piece};
pub use cost::{ParameterCount, training_flops_per_token};
pub use export::{
    ExportError, HuggingFaceDtype, HuggingFaceExtras, SpecialIds, Unexportable, UnexportableVocabulary,
    gguf_tokenizer_json, hugging_face_config, tokenizer_json, vocabulary_gguf, write_hugging_face,
};
pub use learn_tokenizer::{
    LanguageShare, LearnTokenizer, LearntTokenizer, TokenizerProgress, TokenizerTrainingError,
    learn_tokenizer,
};
pub use model::{Model, TokenBatch, Untrainable};
pub use optimizer::{MatrixOptimizer, Optimizer, OptimizerSettings};
pub use parameters::{Parameters, ParametersError};
