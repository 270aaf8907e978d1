//! The numbers that a new model begins with.

use weights::{ModelConfig, TensorRole};

use crate::parameters::Parameters;

/// Standard deviation of the embeddings.
const EMBEDDING: f32 = 0.5;
/// Of the output: small, so that every token is about as likely as any other at first.
const OUTPUT: f32 = 0.002;

/// Weights of a new model. Norms begin at 1; what attention and the feed-forward network add to the stream begins at 0,
/// so that a new layer changes nothing until it has learnt to (as in GPT-2's scaled residuals, taken to the end; Zhang
/// et al. 2019, arXiv:1901.09321); all else keeps the mean square of what passes through.
#[must_use]
pub fn initial_parameters(config: &ModelConfig, seed: u64) -> Parameters {
    let mut parameters = Parameters::zeros(config);
    let tied = config.tied_output;
    let mut random = fastrand::Rng::with_seed(seed);
    for (spec, values) in parameters.iter_mut() {
        // A generator for each tensor: one that is added changes no other.
        let mut random = random.fork();
        let deviation = match spec.role {
            TensorRole::TokenEmbd if tied => (config.n_embd as f32).powf(-0.5),
            TensorRole::TokenEmbd => EMBEDDING,
            TensorRole::Output => OUTPUT,
            TensorRole::AttnOutput | TensorRole::FfnDown => 0.0,
            _ if spec.shape.len() == 2 => (spec.shape[1] as f32).powf(-0.5),
            TensorRole::AttnQBias | TensorRole::AttnKBias | TensorRole::AttnVBias => 0.0,
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
    use super::*;

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
