//! What the engine and the trainer must know of an architecture, read from a file's metadata.
//!
//! The names, and the GGUF key of each (`{arch}` is the architecture's name):
//!
//! | field | key | where absent |
//! |---|---|---|
//! | `n_layers()` | `{arch}.block_count` | error |
//! | `n_embd` | `{arch}.embedding_length` | error |
//! | `max_seq_len` | `{arch}.context_length` | error |
//! | `vocab_size` | length of `tokenizer.ggml.tokens`, then `{arch}.vocab_size` | rows of `token_embd.weight` |
//! | `n_heads` | `{arch}.attention.head_count` (number or one per layer) | error |
//! | `n_kv_heads` | `{arch}.attention.head_count_kv` (likewise) | `n_heads` |
//! | `head_dim_k`, `head_dim_v` | `{arch}.attention.key_length`, `.value_length` | `n_embd / n_heads` |
//! | `n_ff` | `{arch}.feed_forward_length` (likewise) | error |
//! | `norm.eps` | `{arch}.attention.layer_norm_rms_epsilon` or `.layer_norm_epsilon` | error |
//! | `window` | `{arch}.attention.sliding_window`, `.sliding_window_pattern` | see `read.rs` |
//! | `rope` | `{arch}.rope.*` | see `rope.rs` |
//! | `attn_softcap`, `final_softcap` | `{arch}.attn_logit_softcapping`, `.final_logit_softcapping` | gemma2: 50, 30 |
//! | `attn_scale` | granite: `{arch}.attention.scale` | `1/√head_dim_k` |
//! | `embd_scale`, `residual_scale` | granite: `{arch}.embedding_scale`, `.residual_scale` | 1 (gemma: √n_embd) |
//! | `logit_scale` | granite: 1 / `{arch}.logit_scale` | 1 |
//!
//! The forward pass that these facts describe, with `norm` meaning [`NormConfig`] at its [`NormPlace`]:
//! ```text
//! x = token_embd[id] · embd_scale (+ position_embd[pos])
//! for each layer:
//!   h = norm_pre(x); q, k, v = projections of h (+ biases); qk_norm; rope(q, k)
//!   a = attention(q, k, v; scale attn_scale, softcap attn_softcap, window) · attn_output (+ bias)
//!   x = x + norm_post(a) · residual_scale
//!   h = norm_pre(x); f = ffn(h)
//!   x = x + norm_post(f) · residual_scale
//! logits = softcap(output(output_norm(x)) · logit_scale, final_softcap)
//! ```

mod decoder;
mod error;
mod read;
mod rope;

pub use decoder::DecoderShape;
pub use error::ConfigError;
pub(crate) use read::limits;
pub use rope::{RopeConfig, RopePairing, RopeScaling};

use crate::architecture::Architecture;

/// Everything that is true of a model before its weights are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The architecture.
    pub arch: Architecture,
    /// `general.name`, when it is there and text.
    pub name: Option<String>,
    /// Width of the residual stream, e.g. 576.
    pub n_embd: usize,
    /// Number of tokens, e.g. 49152.
    pub vocab_size: usize,
    /// Longest sequence the model was made for, e.g. 8192.
    pub max_seq_len: usize,
    /// Facts of each layer; there is at least one.
    pub layers: Vec<LayerConfig>,
    /// RoPE of layers with [`LayerRope::Global`]; `None` only with learned positions.
    pub rope: Option<RopeConfig>,
    /// RoPE of layers with [`LayerRope::Local`] (the windowed ones of gemma2, gemma3, olmo2).
    pub rope_local: Option<RopeConfig>,
    /// Whether `position_embd.weight` is added to the embeddings (gpt2).
    pub learned_positions: bool,
    /// The norms of the layers and before the output.
    pub norm: NormConfig,
    /// Norms on q and k before RoPE.
    pub qk_norm: QkNorm,
    /// q, k and v are rows of one tensor `attn_qkv`, in this order.
    pub qkv_fused: bool,
    /// q, k and v have biases.
    pub qkv_bias: bool,
    /// The attention's output projection has a bias.
    pub attn_out_bias: bool,
    /// The feed-forward network.
    pub ffn: FfnKind,
    /// The feed-forward projections have biases.
    pub ffn_bias: bool,
    /// The output has a bias.
    pub output_bias: bool,
    /// The output's weights are the token embeddings (the file has no `output.weight`).
    pub tied_output: bool,
    /// Factor of q·k before cap and softmax, e.g. 0.125.
    pub attn_scale: f32,
    /// Scores become `cap · tanh(score / cap)`.
    pub attn_softcap: Option<f32>,
    /// Logits become `cap · tanh(logit / cap)`.
    pub final_softcap: Option<f32>,
    /// Factor of the token embeddings.
    pub embd_scale: f32,
    /// Factor of what attention and feed-forward add to the residual stream.
    pub residual_scale: f32,
    /// Factor of the logits, before any cap (granite's file holds the divisor).
    pub logit_scale: f32,
}

