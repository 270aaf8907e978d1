//! What was learnt, in the formats of other programs.

mod hugging_face;
mod hugging_face_config;
mod hugging_face_rope;
mod hugging_face_tensors;
mod tokenizer;

pub use hugging_face::{ExportError, HuggingFaceDtype, HuggingFaceExtras, SpecialIds, write_hugging_face};
pub use hugging_face_config::{Unexportable, hugging_face_config};
pub use tokenizer::{UnexportableVocabulary, gguf_tokenizer_json, tokenizer_json, vocabulary_gguf};
