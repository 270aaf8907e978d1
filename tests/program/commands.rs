//! The commands that end by themselves, on the real model.

use std::process::Stdio;

use crate::{daybreak, model, ok, run, stderr};

#[test]
fn run_answers_and_the_same_seed_answers_the_same() {
    let home = tempfile::tempdir().expect("a folder");
    let ask = |seed: &str| {
        let mut command = daybreak(home.path());
        command.arg("run").arg(model()).arg("Write one sentence about the sea.");
        ok(command.args(["-n", "40", "--seed", seed]).output().expect("starts"))
    };
    let first = ask("7");
    assert!(first.split_whitespace().count() > 3, "{first}");
    assert_eq!(first, ask("7"));
    assert_ne!(first, ask("8"));
}

#[test]
fn run_takes_a_context_longer_than_the_trained_one() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = daybreak(home.path());
    command.arg("run").arg(model()).arg("Hello.").args(["-n", "5", "--ctx", "16384"]);
    assert!(!ok(command.output().expect("starts")).trim().is_empty());
}

#[test]
fn run_reads_a_pipe() {
    let home = tempfile::tempdir().expect("a folder");
    let question = "What is the capital of Italy?";
    let ask = |words: Option<&str>| {
        let mut child = daybreak(home.path())
            .arg("run")
            .arg(model())
            .args(words)
            .args(["-n", "20", "--temperature", "0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut stdin = child.stdin.take().expect("piped");
        if words.is_none() {
            std::io::Write::write_all(&mut stdin, format!("{question}\n").as_bytes()).expect("it reads");
        }
        drop(stdin);
        ok(child.wait_with_output().expect("it ends"))
    };
    let answer = ask(None);
    assert!(answer.split_whitespace().count() > 3, "{answer}");
    assert_eq!(answer, ask(Some(question)));
}

#[test]
fn run_answers_in_the_form_that_was_asked_for() {
    let home = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let ask = |flag: &str, form: &std::path::Path| {
        let mut command = daybreak(home.path());
        command.arg("run").arg(model()).arg("Is the sea blue?").args(["-n", "60", "--temperature", "2"]);
        command.arg(flag).arg(form).output().expect("starts")
    };
    let schema = r#"{"type": "object", "properties": {"蓝": {"type": "boolean"}}, "required": ["蓝"],
        "additionalProperties": false}"#;
    let text = ok(ask("--json-schema", &file("schema.json", schema)));
    let answer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(answer["蓝"].is_boolean() && answer.as_object().map(serde_json::Map::len) == Some(1), "{text}");
    let text =
        ok(ask("--grammar", &file("answer.gbnf", "root ::= (\"yes\" | \"no\") \", \" [a-z]{3} \"!\"")));
    assert!(
        ["yes, ", "no, "].iter().any(|begin| text.starts_with(begin)) && text.trim_end().ends_with('!'),
        "{text}"
    );
    let text = ok(ask("--regex", std::path::Path::new("[0-7]{4}")));
    assert!(
        text.trim_end().len() == 4 && text.trim_end().bytes().all(|b| (b'0'..b'8').contains(&b)),
        "{text}"
    );

    let refused = ask("--json-schema", &file("not.json", r#"{"not": {"type": "string"}}"#));
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("not.json: #/not: "), "{}", stderr(&refused));
    let refused = ask("--regex", std::path::Path::new("a("));
    assert!(stderr(&refused).contains("--regex: line 1, column 2: unclosed group"), "{}", stderr(&refused));
}

#[test]
fn tokenize_gives_the_ids_of_the_reference() {
    let home = tempfile::tempdir().expect("a folder");
    let model = model();
    let ids = |text: &str, flags: &[&str]| {
        let mut command = daybreak(home.path());
        command.arg("tokenize").arg(&model).arg(text).arg("--ids").args(flags);
        ok(command.output().expect("starts")).trim().to_owned()
    };
    // From `tokenizers` with the vocabulary of SmolLM2-135M-Instruct.
    assert_eq!(ids("Hello world", &[]), "19556 905");
    assert_eq!(ids("<|im_start|>", &["--special"]), "1");
    assert_ne!(ids("<|im_start|>", &[]), "1");
}

#[test]
fn inspect_shows_shape_types_and_memory() {
    let home = tempfile::tempdir().expect("a folder");
    let text = ok(daybreak(home.path()).arg("inspect").arg(model()).output().expect("starts"));
    for part in
        ["llama", "30 layers", "vocab_size 49152", "Q4_1", "general.architecture", "memory", "272 tensors"]
    {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}

#[test]
fn models_lists_nothing_at_first_and_the_catalog_when_asked() {
    let home = tempfile::tempdir().expect("a folder");
    assert!(ok(run(home.path(), &["models"])).contains("daybreak pull smollm2"));
    let all = ok(run(home.path(), &["models", "--all"]));
    assert!(all.contains("smollm2:135m") && all.contains("qwen2.5-coder:0.5b"), "{all}");
    let json = ok(run(home.path(), &["models", "--all", "--json"]));
    let rows: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(rows.as_array().expect("an array").iter().any(|row| row["name"] == "smollm2:135m"), "{json}");
}

#[test]
fn a_model_from_a_file_source_is_pulled_listed_used_and_removed() {
    let home = tempfile::tempdir().expect("a folder");
    let catalog = home.path().join("here.toml");
    let entry = format!(
        r#"
[[model]]
name = "from-file:135m"
title = "From a file"
architecture = "llama"
parameters = 134515008
quant = "Q4_1"
file_size = 98362432
license = "Apache-2.0"
languages = ["en"]
context_length = 8192
sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
sources = [{{ path = "{}" }}]
"#,
        model().display()
    );
    std::fs::write(&catalog, entry).expect("a file");
    let catalog = catalog.to_str().expect("UTF-8");
    let pulled = run(home.path(), &["pull", "from-file:135m", "--catalog", catalog]);
    assert!(ok(pulled).contains("98 MB"));
    assert!(ok(run(home.path(), &["models", "--catalog", catalog])).contains("from-file:135m"));
    let ids = run(home.path(), &["tokenize", "from-file:135m", "Hello world", "--ids", "--catalog", catalog]);
    assert_eq!(ok(ids).trim(), "19556 905");
    assert!(ok(run(home.path(), &["rm", "from-file:135m", "--catalog", catalog])).contains("98 MB"));
    assert!(!ok(run(home.path(), &["models", "--catalog", catalog])).contains("from-file:135m"));
}

#[test]
fn bench_reports_its_figures_as_json() {
    let home = tempfile::tempdir().expect("a folder");
    let mut command = daybreak(home.path());
    command.arg("bench").arg(model()).args(["-p", "32", "-n", "8", "-r", "1", "--json", "--profile"]);
    let json = ok(command.output().expect("starts"));
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    for key in ["prefill_tokens_per_second", "decode_tokens_per_second", "first_token_ms"] {
        assert!(report[key].as_f64().is_some_and(|value| value > 0.0), "{key} in {json}");
    }
    assert!(!report["profile"]["phases"].as_array().expect("phases").is_empty(), "{json}");
}

#[test]
fn the_manual_holds_every_command_and_the_exit_codes() {
    let home = tempfile::tempdir().expect("a folder");
    let help = ok(run(home.path(), &["--help"]));
    for part in
        ["serve", "chat", "run", "pull", "models", "rm", "inspect", "tokenize", "bench", "Exit codes", "130"]
    {
        assert!(help.contains(part), "expected {part:?} in:\n{help}");
    }
    assert!(ok(run(home.path(), &["completions", "bash"])).contains("complete"));
}
