//! Guessing tokens from what stands in prompt and answer changes speed only: every answer is the same bit for
//! bit with and without it.
#![allow(clippy::unwrap_used)]

mod tiny_model;

use std::sync::Arc;

use engine::{Engine, EngineStats, FinishReason, Generate, PromptLookup};
use tiny_model::*;
use weights::Gguf;

const N_ANSWER: usize = 150;

/// Answers of a few tokens only, so that a model of random weights repeats itself, too.
fn requests() -> Vec<Generate> {
    let mut noise = Noise::new(7);
    let lengths = [5, 40, 64, 100];
    let temperatures = [0.0, 0.3, 1.0];
    let shapes = lengths.into_iter().flat_map(|n| temperatures.map(|temperature| (n, temperature)));
    shapes
        .enumerate()
        .map(|(i, (n, temperature))| {
            let text = noise.tokens(n);
            let prompt = [&text[..], &text[..], &text[..n / 2]].concat();
            let mut request = sampled(prompt, N_ANSWER, i as u64);
            request.sampling.temperature = temperature;
            request.sampling.logit_bias = (0..2 + i as u32 % 3).map(|id| (100 + id, 100.0)).collect();
            if i % 2 == 0 {
                request.sampling.repetition_penalty = 1.0;
            }
            request
        })
        .collect()
}

fn engine(gguf: &Arc<Gguf>, prompt_lookup: PromptLookup, n_pages: u64) -> Engine {
    let mut config = roomy();
    config.prompt_lookup = prompt_lookup;
    config.kv_memory_bytes = n_pages * PAGE_BYTES;
    start(gguf, config)
}

/// The answers one after the other, or all at once, and the engine's counters afterwards.
fn answers(engine: &Engine, at_once: bool) -> (Vec<Answer>, EngineStats) {
    let submit = |request| engine.submit(request).unwrap();
    let answers = if at_once {
        let generations: Vec<_> = requests().into_iter().map(submit).collect();
        generations.into_iter().map(|generation| collect(generation).0).collect()
    } else {
        requests().into_iter().map(|request| collect(submit(request)).0).collect()
    };
    (answers, engine.stats())
}

#[test]
fn answers_are_the_same_with_and_without_guesses() {
    let gguf = build(5, Q4_0, |_, _| {});
    let (expected, stats) = answers(&engine(&gguf, PromptLookup::Off, 200), false);
    assert_eq!(stats.drafted_tokens_total, 0);

    let (found, stats) = answers(&engine(&gguf, PromptLookup::Always, 200), false);
    assert_eq!(found, expected, "one after the other");
    assert!(stats.accepted_tokens_total > 100, "{stats:?}");
    assert!(stats.accepted_tokens_total <= stats.drafted_tokens_total, "{stats:?}");
    assert!(stats.steps_total < (expected.len() * N_ANSWER) as u64, "{stats:?}");
    assert_eq!(stats.kv_pages_used, stats.kv_pages_cached, "no page is left behind");

    let (found, stats) = answers(&engine(&gguf, PromptLookup::Always, 200), true);
    assert_eq!(found, expected, "all at once");
    assert_eq!(stats.generated_tokens_total, (expected.len() * N_ANSWER) as u64);

    let (found, stats) = answers(&engine(&gguf, PromptLookup::Always, 20), true);
    assert_eq!(found, expected, "with too few pages");
    assert!(stats.preemptions_total > 0, "{stats:?}");
}

#[test]
fn an_answer_of_guesses_ends_where_it_would_end_without() {
    let gguf = build(5, Q4_0, |_, _| {});
    let loops = || requests().swap_remove(0);
    let (expected, _) = collect(engine(&gguf, PromptLookup::Off, 200).submit(loops()).unwrap());
    let with_guesses = engine(&gguf, PromptLookup::Always, 200);
    // Costs and odds are learned by then, so that the next answers guess from the start.
    collect(with_guesses.submit(loops()).unwrap());

    for max_tokens in 1..40 {
        let (found, timings) = collect(with_guesses.submit(Generate { max_tokens, ..loops() }).unwrap());
        assert_eq!(found.ids, expected.ids[..max_tokens]);
        assert_eq!(found.reason, FinishReason::Length);
        assert_eq!(timings.n_generated, max_tokens);
    }
    for n_before in 0..40 {
        let stop = expected.ids[n_before];
        let first = expected.ids.iter().position(|id| *id == stop).unwrap();
        let request = Generate { stop_ids: vec![stop], ..loops() };
        let (found, _) = collect(with_guesses.submit(request).unwrap());
        assert_eq!(found.ids, expected.ids[..first]);
        assert_eq!(found.reason, FinishReason::Stop);
    }
}

#[test]
fn the_end_of_the_context_is_not_passed() {
    let gguf = build(5, Q4_0, |_, _| {});
    let request = || Generate { max_tokens: usize::MAX, ..requests().swap_remove(0) };
    let limited = |prompt_lookup| {
        let mut config = roomy();
        config.prompt_lookup = prompt_lookup;
        config.max_seq_len = 130;
        start(&gguf, config)
    };
    let expected = collect(limited(PromptLookup::Off).submit(request()).unwrap()).0;
    let with_guesses = limited(PromptLookup::Always);
    for _ in 0..3 {
        assert_eq!(collect(with_guesses.submit(request()).unwrap()).0, expected);
    }
    assert_eq!(request().prompt.len() + expected.ids.len(), 130);
}
