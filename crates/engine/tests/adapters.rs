//! A model with adapters computes what the same model would with their product added to its weights.
#![allow(clippy::unwrap_used)]

mod tiny_model;

use std::sync::Arc;
use std::sync::mpsc::channel;

use engine::{Engine, EngineConfig};
use kernels::{Isa, WeightType};
use tiny_model::*;
use weights::{Adapter, Gguf, GgufWriter, ModelConfig, ScaledAdapter, TensorType};

/// The most that a logit may be off (they reach 17): sums of f32 in another order.
const MAX_DIFFERENCE: f32 = 0.006;
/// The same where keys or values change at their source: the f16 that they are kept in may round the other way.
const MAX_DIFFERENCE_KV: f32 = 0.03;

fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    let info = gguf.tensor(name).unwrap();
    let mut values = vec![0.0; info.n_elements() as usize];
    kernels::dequantize(WeightType::F32, gguf.bytes(info), &mut values);
    values
}

/// The model with each adapter's product in its matrices, computed in f64.
fn merged(gguf: &Gguf, adapters: &[ScaledAdapter]) -> Arc<Gguf> {
    let mut writer = GgufWriter::new(32).unwrap();
    for (key, value) in gguf.metadata() {
        writer.set(key.as_str().unwrap(), value).unwrap();
    }
    for info in gguf.tensors() {
        let mut values: Vec<f64> = floats(gguf, &info.name).into_iter().map(f64::from).collect();
        for ScaledAdapter { adapter, scale } in adapters {
            let Some(pair) = adapter.pairs.iter().find(|pair| pair.tensor == info.name) else { continue };
            let factor = f64::from(scale * adapter.factor(pair));
            let a = floats(adapter.gguf(), &pair.a.name);
            let b = floats(adapter.gguf(), &pair.b.name);
            let (n_cols, rank) = (info.n_cols() as usize, pair.rank);
            for (i, value) in values.iter_mut().enumerate() {
                let (row, col) = (i / n_cols, i % n_cols);
                let product = |r: usize| match info.name == "token_embd.weight" {
                    true => f64::from(a[row * rank + r]) * f64::from(b[col * rank + r]),
                    false => f64::from(b[row * rank + r]) * f64::from(a[r * n_cols + col]),
                };
                *value += factor * (0..rank).map(product).sum::<f64>();
            }
        }
        let bytes: Vec<u8> = values.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
        writer.add_tensor(&info.name, &info.dims, TensorType::F32, bytes).unwrap();
    }
    Arc::new(Gguf::from_bytes(writer.to_bytes()).unwrap())
}

/// All logits behind some tokens: [n_tokens, vocab_size]
fn logits(engine: &Engine) -> Vec<f32> {
    let (sender, rows) = channel();
    let on_row = move |_: usize, logits: &[f32]| sender.send(logits.to_vec()).unwrap();
    engine.score_with(&Noise::new(8).tokens(40), Box::new(on_row)).unwrap();
    rows.iter().flatten().collect()
}

fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn with_isa(isa: Isa) -> EngineConfig {
    EngineConfig { isa, ..roomy() }
}

const FLOATS: Types = (TensorType::F32, TensorType::F32, TensorType::F32);
const F32: [TensorType; 2] = [TensorType::F32; 2];

#[test]
fn beside_the_weights_and_merged_into_them_is_the_same_for_each_matrix_and_for_all() {
    let gguf = build(11, FLOATS, |_, _| {});
    let matrices = [
        "token_embd",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
        "output.weight",
        "",
    ];
    for isa in isas() {
        let plain = logits(&start(&gguf, with_isa(isa)));
        for matrix in matrices {
            let rank = |name: &str| name.contains(matrix).then_some(5);
            let adapters = [ScaledAdapter { adapter: random_adapter(3, &gguf, F32, rank), scale: 0.75 }];
            let beside = logits(&start_adapted(&gguf, &adapters, with_isa(isa)));
            let within = logits(&start(&merged(&gguf, &adapters), with_isa(isa)));
            let off = worst(&beside, &within);
            let most =
                if ["attn_k", "attn_v"].contains(&matrix) { MAX_DIFFERENCE_KV } else { MAX_DIFFERENCE };
            assert!(off < most, "{matrix:?}, {isa:?}: {off}");
            assert!(worst(&beside, &plain) > 1.0, "{matrix:?} changes nothing, {isa:?}");
        }
    }
}

#[test]
fn several_adapters_add_up_each_with_its_scale() {
    let gguf = build(12, FLOATS, |_, _| {});
    let adapter = |seed, rank| {
        random_adapter(seed, &gguf, F32, move |name| (name != "blk.1.attn_k.weight").then_some(rank))
    };
    let [first, second] = [adapter(4, 3), adapter(5, 8)];
    let scaled = |adapter: &Arc<Adapter>, scale| ScaledAdapter { adapter: Arc::clone(adapter), scale };
    let both = [scaled(&first, 1.0), scaled(&second, -0.5)];
    let within = logits(&start(&merged(&gguf, &both), roomy()));
    assert!(worst(&logits(&start_adapted(&gguf, &both, roomy())), &within) < MAX_DIFFERENCE);

    let plain = logits(&start(&gguf, roomy()));
    let off = logits(&start_adapted(&gguf, &[scaled(&first, 0.0)], roomy()));
    assert!(
        plain.iter().zip(&off).all(|(a, b)| a.to_bits() == b.to_bits()),
        "a scale of 0 is the model itself"
    );
}

#[test]
fn an_adapter_that_does_not_fit_or_is_not_finite_is_named() {
    let gguf = build(13, Q4_0, |_, _| {});
    let start = |adapter: Adapter| {
        let config = ModelConfig::from_gguf(&gguf).unwrap();
        let adapters = [ScaledAdapter { adapter: Arc::new(adapter), scale: 1.0 }];
        let started = Engine::start_adapted(Arc::clone(&gguf), &config, &adapters, roomy(), &mut |_| {});
        started.err().unwrap().to_string()
    };
    let file = |arch: &str, name: &str, first: f32| {
        let mut writer = GgufWriter::new(32).unwrap();
        let text = weights::Value::from_text;
        for (key, value) in
            [("general.architecture", arch), ("general.type", "adapter"), ("adapter.type", "lora")]
        {
            writer.set(key, text(value)).unwrap();
        }
        let mut bytes = vec![0; 4 * N_EMBD];
        bytes[..4].copy_from_slice(&first.to_le_bytes());
        for half in ["lora_a", "lora_b"] {
            let dims = if half == "lora_a" { [N_EMBD as u64, 1] } else { [1, N_EMBD as u64] };
            writer.add_tensor(&format!("{name}.{half}"), &dims, TensorType::F32, bytes.clone()).unwrap();
        }
        Adapter::read(Gguf::from_bytes(writer.to_bytes()).unwrap()).unwrap()
    };
    assert_eq!(
        start(file("qwen2", "blk.0.attn_q.weight", 0.0)),
        "adapter <memory> was made for another model: architecture: expected \"llama\", found \"qwen2\""
    );
    assert_eq!(
        start(file("llama", "blk.0.attn_q.weight", f32::NAN)),
        "tensor blk.0.attn_q.weight.lora_a holds a value that is not finite; the file is damaged, fetch it again"
    );
}
