//! Adapters for the tiny llama, good ones and spoiled ones.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::gguf::{Array, GgufWriter};
use crate::tiny_model::TinyModel;

/// With an output of its own, so that the embeddings may have an adapter.
fn llama() -> TinyModel {
    let mut model = TinyModel::llama();
    model.add("output.weight", &[10, 32]);
    model
}

fn base() -> (Gguf, ModelConfig) {
    let gguf = llama().build();
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    (gguf, config)
}

/// Keys and pairs as the trainer would write them, with this rank for every matrix.
fn written(rank: usize) -> TinyModel {
    let (gguf, config) = base();
    let mut file = TinyModel { keys: vec![], tensors: vec![] };
    for (key, value) in adapter_metadata(&config, &gguf.fingerprint(), Some("nurse"), 2.0) {
        file.set(&key, value);
    }
    for tensor in tensor_specs(&config).iter().filter_map(|spec| lora_tensors(spec, rank)).flatten() {
        let [n_cols, n_rows] = tensor.dims;
        file.add(&tensor.name, &[n_rows, n_cols]);
    }
    file
}

fn read(file: &TinyModel) -> Result<Adapter, String> {
    Adapter::read(file.build()).map_err(|error| error.to_string())
}

fn fit(file: &TinyModel) -> Result<usize, String> {
    let adapter = read(file)?;
    adapter.fit(&base().1).map(|fitted| fitted.len()).map_err(|error| error.to_string())
}

#[test]
fn what_is_written_is_read_and_fits() {
    let file = written(4);
    let adapter = read(&file).unwrap();
    assert!(Adapter::is_adapter(adapter.gguf()));
    assert_eq!(
        (adapter.arch.as_str(), adapter.name.as_deref(), adapter.alpha),
        ("llama", Some("nurse"), 2.0)
    );
    let (gguf, config) = base();
    let fitted = adapter.fit(&config).unwrap();
    assert_eq!(fitted.len(), 2 + 2 * 7, "embeddings, output and seven matrices of each layer");
    for FittedPair { spec, pair } in fitted {
        assert_eq!((&spec.name, pair.rank, adapter.factor(pair)), (&pair.tensor, 4, 0.5));
    }
    assert_eq!(adapter.base_warning(&gguf), None);
}

#[test]
fn ranks_may_differ_and_an_alpha_of_zero_is_a_factor_of_one() {
    let mut file = written(4);
    file.tensor("blk.1.ffn_up.weight.lora_a").shape = vec![1, 32];
    file.tensor("blk.1.ffn_up.weight.lora_b").shape = vec![64, 1];
    assert_eq!(fit(&file), Ok(16));
    file.unset("adapter.lora.alpha");
    let adapter = read(&file).unwrap();
    assert!(adapter.pairs.iter().all(|pair| adapter.factor(pair) == 1.0));
}

#[test]
fn each_fault_of_a_file_is_told_in_a_line() {
    type Spoil = fn(&mut TinyModel);
    let cases: [(Spoil, &str); 12] = [
        (
            |file| file.unset("general.type"),
            "metadata key \"general.type\": expected \"adapter\", found nothing (is this the file of a model?)",
        ),
        (
            |file| file.set("adapter.type", Value::from_text("lokr")),
            "metadata key \"adapter.type\": expected \"lora\", found \"lokr\"",
        ),
        (
            |file| file.set("adapter.lora.alpha", Value::F32(f32::NAN)),
            "metadata key \"adapter.lora.alpha\": expected a finite number, found NaN",
        ),
        (
            |file| {
                let tokens = Value::Array(Array::from_strings(["a"]));
                file.set("adapter.alora.invocation_tokens", tokens);
            },
            "metadata key \"adapter.alora.invocation_tokens\": expected an adapter that is always on (activated LoRA \
             is not supported), found the key",
        ),
        (
            |file| file.remove("blk.0.attn_q.weight.lora_a"),
            "tensor \"blk.0.attn_q.weight\": expected .lora_a and .lora_b, found no .lora_a",
        ),
        (
            |file| file.remove("blk.0.attn_q.weight.lora_b"),
            "tensor \"blk.0.attn_q.weight\": expected .lora_a and .lora_b, found no .lora_b",
        ),
        (
            |file| file.add("blk.0.attn_norm.weight", &[32]),
            "tensor \"blk.0.attn_norm.weight\": expected a name that ends with .lora_a or .lora_b, found another \
             (adapters that change more are not supported)",
        ),
        (
            |file| file.tensor("blk.0.attn_q.weight.lora_a").shape = vec![5, 32],
            "tensor \"blk.0.attn_q.weight\": expected one rank in .lora_a and .lora_b, found shapes [5, 32] and \
             [64, 4]",
        ),
        (
            |file| {
                file.tensor("blk.0.attn_q.weight.lora_a").shape = vec![4097, 32];
                file.tensor("blk.0.attn_q.weight.lora_b").shape = vec![64, 4097];
            },
            "tensor \"blk.0.attn_q.weight\": expected a rank of at most 4096, found 4097",
        ),
        (
            |file| file.tensor("blk.0.attn_q.weight.lora_a").shape = vec![2, 4, 32],
            "tensor \"blk.0.attn_q.weight.lora_a\": expected a matrix, found shape [2, 4, 32]",
        ),
        (
            |file| file.tensor("blk.0.attn_q.weight.lora_a").shape = vec![32],
            "tensor \"blk.0.attn_q.weight\": expected one rank in .lora_a and .lora_b, found shapes [1, 32] and \
             [64, 4]",
        ),
        (|file| file.tensors.clear(), "content: expected at least one pair, found no tensors"),
    ];
    for (spoil, expected) in cases {
        let mut file = written(4);
        spoil(&mut file);
        assert_eq!(read(&file).map(|_| ()), Err(format!("adapter <memory>: {expected}")));
    }
}

