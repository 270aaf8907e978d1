//! Facts of real files: the golden models of every architecture, and small ones spoiled on purpose.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use super::*;
use crate::gguf::{Array, Gguf, Value};
use crate::tensors::check_tensors;
use crate::tiny_model::TinyModel;

fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-models")
}

fn golden(name: &str) -> ModelConfig {
    let gguf = Gguf::open(&golden_folder().join(name).with_extension("gguf")).unwrap();
    ModelConfig::from_gguf(&gguf).unwrap()
}

fn windows(config: &ModelConfig) -> Vec<Option<usize>> {
    config.layers.iter().map(|layer| layer.window).collect()
}

fn ropes(config: &ModelConfig) -> Vec<LayerRope> {
    config.layers.iter().map(|layer| layer.rope).collect()
}

#[test]
fn every_golden_model_has_just_the_tensors_of_its_facts() {
    let mut n_models = 0;
    let mut architectures = std::collections::HashSet::new();
    for entry in std::fs::read_dir(golden_folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "gguf") {
            let gguf = Gguf::open(&path).unwrap();
            let config = ModelConfig::from_gguf(&gguf).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            check_tensors(&gguf, &config).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            assert_eq!(config.vocab_size, 64);
            architectures.insert(config.arch);
            n_models += 1;
        }
    }
    assert!(n_models >= 40, "found {n_models}; run scripts/golden_models.py");
    // mistral3 has no case of its own: its structure is llama's
    assert_eq!(architectures.len(), Architecture::ALL.len() - 1, "{architectures:?}");
}

#[test]
fn llama_has_grouped_heads_of_their_own_size_and_neighbouring_pairs() {
    let config = golden("llama-f32");
    assert_eq!(config.arch, Architecture::Llama);
    assert_eq!(config.name.as_deref(), Some("llama-f32"));
    assert_eq!((config.n_layers(), config.n_embd, config.max_seq_len), (2, 32, 512));
    let layer = &config.layers[0];
    assert_eq!((layer.n_heads, layer.n_kv_heads, layer.head_dim_k, layer.head_dim_v), (4, 2, 16, 16));
    assert_eq!((layer.q_dim(), layer.k_dim(), layer.v_dim(), layer.attn_out_dim()), (64, 32, 32, 64));
    assert_eq!((layer.n_ff, layer.window, layer.rope), (64, None, LayerRope::Global));
    let rope = config.rope.as_ref().unwrap();
    assert_eq!((rope.pairing, rope.n_rot, rope.theta), (RopePairing::Norm, 16, 10000.0));
    assert_eq!((&rope.scaling, rope.attn_factor), (&RopeScaling::None, 1.0));
    assert_eq!(config.norm, NormConfig { kind: NormKind::Rms, eps: 1e-6, place: NormPlace::Pre });
    assert_eq!(config.ffn, FfnKind::Gated { activation: Activation::Silu, fused: false });
    assert_eq!(
        (config.attn_scale, config.embd_scale, config.residual_scale, config.logit_scale),
        (0.25, 1.0, 1.0, 1.0)
    );
    assert!(!config.tied_output && !config.qkv_bias && !config.learned_positions);
}

#[test]
fn the_biases_that_a_file_has_are_facts() {
    let config = golden("llama-tied-bias-f32");
    assert!(config.tied_output && config.qkv_bias && config.attn_out_bias && config.ffn_bias);
    let config = golden("qwen2-f32");
    assert!(config.qkv_bias && !config.attn_out_bias && !config.ffn_bias);
    assert_eq!(config.rope.unwrap().pairing, RopePairing::Neox);
}

#[test]
fn each_rope_scaling_is_understood() {
    let scaling = |name| golden(name).rope.unwrap();
    assert_eq!(scaling("llama-linear-f32").scaling, RopeScaling::Linear { factor: 4.0 });

    let rope = scaling("llama-llama3-f32");
    assert_eq!(rope.scaling, RopeScaling::None);
    let factors = rope.factors(512).unwrap();
    assert_eq!(
        (factors.len(), factors[0], factors[7]),
        (8, 1.0, 4.0),
        "fast pairs keep their speed, slow ones do not"
    );

    let rope = scaling("llama-yarn-f32");
    let yarn = RopeScaling::Yarn {
        factor: 4.0,
        original_seq_len: 32,
        ext_factor: 1.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
    };
    assert_eq!(rope.scaling, yarn);
    assert!((rope.attn_factor - (0.1 * 4f32.ln() + 1.0)).abs() < 1e-6);

    let rope = scaling("phi3-longrope-f32");
    assert!((rope.attn_factor - 1.118_034).abs() < 1e-6, "√(1 + ln 4 / ln 256) = √1.25");
    assert_eq!(rope.factors(256).unwrap()[7], 1.4, "short up to the original length");
    assert_eq!(rope.factors(257).unwrap()[7], 8.0, "long beyond");

    assert_eq!(scaling("phi3-partial-f32").n_rot, 8);
}

