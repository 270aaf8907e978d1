//! Rotary position embedding: which pairs are turned, by which angle, and the scalings that stretch it.
//!
//! At position `pos` pair `i` of `n_rot / 2` is turned by
//! ```text
//! angle(i) = pos · theta^(-2i / n_rot) / freq_factors[i]          (factors: 1 where there are none)
//! Linear:    angle / factor
//! Yarn:      mix(i) · angle + (1 - mix(i)) · angle / factor
//!            mix(i) = ext_factor · (1 - clamp((i - low) / max(0.001, high - low), 0, 1))
//!            low, high = floor, ceil of n_rot · ln(original_seq_len / (β · 2π)) / (2 ln theta)
//!                        for β = beta_fast, beta_slow; low at least 0, high at most n_rot - 1
//! LongRope:  factors are the long ones when sequences may be longer than original_seq_len, else the short ones
//! ```
//! and cos and sin are multiplied by `attn_factor`.
//!
//! Keys, with llama.cpp's defaults: `rope.freq_base` 10000 · `rope.dimension_count` head_dim_k · `rope.scaling.type`
//! linear · `rope.scaling.factor` (old: `rope.scale_linear`) 1 · `rope.scaling.original_context_length` context
//! length · `rope.scaling.attn_factor` 1 · `rope.scaling.yarn_ext_factor` 1, `yarn_beta_fast` 32, `yarn_beta_slow` 1,
//! `yarn_log_multiplier` 0. Tensors: `rope_freqs.weight` (llama3), `rope_factors_long.weight`, `_short` (longrope).

mod frequencies;

use super::ConfigError;
use super::read::Keys;
use crate::architecture::Facts;
use crate::gguf::{Gguf, quote};
use crate::tensor_type::{TensorKind, TensorType};

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeConfig {
    /// Which elements turn together.
    pub pairing: RopePairing,
    /// How many leading elements of each head turn; even, at most `head_dim_k`. The rest pass.
    pub n_rot: usize,
    /// Base of the frequencies, e.g. 10000.
    pub theta: f32,
    /// What divides each pair's angle (llama3's scaling, precomputed in the file): `[n_rot / 2]`.
    pub freq_factors: Option<Vec<f32>>,
    /// Stretching for sequences longer than those of the training.
    pub scaling: RopeScaling,
    /// Factor of cos and sin, 1 unless YaRN or longrope.
    pub attn_factor: f32,
}

impl RopeConfig {
    /// The divisors of the angles for sequences of at most `max_seq_len` tokens: `[n_rot / 2]`, or `None` for ones.
    pub fn factors(&self, max_seq_len: usize) -> Option<&[f32]> {
        match &self.scaling {
            RopeScaling::LongRope { original_seq_len, short_factors, long_factors } => {
                Some(if max_seq_len > *original_seq_len { long_factors } else { short_factors })
            }
            _ => self.freq_factors.as_deref(),
        }
    }
}

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairing {
    /// Neighbours: `2i` and `2i + 1`.
    Norm,
    /// Halves: `i` and `i + n_rot / 2`.
    Neox,
}

/// How RoPE is stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All angles divided by `factor`.
    Linear {
        /// E.g. 4.
        factor: f32,
    },
    /// Slow pairs divided by `factor`, fast ones kept, a ramp between.
    Yarn {
        /// E.g. 4.
        factor: f32,
        /// Length of the training sequences, e.g. 32768.
        original_seq_len: usize,
        /// Share of the ramp that applies, usually 1.
        ext_factor: f32,
        /// Turns within `original_seq_len` from which a pair is fast, usually 32.
        beta_fast: f32,
        /// Turns below which a pair is slow, usually 1.
        beta_slow: f32,
    },
    /// One divisor per pair, of two sets.
    LongRope {
        /// Up to this length the short factors hold, e.g. 4096.
        original_seq_len: usize,
        /// `[n_rot / 2]`
        short_factors: Vec<f32>,
        /// `[n_rot / 2]`
        long_factors: Vec<f32>,
    },
}

/// Reads the model's main RoPE.
pub(super) fn read(
    gguf: &Gguf,
    keys: &Keys<'_>,
    facts: &Facts,
    pairing: RopePairing,
    head_dim_k: usize,
    max_seq_len: usize,
) -> Result<RopeConfig, ConfigError> {
    let n_rot = keys.size("rope.dimension_count", 2, head_dim_k)?.unwrap_or(head_dim_k);
    if !n_rot.is_multiple_of(2) {
        return Err(keys.out_of_range("rope.dimension_count", "an even number", n_rot));
    }
    let theta = keys.positive("rope.freq_base")?.unwrap_or(10000.0);
    let n_pairs = n_rot / 2;
    let freq_factors = match facts.freq_factors {
        true => read_factors(gguf, "rope_freqs.weight", n_pairs)?,
        false => None,
    };
    let (scaling, attn_factor) = read_scaling(gguf, keys, facts, n_pairs, max_seq_len)?;
    Ok(RopeConfig { pairing, n_rot, theta, freq_factors, scaling, attn_factor })
}

