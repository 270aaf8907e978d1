//! Adapters from outside: a model is run and served with one, or merged with it, and one for another model is named.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};
use weights::{Gguf, GgufWriter, ModelConfig, TensorType, adapter_metadata, lora_tensors, tensor_specs};

use crate::kept::say;
use crate::serve::Server;
use crate::{assert_one_line_error, model, ok, run, stderr, str};

const ALPHA: f32 = 2.0;
const RANK: usize = 4;

/// A small model of random weights without a tokenizer, F16.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/quantize/source-f16.gguf")
}

/// Numbers from -1 to 1, the same for each seed.
fn noise(mut seed: u64, n: usize) -> Vec<f32> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A random adapter for the matrices of a model whose names hold one of `wanted`.
fn write_adapter(path: &Path, base: &Path, wanted: &[&str], size: f32) {
    let base = Gguf::open(base).expect("it opens");
    let config = ModelConfig::from_gguf(&base).expect("a model");
    let mut writer = GgufWriter::new(32).expect("a power of two");
    for (key, value) in adapter_metadata(&config, &base.fingerprint(), Some("lively"), ALPHA) {
        writer.set(&key, value).expect("a key");
    }
    let specs = tensor_specs(&config);
    let is_wanted = |name: &str| wanted.iter().any(|part| name.contains(part));
    for (i, spec) in specs.iter().enumerate().filter(|(_, spec)| is_wanted(&spec.name)) {
        for (half, tensor) in lora_tensors(spec, RANK).into_iter().flatten().enumerate() {
            let n = (tensor.dims[0] * tensor.dims[1]) as usize;
            let bytes: Vec<u8> =
                noise((2 * i + half) as u64, n).iter().flat_map(|x| (x * size).to_le_bytes()).collect();
            writer.add_tensor(&tensor.name, &tensor.dims, TensorType::F32, bytes).expect("a tensor");
        }
    }
    writer.write_to(path).expect("written");
}

fn floats(gguf: &Gguf, name: &str) -> Vec<f32> {
    let info = gguf.tensor(name).expect("it is there");
    let mut values = vec![0.0; info.n_elements() as usize];
    let ty = engine::weight_type(info.kind.loadable().expect("a known type"));
    kernels::dequantize(ty, gguf.bytes(info), &mut values);
    values
}

#[test]
fn merged_weights_are_the_models_and_the_adapters_and_the_rest_is_copied() {
    let home = tempfile::tempdir().expect("a folder");
    let (adapter, out) = (home.path().join("lively.gguf"), home.path().join("merged.gguf"));
    let (source, scaled) = (source(), format!("{}:0.5", str(&adapter)));
    write_adapter(&adapter, &source, &["attn_q", "ffn_down"], 0.3);
    let base = Gguf::open(&source).expect("it opens");
    let thin = Gguf::open(&adapter).expect("it opens");
    for (flags, most) in [(&[][..], 2e-3), (&["--type", "F32", "--force"], 1e-6)] {
        let args = ["train", "merge", str(&source), &scaled, "-o", str(&out)];
        let said = ok(run(home.path(), &[&args[..], flags].concat()));
        assert!(said.contains("tensors changed"), "{said}");
        let merged = Gguf::open(&out).expect("it opens");
        let mut n_changed = 0;
        for info in base.tensors() {
            let found = merged.tensor(&info.name).expect("it is there");
            let a = format!("{}.lora_a", info.name);
            if thin.tensor(&a).is_none() {
                assert_eq!(floats(&merged, &info.name), floats(&base, &info.name), "{}", info.name);
                if flags.is_empty() {
                    assert_eq!(merged.bytes(found), base.bytes(info), "{}", info.name);
                }
                continue;
            }
            n_changed += 1;
            if flags.is_empty() {
                assert_eq!(found.kind, info.kind, "{}", info.name);
            }
            let (a, b) = (floats(&thin, &a), floats(&thin, &format!("{}.lora_b", info.name)));
            let n_cols = info.n_cols() as usize;
            let (before, after) = (floats(&base, &info.name), floats(&merged, &info.name));
            for (i, (before, after)) in before.iter().zip(after).enumerate() {
                let (row, col) = (i / n_cols, i % n_cols);
                let sum: f32 = (0..RANK).map(|r| b[row * RANK + r] * a[r * n_cols + col]).sum();
                let expected = before + 0.5 * ALPHA / RANK as f32 * sum;
                assert!((after - expected).abs() <= most, "{} {i}: {after}, expected {expected}", info.name);
            }
        }
        assert!(n_changed >= 2, "{n_changed} tensors");
    }
    let args = ["train", "merge", str(&source), str(&adapter), "-o", str(&out)];
    assert_one_line_error(&run(home.path(), &args), &["merged.gguf exists", "--force"]);
    let inspected = ok(run(home.path(), &["inspect", str(&adapter)]));
    assert!(inspected.contains("LoRA for a llama model, alpha 2"), "{inspected}");
    assert!(inspected.contains("attn_q") && inspected.contains("rank 4"), "{inspected}");
}

