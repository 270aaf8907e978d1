//! Perplexity of the real models on a committed text, against llama.cpp's (`testdata/perplexity`).

#![allow(clippy::print_stdout)] // the measured figures are worth seeing
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Engine, EngineConfig};
use kernels::Isa;
use serde_json::Value;
use weights::{Gguf, ModelConfig};

/// How far the perplexity may be from llama.cpp's.
const TOLERANCE: f64 = 0.005;

/// Where `make test-setup` puts the models.
fn model_path(name: &str) -> PathBuf {
    let folder = std::env::var_os("DAYBREAK_TEST_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        cache.unwrap_or_else(home).join("daybreak/models")
    });
    let path = folder.join(format!("{name}.gguf"));
    assert!(path.exists(), "{} is not there; run `make test-setup`", path.display());
    path
}

fn check(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/perplexity");
    let fixture = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
    let fixture: Value = serde_json::from_slice(&fixture).unwrap();
    let tokens = fixture["tokens"].as_array().unwrap();
    let tokens: Vec<u32> = tokens.iter().map(|id| id.as_u64().unwrap() as u32).collect();
    let expected = fixture["perplexity"].as_f64().unwrap();
    let theirs = fixture["log_probs"].as_array().unwrap();

    let gguf = Arc::new(Gguf::open(&model_path(name)).unwrap());
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    let engine_config = EngineConfig {
        n_threads: 2,
        isa: Isa::detect(),
        max_seq_len: 2048,
        kv_memory_bytes: 64 << 20,
        max_batch_tokens: 512,
        max_running: 1,
        max_queue: 1,
        prompt_lookup: engine::PromptLookup::Auto,
    };
    let engine = Engine::start(gguf, &config, engine_config).unwrap();
    let ours = engine.score(&tokens).unwrap();
    assert_eq!(ours.len(), tokens.len() - 1);
    let sum: f64 = ours.iter().map(|x| f64::from(*x)).sum();
    let found = (-sum / ours.len() as f64).exp();
    let worst = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - b.as_f64().unwrap()).abs());
    let worst = worst.fold(0.0, f64::max);
    println!("{name}: perplexity {found:.4}, llama.cpp {expected:.4}, worst token {worst:.3} nats off");
    let ratio = found / expected;
    assert!(
        (ratio - 1.0).abs() <= TOLERANCE,
        "{name}: perplexity {found}, llama.cpp's is {expected}; {:.2} % off",
        100.0 * (ratio - 1.0)
    );
}

#[test]
fn smollm2_is_as_good_as_in_llama_cpp() {
    check("smollm2-135m");
}

#[test]
fn qwen2_5_coder_is_as_good_as_in_llama_cpp() {
    check("qwen2.5-coder-0.5b");
}
