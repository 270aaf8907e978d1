//! Rotary positions in the words of `transformers`.

use std::f64::consts::PI;

use serde_json::{Value as Json, json};
use weights::{LayerConfig, LayerRope, ModelConfig, RopeConfig, RopeScaling};

use super::hugging_face_config::{Family, number};

/// Adds all that a configuration says of positions.
pub(super) fn put_rope(config: &ModelConfig, family: Family, json: &mut Json) -> Result<(), &'static str> {
    let rope = config.rope.as_ref().ok_or("no rotary positions")?;
    let has_rope = |layer: &LayerConfig| layer.rope != LayerRope::None;
    if family == Family::SmolLm3 {
        let flags: Vec<u8> = config.layers.iter().map(|layer| u8::from(has_rope(layer))).collect();
        json["no_rope_layers"] = json!(flags);
    } else if !config.layers.iter().all(has_rope) {
        return Err("layers without positions");
    }
    let scaling = scaling(rope)?;
    json["rope_theta"] = number(rope.theta);
    if scaling["rope_type"] != "default" {
        json["rope_scaling"] = scaling.clone();
    }
    let mut parameters = with_theta(scaling, rope);
    let head_dim = config.layers[0].head_dim_k;
    if family == Family::Phi3 {
        let share = rope.n_rot as f64 / head_dim as f64;
        if (share * head_dim as f64) as usize != rope.n_rot {
            return Err("positions in a part of each head that is no fraction of it");
        }
        json["partial_rotary_factor"] = json!(share);
        parameters["partial_rotary_factor"] = json!(share);
        if let RopeScaling::LongRope { original_seq_len, .. } = rope.scaling {
            json["original_max_position_embeddings"] = json!(original_seq_len);
        }
    } else if rope.n_rot != head_dim {
        return Err("positions in a part of each head");
    }
    json["rope_parameters"] = match &config.rope_local {
        local if family.has_local_rope() => {
            let sliding = match local {
                Some(local) => local_parameters(local)?,
                None => Json::Null,
            };
            if family == Family::Gemma3 && !sliding.is_null() {
                json["rope_local_base_freq"] = sliding["rope_theta"].clone();
            }
            json!({ "full_attention": parameters, "sliding_attention": sliding })
        }
        Some(local) if local != rope => return Err("two kinds of positions"),
        _ => parameters,
    };
    Ok(())
}

/// The RoPE of layers with a window.
fn local_parameters(rope: &RopeConfig) -> Result<Json, &'static str> {
    let scaling = scaling(rope)?;
    match scaling["rope_type"] == "default" {
        true => Ok(with_theta(scaling, rope)),
        // Older versions have one scaling for all layers, or none for these.
        false => Err("stretched positions in layers with a window"),
    }
}

fn with_theta(mut scaling: Json, rope: &RopeConfig) -> Json {
    scaling["rope_theta"] = number(rope.theta);
    scaling
}

/// The kind of a RoPE and how it is stretched.
fn scaling(rope: &RopeConfig) -> Result<Json, &'static str> {
    Ok(match (&rope.scaling, &rope.freq_factors) {
        (RopeScaling::LongRope { original_seq_len, short_factors, long_factors }, _) => {
            long_rope(short_factors, long_factors, *original_seq_len, rope.attn_factor)
        }
        (RopeScaling::Yarn { factor, original_seq_len, ext_factor, beta_fast, beta_slow }, None) => {
            if *ext_factor != 1.0 {
                return Err("a share of YaRN's ramp");
            }
            json!({
                "rope_type": "yarn",
                "factor": number(*factor),
                "original_max_position_embeddings": original_seq_len,
                "attention_factor": number(rope.attn_factor),
                "beta_fast": number(*beta_fast),
                "beta_slow": number(*beta_slow),
            })
        }
        _ if rope.attn_factor != 1.0 => return Err("a factor of positions that are not stretched"),
        (RopeScaling::Linear { factor }, None) => json!({ "rope_type": "linear", "factor": number(*factor) }),
        (RopeScaling::None, None) => json!({ "rope_type": "default" }),
        (RopeScaling::None, Some(factors)) => match llama3(rope, factors) {
            Some(llama3) => llama3,
            None => long_rope(factors, factors, ANY_LEN, 1.0),
        },
        (_, Some(_)) => return Err("positions stretched in two ways"),
    })
}

