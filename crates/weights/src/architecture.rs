//! The architectures that can be run, each with the facts that its name alone decides.
//!
//! Checked against the graphs and hyper-parameter loaders of llama.cpp (llama-cpp-python 0.3.36). What a file can
//! decide (sizes, scales, scalings, biases) is read in `config`.

use std::fmt;

use crate::config::{Activation, NormKind, NormPlace, QkNorm, RopePairing};

/// A supported architecture, by the value of `general.architecture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// `llama`: Llama 1–3, Mistral, SmolLM2 and all that copied them.
    Llama,
    /// `mistral3`: Llama's structure with YaRN and, in some, attention temperature (refused).
    Mistral3,
    /// `qwen2`: Qwen 2 and 2.5; biases on q, k and v.
    Qwen2,
    /// `qwen3`: norms on each head's q and k.
    Qwen3,
    /// `gemma2`: norms before and after, soft caps, every second layer windowed.
    Gemma2,
    /// `gemma3`: q/k norms, five of six layers windowed with their own RoPE base.
    Gemma3,
    /// `phi3`: Phi 3 to 4; fused q/k/v and gate/up, longrope.
    Phi3,
    /// `gpt2`: LayerNorm, learned positions, biases everywhere.
    Gpt2,
    /// `olmo2`: OLMo 2 and 3; norms after, norms on the whole q and k.
    Olmo2,
    /// `granite`: Llama's structure with four multipliers.
    Granite,
    /// `smollm3`: Llama's structure, no RoPE on every fourth layer.
    SmolLm3,
}

/// What an architecture's name decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub name: &'static str,
    /// Which elements of a head RoPE turns together; `None` without RoPE (learned positions).
    pub rope: Option<RopePairing>,
    pub norm: NormKind,
    pub place: NormPlace,
    pub qk_norm: QkNorm,
    pub activation: Activation,
    /// Gate and up projections are one tensor, `ffn_up`.
    pub gate_up_fused: bool,
    /// No gate at all.
    pub plain_ffn: bool,
    /// Embeddings are scaled by √n_embd.
    pub embd_scale_sqrt: bool,
    /// `rope_freqs.weight` is used when it is there.
    pub freq_factors: bool,
    /// `rope_factors_long.weight` and `_short` are used when they are there.
    pub long_factors: bool,
}

const LLAMA: Facts = Facts {
    name: "llama",
    rope: Some(RopePairing::Norm),
    norm: NormKind::Rms,
    place: NormPlace::Pre,
    qk_norm: QkNorm::None,
    activation: Activation::Silu,
    gate_up_fused: false,
    plain_ffn: false,
    embd_scale_sqrt: false,
    freq_factors: true,
    long_factors: true,
};

const NEOX: Facts =
    Facts { rope: Some(RopePairing::Neox), freq_factors: false, long_factors: false, ..LLAMA };

impl Architecture {
    /// All of them, in the order error messages list them.
    pub const ALL: [Architecture; 11] = [
        Architecture::Llama,
        Architecture::Mistral3,
        Architecture::Qwen2,
        Architecture::Qwen3,
        Architecture::Gemma2,
        Architecture::Gemma3,
        Architecture::Phi3,
        Architecture::Gpt2,
        Architecture::Olmo2,
        Architecture::Granite,
        Architecture::SmolLm3,
    ];

    pub(crate) const fn facts(self) -> Facts {
        match self {
            Architecture::Llama => LLAMA,
            Architecture::Mistral3 => Facts { name: "mistral3", ..LLAMA },
            Architecture::Qwen2 => Facts { name: "qwen2", ..NEOX },
            Architecture::Qwen3 => Facts { name: "qwen3", qk_norm: QkNorm::PerHead, ..NEOX },
            Architecture::Gemma2 => Facts {
                name: "gemma2",
                place: NormPlace::PreAndPost,
                activation: Activation::Gelu,
                embd_scale_sqrt: true,
                ..NEOX
            },
            Architecture::Gemma3 => Facts {
                name: "gemma3",
                place: NormPlace::PreAndPost,
                qk_norm: QkNorm::PerHead,
                activation: Activation::Gelu,
                embd_scale_sqrt: true,
                ..NEOX
            },
            Architecture::Phi3 => Facts { name: "phi3", gate_up_fused: true, long_factors: true, ..NEOX },
            Architecture::Gpt2 => Facts {
                name: "gpt2",
                rope: None,
                norm: NormKind::Layer,
                activation: Activation::Gelu,
                plain_ffn: true,
                ..NEOX
            },
            Architecture::Olmo2 => {
                Facts { name: "olmo2", place: NormPlace::Post, qk_norm: QkNorm::Whole, ..NEOX }
            }
            Architecture::Granite => Facts { name: "granite", ..LLAMA },
            Architecture::SmolLm3 => {
                Facts { name: "smollm3", freq_factors: false, long_factors: false, ..LLAMA }
            }
        }
    }

    /// GGUF's name, e.g. `qwen2`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The architecture of this name.
    pub fn from_name(name: &str) -> Option<Architecture> {
        Architecture::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The names of all, separated by commas.
    pub fn supported() -> String {
        Architecture::ALL.map(Architecture::name).join(", ")
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
