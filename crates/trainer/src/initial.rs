//! The numbers that a new model begins with.

use weights::{ModelConfig, NormPlace, TensorRole};

use crate::parameters::Parameters;

/// Standard deviation of the embeddings, as the first layer reads them.
const EMBEDDING: f32 = 0.5;
/// Of embeddings that are the output, too, as in GPT-2: larger, and a token would first of all predict itself.
const TIED: f32 = 0.02;
/// Of the output: small, so that every token is about as likely as any other at first.
const OUTPUT: f32 = 0.002;

/// Weights of a new model. Norms begin at 1; what attention and the feed-forward network add to the stream begins at 0,
/// so that a new layer changes nothing until it has learnt to (as in GPT-2's scaled residuals, taken to the end; Zhang
/// et al. 2019, arXiv:1901.09321); all else keeps the mean square of what passes through.
///
/// A norm behind them would make a gradient of 1/√eps of a projection of zeros, and the first step as large as any. There
/// the projection begins as all else, and the norm so that all layers together add a mean square of 1, as in GPT-2
/// (measured: `docs/LOG.md`).
#[must_use]
pub fn initial_parameters(config: &ModelConfig, seed: u64) -> Parameters {
    let mut parameters = Parameters::zeros(config);
    let tied = config.tied_output;
    let post_norm = (2.0 * config.n_layers() as f32).powf(-0.5);
    let mut random = fastrand::Rng::with_seed(seed);
    for (spec, values) in parameters.iter_mut() {
        // A generator for each tensor: one that is added changes no other.
        let mut random = random.fork();
        let deviation = match spec.role {
            TensorRole::TokenEmbd if tied => TIED,
            TensorRole::TokenEmbd => EMBEDDING / config.embd_scale,
            TensorRole::Output => OUTPUT,
            TensorRole::AttnOutput | TensorRole::FfnDown if config.norm.place == NormPlace::Pre => 0.0,
            _ if spec.shape.len() == 2 => (spec.shape[1] as f32).powf(-0.5),
            TensorRole::AttnQBias | TensorRole::AttnKBias | TensorRole::AttnVBias => 0.0,
            TensorRole::PostAttnNorm | TensorRole::PostFfnNorm => {
                values.fill(post_norm);
                continue;
            }
            _ => {
                values.fill(1.0);
                continue;
            }
        };
        if deviation > 0.0 {
            values.iter_mut().for_each(|value| *value = deviation * normal(&mut random));
        }
    }
    parameters
}

/// A number from the normal distribution (Box and Muller 1958).
fn normal(random: &mut fastrand::Rng) -> f32 {
    let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * random.f64()).cos()) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::DecoderOptions;

    fn mean_square(values: &[f32]) -> f32 {
        values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32
    }

    #[test]
    fn layers_add_nothing_at_first_or_with_norms_behind_them_a_mean_square_of_1_together() {
        for (window, projection, post_norms) in [(None, 0.0, None), (Some(8), 1.0 / 256.0, Some(1.0))] {
            let options = DecoderOptions { window, ..DecoderOptions::default() };
            let config = crate::decoder_shape(4, 100, 32, options).config();
            let parameters = initial_parameters(&config, 3);
            let embeddings = parameters.get(TensorRole::TokenEmbd, None).unwrap();
            let read = mean_square(embeddings) * config.embd_scale.powi(2);
            assert!((read / EMBEDDING.powi(2) - 1.0).abs() < 0.05, "{read}");
            let found = mean_square(parameters.get(TensorRole::AttnOutput, Some(0)).unwrap());
            assert!((found - projection).abs() <= 0.05 * projection, "{found}");
            let of_layer = |layer_idx| {
                let of = |role| Some(mean_square(parameters.get(role, Some(layer_idx))?));
                Some(of(TensorRole::PostAttnNorm)? + of(TensorRole::PostFfnNorm)?)
            };
            let found = (0..4).map(of_layer).sum::<Option<f32>>();
            assert_eq!(found.map(|sum| (1e3 * sum).round() / 1e3), post_norms);
        }
    }

    #[test]
    fn the_seed_decides_and_numbers_are_normal() {
        let mut random = fastrand::Rng::with_seed(3);
        let numbers: Vec<f32> = (0..100_000).map(|_| normal(&mut random)).collect();
        let mean = numbers.iter().sum::<f32>() / 1e5;
        let square = numbers.iter().map(|x| x * x).sum::<f32>() / 1e5;
        let beyond = numbers.iter().filter(|x| x.abs() > 1.96).count();
        assert!(mean.abs() < 0.015 && (square - 1.0).abs() < 0.02, "{mean} {square}");
        assert!((4700..5300).contains(&beyond), "{beyond} beyond 1.96 deviations, 5,000 expected");
    }
}
