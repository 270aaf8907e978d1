//! `daybreak bench`: prefill and decode speed of one model on this machine, through the same engine that serves.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use engine::{Engine, EngineConfig, Event, Generate, Profile, SamplingParams, TokenId};
use kernels::{MachinePeaks, Pool};
use serde_json::{Value, json};

use crate::cli;
use crate::config::{ModelSettings, default_threads, isa};
use crate::conversation::start_engine;
use crate::terminal::human_bytes;

/// What one round measured.
struct Round {
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    first_token_ms: f64,
}

pub(crate) fn bench(args: cli::Bench) -> Result<()> {
    match &args.model {
        Some(model) => bench_model(model, &args),
        None => bench_machine(&args),
    }
}

/// What bounds every model: operations and bytes per second.
fn bench_machine(args: &cli::Bench) -> Result<()> {
    let n_threads = args.threads.map_or_else(default_threads, usize::from);
    let isa = isa()?;
    let peaks = MachinePeaks::measure(&Pool::new(n_threads, isa)?);
    let giga = |x: f64| x / 1e9;
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = json!({
            "isa": isa.name(),
            "n_threads": n_threads,
            "int8_gop_per_second": giga(peaks.int8_ops),
            "f32_gflop_per_second": giga(peaks.f32_ops),
            "bf16_gflop_per_second": peaks.bf16_ops.map(giga),
            "read_gb_per_second": giga(peaks.read_bytes),
        });
        writeln!(out, "{report}")?;
        return Ok(());
    }
    writeln!(out, "{}  {n_threads} threads", isa.name())?;
    writeln!(out, "int8 products, GOP/s   {:>9.1}", giga(peaks.int8_ops))?;
    writeln!(out, "f32, GFLOP/s           {:>9.1}", giga(peaks.f32_ops))?;
    match peaks.bf16_ops {
        Some(ops) => writeln!(out, "bf16, GFLOP/s          {:>9.1}", giga(ops))?,
        None => writeln!(out, "bf16                   {:>9}", "none")?,
    }
    writeln!(out, "memory read, GB/s      {:>9.1}", giga(peaks.read_bytes))?;
    Ok(())
}

fn bench_model(model: &str, args: &cli::Bench) -> Result<()> {
    let settings = ModelSettings::new(&args.data)?;
    let model = settings.open_adapted(model, None, &args.adapter)?;
    let n_streams = usize::from(args.streams);
    let (n_prompt, n_new) = (args.prompt_tokens as usize, args.new_tokens as usize);
    let max_seq_len = n_prompt.max(n_new + 1) + 8;
    if max_seq_len > model.config.max_seq_len {
        bail!(
            "{} was trained for {} tokens; ask for fewer with -p and -n",
            model.name,
            model.config.max_seq_len
        );
    }
    // Room for what a round leaves in the cache, so that no round waits for pages.
    let per_token = engine::kv_bytes_per_token(&model.config) as u64;
    let config = EngineConfig {
        n_threads: args.threads.map_or_else(default_threads, usize::from),
        isa: isa()?,
        max_seq_len,
        kv_memory_bytes: per_token * 2 * n_streams as u64 * (max_seq_len as u64 + kernels::PAGE_LEN as u64),
        max_batch_tokens: 512,
        max_running: n_streams,
        max_queue: 1,
        prompt_lookup: engine::PromptLookup::Off,
    };
    let started = Instant::now();
    let engine = start_engine(&model, config)?;
    let load_s = started.elapsed().as_secs_f64();

    let vocab_size = model.config.vocab_size as u32;
    measure(&engine, vocab_size, u32::MAX, n_prompt.min(32), 2, n_streams)?; // caches and clocks, not counted
    engine.profile();
    engine.set_profiling(args.profile);
    let rounds = (0..args.rounds)
        .map(|round| measure(&engine, vocab_size, round, n_prompt, n_new, n_streams))
        .collect::<Result<Vec<_>>>()?;
    let profile = args.profile.then(|| engine.profile());

    let report = json!({
        "model": model.name,
        "isa": config.isa.name(),
        "n_threads": config.n_threads,
        "prompt_tokens": n_prompt,
        "new_tokens": n_new,
        "streams": n_streams,
        "bytes_per_decode_step": bytes_per_decode_step(&model),
        "rounds": rounds.len(),
        "prefill_tokens_per_second": median(rounds.iter().map(|r| r.prefill_tokens_per_second)),
        "prefill_tokens_per_second_best": best(rounds.iter().map(|r| r.prefill_tokens_per_second)),
        "decode_tokens_per_second": median(rounds.iter().map(|r| r.decode_tokens_per_second)),
        "decode_tokens_per_second_best": best(rounds.iter().map(|r| r.decode_tokens_per_second)),
        "first_token_ms": median(rounds.iter().map(|r| r.first_token_ms)),
        "load_seconds": load_s,
        "peak_memory_bytes": peak_memory_bytes(),
        "profile": profile.as_ref().map(profile_json),
    });
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{report}")?;
    } else {
        print_table(&mut out, &report)?;
    }
    Ok(())
}

