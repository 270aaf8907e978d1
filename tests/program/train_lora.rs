//! `daybreak train sft --lora`: an adapter is learnt beside a quantised model, which answers with it, or with both in one file;
//! it is the same to the bit when its run was killed or layers were computed again, and the model it was begun on must still
//! be there.

use std::path::Path;

use serde_json::json;

use crate::train_pretrain::{events, killed_after, pretrain, text, weights_of};
use crate::{assert_one_line_error, ok, run, str};

const ANSWERS: [(&str, &str); 4] =
    [("red", "a rose"), ("blue", "the sea"), ("green", "the grass"), ("white", "the snow")];

/// Every colour asked for, always with the same answer.
fn chats() -> String {
    let chat = |i: usize| {
        let (colour, thing) = ANSWERS[i % ANSWERS.len()];
        let question = format!("{}what is {colour}?", "please ".repeat(i / ANSWERS.len()));
        let messages = json!([
            { "role": "user", "content": question },
            { "role": "assistant", "content": thing },
        ]);
        json!({ "messages": messages }).to_string()
    };
    (0..24).map(chat).collect::<Vec<String>>().join("\n")
}

#[test]
fn an_adapter_is_learnt_beside_a_quantised_model() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    let (first, base, chats_file) = (at("first"), at("base.gguf"), at("chats.jsonl"));
    ok(run(home.path(), &pretrain(str(&text()), str(&first))));
    ok(run(home.path(), &["quantize", str(&first.join("model.gguf")), str(&base), "q8_0"]));
    std::fs::write(&chats_file, chats()).expect("written");

    let sft = |out: &str| -> Vec<String> {
        let mut args = vec!["train", "sft", str(&chats_file), "--model", str(&base), "--out", out];
        args.extend(["--lora", "8", "--epochs", "60", "--lr", "0.02", "--seq-len", "100"]);
        args.extend(["--step-tokens", "400", "--batch-tokens", "200", "--held-out", "0"]);
        args.extend(["--checkpoint-every", "1s", "--json"]);
        args.into_iter().map(str::to_owned).collect()
    };
    fn str_of(args: &[String]) -> Vec<&str> {
        args.iter().map(String::as_str).collect()
    }
    let (whole, killed) = (at("whole"), at("killed"));
    let log = ok(run(home.path(), &str_of(&sft(str(&whole)))));
    let steps = events(&log, "step");
    let loss = |idx: usize| steps[idx]["loss"].as_f64().expect("a number");
    assert!(loss(0) > 2.0 && loss(steps.len() - 1) < 0.1, "{} to {}", loss(0), loss(steps.len() - 1));
    assert!(!whole.join("model.gguf").exists(), "nothing but the adapter");
    let (adapter_file, merged) = (whole.join("adapter.gguf"), at("merged.gguf"));
    ok(run(
        home.path(),
        &["train", "merge", str(&base), str(&adapter_file), "-o", str(&merged), "--type", "f32"],
    ));
    let beside = [str(&base), "--adapter", str(&adapter_file)];
    for (colour, thing) in ANSWERS {
        let question = format!("what is {colour}?");
        for model in [&beside[..], &[str(&merged)]] {
            let args = [&["run"], model, &[&question, "--temperature", "0"]].concat();
            assert_eq!(ok(run(home.path(), &args)).trim(), thing, "{args:?}");
        }
    }

    assert!(killed_after(home.path(), &str_of(&sft(str(&killed))), 5));
    let resume = ["train", "resume", str(&killed), "--json", "--threads", "1", "--recompute"];
    assert!(killed_after(home.path(), &resume, 9));
    let elsewhere = at("elsewhere.gguf");
    std::fs::rename(&base, &elsewhere).expect("moved");
    assert_one_line_error(&run(home.path(), &resume), &["base.gguf", "No such file"]);
    std::fs::copy(first.join("model.gguf"), &base).expect("another one");
    assert_one_line_error(
        &run(home.path(), &resume),
        &["base.gguf is not the model that this run began with"],
    );
    std::fs::rename(&elsewhere, &base).expect("back");
    ok(run(home.path(), &resume));
    let adapter = |folder: &Path| weights_of(&folder.join("adapter.gguf"));
    assert!(adapter(&killed) == adapter(&whole), "not the same numbers");
}

#[test]
fn what_is_no_adapter_is_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let model = crate::model();
    let sft = ["train", "sft", "chats.jsonl", "--model", str(&model), "--out", "run"];
    std::fs::write(home.path().join("chats.jsonl"), chats()).expect("written");
    let refused = |flags: &[&str], parts: &[&str]| {
        let output = run(home.path(), &[&sft[..], flags].concat());
        assert_one_line_error(&output, parts);
    };
    refused(&["--lora", "4", "--lora-targets", "q,head"], &["\"head\" is no matrix of a layer"]);
}
