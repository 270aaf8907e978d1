//! Why a readable file is not a model that can be run.

use crate::gguf::GgufError;

/// Why a model's facts or tensors will not do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key has another type than it must.
    #[error(transparent)]
    Value(#[from] GgufError),
    /// A key that must be there is not.
    #[error("metadata key \"{key}\" is missing; expected {expected}")]
    MissingKey {
        /// The key.
        key: String,
        /// What it would hold.
        expected: &'static str,
    },
    /// A key's value is not allowed.
    #[error("metadata key \"{key}\": expected {expected}, found {found}")]
    OutOfRange {
        /// The key.
        key: String,
        /// What is allowed.
        expected: String,
        /// What is there.
        found: String,
    },
    /// An architecture nobody wrote here.
    #[error("architecture {found} is not supported; supported are {supported}")]
    UnknownArchitecture {
        /// `general.architecture`, quoted.
        found: String,
        /// All that are.
        supported: String,
    },
    /// A known architecture with a feature nobody wrote here.
    #[error("{arch} model with {feature} (metadata key \"{key}\") is not supported")]
    UnsupportedFeature {
        /// The architecture.
        arch: &'static str,
        /// The feature.
        feature: &'static str,
        /// The key that asks for it.
        key: String,
    },
    /// A tensor that must be there is not.
    #[error("tensor \"{tensor}\" is missing; expected shape {expected:?}")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// Its shape, outermost first.
        expected: Vec<usize>,
    },
    /// A tensor has another shape than the metadata say.
    #[error("tensor \"{tensor}\": expected shape {expected:?}, found {found:?}")]
    TensorShape {
        /// The tensor.
        tensor: String,
        /// Its shape by the metadata, outermost first.
        expected: Vec<usize>,
        /// Its shape in the file.
        found: Vec<u64>,
    },
    /// A tensor has a number format that it cannot have.
    #[error("tensor \"{tensor}\": expected type {expected}, found {found}")]
    TensorType {
        /// The tensor.
        tensor: String,
        /// The formats that will do.
        expected: String,
        /// The format in the file.
        found: &'static str,
    },
    /// A tensor that the architecture has no use for: running without it would give wrong answers silently.
    #[error("tensor \"{tensor}\" ({found:?}) is none of the tensors of a {arch} model")]
    UnexpectedTensor {
        /// The tensor, quoted.
        tensor: String,
        /// Its shape.
        found: Vec<u64>,
        /// The architecture.
        arch: &'static str,
    },
}