/// Where both sets of factors are the same, the length from which the second holds does not matter.
const ANY_LEN: usize = 8192;

fn long_rope(short: &[f32], long: &[f32], original_seq_len: usize, attn_factor: f32) -> Json {
    let numbers = |factors: &[f32]| factors.iter().copied().map(number).collect::<Vec<_>>();
    json!({
        "rope_type": "longrope",
        "short_factor": numbers(short),
        "long_factor": numbers(long),
        "original_max_position_embeddings": original_seq_len,
        "attention_factor": number(attn_factor),
    })
}

/// Turns within the original length: pairs with fewer are slowed by the whole factor, pairs with more not at all. All
/// published models have these.
const LOW_TURNS: f64 = 1.0;
const HIGH_TURNS: f64 = 4.0;

/// Llama 3's scaling, if the divisors are those of one. The file holds the divisors only; the original length is looked
/// for among the powers of two.
fn llama3(rope: &RopeConfig, factors: &[f32]) -> Option<Json> {
    let factor = factors.iter().copied().fold(1.0, f32::max);
    let expected = |original: f64, i: usize| {
        let wave_len = 2.0 * PI * f64::from(rope.theta).powf(2.0 * i as f64 / rope.n_rot as f64);
        let smooth = ((original / wave_len - LOW_TURNS) / (HIGH_TURNS - LOW_TURNS)).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / f64::from(factor) + smooth)
    };
    let fits = |original: &u64| {
        let near = |(i, &found): (usize, &f32)| {
            (f64::from(found) / expected(*original as f64, i) - 1.0).abs() < FACTOR_TOLERANCE
        };
        factors.iter().enumerate().all(near)
    };
    let original = (5..=20).map(|bits| 1u64 << bits).find(fits)?;
    Some(json!({
        "rope_type": "llama3",
        "factor": number(factor),
        "low_freq_factor": LOW_TURNS,
        "high_freq_factor": HIGH_TURNS,
        "original_max_position_embeddings": original,
    }))
}

/// Converters compute the divisors in single precision.
const FACTOR_TOLERANCE: f64 = 1e-5;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use weights::RopePairing;

    use super::*;

    fn rope(scaling: RopeScaling, freq_factors: Option<Vec<f32>>) -> RopeConfig {
        let pairing = RopePairing::Norm;
        RopeConfig { pairing, n_rot: 8, theta: 10_000.0, freq_factors, scaling, attn_factor: 1.0 }
    }

    #[test]
    fn the_divisors_of_llama_3_are_known_again() {
        // wave lengths 2π · 10^(2i/8 · 4): 6.3, 62.8, 628, 6283; turns within 128: 20, 2.04, 0.2, 0.02
        let ramp = (128.0 / 62.831_855 - 1.0) / 3.0;
        let factors = vec![1.0, 1.0 / ((1.0 - ramp) / 8.0 + ramp), 8.0, 8.0];
        let found = scaling(&rope(RopeScaling::None, Some(factors))).unwrap();
        assert_eq!(found["rope_type"], "llama3");
        assert_eq!(found["factor"], 8.0);
        assert_eq!(found["original_max_position_embeddings"], 128);
    }

    #[test]
    fn other_divisors_are_written_one_by_one() {
        let found = scaling(&rope(RopeScaling::None, Some(vec![1.0, 3.0, 2.5, 9.0]))).unwrap();
        assert_eq!(found["rope_type"], "longrope");
        assert_eq!(found["short_factor"], json!([1.0, 3.0, 2.5, 9.0]));
        assert_eq!(found["long_factor"], found["short_factor"]);
        let twice = rope(RopeScaling::Linear { factor: 2.0 }, Some(vec![1.0; 4]));
        assert!(scaling(&twice).is_err());
    }

    #[test]
    fn a_factor_that_has_no_place_is_refused() {
        let mut rope = rope(RopeScaling::Linear { factor: 2.0 }, None);
        assert_eq!(scaling(&rope).unwrap()["factor"], 2.0);
        rope.attn_factor = 1.5;
        assert!(scaling(&rope).is_err());
    }
}
