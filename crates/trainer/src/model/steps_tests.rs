//! Ten steps of AdamW against other programs: of whole models against PyTorch (`scripts/golden_steps.py`), of adapters
//! against `peft` (`scripts/golden_lora.py`).
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kernels::Isa;
use serde_json::Value;
use weights::Gguf;

use super::tests::{Golden, Owned, TRAINABLE, folder};
use super::*;
use crate::frozen::Frozen;
use crate::lora::{LoraSettings, lora_targets};
use crate::optimizer::{Optimizer, OptimizerSettings};
use crate::test_support::uniform;

/// One of the golden files.
pub(crate) fn read(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(folder().join(name)).unwrap()).unwrap()
}

/// Of every tensor: the sum of squares, and the product with cos(1), cos(2), …
fn figures(values: &[f32]) -> [f64; 2] {
    let squares = values.iter().map(|&x| f64::from(x).powi(2)).sum();
    let along = values.iter().enumerate().map(|(i, &x)| f64::from(x) * ((i + 1) as f64).cos()).sum();
    [squares, along]
}

/// Share of a tensor's length that its figures may be off by, and of a loss or a gradient's length.
const SHARE: f64 = 1e-4;
/// What else weights may be off by: where a gradient is nearly 0, AdamW moves a weight by the whole rate, this way or that.
const SLACK: f64 = 2.0 * LR as f64;
const LR: f32 = 1e-3;
/// The optimiser of all these steps.
pub(crate) const ADAMW: OptimizerSettings =
    OptimizerSettings { weight_decay: 0.1, ..OptimizerSettings::adamw(LR) };

/// A model before its first step, and what is learnt of it.
pub(crate) struct Start {
    pub(crate) model: Model,
    pub(crate) parameters: Parameters,
    /// The tokens of its file.
    pub(super) owned: Owned,
}

impl Start {
    /// Of a case such as `qwen2-f32`: the whole model; or `qwen2-f32 q,v`: an adapter of these matrices.
    pub(crate) fn read(pool: &Pool, case: &str) -> Start {
        let (file, targets) = case.split_once(' ').map_or((case, None), |(file, of)| (file, Some(of)));
        let (name, ty) = file.rsplit_once('-').unwrap();
        let golden = Golden::read_as(pool, name, ty);
        let model = Model::new(golden.config.clone(), Precision::F32).unwrap();
        let owned = Owned::new(&golden);
        let Some(targets) = targets else { return Start { model, parameters: golden.parameters, owned } };
        let settings = LoraSettings {
            rank: 4,
            alpha: 8.0,
            targets: lora_targets(targets).unwrap(),
            base: file.into(),
            fingerprint: String::new(),
        };
        let mut adapter = settings.zeros(&golden.config);
        for (spec, values) in adapter.iter_mut() {
            values.iter_mut().zip(uniform(&spec.name)).for_each(|(x, random)| *x = random / 2.0);
        }
        let gguf = Arc::new(Gguf::open(&folder().join(format!("{file}.gguf"))).unwrap());
        let frozen = Arc::new(Frozen::new(pool, gguf, &golden.config).unwrap());
        Start { model: model.with_base(frozen, settings.factor()), parameters: adapter, owned }
    }
}

/// Learns the model's own tokens and compares each step with what is expected.
fn follow(pool: &Pool, case: &str, expected: &Value) {
    let Start { mut model, mut parameters, owned } = Start::read(pool, case);
    let batch = owned.batch();
    let n = batch.targets.len() as f32;
    let mut optimizer = Optimizer::new(ADAMW, &parameters);
    let mut gradient = parameters.zeros_like();
    let compare = |what: &str, found: &Parameters, scale: f32, slack: f64| {
        let expected = expected[what].as_object().unwrap();
        let mut n_compared = 0;
        for (spec, values) in found.iter() {
            let Some(expected) = expected.get(&spec.name) else { continue };
            let values: Vec<f32> = values.iter().map(|x| x * scale).collect();
            let [squares, along] = figures(&values);
            let of = |i: usize| expected[i].as_f64().unwrap();
            let length = of(0).sqrt();
            let most = SHARE * length + slack;
            assert!(
                (squares.sqrt() - length).abs() < most && (along - of(1)).abs() < most,
                "{case} {what} {}: {squares} {along} for {expected}",
                spec.name
            );
            n_compared += 1;
        }
        assert_eq!(n_compared, expected.len(), "{case} {what}");
    };
    for step in 0..10 {
        gradient.clear(pool);
        let loss = model.loss_and_gradient(pool, &parameters, &batch, &mut gradient) / f64::from(n);
        let squares: f64 = gradient.iter().map(|(_, values)| kernels::sum_of_squares(pool, values)).sum();
        let found = [loss, squares.sqrt() / f64::from(n)];
        for (what, found) in ["losses", "grad_norms"].into_iter().zip(found) {
            let expected = expected[what][step].as_f64().unwrap();
            assert!(
                (found - expected).abs() < SHARE * expected,
                "{case}, {what} of step {step}: {found} for {expected}"
            );
        }
        if step == 0 {
            compare("gradients", &gradient, 1.0 / n, 1e-5);
        }
        optimizer.step(pool, &mut parameters, &gradient, 1.0, 1.0 / n);
        if step == 0 {
            compare("weights_1", &parameters, 1.0, SLACK);
        }
    }
    compare("weights_10", &parameters, 1.0, SLACK);
}

#[test]
fn ten_steps_are_those_of_pytorch() {
    let all = read("steps.json");
    let pool = Pool::new(2, Isa::detect()).unwrap();
    for name in TRAINABLE {
        follow(&pool, &format!("{name}-f32"), &all[name]);
    }
}

#[test]
fn ten_steps_of_an_adapter_are_those_of_peft() {
    let all = read("lora.json");
    let pool = Pool::new(2, Isa::detect()).unwrap();
    for (case, expected) in all.as_object().unwrap() {
        follow(&pool, case, expected);
    }
}
