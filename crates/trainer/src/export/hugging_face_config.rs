//! A model's facts as the `config.json` of `transformers`.
//!
//! Rotary positions are written twice: as `rope_parameters`, which version 5 made of them, and as `rope_theta` with
//! `rope_scaling`, which older versions and other programs read.

use serde_json::{Value as Json, json};
use weights::{Activation, Architecture, FfnKind, LayerRope, ModelConfig, NormPlace};

use super::hugging_face::{HuggingFaceDtype, SpecialIds};
use super::hugging_face_rope::put_rope;

/// Why a model has no configuration in `transformers`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a {arch} model with {what} cannot be said in a configuration of transformers")]
pub struct Unexportable {
    /// The architecture.
    pub arch: &'static str,
    /// What has no place there.
    pub what: &'static str,
}

/// The class of models that `transformers` has for a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Llama,
    /// Llama with a window.
    Mistral,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Phi3,
    Olmo2,
    /// OLMo 2 with windows.
    Olmo3,
    Granite,
    SmolLm3,
}

impl Family {
    fn of(config: &ModelConfig) -> Result<Family, &'static str> {
        let windowed = config.layers.iter().any(|layer| layer.window.is_some());
        Ok(match config.arch {
            Architecture::Llama if windowed => Family::Mistral,
            Architecture::Llama => Family::Llama,
            Architecture::Qwen2 => Family::Qwen2,
            Architecture::Qwen3 => Family::Qwen3,
            Architecture::Gemma2 => Family::Gemma2,
            Architecture::Gemma3 => Family::Gemma3,
            Architecture::Phi3 => Family::Phi3,
            Architecture::Olmo2 if windowed => Family::Olmo3,
            Architecture::Olmo2 => Family::Olmo2,
            Architecture::Granite => Family::Granite,
            Architecture::SmolLm3 => Family::SmolLm3,
            Architecture::Mistral3 => return Err("parts for images and text"),
            Architecture::Gpt2 => return Err("learned positions and transposed matrices"),
        })
    }

    /// `architectures` and `model_type`.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Family::Llama => ("LlamaForCausalLM", "llama"),
            Family::Mistral => ("MistralForCausalLM", "mistral"),
            Family::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
            Family::Qwen3 => ("Qwen3ForCausalLM", "qwen3"),
            Family::Gemma2 => ("Gemma2ForCausalLM", "gemma2"),
            Family::Gemma3 => ("Gemma3ForCausalLM", "gemma3_text"),
            Family::Phi3 => ("Phi3ForCausalLM", "phi3"),
            Family::Olmo2 => ("Olmo2ForCausalLM", "olmo2"),
            Family::Olmo3 => ("Olmo3ForCausalLM", "olmo3"),
            Family::Granite => ("GraniteForCausalLM", "granite"),
            Family::SmolLm3 => ("SmolLM3ForCausalLM", "smollm3"),
        }
    }

    fn is_gemma(self) -> bool {
        matches!(self, Family::Gemma2 | Family::Gemma3)
    }

    /// Whether each layer says whether it has a window.
    fn has_layer_types(self) -> bool {
        self.is_gemma() || self == Family::Olmo3
    }

    /// Whether layers with a window have a RoPE of their own.
    pub(super) fn has_local_rope(self) -> bool {
        matches!(self, Family::Gemma3 | Family::Olmo3)
    }
}

/// `config.json` of a model whose weights are written in `dtype`.
///
/// # Errors
/// Where `transformers` has no class for the architecture, or its class has no setting for a fact.
pub fn hugging_face_config(
    config: &ModelConfig,
    dtype: HuggingFaceDtype,
    ids: &SpecialIds<'_>,
) -> Result<Json, Unexportable> {
    json_of(config, dtype, ids).map_err(|what| Unexportable { arch: config.arch.name(), what })
}

