//! GPT-3 as a worked example: what was published of its training, beside what the arithmetic here gives.

use weights::{
    Activation, Architecture, FfnKind, LayerConfig, LayerRope, ModelConfig, NormConfig, NormKind, NormPlace,
    QkNorm,
};

use super::Price;
use super::money::Money;
use crate::cost::{ParameterCount, training_flops_per_token};

/// Tokens it was trained on: Brown et al. 2020, table D.1.
pub const TOKENS: u64 = 300_000_000_000;
/// GPUs of the machine that Microsoft announced for OpenAI on 19 May 2020; the paper names V100s.
pub const N_ACCELERATORS: u32 = 10_000;
/// The name of its accelerators in the built-in file.
pub const ACCELERATOR: &str = "v100";
/// Operations of its training: Brown et al. 2020, table D.1.
const FLOPS: f64 = 3.14e23;
/// What each of them achieved a second: all operations in 14.8 days on all of them.
const ACHIEVED_FLOPS: f64 = FLOPS / (N_ACCELERATORS as f64 * 14.8 * DAY);
/// What a V100 does at most.
const PEAK_FLOPS: f64 = 125e12;
/// Rated power of a V100, in watts.
const WATTS: f64 = 300.0;
/// What Lambda took a V100 to achieve in its estimate of June 2020.
const LAMBDA_FLOPS: f64 = 28e12;

const DAY: f64 = 86_400.0;
const YEAR: f64 = 365.25 * DAY;
const PAPER: &str = "Brown et al. 2020, arXiv:2005.14165, tables 2.1 and D.1";
const PATTERSON: &str = "Patterson et al. 2021, arXiv:2104.10350, table 4";
const LAMBDA: &str = "Lambda, June 2020, https://lambdalabs.com/blog/demystifying-gpt-3/";
const MICROSOFT: &str =
    "Microsoft, 19 May 2020, https://news.microsoft.com/source/features/ai/openai-azure-supercomputer/";

/// A published figure and ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// What is told.
    pub what: &'static str,
    /// Of both figures.
    pub unit: &'static str,
    /// As computed here; `None` where it is taken from the source.
    pub ours: Option<f64>,
    /// As published.
    pub published: f64,
    /// Where.
    pub source: &'static str,
}

/// Its structure: Brown et al. 2020, table 2.1, and GPT-2's for what stands there as "the same".
///
/// Every second layer's attention was sparse in a way that was not published; here all are dense.
#[must_use]
pub fn config() -> ModelConfig {
    let layer = LayerConfig {
        n_heads: 96,
        n_kv_heads: 96,
        head_dim_k: 128,
        head_dim_v: 128,
        n_ff: 4 * 12_288,
        window: None,
        rope: LayerRope::None,
    };
    ModelConfig {
        arch: Architecture::Gpt2,
        name: Some("GPT-3".to_owned()),
        n_embd: 12_288,
        vocab_size: 50_257,
        max_seq_len: 2048,
        layers: vec![layer; 96],
        rope: None,
        rope_local: None,
        learned_positions: true,
        norm: NormConfig { kind: NormKind::Layer, eps: 1e-5, place: NormPlace::Pre },
        qk_norm: QkNorm::None,
        qkv_fused: true,
        qkv_bias: true,
        attn_out_bias: true,
        ffn: FfnKind::Plain { activation: Activation::Gelu },
        ffn_bias: true,
        output_bias: false,
        tied_output: true,
        attn_scale: 1.0 / 128f32.sqrt(),
        attn_softcap: None,
        final_softcap: None,
        embd_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
    }
}

/// The share of a V100's peak that was achieved.
#[must_use]
pub fn mfu() -> f64 {
    ACHIEVED_FLOPS / PEAK_FLOPS
}

/// What Lambda found a V100 to cost in 2020.
#[must_use]
pub fn price() -> Price {
    let per_hour = Money { amount: 1.5, currency: "USD".to_owned() };
    Price { per_hour, as_of: "2020-06".to_owned(), source: LAMBDA.to_owned() }
}

