//! Reads [`ModelConfig`] from a file: one function a group of facts, every value checked against a named limit.

use std::fmt;

use super::{
    ConfigError, FfnKind, LayerConfig, LayerRope, ModelConfig, NormConfig, NormKind, RopeConfig, RopeScaling,
    rope,
};
use crate::architecture::{Architecture, Facts};
use crate::gguf::{Gguf, Value};

/// The largest values that are believed. Real models stay far below; products of two of them fit in 64 bits.
pub(crate) mod limits {
    /// Layers; the deepest models have some 130.
    pub(crate) const MAX_LAYERS: usize = 1024;
    /// Width of the residual stream; the widest have some 18,000.
    pub(crate) const MAX_EMBD: usize = 1 << 20;
    /// Query heads of a layer; the most have some 130.
    pub(crate) const MAX_HEADS: usize = 1 << 12;
    /// Elements of a head; the most have some 600.
    pub(crate) const MAX_HEAD_DIM: usize = 1 << 14;
    /// Width of a feed-forward network; the widest have some 100,000.
    pub(crate) const MAX_FF: usize = 1 << 22;
    /// Tokens of a vocabulary; the largest have some 300,000.
    pub(crate) const MAX_VOCAB: usize = 1 << 24;
    /// Context length; the longest are some 10 million.
    pub(crate) const MAX_SEQ_LEN: usize = 1 << 30;
}

/// Reads keys below the architecture's name and says which one is wrong.
pub(super) struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'static str,
}

impl<'a> Keys<'a> {
    /// The full key.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    pub(super) fn out_of_range(
        &self,
        key: &str,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> ConfigError {
        ConfigError::OutOfRange {
            key: self.name(key),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }

    /// An integer of `min` to `max`.
    pub(super) fn size(&self, key: &str, min: usize, max: usize) -> Result<Option<usize>, ConfigError> {
        let Some(found) = self.gguf.get_u32(&self.name(key))? else { return Ok(None) };
        match usize::try_from(found) {
            Ok(n) if (min..=max).contains(&n) => Ok(Some(n)),
            _ => Err(self.out_of_range(key, format_args!("{min} to {max}"), found)),
        }
    }

    fn required(&self, key: &str, max: usize) -> Result<usize, ConfigError> {
        self.size(key, 1, max)?.ok_or_else(|| self.missing(key, "a positive integer"))
    }

    fn missing(&self, key: &str, expected: &'static str) -> ConfigError {
        ConfigError::MissingKey { key: self.name(key), expected }
    }

    /// A finite float.
    pub(super) fn float(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.gguf.get_f32(&self.name(key))? {
            Some(x) if !x.is_finite() => Err(self.out_of_range(key, "a finite number", x)),
            x => Ok(x),
        }
    }

    /// A float above zero.
    pub(super) fn positive(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.float(key)? {
            Some(x) if x <= 0.0 => Err(self.out_of_range(key, "a positive number", x)),
            x => Ok(x),
        }
    }

    /// A float above zero; zero, in llama.cpp's practice, means that it is not set.
    fn positive_or_unset(&self, key: &str) -> Result<Option<f32>, ConfigError> {
        match self.float(key)? {
            Some(x) if x < 0.0 => Err(self.out_of_range(key, "zero or a positive number", x)),
            x => Ok(x.filter(|&x| x > 0.0)),
        }
    }

    /// A string of UTF-8.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        Ok(self.gguf.get_str(&self.name(key))?)
    }

    /// A number for all layers, or an array with one for each.
    fn per_layer(&self, key: &str, n_layers: usize, max: usize) -> Result<Option<Vec<usize>>, ConfigError> {
        let Some(Value::Array(array)) = self.gguf.get(&self.name(key)) else {
            return Ok(self.size(key, 1, max)?.map(|n| vec![n; n_layers]));
        };
        if array.len() != n_layers {
            return Err(self.out_of_range(key, format_args!("one number or {n_layers}"), array.len()));
        }
        let numbers = self.gguf.get_array_u32(&self.name(key))?.unwrap_or_default();
        match numbers.iter().find(|&&n| !(1..=max).contains(&(n as usize))) {
            Some(bad) => Err(self.out_of_range(key, format_args!("numbers of 1 to {max}"), bad)),
            None => Ok(Some(numbers.iter().map(|&n| n as usize).collect())),
        }
    }
}

