//! A small llama with random weights, made in memory: what the engine's tests run.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::Arc;

use engine::{Engine, EngineConfig, Event, FinishReason, Generate, Generation, Timings, TokenId};
use kernels::Isa;
use weights::{
    Adapter, Gguf, GgufWriter, ModelConfig, ScaledAdapter, TensorType, Value, adapter_metadata, lora_tensors,
    tensor_specs,
};

pub(crate) const VOCAB_SIZE: usize = 320;
pub(crate) const N_EMBD: usize = 256;
pub(crate) const N_FF: usize = 256;
pub(crate) const N_LAYERS: usize = 2;
pub(crate) const N_HEADS: usize = 4;
pub(crate) const N_KV_HEADS: usize = 2;
pub(crate) const HEAD_DIM: usize = 64;

/// Bytes of keys and values of one page of 64 tokens.
pub(crate) const PAGE_BYTES: u64 = (64 * N_LAYERS * 2 * N_KV_HEADS * HEAD_DIM * 2) as u64;

/// A small generator of noise; the same seed gives the same model everywhere.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 20) as usize % n
    }

    pub(crate) fn tokens(&mut self, n: usize) -> Vec<TokenId> {
        (0..n).map(|_| self.below(VOCAB_SIZE) as TokenId).collect()
    }
}

/// f16 bits of a value below 65504, cut toward zero; tiny ones become zero.
fn f16(x: f32) -> [u8; 2] {
    let bits = x.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    let half = match exponent {
        ..=0 => 0,
        1..31 => (exponent as u32) << 10 | (bits >> 13) & 0x3ff,
        31.. => panic!("{x} is too large for f16"),
    };
    (((bits >> 16) & 0x8000) as u16 | half as u16).to_le_bytes()
}

/// Random weights of roughly `scale`, stored as `ty`: [n_elements]
pub(crate) fn random_bytes(noise: &mut Noise, ty: TensorType, n_elements: usize, scale: f32) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..n_elements / ty.block_len() {
        let mut block: Vec<u8> = (0..ty.block_bytes()).map(|_| noise.next() as u8).collect();
        let mut put = |at: usize, x: f32| block[at..at + 2].copy_from_slice(&f16(x));
        match ty {
            TensorType::F32 => block.copy_from_slice(&(noise.unit() * scale * 1.7).to_le_bytes()),
            TensorType::F16 => put(0, noise.unit() * scale * 1.7),
            TensorType::BF16 => {
                block.copy_from_slice(&(noise.unit() * scale * 1.7).to_bits().to_le_bytes()[2..]);
            }
            TensorType::Q4_0 => put(0, scale / 4.6),
            TensorType::Q5_0 => put(0, scale / 9.2),
            TensorType::Q8_0 => put(0, scale / 74.0),
            TensorType::Q4_1 => {
                put(0, scale / 4.6);
                put(2, -scale * 1.6);
            }
            TensorType::Q5_1 => {
                put(0, scale / 9.2);
                put(2, -scale * 1.6);
            }
            // Scales and minimums of 0 to 63, quants of 0 to 15 (31).
            TensorType::Q4K | TensorType::Q5K => {
                let n = if ty == TensorType::Q4K { 15.0 } else { 31.0 };
                put(0, scale / 32.0 / n * 2.0);
                put(2, scale / 32.0);
            }
            TensorType::Q6K => put(208, scale / 64.0 / 18.0),
        }
        out.extend_from_slice(&block);
    }
    out
}

/// Which types the matrices have: (attention, feed-forward, embeddings and output).
pub(crate) type Types = (TensorType, TensorType, TensorType);

