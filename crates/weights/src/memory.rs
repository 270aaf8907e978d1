//! How much memory a model will need, estimated before anything is loaded: for `inspect` and the model picker.

use crate::config::ModelConfig;
use crate::gguf::Gguf;

/// Bytes, by purpose. An estimate: the engine's own layouts differ by a few percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// The weights, as large as in the file.
    pub weights: u64,
    /// Keys and values of one full context, as f16.
    pub kv_cache: u64,
    /// Activations of one batch and the logits.
    pub scratch: u64,
}

impl MemoryNeed {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.scratch)
    }
}

/// Tokens that the engine reads in one step.
const BATCH_LEN: u64 = 512;
/// Tokens of a page of the KV cache.
const PAGE_LEN: u64 = 64;
/// Bytes of a cached element (f16).
const KV_BYTES: u64 = 2;

/// The need of a model with room for one conversation of `ctx` tokens (at most the model's own maximum).
pub fn memory_need(config: &ModelConfig, gguf: &Gguf, ctx: usize) -> MemoryNeed {
    // Every factor is bounded by the limits of `config/read.rs`; sums saturate instead of trusting their product.
    let weights = gguf.tensors().iter().fold(0u64, |sum, info| sum.saturating_add(info.n_bytes()));
    let n_tokens = (ctx.min(config.max_seq_len) as u64).next_multiple_of(PAGE_LEN);
    let kv_cache = config.layers.iter().fold(0u64, |sum, layer| {
        let per_token = (layer.k_dim() as u64).saturating_add(layer.v_dim() as u64).saturating_mul(KV_BYTES);
        sum.saturating_add(per_token.saturating_mul(n_tokens))
    });
    let widest = config.layers.iter().map(|layer| {
        let qkv =
            layer.q_dim() as u64 + layer.k_dim() as u64 + layer.v_dim() as u64 + layer.attn_out_dim() as u64;
        qkv.max(3 * layer.n_ff as u64)
    });
    let per_token = widest.max().unwrap_or(0).saturating_add(4 * config.n_embd as u64).saturating_mul(4);
    let scratch = per_token.saturating_mul(BATCH_LEN).saturating_add(config.vocab_size as u64 * 4 * 8);
    MemoryNeed { weights, kv_cache, scratch }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tiny_model::TinyModel;

    #[test]
    fn the_kv_cache_grows_with_the_context_and_stops_at_the_models_maximum() {
        let gguf = TinyModel::llama().build();
        let config = ModelConfig::from_gguf(&gguf).unwrap();
        let need = memory_need(&config, &gguf, 64);
        // 2 layers × 64 tokens × (2 key + 2 value heads) × 16 elements × 2 bytes
        assert_eq!(need.kv_cache, 2 * 64 * 4 * 16 * 2);
        assert_eq!(memory_need(&config, &gguf, 65).kv_cache, 2 * need.kv_cache, "pages are whole");
        assert_eq!(memory_need(&config, &gguf, usize::MAX), memory_need(&config, &gguf, config.max_seq_len));
        assert_eq!(need.weights, gguf.tensors().iter().map(|info| info.n_bytes()).sum::<u64>());
        assert_eq!(need.total(), need.weights + need.kv_cache + need.scratch);
    }
}
