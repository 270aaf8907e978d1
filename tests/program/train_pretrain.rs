//! `daybreak train pretrain` and `resume`: a model from text that the engine serves, the same to the bit however often
//! its run was killed, and what is refused.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use kernels::{Isa, Pool, Precision};
use serde_json::Value;
use tokenizer::Specials;
use trainer::{Model, Parameters, Rows};
use weights::{Gguf, ModelConfig};

use crate::{assert_one_line_error, daybreak, ok, run, str};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A text of some length that does not change.
pub(crate) fn text() -> PathBuf {
    repository("LICENSE")
}

/// A small model, in a second or two.
pub(crate) fn pretrain<'a>(texts: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut args = vec!["train", "pretrain", texts, "--out", out, "--depth", "1", "--vocab-size", "700"];
    args.extend(["--seq-len", "64", "--tokens", "60K", "--step-tokens", "1024", "--eval-tokens", "2000"]);
    args.extend(["--checkpoint-every", "1s", "--held-out", "0.1", "--seed", "11", "--json", "--type", "f32"]);
    args
}

pub(crate) fn events(log: &str, kind: &str) -> Vec<Value> {
    let all = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["event"] == kind).collect()
}

/// Starts a command and kills it, as `kill -9` does, once it has told of so many steps; whether it was killed before its
/// end.
pub(crate) fn killed_after(home: &Path, args: &[&str], n_steps: usize) -> bool {
    let mut command = daybreak(home);
    let mut child = command.args(args).stdout(Stdio::piped()).spawn().expect("the binary starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let steps = lines.map_while(Result::ok).filter(|line| line.contains("\"event\":\"step\""));
    let n_seen = steps.take(n_steps).count();
    if n_seen == n_steps {
        child.kill().expect("it was running");
    }
    let status = child.wait().expect("it ends");
    if n_seen < n_steps {
        assert!(status.success(), "{status}");
    }
    n_seen == n_steps
}

/// The tensors of a run's model, in which nothing tells the folder's name.
pub(crate) fn weights_of(path: &Path) -> Vec<(String, Vec<u8>)> {
    let gguf = Gguf::open(path).expect("it was made");
    let tensors = gguf.tensors().iter();
    tensors.map(|info| (info.name.clone(), gguf.bytes(info).to_vec())).collect()
}

#[test]
fn a_run_that_is_killed_again_and_again_makes_the_same_model_which_the_engine_serves() {
    let home = tempfile::tempdir().expect("a folder");
    let texts = text();
    let (whole, killed) = (home.path().join("whole"), home.path().join("killed"));
    let log = ok(run(home.path(), &pretrain(str(&texts), str(&whole))));
    let plan = &events(&log, "plan")[0];
    assert_eq!((plan["n_layers"].as_u64(), plan["settings"]["n_steps"].as_u64()), (Some(1), Some(58)));
    let losses: Vec<f64> =
        events(&log, "step").iter().map(|step| step["loss"].as_f64().expect("a number")).collect();
    assert_eq!(losses.len(), 58);
    assert!(losses[57] < losses[0] - 1.0, "{losses:?}");
    let evaluations = events(&log, "evaluated");
    assert!(evaluations[10]["bits_per_byte"].as_f64() < evaluations[0]["bits_per_byte"].as_f64());
    assert_eq!(events(&log, "sample").len(), 20);

    // Threads change, too.
    let resume = ["train", "resume", str(&killed), "--json", "--threads", "1"];
    assert!(killed_after(home.path(), &pretrain(str(&texts), str(&killed)), 7));
    let mut n_kills = 1;
    for n_steps in [1, 20, 3, 11, 17] {
        n_kills += usize::from(killed_after(home.path(), &resume, n_steps));
    }
    assert!(n_kills >= 4, "only {n_kills} kills");
    ok(run(home.path(), &resume));
    assert!(
        weights_of(&killed.join("model.gguf")) == weights_of(&whole.join("model.gguf")),
        "not the same weights"
    );
    let log = std::fs::read_to_string(killed.join("log.jsonl")).expect("a log");
    let found: Vec<f64> =
        events(&log, "step").iter().map(|step| step["loss"].as_f64().expect("a number")).collect();
    assert_eq!(found, losses);

    // What is done is done, and said so.
    let again = ok(run(home.path(), &["train", "resume", str(&killed)]));
    assert!(again.contains("all 58 steps are done"), "{again}");
    let served = ok(run(home.path(), &["run", str(&whole.join("model.gguf")), "the", "-n", "5"]));
    assert!(!served.trim().is_empty());
    agrees(home.path(), &whole, &repository("testdata/perplexity/text.txt"));
}

/// The served model predicts a text as well as the trainer says it does.
fn agrees(home: &Path, folder: &Path, text: &Path) {
    const N_CTX: usize = 64;
    let path = folder.join("model.gguf");
    let found = ok(run(home, &["perplexity", str(&path), str(text), "--ctx", "64", "--json"]));
    let found: Value = serde_json::from_str(&found).expect("JSON");
    let served = found["perplexity"]["value"].as_f64().expect("a number").ln();

    let pool = Pool::new(2, Isa::detect()).expect("threads");
    let gguf = Gguf::open(&path).expect("a model");
    let config = ModelConfig::from_gguf(&gguf).expect("a model");
    let parameters = Parameters::from_gguf(&pool, &gguf, &config).expect("numbers");
    let tokenizer = models::open_tokenizer(&path).expect("a vocabulary");
    let tokens = tokenizer.encode(&std::fs::read(text).expect("a text"), Specials::AsText);
    let mut model = Model::new(config, Precision::F32).expect("trainable");
    let mut rows = Rows::default();
    for window in tokens.chunks_exact(N_CTX) {
        let counts = |at: usize| if at < N_CTX / 2 { 0.0 } else { 1.0 };
        rows.push((0..N_CTX - 1).map(|at| (window[at], window[at + 1], counts(at))));
    }
    let trained = model.loss(&pool, &parameters, &rows.batch()) / rows.weight();
    assert!((served - trained).abs() < 0.01, "served {served}, trained {trained} nats");
}