/// The scaling, and the factor of cos and sin.
fn read_scaling(
    gguf: &Gguf,
    keys: &Keys<'_>,
    facts: &Facts,
    n_pairs: usize,
    max_seq_len: usize,
) -> Result<(RopeScaling, f32), ConfigError> {
    let kind = keys.text("rope.scaling.type")?.unwrap_or("linear");
    let original_seq_len = keys
        .size("rope.scaling.original_context_length", 1, super::limits::MAX_SEQ_LEN)?
        .unwrap_or(max_seq_len);
    let attn_factor = keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
    // Zero means "not set" to llama.cpp.
    let factor = match keys.float("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.float("rope.scale_linear")?,
    };
    let factor = factor.filter(|&factor| factor != 0.0).unwrap_or(1.0);
    if factor <= 0.0 {
        return Err(keys.out_of_range("rope.scaling.factor", "a positive number", factor));
    }

    // Phi 3 files are not bound to name their type; the tensors decide.
    if facts.long_factors {
        let short = read_factors(gguf, "rope_factors_short.weight", n_pairs)?;
        let long = read_factors(gguf, "rope_factors_long.weight", n_pairs)?;
        match (short, long) {
            (Some(short_factors), Some(long_factors)) => {
                return Ok((
                    RopeScaling::LongRope { original_seq_len, short_factors, long_factors },
                    attn_factor,
                ));
            }
            (None, None) if kind != "longrope" => {}
            (short, _) => {
                let tensor =
                    if short.is_none() { "rope_factors_short.weight" } else { "rope_factors_long.weight" };
                return Err(ConfigError::MissingTensor { tensor: tensor.into(), expected: vec![n_pairs] });
            }
        }
    }
    match kind {
        "none" => Ok((RopeScaling::None, attn_factor)),
        "linear" if factor == 1.0 => Ok((RopeScaling::None, attn_factor)),
        "linear" => Ok((RopeScaling::Linear { factor }, attn_factor)),
        "yarn" => {
            let yarn = RopeScaling::Yarn {
                factor,
                original_seq_len,
                ext_factor: keys.float("rope.scaling.yarn_ext_factor")?.filter(|&x| x >= 0.0).unwrap_or(1.0),
                beta_fast: keys.positive("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                beta_slow: keys.positive("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            };
            Ok((yarn, attn_factor * yarn_magnitude(keys, factor)?))
        }
        "longrope" => Err(ConfigError::UnsupportedFeature {
            arch: facts.name,
            feature: "longrope scaling",
            key: keys.name("rope.scaling.type"),
        }),
        _ => Err(keys.out_of_range(
            "rope.scaling.type",
            "none, linear, yarn or longrope",
            quote(kind.as_bytes()),
        )),
    }
}

/// YaRN's factor of cos and sin: `0.1·ln(factor) + 1`, unless the file states another way.
///
/// `yarn_attn_factor` holds Hugging Face's `attention_factor`, which replaces the formula. `yarn_log_multiplier` m
/// (its `mscale_all_dim`) divides by `0.1·m·ln(factor) + 1`, which with m = 1 takes the factor back.
fn yarn_magnitude(keys: &Keys<'_>, factor: f32) -> Result<f32, ConfigError> {
    if let Some(stated) = keys.positive("rope.scaling.yarn_attn_factor")? {
        return Ok(stated);
    }
    let magnitude = |m: f32| if factor <= 1.0 { 1.0 } else { 0.1 * m * factor.ln() + 1.0 };
    let log_multiplier = keys.float("rope.scaling.yarn_log_multiplier")?.unwrap_or(0.0);
    Ok(if log_multiplier == 0.0 { magnitude(1.0) } else { magnitude(1.0) / magnitude(log_multiplier) })
}

/// A tensor of positive f32 factors, `[n_pairs]`, if the file has it.
fn read_factors(gguf: &Gguf, name: &str, n_pairs: usize) -> Result<Option<Vec<f32>>, ConfigError> {
    let Some(info) = gguf.tensor(name) else { return Ok(None) };
    let tensor = || name.to_owned();
    if info.kind != TensorKind::Known(TensorType::F32) {
        return Err(ConfigError::TensorType {
            tensor: tensor(),
            expected: "F32".into(),
            found: info.kind.name(),
        });
    }
    if info.shape() != [n_pairs as u64] {
        return Err(ConfigError::TensorShape {
            tensor: tensor(),
            expected: vec![n_pairs],
            found: info.shape(),
        });
    }
    let (floats, _) = gguf.bytes(info).as_chunks::<4>();
    let factors: Vec<f32> = floats.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    if let Some(bad) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        let expected = "positive factors".to_owned();
        return Err(ConfigError::OutOfRange { key: tensor(), expected, found: bad.to_string() });
    }
    Ok(Some(factors))
}
