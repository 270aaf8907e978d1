//! The engine as its callers see it: events, limits, cancelling, memory, faults.
#![allow(clippy::unwrap_used)]

mod tiny_model;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::*;
use kernels::Isa;
use tiny_model::*;
use weights::{Gguf, ModelConfig, TensorType};

fn tiny() -> Arc<Gguf> {
    build(1, Q4_0, |_, _| {})
}

fn start_with(change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = roomy();
    change(&mut config);
    start(&tiny(), config)
}

/// Waits until the engine holds nothing; fails after ten seconds.
fn settle(engine: &Engine) -> EngineStats {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = engine.stats();
        if stats.running == 0 && stats.queued == 0 && stats.kv_pages_used == stats.kv_pages_cached {
            return stats;
        }
        assert!(Instant::now() < deadline, "never came to rest: {stats:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_answer_is_told_event_by_event() {
    let engine = start_with(|config| config.max_batch_tokens = 64);
    let mut generation = engine.submit(Generate::greedy(Noise::new(1).tokens(150), 5)).unwrap();
    let mut events = Vec::new();
    while let Some(event) = generation.blocking_next() {
        events.push(event);
    }
    let prefill: Vec<usize> = events
        .iter()
        .filter_map(|event| match event {
            Event::Prefill { done, total: 150, cached: 0 } => Some(*done),
            _ => None,
        })
        .collect();
    assert_eq!(prefill, [64, 128, 150]);
    let n_tokens = events.iter().filter(|event| matches!(event, Event::Token { .. })).count();
    assert_eq!(n_tokens, 5);
    let Some(Event::Done { reason: FinishReason::Length, timings }) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((timings.n_prompt, timings.n_cached, timings.n_generated), (150, 0, 5));
    assert!(timings.prefill_s > 0.0 && timings.decode_s > 0.0 && timings.queue_s >= 0.0);
    let stats = settle(&engine);
    assert_eq!((stats.prompt_tokens_total, stats.generated_tokens_total), (150, 5));
    assert_eq!(stats.finished_total, 1);
}

#[test]
fn stop_tokens_end_the_answer_and_are_not_part_of_it() {
    let engine = start_with(|_| {});
    let prompt = Noise::new(2).tokens(20);
    let (free, _) = collect(engine.submit(Generate::greedy(prompt.clone(), 8)).unwrap());
    // The first token that was not there before, so that the answer stops there.
    let at = (1..8).find(|&i| !free.ids[..i].contains(&free.ids[i])).unwrap();
    let mut request = Generate::greedy(prompt.clone(), 8);
    request.stop_ids = vec![free.ids[at]];
    let (stopped, timings) = collect(engine.submit(request).unwrap());
    assert_eq!(stopped.ids, free.ids[..at]);
    assert_eq!(stopped.reason, FinishReason::Stop);
    assert_eq!(timings.n_generated, at);

    let mut request = Generate::greedy(prompt.clone(), 8);
    request.stop_ids = vec![free.ids[at]];
    request.min_tokens = at + 2;
    let (held, _) = collect(engine.submit(request).unwrap());
    assert!(held.ids.len() >= at + 2, "{held:?}");
    assert!(!held.ids.contains(&free.ids[at]));

    let mut request = Generate::greedy(prompt, 8);
    request.stop_ids = vec![free.ids[at]];
    request.ignore_eos = true;
    let (ignored, _) = collect(engine.submit(request).unwrap());
    assert_eq!((ignored.ids.len(), ignored.reason), (8, FinishReason::Length));
}

#[test]
fn prompts_up_to_the_context_are_taken_and_longer_ones_told_both_numbers() {
    let engine = start_with(|config| config.max_seq_len = 128);
    let prompt = |n| Noise::new(3).tokens(n);
    let (answer, _) = collect(engine.submit(Generate::greedy(prompt(127), 100)).unwrap());
    assert_eq!((answer.ids.len(), answer.reason), (1, FinishReason::Length));
    for n in [128, 129, 5_000] {
        let refused = engine.submit(Generate::greedy(prompt(n), 1));
        let expected = |e: &SubmitError| matches!(e, SubmitError::PromptTooLong { n_prompt, max_seq_len: 128 } if *n_prompt == n);
        assert!(refused.as_ref().is_err_and(expected), "{n}: {refused:?}");
    }
    // An answer that reaches the end of the context ends with it.
    let (answer, _) = collect(engine.submit(Generate::greedy(prompt(100), 1_000)).unwrap());
    assert_eq!((answer.ids.len(), answer.reason), (28, FinishReason::Length));
}

#[test]
fn bad_requests_are_refused_with_the_field() {
    let engine = start_with(|_| {});
    let refused = |change: fn(&mut Generate)| {
        let mut request = Generate::greedy(vec![1, 2, 3], 4);
        change(&mut request);
        engine.submit(request).unwrap_err().to_string()
    };
    let cases: [(fn(&mut Generate), &str); 12] = [
        (|r| r.prompt.clear(), "no tokens"),
        (|r| r.prompt[1] = VOCAB_SIZE as u32, "token id 320 in prompt"),
        (|r| r.stop_ids = vec![u32::MAX], "stop_ids"),
        (|r| r.sampling.logit_bias = vec![(999, 1.0)], "logit_bias"),
        (|r| r.sampling.logit_bias = vec![(9, f32::NAN)], "logit_bias"),
        (|r| r.sampling.temperature = -0.1, "temperature is -0.1"),
        (|r| r.sampling.temperature = f32::INFINITY, "temperature"),
        (|r| r.sampling.top_p = 1.5, "top_p is 1.5, expected a number from 0 to 1"),
        (|r| r.sampling.min_p = f32::NAN, "min_p"),
        (|r| r.sampling.repetition_penalty = 0.0, "repetition_penalty"),
        (|r| r.sampling.frequency_penalty = f32::NAN, "frequency_penalty"),
        (|r| r.logprobs = Some(21), "logprobs is 21"),
    ];
    for (change, expected) in cases {
        let found = refused(change);
        assert!(found.contains(expected), "found {found:?}, expected {expected:?}");
    }
}

#[test]
fn a_next_turn_goes_on_from_cached_pages_and_scopes_stay_apart() {
    let engine = start_with(|_| {});
    let prompt = Noise::new(4).tokens(100);
    let (answer, timings) = collect(engine.submit(Generate::greedy(prompt.clone(), 30)).unwrap());
    assert_eq!(timings.n_cached, 0);
    let mut next = prompt.clone();
    next.extend(&answer.ids);
    next.extend(Noise::new(5).tokens(10));
    // The last generated token was drawn and never computed.
    let (_, timings) = collect(engine.submit(Generate::greedy(next.clone(), 4)).unwrap());
    assert_eq!(timings.n_cached, 129);
    // Regeneration computes one token again, for its logits.
    let (again, timings) = collect(engine.submit(Generate::greedy(prompt.clone(), 30)).unwrap());
    assert_eq!(timings.n_cached, 99);
    assert_eq!(again, answer);
    let mut other = Generate::greedy(next, 4);
    other.cache_scope = 9;
    assert_eq!(collect(engine.submit(other).unwrap()).1.n_cached, 0);
    assert!(engine.stats().cached_tokens_total == 129 + 99);
}

#[test]
fn drafts_of_one_prompt_compute_it_once() {
    let engine = start_with(|config| config.max_batch_tokens = 64);
    let prompt = Noise::new(20).tokens(200);
    let drafts: Vec<_> = (0..4).map(|i| engine.submit(sampled(prompt.clone(), 10, i)).unwrap()).collect();
    let mut n_cached: Vec<usize> = drafts.into_iter().map(|g| collect(g).1.n_cached).collect();
    n_cached.sort_unstable();
    // Three full pages of 64 are shared; the rest of the prompt each computes for itself, unless it comes so late
    // that another has left its last page already.
    assert!(n_cached[0] == 0 && n_cached[1..].iter().all(|n| [192, 199].contains(n)), "{n_cached:?}");
}

#[test]
fn a_dropped_or_cancelled_request_leaves_nothing_behind() {
    let engine = start_with(|_| {});
    let mut dropped = engine.submit(Generate::greedy(Noise::new(6).tokens(50), 900)).unwrap();
    let mut cancelled = engine.submit(Generate::greedy(Noise::new(7).tokens(50), 900)).unwrap();
    while !matches!(dropped.blocking_next(), Some(Event::Token { .. })) {}
    drop(dropped);
    cancelled.cancel();
    let (answer, timings) = {
        let mut ids = Vec::new();
        loop {
            match cancelled.blocking_next().unwrap() {
                Event::Token { id, .. } => ids.push(id),
                Event::Done { reason: FinishReason::Cancelled, timings } => break (ids, timings),
                Event::Prefill { .. } | Event::Queued { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(answer.len(), timings.n_generated);
    assert!(answer.len() < 900);
    let stats = settle(&engine);
    assert_eq!(stats.cancelled_total, 2);
}

#[test]
fn a_full_queue_says_when_to_come_back_and_the_rest_is_served() {
    let engine = start_with(|config| {
        config.max_running = 2;
        config.max_queue = 3;
    });
    let mut accepted = Vec::new();
    let mut n_refused = 0;
    for i in 0..200 {
        match engine.submit(Generate::greedy(Noise::new(i).tokens(40), 20)) {
            Ok(generation) => accepted.push(generation),
            Err(SubmitError::QueueFull { retry_after_s }) => {
                assert!((1..=60).contains(&retry_after_s));
                n_refused += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(n_refused > 0 && accepted.len() >= 5, "{n_refused} of 200 refused");
    let mut was_told_to_wait = false;
    for mut generation in accepted {
        let mut n_tokens = 0;
        let mut last_position = usize::MAX;
        while let Some(event) = generation.blocking_next() {
            match event {
                Event::Queued { position } => {
                    assert!(position < last_position);
                    last_position = position;
                    was_told_to_wait = true;
                }
                Event::Token { .. } => n_tokens += 1,
                Event::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
        assert_eq!(n_tokens, 20);
    }
    assert!(was_told_to_wait);
    settle(&engine);
}

#[test]
fn when_pages_run_out_the_youngest_wait_and_nobody_fails() {
    let engine = start_with(|config| {
        config.max_seq_len = 256;
        config.kv_memory_bytes = 5 * PAGE_BYTES;
        config.max_running = 8;
    });
    let request = |i: u64| Generate::greedy(Noise::new(i).tokens(20 + 10 * i as usize), 150);
    let generations: Vec<_> = (0..8).map(|i| engine.submit(request(i)).unwrap()).collect();
    // Scores, too, give way; each row is shown once, in order.
    let (sender, positions) = std::sync::mpsc::channel();
    let on_row = move |position, _: &[f32]| sender.send(position).unwrap();
    engine.score_with(&Noise::new(50).tokens(250), Box::new(on_row)).unwrap();
    assert_eq!(positions.iter().collect::<Vec<usize>>(), (0..250).collect::<Vec<usize>>());
    for generation in generations {
        assert_eq!(collect(generation).0.ids.len(), 150);
    }
    let stats = settle(&engine);
    assert!(stats.preemptions_total > 0, "the test is to run out of pages: {stats:?}");
    // A prompt that needs the whole pool runs, whatever is cached.
    let (answer, _) = collect(engine.submit(Generate::greedy(Noise::new(99).tokens(250), 6)).unwrap());
    assert_eq!(answer.ids.len(), 6);
}

#[test]
fn a_higher_priority_takes_a_place_from_a_lower_one() {
    let engine = start_with(|config| config.max_running = 1);
    let mut low = engine.submit(Generate::greedy(Noise::new(8).tokens(30), 700)).unwrap();
    while !matches!(low.blocking_next(), Some(Event::Token { .. })) {}
    let mut urgent = Generate::greedy(Noise::new(9).tokens(30), 10);
    urgent.priority = 1;
    let (answer, _) = collect(engine.submit(urgent).unwrap());
    assert_eq!(answer.ids.len(), 10);
    let n_before = std::iter::from_fn(|| low.try_next()).count();
    assert!(n_before < 699, "the long answer was not finished first");
    let rest = collect(low).0;
    assert_eq!(rest.reason, FinishReason::Length);
    assert_eq!(engine.stats().preemptions_total, 1);
}

#[test]
fn a_long_prompt_does_not_stop_running_answers() {
    let engine = start_with(|config| config.max_batch_tokens = 512);
    let mut running = engine.submit(Generate::greedy(Noise::new(10).tokens(5), 800)).unwrap();
    while !matches!(running.blocking_next(), Some(Event::Token { .. })) {}
    let mut long = engine.submit(Generate::greedy(Noise::new(11).tokens(1_000), 1)).unwrap();
    while !matches!(long.blocking_next(), Some(Event::Token { .. })) {}
    let n_meanwhile = std::iter::from_fn(|| running.try_next()).count();
    assert!(n_meanwhile >= 3, "only {n_meanwhile} tokens while 1,000 were read");
}

#[test]
fn another_fair_key_is_not_made_to_wait_behind_a_crowd() {
    let engine = start_with(|config| config.max_running = 1);
    let request = |fair_key: u64, seed: u64| {
        let mut request = Generate::greedy(Noise::new(seed).tokens(30), 30);
        request.fair_key = fair_key;
        request
    };
    let crowd: Vec<_> = (0..8).map(|i| engine.submit(request(1, i)).unwrap()).collect();
    let single = engine.submit(request(2, 50)).unwrap();
    let (_, single) = collect(single);
    let waited: Vec<f64> = crowd.into_iter().map(|g| collect(g).1.queue_s).collect();
    let n_before = waited.iter().filter(|&&s| s < single.queue_s).count();
    assert!(n_before <= 3, "{n_before} of the crowd of 8 were started first: {waited:?}");
}

struct OnlyEven;

impl Constraint for OnlyEven {
    fn mask(&mut self, allowed: &mut BitMask) -> Result<(), String> {
        allowed.fill(false);
        (0..VOCAB_SIZE as u32).step_by(2).for_each(|id| allowed.set(id, true));
        Ok(())
    }
    fn accept(&mut self, id: TokenId) -> Result<bool, String> {
        assert!(id.is_multiple_of(2));
        Ok(false)
    }
}

/// Exactly these tokens, then token 0; one is refused after it was allowed.
struct Sequenced {
    ids: Vec<TokenId>,
    n_taken: usize,
    /// Says itself that it is complete.
    ends: bool,
    refused: Option<TokenId>,
}

impl Constraint for Sequenced {
    fn mask(&mut self, allowed: &mut BitMask) -> Result<(), String> {
        allowed.fill(false);
        allowed.set(self.ids.get(self.n_taken).copied().unwrap_or(0), true);
        Ok(())
    }
    fn accept(&mut self, id: TokenId) -> Result<bool, String> {
        if self.refused == Some(id) {
            return Err(format!("token {id} was refused"));
        }
        assert_eq!(id, self.ids[self.n_taken]);
        self.n_taken += 1;
        Ok(self.ends && self.n_taken == self.ids.len())
    }
}

#[test]
fn a_constraint_ends_its_answer_by_itself_or_by_leaving_nothing_but_a_stop_id() {
    let engine = start_with(|_| {});
    let ids = vec![7, 8, 9, 7];
    for (ends, ignore_eos, min_tokens) in
        [(true, false, 0), (true, true, 0), (false, true, 0), (false, false, 9)]
    {
        let mut request = sampled(Noise::new(20).tokens(10), 40, 3);
        request.constraint = Some(Box::new(Sequenced { ids: ids.clone(), n_taken: 0, ends, refused: None }));
        (request.stop_ids, request.ignore_eos, request.min_tokens) = (vec![0], ignore_eos, min_tokens);
        let mut generation = engine.submit(request).unwrap();
        let (mut drawn, mut last) = (Vec::new(), None);
        while let Some(event) = generation.blocking_next() {
            if let Event::Token { id, .. } = &event {
                drawn.push(*id);
            }
            last = Some(event);
        }
        assert_eq!(drawn, ids);
        assert!(matches!(last, Some(Event::Done { reason: FinishReason::Stop, .. })), "{last:?}");
    }
    let mut request = sampled(Noise::new(20).tokens(10), 40, 3);
    request.constraint = Some(Box::new(Sequenced { ids, n_taken: 0, ends: true, refused: Some(9) }));
    let mut generation = engine.submit(request).unwrap();
    let mut last = None;
    while let Some(event) = generation.blocking_next() {
        last = Some(event);
    }
    let Some(Event::Failed(error)) = last else { panic!("{last:?}") };
    assert!(error.to_string().ends_with("at position 12: token 9 was refused"), "{error}");
    assert_eq!(settle(&engine).failed_total, 1);
}

struct Broken;

impl Constraint for Broken {
    fn mask(&mut self, _: &mut BitMask) -> Result<(), String> {
        panic!("a grammar bug");
    }
    fn accept(&mut self, _: TokenId) -> Result<bool, String> {
        Ok(false)
    }
}

#[test]
fn a_constraint_decides_which_tokens_come_and_its_panic_ends_only_its_answer() {
    let engine = start_with(|_| {});
    let mut request = sampled(Noise::new(12).tokens(10), 40, 3);
    request.sampling.temperature = 5.0;
    request.constraint = Some(Box::new(OnlyEven));
    let (answer, _) = collect(engine.submit(request).unwrap());
    assert_eq!(answer.ids.len(), 40);
    assert!(answer.ids.iter().all(|id| id.is_multiple_of(2)));

    let other = engine.submit(sampled(Noise::new(13).tokens(10), 200, 3)).unwrap();
    let mut request = Generate::greedy(Noise::new(14).tokens(10), 40);
    request.constraint = Some(Box::new(Broken));
    let mut broken = engine.submit(request).unwrap();
    let mut last = None;
    while let Some(event) = broken.blocking_next() {
        last = Some(event);
    }
    let expected = |e: &Event| matches!(e, Event::Failed(EngineError::ConstraintFailed { position: 10, .. }));
    assert!(last.as_ref().is_some_and(expected), "{last:?}");
    assert_eq!(collect(other).0.ids.len(), 200);
    assert!(engine.health().is_ok());
}

#[test]
fn a_panic_in_the_engine_fails_every_request_and_is_told() {
    let engine = start_with(|_| {});
    let mut generation = engine.submit(Generate::greedy(Noise::new(15).tokens(10), 900)).unwrap();
    let scored = engine.score_with(&[1, 2, 3], Box::new(|_, _| panic!("a fault for the test")));
    assert!(scored.is_err());
    let mut last = None;
    while let Some(event) = generation.blocking_next() {
        last = Some(event);
    }
    let is_told = |e: &EngineError| e.to_string().contains("a fault for the test");
    assert!(matches!(&last, Some(Event::Failed(e)) if is_told(e)), "{last:?}");
    assert!(engine.health().is_err_and(|e| is_told(&e)));
    let refused = engine.submit(Generate::greedy(vec![1], 1));
    assert!(matches!(refused, Err(SubmitError::Stopped(EngineError::Panicked { .. }))));
    engine.shutdown();
}

#[test]
fn shutdown_fails_what_runs_and_waits_for_the_thread() {
    let engine = start_with(|_| {});
    let mut generation = engine.submit(Generate::greedy(Noise::new(16).tokens(10), 900)).unwrap();
    let other_handle = engine.clone();
    engine.shutdown();
    let mut last = None;
    while let Some(event) = generation.blocking_next() {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::Failed(EngineError::Stopped))), "{last:?}");
    let refused = other_handle.submit(Generate::greedy(vec![1], 1));
    assert!(matches!(refused, Err(SubmitError::Stopped(EngineError::Stopped))));
    other_handle.shutdown();
}

#[test]
fn damaged_weights_are_refused_with_the_tensors_name() {
    for (tensor, at) in [
        ("blk.1.ffn_down.weight", 18 * 77),
        ("blk.0.attn_q.weight", 0),
        ("token_embd.weight", 34 * 1_000),
        ("output.weight", 34 * 3),
    ] {
        for bits in [0x7c00u16, 0xfc00, 0x7e01] {
            let gguf = build(1, Q4_0, |name, bytes| {
                if name == tensor {
                    bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
                }
            });
            let config = ModelConfig::from_gguf(&gguf).unwrap();
            let Err(error) = Engine::start(gguf, &config, roomy()) else {
                panic!("{tensor} with {bits:#x} was taken");
            };
            assert!(error.to_string().contains(tensor), "{error}");
        }
    }
    let gguf = build(1, Q4_0, |name, bytes| {
        if name == "blk.1.ffn_norm.weight" {
            bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
        }
    });
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    let error = Engine::start(gguf, &config, roomy()).err().unwrap();
    assert!(error.to_string().contains("blk.1.ffn_norm.weight"), "{error}");
}

#[test]
fn a_model_that_overflows_is_not_served() {
    // Finite weights whose products are not: scales of 60,000 in every block of the output.
    let gguf = build(1, Q4_0, |name, bytes| {
        if name == "output_norm.weight" {
            bytes.as_chunks_mut::<4>().0.iter_mut().for_each(|x| *x = f32::MAX.to_le_bytes());
        }
    });
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    let error = Engine::start(gguf, &config, roomy()).err().unwrap();
    assert!(matches!(error, EngineError::BrokenModel), "{error}");
}

#[test]
fn logits_that_overflow_end_their_own_answer_only() {
    // Token 5 is one large element c after the last norm, and the output's row 0 is large there.
    let c = 10;
    let types = (TensorType::Q4_0, TensorType::Q4_0, TensorType::F32);
    let gguf = build(1, types, |name, bytes| {
        let floats = bytes.as_chunks_mut::<4>().0;
        match name {
            "output_norm.weight" => floats[c] = 1.5f32.to_le_bytes(),
            "output.weight" => floats[c] = 2e37f32.to_le_bytes(),
            "token_embd.weight" => {
                floats[5 * N_EMBD..6 * N_EMBD].fill([0; 4]);
                floats[5 * N_EMBD + c] = 1e6f32.to_le_bytes();
            }
            _ => {}
        }
    });
    let engine = start(&gguf, roomy());
    let other = engine.submit(sampled(vec![1, 2, 3], 30, 1)).unwrap();
    let mut broken = engine.submit(Generate::greedy(vec![1, 2, 5], 30)).unwrap();
    let mut last = None;
    while let Some(event) = broken.blocking_next() {
        last = Some(event);
    }
    let expected = |e: &Event| matches!(e, Event::Failed(EngineError::NonFiniteLogits { position: 3 }));
    assert!(last.as_ref().is_some_and(expected), "{last:?}");
    assert!(!collect(other).0.ids.is_empty());
    assert!(engine.health().is_ok());
    assert_eq!(settle(&engine).failed_total, 1);
}

#[test]
fn kv_memory_too_small_for_one_context_is_refused_with_what_would_fit() {
    let mut config = roomy();
    config.kv_memory_bytes = 3 * PAGE_BYTES;
    let gguf = tiny();
    let model_config = ModelConfig::from_gguf(&gguf).unwrap();
    assert_eq!(kv_bytes_per_token(&model_config) * 64, PAGE_BYTES);
    match Engine::start(gguf, &model_config, config) {
        Err(EngineError::KvMemoryTooSmall { max_seq_len: 1024, needed, given, fits: 192 }) => {
            assert_eq!((needed, given), (16 * PAGE_BYTES, 3 * PAGE_BYTES));
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn scores_are_those_of_the_answers_own_distribution() {
    let engine = start_with(|config| config.max_batch_tokens = 32);
    let prompt = Noise::new(17).tokens(40);
    let mut request = Generate::greedy(prompt.clone(), 20);
    request.logprobs = Some(0);
    let (answer, _) = collect(engine.submit(request).unwrap());
    let mut all = prompt;
    all.extend(&answer.ids);
    let scores = engine.score(&all).unwrap();
    assert_eq!(scores.len(), 59);
    let bits: Vec<u32> = scores[39..].iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, answer.logprob_bits);
    settle(&engine);
}

#[test]
fn many_continuations_of_one_text_share_it_and_score_as_they_would_alone() {
    let engine = start_with(|config| {
        config.max_batch_tokens = 48;
        // Room for two of them: the others wait, or give way and begin again.
        config.max_seq_len = 256;
        config.kv_memory_bytes = 7 * PAGE_BYTES;
        config.max_running = 4;
    });
    let mut noise = Noise::new(21);
    let text = noise.tokens(170);
    let continuations: Vec<Vec<TokenId>> =
        (1..7).map(|n| [&text[..], &noise.tokens(5 * n)].concat()).collect();
    let bits = |scores: &[f32]| scores.iter().map(|score| score.to_bits()).collect::<Vec<u32>>();
    let expected: Vec<Vec<u32>> =
        continuations.iter().map(|tokens| bits(&engine.score(tokens).unwrap()[text.len() - 1..])).collect();
    assert_eq!(settle(&engine).cached_tokens_total, 0, "texts that are scored whole share nothing");
    let scores_of = |tokens: &[TokenId], first: usize| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let next = tokens[1..].to_vec();
        let on_row = move |position: usize, logits: &[f32]| {
            if let Some(&id) = next.get(position) {
                let isa = Isa::detect();
                sender.send(logits[id as usize] - kernels::log_sum_exp(isa, logits, 1.0)).unwrap();
            }
        };
        engine.score_from(tokens, first, Box::new(on_row)).unwrap();
        bits(&receiver.iter().collect::<Vec<f32>>())
    };
    std::thread::scope(|scope| {
        for (tokens, expected) in continuations.iter().zip(&expected) {
            let (text, scores_of) = (&text, &scores_of);
            scope.spawn(move || assert_eq!(&scores_of(tokens, text.len() - 1), expected));
        }
    });
    assert!(settle(&engine).cached_tokens_total >= 3 * 128, "{:?}", engine.stats());
    assert_eq!(scores_of(&text, 1000), [] as [u32; 0], "behind the last token stands nothing to score");
}

#[test]
fn random_requests_cancels_and_drops_leave_no_page_behind() {
    let engine = start_with(|config| {
        config.max_seq_len = 256;
        config.kv_memory_bytes = 12 * PAGE_BYTES;
        config.max_running = 5;
        config.max_queue = 20;
        config.max_batch_tokens = 48;
    });
    let mut noise = Noise::new(18);
    let mut live = Vec::new();
    for i in 0..400 {
        let n_prompt = 1 + noise.below(120);
        // Few first tokens, so that prefixes are shared.
        let mut prompt = vec![noise.below(2) as TokenId; n_prompt];
        prompt[n_prompt - 1] = noise.below(VOCAB_SIZE) as TokenId;
        let mut request = sampled(prompt, 1 + noise.below(60), i);
        request.fair_key = i % 3;
        request.cache_scope = i % 2;
        request.priority = noise.below(2) as i8;
        match engine.submit(request) {
            Ok(generation) => live.push(generation),
            Err(SubmitError::QueueFull { .. }) => {
                if let Some(generation) = live.pop() {
                    collect(generation);
                }
            }
            Err(other) => panic!("{other}"),
        }
        match noise.below(4) {
            0 if !live.is_empty() => drop(live.swap_remove(noise.below(live.len()))),
            1 if !live.is_empty() => live[noise.below(live.len())].cancel(),
            _ => {}
        }
    }
    for mut generation in live {
        let mut last = None;
        while let Some(event) = generation.blocking_next() {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Done { .. })), "{last:?}");
    }
    let stats = settle(&engine);
    assert_eq!(stats.failed_total, 0);
    assert!(stats.kv_pages_cached <= stats.kv_pages_total);
    assert!(engine.health().is_ok());
}

#[test]
fn the_profile_accounts_for_the_time() {
    let engine = start_with(|_| {});
    engine.set_profiling(true);
    let began = Instant::now();
    collect(engine.submit(Generate::greedy(Noise::new(19).tokens(200), 50)).unwrap());
    let took = began.elapsed().as_secs_f64();
    settle(&engine);
    let profile = engine.profile();
    assert!(profile.n_steps >= 50 && profile.n_tokens == 249, "{profile:?}");
    let sum: f64 = profile.phases().map(|(_, cost)| cost.seconds).sum();
    assert!(sum > 0.3 * took && sum < 1.5 * took, "{sum} of {took} s");
    let qkv = profile.cost(Phase::Qkv);
    let n_weights = (N_EMBD * (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM * N_LAYERS) as f64;
    // The last layer computes its queries for all rows, too.
    assert_eq!(qkv.ops, 249.0 * 2.0 * n_weights);
    assert!(engine.profile().n_steps == 0, "taking it starts over");
}

#[test]
fn every_instruction_set_of_the_machine_answers() {
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let engine = start_with(|config| config.isa = isa);
        assert_eq!(collect(engine.submit(Generate::greedy(vec![5, 6, 7], 3)).unwrap()).0.ids.len(), 3);
    }
}
