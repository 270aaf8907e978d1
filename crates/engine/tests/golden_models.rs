//! Log-probabilities of tiny random models of every architecture, against the references in
//! `testdata/golden-models` (made by `scripts/golden_models.py` with transformers and llama.cpp).
#![allow(clippy::unwrap_used)]

mod golden;

use std::path::{Path, PathBuf};

use golden::{Golden, log_probs, mean_kl, read_golden};
use kernels::Isa;
use weights::Gguf;

/// The most that a float model's log-probability may be off, in nats.
const MAX_DIFFERENCE: f32 = 0.01;
/// The same where activations are rounded to bf16 too, as in llama.cpp, which is off by 0.012 to 0.062 on these files.
const MAX_BF16_DIFFERENCE: f32 = 0.07;
/// The most that a mean KL divergence may be of llama.cpp's on the same files, where activations are rounded.
const MAX_KL_RATIO: f64 = 1.1;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/golden-models")
}

/// Each reference with the model files it holds for.
fn pairs(is_wanted: fn(&str) -> bool) -> Vec<(PathBuf, Golden)> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_string();
        let Some(stem) = file.strip_suffix(".expected") else { continue };
        let stem = stem.split('.').next().unwrap();
        if !is_wanted(stem) {
            continue;
        }
        let names = [format!("{stem}.gguf")].into_iter();
        let names = names.chain(["f32", "f16", "bf16"].map(|ty| format!("{stem}-{ty}.gguf")));
        let models: Vec<PathBuf> = names.map(|n| folder().join(n)).filter(|p| p.exists()).collect();
        assert!(!models.is_empty(), "{file} has no model");
        pairs.extend(models.into_iter().map(|model| (model, read_golden(&path))));
    }
    assert!(!pairs.is_empty(), "no references; run scripts/golden_models.py");
    pairs
}

fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

#[test]
fn float_models_of_every_architecture_agree_with_the_reference() {
    let mut misses = Vec::new();
    let (mut kl, mut peers_kl) = (0.0, 0.0);
    for (model, golden) in pairs(|stem| !stem.starts_with("quant-")) {
        for isa in isas() {
            let found = log_probs(Gguf::open(&model).unwrap(), &golden, isa, 16);
            assert_eq!(found.len(), golden.log_probs.len());
            let differences = found.iter().zip(&golden.log_probs).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            let model = model.file_name().unwrap().to_str().unwrap();
            let is_rounded = model.ends_with("-bf16.gguf") && isa.has_bf16();
            if is_rounded {
                kl += mean_kl(&golden, &found);
                peers_kl += peers_bf16_kl(&golden.name);
            }
            let allowed = if is_rounded { MAX_BF16_DIFFERENCE } else { MAX_DIFFERENCE };
            if worst.is_nan() || worst > allowed {
                let line =
                    format!("{model} against {}, {isa:?}: {worst} nats off, allowed {allowed}", golden.name);
                misses.push(line);
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    // Of all files together: in the few tokens of one, chance is more than a tenth.
    let allowed = MAX_KL_RATIO * peers_kl;
    assert!(kl <= allowed, "bf16: sum of KL divergences {kl:.3e}, allowed {allowed:.3e}");
}

/// llama.cpp's mean KL divergence on the bf16 file of this reference, where it rounds activations to bf16.
fn peers_bf16_kl(expected: &str) -> f64 {
    let manifest = std::fs::read(folder().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let name = expected.strip_suffix(".expected").unwrap();
    manifest["cases"][name]["run"]["llama_cpp_bf16_mean_kl"].as_f64().unwrap()
}

#[test]
fn quantised_models_lose_no_more_than_llama_cpp() {
    let mut misses = Vec::new();
    for (model, golden) in pairs(|stem| stem.starts_with("quant-")) {
        for isa in isas() {
            let found = log_probs(Gguf::open(&model).unwrap(), &golden, isa, 64);
            let kl = mean_kl(&golden, &found);
            let allowed = MAX_KL_RATIO * f64::from(golden.peer_kl);
            let line = format!("{}, {isa:?}: KL {kl:.3e}, allowed {allowed:.3e}", golden.name);
            if kl.is_nan() || kl > allowed {
                misses.push(line);
            }
        }
    }
    assert!(misses.is_empty(), "further from f32 than llama.cpp:\n{}", misses.join("\n"));
}
