//! Conversations go on after a restart with what was saved of them, and the answers are the same, bit for bit.
#![allow(clippy::unwrap_used)]

mod tiny_model;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, Generate, Keep, SavedPrefixes};
use tiny_model::*;
use weights::{Gguf, ScaledAdapter, TensorType};

const N_PROMPT: usize = 700;

fn open(folder: &Path) -> SavedPrefixes {
    SavedPrefixes::open(folder, 1 << 30).unwrap()
}

fn kept(saved: &SavedPrefixes, name: &str, prompt: &[u32]) -> Generate {
    let keep = Keep { saved: saved.clone(), name: name.to_owned(), model: "random".to_owned() };
    Generate { keep: Some(keep), ..sampled(prompt.to_vec(), 12, 3) }
}

fn prompt(seed: u64) -> Vec<u32> {
    Noise::new(seed).tokens(N_PROMPT)
}

/// One answer by an engine of its own; returns the answer and the tokens that came from the disk.
fn ask(gguf: &Arc<Gguf>, request: Generate) -> (Answer, u64) {
    ask_adapted(gguf, &[], request)
}

fn ask_adapted(gguf: &Arc<Gguf>, adapters: &[ScaledAdapter], request: Generate) -> (Answer, u64) {
    let engine = start_adapted(gguf, adapters, roomy());
    let (answer, timings) = collect(engine.submit(request).unwrap());
    let restored = engine.stats().restored_tokens_total;
    assert_eq!(timings.n_cached as u64, restored);
    engine.shutdown();
    (answer, restored)
}

#[test]
fn a_conversation_goes_on_after_a_restart() {
    let (gguf, folder, prompt) = (build(1, Q4_0, |_, _| {}), tempfile::tempdir().unwrap(), prompt(1));
    let (expected, _) = ask(&gguf, sampled(prompt.clone(), 12, 3));
    assert_eq!(ask(&gguf, kept(&open(folder.path()), "a", &prompt)), (expected.clone(), 0));
    assert_eq!(ask(&gguf, kept(&open(folder.path()), "a", &prompt)), (expected.clone(), 640));
    assert_eq!(ask(&gguf, kept(&open(folder.path()), "b", &prompt)), (expected.clone(), 0), "another's");
    let other = Keep { model: "other".into(), saved: open(folder.path()), name: "a".into() };
    let request = Generate { keep: Some(other), ..sampled(prompt.clone(), 12, 3) };
    assert_eq!(ask(&gguf, request), (expected, 0), "another model's");

    // The answer is part of what was saved, and the next turn is saved behind it.
    let next: Vec<u32> = prompt.iter().copied().chain(Noise::new(9).tokens(200)).collect();
    let (expected, _) = ask(&gguf, sampled(next.clone(), 12, 3));
    assert_eq!(ask(&gguf, kept(&open(folder.path()), "a", &next)), (expected.clone(), 640));
    assert_eq!(ask(&gguf, kept(&open(folder.path()), "a", &next)), (expected, 896));
}

#[test]
fn adapters_and_their_scales_have_files_of_their_own() {
    let (gguf, folder, prompt) = (build(1, Q4_0, |_, _| {}), tempfile::tempdir().unwrap(), prompt(1));
    let adapter = |seed, scale| ScaledAdapter {
        adapter: random_adapter(seed, &gguf, [TensorType::F32; 2], |name| {
            name.contains("attn_v").then_some(4)
        }),
        scale,
    };
    let ask =
        |adapters: &[ScaledAdapter]| ask_adapted(&gguf, adapters, kept(&open(folder.path()), "a", &prompt));
    let sets = [
        vec![],
        vec![adapter(1, 1.0)],
        vec![adapter(1, 0.5)],
        vec![adapter(2, 1.0)],
        vec![adapter(1, 1.0), adapter(2, 1.0)],
    ];
    let mut answers = Vec::new();
    for adapters in &sets {
        let (answer, restored) = ask(adapters);
        assert_eq!(restored, 0, "another's keys and values");
        answers.push(answer);
    }
    for (adapters, answer) in sets.iter().zip(answers) {
        assert_eq!(ask(adapters), (answer, 640));
    }
}

