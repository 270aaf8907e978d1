//! What can go wrong: while loading, while accepting a request, while answering.

use std::sync::Arc;

use crate::request::TokenId;

/// Why a model could not be loaded, or why an accepted request failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// The file's tensors do not fit the architecture, or one is missing.
    #[error("{0}")]
    Tensors(Arc<weights::ConfigError>),
    /// An adapter does not fit the model.
    #[error("{0}")]
    Adapter(Arc<weights::AdapterError>),
    /// A tensor could not be repacked.
    #[error("tensor {tensor}: {source}")]
    Kernel {
        /// The tensor's name.
        tensor: String,
        /// What the kernels said.
        source: kernels::KernelError,
    },
    /// The pool of computing threads could not be made.
    #[error("{0}")]
    Threads(kernels::KernelError),
    /// A weight is NaN or infinite.
    #[error("tensor {tensor} holds a value that is not finite; the file is damaged, fetch it again")]
    NonFiniteWeights {
        /// The tensor's name.
        tensor: String,
    },
    /// The first forward pass gave NaN or infinity.
    #[error("the model computes values that are not finite; the file is damaged or its metadata wrong")]
    BrokenModel,
    /// The logits of this sequence are not finite.
    #[error("the model gave a value that is not finite at position {position}")]
    NonFiniteLogits {
        /// The token's position in the sequence.
        position: usize,
    },
    /// Bias, constraint and stop rules together forbid every token.
    #[error("no token is allowed at position {position}")]
    NothingAllowed {
        /// The token's position in the sequence.
        position: usize,
    },
    /// The request's constraint failed.
    #[error("the constraint on this answer failed at position {position}: {reason}")]
    ConstraintFailed {
        /// The token's position in the sequence.
        position: usize,
        /// Its own words.
        reason: String,
    },
    /// The pool of keys and values cannot hold one full context.
    #[error(
        "a context of {max_seq_len} tokens needs {needed} bytes of KV memory, given {given}; \
         raise --kv-memory or lower --ctx to at most {fits}"
    )]
    KvMemoryTooSmall {
        /// The context asked for.
        max_seq_len: usize,
        /// Bytes that it needs.
        needed: u64,
        /// Bytes given.
        given: u64,
        /// The longest context that the given bytes hold.
        fits: usize,
    },
    /// The context asked for is longer than the model can address.
    #[error("a context of {asked} tokens was asked for, the model knows {max_seq_len} positions")]
    ContextTooLong {
        /// The context asked for.
        asked: usize,
        /// What the model's learned positions allow.
        max_seq_len: usize,
    },
    /// A setting of the engine is out of its range.
    #[error("{field} must be at least 1")]
    BadConfig {
        /// The field of `EngineConfig`.
        field: &'static str,
    },
    /// The operating system gave no thread.
    #[error("the engine's thread could not be started: {reason}")]
    NoThread {
        /// What the system said.
        reason: String,
    },
    /// The engine was shut down.
    #[error("the engine was shut down")]
    Stopped,
    /// The engine's thread panicked; the engine answers no more.
    #[error("the engine failed and must be started again: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// Why a request was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full.
    #[error("the queue is full; try again in {retry_after_s} s")]
    QueueFull {
        /// When it may be worth trying again.
        retry_after_s: u64,
    },
    /// The prompt leaves no room for an answer.
    #[error("the prompt has {n_prompt} tokens, the context holds {max_seq_len} with the answer")]
    PromptTooLong {
        /// Tokens in the prompt.
        n_prompt: usize,
        /// Tokens that the context holds.
        max_seq_len: usize,
    },
    /// The prompt is empty.
    #[error("the prompt has no tokens, expected at least one")]
    EmptyPrompt,
    /// A token id is beyond the vocabulary.
    #[error("token id {id} in {place} is beyond the vocabulary of {vocab_size}")]
    BadToken {
        /// The id.
        id: TokenId,
        /// Where it stands: `prompt`, `logit_bias` or `stop_ids`.
        place: &'static str,
        /// Tokens in the vocabulary.
        vocab_size: usize,
    },
    /// A sampling setting is out of its range.
    #[error("{field} is {found}, expected {expected}")]
    BadParams {
        /// The setting.
        field: &'static str,
        /// Its value.
        found: f64,
        /// The values it may take.
        expected: &'static str,
    },
    /// The engine does not run any more.
    #[error(transparent)]
    Stopped(#[from] EngineError),
}
