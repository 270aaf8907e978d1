//! Opening models: a tiny one made here with each thing wrong in turn, and the real default model.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use weights::{Array, GgufWriter, TensorType, Value};

use super::*;
use crate::catalog::Probe;
use crate::library::Library;

const N_EMBD: u64 = 32;
const N_FF: u64 = 64;

/// A llama of one layer with a vocabulary of single bytes and the ChatML tokens, all weights zero.
struct Tiny {
    metadata: Vec<(String, Value<'static>)>,
    n_tokens: u64,
}

/// Byte-level BPE writes every byte as a visible character.
fn byte_char(byte: u8) -> char {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if visible(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&byte| !visible(byte)).count() as u32;
    char::from_u32(0x100 + before).unwrap()
}

impl Tiny {
    fn new() -> Tiny {
        Tiny::with_specials(["<|im_start|>", "<|im_end|>"])
    }

    fn with_specials(specials: [&str; 2]) -> Tiny {
        let mut tokens: Vec<String> = (0..=255).map(|byte| byte_char(byte).to_string()).collect();
        let mut kinds = vec![1; tokens.len()];
        for special in specials {
            tokens.push(special.to_string());
            kinds.push(3);
        }
        let text = |text: &str| Value::String(text.as_bytes().to_vec().into());
        let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
                        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
        let metadata = [
            ("general.architecture", text("llama")),
            ("general.languages", Value::Array(Array::from_strings(["en", "zh-CN", "not a tag", "en"]))),
            ("llama.context_length", Value::U32(128)),
            ("llama.embedding_length", Value::U32(N_EMBD as u32)),
            ("llama.block_count", Value::U32(1)),
            ("llama.feed_forward_length", Value::U32(N_FF as u32)),
            ("llama.attention.head_count", Value::U32(2)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("tokenizer.ggml.model", text("gpt2")),
            ("tokenizer.ggml.pre", text("gpt-2")),
            ("tokenizer.ggml.merges", Value::Array(Array::from_strings(["G o", "o d"]))),
            ("tokenizer.ggml.eos_token_id", Value::U32(257)),
            ("tokenizer.chat_template", text(template)),
        ];
        let n_tokens = tokens.len() as u64 + 2;
        tokens.extend(["Go", "od"].map(str::to_string)); // what the merges give
        kinds.extend([1, 1]);
        let mut metadata: Vec<_> =
            metadata.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        metadata.push(("tokenizer.ggml.tokens".to_string(), Value::Array(Array::from_strings(&tokens))));
        metadata.push(("tokenizer.ggml.token_type".to_string(), Value::Array(Array::from_i32s(&kinds))));
        Tiny { metadata, n_tokens }
    }

    fn set(mut self, key: &str, value: Value<'static>) -> Tiny {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.to_string(), value));
        self
    }

    fn set_text(self, key: &str, text: &str) -> Tiny {
        self.set(key, Value::String(text.as_bytes().to_vec().into()))
    }

    fn without(mut self, key: &str) -> Tiny {
        self.metadata.retain(|(known, _)| known != key);
        self
    }

    fn write(self, path: &Path) {
        let mut writer = GgufWriter::new(32).unwrap();
        for (key, value) in &self.metadata {
            writer.set(key, value.clone()).unwrap();
        }
        let mut tensor = |name: &str, dims: &[u64]| {
            let n_bytes = 4 * dims.iter().product::<u64>() as usize;
            writer.add_tensor(name, dims, TensorType::F32, vec![0; n_bytes]).unwrap();
        };
        tensor("token_embd.weight", &[N_EMBD, self.n_tokens]);
        tensor("output_norm.weight", &[N_EMBD]);
        for name in ["attn_norm", "ffn_norm"] {
            tensor(&format!("blk.0.{name}.weight"), &[N_EMBD]);
        }
        for name in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            tensor(&format!("blk.0.{name}.weight"), &[N_EMBD, N_EMBD]);
        }
        for name in ["ffn_gate", "ffn_up"] {
            tensor(&format!("blk.0.{name}.weight"), &[N_EMBD, N_FF]);
        }
        tensor("blk.0.ffn_down.weight", &[N_FF, N_EMBD]);
        writer.write_to(path).unwrap();
    }
}

fn local(path: &Path) -> LocalModel {
    LocalModel {
        name: "tiny".to_string(),
        paths: vec![path.to_path_buf()],
        size: 1,
        origin: Origin::File,
        sha256: None,
    }
}

fn open_with(tiny: Tiny, options: &OpenOptions) -> Result<OpenModel, OpenError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    tiny.write(&path);
    OpenModel::open(&local(&path), &Catalog::builtin(), options)
}

