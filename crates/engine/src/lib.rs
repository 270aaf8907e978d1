//! Which token comes next, for everyone at once?
//!
//! A loaded model (`Engine`) takes requests (`Generate`) of many callers and answers each with a
//! stream of `Event`s. One thread owns the model: every step it computes the next token of all
//! running answers and a slice of the prompts that wait (`worker`, `scheduler`), over keys and
//! values in pages that sequences with the same prefix share (`pages`).
//!
//! The crate knows token ids only: no text, no HTTP, no users. A row's result does not depend on
//! what else is in the batch, on how its prompt was cut, or on whether its prefix was cached.

mod engine;
mod error;
mod request;
mod stats;

mod scheduler;
mod sequence;
mod worker;

mod batch;
mod context_plan;
mod deltas;
mod forward;
mod loading;
mod model;

mod drafting;
mod drawing;
mod masking;
mod pages;
mod profile;
mod random;
mod sampler;
mod saved;
mod saving;

mod evaluation;

pub use context_plan::{ContextPlan, ContextWish};
pub use drafting::PromptLookup;
pub use engine::{Engine, EngineConfig};
pub use error::{EngineError, SubmitError};
pub use evaluation::{
    Divergence, DivergenceReport, Estimate, LogitsFileError, LogitsHeader, LogitsReader, LogitsRow,
    LogitsWriter, Perplexity, Windows,
};
pub use kernels::Isa;
pub use loading::{LoadProgress, kv_bytes_per_token, weight_type};
pub use profile::{Phase, PhaseCost, Profile};
pub use request::{
    BitMask, Constraint, Event, FinishReason, Generate, Generation, MAX_LOGPROBS, OnRow, SamplingParams,
    Timings, TokenId,
};
pub use saved::{Keep, SavedPrefixes};
pub use stats::EngineStats;
