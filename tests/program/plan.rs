//! `daybreak plan`: GPT-3 as it was published, the way back from money and time, and what is refused.

use serde_json::Value;

use crate::{assert_one_line_error, run, stderr, stdout};

fn plan(args: &[&str]) -> std::process::Output {
    let home = tempfile::tempdir().expect("a folder");
    run(home.path(), &[&["plan"], args].concat())
}

fn table(args: &[&str]) -> String {
    let output = plan(args);
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&table(&[args, &["--json"]].concat())).expect("JSON")
}

#[track_caller]
fn assert_near(value: &Value, expected: f64) {
    let x = value.as_f64().unwrap_or_else(|| panic!("{value} is a number"));
    assert!((x / expected - 1.0).abs() < 1e-3, "{x} is not near {expected}");
}

#[test]
fn gpt_3_is_planned_as_it_was_published() {
    let report = json(&["gpt-3"]);
    assert_eq!(report["parameters"]["total"], 174_604_259_328u64);
    assert_eq!(report["tokens"], 300_000_000_000u64);
    assert_near(&report["flops"]["six_n_d"], 3.1429e23);
    assert_near(&report["flops"]["exact"], 3.1856e23);
    assert_near(&report["flops"]["unmasked"], 3.2291e23);
    assert_eq!(report["machine"]["count"], 10_000);
    assert_near(&report["seconds"], 3.1856e23 / 3.14e23 * 14.8 * 86_400.0);
    // Ten thousand cards at 1.50 dollars an hour for fifteen days.
    assert_near(&report["money"]["amount"], 3.1856e23 / 3.14e23 * 14.8 * 24.0 * 15_000.0);
    let published = report["published"].as_array().expect("a list");
    assert!(published.iter().all(|row| row["source"].as_str().is_some_and(|source| source.len() > 10)));
    let text = table(&["gpt-3"]);
    for part in ["174.6 billion", "3.19e23", "15.0 days", "arXiv:2005.14165", "arXiv:2104.10350", "1287"] {
        assert!(text.contains(part), "{part:?} in: {text}");
    }
    // Elsewhere, with what that costs.
    let today = json(&["gpt-3", "--on", "H100", "--count", "1024", "--mfu", "0.5"]);
    assert_near(&today["seconds"], 3.1856e23 / (1024.0 * 989.4e12 * 0.5));
    assert!(today["machine"]["price_source"].as_str().is_some_and(|source| source.contains("https://")));
}

#[test]
fn money_and_time_are_turned_into_a_model() {
    let report = json(&["--budget", "200 CNY", "--on", "rtx-4090", "--mfu", "0.4"]);
    assert_near(&report["money"]["amount"], 200.0);
    assert_eq!(report["money"]["currency"], "CNY");
    let price = report["machine"]["price_per_hour"]["amount"].as_f64().expect("a price in dollars");
    let flops = 200.0 / 7.0197 / price * 3600.0 * 165.2e12 * 0.4;
    assert_near(&report["optimum"]["flops"], flops);
    assert_near(&report["optimum"]["parameters"], (flops / 120.0).sqrt());
    assert_near(&report["flops"]["exact"], flops);
    let depth = report["n_layers"].as_u64().expect("a number");
    assert_eq!(report["n_embd"].as_u64(), Some(64 * depth));

    let night = json(&["--time", "8h", "--on", "h100"]);
    assert_near(&night["seconds"], 28_800.0);
    // A model that is given learns from as much as the time allows.
    let given = json(&["--depth", "4", "--time", "30m", "--on", "h100"]);
    assert_eq!(given["n_layers"], 4);
    assert_near(&given["seconds"], 1800.0);
    // Both at once: the scarcer one counts.
    let both = json(&["--time", "1d", "--budget", "$1", "--on", "h100"]);
    assert_near(&both["money"]["amount"], 1.0);
    let text = table(&["--budget", "¥200", "--on", "rtx-4090"]);
    assert!(
        text.starts_with("best spent") && text.contains("200.00 CNY") && text.contains("for 1 USD"),
        "{text}"
    );
}