/// The model, written out; `change` may damage a tensor's bytes.
pub(crate) fn build(seed: u64, types: Types, mut change: impl FnMut(&str, &mut Vec<u8>)) -> Arc<Gguf> {
    let mut noise = Noise::new(seed);
    let mut tensors: Vec<(String, Vec<u64>, TensorType, Vec<u8>)> = Vec::new();
    let mut add = |name: String, n_rows: usize, n_cols: usize, ty: TensorType, scale: f32| {
        let mut bytes = random_bytes(&mut noise, ty, n_rows * n_cols, scale);
        change(&name, &mut bytes);
        tensors.push((name, vec![n_cols as u64, n_rows as u64], ty, bytes));
    };
    let (attn, ffn, ends) = types;
    add("token_embd.weight".into(), VOCAB_SIZE, N_EMBD, ends, 0.5);
    for layer_idx in 0..N_LAYERS {
        let name = |stem: &str| format!("blk.{layer_idx}.{stem}.weight");
        let kv_dim = N_KV_HEADS * HEAD_DIM;
        add(name("attn_norm"), 1, N_EMBD, TensorType::F32, 1.0);
        add(name("attn_q"), N_HEADS * HEAD_DIM, N_EMBD, attn, 0.2);
        add(name("attn_k"), kv_dim, N_EMBD, attn, 0.2);
        add(name("attn_v"), kv_dim, N_EMBD, attn, 0.2);
        add(name("attn_output"), N_EMBD, N_HEADS * HEAD_DIM, attn, 0.2);
        add(name("ffn_norm"), 1, N_EMBD, TensorType::F32, 1.0);
        add(name("ffn_gate"), N_FF, N_EMBD, ffn, 0.1);
        add(name("ffn_up"), N_FF, N_EMBD, ffn, 0.1);
        add(name("ffn_down"), N_EMBD, N_FF, ffn, 0.1);
    }
    add("output_norm.weight".into(), 1, N_EMBD, TensorType::F32, 1.0);
    add("output.weight".into(), VOCAB_SIZE, N_EMBD, ends, 0.3);

    let mut writer = GgufWriter::new(32).unwrap();
    writer.set("general.architecture", Value::from_text("llama")).unwrap();
    for (key, value) in [
        ("llama.block_count", N_LAYERS),
        ("llama.embedding_length", N_EMBD),
        ("llama.context_length", 4096),
        ("llama.feed_forward_length", N_FF),
        ("llama.attention.head_count", N_HEADS),
        ("llama.attention.head_count_kv", N_KV_HEADS),
        ("llama.vocab_size", VOCAB_SIZE),
    ] {
        writer.set(key, Value::U32(value as u32)).unwrap();
    }
    writer.set("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)).unwrap();
    for (name, dims, ty, bytes) in &tensors {
        let dims = match name.ends_with("norm.weight") {
            true => &dims[..1],
            false => &dims[..],
        };
        writer.add_tensor(name, dims, *ty, bytes).unwrap();
    }
    Arc::new(Gguf::from_bytes(writer.to_bytes()).unwrap())
}

pub(crate) const Q4_0: Types = (TensorType::Q4_0, TensorType::Q4_0, TensorType::Q8_0);

/// A random adapter for the matrices of a model that `rank` gives one; large enough to change every answer.
pub(crate) fn random_adapter(
    seed: u64,
    gguf: &Gguf,
    types: [TensorType; 2],
    rank: impl Fn(&str) -> Option<usize>,
) -> Arc<Adapter> {
    let mut noise = Noise::new(seed);
    let config = ModelConfig::from_gguf(gguf).unwrap();
    let mut writer = GgufWriter::new(32).unwrap();
    for (key, value) in adapter_metadata(&config, &gguf.fingerprint(), None, 16.0) {
        writer.set(&key, value).unwrap();
    }
    for spec in tensor_specs(&config) {
        let Some(rank) = rank(&spec.name) else { continue };
        for (tensor, ty) in lora_tensors(&spec, rank).into_iter().flatten().zip(types) {
            let n = tensor.dims[0] * tensor.dims[1];
            let bytes = random_bytes(&mut noise, ty, n as usize, 0.05);
            writer.add_tensor(&tensor.name, &tensor.dims, ty, bytes).unwrap();
        }
    }
    Arc::new(Adapter::read(Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap())
}

/// Settings of an engine with room for everything.
pub(crate) fn roomy() -> EngineConfig {
    EngineConfig {
        n_threads: 2,
        isa: Isa::detect(),
        max_seq_len: 1024,
        kv_memory_bytes: 200 * PAGE_BYTES,
        max_batch_tokens: 256,
        max_running: 16,
        max_queue: 64,
        prompt_lookup: engine::PromptLookup::Auto,
    }
}

pub(crate) fn start(gguf: &Arc<Gguf>, config: EngineConfig) -> Engine {
    let model_config = ModelConfig::from_gguf(gguf).unwrap();
    Engine::start(Arc::clone(gguf), &model_config, config).unwrap()
}

pub(crate) fn start_adapted(gguf: &Arc<Gguf>, adapters: &[ScaledAdapter], config: EngineConfig) -> Engine {
    let model_config = ModelConfig::from_gguf(gguf).unwrap();
    Engine::start_adapted(Arc::clone(gguf), &model_config, adapters, config, &mut |_| {}).unwrap()
}

/// An answer, with the bits of everything that was told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) ids: Vec<TokenId>,
    pub(crate) logprob_bits: Vec<u32>,
    pub(crate) top_bits: Vec<Vec<(TokenId, u32)>>,
    pub(crate) reason: FinishReason,
}

/// Waits for the end of an answer; panics if it fails.
pub(crate) fn collect(mut generation: Generation) -> (Answer, Timings) {
    let mut answer = Answer {
        ids: Vec::new(),
        logprob_bits: Vec::new(),
        top_bits: Vec::new(),
        reason: FinishReason::Length,
    };
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Token { id, logprob, top } => {
                answer.ids.push(id);
                answer.logprob_bits.push(logprob.to_bits());
                answer.top_bits.push(top.iter().map(|(id, p)| (*id, p.to_bits())).collect());
            }
            Event::Done { reason, timings } => {
                answer.reason = reason;
                return (answer, timings);
            }
            Event::Failed(error) => panic!("{error}"),
            Event::Queued { .. } | Event::Prefill { .. } => {}
        }
    }
    panic!("the stream ended without Done");
}

/// A request that shows everything: sampled at temperature 0.8 from `seed`, with log-probabilities.
pub(crate) fn sampled(prompt: Vec<TokenId>, max_tokens: usize, seed: u64) -> Generate {
    let mut request = Generate::greedy(prompt, max_tokens);
    request.sampling.temperature = 0.8;
    request.sampling.top_k = 40;
    request.sampling.top_p = 0.95;
    request.sampling.repetition_penalty = 1.1;
    request.sampling.seed = seed;
    request.logprobs = Some(5);
    request
}
