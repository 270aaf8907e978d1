//! Log-probabilities of golden models with random adapters, against the references in `testdata/golden-adapters`
//! (made by `scripts/golden_adapters.py` with transformers and peft; llama.cpp agrees on the same files).
#![allow(clippy::unwrap_used)]

mod golden;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use golden::{log_probs_adapted, read_golden};
use kernels::Isa;
use weights::{Adapter, Gguf, ScaledAdapter};

/// The most that a log-probability may be off, in nats.
const MAX_DIFFERENCE: f32 = 0.01;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(folder)
}

#[test]
fn models_with_adapters_agree_with_the_reference() {
    let mut misses = Vec::new();
    let mut n_references = 0;
    for entry in std::fs::read_dir(testdata("golden-adapters")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "expected") {
            continue;
        }
        n_references += 1;
        let golden = read_golden(&path);
        let adapter = Arc::new(Adapter::open(&path.with_extension("gguf")).unwrap());
        let base = path.file_stem().unwrap().to_str().unwrap();
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let gguf = Gguf::open(&testdata("golden-models").join(format!("{base}-f32.gguf"))).unwrap();
            let adapters = [ScaledAdapter { adapter: Arc::clone(&adapter), scale: 1.0 }];
            let found = log_probs_adapted(gguf, &adapters, &golden, isa, 16);
            assert_eq!(found.len(), golden.log_probs.len());
            let differences = found.iter().zip(&golden.log_probs).map(|(a, b)| (a - b).abs());
            let worst = differences.fold(0.0, f32::max);
            if worst.is_nan() || worst > MAX_DIFFERENCE {
                misses.push(format!("{base}, {isa:?}: {worst} nats off"));
            }
        }
    }
    assert!(n_references > 0, "no references; run scripts/golden_adapters.py");
    assert!(misses.is_empty(), "more than {MAX_DIFFERENCE}:\n{}", misses.join("\n"));
}
