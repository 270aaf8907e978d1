//! A token's result is bit-for-bit the same whatever else runs in the batch, however the prompt was
//! cut, and whether or not its prefix was cached: on every instruction set, for every weight type.
#![allow(clippy::unwrap_used)]

mod tiny_model;

use std::sync::Arc;

use engine::{Engine, EngineConfig, Generate};
use kernels::Isa;
use tiny_model::*;
use weights::{Gguf, ScaledAdapter, TensorType};

/// Prompt lengths around the edges of pages (64) and of kernels' tiles.
const LENGTHS: [usize; 8] = [1, 2, 17, 33, 63, 64, 65, 150];
const N_ANSWER: usize = 12;

const MODELS: [(&str, Types); 5] = [
    ("floats", (TensorType::F32, TensorType::F16, TensorType::BF16)),
    ("4 bits", (TensorType::Q4_0, TensorType::Q4_1, TensorType::Q8_0)),
    ("5 bits", (TensorType::Q5_0, TensorType::Q5_1, TensorType::Q5_1)),
    ("K", (TensorType::Q4K, TensorType::Q5K, TensorType::Q6K)),
    ("K and output in 4 bits", (TensorType::Q6K, TensorType::Q4K, TensorType::Q4_1)),
];

fn isas() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
}

fn requests() -> Vec<Generate> {
    let mut noise = Noise::new(77);
    let prompts = LENGTHS.iter().enumerate();
    prompts.map(|(i, &n)| sampled(noise.tokens(n), N_ANSWER, i as u64)).collect()
}

/// Submits all at once.
fn together(engine: &Engine) -> Vec<Answer> {
    let generations: Vec<_> = requests().into_iter().map(|r| engine.submit(r).unwrap()).collect();
    generations.into_iter().map(|generation| collect(generation).0).collect()
}

/// Submits one after the other.
fn alone(engine: &Engine) -> Vec<Answer> {
    let answers = requests().into_iter().map(|r| collect(engine.submit(r).unwrap()).0);
    answers.collect()
}

fn with(gguf: &Arc<Gguf>, isa: Isa, change: impl FnOnce(&mut EngineConfig)) -> Engine {
    let mut config = roomy();
    config.isa = isa;
    change(&mut config);
    start(gguf, config)
}

/// Two adapters: one for every matrix, in ranks that are no whole vector, and one for some.
fn adapters(gguf: &Gguf) -> Vec<ScaledAdapter> {
    let floats = [TensorType::F16, TensorType::F32];
    let every = random_adapter(1, gguf, floats, |name| Some(1 + name.len() % 7));
    let some =
        random_adapter(2, gguf, [TensorType::Q8_0; 2], |name| name.contains(".0.attn_q").then_some(32));
    vec![ScaledAdapter { adapter: every, scale: 1.0 }, ScaledAdapter { adapter: some, scale: -0.5 }]
}

#[test]
fn with_adapters_it_is_the_same_too() {
    for isa in isas() {
        for (name, types) in [MODELS[0], MODELS[3]] {
            let gguf = build(5, types, |_, _| {});
            let adapters = adapters(&gguf);
            let with = |change: &dyn Fn(&mut EngineConfig)| {
                let mut config = roomy();
                config.isa = isa;
                change(&mut config);
                start_adapted(&gguf, &adapters, config)
            };
            let expected = alone(&with(&|_| {}));
            assert_ne!(
                expected,
                alone(&self::with(&gguf, isa, |_| {})),
                "they change nothing, {name}, {isa:?}"
            );
            let label = |what: &str| format!("{what}, {name}, {isa:?}");
            if isa != Isa::Scalar {
                let chunks = with(&|config| {
                    config.max_batch_tokens = 33;
                    config.max_running = 1;
                });
                assert_eq!(alone(&chunks), expected, "{}", label("chunks"));
                assert_eq!(together(&with(&|_| {})), expected, "{}", label("among seven others"));
                assert_eq!(alone(&with(&|config| config.n_threads = 1)), expected, "{}", label("one thread"));
            }
            let among = with(&|config| config.max_batch_tokens = 29);
            assert_eq!(together(&among), expected, "{}", label("among others in chunks"));
            assert_eq!(together(&among), expected, "{}", label("from cached prefixes"));
        }
    }
}

