//! How fast a model reads and writes: `cargo run --release -p engine --example speed -- FILE [n_threads] [n_prompt]`.
//!
//! Prints load time, then prefill and decode tokens per second of one stream (best and median of
//! three), of eight streams together, and where the time of each went.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use engine::{Engine, EngineConfig, Event, Generate, Profile, Timings};
use kernels::Isa;
use weights::{Gguf, ModelConfig};

const N_DECODE: usize = 128;
const N_ROUNDS: usize = 3;

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a GGUF file");
    let n_threads = args.next().map_or(2, |n| n.parse().unwrap());
    let n_prompt: usize = args.next().map_or(512, |n| n.parse().unwrap());
    let isa = std::env::var("DAYBREAK_ISA").ok().and_then(|name| Isa::from_name(&name));
    let began = Instant::now();
    let gguf = Arc::new(Gguf::open(Path::new(&path)).unwrap());
    let config = ModelConfig::from_gguf(&gguf).unwrap();
    let engine_config = EngineConfig {
        n_threads,
        isa: isa.unwrap_or(Isa::detect()),
        max_seq_len: 2048.max(n_prompt + N_DECODE),
        kv_memory_bytes: 64 << 20,
        max_batch_tokens: 512,
        max_running: 8,
        max_queue: 8,
        prompt_lookup: engine::PromptLookup::Auto,
    };
    let file_size = gguf.file_size();
    let engine = Engine::start(gguf, &config, engine_config).unwrap();
    println!("{path}, {n_threads} threads, {}", engine_config.isa.name());
    println!(
        "loaded in {:.3} s, {} MB of {} MB in the file",
        began.elapsed().as_secs_f64(),
        engine.stats().memory_bytes >> 20,
        file_size >> 20
    );
    let prompt = |seed: usize| -> Vec<u32> {
        (0..n_prompt).map(|i| ((i * 7919 + seed * 104_729 + 13) % 20_000) as u32).collect()
    };
    let mut prefill = Vec::new();
    let mut decode = Vec::new();
    for round in 0..N_ROUNDS {
        let timings = run(&engine, prompt(round), N_DECODE);
        prefill.push(n_prompt as f64 / timings.prefill_s);
        decode.push((N_DECODE - 1) as f64 / timings.decode_s);
    }
    println!("prefill {n_prompt}: {}", best_and_median(&mut prefill));
    println!("decode {N_DECODE}: {}", best_and_median(&mut decode));
    let began = Instant::now();
    let threads: Vec<_> = (0..8)
        .map(|i| {
            let (engine, prompt) = (engine.clone(), prompt(100 + i)[..16].to_vec());
            std::thread::spawn(move || run(&engine, prompt, N_DECODE))
        })
        .collect();
    threads.into_iter().for_each(|thread| drop(thread.join()));
    println!("eight streams: {:.0} tokens/s in all", (8 * N_DECODE) as f64 / began.elapsed().as_secs_f64());

    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or(" unknown");
    println!("peak resident memory:{peak}");

    engine.set_profiling(true);
    run(&engine, prompt(50), 1);
    show("prefill", &engine.profile());
    run(&engine, prompt(51)[..8].to_vec(), N_DECODE);
    show("decode", &engine.profile());
}

fn run(engine: &Engine, prompt: Vec<u32>, n: usize) -> Timings {
    let mut request = Generate::greedy(prompt, n);
    request.ignore_eos = true;
    let mut generation = engine.submit(request).unwrap();
    loop {
        match generation.blocking_next() {
            Some(Event::Done { timings, .. }) => return timings,
            Some(Event::Failed(error)) => panic!("{error}"),
            Some(_) => {}
            None => panic!("the engine went away"),
        }
    }
}

fn best_and_median(values: &mut [f64]) -> String {
    values.sort_by(f64::total_cmp);
    format!("best {:.1}, median {:.1} tokens/s", values[values.len() - 1], values[values.len() / 2])
}

fn show(name: &str, profile: &Profile) {
    let total: f64 = profile.phases().map(|(_, cost)| cost.seconds).sum();
    println!("{name}: {:.1} ms in {} steps, {} tokens", total * 1e3, profile.n_steps, profile.n_tokens);
    for (phase, cost) in profile.phases().filter(|(_, cost)| cost.calls > 0) {
        println!(
            "  {:14} {:8.2} ms {:5.1} % {:7.1} GB/s {:8.1} Gop/s {:7.1} µs a call",
            phase.name(),
            cost.seconds * 1e3,
            cost.seconds / total * 100.0,
            cost.bytes / cost.seconds / 1e9,
            cost.ops / cost.seconds / 1e9,
            cost.seconds * 1e6 / cost.calls as f64,
        );
    }
}