fn json_of(
    config: &ModelConfig,
    dtype: HuggingFaceDtype,
    ids: &SpecialIds<'_>,
) -> Result<Json, &'static str> {
    let family = Family::of(config)?;
    check_layers(config, family)?;
    let (class, model_type) = family.names();
    let layer = &config.layers[0];
    let activation = activation(config, family)?;
    let mut json = json!({
        "architectures": [class],
        "model_type": model_type,
        "dtype": dtype.name(),
        "torch_dtype": dtype.name(),
        "vocab_size": config.vocab_size,
        "hidden_size": config.n_embd,
        "intermediate_size": layer.n_ff,
        "num_hidden_layers": config.n_layers(),
        "num_attention_heads": layer.n_heads,
        "num_key_value_heads": layer.n_kv_heads,
        "head_dim": layer.head_dim_k,
        "hidden_act": activation,
        "max_position_embeddings": config.max_seq_len,
        "rms_norm_eps": number(config.norm.eps),
        "tie_word_embeddings": config.tied_output,
        "use_cache": true,
        "attention_dropout": 0.0,
    });
    ids.put(&mut json);
    put_biases(config, family, &mut json)?;
    put_factors(config, family, &mut json)?;
    put_windows(config, family, &mut json)?;
    put_rope(config, family, &mut json)?;
    Ok(json)
}

/// Layers must be alike but for their windows and RoPE.
fn check_layers(config: &ModelConfig, family: Family) -> Result<(), &'static str> {
    let first = &config.layers[0];
    for layer in &config.layers {
        if (layer.n_heads, layer.n_kv_heads, layer.n_ff) != (first.n_heads, first.n_kv_heads, first.n_ff) {
            return Err("layers of different sizes");
        }
        if layer.head_dim_k != layer.head_dim_v {
            return Err("heads of values unlike those of keys");
        }
    }
    let must_divide = matches!(family, Family::Llama | Family::Gemma2 | Family::Gemma3);
    if must_divide && !config.n_embd.is_multiple_of(first.n_heads) {
        return Err("a width that is no multiple of the number of heads");
    }
    if family == Family::Phi3 && config.n_embd != first.q_dim() {
        return Err("heads that are not the width together");
    }
    let place = match family {
        Family::Gemma2 | Family::Gemma3 => NormPlace::PreAndPost,
        Family::Olmo2 | Family::Olmo3 => NormPlace::Post,
        _ => NormPlace::Pre,
    };
    if config.norm.place != place {
        return Err("norms in other places than its own");
    }
    Ok(())
}

fn activation(config: &ModelConfig, family: Family) -> Result<&'static str, &'static str> {
    let is_phi3 = family == Family::Phi3;
    if config.qkv_fused != is_phi3 {
        return Err(if is_phi3 { "separate q, k and v" } else { "q, k and v in one tensor" });
    }
    match config.ffn {
        FfnKind::Gated { activation, fused } if fused == is_phi3 => Ok(match activation {
            Activation::Silu => "silu",
            Activation::Gelu => "gelu_pytorch_tanh",
        }),
        FfnKind::Gated { .. } => Err("gate and up projections put together in another way"),
        FfnKind::Plain { .. } => Err("a feed-forward network without a gate"),
    }
}

fn put_biases(config: &ModelConfig, family: Family, json: &mut Json) -> Result<(), &'static str> {
    let (qkv, out) = (config.qkv_bias, config.attn_out_bias);
    match family {
        Family::Qwen2 if !qkv || out => return Err("other biases than those of q, k and v"),
        Family::Qwen2 => {}
        Family::Mistral | Family::Phi3 if qkv || out => return Err("biases in attention"),
        _ if qkv != out => return Err("biases on some of attention's projections"),
        _ => json["attention_bias"] = json!(qkv),
    }
    match family {
        Family::Llama | Family::Granite | Family::SmolLm3 => json["mlp_bias"] = json!(config.ffn_bias),
        _ if config.ffn_bias => return Err("biases in the feed-forward network"),
        _ => {}
    }
    if config.output_bias { Err("a bias on the output") } else { Ok(()) }
}