#[test]
fn alone_in_a_batch_in_odd_chunks_and_with_other_threads_it_is_the_same() {
    for isa in isas() {
        for (name, types) in MODELS {
            let gguf = build(5, types, |_, _| {});
            let expected = alone(&with(&gguf, isa, |_| {}));
            let label = |what: &str| format!("{what}, {name}, {isa:?}");
            assert!(expected.iter().all(|answer| answer.ids.len() == N_ANSWER));

            // The scalar reference is slow: it does the most telling one.
            for chunk in [1, 33, 100].into_iter().filter(|_| isa != Isa::Scalar) {
                let engine = with(&gguf, isa, |config| {
                    config.max_batch_tokens = chunk;
                    config.max_running = 1;
                });
                assert_eq!(alone(&engine), expected, "{}", label(&format!("chunks of {chunk}")));
            }
            if isa != Isa::Scalar {
                let found = together(&with(&gguf, isa, |_| {}));
                assert_eq!(found, expected, "{}", label("among seven others"));
                let engine = with(&gguf, isa, |config| config.n_threads = 1);
                assert_eq!(alone(&engine), expected, "{}", label("one thread"));
            }
            let engine = with(&gguf, isa, |config| config.max_batch_tokens = 29);
            assert_eq!(together(&engine), expected, "{}", label("among others in chunks"));
        }
    }
}

#[test]
fn with_a_cached_prefix_it_is_the_same() {
    for isa in isas() {
        let gguf = build(6, MODELS[3].1, |_, _| {});
        let engine = with(&gguf, isa, |_| {});
        let fresh = alone(&engine);
        let again = alone(&engine);
        assert_eq!(again, fresh, "the whole prompt cached, {isa:?}");

        // The next turn of a conversation: prompt, answer, and something new; and a branch of it.
        for (request, answer) in requests().into_iter().zip(&fresh) {
            let mut longer = request.prompt.clone();
            longer.extend(&answer.ids);
            longer.extend(Noise::new(3).tokens(9));
            let branch = longer[..longer.len() - 20].to_vec();
            for prompt in [longer, branch] {
                let n_prompt = prompt.len();
                let (cached, timings) = collect(engine.submit(sampled(prompt.clone(), 10, 9)).unwrap());
                assert!(timings.n_cached > 0, "a prompt of {n_prompt} found nothing");
                let mut apart = sampled(prompt, 10, 9);
                apart.cache_scope = 1;
                let (uncached, _) = collect(engine.submit(apart).unwrap());
                assert_eq!(cached, uncached, "a prompt of {n_prompt}, {isa:?}");
            }
        }
    }
}

#[test]
fn preempted_and_computed_again_it_is_the_same() {
    let gguf = build(7, Q4_0, |_, _| {});
    let request = |i: u64| sampled(Noise::new(i).tokens(40 + i as usize), 60, i);
    let roomy_engine = start(&gguf, roomy());
    let submit = |engine: &Engine, i| engine.submit(request(i)).unwrap();
    let expected: Vec<Answer> = (0..6).map(|i| collect(submit(&roomy_engine, i)).0).collect();
    // Six sequences that grow from one page to two, in the room of seven.
    let engine = with(&gguf, Isa::detect(), |config| {
        config.max_seq_len = 128;
        config.kv_memory_bytes = 7 * PAGE_BYTES;
    });
    let generations: Vec<_> = (0..6).map(|i| submit(&engine, i)).collect();
    let found: Vec<Answer> = generations.into_iter().map(|g| collect(g).0).collect();
    assert_eq!(found, expected);
    assert!(engine.stats().preemptions_total > 0, "{:?}", engine.stats());
}
