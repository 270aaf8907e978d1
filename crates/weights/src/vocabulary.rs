//! The tokenizer's raw material in a file: tokens, merges, scores, kinds and special ids, borrowed as they stand.
//!
//! No rule of tokenization is known here; only that the parallel lists are equally long.

use crate::gguf::{Gguf, GgufError};

/// The keys `tokenizer.*` of a file.
#[derive(Clone, Debug, Default)]
pub struct VocabularyMetadata<'a> {
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece) …
    pub model: Option<&'a str>,
    /// `tokenizer.ggml.pre`: the pre-tokenizer's name, e.g. `smollm`.
    pub pre: Option<&'a str>,
    /// `tokenizer.ggml.tokens`: the text of every token; not promised to be UTF-8.
    pub tokens: Vec<&'a [u8]>,
    /// `tokenizer.ggml.token_type`, one per token: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.scores`, one per token.
    pub scores: Option<Vec<f32>>,
    /// `tokenizer.ggml.merges`: two texts with a space between, best first.
    pub merges: Option<Vec<&'a [u8]>>,
    /// `tokenizer.ggml.bos_token_id`
    pub bos_token_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`
    pub eos_token_id: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`: end of a turn.
    pub eot_token_id: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`: end of a message.
    pub eom_token_id: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`
    pub unknown_token_id: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`
    pub padding_token_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`
    pub add_bos_token: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`
    pub add_eos_token: Option<bool>,
    /// `tokenizer.ggml.add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.ggml.remove_extra_whitespaces`
    pub remove_extra_whitespaces: Option<bool>,
    /// `tokenizer.chat_template`: Jinja source.
    pub chat_template: Option<&'a [u8]>,
    /// `tokenizer.chat_template.NAME`: further templates by name, e.g. `tool_use`.
    pub named_chat_templates: Vec<(&'a str, &'a [u8])>,
}

/// Collects a file's vocabulary. A file without one gives an empty `tokens`.
pub fn vocabulary_metadata(gguf: &Gguf) -> Result<VocabularyMetadata<'_>, GgufError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let id = |name: &str| gguf.get_u32(&key(name));
    let flag = |name: &str| gguf.get_bool(&key(name));
    let tokens = gguf.get_array_bytes(&key("tokens"))?.unwrap_or_default();
    let token_types = gguf.get_array_i32(&key("token_type"))?;
    let scores = gguf.get_array_f32(&key("scores"))?;
    check_length("token_type", token_types.as_ref().map(Vec::len), tokens.len())?;
    check_length("scores", scores.as_ref().map(Vec::len), tokens.len())?;
    let mut named_chat_templates = Vec::new();
    for (name, _) in gguf.metadata() {
        let Some(name) = name.as_str() else { continue };
        if let Some(short) = name.strip_prefix("tokenizer.chat_template.") {
            named_chat_templates.extend(gguf.get_bytes(name)?.map(|template| (short, template)));
        }
    }
    Ok(VocabularyMetadata {
        model: gguf.get_str(&key("model"))?,
        pre: gguf.get_str(&key("pre"))?,
        tokens,
        token_types,
        scores,
        merges: gguf.get_array_bytes(&key("merges"))?,
        bos_token_id: id("bos_token_id")?,
        eos_token_id: id("eos_token_id")?,
        eot_token_id: id("eot_token_id")?,
        eom_token_id: id("eom_token_id")?,
        unknown_token_id: id("unknown_token_id")?,
        padding_token_id: id("padding_token_id")?,
        add_bos_token: flag("add_bos_token")?,
        add_eos_token: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
        chat_template: gguf.get_bytes("tokenizer.chat_template")?,
        named_chat_templates,
    })
}

fn check_length(name: &str, found: Option<usize>, n_tokens: usize) -> Result<(), GgufError> {
    match found {
        Some(found) if found != n_tokens => Err(GgufError::ValueType {
            key: format!("\"tokenizer.ggml.{name}\""),
            expected: "one item per token",
            found: format!("{found} items for {n_tokens} tokens"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::{Array, Value};
    use crate::tiny_model::TinyModel;

    #[test]
    fn the_lists_and_ids_of_a_tokenizer_come_out_as_they_stand() {
        let mut model = TinyModel::llama();
        let tokens: [&[u8]; 3] = [b"a", b"\xff\xfe", b""];
        model.set("tokenizer.ggml.tokens", Value::Array(Array::from_strings(tokens)));
        model.set("tokenizer.ggml.token_type", Value::Array(Array::from_i32s(&[1, 3, 6])));
        model.set("tokenizer.ggml.scores", Value::Array(Array::from_f32s(&[0.0, -1.0, 2.5])));
        model.set("tokenizer.ggml.merges", Value::Array(Array::from_strings(["a b"])));
        model.set("tokenizer.ggml.model", Value::from_text("gpt2"));
        model.set("tokenizer.ggml.bos_token_id", Value::U32(2));
        model.set("tokenizer.ggml.add_bos_token", Value::Bool(true));
        model.set("tokenizer.chat_template", Value::from_text("{{ messages }}"));
        model.set("tokenizer.chat_template.tool_use", Value::from_text("{{ tools }}"));
        let gguf = model.build();
        let found = vocabulary_metadata(&gguf).unwrap();
        assert_eq!(found.tokens, tokens);
        assert_eq!(found.token_types.unwrap(), [1, 3, 6]);
        assert_eq!(found.scores.unwrap(), [0.0, -1.0, 2.5]);
        assert_eq!(found.merges.unwrap(), [b"a b"]);
        assert_eq!((found.model, found.pre), (Some("gpt2"), None));
        assert_eq!((found.bos_token_id, found.eos_token_id), (Some(2), None));
        assert_eq!((found.add_bos_token, found.add_eos_token), (Some(true), None));
        assert_eq!(found.chat_template, Some(&b"{{ messages }}"[..]));
        assert_eq!(found.named_chat_templates, [("tool_use", &b"{{ tools }}"[..])]);
    }

    #[test]
    fn lists_of_different_lengths_are_refused() {
        let mut model = TinyModel::llama();
        model.set("tokenizer.ggml.scores", Value::Array(Array::from_f32s(&[0.0; 9])));
        let gguf = model.build();
        let error = vocabulary_metadata(&gguf).unwrap_err().to_string();
        assert_eq!(
            error,
            "metadata key \"tokenizer.ggml.scores\": expected one item per token, found 9 items for 10 tokens"
        );
    }

    #[test]
    fn a_file_without_a_vocabulary_has_no_tokens() {
        let mut model = TinyModel::llama();
        model.unset("tokenizer.ggml.tokens");
        let gguf = model.build();
        assert!(vocabulary_metadata(&gguf).unwrap().tokens.is_empty());
    }
}
