//! Why a model could not be evaluated.

use tokenizer::{LessonError, TemplateError};

use crate::CorpusError;

/// Why a model could not be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A file of records.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A file that holds none.
    #[error("{0}: no record that asks something; every one is an example, or the file is empty")]
    NothingToAsk(String),
    /// More examples than there are.
    #[error("{task}: {wanted} examples are wanted before each question, there are {found} to choose from")]
    TooFewExamples {
        /// The task.
        task: String,
        /// How many were asked for.
        wanted: usize,
        /// How many there are beside the question.
        found: usize,
    },
    /// The context has no room for an answer.
    #[error(
        "{task}: an answer may have {max_tokens} tokens, which leaves no room for the question in {max_len}; take a larger --ctx"
    )]
    NoRoom {
        /// The task.
        task: String,
        /// Tokens of an answer at most.
        max_tokens: usize,
        /// Tokens in all.
        max_len: usize,
    },
    /// The vocabulary has no token to begin a text with.
    #[error("{0}: the vocabulary has neither a first nor a last token, so nothing can stand before a text")]
    NoFirstToken(String),
    /// A question that the chat template does not take.
    #[error("{task}, question {number}: {source}")]
    Template {
        /// The task.
        task: String,
        /// Counted from 1.
        number: usize,
        /// The template's words.
        source: TemplateError,
    },
    /// An answer that the chat template does not take.
    #[error("{task}, question {number}: {source}")]
    Answer {
        /// The task.
        task: String,
        /// Counted from 1.
        number: usize,
        /// The template's words.
        source: LessonError,
    },
    /// Two results that cannot be held against each other.
    #[error("{task}: the other results come from {what}, so they cannot be compared item by item")]
    NotTheSame {
        /// The task.
        task: String,
        /// What differs.
        what: &'static str,
    },
    /// What computes failed.
    #[error("{0}")]
    Model(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The caller wants no more.
    #[error("the evaluation was stopped")]
    Stopped,
}
