//! How does a corpus become a model?
//!
//! [`Corpus`] finds the texts; [`learn_tokenizer`] makes a vocabulary of them, which other programs read as
//! [`tokenizer_json`] or in a model file ([`vocabulary_gguf`]); [`write_hugging_face`] writes a whole model for them.
//! [`Model`] goes forward and backward through an architecture of `weights`, with [`Parameters`] for its numbers and for
//! their gradients, which an [`Optimizer`] follows. [`prepare_data`] makes tokens of texts, a [`Training`] takes steps and
//! a [`Run`] all of them, in a folder of its own. [`plan`] says beforehand what that takes, [`eval`] afterwards how good
//! the model is.

mod batches;
mod chats;
mod checkpoint;
mod corpus;
mod cost;
mod data;
mod dial;
pub mod eval;
mod export;
mod frozen;
mod initial;
mod learn_tokenizer;
mod lessons;
mod lora;
mod merge;
mod model;
mod objective;
mod optimizer;
mod parameters;
pub mod plan;
mod preferences;
pub mod recipe;
mod rows;
mod run;
mod run_data;
mod run_file;
mod schedule;
#[cfg(test)]
mod test_support;
mod training;

pub use batches::{Batches, held_out_rows};
pub use checkpoint::{Checkpoint, CheckpointError, Header, LoopState, write_model};
#[cfg(any(test, fuzzing))]
pub use corpus::fuzzing;
pub use corpus::{BrokenRecord, Corpus, CorpusError, CorpusSummary, OnBroken, Piece};
pub use cost::{ParameterCount, training_flops_per_token, unmasked_flops_per_token};
#[cfg(any(test, fuzzing))]
pub use data::token_files;
pub use data::{
    Data, DataError, DataProgress, DataSource, DataSummary, PrepareData, SourceSummary, TokenFile,
    TokenFileError, UnknownLanguage, language_by_name, prepare_data,
};
pub use dial::{
    DecoderOptions, MAX_DEPTH, MAX_EPOCHS, decoder_shape, depth_for, n_product_weights, optimizer_for,
    schedule_for, step_tokens_for, tokens_for, vocab_size_for,
};
pub use export::{
    ExportError, HuggingFaceDtype, HuggingFaceExtras, SpecialIds, Unexportable, UnexportableVocabulary,
    gguf_tokenizer_json, hugging_face_config, tokenizer_json, vocabulary_gguf, write_hugging_face,
};
pub use frozen::Frozen;
pub use initial::initial_parameters;
pub use learn_tokenizer::{
    LanguageShare, LearnTokenizer, LearntTokenizer, TokenizerProgress, TokenizerTrainingError,
    learn_tokenizer,
};
pub use lessons::{
    FineTuning, LessonKind, Lessons, LessonsSummary, PrepareLessons, lessons_of_record, prepare_lessons,
};
pub use lora::{LoraSettings, UnknownTarget, lora_targets};
pub use merge::Merge;
pub use model::{Model, TokenBatch, Untrainable};
pub use objective::{Objective, Pretraining, Weighed};
pub use optimizer::{MatrixOptimizer, Optimizer, OptimizerSettings};
pub use parameters::{Parameters, ParametersError};
pub use preferences::{DEFAULT_BETA, Preferences, Reference};
pub use rows::Rows;
pub use run::{Ending, Event, Outcome, Prompt, Run, RunError};
pub use run_data::RunData;
pub use run_file::{ADAPTER_FILE, LOG_FILE, MODEL_FILE, RunFile, RunFileError, Stage};
pub use schedule::{Decay, Schedule};
pub use training::{Anomaly, Evaluation, LoopSettings, Products, StepReport, Training};
pub use whatlang::Lang as Language;
