//! Muon against PyTorch's; `scripts/golden_muon.py` tells how its figures were made.
#![allow(clippy::unwrap_used)]

use kernels::Isa;
use serde_json::Value;

use super::*;
use crate::model::steps_tests::read;
use crate::parameters::Part;
use crate::test_support::uniform;

/// A matrix for each case, in a layer of its own.
fn matrices(cases: &[Value]) -> Parameters {
    let spec = |(layer_idx, case): (usize, &Value)| {
        let shape: Vec<usize> =
            case["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
        let name = format!("{} x {}", shape[0], shape[1]);
        (Part::Whole, TensorSpec { name, role: TensorRole::AttnQ, layer_idx: Some(layer_idx), shape })
    };
    Parameters::of(cases.iter().enumerate().map(spec).collect())
}

fn fill(numbers: &mut Parameters, of: &str) {
    for (spec, values) in numbers.iter_mut() {
        values.iter_mut().zip(uniform(&format!("{}{of}", spec.name))).for_each(|(x, random)| *x = random);
    }
}

fn distance(from: &[f32], to: &Value) -> f64 {
    let to = to.as_array().unwrap();
    let squares = from.iter().zip(to).map(|(x, to)| (f64::from(*x) - to.as_f64().unwrap()).powi(2));
    squares.sum::<f64>().sqrt()
}

#[test]
fn five_steps_of_muon_are_those_of_pytorch() {
    let all = read("muon.json");
    let cases = all["cases"].as_array().unwrap();
    let number = |key: &str| all[key].as_f64().unwrap() as f32;
    let settings = OptimizerSettings {
        matrices: MatrixOptimizer::Muon,
        weight_decay: number("weight_decay"),
        momentum: number("momentum"),
        ..OptimizerSettings::adamw(number("lr"))
    };
    let mut first = matrices(cases);
    fill(&mut first, "");
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let pool = Pool::new(2, isa).unwrap();
        let (mut parameters, mut gradient) = (first.clone(), first.zeros_like());
        let mut optimizer = Optimizer::new(settings, &parameters);
        for step in 0..5 {
            fill(&mut gradient, &format!(", {step}"));
            optimizer.step(&pool, &mut parameters, &gradient, 1.0, 1.0);
            if step != 0 && step != 4 {
                continue;
            }
            let found = parameters.iter().zip(first.iter());
            for (case, ((spec, found), (_, first))) in cases.iter().zip(found) {
                let exact = &case[format!("weights_{}", step + 1)];
                let off = distance(found, exact) / distance(first, exact);
                // With products in bf16 PyTorch itself is off by so much. It rounds at other places (each product, where
                // here only what goes into one is rounded), so that one may be off by a few times as much as the other.
                let of_pytorch = case[format!("bf16_{}", step + 1)].as_f64().unwrap();
                let most = if isa.has_bf16() { 3.0 * of_pytorch } else { 1e-5 };
                assert!(off < most, "{isa:?} {}, step {step}: {off}, at most {most}", spec.name);
            }
        }
    }
}