impl ModelConfig {
    /// Number of layers.
    pub fn n_layers(&self) -> usize {
        self.layers.len()
    }

    /// The RoPE of a layer; `None` for one without.
    pub fn layer_rope(&self, layer_idx: usize) -> Option<&RopeConfig> {
        match self.layers[layer_idx].rope {
            LayerRope::None => None,
            LayerRope::Global => self.rope.as_ref(),
            LayerRope::Local => self.rope_local.as_ref(),
        }
    }
}

/// What may differ from layer to layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerConfig {
    /// Query heads, e.g. 9.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`, e.g. 3.
    pub n_kv_heads: usize,
    /// Elements of a query or key head, e.g. 64.
    pub head_dim_k: usize,
    /// Elements of a value head, e.g. 64.
    pub head_dim_v: usize,
    /// Width of the feed-forward network, e.g. 1536.
    pub n_ff: usize,
    /// A token attends to itself and the `window - 1` before it; `None` to all before it.
    pub window: Option<usize>,
    /// Which RoPE.
    pub rope: LayerRope,
}

impl LayerConfig {
    /// Elements of all query heads of a token.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim_k
    }

    /// Elements of all key heads of a token.
    pub fn k_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim_k
    }

    /// Elements of all value heads of a token.
    pub fn v_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim_v
    }

    /// Elements that attention hands to its output projection.
    pub fn attn_out_dim(&self) -> usize {
        self.n_heads * self.head_dim_v
    }
}

/// Which of the model's RoPEs a layer uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerRope {
    /// None: learned positions, or smollm3's every fourth layer.
    None,
    /// [`ModelConfig::rope`].
    Global,
    /// [`ModelConfig::rope_local`].
    Local,
}

/// The norm of the residual stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormConfig {
    /// Which norm.
    pub kind: NormKind,
    /// Added to the mean square or variance, e.g. 1e-5. Also that of q/k norms.
    pub eps: f32,
    /// Where in a layer.
    pub place: NormPlace,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / √(mean(x²) + eps) · weight`
    Rms,
    /// `(x - mean) / √(variance + eps) · weight + bias`
    Layer,
}

/// Where in a layer the norms are. The output is always normalised by `output_norm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before attention (`attn_norm`) and before the feed-forward (`ffn_norm`).
    Pre,
    /// Before and, on what is added to the stream, after (`post_attention_norm`, `post_ffw_norm`).
    PreAndPost,
    /// Only after.
    Post,
}

/// RMS norms on q and k, after their biases and before RoPE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// Over each head, weights of `head_dim_k` shared by all heads.
    PerHead,
    /// Over all heads of a token together, weights of `q_dim` and `k_dim`.
    Whole,
}

/// The feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FfnKind {
    /// `down(act(gate(x)) · up(x))`
    Gated {
        /// `act`: SiLU (SwiGLU) or GELU (GeGLU).
        activation: Activation,
        /// The rows of `ffn_up` are gate (first `n_ff`) and up (the rest); there is no `ffn_gate`.
        fused: bool,
    },
    /// `down(act(up(x)))`
    Plain {
        /// `act`.
        activation: Activation,
    },
}

/// The non-linearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`
    Silu,
    /// GELU in its tanh form: `0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`
    Gelu,
}

#[cfg(test)]
mod tests;
