//! References of golden models: tokens, the log-probabilities behind each, and ours.
#![allow(dead_code)] // each test that includes this file uses a part of it
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;

use engine::{Engine, EngineConfig};
use kernels::Isa;
use weights::{Gguf, ModelConfig, ScaledAdapter};

/// One reference: tokens and the log-probabilities behind each.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) max_seq_len: usize,
    pub(crate) peer_kl: f32,
    pub(crate) tokens: Vec<u32>,
    pub(crate) vocab_size: usize,
    /// [n_tokens, vocab_size]
    pub(crate) log_probs: Vec<f32>,
}

/// Reads the format that `testdata/golden-models/README.md` describes.
pub(crate) fn read_golden(path: &Path) -> Golden {
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

/// Our log-probabilities behind each token: [n_tokens, vocab_size].
pub(crate) fn log_probs(gguf: Gguf, golden: &Golden, isa: Isa, max_batch_tokens: usize) -> Vec<f32> {
    log_probs_adapted(gguf, &[], golden, isa, max_batch_tokens)
}

/// The same of a model with adapters.
pub(crate) fn log_probs_adapted(
    gguf: Gguf,
    adapters: &[ScaledAdapter],
    golden: &Golden,
    isa: Isa,
    max_batch_tokens: usize,
) -> Vec<f32> {
    let gguf = Arc::new(gguf);
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
    let engine = Engine::start_adapted(gguf, &config, adapters, engine_config, &mut |_| {}).unwrap();
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

/// Mean over the positions of the divergence of `found` from the reference, in nats.
pub(crate) fn mean_kl(golden: &Golden, found: &[f32]) -> f64 {
    assert_eq!(found.len(), golden.log_probs.len());
    let terms = golden.log_probs.iter().zip(found);
    let sum: f64 = terms.map(|(r, f)| f64::from(*r).exp() * f64::from(r - f)).sum();
    sum / golden.tokens.len() as f64
}
