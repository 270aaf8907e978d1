//! A vocabulary for other programs: `tokenizer.json`, or a model file without tensors.

use serde_json::{Map, Value as Json, json};
use tokenizer::{PreTokenizerFacts, TokenKind, Tokenizer, TrainedBpe, pre_tokenizer_facts};
use weights::{Array, GgufError, GgufWriter, Value, VocabularyMetadata};

/// `tokenizer.ggml.token_type` of text and of structure.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// The pre-tokenizer of files that name none.
const DEFAULT_PRE: &str = "default";

/// Why a file's vocabulary has no `tokenizer.json`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnexportableVocabulary {
    /// There are no tokens.
    #[error("the file has no vocabulary")]
    Missing,
    /// Not byte-level BPE.
    #[error("the vocabulary is of the kind {found:?}; only byte-level BPE (\"gpt2\") can be written")]
    Kind {
        /// `tokenizer.ggml.model`.
        found: String,
    },
    /// How text is cut into words is not known.
    #[error(
        "how the pre-tokenizer {found:?} cuts text is not known as regular expressions for byte-level BPE"
    )]
    PreTokenizer {
        /// `tokenizer.ggml.pre`.
        found: String,
    },
    /// A token or a merge that JSON cannot hold.
    #[error("{what} {idx} is not UTF-8")]
    NotText {
        /// `token` or `merge`.
        what: &'static str,
        /// Its number.
        idx: usize,
    },
    /// Two tokens with one text.
    #[error("the text {text:?} belongs to two tokens")]
    Repeated {
        /// The text.
        text: String,
    },
}

/// The vocabulary as `tokenizer.json`, which the crate `tokenizers` and all that stands on it read.
#[must_use]
pub fn tokenizer_json(bpe: &TrainedBpe) -> Json {
    let tokens = texts("token", bpe.tokens().iter().map(Vec::as_slice));
    let merges = texts("merge", bpe.merges().iter().map(Vec::as_slice));
    let parts = tokens.and_then(|tokens| {
        let facts = facts(bpe.pre())?;
        let roles = (0..tokens.len()).map(|id| if id < bpe.n_special() { Role::Special } else { Role::Text });
        Ok(Parts { roles: roles.collect(), tokens, merges: merges?, facts, bos: None })
    });
    parts
        .and_then(|parts| parts.json())
        .expect("what was learnt is byte-level BPE with a text for each token")
}

/// The vocabulary of a model file as `tokenizer.json`; `tokenizer` is what was made of it, which knows what the file's
/// kinds of tokens leave open.
///
/// # Errors
/// Where it is not byte-level BPE, or cannot be said in that format.
pub fn gguf_tokenizer_json(
    metadata: &VocabularyMetadata<'_>,
    tokenizer: &Tokenizer,
) -> Result<Json, UnexportableVocabulary> {
    match metadata.model {
        Some("gpt2") if !metadata.tokens.is_empty() => {}
        Some("gpt2" | "none") | None => return Err(UnexportableVocabulary::Missing),
        Some(found) => return Err(UnexportableVocabulary::Kind { found: found.to_owned() }),
    }
    let kinds = metadata.token_types.as_deref().unwrap_or_default();
    let role = |id: usize| match kinds.get(id).map(|&kind| TokenKind::from_ggml_id(kind)) {
        _ if tokenizer.is_control(id as u32) => Role::Special,
        Some(TokenKind::UserDefined) => Role::Added,
        Some(TokenKind::Unused) => Role::Reserved,
        _ => Role::Text,
    };
    Parts {
        tokens: texts("token", metadata.tokens.iter().copied())?,
        roles: (0..metadata.tokens.len()).map(role).collect(),
        merges: texts("merge", metadata.merges.iter().flatten().copied())?,
        facts: facts(metadata.pre.unwrap_or(DEFAULT_PRE))?,
        bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()),
    }
    .json()
}

fn texts<'a>(
    what: &'static str,
    bytes: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<&'a str>, UnexportableVocabulary> {
    let text =
        |(idx, bytes)| std::str::from_utf8(bytes).map_err(|_| UnexportableVocabulary::NotText { what, idx });
    bytes.enumerate().map(text).collect()
}

fn facts(pre: &str) -> Result<PreTokenizerFacts, UnexportableVocabulary> {
    let known = pre_tokenizer_facts(pre).filter(|facts| facts.byte_level);
    known.ok_or_else(|| UnexportableVocabulary::PreTokenizer { found: pre.to_owned() })
}

/// What a token is to `tokenizers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// What merges make.
    Text,
    /// Found in the text before anything is merged.
    Added,
    /// Likewise, and left out of decoded text.
    Special,
    /// A row without a text.
    Reserved,
}

