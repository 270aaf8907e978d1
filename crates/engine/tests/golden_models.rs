//! Log-probabilities of tiny random models of every architecture, against the references in
//! `testdata/golden-models` (made by `scripts/golden_models.py` with transformers and llama.cpp).
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;

use engine::{Engine, EngineConfig};
use kernels::Isa;
use weights::{Gguf, ModelConfig};

/// The most that a float model's log-probability may be off, in nats.
const MAX_DIFFERENCE: f32 = 0.01;
/// The most that a quantised model's mean KL divergence may be of llama.cpp's on the same file.
const MAX_KL_RATIO: f64 = 1.1;

/// One reference: tokens and the log-probabilities behind each.
struct Golden {
    name: String,
    max_seq_len: usize,
    peer_kl: f32,
    tokens: Vec<u32>,
    vocab_size: usize,
    /// [n_tokens, vocab_size]
    log_probs: Vec<f32>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-models")
}

fn read_golden(path: &Path) -> Golden {
    let bytes = std::fs::read(path).unwrap();
    assert_eq!(&bytes[..8], b"DAYGOLD1", "{}: another version", path.display());
    let words: Vec<[u8; 4]> = bytes[8..].as_chunks::<4>().0.to_vec();
    let int = |i: usize| u32::from_le_bytes(words[i]);
    let float = |i: usize| f32::from_le_bytes(words[i]);
    let (n_tokens, vocab_size) = (int(0) as usize, int(1) as usize);
    assert_eq!(words.len(), 4 + n_tokens * (1 + vocab_size), "{}", path.display());
    Golden {
        name: path.file_name().unwrap().to_str().unwrap().to_string(),
        max_seq_len: int(2) as usize,
        peer_kl: float(3),
        tokens: (4..4 + n_tokens).map(int).collect(),
        vocab_size,
        log_probs: (4 + n_tokens..words.len()).map(float).collect(),
    }
}

/// Each reference with the model files it holds for.
fn pairs(is_wanted: fn(&str) -> bool) -> Vec<(PathBuf, Golden)> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = file.strip_suffix(".expected") else { continue };
        let stem = stem.split('.').next().unwrap();
        if !is_wanted(stem) {
            continue;
        }
        let names = [format!("{stem}.gguf")].into_iter();
        let names = names.chain(["f32", "f16", "bf16"].map(|ty| format!("{stem}-{ty}.gguf")));
        let models: Vec<PathBuf> = names.map(|n| folder().join(n)).filter(|p| p.exists()).collect();
        assert!(!models.is_empty(), "{file} has no model");
        pairs.extend(models.into_iter().map(|model| (model, read_golden(&path))));
    }
    assert!(!pairs.is_empty(), "no references; run scripts/golden_models.py");
    pairs
}

/// Our log-probabilities behind each token: [n_tokens, vocab_size].
fn log_probs(model: &Path, golden: &Golden, isa: Isa, max_batch_tokens: usize) -> Vec<f32> {
    let gguf = Arc::new(Gguf::open(model).unwrap());
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    assert_eq!(config.vocab_size, golden.vocab_size);
    let engine_config = EngineConfig {
        n_threads: 2,
        isa,
        max_seq_len: golden.max_seq_len,
        kv_memory_bytes: 64 << 20,
        max_batch_tokens,
        max_running: 1,
        max_queue: 1,
        prompt_lookup: engine::PromptLookup::Auto,
    };
    let engine = Engine::start(gguf, &config, engine_config).unwrap();
    let (sender, rows) = channel();
    let on_row = move |_: usize, logits: &[f32]| {
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
        let total = max + sum.ln() as f32;
        let row: Vec<f32> = logits.iter().map(|x| x - total).collect();
        sender.send(row).unwrap();
    };
    engine.score_with(&golden.tokens, Box::new(on_row)).unwrap();
    rows.iter().flatten().collect()
}

fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

#[test]
fn float_models_of_every_architecture_agree_with_the_reference() {
    let mut misses = Vec::new();
    for (model, golden) in pairs(|stem| !stem.starts_with("quant-")) {
        for isa in isas() {
            let found = log_probs(&model, &golden, isa, 16);
            assert_eq!(found.len(), golden.log_probs.len());
            let differences = found.iter().zip(&golden.log_probs).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            if worst.is_nan() || worst > MAX_DIFFERENCE {
                let model = model.file_name().unwrap().display();
                misses.push(format!("{model} against {}, {isa:?}: {worst} nats off", golden.name));
            }
        }
    }
    assert!(misses.is_empty(), "more than {MAX_DIFFERENCE}:\n{}", misses.join("\n"));
}

#[test]
fn quantised_models_lose_no_more_than_llama_cpp() {
    let mut misses = Vec::new();
    for (model, golden) in pairs(|stem| stem.starts_with("quant-")) {
        for isa in isas() {
            let found = log_probs(&model, &golden, isa, 64);
            assert_eq!(found.len(), golden.log_probs.len());
            let terms = golden.log_probs.iter().zip(&found);
            let sum: f64 = terms.map(|(r, f)| f64::from(*r).exp() * f64::from(r - f)).sum();
            let kl = sum / golden.tokens.len() as f64;
            let allowed = MAX_KL_RATIO * f64::from(golden.peer_kl);
            let line = format!("{}, {isa:?}: KL {kl:.3e}, allowed {allowed:.3e}", golden.name);
            if kl.is_nan() || kl > allowed {
                misses.push(line);
            }
        }
    }
    assert!(misses.is_empty(), "further from f32 than llama.cpp:\n{}", misses.join("\n"));
}
