//! `daybreak train eval`: a real model scores as lm-evaluation-harness says, two models are told apart, and what cannot be
//! asked says why.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::{assert_one_line_error, model, ok, run, str};

fn testdata(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/eval").join(name)
}

fn read(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("a file");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The harness had the weights in f32, the engine has them as they lie in the file and rounds what is multiplied to eight
/// bits: so far a token's log-probability may be off.
const NATS_PER_TOKEN: f64 = 0.3;

#[test]
fn a_model_scores_as_lm_evaluation_harness_says() {
    let home = tempfile::tempdir().expect("a folder");
    let samples = home.path().join("samples.jsonl");
    let [choice, writing, text] = ["choice.jsonl", "writing.jsonl", "text.jsonl"].map(testdata);
    let model = model();
    let args = [
        "train",
        "eval",
        str(&model),
        str(&choice),
        str(&text),
        "--template",
        "plain",
        "--ctx",
        "512",
        "--json",
    ];
    let told = ok(run(home.path(), &[&args[..], &["--samples", str(&samples)]].concat()));
    let results: Value = serde_json::from_str(&told).expect("JSON");
    let golden: Value =
        serde_json::from_slice(&std::fs::read(testdata("smollm2-135m.json")).expect("a file")).expect("JSON");

    let near = |found: &Value, expected: &Value, n_tokens: f64, what: &str| {
        let (found, expected) = (found.as_f64().expect("a number"), expected.as_f64().expect("a number"));
        let tolerance = NATS_PER_TOKEN * n_tokens;
        assert!((found - expected).abs() < tolerance, "{what}: {found}, expected {expected} ± {tolerance}");
    };
    let samples = read(&samples);
    let of = |task: &str| samples.iter().filter(|sample| sample["task"] == task).collect::<Vec<&Value>>();
    for (sample, expected) in of("choice").into_iter().zip(golden["choice"].as_array().expect("a list")) {
        for (idx, expected) in expected.as_array().expect("a list").iter().enumerate() {
            let n_words = sample["choices"][idx].as_str().expect("a text").split(' ').count();
            near(&sample["log_likelihoods"][idx], expected, 2.0 * n_words as f64, &format!("{sample}"));
        }
    }
    for (sample, expected) in of("text").into_iter().zip(golden["text"].as_array().expect("a list")) {
        let n_bytes = sample["counts"][0]["weight"].as_f64().expect("a number");
        // Errors of both signs are summed: less than the bound of a token for each of them.
        near(&sample["log_likelihoods"][0], expected, n_bytes / 48.0, &format!("{sample}"));
    }
    let figure = |task: usize, name: &str| {
        let metrics = results["tasks"][task]["metrics"].as_array().expect("a list");
        metrics.iter().find(|metric| metric["metric"] == name).expect("the figure")["value"]
            .as_f64()
            .expect("a number")
    };
    for name in ["acc", "acc_norm", "acc_bytes"] {
        assert_eq!(json!(figure(0, name)), golden["figures"]["choice"][name], "{name}");
    }
    let bits = golden["figures"]["text"]["bits_per_byte"].as_f64().expect("a number");
    assert!((figure(1, "bits_per_byte") - bits).abs() < 0.01 * bits, "{}", figure(1, "bits_per_byte"));

    // What it writes, as far as the first words.
    let path = home.path().join("writing.jsonl");
    let header = json!({ "task": { "until": ["\n"], "max_tokens": 12, "trim": false } });
    let records = std::fs::read_to_string(&writing).expect("a file");
    std::fs::write(&path, format!("{header}\n{records}")).expect("written");
    let samples = home.path().join("written.jsonl");
    let args = ["train", "eval", str(&model), str(&path), "--template", "plain", "--samples", str(&samples)];
    let table = ok(run(home.path(), &args));
    assert!(table.contains("exact_match"), "{table}");
    for (sample, expected) in read(&samples).iter().zip(golden["writing"].as_array().expect("a list")) {
        assert_eq!(&sample["output"], expected);
    }
}

#[test]
fn two_models_are_held_against_each_other_question_by_question() {
    let home = tempfile::tempdir().expect("a folder");
    let questions = home.path().join("colours.jsonl");
    // One model says what it is asked to say; the template of the other says nothing of it.
    let record = |n: u32| json!({ "question": format!("Item {n} is"), "checks": [{ "kind": "lacks", "text": "zebra" }] });
    let header = json!({ "task": { "max_tokens": 2 } });
    let lines: Vec<String> =
        [header].into_iter().chain((1..6).map(record)).map(|line| line.to_string()).collect();
    std::fs::write(&questions, lines.join("\n")).expect("written");
    let model = model();
    let eval = |more: &[&str]| {
        run(
            home.path(),
            &[&["train", "eval", str(&model), str(&questions), "--template", "plain"], more].concat(),
        )
    };
    let before = home.path().join("before.json");
    let mut results: Value = serde_json::from_str(&ok(eval(&["--json"]))).expect("JSON");
    assert_eq!(results["tasks"][0]["metrics"][0]["values"], json!([1.0, 1.0, 1.0, 1.0, 1.0]));
    // As if an earlier model had failed everywhere.
    results["tasks"][0]["metrics"][0]["values"] = json!([0.0, 0.0, 0.0, 0.0, 0.0]);
    std::fs::write(&before, results.to_string()).expect("written");
    let table = ok(eval(&["--compare", str(&before)]));
    let row = table.lines().find(|line| line.contains("prompt_level_strict_acc")).expect("a row");
    assert!(row.contains("+100.0") && row.ends_with("better"), "{table}");

    let other = ok(eval(&["--base", str(&model), "--json"]));
    let other: Value = serde_json::from_str(&other).expect("JSON");
    let change = &other["comparison"][0];
    assert_eq!((&change["difference"], &change["is_certain"]), (&json!(0.0), &json!(false)), "{change}");

    assert_one_line_error(
        &eval(&["--compare", str(&before), "--limit", "2"]),
        &["colours", "another number of documents"],
    );
    std::fs::write(&before, "{}").expect("written");
    assert_one_line_error(&eval(&["--compare", str(&before)]), &["before.json holds no results"]);
}

#[test]
fn what_cannot_be_asked_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let list = ok(run(home.path(), &["train", "eval", "--list"]));
    assert!(list.lines().count() == 10 && list.contains("idioms-zh"), "{list}");
    let questions = home.path().join("questions.jsonl");
    let model = model();
    let eval = |tasks: &[&str]| run(home.path(), &[&["train", "eval", str(&model)], tasks].concat());
    assert_one_line_error(
        &eval(&["no-such-task"]),
        &["\"no-such-task\" is neither a task nor a file", "--list"],
    );
    let broken = r#"{"question": "a", "choices": ["b", "c"], "answer": 2}"#;
    std::fs::write(
        &questions,
        format!("{}\n{broken}\n", json!({ "question": "a", "choices": ["b", "c"], "answer": 0 })),
    )
    .expect("written");
    assert_one_line_error(
        &eval(&[str(&questions)]),
        &["questions.jsonl, line 2: \"answer\" is 2", "--skip-broken"],
    );
    assert_one_line_error(&eval(&["idioms-en", "en"]), &["idioms-en is asked twice"]);
    let question = json!({ "question": "a", "answer": "b" });
    std::fs::write(&questions, question.to_string()).expect("written");
    assert_one_line_error(
        &eval(&[str(&questions), "--num-fewshot", "1"]),
        &["1 examples are wanted", "there are 0"],
    );
    assert_one_line_error(&eval(&[str(&questions), "--ctx", "128"]), &["no room for the question in 128"]);
}
