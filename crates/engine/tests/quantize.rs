//! What our quantiser loses, against what llama.cpp's loses (`testdata/quantize`): each type's mean KL divergence
//! from the f32 forward pass of the same small model.
#![allow(clippy::print_stdout)] // the measured figures are worth seeing
#![allow(clippy::unwrap_used)]

mod golden;

use std::path::{Path, PathBuf};

use engine::weight_type;
use golden::{log_probs, mean_kl, read_golden};
use kernels::{Isa, Pool, WeightType};
use serde_json::Value;
use weights::{Gguf, GgufWriter, TensorType};

/// The most that a type may lose, as a multiple of what llama.cpp's quantiser loses.
const MAX_KL_RATIO: f64 = 1.1;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/quantize")
}

/// The source with every matrix quantised to `ty` and made floats again, so that the forward pass adds nothing.
fn through(source: &Gguf, ty: WeightType) -> Gguf {
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let convert = |from, bytes: &[u8], to: WeightType, n_cols: usize, n: usize| {
        let mut out = vec![0; to.bytes_of(n)];
        kernels::requantize(&pool, from, bytes, to, n_cols, None, &mut out).unwrap();
        out
    };
    let mut writer = GgufWriter::new(32).unwrap();
    for (key, value) in source.metadata() {
        writer.set(key.as_str().unwrap(), value).unwrap();
    }
    for info in source.tensors() {
        let from = weight_type(info.kind.loadable().unwrap());
        let (n_cols, n) = (info.n_cols() as usize, info.n_elements() as usize);
        let floats = if info.n_rows() == 1 {
            convert(from, source.bytes(info), WeightType::F32, n_cols, n)
        } else {
            let blocks = convert(from, source.bytes(info), ty, n_cols, n);
            convert(ty, &blocks, WeightType::F32, n_cols, n)
        };
        writer.add_tensor(&info.name, &info.dims, TensorType::F32, floats).unwrap();
    }
    Gguf::from_bytes(writer.to_bytes()).unwrap()
}

#[test]
fn no_type_loses_more_than_llama_cpp_loses_in_it() {
    let theirs: Value =
        serde_json::from_slice(&std::fs::read(folder().join("divergence.json")).unwrap()).unwrap();
    let golden = read_golden(&folder().join("source.expected"));
    let source = Gguf::open(&folder().join("source-f16.gguf")).unwrap();
    let mut misses = Vec::new();
    let mut n_compared = 0;
    for ty in WeightType::ALL {
        let Some(theirs) = theirs[ty.name()].as_f64() else { continue };
        let ours = mean_kl(&golden, &log_probs(through(&source, ty), &golden, Isa::detect(), 128));
        let line =
            format!("{}: KL {ours:.3e}, llama.cpp {theirs:.3e}, ratio {:.3}", ty.name(), ours / theirs);
        println!("{line}");
        n_compared += 1;
        if ours.is_nan() || ours > MAX_KL_RATIO * theirs {
            misses.push(line);
        }
    }
    assert_eq!(n_compared, 8, "divergence.json is made by scripts/golden_quantize.py");
    assert!(misses.is_empty(), "further from f32 than llama.cpp's:\n{}", misses.join("\n"));
}

#[test]
fn floats_lose_next_to_nothing() {
    let golden = read_golden(&folder().join("source.expected"));
    let source = Gguf::open(&folder().join("source-f16.gguf")).unwrap();
    // Keys and values are kept as f16: some 1e-7 are theirs.
    for (ty, most) in [(WeightType::F32, 1e-6), (WeightType::F16, 1e-6), (WeightType::BF16, 1e-4)] {
        let kl = mean_kl(&golden, &log_probs(through(&source, ty), &golden, Isa::detect(), 128));
        assert!(kl <= most, "{}: KL {kl:.3e}, at most {most:e}", ty.name());
    }
}