/// Figure by figure.
#[must_use]
pub fn comparisons() -> Vec<Comparison> {
    let config = config();
    let n = ParameterCount::of(&config).total as f64;
    let d = TOKENS as f64;
    let flops = d * training_flops_per_token(&config, config.max_seq_len);
    let seconds = flops / (f64::from(N_ACCELERATORS) * ACHIEVED_FLOPS);
    let kilowatt_hours = f64::from(N_ACCELERATORS) * WATTS * seconds / 3.6e6;
    let lambda_seconds = flops / LAMBDA_FLOPS;
    let row = |what, unit, ours, published, source| Comparison { what, unit, ours, published, source };
    vec![
        row("parameters", "billion", Some(n / 1e9), 175.0, PAPER),
        row("tokens", "billion", None, 300.0, PAPER),
        row("6 N D", "10^23 FLOPs", Some(6.0 * n * d / 1e23), FLOPS / 1e23, PAPER),
        row("GPUs", "", None, f64::from(N_ACCELERATORS), MICROSOFT),
        row("time on 10,000 V100 at 24.6 TFLOP/s", "days", Some(seconds / DAY), 14.8, PATTERSON),
        row("energy, ours without hosts and cooling", "MWh", Some(kilowatt_hours / 1e3), 1287.0, PATTERSON),
        row("time on one V100 at 28 TFLOP/s", "years", Some(lambda_seconds / YEAR), 355.0, LAMBDA),
        row(
            "money at 1.50 USD an hour for that",
            "million USD",
            Some(lambda_seconds / 3600.0 * 1.5 / 1e6),
            4.6,
            LAMBDA,
        ),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cost::unmasked_flops_per_token;
    use crate::plan::Accelerators;

    #[test]
    fn it_has_174_6_billion_parameters() {
        let (l, d, v, t) = (96u64, 12_288u64, 50_257u64, 2048u64);
        // Matrices of 12 d² a layer; biases of 3 d, d, 4 d and d; two norms of two vectors; a last norm.
        let by_formula = l * (12 * d * d + 13 * d) + v * d + t * d + 2 * d;
        assert_eq!(ParameterCount::of(&config()).total, by_formula);
        assert_eq!(by_formula, 174_604_259_328);
    }

    #[test]
    fn the_arithmetic_lies_between_3_14_and_3_23_e23() {
        let flops = |per_token: f64| per_token * TOKENS as f64 / 1e23;
        let config = config();
        assert!((flops(6.0 * 175e9) - 3.15).abs() < 1e-9);
        assert!((flops(6.0 * 174_604_259_328.0) - 3.1429).abs() < 1e-4);
        assert!((flops(training_flops_per_token(&config, 2048)) - 3.1856).abs() < 1e-3);
        // Narayanan et al. 2021, arXiv:2104.04473, § 5.1, without recomputation:
        // 72 l d² (1 + s / 6d + V / 12 l d) a token.
        let (l, d, s, v) = (96.0, 12_288.0, 2048.0, 50_257.0);
        let megatron = 72.0 * l * d * d * (1.0 + s / (6.0 * d) + v / (12.0 * l * d));
        assert!((unmasked_flops_per_token(&config, 2048) / megatron - 1.0).abs() < 1e-12);
        assert!((flops(megatron) - 3.229).abs() < 1e-3);
    }

    #[test]
    fn what_was_published_is_reproduced() {
        assert!((ACHIEVED_FLOPS - 24.56e12).abs() < 1e10 && (mfu() - 0.1964).abs() < 1e-3);
        let known = Accelerators::builtin();
        let v100 = known.find(ACCELERATOR).unwrap();
        assert_eq!((v100.watts, v100.peak_flops), (Some(WATTS), PEAK_FLOPS));
        for row in comparisons() {
            let Some(ours) = row.ours else { continue };
            // Servers and cooling are a quarter of the published energy.
            let bound = if row.unit == "MWh" { 0.2 } else { 0.04 };
            assert!((ours / row.published - 1.0).abs() < bound, "{}: {ours} for {}", row.what, row.published);
        }
    }
}
