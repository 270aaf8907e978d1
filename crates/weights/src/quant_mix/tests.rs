//! Against what llama.cpp does (`testdata/quantize/mixes.json`), and the rules that no fixture shows.
#![allow(clippy::unwrap_used)]

use serde_json::Value as Json;

use super::*;
use crate::gguf::{GgufWriter, Value};

const COMMAND: &str = "made by scripts/golden_quantize.py";

fn facts(case: &Json) -> MixFacts {
    let mut writer = GgufWriter::new(32).unwrap();
    let arch = case["arch"].as_str().unwrap();
    writer.set("general.architecture", Value::from_text(arch)).unwrap();
    for (key, field) in [
        ("block_count", "block_count"),
        ("attention.head_count", "head_count"),
        ("attention.head_count_kv", "head_count_kv"),
    ] {
        writer.set(&format!("{arch}.{key}"), Value::U32(case[field].as_u64().unwrap() as u32)).unwrap();
    }
    MixFacts::of(&Gguf::from_bytes(writer.to_bytes()).unwrap(), false, false)
}

#[test]
fn every_tensor_gets_the_type_that_llama_cpp_gives_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/quantize/mixes.json");
    let cases: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut n_compared = 0;
    for (name, case) in cases.as_object().unwrap() {
        let facts = facts(case);
        let tensors: Vec<(String, Vec<u64>)> = serde_json::from_value(case["tensors"].clone()).unwrap();
        let shapes: Vec<(&str, &[u64])> = tensors.iter().map(|(n, d)| (n.as_str(), d.as_slice())).collect();
        for (mix, expected) in case["types"].as_object().unwrap() {
            let file_type = FileType::from_name(mix).unwrap();
            let found = file_type.tensor_types(&shapes, &facts);
            let expected = expected.as_str().unwrap().split(' ');
            for (((tensor, _), found), expected) in tensors.iter().zip(found).zip(expected) {
                // The files are F32: what stays as it is, is F32.
                let found = found.unwrap_or(TensorType::F32).name();
                assert_eq!(found, expected, "{name} as {mix}, {tensor}; {COMMAND}");
                n_compared += 1;
            }
        }
    }
    assert!(n_compared > 5000, "{n_compared} tensors compared; {COMMAND}");
}

#[test]
fn names_and_numbers_are_those_of_other_programs() {
    assert_eq!(FileType::from_name("q4_k_m").map(FileType::id), Some(15));
    assert_eq!(FileType::from_name("Q5_K"), Some(FileType::Q5_K_M));
    assert_eq!(FileType::from_name("bf16").map(FileType::id), Some(32));
    assert_eq!(FileType::from_name("Q2_K"), None);
    let ids: std::collections::BTreeSet<u32> = FileType::ALL.iter().map(|ty| ty.id()).collect();
    assert_eq!(ids.len(), FileType::ALL.len());
}

/// Types of `blk.I.NAME.weight` for layers 0.. of a model of 16 layers, rows of 256.
fn of_layers(file_type: FileType, name: &str, facts: MixFacts) -> Vec<TensorType> {
    let names: Vec<String> = (0..16).map(|i| format!("blk.{i}.{name}.weight")).collect();
    let shapes: Vec<(&str, &[u64])> = names.iter().map(|n| (n.as_str(), &[256, 256][..])).collect();
    file_type.tensor_types(&shapes, &facts).into_iter().map(Option::unwrap).collect()
}

const PLAIN: MixFacts =
    MixFacts { n_layers: 16, n_experts: 0, is_70b: false, has_importance: false, pure: false };

#[test]
fn an_importance_matrix_gives_the_first_layers_of_q4_0_a_minimum() {
    let with = MixFacts { has_importance: true, ..PLAIN };
    let found = of_layers(FileType::Q4_0, "ffn_down", with);
    assert_eq!(found[..3], [TensorType::Q4_1, TensorType::Q4_1, TensorType::Q4_0]);
    assert_eq!(of_layers(FileType::Q4_0, "ffn_down", PLAIN), [TensorType::Q4_0; 16]);
}

#[test]
fn eight_experts_keep_keys_and_values_fine() {
    let experts = MixFacts { n_experts: 8, ..PLAIN };
    assert_eq!(of_layers(FileType::Q4_K_M, "attn_v", experts), [TensorType::Q8_0; 16]);
    assert_eq!(of_layers(FileType::Q4_K_M, "attn_k", experts), [TensorType::Q8_0; 16]);
    assert_eq!(of_layers(FileType::Q4_K_M, "attn_output", experts), [TensorType::Q5K; 16]);
}

#[test]
fn pure_is_one_type_for_all() {
    let pure = MixFacts { pure: true, ..PLAIN };
    assert_eq!(of_layers(FileType::Q4_K_M, "attn_v", pure), [TensorType::Q4K; 16]);
    let tied: &[(&str, &[u64])] = &[("token_embd.weight", &[256, 10]), ("output_norm.weight", &[256, 1])];
    assert_eq!(FileType::Q4_K_S.tensor_types(tied, &pure), [Some(TensorType::Q4K), None]);
}

#[test]
fn layers_are_counted_in_their_own_order() {
    // Split files and some tools write them in another.
    let names: Vec<String> = (0..16).rev().map(|i| format!("blk.{i}.attn_v.weight")).collect();
    let shapes: Vec<(&str, &[u64])> = names.iter().map(|n| (n.as_str(), &[256, 256][..])).collect();
    let mut found = FileType::Q4_K_M.tensor_types(&shapes, &PLAIN);
    found.reverse();
    let in_order: Vec<_> = of_layers(FileType::Q4_K_M, "attn_v", PLAIN).into_iter().map(Some).collect();
    assert_eq!(found, in_order);
}
