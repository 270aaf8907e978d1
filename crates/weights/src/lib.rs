//! What is in this model file, and what is this architecture?
//!
//! A GGUF file enters (one file or its parts), checked metadata, tensor bytes and a [`ModelConfig`] leave.
//! The crate reads and writes bytes; it does no arithmetic on weights.

mod mmap;

mod tensor_type;

mod atomic_file;
mod gguf;

mod vocabulary;

mod architecture;
mod config;
mod tensors;

mod adapter;
mod importance;
mod quant_mix;

mod memory;

#[cfg(test)]
mod tiny_model;

pub use adapter::{
    Adapter, AdapterError, FittedPair, LoraPair, LoraTensor, MAX_RANK, ScaledAdapter, adapter_metadata,
    lora_tensors,
};
pub use architecture::Architecture;
pub use atomic_file::{AtomicFile, sync_folder_of};
pub use config::{
    Activation, ConfigError, DecoderShape, FfnKind, LayerConfig, LayerRope, ModelConfig, NormConfig,
    NormKind, NormPlace, QkNorm, RopeConfig, RopePairing, RopeScaling,
};
pub use gguf::{
    Array, Damage, Gguf, GgufError, GgufStream, GgufWriter, LooksLike, MetadataKey, Subject, TensorInfo,
    Value, ValueType, limits,
};
pub use importance::{ImportanceError, ImportanceMatrix};
pub use memory::{MemoryNeed, memory_need};
pub use mmap::FileMap;
pub use quant_mix::{FileType, MixFacts};
pub use tensor_type::{TensorKind, TensorType};
pub use tensors::{TensorRole, TensorSpec, check_tensors, tensor_specs};
pub use vocabulary::{VocabularyMetadata, vocabulary_metadata};
