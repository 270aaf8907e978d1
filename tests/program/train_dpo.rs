//! `daybreak train dpo`: a small model learns which of two answers is preferred, the same to the bit when its run was
//! killed.

use serde_json::json;

use crate::train_pretrain::{events, killed_after, pretrain, text, weights_of};
use crate::{assert_one_line_error, model, ok, run, str};

/// Polite answers are preferred to curt ones.
fn pairs() -> String {
    let words = ["table", "model", "file", "server", "token", "answer", "memory", "page", "speed", "line"];
    let mut lines = String::new();
    for i in 0..80 {
        let (word, other) = (words[i % 10], words[(i / 10 + 1 + i) % 10]);
        let pair = json!({
            "prompt": format!("what is a {word} and a {other}?"),
            "chosen": format!("thank you: a {word} is not a {other}"),
            "rejected": format!("a {word}, a {other}"),
        });
        lines.push_str(&format!("{pair}\n"));
    }
    lines
}

#[test]
fn a_model_learns_which_answer_is_preferred() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    let (base, pairs_file) = (at("base"), at("pairs.jsonl"));
    ok(run(home.path(), &pretrain(str(&text()), str(&base))));
    std::fs::write(&pairs_file, pairs()).expect("written");
    let base_model = base.join("model.gguf");
    let shown =
        ok(run(home.path(), &["train", "dpo", str(&pairs_file), "-m", str(&base_model), "--show", "1"]));
    assert!(shown.contains("[[thank you: a table is not a model<|im_end|>]]"), "{shown}");
    assert!(shown.contains("[[a table, a model<|im_end|>]]"), "{shown}");

    let dpo = |out: &str, more: &[&str]| -> Vec<String> {
        let mut args = vec!["train", "dpo", str(&pairs_file), "--model", str(&base_model), "--out", out];
        args.extend(["--epochs", "4", "--seq-len", "100", "--step-tokens", "600"]);
        args.extend(["--batch-tokens", "300", "--held-out", "0.2", "--checkpoint-every", "1s", "--json"]);
        args.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let full = ["--lr", "0.001"];
    fn str_of(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let (whole, killed) = (at("whole"), at("killed"));
    let prefers = |args: &[String]| {
        let evaluations = events(&ok(run(home.path(), &str_of(args))), "evaluated");
        let of = |idx: usize, what: &str| evaluations[idx][what].as_f64().expect("a number");
        let last = evaluations.len() - 1;
        // Neither answer has gained on the other before the first step.
        assert!((of(0, "loss") - std::f64::consts::LN_2).abs() < 1e-4, "{}", evaluations[0]);
        assert!(of(last, "accuracy") >= 0.85 && of(last, "loss") < 0.4, "{}", evaluations[last]);
        assert!(evaluations[0].get("bits_per_byte").is_none());
    };
    prefers(&dpo(str(&whole), &full));
    let adapted = at("adapted");
    prefers(&dpo(str(&adapted), &["--lora", "8", "--lr", "0.01"]));
    assert!(
        adapted.join("adapter.gguf").exists() && !adapted.join("model.gguf").exists(),
        "the adapter alone"
    );

    assert!(killed_after(home.path(), &str_of(&dpo(str(&killed), &full)), 4));
    let resume = ["train", "resume", str(&killed), "--json", "--threads", "1"];
    assert!(killed_after(home.path(), &resume, 6));
    ok(run(home.path(), &resume));
    assert!(
        weights_of(&killed.join("model.gguf")) == weights_of(&whole.join("model.gguf")),
        "not the same weights"
    );
}

#[test]
fn what_is_no_preference_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let (pairs_file, out, model) = (home.path().join("pairs.jsonl"), home.path().join("run"), model());
    let refused = |record: serde_json::Value, part: &str| {
        std::fs::write(&pairs_file, record.to_string()).expect("written");
        let args = ["train", "dpo", str(&pairs_file), "--model", str(&model), "--out", str(&out)];
        assert_one_line_error(&run(home.path(), &args), &["pairs.jsonl, line 1: ", part]);
        assert!(!out.exists());
    };
    refused(json!({ "messages": [] }), "no preference: expected \"prompt\", \"chosen\" and \"rejected\"");
    refused(json!({ "prompt": "a", "chosen": "b", "rejected": "b" }), "the same");
}