/// A byte-level BPE vocabulary.
struct Parts<'a> {
    tokens: Vec<&'a str>,
    /// One for each token.
    roles: Vec<Role>,
    /// `left right`
    merges: Vec<&'a str>,
    facts: PreTokenizerFacts,
    /// What is set before every text.
    bos: Option<u32>,
}

impl Parts<'_> {
    fn json(&self) -> Result<Json, UnexportableVocabulary> {
        let tokens = || (0u32..).zip(self.tokens.iter().zip(&self.roles));
        let mut vocab = Map::new();
        for (id, (&text, _)) in tokens().filter(|(_, (_, role))| **role != Role::Reserved) {
            if vocab.insert(text.to_owned(), json!(id)).is_some() {
                return Err(UnexportableVocabulary::Repeated { text: text.to_owned() });
            }
        }
        let merges = self.pairs(&vocab);
        let added = tokens().filter(|(_, (_, role))| matches!(role, Role::Added | Role::Special));
        let added: Vec<Json> = added
            .map(|(id, (text, role))| {
                json!({
                    "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": *role == Role::Special,
                })
            })
            .collect();
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false,
        });
        let mut stages: Vec<Json> = (self.facts.expressions.iter())
            .map(|regex| {
                json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false })
            })
            .collect();
        stages.push(byte_level.clone());
        Ok(json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": self.facts.nfc.then(|| json!({ "type": "NFC" })),
            "pre_tokenizer": { "type": "Sequence", "pretokenizers": stages },
            "post_processor": self.bos.map(|bos| bos_first(bos, self.tokens[bos as usize])),
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": self.facts.ignore_merges,
                "vocab": vocab,
                "merges": merges,
            },
        }))
    }

    /// The merges as pairs. One whose tokens are not there would be an error to `tokenizers`; it can never apply.
    fn pairs(&self, vocab: &Map<String, Json>) -> Vec<Json> {
        let pairs = self.merges.iter().filter_map(|merge| merge.split_once(' '));
        pairs
            .filter(|(left, right)| {
                vocab.contains_key(*left)
                    && vocab.contains_key(*right)
                    && vocab.contains_key(&format!("{left}{right}"))
            })
            .map(|(left, right)| json!([left, right]))
            .collect()
    }
}

/// The post-processor that sets a token before every text.
fn bos_first(id: u32, text: &str) -> Json {
    let token = json!({ "SpecialToken": { "id": text, "type_id": 0 } });
    let sequence = |name: &str, type_id: u32| json!({ "Sequence": { "id": name, "type_id": type_id } });
    let special: Map<String, Json> =
        [(text.to_owned(), json!({ "id": text, "ids": [id], "tokens": [text] }))].into_iter().collect();
    json!({
        "type": "TemplateProcessing",
        "single": [token, sequence("A", 0)],
        "pair": [token, sequence("A", 0), sequence("B", 1)],
        "special_tokens": special,
    })
}

