//! What was learnt, in the formats of other programs.

use serde_json::{Map, Value as Json, json};
use tokenizer::{PreTokenizerFacts, TrainedBpe, pre_tokenizer_facts};
use weights::{Array, GgufError, GgufWriter, Value};

/// `tokenizer.ggml.token_type` of text and of structure.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// The vocabulary as `tokenizer.json`, which the crate `tokenizers` and all that stands on it read.
#[must_use]
pub fn tokenizer_json(bpe: &TrainedBpe) -> Json {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let PreTokenizerFacts { expressions, nfc, ignore_merges } =
        pre_tokenizer_facts(bpe.pre()).expect("a vocabulary is learnt with a pre-tokenizer that is known");
    let mut stages: Vec<Json> = expressions
        .into_iter()
        .map(|regex| {
            json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false })
        })
        .collect();
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false });
    stages.push(byte_level.clone());
    let vocab: Map<String, Json> =
        bpe.tokens().iter().enumerate().map(|(id, token)| (text(token), json!(id))).collect();
    let merges: Vec<Json> =
        bpe.merges().iter().map(|merge| json!(text(merge).split(' ').collect::<Vec<_>>())).collect();
    let added: Vec<Json> = bpe.tokens()[..bpe.n_special()]
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({
                "id": id, "content": text(token), "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": nfc.then(|| json!({ "type": "NFC" })),
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": stages },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": ignore_merges,
            "vocab": vocab,
            "merges": merges,
        },
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