#[test]
fn a_model_runs_with_an_adapter_and_one_for_another_model_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    write_adapter(&at("lively.gguf"), &model(), &["attn_q", "attn_v", "ffn_up"], 0.5);
    let answer = |adapters: &[&str]| {
        let model = model();
        let mut args =
            vec!["run", str(&model), "The sea is", "--raw", "--temperature", "0", "-n", "12", "--ctx", "128"];
        adapters.iter().for_each(|adapter| args.extend(["--adapter", adapter]));
        run(home.path(), &args)
    };
    let path = at("lively.gguf");
    let plain = ok(answer(&[]));
    let lively = answer(&[str(&path)]);
    assert_eq!(stderr(&lively), "", "made for this very file");
    assert_ne!(ok(lively), plain);
    assert_eq!(ok(answer(&[&format!("{}:0", str(&path))])), plain);
    let halves = format!("{}:0.5", str(&path));
    let twice_half = [format!("{}:1.5", str(&path)), format!("{}:-1.5", str(&path))];
    assert_ne!(ok(answer(&[&halves])), plain);
    assert_eq!(ok(answer(&[&twice_half[0], &twice_half[1]])), plain, "they cancel each other");

    write_adapter(&at("other.gguf"), &source(), &["attn_q"], 0.1);
    let refused = answer(&[str(&at("other.gguf"))]);
    assert_one_line_error(
        &refused,
        &["other.gguf was made for another model", "blk.0.attn_q.weight", "shape"],
    );
    assert_one_line_error(&answer(&[str(&model())]), &["general.type", "is this the file of a model?"]);
    assert_one_line_error(&answer(&[str(&at("missing.gguf"))]), &["cannot open", "missing.gguf"]);
    let served = run(home.path(), &["serve", "--adapter", str(&path)]);
    assert_one_line_error(&served, &["--adapter needs --model"]);
}

#[test]
fn a_served_adapter_is_a_model_of_its_own_and_stands_in_the_receipt() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().join("lively.gguf");
    write_adapter(&path, &model(), &["attn_q", "attn_v"], 0.1);
    let adapter = format!("{}:0.5", str(&path));
    let server = Server::start(home.path(), &["--ctx", "512", "--adapter", &adapter]);
    let listed = server.call("GET", "/v1/models", &Json::Null);
    let name = listed["data"][0]["id"].as_str().expect("a model").to_owned();
    assert!(name.ends_with("+lively"), "{listed}");
    let settings = json!({"settings": {"temperature": 0, "max_tokens": 8}});
    let conversation = server.call("POST", "/api/conversations", &settings);
    let (_, receipt) = say(&server, conversation["id"].as_str().expect("an id"), None, "Hello!");
    assert_eq!(receipt["model"]["name"], *name);
    let adapters = receipt["model"]["adapters"].as_array().expect("the adapter");
    assert_eq!(adapters.len(), 1);
    assert_eq!((&adapters[0]["name"], &adapters[0]["scale"]), (&json!("lively"), &json!(0.5)));
    assert_eq!(server.terminate(), 0);
}