/// A model file with the vocabulary and no tensors.
///
/// # Errors
/// Where the writer refuses a key, which none of these is.
pub fn vocabulary_gguf(bpe: &TrainedBpe) -> Result<GgufWriter<'_>, GgufError> {
    let kinds: Vec<i32> =
        (0..bpe.tokens().len()).map(|id| if id < bpe.n_special() { CONTROL } else { NORMAL }).collect();
    let mut writer = GgufWriter::new(32)?;
    writer.set("general.type", Value::from_text("vocab"))?;
    writer.set("general.architecture", Value::from_text("llama"))?;
    writer.set("tokenizer.ggml.model", Value::from_text("gpt2"))?;
    writer.set("tokenizer.ggml.pre", Value::from_text(bpe.pre()))?;
    writer.set("tokenizer.ggml.tokens", Value::Array(Array::from_strings(bpe.tokens())))?;
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::from_i32s(&kinds)))?;
    writer.set("tokenizer.ggml.merges", Value::Array(Array::from_strings(bpe.merges())))?;
    writer.set("tokenizer.ggml.add_bos_token", Value::Bool(false))?;
    if bpe.n_special() > 0 {
        writer.set("tokenizer.ggml.bos_token_id", Value::U32(0))?;
        writer.set("tokenizer.ggml.eos_token_id", Value::U32(0))?;
    }
    if let Some(id) = bpe.tokens()[..bpe.n_special()].iter().position(|token| token == b"<|im_end|>") {
        writer.set("tokenizer.ggml.eot_token_id", Value::U32(id as u32))?;
    }
    Ok(writer)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokenizer::{BpeTraining, Vocabulary, VocabularyKind, WordCounts};
    use weights::{Gguf, vocabulary_metadata};

    use super::*;

    fn tokenizer(metadata: &VocabularyMetadata<'_>) -> Tokenizer {
        let mut vocabulary = Vocabulary::new(VocabularyKind::Bpe, metadata.tokens.clone());
        vocabulary.pre = metadata.pre.map(str::to_owned);
        let kinds = metadata.token_types.iter().flatten();
        vocabulary.kinds = kinds.map(|&kind| TokenKind::from_ggml_id(kind)).collect();
        vocabulary.merges = metadata.merges.clone().unwrap_or_default();
        (vocabulary.bos, vocabulary.eos) = (metadata.bos_token_id, metadata.eos_token_id);
        vocabulary.add_bos = metadata.add_bos_token;
        Tokenizer::new(&vocabulary).unwrap()
    }

    fn metadata<'a>() -> VocabularyMetadata<'a> {
        let tokens: [&[u8]; 7] = [b"<s>", b"a", b"b", b"ab", b"<think>", b"[PAD6]", b"<|end|>"];
        VocabularyMetadata {
            model: Some("gpt2"),
            pre: Some("llama-bpe"),
            tokens: tokens.to_vec(),
            token_types: Some(vec![3, 1, 1, 1, 4, 5, 1]),
            merges: Some(vec![b"a b", b"ab c"]),
            bos_token_id: Some(0),
            eos_token_id: Some(6),
            ..VocabularyMetadata::default()
        }
    }

    #[test]
    fn every_kind_of_token_has_its_place() {
        let metadata = metadata();
        let json = gguf_tokenizer_json(&metadata, &tokenizer(&metadata)).unwrap();
        let model = &json["model"];
        assert_eq!(model["vocab"], json!({ "<s>": 0, "a": 1, "b": 2, "ab": 3, "<think>": 4, "<|end|>": 6 }));
        assert_eq!(model["merges"], json!([["a", "b"]]), "a merge without its tokens is left out");
        assert_eq!(model["ignore_merges"], true);
        let added = json["added_tokens"].as_array().unwrap().iter();
        let added: Vec<_> =
            added.map(|token| (token["id"].as_u64().unwrap(), token["special"] == true)).collect();
        assert_eq!(added, [(0, true), (4, false), (6, true)], "the end is structure whatever the file says");
        assert_eq!(json["post_processor"]["special_tokens"]["<s>"]["ids"], json!([0]));
        assert_eq!(json["normalizer"], Json::Null);
    }

    #[test]
    fn what_is_learnt_and_what_is_read_back_is_the_same_file() {
        let mut counts = WordCounts::new("qwen2").unwrap();
        counts.add(b"the cat and the other cat, the rat and that hat");
        let special_tokens = vec!["<|endoftext|>".to_owned(), "<|im_end|>".to_owned()];
        let training = BpeTraining { vocab_size: 270, special_tokens, min_count: 2 };
        let bpe = training.train(&counts, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.gguf");
        vocabulary_gguf(&bpe).unwrap().write_to(&path).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let metadata = vocabulary_metadata(&gguf).unwrap();
        let json = gguf_tokenizer_json(&metadata, &tokenizer(&metadata)).unwrap();
        assert_eq!(json, tokenizer_json(&bpe));
        assert_eq!(json["model"]["merges"].as_array().unwrap().len(), bpe.merges().len());
    }

    #[test]
    fn what_is_no_byte_level_bpe_is_refused_with_its_reason() {
        let tokenizer = tokenizer(&metadata());
        let refused = |change: fn(&mut VocabularyMetadata<'_>)| {
            let mut metadata = metadata();
            change(&mut metadata);
            gguf_tokenizer_json(&metadata, &tokenizer).unwrap_err()
        };
        let kind = UnexportableVocabulary::Kind { found: "llama".into() };
        assert_eq!(refused(|metadata| metadata.model = Some("llama")), kind);
        assert_eq!(refused(|metadata| metadata.model = Some("none")), UnexportableVocabulary::Missing);
        let not_text = UnexportableVocabulary::NotText { what: "token", idx: 2 };
        assert_eq!(refused(|metadata| metadata.tokens[2] = b"\xff"), not_text);
        let repeated = UnexportableVocabulary::Repeated { text: "a".into() };
        assert_eq!(refused(|metadata| metadata.tokens[2] = b"a"), repeated);
        for pre in ["unheard-of", "gemma4"] {
            let mut metadata = metadata();
            metadata.pre = Some(pre);
            let error = gguf_tokenizer_json(&metadata, &tokenizer).unwrap_err();
            assert_eq!(error, UnexportableVocabulary::PreTokenizer { found: pre.into() });
        }
    }
}
