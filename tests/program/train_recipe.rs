//! `daybreak train recipe`: in small to its end, interrupted on the way; and, in `make test-long`, whole with what it
//! promises.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::{assert_one_line_error, daybreak, ok, run, str};

fn begin(home: &Path, out: &str) -> (Child, impl Iterator<Item = Value> + use<>) {
    let args = ["train", "recipe", "first-light", "--quick", "--out", out, "--json"];
    let mut child = daybreak(home).args(args).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    (child, lines.map(|line| serde_json::from_str(&line).expect("JSON")))
}

fn results(out: &Path) -> Value {
    let kept = std::fs::read(out.join("results.json")).expect("it was examined");
    serde_json::from_slice(&kept).expect("JSON")
}

#[test]
fn a_recipe_goes_on_where_it_was_interrupted_and_ends_with_a_model_that_was_examined() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("first");
    let (mut child, mut events) = begin(home.path(), str(&out));
    assert!(events.any(|event| event["event"] == "step"), "it learns");
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-INT", &pid]).status().expect("kill is there");
    assert!(events.any(|event| event["event"] == "saved"), "it saves itself");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let written = |out: &Path| {
        let lessons = std::fs::metadata(out.join("lessons/chats.jsonl")).expect("they were written");
        lessons.modified().expect("a time")
    };
    let lessons = written(&out);

    let whole = ["train", "recipe", "first-light", "--out", str(&out)];
    assert_one_line_error(&run(home.path(), &whole), &["begun with --quick", "--out"]);
    let (mut child, mut events) = begin(home.path(), str(&out));
    let first = events.find(|event| event["event"] == "resumed").expect("it goes on");
    assert!(first["step"].as_u64() >= Some(1), "{first}");
    assert_eq!(events.filter(|event| event["event"] == "done").count(), 2, "both stages come to their end");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(lessons, written(&out), "what is done is not done again");
    let results = results(&out);
    let tasks: Vec<&str> = results["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|task| {
            assert_eq!(task["n"], 10);
            task["task"].as_str().expect("a name")
        })
        .collect();
    assert_eq!(tasks.len(), 6, "{tasks:?}");
    let again = ok(run(home.path(), &[&whole[..], &["--quick"]].concat()));
    assert!(again.contains("is there") && again.contains("elements-zh"), "{again}");
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("mine"), "x").expect("written");
    let output = run(home.path(), &["train", "recipe", "first-light", "--out", str(home.path())]);
    assert_one_line_error(&output, &["is not empty"]);
    assert!(!home.path().join("recipe.json").exists());
}

/// Half an hour on two cores.
#[test]
#[ignore = "takes half an hour: make test-long"]
fn first_light_learns_what_it_promises() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("first");
    println!("{}", ok(run(home.path(), &["train", "recipe", "first-light", "--out", str(&out)])));
    let mut short = Vec::new();
    for task in results(&out)["tasks"].as_array().expect("tasks") {
        let name = task["task"].as_str().expect("a name");
        for metric in task["metrics"].as_array().expect("figures") {
            let at_least = match (metric["metric"].as_str(), name.split('-').next()) {
                (Some("ended"), _) => 0.98,
                (_, Some("elements")) => 0.80,
                (_, Some("addition")) => 0.95,
                _ => 0.50,
            };
            if metric["value"].as_f64() < Some(at_least) {
                short.push(format!("{name}: {metric}"));
            }
        }
    }
    assert!(short.is_empty(), "{short:#?}");
}