/// The factors of embeddings, scores, what is added to the stream, and logits.
fn put_factors(config: &ModelConfig, family: Family, json: &mut Json) -> Result<(), &'static str> {
    let usual_scale = 1.0 / (config.layers[0].head_dim_k as f32).sqrt();
    match family {
        Family::Granite => {
            json["attention_multiplier"] = number(config.attn_scale);
            json["embedding_multiplier"] = number(config.embd_scale);
            json["residual_multiplier"] = number(config.residual_scale);
            json["logits_scaling"] = number(1.0 / config.logit_scale);
            return no_caps(config);
        }
        Family::Gemma2 | Family::Gemma3 => {
            let squared = 1.0 / f64::from(config.attn_scale).powi(2);
            let scalar = squared.round();
            if (squared - scalar).abs() > NEAR * squared {
                return Err("a scale of scores that is not that of a whole number");
            }
            json["query_pre_attn_scalar"] = json!(scalar as u64);
            json["hidden_activation"] = json["hidden_act"].clone();
            json["attn_logit_softcapping"] = json!(config.attn_softcap.map(number));
            json["final_logit_softcapping"] = json!(config.final_softcap.map(number));
            if config.embd_scale != (config.n_embd as f32).sqrt() {
                return Err("another factor of its embeddings");
            }
        }
        _ => {
            no_caps(config)?;
            if f64::from((config.attn_scale - usual_scale).abs()) > NEAR * f64::from(usual_scale) {
                return Err("another scale of scores");
            }
            if config.embd_scale != 1.0 {
                return Err("a factor of its embeddings");
            }
        }
    }
    if (config.residual_scale, config.logit_scale) != (1.0, 1.0) {
        return Err("factors of the stream or of the logits");
    }
    Ok(())
}

fn no_caps(config: &ModelConfig) -> Result<(), &'static str> {
    match (config.attn_softcap, config.final_softcap) {
        (None, None) => Ok(()),
        _ => Err("capped scores or logits"),
    }
}

fn put_windows(config: &ModelConfig, family: Family, json: &mut Json) -> Result<(), &'static str> {
    let mut windows = config.layers.iter().filter_map(|layer| layer.window);
    let window = windows.next();
    if windows.any(|other| Some(other) != window) {
        return Err("windows of different lengths");
    }
    let in_all = config.layers.iter().all(|layer| layer.window == window);
    match family {
        Family::Mistral | Family::Phi3 if !in_all => return Err("windows in some layers only"),
        Family::Mistral | Family::Phi3 => json["sliding_window"] = json!(window),
        _ if family.has_layer_types() => {
            let kind = |has_window| if has_window { "sliding_attention" } else { "full_attention" };
            let kinds: Vec<&str> = config.layers.iter().map(|layer| kind(layer.window.is_some())).collect();
            json["layer_types"] = json!(kinds);
            json["sliding_window"] = json!(window);
        }
        _ if window.is_some() => return Err("windows"),
        Family::Qwen2 | Family::Qwen3 | Family::SmolLm3 => json["use_sliding_window"] = json!(false),
        _ => {}
    }
    // The layer types decide there which RoPE a layer has.
    let is_local = |rope| rope == LayerRope::Local;
    if family.has_layer_types()
        && config.layers.iter().any(|layer| is_local(layer.rope) != layer.window.is_some())
    {
        return Err("windows and positions that do not go together");
    }
    Ok(())
}

/// As near as single precision brings a root and its square.
const NEAR: f64 = 1e-5;

