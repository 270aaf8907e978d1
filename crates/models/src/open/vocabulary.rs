//! A file's vocabulary → the tokenizer's plain one, with every special id checked.

use tokenizer::{TokenKind, Tokenizer, Vocabulary, VocabularyKind};
use weights::VocabularyMetadata;

use super::error::OpenProblem;

/// Builds the tokenizer that `metadata` describes, of a model whose embedding matrix has `n_rows` rows.
pub(super) fn tokenizer(metadata: &VocabularyMetadata<'_>, n_rows: usize) -> Result<Tokenizer, OpenProblem> {
    if metadata.tokens.is_empty() {
        return Err(OpenProblem::NoVocabulary);
    }
    let kind = match metadata.model {
        Some("gpt2") => VocabularyKind::Bpe,
        Some("llama") => VocabularyKind::Spm,
        other => {
            let found = other.map_or_else(|| "of no named kind".to_string(), |name| format!("{name:?}"));
            return Err(OpenProblem::TokenizerKind { found });
        }
    };
    // The embedding matrix may have more rows than there are tokens (padding), never fewer.
    let n_tokens = metadata.tokens.len().min(n_rows);
    for (name, id) in [
        ("tokenizer.ggml.bos_token_id", metadata.bos_token_id),
        ("tokenizer.ggml.eos_token_id", metadata.eos_token_id),
        ("tokenizer.ggml.eot_token_id", metadata.eot_token_id),
        ("tokenizer.ggml.eom_token_id", metadata.eom_token_id),
        ("tokenizer.ggml.unknown_token_id", metadata.unknown_token_id),
        ("tokenizer.ggml.padding_token_id", metadata.padding_token_id),
    ] {
        if let Some(id) = id.filter(|&id| id as usize >= n_tokens) {
            return Err(OpenProblem::SpecialId { name, id, n_tokens });
        }
    }
    let mut vocabulary = Vocabulary::new(kind, metadata.tokens.clone());
    vocabulary.pre = metadata.pre.map(str::to_string);
    vocabulary.kinds = metadata.token_types.iter().flatten().map(|&ty| TokenKind::from_ggml_id(ty)).collect();
    vocabulary.scores = metadata.scores.clone().unwrap_or_default();
    vocabulary.merges = metadata.merges.clone().unwrap_or_default();
    vocabulary.bos = metadata.bos_token_id;
    vocabulary.eos = metadata.eos_token_id;
    vocabulary.eot = metadata.eot_token_id;
    vocabulary.eom = metadata.eom_token_id;
    vocabulary.unk = metadata.unknown_token_id;
    vocabulary.pad = metadata.padding_token_id;
    vocabulary.add_bos = metadata.add_bos_token;
    vocabulary.add_eos = metadata.add_eos_token;
    vocabulary.add_space_prefix = metadata.add_space_prefix;
    Ok(Tokenizer::new(&vocabulary)?)
}