#[test]
fn windows_follow_each_architectures_rule() {
    let config = golden("mistral-f32");
    assert_eq!((windows(&config), ropes(&config)), (vec![Some(24); 2], vec![LayerRope::Global; 2]));
    let config = golden("phi3-partial-f32");
    assert_eq!(windows(&config), [Some(20), Some(20)]);

    let config = golden("gemma2-f32");
    assert_eq!(windows(&config), [Some(12), None, Some(12)], "every second layer sees everything");
    assert_eq!(config.rope_local.as_ref().unwrap().theta, config.rope.as_ref().unwrap().theta);
    assert_eq!((config.attn_softcap, config.final_softcap), (Some(2.0), Some(4.0)));
    assert_eq!(config.norm.place, NormPlace::PreAndPost);
    assert_eq!(config.embd_scale, 32f32.sqrt());

    let config = golden("gemma3-f32");
    assert_eq!(windows(&config), [Some(12), Some(12), None]);
    assert_eq!(ropes(&config), [LayerRope::Local, LayerRope::Local, LayerRope::Global]);
    let (global, local) = (config.layer_rope(2).unwrap(), config.layer_rope(0).unwrap());
    assert_eq!((global.theta, &global.scaling), (1e6, &RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((local.theta, &local.scaling), (1e4, &RopeScaling::None));
    assert_eq!((config.attn_softcap, config.final_softcap, config.qk_norm), (None, None, QkNorm::PerHead));

    let config = golden("olmo3-f32");
    assert_eq!(windows(&config), [Some(12), None]);
    let (local, global) = (config.layer_rope(0).unwrap(), config.layer_rope(1).unwrap());
    assert_eq!((&local.scaling, local.attn_factor), (&RopeScaling::None, 1.0));
    assert!(matches!(global.scaling, RopeScaling::Yarn { .. }));
    assert_eq!((config.norm.place, config.qk_norm), (NormPlace::Post, QkNorm::Whole));
}

#[test]
fn a_period_of_n_means_that_the_nth_layer_sees_everything() {
    // 2 layers of gemma3 with a window but no pattern: its period is 6, so neither is the sixth.
    let mut model = gemma3();
    assert_eq!(windows(&ModelConfig::from_gguf(&model.build()).unwrap()), [Some(8), Some(8)]);
    model.set("gemma3.attention.sliding_window_pattern", Value::U32(2));
    assert_eq!(windows(&ModelConfig::from_gguf(&model.build()).unwrap()), [Some(8), None]);
    model.set("gemma3.attention.sliding_window_pattern", Value::U32(1));
    assert_eq!(windows(&ModelConfig::from_gguf(&model.build()).unwrap()), [None, None]);
    model.set("gemma3.attention.sliding_window", Value::U32(0));
    assert_eq!(windows(&ModelConfig::from_gguf(&model.build()).unwrap()), [None, None]);
}

/// The tiny llama's metadata under gemma3's name, with a window.
fn gemma3() -> TinyModel {
    let mut model = TinyModel::llama();
    for (key, _) in &mut model.keys {
        *key = key.replace("llama.", "gemma3.");
    }
    model.set("general.architecture", Value::from_text("gemma3"));
    model.set("gemma3.attention.sliding_window", Value::U32(8));
    model
}

#[test]
fn the_large_gemmas_scale_attention_by_their_width() {
    let mut model = gemma3();
    model.set("gemma3.block_count", Value::U32(62));
    let config = ModelConfig::from_gguf(&model.build()).unwrap();
    assert_eq!(config.attn_scale, 1.0 / 8f32.sqrt(), "n_embd 32 / 4 heads, not the head size 16");
}

#[test]
fn gpt2_granite_and_smollm3_have_their_peculiarities() {
    let config = golden("gpt2-f32");
    assert!(config.learned_positions && config.rope.is_none() && config.qkv_fused && config.qkv_bias);
    assert_eq!((config.norm.kind, config.norm.eps), (NormKind::Layer, 1e-5));
    assert_eq!(config.ffn, FfnKind::Plain { activation: Activation::Gelu });
    assert_eq!(ropes(&config), [LayerRope::None; 2]);
    assert_eq!(config.layers[0].n_kv_heads, 2, "as many as query heads where the file does not say");

    let config = golden("granite-f32");
    assert_eq!((config.embd_scale, config.residual_scale, config.attn_scale), (3.0, 0.6, 0.4));
    assert!((config.logit_scale - 1.0 / 1.5).abs() < 1e-7, "the file holds the divisor");

    let config = golden("smollm3-f32");
    use LayerRope::{Global, None};
    assert_eq!(ropes(&config), [Global, Global, Global, None]);

    let config = golden("phi3-f32");
    assert!(config.qkv_fused);
    assert_eq!(config.ffn, FfnKind::Gated { activation: Activation::Silu, fused: true });
}

#[test]
fn heads_may_differ_by_layer() {
    let mut model = TinyModel::llama();
    model.set("llama.attention.head_count_kv", Value::Array(Array::from_i32s(&[2, 4])));
    let config = ModelConfig::from_gguf(&model.build()).unwrap();
    assert_eq!((config.layers[0].n_kv_heads, config.layers[1].n_kv_heads), (2, 4));
}

#[test]
fn wrong_facts_are_told_with_key_expected_and_found() {
    let error = |change: &dyn Fn(&mut TinyModel)| {
        let mut model = TinyModel::llama();
        change(&mut model);
        ModelConfig::from_gguf(&model.build()).unwrap_err().to_string()
    };
    let set = |key: &'static str, value: Value<'static>| error(&|model| model.set(key, value.clone()));
    assert_eq!(
        set("general.architecture", Value::from_text("mamba")),
        "architecture \"mamba\" is not supported; supported are llama, mistral3, qwen2, qwen3, gemma2, gemma3, phi3, \
         gpt2, olmo2, granite, smollm3"
    );
    assert_eq!(
        error(&|model| model.unset("general.architecture")),
        "metadata key \"general.architecture\" is missing; expected the architecture's name"
    );
    assert_eq!(
        error(&|model| model.unset("llama.block_count")),
        "metadata key \"llama.block_count\" is missing; expected a positive integer"
    );
    assert_eq!(
        set("llama.block_count", Value::U32(4_000_000_000)),
        "metadata key \"llama.block_count\": expected 1 to 1024, found 4000000000"
    );
    assert_eq!(
        set("llama.embedding_length", Value::from_text("wide")),
        "metadata key \"llama.embedding_length\": expected an integer of 0 to 4294967295, found string \"wide\""
    );
    assert_eq!(
        set("llama.attention.head_count_kv", Value::U32(3)),
        "metadata key \"llama.attention.head_count_kv\": expected a divisor of head_count 4 (layer 0), found 3"
    );
    assert_eq!(
        set("llama.attention.head_count", Value::Array(Array::from_u32s(&[4]))),
        "metadata key \"llama.attention.head_count\": expected one number or 2, found 1"
    );
    assert_eq!(
        set("llama.rope.dimension_count", Value::U32(15)),
        "metadata key \"llama.rope.dimension_count\": expected an even number, found 15"
    );
    assert_eq!(
        set("llama.rope.dimension_count", Value::U32(32)),
        "metadata key \"llama.rope.dimension_count\": expected 2 to 16, found 32"
    );
    assert_eq!(
        set("llama.rope.freq_base", Value::F32(f32::NAN)),
        "metadata key \"llama.rope.freq_base\": expected a finite number, found NaN"
    );
    assert_eq!(
        set("llama.rope.scaling.type", Value::from_text("spiral")),
        "metadata key \"llama.rope.scaling.type\": expected none, linear, yarn or longrope, found \"spiral\""
    );
    assert_eq!(
        set("llama.rope.scaling.type", Value::from_text("longrope")),
        "tensor \"rope_factors_short.weight\" is missing; expected shape [8]"
    );
    assert_eq!(
        error(&|model| model.add("rope_freqs.weight", &[7])),
        "tensor \"rope_freqs.weight\": expected shape [8], found [7]"
    );
    assert_eq!(
        set("llama.expert_count", Value::U32(8)),
        "llama model with a mixture of experts (metadata key \"llama.expert_count\") is not supported"
    );
    assert_eq!(
        set("llama.attention.layer_norm_rms_epsilon", Value::F32(-1.0)),
        "metadata key \"llama.attention.layer_norm_rms_epsilon\": expected zero or a small positive number, found -1"
    );
}

#[test]
fn the_vocabulary_is_counted_by_tokens_then_key_then_embeddings() {
    let mut model = TinyModel::llama();
    let vocab_size = |model: &TinyModel| ModelConfig::from_gguf(&model.build()).unwrap().vocab_size;
    model.set("llama.vocab_size", Value::U32(99));
    assert_eq!(vocab_size(&model), 10);
    model.unset("tokenizer.ggml.tokens");
    assert_eq!(vocab_size(&model), 99);
    model.unset("llama.vocab_size");
    assert_eq!(vocab_size(&model), 10);
}