fn open(tiny: Tiny) -> Result<OpenModel, OpenError> {
    open_with(tiny, &OpenOptions::default())
}

fn codes(model: &OpenModel) -> Vec<&'static str> {
    model.warnings.iter().map(|warning| warning.code).collect()
}

#[test]
fn a_sound_model_opens_without_warnings() {
    let model = open(Tiny::new()).unwrap();
    assert!(model.warnings.is_empty(), "{:?}", model.warnings);
    assert_eq!(model.languages, ["en", "zh"]);
    assert!(model.speaks("zh-TW") && !model.speaks("fr"));
    assert!(!model.template.is_fallback());
    assert_eq!(model.tokenizer.encode(b"Good", Specials::Parse), [258, 259]);
    assert_eq!(model.config.n_layers(), 1);
    assert!(model.memory_need(64).total() > 0);
    assert_eq!(model.template_sha256.len(), 64);
}

#[test]
fn a_missing_template_is_replaced_with_a_warning() {
    let model = open(Tiny::new().without("tokenizer.chat_template")).unwrap();
    assert!(model.template.is_fallback());
    assert_eq!(codes(&model), ["no_chat_template"]);
    assert!(model.warnings[0].message.contains("--chat-template"), "{:?}", model.warnings);
    // A named default is as good as the unnamed one.
    let named = Tiny::new().without("tokenizer.chat_template");
    let model = open(named.set_text("tokenizer.chat_template.default", "{{ messages[0].content }}")).unwrap();
    assert!(model.warnings.is_empty() && !model.template.is_fallback());
}