impl ModelConfig {
    /// Reads the facts from a file's metadata. The tensors are checked by [`crate::check_tensors`].
    pub fn from_gguf(gguf: &Gguf) -> Result<ModelConfig, ConfigError> {
        let arch = architecture(gguf)?;
        let facts = arch.facts();
        let keys = Keys { gguf, arch: arch.name() };
        refuse_unsupported(&keys)?;

        let n_embd = keys.required("embedding_length", limits::MAX_EMBD)?;
        let max_seq_len = keys.required("context_length", limits::MAX_SEQ_LEN)?;
        let mut layers = read_layers(&keys, n_embd)?;
        let head_dim_k = layers[0].head_dim_k;
        let rope = match facts.rope {
            Some(pairing) => Some(rope::read(gguf, &keys, &facts, pairing, head_dim_k, max_seq_len)?),
            None => None,
        };
        place_ropes(&mut layers, arch, gguf, rope.is_some())?;
        place_windows(&mut layers, arch, &keys)?;
        let rope_local = match &rope {
            Some(rope) if layers.iter().any(|layer| layer.rope == LayerRope::Local) => {
                Some(local_rope(rope, arch, &keys)?)
            }
            _ => None,
        };

        let has = |tensor: &str| gguf.tensor(tensor).is_some();
        let qkv_fused = has("blk.0.attn_qkv.weight");
        Ok(ModelConfig {
            arch,
            name: gguf.get_str("general.name").ok().flatten().map(str::to_owned),
            n_embd,
            vocab_size: vocab_size(&keys)?,
            max_seq_len,
            rope,
            rope_local,
            learned_positions: facts.rope.is_none(),
            norm: NormConfig { kind: facts.norm, eps: norm_eps(&keys, &facts)?, place: facts.place },
            qk_norm: facts.qk_norm,
            qkv_fused,
            qkv_bias: has(if qkv_fused { "blk.0.attn_qkv.bias" } else { "blk.0.attn_q.bias" }),
            attn_out_bias: has("blk.0.attn_output.bias"),
            ffn: match facts.plain_ffn {
                true => FfnKind::Plain { activation: facts.activation },
                false => FfnKind::Gated { activation: facts.activation, fused: facts.gate_up_fused },
            },
            ffn_bias: has("blk.0.ffn_up.bias"),
            output_bias: has("output.bias"),
            tied_output: !has("output.weight"),
            attn_scale: attn_scale(&keys, arch, n_embd, &layers)?,
            attn_softcap: match arch {
                Architecture::Gemma2 => keys.positive("attn_logit_softcapping")?.or(Some(50.0)),
                _ => None,
            },
            final_softcap: match arch {
                Architecture::Gemma2 => keys.positive("final_logit_softcapping")?.or(Some(30.0)),
                Architecture::Gemma3 => keys.positive_or_unset("final_logit_softcapping")?,
                _ => None,
            },
            embd_scale: match arch {
                Architecture::Granite => keys.positive_or_unset("embedding_scale")?.unwrap_or(1.0),
                _ if facts.embd_scale_sqrt => (n_embd as f32).sqrt(),
                _ => 1.0,
            },
            residual_scale: match arch {
                Architecture::Granite => keys.positive_or_unset("residual_scale")?.unwrap_or(1.0),
                _ => 1.0,
            },
            logit_scale: match arch {
                Architecture::Granite => {
                    let divisor = keys.positive("logit_scale")?;
                    1.0 / divisor.ok_or_else(|| keys.missing("logit_scale", "a positive number"))?
                }
                _ => 1.0,
            },
            layers,
        })
    }
}

fn architecture(gguf: &Gguf) -> Result<Architecture, ConfigError> {
    let key = "general.architecture";
    let Some(found) = gguf.get_bytes(key)? else {
        let expected = "the architecture's name";
        return Err(ConfigError::MissingKey { key: key.into(), expected });
    };
    let known = std::str::from_utf8(found).ok().and_then(Architecture::from_name);
    known.ok_or_else(|| ConfigError::UnknownArchitecture {
        found: crate::gguf::quote(found),
        supported: Architecture::supported(),
    })
}

/// Features of these architectures that some files ask for and nothing here can do.
fn refuse_unsupported(keys: &Keys<'_>) -> Result<(), ConfigError> {
    let refuse = |feature, key: &str| {
        Err(ConfigError::UnsupportedFeature { arch: keys.arch, feature, key: keys.name(key) })
    };
    if keys.gguf.get_u32(&keys.name("expert_count"))?.is_some_and(|n| n > 0) {
        return refuse("a mixture of experts", "expert_count");
    }
    if keys.float("attention.temperature_scale")?.is_some_and(|scale| scale != 0.0) {
        return refuse("attention temperature scaling", "attention.temperature_scale");
    }
    if keys.gguf.get_bool(&keys.name("attention.causal"))? == Some(false) {
        return refuse("attention in both directions", "attention.causal");
    }
    if keys.gguf.get(&keys.name("deepstack_mapping")).is_some() {
        return refuse("image layers", "deepstack_mapping");
    }
    Ok(())
}

