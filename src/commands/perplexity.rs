//! `daybreak perplexity`: a text → how well a model predicts it, and how far it is from another model.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use engine::{
    Divergence, DivergenceReport, Engine, EngineConfig, Estimate, LogitsReader, LogitsWriter, Perplexity,
    PromptLookup, TokenId, Windows,
};
use models::OpenModel;
use serde_json::{Value, json};
use tokenizer::Specials;
use weights::AtomicFile;

use crate::cli;
use crate::config::{ModelSettings, default_threads, isa};
use crate::conversation::start_engine;
use crate::progress::CountBar;
use crate::terminal::{Interrupted, stop_on_ctrl_c};

/// llama-perplexity's window.
const DEFAULT_CTX: usize = 512;
/// Longest text that is read: tokenised, it takes a few times its size in memory.
const MAX_TEXT_BYTES: u64 = 1 << 30;

pub(crate) fn perplexity(args: cli::Perplexity) -> Result<()> {
    let settings = ModelSettings::new(&args.data)?;
    let model = settings.open_adapted(&args.model, None, &args.adapter)?;
    let base = args.kl.as_deref().map(|path| open_base(path, &model)).transpose()?;
    let n_ctx = window_len(&args, base.as_ref())?;
    let tokens = model.tokenizer.encode_with_bos(&read_text(&args.file)?, Specials::AsText);
    if tokens.len() < 2 * n_ctx {
        bail!(
            "{}: {} tokens, expected at least two windows of {n_ctx}; take a longer text or a smaller --ctx",
            args.file.display(),
            tokens.len()
        );
    }
    let mut limit = args.chunks.map_or(usize::MAX, |n| n as usize);
    if let (Some(base), Some(path)) = (&base, &args.kl) {
        let known = &base.header().tokens;
        if !tokens.starts_with(known) {
            bail!(
                "{} was made from another text or tokenizer than {} with {}",
                path.display(),
                args.file.display(),
                model.name
            );
        }
        limit = limit.min(known.len() / n_ctx);
    }
    let bos = model.tokenizer.bos().filter(|_| model.tokenizer.adds_bos());
    let windows = Windows::new(&tokens, n_ctx, bos, limit);

    let isa = isa()?;
    let n_threads = args.threads.map_or_else(default_threads, usize::from);
    let engine = start(&model, n_ctx, n_threads)?;
    let saved = args.save_logits.as_deref();
    let cannot_write =
        || format!("cannot write {}", saved.unwrap_or(Path::new("the probabilities")).display());
    let writer = saved.map(|path| {
        let out = BufWriter::with_capacity(1 << 20, AtomicFile::create(path)?);
        LogitsWriter::new(out, isa, model.config.vocab_size, &windows)
    });
    let writer = writer.transpose().with_context(cannot_write)?;
    let tally = Tally {
        isa,
        perplexity: Perplexity::default(),
        divergence: base.map(|base| (base, Divergence::default())),
        writer,
        error: None,
    };
    let began = Instant::now();
    let mut tally = run(&engine, &windows, tally)?;
    engine.shutdown();
    let seconds = began.elapsed().as_secs_f64();
    if let Some(writer) = tally.writer.take() {
        let file = writer.into_inner().into_inner().map_err(|error| error.into_error());
        file.and_then(AtomicFile::finish).with_context(cannot_write)?;
    }
    let report = tally.divergence.and_then(|(_, divergence)| divergence.report());
    let result =
        Outcome { perplexity: tally.perplexity, divergence: report, n_windows: windows.len(), n_ctx };
    let mut out = std::io::stdout().lock();
    match args.json {
        true => {
            let mut json = result.json();
            json["model"] = json!(model.name);
            json["isa"] = json!(isa.name());
            json["n_threads"] = json!(n_threads);
            json["tokens_per_second"] = json!((windows.len() * n_ctx) as f64 / seconds);
            writeln!(out, "{}", serde_json::to_string_pretty(&json)?)?;
        }
        false => result.print(&mut out)?,
    }
    Ok(())
}

/// What one window after the other adds to.
struct Tally {
    isa: engine::Isa,
    perplexity: Perplexity,
    divergence: Option<(Base, Divergence)>,
    writer: Option<LogitsWriter<BufWriter<AtomicFile>>>,
    /// The first that came up on the engine's thread.
    error: Option<anyhow::Error>,
}

impl Tally {
    /// One prediction that counts.
    fn add(&mut self, logits: &[f32], next: TokenId) -> Result<()> {
        self.perplexity.add(logits[next as usize] - kernels::log_sum_exp(self.isa, logits, 1.0));
        if let Some(writer) = &mut self.writer {
            writer.write(logits).context("cannot write the probabilities")?;
        }
        if let Some((base, divergence)) = &mut self.divergence {
            let row = base.read().context("cannot read the base's probabilities")?;
            divergence.add(self.isa, logits, row, next);
        }
        Ok(())
    }
}

