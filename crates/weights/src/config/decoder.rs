//! A decoder that is made from nothing, in the structure of Qwen 3: rotary positions, norms on each head's queries and
//! keys, grouped-query attention, a gated feed-forward network. With a window it is in that of Gemma 3, one of the few
//! whose windows llama.cpp honours. Every runtime that reads GGUF knows both.

use super::read::{GEMMA3_LOCAL_THETA, GEMMA3_PERIOD, in_window};
use super::{
    FfnKind, LayerConfig, LayerRope, ModelConfig, NormConfig, NormKind, RopeConfig, RopePairing, RopeScaling,
};
use crate::architecture::Architecture;
use crate::gguf::Value;

/// The sizes of a new decoder; all layers are alike but for the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecoderShape {
    /// Number of layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub n_ff: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// Longest sequence.
    pub max_seq_len: usize,
    /// Whether the output's weights are the embeddings.
    pub tied_output: bool,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Tokens that a token attends to, itself among them, in all layers but every sixth.
    pub window: Option<usize>,
}

/// What is added to the mean square in norms, as in Qwen 3 and Gemma 3.
const EPS: f32 = 1e-6;

impl DecoderShape {
    fn arch(&self) -> Architecture {
        if self.window.is_some() { Architecture::Gemma3 } else { Architecture::Qwen3 }
    }

    /// The facts of such a model.
    #[must_use]
    pub fn config(&self) -> ModelConfig {
        let facts = self.arch().facts();
        let layer = LayerConfig {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim_k: self.head_dim,
            head_dim_v: self.head_dim,
            n_ff: self.n_ff,
            window: None,
            rope: LayerRope::Global,
        };
        let rope = RopeConfig {
            pairing: RopePairing::Neox,
            n_rot: self.head_dim,
            theta: self.rope_theta,
            freq_factors: None,
            scaling: RopeScaling::None,
            attn_factor: 1.0,
        };
        let layer_of = |layer_idx| match self.window {
            Some(_) if in_window(layer_idx, GEMMA3_PERIOD) => {
                LayerConfig { window: self.window, rope: LayerRope::Local, ..layer.clone() }
            }
            _ => layer.clone(),
        };
        ModelConfig {
            arch: self.arch(),
            name: None,
            n_embd: self.n_embd,
            vocab_size: self.vocab_size,
            max_seq_len: self.max_seq_len,
            layers: (0..self.n_layers).map(layer_of).collect(),
            rope_local: self.window.map(|_| RopeConfig { theta: GEMMA3_LOCAL_THETA, ..rope.clone() }),
            rope: Some(rope),
            learned_positions: false,
            norm: NormConfig { kind: NormKind::Rms, eps: EPS, place: facts.place },
            qk_norm: facts.qk_norm,
            qkv_fused: false,
            qkv_bias: false,
            attn_out_bias: false,
            ffn: FfnKind::Gated { activation: facts.activation, fused: false },
            ffn_bias: false,
            output_bias: false,
            tied_output: self.tied_output,
            attn_scale: 1.0 / (self.head_dim as f32).sqrt(),
            attn_softcap: None,
            final_softcap: None,
            embd_scale: if facts.embd_scale_sqrt { (self.n_embd as f32).sqrt() } else { 1.0 },
            residual_scale: 1.0,
            logit_scale: 1.0,
        }
    }

    /// The keys from which [`ModelConfig::from_gguf`] reads those facts, beside the vocabulary and the tensors.
    #[must_use]
    pub fn metadata(&self) -> Vec<(String, Value<'static>)> {
        let sizes = [
            ("block_count", self.n_layers),
            ("context_length", self.max_seq_len),
            ("embedding_length", self.n_embd),
            ("feed_forward_length", self.n_ff),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
        ];
        let floats = [("attention.layer_norm_rms_epsilon", EPS), ("rope.freq_base", self.rope_theta)];
        let arch = self.arch().name();
        let mut keys = vec![("general.architecture".to_owned(), Value::from_text(arch))];
        let sizes = sizes.into_iter().chain(self.window.map(|n| ("attention.sliding_window", n)));
        keys.extend(sizes.map(|(key, n)| (format!("{arch}.{key}"), Value::U32(n as u32))));
        keys.extend(floats.map(|(key, x)| (format!("{arch}.{key}"), Value::F32(x))));
        keys
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::{Array, Gguf, GgufWriter};
    use crate::tensor_type::TensorType;
    use crate::tensors::{check_tensors, tensor_specs};

    #[test]
    fn what_is_written_is_read_back_as_the_same_model() {
        // Six layers end with one that sees everything.
        for (n_layers, tied_output, window) in [
            (3, false, None),
            (3, true, None),
            (3, true, Some(24)),
            (6, false, Some(1)),
            (13, true, Some(24)),
        ] {
            let shape = DecoderShape {
                n_layers,
                n_embd: 64,
                n_heads: 6,
                n_kv_heads: 2,
                head_dim: 16,
                n_ff: 96,
                vocab_size: 40,
                max_seq_len: 128,
                tied_output,
                rope_theta: 50_000.0,
                window,
            };
            let config = shape.config();
            let n_windowed = config.layers.iter().filter(|layer| layer.window.is_some()).count();
            assert_eq!(n_windowed, window.map_or(0, |_| n_layers - n_layers / 6));
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.gguf");
            let mut writer = GgufWriter::new(32).unwrap();
            for (key, value) in shape.metadata() {
                writer.set(&key, value).unwrap();
            }
            let tokens: Vec<String> = (0..40).map(|i| format!("t{i}")).collect();
            writer.set("tokenizer.ggml.tokens", Value::Array(Array::from_strings(&tokens))).unwrap();
            for spec in tensor_specs(&config) {
                let dims: Vec<u64> = spec.shape.iter().rev().map(|&n| n as u64).collect();
                let n_bytes = 4 * spec.shape.iter().product::<usize>();
                writer.add_tensor(&spec.name, &dims, TensorType::F32, vec![0; n_bytes]).unwrap();
            }
            writer.write_to(&path).unwrap();
            let gguf = Gguf::open(&path).unwrap();
            let read = ModelConfig::from_gguf(&gguf).unwrap();
            assert_eq!(read, config);
            check_tensors(&gguf, &read).unwrap();
        }
    }
}
