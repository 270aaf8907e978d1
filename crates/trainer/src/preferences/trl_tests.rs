//! Ten steps from preferences against `trl`; `scripts/golden_dpo.py` tells how its figures were made.
#![allow(clippy::unwrap_used)]

use kernels::Isa;
use serde_json::Value;

use super::*;
use crate::data::TokenFileWriter;
use crate::lessons::LessonsSummary;
use crate::model::steps_tests::{self, ADAMW, Start};
use crate::schedule::{Decay, Schedule};
use crate::training::{LoopSettings, Products, Training};

/// What a figure may be off by: a share of it, and a little where it is nearly 0.
const SHARE: f64 = 1e-4;
const LEAST: f64 = 1e-5;

fn ids(pair: &Value, part: &str) -> Vec<u32> {
    pair[part].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The pairs as `prepare_lessons` writes them.
fn lessons(folder: &Path, pairs: &[Value], n_held_out: usize, vocab_size: usize) -> Lessons {
    let (train, held_out) = pairs.split_at(pairs.len() - n_held_out);
    for (part, pairs) in [("train", train), ("held-out", held_out)] {
        let file =
            |kind: &str, n| TokenFileWriter::create(&folder.join(format!("{part}.{kind}")), n).unwrap();
        let (mut tokens, mut answers) = (file("tokens", vocab_size), file("answers", 2));
        for (pair, answer) in
            pairs.iter().flat_map(|pair| ["chosen", "rejected"].map(|answer| (pair, answer)))
        {
            let (prompt, answer) = (ids(pair, "prompt"), ids(pair, answer));
            let marks = [vec![0; prompt.len()], vec![1; answer.len()]].concat();
            for (file, ids) in [(&mut tokens, [prompt, answer].concat()), (&mut answers, marks)] {
                file.begin(ids[0]).unwrap();
                file.append(&ids[1..], 0).unwrap();
            }
        }
        tokens.finish().unwrap();
        answers.finish().unwrap();
    }
    let summary = LessonsSummary { vocab_size, ..LessonsSummary::default() };
    fs::write(folder.join("lessons.json"), serde_json::to_vec(&summary).unwrap()).unwrap();
    Lessons::open(folder).unwrap()
}

fn settings() -> LoopSettings {
    LoopSettings {
        seed: 1,
        seq_len: 64,
        batch_rows: 1000,
        n_batches: 1,
        n_steps: 10,
        products: Products::F32,
        optimizer: ADAMW,
        schedule: Schedule { n_warmup: 0, decay: Decay::Constant, decay_share: 0.0, end: 1.0 },
        clip: None,
        eval_every: 100,
        eval_rows: 1000,
        patience: None,
        checkpoint_seconds: 1e9,
    }
}

/// Means over the pairs: log-probability of the chosen and of the rejected answers, and β times what they gained.
fn answers(pool: &Pool, start: &mut Start, lessons: &Lessons, beta: f64, of: &Parameters) -> [f64; 3] {
    let sums = |model: &mut Model, of: &Parameters| {
        Reference::of(pool, model, of, lessons, 1000, &mut |_, _| ()).train
    };
    let (now, before) = (sums(&mut start.model, of), sums(&mut start.model, &start.parameters));
    let mean = |sums: &[f64], first: usize| {
        sums.iter().skip(first).step_by(2).sum::<f64>() / (sums.len() / 2) as f64
    };
    let gain = |first: usize| mean(&now, first) - mean(&before, first);
    [mean(&now, 0), mean(&now, 1), beta * (gain(0) - gain(1))]
}

#[test]
fn ten_steps_from_preferences_are_those_of_trl() {
    let all = steps_tests::read("dpo.json");
    let pool = Pool::new(2, Isa::detect()).unwrap();
    let beta = all["beta"].as_f64().unwrap();
    let n_held_out = all["n_held_out"].as_u64().unwrap() as usize;
    for (case, expected) in all["cases"].as_object().unwrap() {
        let close = |what: &str, found: f64, expected: &Value| {
            let expected = expected.as_f64().unwrap();
            let off = (found - expected).abs();
            assert!(off < SHARE * expected.abs() + LEAST, "{case}, {what}: {found} for {expected}");
        };
        let folder = tempfile::tempdir().unwrap();
        let mut start = Start::read(&pool, case);
        let pairs = all["pairs"].as_array().unwrap();
        let lessons = lessons(folder.path(), pairs, n_held_out, start.model.config().vocab_size);
        let held_out = lessons.held_out_rows(1000, 2);
        let reference =
            Reference::of(&pool, &mut start.model, &start.parameters, &lessons, 1000, &mut |_, _| ());
        let objective = Box::new(Preferences::new(&lessons, reference, beta, 1000, 1));
        let Start { model, parameters, .. } = Start::read(&pool, case);
        let mut training = Training::new(&pool, settings(), objective, model, parameters, String::new());
        for (step, expected) in expected["steps"].as_array().unwrap().iter().enumerate() {
            let [chosen, rejected, margin] =
                answers(&pool, &mut start, &lessons, beta, training.parameters());
            let report = training.step();
            for (what, found) in [
                ("loss", report.loss),
                ("grad_norm", report.grad_norm),
                ("logps/chosen", chosen),
                ("logps/rejected", rejected),
                ("rewards/margins", margin),
            ] {
                close(&format!("{what} of step {step}"), found, &expected[what]);
            }
        }
        let found = training.evaluate(&held_out);
        close("loss of what is held out", found.loss / found.weight, &expected["held_out"]["loss"]);
        let share = found.n_right as f64 / found.n_choices as f64;
        close("right choices", share, &expected["held_out"]["rewards/accuracies"]);
    }
}