/// All windows, one after the other; Ctrl-C ends it after the one at hand.
fn run(engine: &Engine, windows: &Windows<'_>, tally: Tally) -> Result<Tally> {
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let bar = CountBar::new("windows", windows.len() as u64);
    let tally = Arc::new(Mutex::new(Some(tally)));
    for window_idx in 0..windows.len() {
        let input = windows.input(window_idx);
        let places = windows.first_scored()..windows.first_scored() + windows.n_scored();
        let (tally_there, next) = (Arc::clone(&tally), input.clone());
        let on_row = move |position: usize, logits: &[f32]| {
            let mut tally = tally_there.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(tally) = tally.as_mut().filter(|tally| tally.error.is_none())
                && places.contains(&position)
            {
                tally.error = tally.add(logits, next[position + 1]).err();
            }
        };
        engine.score_with(&input, Box::new(on_row))?;
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = tally.as_mut().context("the tally is taken at the end only")?;
        if let Some(error) = tally.error.take() {
            return Err(error);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let so_far = match &tally.divergence {
            Some((_, divergence)) => format!("KL divergence {:.5}", divergence.mean().value),
            None => format!("perplexity {:.4}", tally.perplexity.estimate().value),
        };
        bar.show(window_idx as u64 + 1, &so_far);
    }
    bar.clear();
    let tally = tally.lock().unwrap_or_else(PoisonError::into_inner).take();
    tally.context("the tally is taken at the end only")
}

fn start(model: &OpenModel, n_ctx: usize, n_threads: usize) -> Result<Engine> {
    let per_token = engine::kv_bytes_per_token(&model.config) as u64;
    let config = EngineConfig {
        n_threads,
        isa: isa()?,
        max_seq_len: n_ctx,
        kv_memory_bytes: per_token * (n_ctx + kernels::PAGE_LEN) as u64,
        max_batch_tokens: 512,
        max_running: 1,
        max_queue: 1,
        prompt_lookup: PromptLookup::Off,
    };
    start_engine(model, config)
}

type Base = LogitsReader<BufReader<File>>;

fn open_base(path: &Path, model: &OpenModel) -> Result<Base> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let input = BufReader::with_capacity(1 << 20, file);
    LogitsReader::new(input, model.config.vocab_size)
        .with_context(|| format!("{} is no file of --save-logits for {}", path.display(), model.name))
}

/// Of the flag, the base's file, or llama-perplexity's.
fn window_len(args: &cli::Perplexity, base: Option<&Base>) -> Result<usize> {
    let given = args.ctx.map(|n| n as usize);
    match (given, base.map(|base| base.header().n_ctx)) {
        (Some(given), Some(base)) if given != base => {
            bail!(
                "the base was computed in windows of {base} tokens, --ctx asks for {given}; leave --ctx out"
            )
        }
        (given, base) => Ok(given.or(base).unwrap_or(DEFAULT_CTX)),
    }
}

fn read_text(path: &Path) -> Result<Vec<u8>> {
    let context = || format!("cannot read {}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).with_context(context)?;
    file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).with_context(context)?;
    if text.len() as u64 > MAX_TEXT_BYTES {
        bail!("{} is longer than {} MB; give a part of it", path.display(), MAX_TEXT_BYTES >> 20);
    }
    Ok(text)
}

struct Outcome {
    perplexity: Perplexity,
    divergence: Option<DivergenceReport>,
    n_windows: usize,
    n_ctx: usize,
}

impl Outcome {
    fn json(&self) -> Value {
        let estimate = |e: Estimate| json!({ "value": e.value, "error": e.error });
        let mut json = json!({
            "perplexity": estimate(self.perplexity.estimate()),
            "windows": self.n_windows,
            "ctx": self.n_ctx,
            "tokens_predicted": self.perplexity.n_tokens(),
        });
        if let Some(report) = &self.divergence {
            json["base_perplexity"] = estimate(report.base_perplexity);
            json["log_perplexity_ratio"] = estimate(report.log_ratio);
            json["kl_divergence"] = json!({
                "mean": report.mean.value,
                "error": report.mean.error,
                "median": report.median,
                "percentile_95": report.percentile_95,
                "percentile_99": report.percentile_99,
                "max": report.max,
            });
            json["same_top_token"] = estimate(report.same_top);
            json["probability_change"] = estimate(report.probability_change);
            json["rms_probability_change"] = estimate(report.rms_probability_change);
        }
        json
    }

    fn print(&self, out: &mut impl Write) -> Result<()> {
        let line = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "{name:28} {value}");
        let plain = |e: Estimate| format!("{:9.4} ± {:.4}", e.value, e.error);
        let fine = |e: Estimate| format!("{:11.6} ± {:.6}", e.value, e.error);
        let percent = |e: Estimate| format!("{:8.3} ± {:.3} %", 100.0 * e.value, 100.0 * e.error);
        line(out, "perplexity", plain(self.perplexity.estimate()))?;
        if let Some(report) = &self.divergence {
            line(out, "perplexity of the base", plain(report.base_perplexity))?;
            line(out, "logarithm of their ratio", fine(report.log_ratio))?;
            line(out, "KL divergence, mean", fine(report.mean))?;
            line(out, "  median", format!("{:11.6}", report.median))?;
            line(out, "  95 %", format!("{:11.6}", report.percentile_95))?;
            line(out, "  99 %", format!("{:11.6}", report.percentile_99))?;
            line(out, "  largest", format!("{:11.6}", report.max))?;
            line(out, "same likeliest token", percent(report.same_top))?;
            line(out, "change of probability, mean", percent(report.probability_change))?;
            line(out, "  root mean square", percent(report.rms_probability_change))?;
        }
        let (n_windows, n_ctx, n) = (self.n_windows, self.n_ctx, self.perplexity.n_tokens());
        writeln!(out, "{n} tokens predicted in {n_windows} windows of {n_ctx}")?;
        Ok(())
    }
}