#[test]
fn a_broken_template_is_refused_unless_another_is_given() {
    let options = OpenOptions {
        chat_template: Some("{{ messages[0]['content'] }}".to_string()),
        ..OpenOptions::default()
    };
    for source in ["{% for %}", "{{ nothing.at.all() }}", "{{ raise_exception('never') }}", "{{ bos_token }}"]
    {
        let tiny = || Tiny::new().set_text("tokenizer.chat_template", source);
        let error = open(tiny()).unwrap_err();
        assert_eq!(error.problem.code(), "bad_chat_template", "{source}: {error}");
        assert!(error.to_string().contains("--chat-template FILE"), "{source}: {error}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
        let model = open_with(tiny(), &options).unwrap();
        assert_eq!(model.template.source(), options.chat_template.as_deref().unwrap());
    }
    let not_text = Tiny::new().set("tokenizer.chat_template", Value::String(vec![0xff, 0xfe].into()));
    assert!(open(not_text).unwrap_err().to_string().contains("not UTF-8"));
    let options = OpenOptions { chat_template: Some("{% if %}".to_string()), ..OpenOptions::default() };
    let error = open_with(Tiny::new(), &options).unwrap_err();
    assert!(error.to_string().contains("the given chat template"), "{error}");
}

#[test]
fn special_tokens_must_be_in_the_vocabulary() {
    for key in ["bos", "eos", "eot", "eom", "unknown", "padding"] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        let error = open(Tiny::new().set(&key, Value::U32(260))).unwrap_err();
        assert_eq!(error.problem.code(), "bad_vocabulary");
        let expected = format!("{key} is 260, past the end of the vocabulary of 260 tokens");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

#[test]
fn tokenizers_and_architectures_that_nobody_wrote_are_named() {
    let error = open(Tiny::new().set_text("tokenizer.ggml.model", "bert")).unwrap_err();
    assert_eq!(error.problem.code(), "unsupported_tokenizer");
    assert!(error.to_string().contains("\"bert\""), "{error}");
    let error = open(Tiny::new().set_text("general.architecture", "mamba")).unwrap_err();
    assert_eq!(error.problem.code(), "unsupported_architecture");
    assert!(error.to_string().contains("mamba") && error.to_string().contains("qwen3"), "{error}");
}

#[test]
fn files_that_are_no_language_models_end_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let whole = folder.path().join("whole.gguf");
    Tiny::new().write(&whole);
    let bytes = std::fs::read(&whole).unwrap();
    let no_vocabulary =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-models/llama-f32.gguf");
    let cases = [
        (write("empty.gguf", b""), "bad_model_file"),
        (write("page.gguf", b"<html>"), "bad_model_file"),
        (write("cut.gguf", &bytes[..bytes.len() / 2]), "bad_model_file"),
        (write("head.gguf", &bytes[..100]), "bad_model_file"),
        (folder.path().to_path_buf(), "bad_model_file"),
        (folder.path().join("missing.gguf"), "bad_model_file"),
        (no_vocabulary, "bad_vocabulary"),
    ];
    for (path, code) in cases {
        let error = OpenModel::open(&local(&path), &Catalog::builtin(), &OpenOptions::default()).unwrap_err();
        assert_eq!(error.problem.code(), code, "{error}");
        let text = error.to_string();
        assert!(!text.contains('\n') && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[test]
fn a_model_without_an_end_token_is_warned_of() {
    let tiny = Tiny::with_specials(["<|begin|>", "<|x|>"]).without("tokenizer.ggml.eos_token_id");
    let model = open(tiny).unwrap();
    assert!(codes(&model).contains(&"no_end_token"), "{:?}", model.warnings);
}

#[test]
fn a_catalog_model_must_give_the_ids_that_the_catalog_knows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Tiny::new().write(&path);
    let mut entry = Catalog::builtin().find("smollm2").unwrap().clone();
    entry.languages = vec!["eo".to_string()];
    let model = LocalModel { name: entry.name.clone(), origin: Origin::Pulled, ..local(&path) };
    let probe = |ids: &[u32]| Some(Probe { text: "Good<|im_end|>".to_string(), ids: ids.to_vec() });
    entry.probe = probe(&[258, 259, 257]);
    let opened =
        OpenModel::open(&model, &Catalog::from_entries(vec![entry.clone()]), &OpenOptions::default())
            .unwrap();
    assert_eq!(opened.languages, ["eo"], "the catalog knows better than the file");
    entry.probe = probe(&[1, 2, 3]);
    let error =
        OpenModel::open(&model, &Catalog::from_entries(vec![entry]), &OpenOptions::default()).unwrap_err();
    assert_eq!(error.problem.code(), "wrong_model");
    assert!(error.to_string().contains("expected [1, 2, 3]"), "{error}");
}

/// The default model, from where `make test-setup` puts it.
fn real_model() -> std::path::PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cache")));
    let path = std::env::var_os("DAYBREAK_TEST_MODEL")
        .map(std::path::PathBuf::from)
        .unwrap_or_else(|| cache.unwrap_or_default().join("daybreak/models/smollm2-135m.gguf"));
    assert!(path.is_file(), "{} is missing: run `make test-setup`", path.display());
    path
}

#[test]
fn the_default_model_is_what_the_catalog_says() {
    let path = real_model();
    let library = Library::new(crate::library::LibraryConfig {
        models_dir: tempfile::tempdir().unwrap().path().join("models"),
        shared_dir: None,
        caches: Default::default(),
        catalog: Catalog::builtin(),
    });
    let local = library.resolve(path.to_str().unwrap()).unwrap();
    let sha256 = library.sha256(&local).unwrap();
    let entry = library.catalog().default_entry().unwrap();
    assert_eq!((local.size, Some(&sha256)), (entry.file_size, entry.sha256.as_ref()));
    // Opened by its digest, it is the catalog's model and must give the catalog's ids.
    let local = LocalModel { sha256: Some(sha256), ..local };
    let model = OpenModel::open(&local, library.catalog(), &OpenOptions::default()).unwrap();
    assert!(model.warnings.is_empty(), "{:?}", model.warnings);
    assert_eq!(model.languages, entry.languages);
    assert_eq!(model.config.arch.to_string(), entry.architecture);
    assert_eq!(model.config.max_seq_len as u64, entry.context_length);
    let n_weights: u64 = model.gguf.tensors().iter().map(|tensor| tensor.n_elements()).sum();
    assert_eq!(n_weights, entry.parameters);
    let end = model.tokenizer.token_id(b"<|im_end|>").unwrap();
    assert!(model.tokenizer.is_end_of_generation(end));
    let need = model.memory_need(2048).total();
    let estimate = crate::recommend::estimate_memory(entry, 2048);
    assert!(need < estimate && estimate < 3 * need, "needs {need}, was estimated at {estimate}");
}