/// Reads a prompt, then decodes from an empty context, as llama-bench does. Each round has its own prompt:
/// a cached one would measure the cache.
fn measure(
    engine: &Engine,
    vocab_size: u32,
    round: u32,
    n_prompt: usize,
    n_new: usize,
    n_streams: usize,
) -> Result<Round> {
    let prompt: Vec<TokenId> = (0..n_prompt as u32)
        .map(|i| (i.wrapping_mul(7919).wrapping_add(round.wrapping_mul(104_729))) % vocab_size)
        .collect();
    let started = Instant::now();
    let mut first_token = None;
    let mut generation = engine.submit(generate(prompt, 1))?;
    while let Some(event) = generation.blocking_next() {
        match event {
            Event::Token { .. } => first_token = Some(started.elapsed().as_secs_f64()),
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    let first_token = first_token.context("the engine gave no token")?;

    let mut streams = (0..n_streams as u32)
        .map(|i| {
            let first = (round.wrapping_mul(31).wrapping_add(i.wrapping_mul(7919))) % vocab_size;
            Ok(engine.submit(generate(vec![first], n_new + 1))?)
        })
        .collect::<Result<Vec<_>>>()?;
    // From the moment that all streams have begun until the last has ended.
    let mut began = Instant::now();
    let mut n_before = 0;
    let (mut n_begun, mut n_tokens) = (0, 0);
    let mut is_begun = vec![false; n_streams];
    let mut is_over = vec![false; n_streams];
    while is_over.contains(&false) {
        for (i, stream) in streams.iter_mut().enumerate().filter(|(i, _)| !is_over[*i]).collect::<Vec<_>>() {
            match stream.blocking_next() {
                Some(Event::Token { .. }) => {
                    n_tokens += 1;
                    if !std::mem::replace(&mut is_begun[i], true) {
                        n_begun += 1;
                        if n_begun == n_streams {
                            (began, n_before) = (Instant::now(), n_tokens);
                        }
                    }
                }
                Some(Event::Failed(error)) => return Err(error.into()),
                Some(_) => {}
                None => is_over[i] = true,
            }
        }
    }
    let ended = Instant::now();
    Ok(Round {
        prefill_tokens_per_second: n_prompt as f64 / first_token,
        decode_tokens_per_second: f64::from(n_tokens - n_before) / (ended - began).as_secs_f64(),
        first_token_ms: first_token * 1e3,
    })
}

/// Bytes in the file of all tensors that a decode step reads: everything but embeddings of which it looks up
/// one row.
fn bytes_per_decode_step(model: &models::OpenModel) -> u64 {
    let has_output = model.gguf.tensor("output.weight").is_some();
    let tensors = model.gguf.tensors().iter();
    let is_read = |name: &str| !(name == "position_embd.weight" || has_output && name == "token_embd.weight");
    tensors.filter(|info| is_read(&info.name)).map(|info| model.gguf.bytes(info).len() as u64).sum()
}

/// Sampled as a chat would be: drawing is part of a token's cost.
fn generate(prompt: Vec<TokenId>, max_tokens: usize) -> Generate {
    let sampling = SamplingParams { temperature: 0.7, top_k: 40, top_p: 0.95, ..SamplingParams::greedy() };
    Generate { sampling, ignore_eos: true, ..Generate::greedy(prompt, max_tokens) }
}

fn best(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, f64::max)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}

/// `VmHWM`: the most memory this process ever held.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

fn profile_json(profile: &Profile) -> Value {
    let phases = profile.phases().map(|(phase, cost)| {
        json!({
            "phase": phase.name(),
            "seconds": cost.seconds,
            "gb_per_second": cost.bytes / cost.seconds.max(1e-12) / 1e9,
            "gop_per_second": cost.ops / cost.seconds.max(1e-12) / 1e9,
        })
    });
    json!({ "steps": profile.n_steps, "phases": phases.collect::<Vec<_>>() })
}

fn print_table(out: &mut impl Write, report: &Value) -> Result<()> {
    let number = |key: &str| report[key].as_f64().unwrap_or(0.0);
    writeln!(
        out,
        "{}  {}  {} threads  {} rounds",
        report["model"].as_str().unwrap_or_default(),
        report["isa"].as_str().unwrap_or_default(),
        report["n_threads"],
        report["rounds"]
    )?;
    writeln!(out, "                            best    median")?;
    for (name, key) in [("prefill", "prefill_tokens_per_second"), ("decode", "decode_tokens_per_second")] {
        let n = &report[if name == "prefill" { "prompt_tokens" } else { "new_tokens" }];
        let label = format!("{name} {n}, tokens/s");
        writeln!(out, "{label:22} {:>9.1} {:>9.1}", number(&format!("{key}_best")), number(key))?;
    }
    writeln!(out, "{:22} {:>19.1}", "time to first token, ms", number("first_token_ms"))?;
    writeln!(out, "{:22} {:>20.2}", "load, s", number("load_seconds"))?;
    if let Some(bytes) = report["peak_memory_bytes"].as_u64() {
        writeln!(out, "{:22} {:>20}", "peak memory", human_bytes(bytes))?;
    }
    if let Some(phases) = report["profile"]["phases"].as_array() {
        writeln!(out, "\nphase              ms   share     GB/s    GOP/s")?;
        let total: f64 = phases.iter().filter_map(|phase| phase["seconds"].as_f64()).sum();
        for phase in phases {
            let seconds = phase["seconds"].as_f64().unwrap_or(0.0);
            writeln!(
                out,
                "{:14} {:>7.1} {:>6.1}% {:>8.1} {:>8.1}",
                phase["phase"].as_str().unwrap_or_default(),
                seconds * 1e3,
                seconds / total.max(1e-12) * 100.0,
                phase["gb_per_second"].as_f64().unwrap_or(0.0),
                phase["gop_per_second"].as_f64().unwrap_or(0.0)
            )?;
        }
    }
    Ok(())
}
