//! A decoder that is made from nothing, in the structure of Qwen 3: rotary positions, norms on each head's queries and
//! keys, grouped-query attention, a gated feed-forward network. Every runtime that reads GGUF knows it.

use super::{
    Activation, FfnKind, LayerConfig, LayerRope, ModelConfig, NormConfig, NormKind, NormPlace, QkNorm,
    RopeConfig, RopePairing, RopeScaling,
};
use crate::architecture::Architecture;
use crate::gguf::Value;

/// The sizes of a new decoder; all layers are alike.
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
}

/// What is added to the mean square in norms, as in Qwen 3.
const EPS: f32 = 1e-6;
const ARCH: Architecture = Architecture::Qwen3;

impl DecoderShape {
    /// The facts of such a model.
    #[must_use]
    pub fn config(&self) -> ModelConfig {
        let layer = LayerConfig {
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            head_dim_k: self.head_dim,
            head_dim_v: self.head_dim,
            n_ff: self.n_ff,
            window: None,
            rope: LayerRope::Global,
        };
        ModelConfig {
            arch: ARCH,
            name: None,
            n_embd: self.n_embd,
            vocab_size: self.vocab_size,
            max_seq_len: self.max_seq_len,
            layers: vec![layer; self.n_layers],
            rope: Some(RopeConfig {
                pairing: RopePairing::Neox,
                n_rot: self.head_dim,
                theta: self.rope_theta,
                freq_factors: None,
                scaling: RopeScaling::None,
                attn_factor: 1.0,
            }),
            rope_local: None,
            learned_positions: false,
            norm: NormConfig { kind: NormKind::Rms, eps: EPS, place: NormPlace::Pre },
            qk_norm: QkNorm::PerHead,
            qkv_fused: false,
            qkv_bias: false,
            attn_out_bias: false,
            ffn: FfnKind::Gated { activation: Activation::Silu, fused: false },
            ffn_bias: false,
            output_bias: false,
            tied_output: self.tied_output,
            attn_scale: 1.0 / (self.head_dim as f32).sqrt(),
            attn_softcap: None,
            final_softcap: None,
            embd_scale: 1.0,
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
        let arch = ARCH.name();
        let mut keys = vec![("general.architecture".to_owned(), Value::from_text(arch))];
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
        for tied_output in [false, true] {
            let shape = DecoderShape {
                n_layers: 3,
                n_embd: 64,
                n_heads: 6,
                n_kv_heads: 2,
                head_dim: 16,
                n_ff: 96,
                vocab_size: 40,
                max_seq_len: 128,
                tied_output,
                rope_theta: 50_000.0,
            };
            let config = shape.config();
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