#[test]
fn an_adapter_for_another_model_is_told_where_they_differ() {
    type Spoil = fn(&mut TinyModel);
    let cases: [(Spoil, &str); 5] = [
        (
            |file| file.set("general.architecture", Value::from_text("qwen2")),
            "architecture: expected \"llama\", found \"qwen2\"",
        ),
        (
            |file| {
                file.add("blk.2.attn_q.weight.lora_a", &[4, 32]);
                file.add("blk.2.attn_q.weight.lora_b", &[64, 4]);
            },
            "tensor \"blk.2.attn_q.weight\": expected a tensor of the base (llama, 2 layers), found none of this name",
        ),
        (
            |file| file.tensor("blk.1.ffn_down.weight.lora_a").shape = vec![4, 63],
            "tensor \"blk.1.ffn_down.weight\", lora_a: expected shape [4, 64], found [4, 63]",
        ),
        (
            |file| file.tensor("token_embd.weight.lora_b").shape = vec![10, 4],
            "tensor \"token_embd.weight\", lora_b: expected shape [32, 4], found [10, 4]",
        ),
        (
            |file| {
                file.add("output_norm.weight.lora_a", &[1, 32]);
                file.add("output_norm.weight.lora_b", &[1, 1]);
            },
            "tensor \"output_norm.weight\": expected a matrix, found a vector",
        ),
    ];
    for (spoil, expected) in cases {
        let mut file = written(4);
        spoil(&mut file);
        assert_eq!(fit(&file), Err(format!("adapter <memory> was made for another model: {expected}")));
    }
}

#[test]
fn another_base_of_the_same_shape_is_warned_of() {
    let adapter = read(&written(2)).unwrap();
    let mut other = llama();
    other.tensor("blk.1.ffn_up.weight").ty = TensorType::F16;
    let warning = adapter.base_warning(&other.build()).unwrap();
    assert!(warning.contains("made for another file") && !warning.contains('\n'), "{warning}");
}

#[test]
fn a_fingerprint_sees_each_tensors_ends_name_type_and_shape_but_not_their_order() {
    let print = |tensors: &[(&str, [u64; 2], TensorType, &[u8])]| {
        let mut writer = GgufWriter::new(32).unwrap();
        for (name, dims, ty, bytes) in tensors {
            writer.add_tensor(name, dims, *ty, *bytes).unwrap();
        }
        Gguf::from_bytes(writer.to_bytes()).unwrap().fingerprint()
    };
    let bytes = vec![7; 16384];
    let spoiled = |at: usize| {
        let mut spoiled = bytes.clone();
        spoiled[at] = 8;
        print(&[("a", [64, 64], TensorType::F32, &spoiled), ("b", [64, 64], TensorType::F32, &bytes)])
    };
    let a = ("a", [64, 64], TensorType::F32, &bytes[..]);
    let b = ("b", [64, 64], TensorType::F32, &bytes[..]);
    let plain = print(&[a, b]);
    assert_eq!(plain.len(), 32);
    assert_eq!(plain, print(&[b, a]));
    assert_eq!(plain, spoiled(8192), "the middle is not looked at");
    let others = [
        spoiled(0),
        spoiled(4095),
        spoiled(16384 - 4096),
        spoiled(16383),
        print(&[a]),
        print(&[a, ("c", b.1, b.2, b.3)]),
        print(&[a, ("b", [128, 32], b.2, b.3)]),
        print(&[a, ("b", [128, 64], TensorType::F16, b.3)]),
    ];
    let all: std::collections::HashSet<_> = others.iter().chain([&plain]).collect();
    assert_eq!(all.len(), others.len() + 1);
}
