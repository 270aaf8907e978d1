//! `daybreak train sft`: a small model learns to answer, the same to the bit when its run was killed, and what teaches
//! nothing is refused.

use serde_json::{Value, json};

use crate::train_pretrain::{events, killed_after, pretrain, text, weights_of};
use crate::{assert_one_line_error, model, ok, run, stderr, str};

/// Colours and what is to be said of each.
const ANSWERS: [(&str, &str); 4] =
    [("red", "a rose"), ("blue", "the sea"), ("green", "the grass"), ("white", "the snow")];

const VERBS: [&str; 4] = ["name a", "what is", "say", "show"];

/// Every colour asked for in many ways, always with the same answer.
fn chats() -> String {
    let mut lines = String::new();
    for i in 0..40 {
        let (colour, thing) = ANSWERS[i % ANSWERS.len()];
        let question = format!("{} {colour}?", VERBS[i / 4 % VERBS.len()]);
        let answer = format!("{thing} is {colour}");
        let filler = "please ".repeat(i / 16);
        let chat = json!({ "messages": [
            { "role": "user", "content": format!("{filler}{question}") },
            { "role": "assistant", "content": answer },
        ] });
        lines.push_str(&format!("{chat}\n"));
    }
    lines
}

#[test]
fn a_model_learns_to_answer_and_only_answers_are_learnt() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    let (base, chats_file) = (at("base"), at("chats.jsonl"));
    ok(run(home.path(), &pretrain(str(&text()), str(&base))));
    std::fs::write(&chats_file, chats()).expect("written");
    let base_model = base.join("model.gguf");

    let shown =
        ok(run(home.path(), &["train", "sft", str(&chats_file), "-m", str(&base_model), "--show", "1"]));
    assert!(shown.contains("<|im_start|>assistant\n[[a rose is red<|im_end|>]]\n"), "{shown}");
    assert_eq!(shown.matches("[[").count(), 1, "{shown}");

    let sft = |out: &str| -> Vec<String> {
        let mut args = vec!["train", "sft", str(&chats_file), "--model", str(&base_model), "--out", out];
        args.extend(["--epochs", "60", "--lr", "0.01", "--seq-len", "100", "--step-tokens", "400"]);
        args.extend(["--batch-tokens", "200", "--held-out", "0.1", "--checkpoint-every", "1s", "--json"]);
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
    let evaluations = events(&log, "evaluated");
    assert_eq!(evaluations[0]["step"], 0, "the base is measured first");
    let tuned = whole.join("model.gguf");
    // Some of these were held out.
    let mut n_right = 0;
    for verb in VERBS {
        for (colour, thing) in ANSWERS {
            let question = format!("{verb} {colour}?");
            let answer = ok(run(home.path(), &["run", str(&tuned), &question, "--temperature", "0"]));
            n_right += usize::from(answer.trim() == format!("{thing} is {colour}"));
        }
    }
    assert!(n_right >= 12, "{n_right} of 16 answers are right and end");

    assert!(killed_after(home.path(), &str_of(&sft(str(&killed))), 5));
    let resume = ["train", "resume", str(&killed), "--json", "--threads", "1"];
    assert!(killed_after(home.path(), &resume, 9));
    ok(run(home.path(), &resume));
    assert!(
        weights_of(&killed.join("model.gguf")) == weights_of(&whole.join("model.gguf")),
        "not the same weights"
    );
}

#[test]
fn what_cannot_be_learnt_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let chats_file = home.path().join("chats.jsonl");
    let model = model();
    let out = home.path().join("run");
    let sft = ["train", "sft", str(&chats_file), "--model", str(&model)];
    let refused = |parts: &[&str]| {
        let args = [&sft[..], &["--out", str(&out)]].concat();
        assert_one_line_error(&run(home.path(), &args), parts);
        assert!(!out.exists(), "what was begun is gone");
    };
    refused(&["chats.jsonl cannot be read: No such file"]);
    let chat = |messages: Value| json!({ "messages": messages }).to_string();
    let question = json!({ "role": "user", "content": "a" });
    std::fs::write(&chats_file, chat(json!([question]))).expect("written");
    refused(&["chats.jsonl, line 1: no message of an assistant, so there is nothing to learn"]);
    let answer = json!({ "role": "assistant", "content": "" });
    std::fs::write(
        &chats_file,
        chat(json!([{ "role": "user", "content": "many words ".repeat(1000) }, answer])),
    )
    .expect("written");
    refused(&["there is no answer to learn from"]);
    let output = run(home.path(), &sft);
    assert!(stderr(&output).contains("--out <RUN>"), "{}", stderr(&output));
}