fn read_layers(keys: &Keys<'_>, n_embd: usize) -> Result<Vec<LayerConfig>, ConfigError> {
    let n_layers = keys.required("block_count", limits::MAX_LAYERS)?;
    let n_heads = keys
        .per_layer("attention.head_count", n_layers, limits::MAX_HEADS)?
        .ok_or_else(|| keys.missing("attention.head_count", "a positive integer"))?;
    let n_kv_heads = keys
        .per_layer("attention.head_count_kv", n_layers, limits::MAX_HEADS)?
        .unwrap_or_else(|| n_heads.clone());
    let n_ff = keys
        .per_layer("feed_forward_length", n_layers, limits::MAX_FF)?
        .ok_or_else(|| keys.missing("feed_forward_length", "a positive integer"))?;
    let head_dim = |key| match keys.size(key, 1, limits::MAX_HEAD_DIM)? {
        Some(dim) => Ok(dim),
        // llama.cpp divides by the first layer's number of heads.
        None if n_embd.is_multiple_of(n_heads[0]) && n_embd / n_heads[0] <= limits::MAX_HEAD_DIM => {
            Ok(n_embd / n_heads[0])
        }
        None => {
            let expected = format_args!("a divisor of embedding_length {n_embd}, or {key} to be set");
            Err(keys.out_of_range("attention.head_count", expected, n_heads[0]))
        }
    };
    let (head_dim_k, head_dim_v) = (head_dim("attention.key_length")?, head_dim("attention.value_length")?);
    for (layer_idx, (&n_heads, &n_kv_heads)) in n_heads.iter().zip(&n_kv_heads).enumerate() {
        if !n_heads.is_multiple_of(n_kv_heads) {
            let expected = format_args!("a divisor of head_count {n_heads} (layer {layer_idx})");
            return Err(keys.out_of_range("attention.head_count_kv", expected, n_kv_heads));
        }
    }
    Ok((0..n_layers)
        .map(|layer_idx| LayerConfig {
            n_heads: n_heads[layer_idx],
            n_kv_heads: n_kv_heads[layer_idx],
            head_dim_k,
            head_dim_v,
            n_ff: n_ff[layer_idx],
            window: None,
            rope: LayerRope::None,
        })
        .collect())
}

/// Which layers have RoPE at all.
fn place_ropes(
    layers: &mut [LayerConfig],
    arch: Architecture,
    gguf: &Gguf,
    has_rope: bool,
) -> Result<(), ConfigError> {
    // granite: the key is a switch; its hybrid relatives turn RoPE off with it.
    let switched_off =
        arch == Architecture::Granite && gguf.get_bool("granite.rope.scaling.finetuned")? == Some(false);
    if !has_rope || switched_off {
        return Ok(());
    }
    for (layer_idx, layer) in layers.iter_mut().enumerate() {
        let skipped = arch == Architecture::SmolLm3 && (layer_idx + 1) % SMOLLM3_NO_ROPE_STEP == 0;
        layer.rope = if skipped { LayerRope::None } else { LayerRope::Global };
    }
    Ok(())
}

/// smollm3: every fourth layer has no RoPE; the file does not say so.
const SMOLLM3_NO_ROPE_STEP: usize = 4;

/// Which layers see only a window, and use the local RoPE.
///
/// The period p of a pattern means that of each p layers the last sees everything. llama.cpp ignores the window of
/// `llama` (old Mistral) and `phi3` files; transformers applies it to every layer, and so do we.
fn place_windows(layers: &mut [LayerConfig], arch: Architecture, keys: &Keys<'_>) -> Result<(), ConfigError> {
    let window = match keys.size("attention.sliding_window", 0, u32::MAX as usize)? {
        None if arch == Architecture::Gemma2 => Some(4096),
        Some(0) | None => None,
        window => window,
    };
    let Some(window) = window else { return Ok(()) };
    let (period, has_local_rope) = match arch {
        Architecture::Gemma2 => (2, true),
        Architecture::Gemma3 => (GEMMA3_PERIOD, true),
        Architecture::Olmo2 => (4, true),
        Architecture::Llama | Architecture::Phi3 => (0, false),
        _ => return Ok(()),
    };
    let windowed = read_pattern(keys, layers.len(), period)?;
    for (layer, _) in layers.iter_mut().zip(windowed).filter(|(_, windowed)| *windowed) {
        layer.window = Some(window);
        if has_local_rope && layer.rope == LayerRope::Global {
            layer.rope = LayerRope::Local;
        }
    }
    Ok(())
}

