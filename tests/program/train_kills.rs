//! Runs that are killed at any instant, hundreds of times (`make test-long`): what comes out has the same bits, and no kill
//! costs more than what was done since the last checkpoint.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::train_pretrain::{pretrain, text, weights_of};
use crate::{daybreak, ok, run, str};

/// Kills of each kind of run.
const N_KILLS: u32 = 150;
/// Seconds between two checkpoints, and what a write may take beside that.
const INTERVAL: f64 = 0.3;
const SLACK: f64 = 2.0;

/// Steps and seconds of work that the run's log tells of.
fn progress(folder: &Path) -> (u64, f64) {
    let log = std::fs::read_to_string(folder.join("log.jsonl")).unwrap_or_default();
    let steps = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let last = steps.rev().find(|event| event["event"] == "step");
    last.map_or((0, 0.0), |event| {
        (event["step"].as_u64().expect("a number"), event["seconds"].as_f64().expect("a number"))
    })
}

/// Begins a run again and again, killing it at random, until it was killed so often; every time one comes to its end, its
/// outcome is held against `expected` and it begins anew.
fn kill(home: &Path, folder: &Path, command: &[&str], outcome: &str, expected: &[(String, Vec<u8>)]) {
    let resume = ["train", "resume", str(folder), "--json"];
    let mut random = fastrand::Rng::with_seed(7);
    let (mut n_kills, mut n_ends) = (0, 0);
    while n_kills < N_KILLS || n_ends == 0 {
        let begins = !folder.join("run.json").exists();
        if begins {
            // Killed while it was prepared, a run has not begun.
            let _ = std::fs::remove_dir_all(folder);
        }
        let (_, before) = progress(folder);
        let threads = random.u32(1..=2).to_string();
        let args = [if begins { command } else { &resume }, &["--threads", &threads]].concat();
        let mut child = daybreak(home).args(&args).stdout(Stdio::null()).spawn().expect("the binary starts");
        let deadline = Instant::now() + Duration::from_millis(random.u64(0..2500));
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break Some(status);
            }
            if Instant::now() >= deadline && n_kills < N_KILLS {
                child.kill().expect("it was running");
                child.wait().expect("it ends");
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        match status {
            None => n_kills += 1,
            Some(status) => {
                assert!(status.success(), "{args:?}: {status}");
                assert!(weights_of(&folder.join(outcome)) == expected, "other bits after {n_kills} kills");
                std::fs::remove_dir_all(folder).expect("removed");
                n_ends += 1;
            }
        }
        // The log of what was lost is cut off when the run goes on.
        if !begins && folder.exists() {
            let (_, after) = progress(folder);
            assert!(after > before - INTERVAL - SLACK, "from {before} s of work back to {after} s");
        }
    }
    assert!(n_ends > 0);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn pretraining_survives_a_kill_at_any_instant() {
    let home = tempfile::tempdir().expect("a folder");
    let texts = text();
    let (whole, killed) = (home.path().join("whole"), home.path().join("killed"));
    let longer = |out| -> Vec<&str> {
        let longer = |arg| match arg {
            "1s" => "0.3s",
            "60K" => "120K",
            _ => arg,
        };
        pretrain(str(&texts), out).into_iter().map(longer).collect()
    };
    ok(run(home.path(), &longer(str(&whole))));
    let command = longer(str(&killed));
    kill(home.path(), &killed, &command, "model.gguf", &weights_of(&whole.join("model.gguf")));
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn an_adapter_survives_a_kill_at_any_instant() {
    let home = tempfile::tempdir().expect("a folder");
    let at = |name: &str| home.path().join(name);
    ok(run(home.path(), &pretrain(str(&text()), str(&at("base")))));
    let chat = |i: u32| {
        json!({ "messages": [
            { "role": "user", "content": format!("count to {i}") },
            { "role": "assistant", "content": (1..=i).map(|n| n.to_string()).collect::<Vec<String>>().join(" ") },
        ] })
        .to_string()
    };
    std::fs::write(at("chats.jsonl"), (1..40).map(chat).collect::<Vec<String>>().join("\n"))
        .expect("written");
    let (base, chats) = (at("base/model.gguf"), at("chats.jsonl"));
    let (whole, killed) = (at("whole"), at("killed"));
    let command = |out| {
        let mut args = vec!["train", "sft", str(&chats), "--model", str(&base), "--out", out, "--lora", "4"];
        args.extend(["--epochs", "20", "--step-tokens", "400", "--batch-tokens", "400", "--seq-len", "200"]);
        args.extend(["--checkpoint-every", "0.3s", "--json"]);
        args
    };
    ok(run(home.path(), &command(str(&whole))));
    let expected = weights_of(&whole.join("adapter.gguf"));
    kill(home.path(), &killed, &command(str(&killed)), "adapter.gguf", &expected);
}
