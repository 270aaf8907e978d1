//! The pass against `transformers` on tiny models of every architecture, and its gradients against differences.
#![allow(clippy::unwrap_used)]
#![allow(clippy::single_range_in_vec_init)] // one sequence

use std::path::PathBuf;

use kernels::Isa;
use weights::Gguf;

use super::*;
use crate::optimizer::{MatrixOptimizer, Optimizer, OptimizerSettings};

/// Architectures with a backward pass.
pub(super) const TRAINABLE: [&str; 12] = [
    "llama",
    "llama-linear",
    "llama-llama3",
    "llama-yarn",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma3",
    "granite",
    "olmo2",
    "olmo3",
    "smollm3",
];

pub(super) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-models")
}

/// A golden file (its format: `testdata/golden-models/README.md`).
pub(super) struct Golden {
    pub(super) config: ModelConfig,
    pub(super) parameters: Parameters,
    tokens: Vec<u32>,
    /// [n_tokens, vocab_size]
    log_probs: Vec<f32>,
}

impl Golden {
    pub(super) fn read(pool: &Pool, name: &str) -> Golden {
        Golden::read_as(pool, name, "f32")
    }

    /// From the file in this number format.
    pub(super) fn read_as(pool: &Pool, name: &str, ty: &str) -> Golden {
        let gguf = Gguf::open(&folder().join(format!("{name}-{ty}.gguf"))).unwrap();
        let mut config = ModelConfig::from_gguf(&gguf).unwrap();
        let expected = if name == "quant" { format!("{name}-{ty}") } else { name.to_owned() };
        let bytes = std::fs::read(folder().join(format!("{expected}.expected"))).unwrap();
        let words: Vec<[u8; 4]> = bytes[8..].as_chunks::<4>().0.to_vec();
        let n_tokens = u32::from_le_bytes(words[0]) as usize;
        config.max_seq_len = u32::from_le_bytes(words[2]) as usize;
        let tokens = words[4..4 + n_tokens].iter().map(|&word| u32::from_le_bytes(word)).collect();
        let log_probs = words[4 + n_tokens..].iter().map(|&word| f32::from_le_bytes(word)).collect();
        let parameters = Parameters::from_gguf(pool, &gguf, &config).unwrap();
        Golden { config, parameters, tokens, log_probs }
    }

    /// Each token but the last predicts the next.
    fn targets(&self) -> Vec<u32> {
        self.tokens[1..].to_vec()
    }
}

pub(super) struct Owned {
    tokens: Vec<u32>,
    positions: Vec<u32>,
    sequences: Vec<Range<usize>>,
    targets: Vec<u32>,
    weights: Vec<f32>,
}

impl Owned {
    pub(super) fn new(golden: &Golden) -> Owned {
        let n = golden.tokens.len() - 1;
        Owned {
            tokens: golden.tokens[..n].to_vec(),
            positions: (0..n as u32).collect(),
            sequences: vec![0..n],
            targets: golden.targets(),
            weights: vec![1.0; n],
        }
    }

    pub(super) fn batch(&self) -> TokenBatch<'_> {
        TokenBatch {
            tokens: &self.tokens,
            positions: &self.positions,
            sequences: &self.sequences,
            targets: &self.targets,
            weights: &self.weights,
        }
    }
}

fn pools() -> impl Iterator<Item = Pool> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).map(|isa| Pool::new(2, isa).unwrap())
}

#[test]
fn losses_are_those_of_transformers() {
    for pool in pools() {
        for name in TRAINABLE {
            let golden = Golden::read(&pool, name);
            let owned = Owned::new(&golden);
            for (precision, tolerance) in [(Precision::F32, 1e-3), (Precision::Bf16, 0.15)] {
                let mut model = Model::new(golden.config.clone(), precision).unwrap();
                let total = model.loss(&pool, &golden.parameters, &owned.batch());
                let mut expected_total = 0.0;
                for (row, &target) in owned.targets.iter().enumerate() {
                    let expected = -golden.log_probs[row * golden.config.vocab_size + target as usize];
                    expected_total += f64::from(expected);
                    let found = model.losses()[row];
                    let isa = pool.isa();
                    assert!(
                        (found - expected).abs() < tolerance,
                        "{name} {isa:?} {precision:?} {row}: {found} for {expected}"
                    );
                }
                assert!((total - expected_total).abs() < f64::from(tolerance) * owned.targets.len() as f64);
            }
        }
    }
}

/// A tensor is moved along its own gradient: what the loss gains is the gradient's length times the way.
#[test]
fn every_tensor_has_the_gradient_that_differences_show() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    for name in TRAINABLE {
        let golden = Golden::read(&pool, name);
        let owned = Owned::new(&golden);
        let mut model = Model::new(golden.config.clone(), Precision::F32).unwrap();
        let mut gradient = golden.parameters.zeros_like();
        model.loss_and_gradient(&pool, &golden.parameters, &owned.batch(), &mut gradient);
        for (i, (spec, of_tensor)) in gradient.iter().enumerate() {
            if matches!(
                spec.role,
                TensorRole::RopeFreqs | TensorRole::RopeFactorsLong | TensorRole::RopeFactorsShort
            ) {
                continue;
            }
            let length = of_tensor.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(length > 1e-4, "{name}: {} has no gradient", spec.name);
            let mut loss_at = |way: f64| {
                let mut parameters = golden.parameters.clone();
                let (_, values) = parameters.iter_mut().nth(i).unwrap();
                values
                    .iter_mut()
                    .zip(of_tensor)
                    .for_each(|(w, g)| *w += (way * f64::from(*g) / length) as f32);
                model.loss(&pool, &parameters, &owned.batch())
            };
            // Far enough that the loss moves by more than single precision blurs it, near enough to be straight.
            let way = (0.05 / length).min(0.02);
            let difference = (loss_at(way) - loss_at(-way)) / (2.0 * way);
            assert!(
                (difference - length).abs() < 0.02 * length + 2e-3 / way,
                "{name}: {}: {length} for {difference}",
                spec.name
            );
        }
    }
}