#[test]
fn a_damaged_file_costs_time_only() {
    let (gguf, folder, prompt) = (build(2, Q4_0, |_, _| {}), tempfile::tempdir().unwrap(), prompt(2));
    let (expected, _) = ask(&gguf, kept(&open(folder.path()), "a", &prompt));
    let file = std::fs::read_dir(folder.path().join("a")).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    let mut noise = Noise::new(5);
    for _ in 0..10 {
        let at = noise.below(good.len());
        let mut bad = good.clone();
        bad[at] ^= 1 << noise.below(8);
        bad.truncate(if noise.below(2) == 0 { bad.len() } else { at });
        std::fs::write(&file, &bad).unwrap();
        let (answer, restored) = ask(&gguf, kept(&open(folder.path()), "a", &prompt));
        assert_eq!(answer, expected, "byte {at}");
        assert!(
            restored <= (at as u64).saturating_sub(24) * 704 / (good.len() as u64 - 24),
            "byte {at}: {restored}"
        );
        // What was lost is saved again.
        assert!(std::fs::read(&file).unwrap() == good, "byte {at}");
    }
}

#[test]
fn one_that_is_stopped_while_it_comes_back_loses_nothing() {
    let (gguf, folder) = (build(6, Q4_0, |_, _| {}), tempfile::tempdir().unwrap());
    // Long enough for its pages to take some milliseconds.
    let prompt = Noise::new(6).tokens(4000);
    let mut config = roomy();
    config.max_seq_len = 4096;
    let ask = |stop_after: Option<Duration>| {
        let (saved, engine) = (open(folder.path()), start(&gguf, config));
        let generation = engine.submit(kept(&saved, "a", &prompt)).unwrap();
        if let Some(pause) = stop_after {
            std::thread::sleep(pause);
            generation.cancel();
        }
        collect(generation);
        engine.shutdown();
        saved.n_bytes()
    };
    let n_bytes = ask(None);
    for pause_us in (0..4000).step_by(200) {
        assert_eq!(ask(Some(Duration::from_micros(pause_us))), n_bytes, "{pause_us} µs");
    }
}

#[test]
fn what_is_deleted_while_it_is_used_stays_deleted() {
    let (gguf, folder, prompt) = (build(3, Q4_0, |_, _| {}), tempfile::tempdir().unwrap(), prompt(3));
    let saved = open(folder.path());
    let engine = start(&gguf, roomy());
    let generation = engine.submit(kept(&saved, "a", &prompt)).unwrap();
    saved.forget("a");
    collect(generation);
    engine.shutdown();
    assert_eq!(saved.n_bytes(), 0);
    assert!(!folder.path().join("a").exists());
}

#[test]
fn many_that_come_back_at_once_get_their_answers() {
    let (gguf, folder) = (build(4, Q4_0, |_, _| {}), tempfile::tempdir().unwrap());
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut expected = Vec::new();
    for (seed, name) in names.iter().enumerate() {
        expected.push(ask(&gguf, kept(&open(folder.path()), name, &prompt(seed as u64 + 10))).0);
    }
    // Room for two of them: pages go while others come.
    let saved = open(folder.path());
    let mut config = roomy();
    config.kv_memory_bytes = 25 * PAGE_BYTES;
    let engine = start(&gguf, config);
    let ask_all = |engine: &Engine| -> Vec<Answer> {
        let asked = names.iter().enumerate();
        let asked: Vec<_> = asked
            .map(|(seed, name)| engine.submit(kept(&saved, name, &prompt(seed as u64 + 10))).unwrap())
            .collect();
        asked.into_iter().map(|generation| collect(generation).0).collect()
    };
    assert_eq!(ask_all(&engine), expected);
    assert_eq!(ask_all(&engine), expected);
    let stats = engine.stats();
    assert!(stats.restored_tokens_total >= 6 * 640, "{stats:?}");
    let until = Instant::now() + Duration::from_secs(10);
    while engine.stats().kv_pages_used != engine.stats().kv_pages_cached && Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(engine.stats().kv_pages_used, engine.stats().kv_pages_cached, "nobody holds a page any more");
}