#[test]
fn a_new_decoder_is_planned_as_it_would_be_trained() {
    let of = |more: &[&str]| json(&[&["--depth", "6", "--on", "h100", "--tokens", "1M"], more].concat());
    let (plain, tied, windowed) = (of(&[]), of(&["--tied"]), of(&["--window", "128"]));
    assert!(plain["parameters"]["output"].as_u64() > tied["parameters"]["output"].as_u64(), "{tied}");
    assert_eq!(plain["parameters"]["embeddings"], tied["parameters"]["embeddings"]);
    let flops = |report: &Value| report["flops"]["exact"].as_f64().expect("a number");
    assert!(flops(&windowed) < flops(&plain) && flops(&tied) == flops(&plain), "{windowed}");
    let refused = plan(&["--depth", "6", "--on", "h100", "--window", "2048"]);
    assert_one_line_error(&refused, &["--window is 2048", "--seq-len"]);
}

#[test]
fn a_model_file_is_planned_by_its_shape() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden-models/llama-f32.gguf");
    let path = path.to_str().expect("UTF-8");
    let report = json(&[path, "--on", "h100"]);
    let n = report["parameters"]["total"].as_u64().expect("a number");
    let of = |part: &str| report["parameters"][part].as_u64().expect("a number");
    assert_eq!(report["tokens"].as_u64(), Some(20 * (of("layers") + of("output"))), "{report}");
    assert_eq!(report["memory_bytes"]["optimizer"].as_u64(), Some(12 * n));
    assert_one_line_error(&plan(&["./nothing-here.gguf", "--on", "h100"]), &["nothing-here.gguf"]);
}

#[test]
fn what_is_not_known_is_said() {
    let text = table(&["--depth", "12", "--on", "ascend-910b"]);
    assert!(text.contains("money        unknown"), "{text}");
    let report =
        json(&["--depth", "12", "--on", "ascend-910b", "--price-per-hour", "10", "--currency", "CNY"]);
    assert_eq!(report["rent"]["currency"], "CNY");
    let budget = plan(&["--budget", "200 CNY", "--on", "ascend-910b"]);
    assert_one_line_error(&budget, &["no price of Huawei Ascend 910B", "--price-per-hour"]);
}

#[test]
fn a_file_of_ones_own_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.toml");
    let entry = "[[accelerator]]\nname = \"ours\"\ntitle = \"our cluster\"\npeak_tflops = 100\nmemory_gb = 50\n\
                 as_of = \"2026-11-27\"\nsource = \"measured\"\n";
    std::fs::write(&file, entry).expect("written");
    let path = file.to_str().expect("UTF-8");
    let report = json(&[
        "--depth",
        "2",
        "--accelerators",
        path,
        "--on",
        "ours",
        "--watts",
        "100",
        "--price-per-kwh",
        "$1",
    ]);
    assert_eq!(report["machine"]["title"], "our cluster");
    assert_near(&report["electricity"]["amount"], report["kilowatt_hours"].as_f64().expect("known"));
    std::fs::write(&file, entry.replace("50", "-50")).expect("written");
    let refused = plan(&["--depth", "2", "--accelerators", path, "--on", "ours"]);
    assert_one_line_error(&refused, &["own.toml, line 1: memory_gb", "-50"]);
}

#[test]
fn what_cannot_be_planned_is_refused_in_one_line() {
    assert_one_line_error(&plan(&["gpt-3", "--on", "tpu"]), &["\"tpu\"", "v100, a100, h100", "here"]);
    assert_one_line_error(&plan(&[]), &["--depth, --time or --budget"]);
    assert_one_line_error(&plan(&["--budget", "200", "--on", "h100"]), &["--budget has no currency"]);
    assert_one_line_error(&plan(&["--budget", "5 XAU", "--on", "h100"]), &["no exchange rate of XAU"]);
    for args in [&["--time", "soon"][..], &["--mfu", "40"], &["--tokens", "many"], &["gpt-3", "--depth", "2"]]
    {
        assert_eq!(plan(args).status.code(), Some(2), "{args:?}");
    }
}