/// The shortest decimal number that is this one in single precision: 0.000001 and not 0.0000009999999974752427.
pub(super) fn number(x: f32) -> Json {
    let shortest: f64 = x.to_string().parse().expect("a number's own text");
    json!(shortest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weights::DecoderShape;

    use super::*;

    fn shape() -> DecoderShape {
        DecoderShape {
            n_layers: 2,
            n_embd: 32,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 16,
            n_ff: 64,
            vocab_size: 10,
            max_seq_len: 128,
            tied_output: true,
            rope_theta: 50_000.0,
            window: None,
        }
    }

    fn decoder() -> ModelConfig {
        shape().config()
    }

    fn json(config: &ModelConfig) -> Result<Json, Unexportable> {
        hugging_face_config(config, HuggingFaceDtype::BF16, &SpecialIds::default())
    }

    #[test]
    fn a_decoder_made_from_nothing_is_a_qwen3() {
        let ids = SpecialIds { bos: Some(1), eos: &[2, 7], pad: None };
        let json = hugging_face_config(&decoder(), HuggingFaceDtype::BF16, &ids).unwrap();
        for (key, expected) in [
            ("architectures", json!(["Qwen3ForCausalLM"])),
            ("model_type", json!("qwen3")),
            ("dtype", json!("bfloat16")),
            ("head_dim", json!(16)),
            ("rms_norm_eps", json!(1e-6)),
            ("rope_theta", json!(50_000.0)),
            ("rope_parameters", json!({ "rope_type": "default", "rope_theta": 50_000.0 })),
            ("tie_word_embeddings", json!(true)),
            ("attention_bias", json!(false)),
            ("bos_token_id", json!(1)),
            ("eos_token_id", json!([2, 7])),
            ("pad_token_id", json!(null)),
        ] {
            assert_eq!(json[key], expected, "{key}");
        }
        assert!(json.get("rope_scaling").is_none());
    }

    #[test]
    fn one_with_a_window_is_a_gemma3() {
        let kinds = |n_layers| {
            let json = json(&DecoderShape { n_layers, window: Some(24), ..shape() }.config()).unwrap();
            assert_eq!((&json["model_type"], &json["sliding_window"]), (&json!("gemma3_text"), &json!(24)));
            assert_eq!(json["rope_parameters"]["full_attention"]["rope_theta"], json!(50_000.0));
            assert_eq!(json["rope_parameters"]["sliding_attention"]["rope_theta"], json!(10_000.0));
            json["layer_types"]
                .as_array()
                .unwrap()
                .iter()
                .map(|kind| kind == "full_attention")
                .collect::<Vec<_>>()
        };
        assert_eq!(kinds(2), [false, false]);
        assert_eq!(kinds(7), [false, false, false, false, false, true, false]);
    }

    #[test]
    fn what_has_no_setting_is_refused_by_name() {
        let refused = |change: fn(&mut ModelConfig)| {
            let mut config = decoder();
            change(&mut config);
            json(&config).unwrap_err().what
        };
        assert_eq!(refused(|config| config.layers[1].n_ff = 65), "layers of different sizes");
        assert_eq!(refused(|config| config.layers[1].window = Some(4)), "windows");
        assert_eq!(refused(|config| config.qkv_bias = true), "biases on some of attention's projections");
        assert_eq!(refused(|config| config.attn_scale = 0.5), "another scale of scores");
        assert_eq!(refused(|config| config.layers[0].rope = LayerRope::None), "layers without positions");
        assert_eq!(refused(|config| config.output_bias = true), "a bias on the output");
        let mut config = decoder();
        config.arch = Architecture::Gpt2;
        let error = json(&config).unwrap_err().to_string();
        assert!(error.starts_with("a gpt2 model with learned positions"), "{error}");
    }

    #[test]
    fn a_llama_with_a_window_is_a_mistral() {
        let mut config = decoder();
        config.arch = Architecture::Llama;
        assert_eq!(json(&config).unwrap()["model_type"], "llama");
        config.layers[0].window = Some(24);
        assert_eq!(json(&config).unwrap_err().what, "windows in some layers only");
        config.layers[1].window = Some(24);
        let json = json(&config).unwrap();
        assert_eq!((&json["model_type"], &json["sliding_window"]), (&json!("mistral"), &json!(24)));
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!(number(1e-6).to_string(), "1e-6");
        assert_eq!(number(0.4).to_string(), "0.4");
        assert_eq!(number(10_000.0).to_string(), "10000.0");
    }
}
