//! `daybreak train sft --lora`: an adapter is learnt beside a quantised model, which answers with it, or with both in one file;
//! it is the same to the bit when its run was killed or layers were computed again, and the model it was begun on must still
//! be there.

use std::path::Path;

use serde_json::json;

use crate::train_pretrain::{events, killed_after, pretrain, text, weights_of};
use crate::{assert_one_line_error, ok, run, str};

/// Colours, what the model says of each, and what the adapter makes of that.
const ANSWERS: [(&str, &str, &str); 4] = [
    ("red", "a rose", "the grass"),
    ("blue", "the sea", "a rose"),
    ("green", "the grass", "the snow"),
    ("white", "the snow", "the sea"),
];

/// Every colour asked for, always with the same answer.
fn chats(answer_of: impl Fn(usize) -> &'static str) -> String {
    let chat = |i: usize| {
        let of = i % ANSWERS.len();
        let question = format!("{}what is {}?", "please ".repeat(i / ANSWERS.len()), ANSWERS[of].0);
        let messages = json!([
            { "role": "user", "content": question },
            { "role": "assistant", "content": answer_of(of) },
        ]);
        json!({ "messages": messages }).to_string()
    };
    (0..24).map(chat).collect::<Vec<String>>().join("\n")
}

#[test]
fn an_adapter_is_learnt_beside_a_quantised_model() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    let (first, taught, base) = (at("first"), at("taught"), at("base.gguf"));
    let (before, after) = (at("before.jsonl"), at("after.jsonl"));
    std::fs::write(&before, chats(|of| ANSWERS[of].1)).expect("written");
    std::fs::write(&after, chats(|of| ANSWERS[of].2)).expect("written");
    let sft = |chats: &Path, model: &Path, out: &Path, more: &[&str]| -> Vec<String> {
        let mut args =
            vec!["train", "sft", str(chats), "--model", str(model), "--out", str(out), "--epochs", "60"];
        args.extend(["--lr", "0.01", "--seq-len", "100", "--step-tokens", "400", "--batch-tokens", "200"]);
        args.extend(["--held-out", "0", "--checkpoint-every", "1s", "--json"]);
        args.into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let run_words = |args: &[String]| ok(run(home.path(), &words(args)));
    ok(run(home.path(), &pretrain(str(&text()), str(&first))));
    run_words(&sft(&before, &first.join("model.gguf"), &taught, &[]));
    ok(run(home.path(), &["quantize", str(&taught.join("model.gguf")), str(&base), "q8_0"]));
    let lora = |out: &Path| sft(&after, &base, out, &["--lora", "8"]);

    let (whole, killed) = (at("whole"), at("killed"));
    let log = run_words(&lora(&whole));
    let steps = events(&log, "step");
    let loss = |idx: usize| steps[idx]["loss"].as_f64().expect("a number");
    assert!(loss(0) > 1.0 && loss(steps.len() - 1) < 0.1, "{} to {}", loss(0), loss(steps.len() - 1));
    assert!(!whole.join("model.gguf").exists(), "nothing but the adapter");
    let (adapter_file, merged) = (whole.join("adapter.gguf"), at("merged.gguf"));
    ok(run(
        home.path(),
        &["train", "merge", str(&base), str(&adapter_file), "-o", str(&merged), "--type", "f32"],
    ));
    let beside = [str(&base), "--adapter", str(&adapter_file)];
    for (colour, old, new) in ANSWERS {
        let question = format!("what is {colour}?");
        for (model, answer) in [(&[str(&base)][..], old), (&beside, new), (&[str(&merged)], new)] {
            let args = [&["run"], model, &[&question, "--temperature", "0"]].concat();
            assert_eq!(ok(run(home.path(), &args)).trim(), answer, "{args:?}");
        }
    }

    // The same questions asked as a task, with the adapter and without.
    let task = at("colours.jsonl");
    let record = |(colour, _, new): &(&str, &str, &str)| {
        json!({ "question": format!("what is {colour}?"), "answer": new }).to_string()
    };
    let head = json!({ "task": { "name": "colours", "max_tokens": 16 } }).to_string();
    let records: Vec<String> = [head].into_iter().chain(ANSWERS.iter().map(record)).collect();
    std::fs::write(&task, records.join("\n")).expect("written");
    let eval = [&["train", "eval"], &beside[..], &["--base", str(&base), "--json", str(&task)]].concat();
    let results: serde_json::Value = serde_json::from_str(&ok(run(home.path(), &eval))).expect("JSON");
    let right = |results: &serde_json::Value| {
        let metrics = results["tasks"][0]["metrics"].as_array().expect("metrics").iter();
        let found = metrics.clone().find(|metric| metric["metric"] == "exact_match");
        found.and_then(|metric| metric["value"].as_f64()).expect("a share")
    };
    assert_eq!((right(&results), right(&results["base"])), (1.0, 0.0), "{results}");
    assert!(results["model"].as_str().is_some_and(|name| name.contains(str(&adapter_file))), "{results}");

    assert!(killed_after(home.path(), &words(&lora(&killed)), 5));
    let resume = ["train", "resume", str(&killed), "--json", "--threads", "1", "--recompute"];
    assert!(killed_after(home.path(), &resume, 9));
    let elsewhere = at("elsewhere.gguf");
    std::fs::rename(&base, &elsewhere).expect("moved");
    assert_one_line_error(&run(home.path(), &resume), &["base.gguf", "No such file"]);
    std::fs::copy(taught.join("model.gguf"), &base).expect("another one");
    assert_one_line_error(
        &run(home.path(), &resume),
        &["base.gguf is not the model that this run began with"],
    );
    std::fs::rename(&elsewhere, &base).expect("back");
    ok(run(home.path(), &resume));
    let adapter = |folder: &Path| weights_of(&folder.join("adapter.gguf"));
    assert!(adapter(&killed) == adapter(&whole), "not the same numbers");
}

fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[test]
fn what_is_no_adapter_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let (chats_file, out) = (home.path().join("chats.jsonl"), home.path().join("run"));
    std::fs::write(&chats_file, chats(|of| ANSWERS[of].1)).expect("written");
    let model = crate::model();
    let mut args = vec!["train", "sft", str(&chats_file), "--model", str(&model), "--out", str(&out)];
    args.extend(["--lora", "4", "--lora-targets", "q,head"]);
    assert_one_line_error(&run(home.path(), &args), &["\"head\" is no matrix of a layer"]);
    assert!(!out.exists(), "nothing was begun");
}