#[test]
fn gradients_are_added_up_and_have_the_same_bits_with_any_threads() {
    let isa = Isa::detect();
    let pool = Pool::new(1, isa).unwrap();
    let golden = Golden::read(&pool, "qwen3");
    let owned = Owned::new(&golden);
    let gradient_of = |n_threads: usize, n_times: usize| {
        let pool = Pool::new(n_threads, isa).unwrap();
        let mut model = Model::new(golden.config.clone(), Precision::Bf16).unwrap();
        let mut gradient = golden.parameters.zeros_like();
        for _ in 0..n_times {
            model.loss_and_gradient(&pool, &golden.parameters, &owned.batch(), &mut gradient);
        }
        gradient.iter().flat_map(|(_, values)| values.to_vec()).collect::<Vec<f32>>()
    };
    let once = gradient_of(1, 1);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&gradient_of(3, 1)), bits(&once));
    for (twice, once) in gradient_of(2, 2).iter().zip(&once) {
        assert!((twice - 2.0 * once).abs() <= 1e-4 * (1e-2 + once.abs()), "{twice} for twice {once}");
    }
}

#[test]
fn sequences_do_not_see_each_other_and_rows_of_no_weight_leave_no_trace() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let golden = Golden::read(&pool, "llama");
    let mut model = Model::new(golden.config.clone(), Precision::F32).unwrap();
    let whole = Owned::new(&golden);
    let n = whole.tokens.len();
    let mut twice = Owned::new(&golden);
    twice.tokens.extend_from_within(..);
    twice.positions.extend_from_within(..);
    twice.targets.extend_from_within(..);
    twice.sequences.push(n..2 * n);
    twice.weights.extend(vec![0.0; n]);
    let mut gradients = [golden.parameters.zeros_like(), golden.parameters.zeros_like()];
    let a = model.loss_and_gradient(&pool, &golden.parameters, &whole.batch(), &mut gradients[0]);
    let b = model.loss_and_gradient(&pool, &golden.parameters, &twice.batch(), &mut gradients[1]);
    assert!((a - b).abs() < 1e-6 * a, "{a} and {b}");
    for ((spec, a), (_, b)) in gradients[0].iter().zip(gradients[1].iter()) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() < 1e-4 * (1e-2 + a.abs()), "{}: {a} and {b}", spec.name);
        }
    }
}

#[test]
fn what_has_no_backward_pass_is_refused_with_its_reason() {
    let pool = Pool::new(1, Isa::detect()).unwrap();
    for (name, reason) in [
        ("gpt2", "layer norms"),
        ("phi3", "queries, keys and values in one tensor"),
        ("gemma2", "capped scores or logits"),
        ("llama-tied-bias", "a bias behind attention"),
    ] {
        let golden = Golden::read(&pool, name);
        let error = Model::new(golden.config, Precision::F32).err().unwrap();
        assert_eq!(
            error.to_string(),
            format!("a model of this architecture cannot be trained: it has {reason}")
        );
    }
}

#[test]
fn both_optimisers_learn_a_sequence_by_heart() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let golden = Golden::read(&pool, "qwen3");
    let owned = Owned::new(&golden);
    let n = owned.tokens.len() as f64;
    for matrices in [MatrixOptimizer::AdamW, MatrixOptimizer::Muon] {
        let mut parameters = golden.parameters.clone();
        let settings = OptimizerSettings { matrices, weight_decay: 0.01, ..OptimizerSettings::adamw(3e-3) };
        let mut optimizer = Optimizer::new(settings, &parameters);
        let mut model = Model::new(golden.config.clone(), Precision::Bf16).unwrap();
        let mut gradient = parameters.zeros_like();
        let first = model.loss(&pool, &parameters, &owned.batch()) / n;
        for _ in 0..150 {
            gradient.clear(&pool);
            model.loss_and_gradient(&pool, &parameters, &owned.batch(), &mut gradient);
            optimizer.step(&pool, &mut parameters, &gradient, 1.0, 1.0 / n as f32);
        }
        let last = model.loss(&pool, &parameters, &owned.batch()) / n;
        assert!(first > 3.0 && last < 0.1, "{matrices:?}: {first} to {last}");
    }
}

#[test]
fn what_comes_next_is_what_the_loss_expects() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let golden = Golden::read(&pool, "granite");
    let n_vocab = golden.config.vocab_size;
    let mut model = Model::new(golden.config.clone(), Precision::F32).unwrap();
    let owned = Owned::new(&golden);
    let (a, b) = (0..7, 7..19);
    let positions: Vec<u32> = (0..7).chain(0..12).collect();
    let batch = TokenBatch {
        tokens: &[&owned.tokens[..7], &owned.tokens[..12]].concat(),
        positions: &positions,
        sequences: &[a, b],
        targets: &[],
        weights: &[],
    };
    let logits = model.next_logits(&pool, &golden.parameters, &batch);
    for (logits, row) in logits.chunks_exact(n_vocab).zip([6, 11]) {
        let sum = logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
        for (token, &logit) in logits.iter().enumerate() {
            let expected = golden.log_probs[row * n_vocab + token];
            assert!((f64::from(logit) - sum - f64::from(expected)).abs() < 1e-3, "row {row}, token {token}");
        }
    }
}
