//! Why a file cannot be run.

use std::path::PathBuf;

use tokenizer::{TemplateError, TokenId, TokenizerError};
use weights::{AdapterError, ConfigError, GgufError};

/// A file that was not opened, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}", error_text(path, problem))]
pub struct OpenError {
    /// The (first) file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Box<OpenProblem>,
}

/// The file's errors name the file themselves.
fn error_text(path: &std::path::Path, problem: &OpenProblem) -> String {
    match problem {
        OpenProblem::Gguf(error) => error.to_string(),
        OpenProblem::Adapter(error) => error.to_string(),
        other => format!("{}: {other}", path.display()),
    }
}

/// What is wrong with a model file.
#[derive(Debug, thiserror::Error)]
pub enum OpenProblem {
    /// It is no readable GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its architecture cannot be run, or its metadata or tensors do not fit it.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An adapter is none, or not for this model.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// Its tokenizer is of a kind that is not supported.
    #[error(
        "tokenizer {found} is not supported; supported are gpt2 (byte-level BPE) and llama (SentencePiece)"
    )]
    TokenizerKind {
        /// `tokenizer.ggml.model`.
        found: String,
    },
    /// It has no vocabulary.
    #[error(
        "the file holds no vocabulary (metadata key \"tokenizer.ggml.tokens\"): expected a language model"
    )]
    NoVocabulary,
    /// Its vocabulary cannot be used.
    #[error("vocabulary: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// A special token points past the vocabulary.
    #[error("{name} is {id}, past the end of the vocabulary of {n_tokens} tokens")]
    SpecialId {
        /// Which.
        name: &'static str,
        /// Its id.
        id: TokenId,
        /// Length of the vocabulary.
        n_tokens: usize,
    },
    /// A template does not compile or does not render.
    #[error("{whose} chat template cannot be used: {error}; give another with --chat-template FILE")]
    Template {
        /// The model's own, or the given one.
        whose: &'static str,
        /// What is wrong.
        error: TemplateError,
    },
    /// The template is not text.
    #[error("the model's own chat template is not UTF-8; give another with --chat-template FILE")]
    TemplateNotText,
    /// The template drops what the user says.
    #[error("the chat template leaves out what the user says; give another with --chat-template FILE")]
    TemplateLosesText,
    /// Its tokenizer gives other ids than the catalog knows.
    #[error(
        "not the model {name} of the catalog: {text:?} gives the token ids {found:?}, expected {expected:?}; remove the file and pull it again"
    )]
    Probe {
        /// The catalog's name.
        name: String,
        /// The text.
        text: String,
        /// What the catalog says.
        expected: Vec<TokenId>,
        /// What the file gives.
        found: Vec<TokenId>,
    },
}

impl OpenProblem {
    /// Word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            OpenProblem::Gguf(_) => "bad_model_file",
            OpenProblem::Config(
                ConfigError::UnknownArchitecture { .. } | ConfigError::UnsupportedFeature { .. },
            ) => "unsupported_architecture",
            OpenProblem::Config(_) => "bad_model_file",
            OpenProblem::Adapter(_) => "bad_adapter",
            OpenProblem::TokenizerKind { .. } => "unsupported_tokenizer",
            OpenProblem::NoVocabulary | OpenProblem::Tokenizer(_) | OpenProblem::SpecialId { .. } => {
                "bad_vocabulary"
            }
            OpenProblem::Template { .. } | OpenProblem::TemplateNotText | OpenProblem::TemplateLosesText => {
                "bad_chat_template"
            }
            OpenProblem::Probe { .. } => "wrong_model",
        }
    }
}