#[test]
fn what_cannot_be_trained_or_resumed_says_why() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    let (texts, out) = (at("texts.jsonl"), at("run"));
    let refused = |args: &[&str], parts: &[&str]| assert_one_line_error(&run(home.path(), args), parts);
    let with = |more: &[&'static str]| [&pretrain(str(&texts), str(&out))[..], more].concat();

    refused(&with(&[]), &["texts.jsonl cannot be read: No such file"]);
    std::fs::write(&texts, "").expect("written");
    refused(&with(&[]), &["there is no text to learn from"]);
    assert!(!out.exists(), "what was begun is gone");
    std::fs::write(&texts, "{\"text\": \"one one one one\"}\n{\"text\"").expect("written");
    refused(&with(&[]), &["texts.jsonl, line 2: not JSON"]);
    refused(&with(&["--lr-scale", "0"]), &["--lr-scale is 0, expected 0.000001 to 1000000"]);
    refused(&with(&["--window", "64"]), &["--window is 64, expected less than --seq-len, which is 64"]);
    refused(&with(&["--language", "elvish"]), &["no language named \"elvish\""]);
    refused(
        &["train", "resume", str(&at("nothing"))],
        &["holds no run that can go on", "begin the run anew"],
    );
    let mixed = format!("{}@2", str(&texts));
    let other = at("other");
    let args = ["train", "pretrain", &mixed, str(&texts), "--out", str(&other)];
    refused(&args, &["1 of 2 texts have a weight; give one to all of them or to none"]);

    let docs = repository("docs");
    ok(run(home.path(), &pretrain(str(&docs), str(&at("done")))));
    refused(&pretrain(str(&docs), str(&at("done"))), &["exists and is not empty"]);
    let data = at("done/data/data.json");
    let text = std::fs::read_to_string(&data).expect("a description");
    let digest =
        serde_json::from_str::<Value>(&text).expect("JSON")["digest"].as_str().expect("text").to_owned();
    std::fs::write(&data, text.replace(&digest, "0")).expect("written");
    refused(&["train", "resume", str(&at("done"))], &["are not those that this run began with"]);
}

#[test]
fn a_dry_run_tells_every_figure_and_trains_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("run");
    let docs = repository("docs");
    let mut args = vec!["train", "pretrain", str(&docs), "--out", str(&out), "--dry-run", "--seq-len", "64"];
    args.extend(["--vocab-size", "600", "--depth", "2", "--budget", "20s", "--batch-tokens", "1024"]);
    args.extend(["--window", "24"]);
    let unpriced = ok(run(home.path(), &args));
    assert!(unpriced.contains("cost       that of this machine for so long: --price-per-hour"), "{unpriced}");
    args.extend(["--watts", "90", "--price-per-kwh", "0.6 CNY"]);
    let text = ok(run(home.path(), &args));
    for part in [
        "model      depth 2: 128 wide, 2 heads (1 for",
        "a window of 24 tokens in every layer, for there are fewer than 6",
        "learning   muon at ",
        "tried   ",
        "expected   ",
        " Wh, electricity ",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!out.exists(), "a dry run is not in the way of the real one");
}

/// The system refuses files of more than `kilobytes`, as a full disk would.
fn resume_with_limit(home: &Path, folder: &Path, kilobytes: usize) -> std::process::Output {
    let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" train resume \"$1\" --json");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_daybreak"), str(folder)]).env("HOME", home);
    command.output().expect("bash starts")
}

#[test]
fn a_disk_without_room_leaves_the_last_checkpoint_whole() {
    let home = tempfile::tempdir().expect("a folder");
    let texts = text();
    let (whole, full) = (home.path().join("whole"), home.path().join("full"));
    // A window, so that a run of that architecture goes on, too.
    let windowed = |out| [pretrain(str(&texts), out), vec!["--window", "24"]].concat();
    ok(run(home.path(), &windowed(str(&whole))));
    assert!(killed_after(home.path(), &windowed(str(&full)), 9));
    let checkpoints = || -> Vec<(String, u64)> {
        let entries = std::fs::read_dir(full.join("checkpoints"))
            .expect("a folder")
            .map(|entry| entry.expect("a file"));
        let mut all: Vec<(String, u64)> = entries
            .map(|entry| {
                (entry.file_name().to_string_lossy().into_owned(), entry.metadata().expect("its size").len())
            })
            .collect();
        all.sort();
        all
    };
    let before = checkpoints();
    let output = resume_with_limit(home.path(), &full, before[0].1 as usize / 2048);
    assert_one_line_error(&output, &["checkpoints/step-", "File too large"]);
    assert_eq!(checkpoints(), before, "nothing is lost and nothing half written stays");
    ok(run(home.path(), &["train", "resume", str(&full), "--json"]));
    assert!(
        weights_of(&full.join("model.gguf")) == weights_of(&whole.join("model.gguf")),
        "not the same weights"
    );
    agrees(home.path(), &full, &repository("testdata/perplexity/text.txt"));
}
