//! `daybreak train tokenizer` and `daybreak train export`: what they write, and what is refused.

use std::path::Path;

use serde_json::Value;

use crate::{assert_one_line_error, ok, run, stderr, stdout, str};

#[test]
fn a_vocabulary_is_learnt_and_read_back() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let learn = ["train", "tokenizer", str(&docs), "--out", str(&out), "--vocab-size", "1000"];
    let report: Value =
        serde_json::from_str(&ok(run(home.path(), &[&learn[..], &["--json"]].concat()))).expect("JSON");
    assert_eq!((report["vocab_size"].as_u64(), report["merges"].as_u64()), (Some(1000), Some(741)));
    let english = &report["languages"][0];
    assert_eq!(english["language"], "English");
    assert!(english["bytes_per_token"].as_f64().expect("a number") > 2.0, "{report}");
    let vocabulary = str(&out.join("tokenizer.gguf")).to_owned();
    let shown = ok(run(home.path(), &["tokenize", &vocabulary, "the tokens<|im_end|>", "--special"]));
    assert!(shown.contains("      2  <|im_end|>") && !shown.contains("  t\n"), "{shown}");

    let refused = run(home.path(), &learn);
    assert_one_line_error(&refused, &["exists and is not empty; --force writes into it"]);
    let table = ok(run(home.path(), &[&learn[..], &["--force"]].concat()));
    assert!(table.starts_with("1000 tokens from ") && table.contains("\nEnglish "), "{table}");
}

#[test]
fn what_cannot_be_learnt_from_is_named() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out");
    let text = home.path().join("text.jsonl");
    let learn = |more: &[&str]| {
        run(home.path(), &[&["train", "tokenizer", str(&text), "--out", str(&out)], more].concat())
    };
    assert_one_line_error(&learn(&[]), &["text.jsonl cannot be read: No such file"]);
    std::fs::write(&text, "").expect("written");
    assert_one_line_error(&learn(&[]), &["there is no text to learn from"]);
    std::fs::write(&text, "{\"text\": \"ab ab ab\"}\nnot JSON\n").expect("written");
    assert_one_line_error(&learn(&[]), &["text.jsonl, line 2: not JSON"]);
    assert_one_line_error(&learn(&["--pre", "none"]), &["no pre-tokenizer named \"none\""]);
    assert_one_line_error(&learn(&["--vocab-size", "100"]), &["a vocabulary of 100 tokens"]);
    assert!(!out.exists(), "nothing is left of what failed");
    let output = learn(&["--skip-broken"]);
    assert!(stderr(&output).contains("left out: ") && output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("fewer than the 32768 asked for"), "{}", stdout(&output));
}

#[test]
fn a_model_is_exported_and_what_cannot_be_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out");
    let golden = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden-models").join(name);
    let export = |name: &str, more: &[&str]| {
        let model = golden(name);
        run(home.path(), &[&["train", "export", str(&model), "--out", str(&out)], more].concat())
    };
    assert_one_line_error(&export("gpt2-f32.gguf", &[]), &["a gpt2 model with learned positions"]);
    assert!(!out.exists(), "nothing is left of what was refused");

    let output = export("granite-f32.gguf", &["--type", "bf16"]);
    assert!(stderr(&output).contains("the tokenizer is left out: "), "{}", stderr(&output));
    assert!(ok(output).contains("granite, 47 kB in bfloat16"));
    let config = std::fs::read(out.join("config.json")).expect("written");
    let config: Value = serde_json::from_slice(&config).expect("JSON");
    assert_eq!((&config["model_type"], &config["logits_scaling"]), (&"granite".into(), &1.5.into()));
    assert!(out.join("model.safetensors").is_file() && !out.join("tokenizer.json").exists());

    let refused = export("granite-f32.gguf", &[]);
    assert_one_line_error(&refused, &["exists and is not empty; --force writes into it"]);
    ok(export("granite-f32.gguf", &["--force", "--format", "safetensors"]));
}
