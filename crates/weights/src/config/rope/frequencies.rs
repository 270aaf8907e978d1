//! The formulas above as numbers: one inverse frequency for each pair of elements.

use std::f64::consts::PI;

use super::{RopeConfig, RopeScaling};

impl RopeConfig {
    /// The angle by which each pair turns per position, for sequences of at most `max_seq_len` tokens.
    ///
    /// Returns `[n_rot / 2]`.
    pub fn inverse_frequencies(&self, max_seq_len: usize) -> Vec<f32> {
        let n_rot = self.n_rot as f64;
        let theta = f64::from(self.theta);
        let factors = self.factors(max_seq_len);
        let plain = |i: usize| {
            let factor = factors.map_or(1.0, |factors| f64::from(factors[i]));
            theta.powf(-2.0 * i as f64 / n_rot) / factor
        };
        let scaled = |i: usize| match self.scaling {
            RopeScaling::None | RopeScaling::LongRope { .. } => plain(i),
            RopeScaling::Linear { factor } => plain(i) / f64::from(factor),
            RopeScaling::Yarn { factor, original_seq_len, ext_factor, beta_fast, beta_slow } => {
                // The pair that turns `beta` times within the original length.
                let pair_of = |beta: f32| {
                    let turns = original_seq_len as f64 / (f64::from(beta) * 2.0 * PI);
                    n_rot * turns.ln() / (2.0 * theta.ln())
                };
                let low = pair_of(beta_fast).floor().max(0.0);
                let high = pair_of(beta_slow).ceil().min(n_rot - 1.0);
                let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                let mix = f64::from(ext_factor) * (1.0 - ramp);
                plain(i) * mix + plain(i) / f64::from(factor) * (1.0 - mix)
            }
        };
        (0..self.n_rot / 2).map(|i| scaled(i) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RopePairing;

    fn config(scaling: RopeScaling, freq_factors: Option<Vec<f32>>) -> RopeConfig {
        let pairing = RopePairing::Norm;
        RopeConfig { pairing, n_rot: 8, theta: 10_000.0, freq_factors, scaling, attn_factor: 1.0 }
    }

    fn assert_near(found: &[f32], expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() <= 1e-6 * e.abs(), "found {found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn frequencies_fall_from_one_by_the_base() {
        assert_near(&config(RopeScaling::None, None).inverse_frequencies(100), &[1.0, 0.1, 0.01, 0.001]);
        let linear = config(RopeScaling::Linear { factor: 4.0 }, None);
        assert_near(&linear.inverse_frequencies(100), &[0.25, 0.025, 0.0025, 0.00025]);
        let factors = config(RopeScaling::None, Some(vec![1.0, 1.0, 2.0, 8.0]));
        assert_near(&factors.inverse_frequencies(100), &[1.0, 0.1, 0.005, 0.000125]);
    }

    #[test]
    fn longrope_takes_the_long_factors_beyond_the_original_length() {
        let scaling = RopeScaling::LongRope {
            original_seq_len: 100,
            short_factors: vec![1.0; 4],
            long_factors: vec![2.0; 4],
        };
        let rope = config(scaling, None);
        assert_near(&rope.inverse_frequencies(100), &[1.0, 0.1, 0.01, 0.001]);
        assert_near(&rope.inverse_frequencies(101), &[0.5, 0.05, 0.005, 0.0005]);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_slows_slow_ones() {
        // Values of transformers' _compute_yarn_parameters for head_dim 8, base 10000, factor 4,
        // original_max_position_embeddings 2048, beta_fast 32, beta_slow 1, by hand:
        // low = floor(8 ln(2048/64π) / 2 ln 10000) = 1, high = ceil(8 ln(2048/2π) / 2 ln 10000) = 3.
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_seq_len: 2048,
            ext_factor: 1.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let mixed = 0.01 * 0.5 + 0.01 / 4.0 * 0.5;
        assert_near(&config(scaling, None).inverse_frequencies(8192), &[1.0, 0.1, mixed, 0.00025]);
    }
}
