//! What stays as it is with an adapter beside it, against the whole model with both added up; and layers that are computed
//! again.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use kernels::Isa;
use weights::Gguf;

use super::tests::{Golden, Owned, TRAINABLE, folder};
use super::*;
use crate::frozen::Frozen;
use crate::lora::{LoraSettings, lora_targets};

fn settings(targets: &str) -> LoraSettings {
    LoraSettings {
        rank: 3,
        alpha: 4.5,
        targets: lora_targets(targets).unwrap(),
        base: "base.gguf".into(),
        fingerprint: String::new(),
    }
}

fn over(pool: &Pool, name: &str, config: &ModelConfig, settings: &LoraSettings) -> Model {
    let gguf = Gguf::open(&folder().join(format!("{name}-f32.gguf"))).unwrap();
    let frozen = Arc::new(Frozen::new(pool, Arc::new(gguf), config).unwrap());
    Model::new(config.clone(), Precision::F32).unwrap().with_base(frozen, settings.factor())
}

/// W + factor · B · A for every matrix that has an adapter.
fn merged(base: &Parameters, adapter: &Parameters, factor: f32) -> Parameters {
    let mut merged = base.clone();
    for (spec, w) in merged.iter_mut() {
        let Some([a, b]) = adapter.lora(spec.role, spec.layer_idx) else { continue };
        let n_in = spec.shape[1];
        let rank = a.len() / n_in;
        for (i, w) in w.iter_mut().enumerate() {
            let (row, col) = (i / n_in, i % n_in);
            *w += factor * (0..rank).map(|r| b[row * rank + r] * a[r * n_in + col]).sum::<f32>();
        }
    }
    merged
}

fn close(what: &str, found: &[f32], expected: &[f32]) {
    let size = expected.iter().fold(0.0f32, |size, x| size.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 2e-4 * size + 1e-6, "{what} {i}: {found} for {expected}");
    }
}

#[test]
fn an_adapter_learns_as_the_whole_model_would_along_it() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    for name in TRAINABLE {
        let golden = Golden::read(&pool, name);
        let owned = Owned::new(&golden);
        let settings = settings("all");
        let mut adapter = settings.initial(&golden.config, 7);
        let mut model = over(&pool, name, &golden.config, &settings);
        let mut whole = Model::new(golden.config.clone(), Precision::F32).unwrap();
        let plain = whole.loss(&pool, &golden.parameters, &owned.batch());
        assert_eq!(
            model.loss(&pool, &adapter, &owned.batch()),
            plain,
            "{name}: a new adapter changes nothing"
        );

        let mut random = fastrand::Rng::with_seed(3);
        adapter.iter_mut().for_each(|(_, x)| x.iter_mut().for_each(|x| *x = 0.1 * (random.f32() - 0.5)));
        let (mut gradient, mut d_whole) = (adapter.zeros_like(), golden.parameters.zeros_like());
        let loss = model.loss_and_gradient(&pool, &adapter, &owned.batch(), &mut gradient);
        let sum = merged(&golden.parameters, &adapter, settings.factor());
        let expected = whole.loss_and_gradient(&pool, &sum, &owned.batch(), &mut d_whole);
        assert!((loss - plain).abs() > 1e-3, "{name}: the adapter does something");
        assert!((loss - expected).abs() < 1e-4 * expected, "{name}: {loss} for {expected}");
        for (spec, dw) in d_whole.iter() {
            let key = (spec.role, spec.layer_idx);
            let Some([da, db]) = gradient.lora(key.0, key.1) else { continue };
            let [a, b] = adapter.lora(key.0, key.1).unwrap();
            let (n_in, rank) = (spec.shape[1], settings.rank);
            // d(B · A) = dW, so dA = Bᵀ dW and dB = dW Aᵀ.
            let (mut expected_a, mut expected_b) = (vec![0.0; a.len()], vec![0.0; b.len()]);
            for (i, dw) in dw.iter().enumerate() {
                let (row, col) = (i / n_in, i % n_in);
                for r in 0..rank {
                    expected_a[r * n_in + col] += settings.factor() * b[row * rank + r] * dw;
                    expected_b[row * rank + r] += settings.factor() * dw * a[r * n_in + col];
                }
            }
            close(&format!("{name} {} A", spec.name), da, &expected_a);
            close(&format!("{name} {} B", spec.name), db, &expected_b);
        }
    }
}

#[test]
fn only_what_was_named_is_learnt() {
    let pool = Pool::new(1, Isa::detect()).unwrap();
    let golden = Golden::read(&pool, "qwen2");
    let names = |targets: &str| -> Vec<String> {
        let adapter = settings(targets).initial(&golden.config, 1);
        adapter.iter().map(|(spec, _)| spec.name.clone()).filter(|name| name.starts_with("blk.1.")).collect()
    };
    assert_eq!(
        names("q,down"),
        ["attn_q.weight.lora_a", "attn_q.weight.lora_b", "ffn_down.weight.lora_a", "ffn_down.weight.lora_b"]
            .map(|name| format!("blk.1.{name}"))
    );
    assert_eq!(names("all").len(), 14);
}

#[test]
fn layers_that_are_computed_again_give_the_same_bits() {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    for name in TRAINABLE {
        let golden = Golden::read(&pool, name);
        let owned = Owned::new(&golden);
        let settings = settings("q,down");
        let adapter = settings.initial(&golden.config, 7);
        let pass = |mut model: Model, parameters: &Parameters| {
            let mut gradient = parameters.zeros_like();
            let loss = model.loss_and_gradient(&pool, parameters, &owned.batch(), &mut gradient);
            let bits: Vec<u32> =
                gradient.iter().flat_map(|(_, values)| values.iter().map(|x| x.to_bits())).collect();
            (loss, bits, model.n_kept_numbers().0)
        };
        let whole = |precision| Model::new(golden.config.clone(), precision).unwrap();
        let beside = || over(&pool, name, &golden.config, &settings);
        let of_whole = |precision| {
            let again = whole(precision).with_recomputation();
            (pass(whole(precision), &golden.parameters), pass(again, &golden.parameters))
        };
        for (kept, again) in [
            of_whole(Precision::F32),
            of_whole(Precision::Bf16),
            (pass(beside(), &adapter), pass(beside().with_recomputation(), &adapter)),
        ] {
            assert_eq!(kept.0, again.0, "{name}");
            assert!(kept.1 == again.1, "{name}: gradients");
            assert!(again.2 < kept.2, "{name}: {} numbers are kept, {} before", again.2, kept.2);
        }
    }
}