/// gemma3: llama.cpp takes this period whatever a file says.
pub(super) const GEMMA3_PERIOD: usize = 6;
/// gemma3: base of the rotary frequencies in layers with a window, where a file does not say otherwise.
pub(super) const GEMMA3_LOCAL_THETA: f32 = 10_000.0;

/// Whether a layer sees only the window: all but the last of each `period`; with period 0 all.
pub(super) fn in_window(layer_idx: usize, period: usize) -> bool {
    period == 0 || layer_idx % period < period - 1
}

/// `sliding_window_pattern`: a period (0: all layers) or one flag per layer.
fn read_pattern(keys: &Keys<'_>, n_layers: usize, period: usize) -> Result<Vec<bool>, ConfigError> {
    let key = "attention.sliding_window_pattern";
    let period = match keys.gguf.get(&keys.name(key)) {
        Some(Value::Array(array)) => {
            if array.len() != n_layers {
                return Err(keys.out_of_range(
                    key,
                    format_args!("a number or {n_layers} flags"),
                    array.len(),
                ));
            }
            if let Ok(flags) = keys.gguf.get_array_bool(&keys.name(key)) {
                return Ok(flags.unwrap_or_default());
            }
            let numbers = keys.gguf.get_array_u32(&keys.name(key))?.unwrap_or_default();
            return Ok(numbers.iter().map(|&n| n != 0).collect());
        }
        _ => keys.size(key, 0, u32::MAX as usize)?.unwrap_or(period),
    };
    Ok((0..n_layers).map(|layer_idx| in_window(layer_idx, period)).collect())
}

/// The RoPE of windowed layers.
fn local_rope(global: &RopeConfig, arch: Architecture, keys: &Keys<'_>) -> Result<RopeConfig, ConfigError> {
    let stated = keys.positive("rope.freq_base_swa")?;
    let unscaled = RopeConfig { scaling: RopeScaling::None, attn_factor: 1.0, ..global.clone() };
    Ok(match arch {
        // its own base, never stretched
        Architecture::Gemma3 => RopeConfig { theta: stated.unwrap_or(GEMMA3_LOCAL_THETA), ..unscaled },
        // OLMo 3: the global base, not stretched
        Architecture::Olmo2 => unscaled,
        // Gemma 2: as everywhere
        _ => RopeConfig { theta: stated.unwrap_or(global.theta), ..global.clone() },
    })
}

fn vocab_size(keys: &Keys<'_>) -> Result<usize, ConfigError> {
    let in_range = |key: &str, n: usize| match n {
        1..=limits::MAX_VOCAB => Ok(n),
        _ => Err(ConfigError::OutOfRange {
            key: key.to_owned(),
            expected: format!("1 to {} tokens", limits::MAX_VOCAB),
            found: n.to_string(),
        }),
    };
    if let Some(Value::Array(tokens)) = keys.gguf.get("tokenizer.ggml.tokens") {
        return in_range("tokenizer.ggml.tokens", tokens.len());
    }
    if let Some(n) = keys.size("vocab_size", 1, limits::MAX_VOCAB)? {
        return Ok(n);
    }
    match keys.gguf.tensor("token_embd.weight") {
        Some(info) => in_range("token_embd.weight", usize::try_from(info.n_rows()).unwrap_or(usize::MAX)),
        None => Err(keys.missing("vocab_size", "the number of tokens")),
    }
}

fn norm_eps(keys: &Keys<'_>, facts: &Facts) -> Result<f32, ConfigError> {
    let key = match facts.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    };
    match keys.float(key)?.ok_or_else(|| keys.missing(key, "a small number"))? {
        eps if eps >= 0.0 => Ok(eps),
        eps => Err(keys.out_of_range(key, "zero or a small positive number", eps)),
    }
}

fn attn_scale(
    keys: &Keys<'_>,
    arch: Architecture,
    n_embd: usize,
    layers: &[LayerConfig],
) -> Result<f32, ConfigError> {
    let (n_layers, layer) = (layers.len(), &layers[0]);
    // The 27B models of Gemma 2 and 3 scale by the width that a head would have without its own; their files do not
    // say so, only their depth tells them apart.
    let is_gemma_27b = matches!((arch, n_layers), (Architecture::Gemma2, 46) | (Architecture::Gemma3, 62));
    let head_dim = if is_gemma_27b { n_embd / layer.n_heads } else { layer.head_dim_k };
    let usual = 1.0 / (head_dim.max(1) as f32).sqrt();
    Ok(match arch {
        Architecture::Granite => keys.positive_or_unset("attention.scale")?.unwrap_or(usual),
        _ => usual,
    })
}
