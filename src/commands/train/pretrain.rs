//! `daybreak train pretrain`: texts → a model that predicts text.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kernels::Pool;
use serde_json::json;
use tokenizer::{BpeTraining, ChatTemplate, TokenId, Tokenizer};
use trainer::plan::{Cost, Money, Prices, TrainingMemory};
use trainer::{
    Batches, Corpus, CorpusError, Data, DataError, DataSource, Decay, DecoderOptions, Header, Language,
    LearnTokenizer, LoopSettings, MAX_EPOCHS, MatrixOptimizer, OnBroken, ParameterCount, PrepareData,
    Pretraining, Products, RunData, RunFile, Stage, Training, UnknownLanguage,
};
use weights::{DecoderShape, Gguf, Value};

use super::running::{Base, Start, take_steps};
use super::{
    NewFolder, check_new, decay, decoder_options, n_threads, products, show, tokenizer as vocabulary,
    vocabulary_keys, write_vocabulary,
};
use crate::cli;
use crate::commands::plan::{energy, money_json, money_text, stated};
use crate::config::{ModelSettings, isa};
use crate::progress::CountBar;
use crate::terminal::{Interrupted, human_bytes, human_count, human_duration, stop_on_ctrl_c};

/// Steps that are tried before the start; the first, which touches everything for the first time, does not count.
const TRIAL_STEPS: u32 = 3;
/// Share of a time budget that steps may take; the rest is for evaluations and checkpoints.
const BUDGET_FOR_STEPS: f64 = 0.93;
/// Depth where nothing decides it.
const DEFAULT_DEPTH: usize = 4;
/// Share of the peak that training reaches, for a first guess of what a time budget buys.
const LIKELY_UTILISATION: f64 = 0.35;
/// Texts for a model to go on with, where none was given.
const DEFAULT_SAMPLES: [&str; 2] = ["The", "今天"];

pub(super) fn train(args: &cli::TrainPretrain) -> Result<()> {
    if args.show.show.is_some() {
        let sources = sources(&args.texts)?;
        let corpora: Vec<&Corpus> = sources.iter().map(|source| &source.corpus).collect();
        return show::documents(&args.show, args.watch.json, &corpora);
    }
    plan_and_train(args).map(drop)
}

/// Makes the plan and, but for a dry run, the model; how many tokens a second the trial steps took.
pub(super) fn plan_and_train(args: &cli::TrainPretrain) -> Result<f64> {
    check_new(args.folder())?;
    check(args)?;
    let seq_len = args.seq_len as usize;
    let options = decoder_options(args.tied, args.window, seq_len)?;
    let prices = stated(&args.prices, None)?;
    let sources = sources(&args.texts)?;
    let n_threads = n_threads(args.watch.threads)?;
    let pool = Pool::new(n_threads.get(), isa()?)?;
    let products = products(args.products.as_deref(), &pool);
    let depth = depth(args, &pool, products, options);
    let new = NewFolder::create(args.folder())?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let (tokenizer, vocabulary) = tokenizer(args, &sources, depth, &stop)?;
    let document_tokens = document_tokens(&tokenizer)?;
    let data = prepare(args, &sources, &tokenizer, document_tokens[0], &stop)?;
    report_data(args, &data);

    let shape = trainer::decoder_shape(depth, tokenizer.vocab_size(), seq_len, options);
    let mut plan = Plan::new(args, &shape, products, &data)?;
    let trial = try_steps(&pool, args, &plan.settings, &shape, &data, document_tokens[1], &stop)?;
    if let Some(budget) = args.budget {
        let n_tokens = budget * BUDGET_FOR_STEPS * trial.tokens_per_second;
        plan = plan.for_tokens(args, &shape, n_tokens as u64);
    }
    report_plan(args, &shape, &plan, &trial, &data, &prices);
    if args.dry_run {
        return Ok(trial.tokens_per_second);
    }
    let prompts = match args.samples.is_empty() {
        true => DEFAULT_SAMPLES.map(str::to_owned).to_vec(),
        false => args.samples.clone(),
    };
    let file = RunFile::new(Stage::Pretrain, plan.settings, document_tokens, prompts, &args.model_type);
    let header = header(args.folder(), &shape, &vocabulary, &tokenizer);
    let base = base(&shape, file.settings.seed, header);
    let data = RunData::Texts(data);
    take_steps(&pool, args.folder(), &file, &data, base, &args.watch, Start::New(new))?;
    Ok(trial.tokens_per_second)
}

/// A model before its first step.
fn base<'a>(shape: &DecoderShape, seed: u64, header: Header<'a>) -> Base<'a> {
    let config = shape.config();
    Base { header, parameters: trainer::initial_parameters(&config, seed), config, frozen: None }
}

fn languages(args: &cli::TrainPretrain) -> Result<Vec<Language>, UnknownLanguage> {
    args.languages.iter().map(|name| trainer::language_by_name(name)).collect()
}

/// What clap cannot check.
fn check(args: &cli::TrainPretrain) -> Result<()> {
    languages(args)?;
    for (name, value, range) in [
        ("--lr-scale", args.lr_scale, 1e-6..=1e6),
        ("--clip", args.clip, 0.0..=1e9),
        ("--held-out", args.held_out, 0.0..=0.5),
    ] {
        if !range.contains(&value) {
            bail!("{name} is {value}, expected {} to {}", range.start(), range.end());
        }
    }
    Ok(())
}

/// `TEXT` or `TEXT@WEIGHT`, all of them with a weight or none.
fn sources(texts: &[String]) -> Result<Vec<DataSource>> {
    let mut sources = Vec::with_capacity(texts.len());
    for text in texts {
        let weighted = text.rsplit_once('@').and_then(|(path, weight)| Some((path, weight.parse().ok()?)));
        // A file may have such a name.
        let (path, weight) = match weighted.filter(|_| !Path::new(text).exists()) {
            Some((path, weight)) => (path, Some(weight)),
            None => (text.as_str(), None),
        };
        if weight.is_some_and(|weight: f64| !(weight > 0.0 && weight < 1e6)) {
            bail!("{text}: expected a weight above 0 and below 1000000");
        }
        sources.push(DataSource { corpus: Corpus::find(&[PathBuf::from(path)])?, weight });
    }
    let n_weighted = sources.iter().filter(|source| source.weight.is_some()).count();
    if n_weighted != 0 && n_weighted != sources.len() {
        bail!("{n_weighted} of {} texts have a weight; give one to all of them or to none", sources.len());
    }
    Ok(sources)
}

/// What was asked for, else what the budget buys.
fn depth(args: &cli::TrainPretrain, pool: &Pool, products: Products, options: DecoderOptions) -> usize {
    let flops = match (args.flops, args.budget) {
        (Some(flops), _) => Some(flops),
        (None, Some(budget)) => {
            let peaks = kernels::MachinePeaks::measure(pool);
            let peak = match products {
                Products::Bf16 => peaks.bf16_ops.unwrap_or(peaks.f32_ops),
                Products::F32 => peaks.f32_ops,
            };
            Some(budget * LIKELY_UTILISATION * peak)
        }
        _ => None,
    };
    let vocab_size = args.vocab_size.map(|n| n as usize);
    let by_flops = flops.map(|flops| trainer::depth_for(flops, vocab_size, args.seq_len as usize, options));
    args.depth.map(usize::from).or(by_flops).unwrap_or(DEFAULT_DEPTH)
}

/// The vocabulary that was named, else one that is learnt from the texts; a copy lies in the run's folder.
fn tokenizer(
    args: &cli::TrainPretrain,
    sources: &[DataSource],
    depth: usize,
    stop: &AtomicBool,
) -> Result<(Tokenizer, Gguf)> {
    let place = args.folder().join("tokenizer.gguf");
    match &args.tokenizer {
        Some(name) => {
            let folder = Path::new(name);
            let (path, json) = match folder.is_dir() {
                true => (folder.join("tokenizer.gguf"), Some(folder.join("tokenizer.json"))),
                false => (ModelSettings::new(&args.data)?.library.resolve(name)?.path().to_owned(), None),
            };
            write_vocabulary(&Gguf::open(&path)?, None, &place)?;
            if let Some(json) = json.filter(|json| json.exists()) {
                fs::copy(&json, args.folder().join("tokenizer.json"))
                    .with_context(|| format!("{}", json.display()))?;
            }
        }
        None => {
            let paths: Vec<PathBuf> = sources.iter().flat_map(|source| source.corpus.paths()).collect();
            let corpus = Corpus::find(&paths)?;
            let task = LearnTokenizer {
                corpus: &corpus,
                on_broken: on_broken(args),
                pre: "qwen2",
                training: BpeTraining {
                    vocab_size: args
                        .vocab_size
                        .map_or_else(|| trainer::vocab_size_for(depth), |n| n as usize),
                    special_tokens: cli::SPECIAL_TOKENS.map(str::to_owned).to_vec(),
                    min_count: 2,
                },
                n_threads: n_threads(args.watch.threads)?,
            };
            vocabulary::write(args.folder(), &vocabulary::learn(&task, stop)?)?;
        }
    }
    Ok((models::open_tokenizer(&place)?, Gguf::open(&place)?))
}

fn on_broken(args: &cli::TrainPretrain) -> OnBroken {
    if args.skip_broken { OnBroken::Skip } else { OnBroken::Stop }
}

/// What every document begins with, and what is to be said where one ends: what the vocabulary says, else for both the
/// token that stands between texts.
fn document_tokens(tokenizer: &Tokenizer) -> Result<[TokenId; 2]> {
    if let (Some(bos), Some(eos), true) = (tokenizer.bos(), tokenizer.eos(), tokenizer.adds_bos()) {
        return Ok([bos, eos]);
    }
    let between = tokenizer.token_id(b"<|endoftext|>").or_else(|| tokenizer.eos());
    let between = between
        .context("the vocabulary has no token that could stand between documents, such as <|endoftext|>")?;
    Ok([between; 2])
}

fn prepare(
    args: &cli::TrainPretrain,
    sources: &[DataSource],
    tokenizer: &Tokenizer,
    document_token: TokenId,
    stop: &AtomicBool,
) -> Result<Data> {
    let task = PrepareData {
        sources,
        on_broken: on_broken(args),
        languages: &languages(args)?,
        held_out_share: args.held_out,
        tokenizer,
        document_token,
        n_threads: n_threads(args.watch.threads)?,
    };
    let n_megabytes = sources.iter().map(|source| source.corpus.bytes_on_disk()).sum::<u64>() >> 20;
    let bar = CountBar::new("megabytes", n_megabytes);
    let data = trainer::prepare_data(&task, &args.folder().join("data"), &mut |progress| {
        bar.show(progress.n_read >> 20, "tokenising");
        if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.clear();
    data.map_err(|error| match error {
        DataError::Corpus(CorpusError::Stopped) => Interrupted.into(),
        error => error.into(),
    })
}

fn report_data(args: &cli::TrainPretrain, data: &Data) {
    if args.watch.json {
        println!("{}", json!({ "event": "data", "data": data.summary }));
        return;
    }
    for (text, source) in args.texts.iter().zip(&data.summary.sources) {
        let held_out = if source.held_out_within { " (its end)" } else { "" };
        println!(
            "{text}: {} in {} documents, {} tokens; {} held out{held_out}",
            human_bytes(source.n_bytes + source.n_held_out_bytes),
            source.n_documents,
            human_count(source.n_tokens as f64),
            human_count(source.n_held_out_tokens as f64)
        );
        for (n, what) in [
            (source.n_duplicates, "were there before"),
            (source.n_other_language, "in other languages"),
            (source.n_broken, "could not be read"),
            (source.n_empty, "without text"),
        ] {
            if n > 0 {
                println!("    left out: {n} {what}");
            }
        }
        source.broken.iter().for_each(|record| eprintln!("daybreak: left out: {record}"));
    }
}

/// A run's length and settings.
struct Plan {
    settings: LoopSettings,
    /// Why the run is not longer, if something stops it.
    limit: Option<String>,
}

impl Plan {
    fn new(args: &cli::TrainPretrain, shape: &DecoderShape, products: Products, data: &Data) -> Result<Plan> {
        let config = shape.config();
        let per_token = trainer::training_flops_per_token(&config, args.seq_len as usize);
        let best = trainer::tokens_for(&config);
        let available = (data.n_tokens() as f64 * MAX_EPOCHS) as u64;
        let asked = args.tokens.or(args.flops.map(|flops| (flops / per_token) as u64));
        let limit = (asked.is_none() && args.budget.is_none() && available < best).then(|| {
            format!("{MAX_EPOCHS} times the text there is; {} would be best", human_count(best as f64))
        });
        let n_tokens = asked.unwrap_or_else(|| best.min(available));
        let seed = args.seed;
        let batch_rows = args.batch_tokens as usize;
        let settings = LoopSettings {
            seed,
            seq_len: args.seq_len as usize,
            batch_rows,
            n_batches: 1,
            n_steps: 1,
            products,
            optimizer: trainer::optimizer_for(MatrixOptimizer::Muon, &config, batch_rows),
            schedule: trainer::schedule_for(Decay::Wsd, 1),
            clip: (args.clip > 0.0).then_some(args.clip),
            eval_every: 1,
            eval_rows: args.eval_tokens as usize,
            patience: args.patience,
            checkpoint_seconds: args.checkpoint_every,
        };
        if data.n_tokens() < 2 {
            bail!("there are {} tokens to learn from; add more text", data.n_tokens());
        }
        Ok(Plan { settings, limit }.for_tokens(args, shape, n_tokens))
    }

    /// The same for a run over so many tokens.
    fn for_tokens(mut self, args: &cli::TrainPretrain, shape: &DecoderShape, n_tokens: u64) -> Plan {
        let step_tokens = match args.step_tokens {
            Some(n) => n as usize,
            None => trainer::step_tokens_for(n_tokens),
        };
        let settings = &mut self.settings;
        settings.batch_rows = (args.batch_tokens as usize).min(step_tokens);
        settings.n_batches = (step_tokens as u64).div_ceil(settings.batch_rows as u64);
        let step_tokens = settings.batch_rows * settings.n_batches as usize;
        settings.n_steps = (n_tokens / step_tokens as u64).max(1);
        let matrices = if args.optimizer == "adamw" { MatrixOptimizer::AdamW } else { MatrixOptimizer::Muon };
        settings.optimizer = trainer::optimizer_for(matrices, &shape.config(), step_tokens);
        let optimizer = &mut settings.optimizer;
        for rate in
            [&mut optimizer.lr, &mut optimizer.embedding_lr, &mut optimizer.output_lr, &mut optimizer.muon_lr]
        {
            *rate *= args.lr_scale as f32;
        }
        settings.schedule = trainer::schedule_for(decay(&args.decay), settings.n_steps);
        settings.eval_every = args.eval_every.unwrap_or_else(|| settings.n_steps.div_ceil(10));
        self
    }

    fn n_tokens(&self) -> u64 {
        self.settings.n_steps * self.settings.n_batches * self.settings.batch_rows as u64
    }
}

fn objective<'a>(data: &'a Data, settings: &LoopSettings, end_token: TokenId) -> Box<Pretraining<'a>> {
    let batches = Batches::new(data, end_token, settings.seq_len, settings.seed);
    Box::new(Pretraining::new(batches, settings.batch_rows))
}

/// What three steps showed.
struct Trial {
    tokens_per_second: f64,
    /// The largest part of memory that was in use, bytes.
    peak_memory: u64,
    first_loss: f64,
}

/// Takes a few steps of a model that is thrown away.
fn try_steps(
    pool: &Pool,
    args: &cli::TrainPretrain,
    settings: &LoopSettings,
    shape: &DecoderShape,
    data: &Data,
    end_token: TokenId,
    stop: &AtomicBool,
) -> Result<Trial> {
    let base = base(shape, settings.seed, Vec::new());
    let objective = objective(data, settings, end_token);
    let model = base.model(settings.products, None, args.watch.recompute)?;
    let mut training =
        Training::new(pool, settings.clone(), objective, model, base.parameters, String::new());
    let mut fastest = 0.0f64;
    let mut first_loss = 0.0;
    for step in 0..TRIAL_STEPS {
        if stop.load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let start = Instant::now();
        let report = training.step();
        if step == 0 {
            first_loss = report.loss;
            continue;
        }
        fastest = fastest.max(report.n_rows as f64 / start.elapsed().as_secs_f64());
    }
    let peak_memory = crate::commands::bench::peak_memory_bytes().unwrap_or(0);
    Ok(Trial { tokens_per_second: fastest, peak_memory, first_loss })
}

/// Every figure, before anything is begun.
fn report_plan(
    args: &cli::TrainPretrain,
    shape: &DecoderShape,
    plan: &Plan,
    trial: &Trial,
    data: &Data,
    prices: &Prices,
) {
    let config = shape.config();
    let settings = &plan.settings;
    let count = ParameterCount::of(&config);
    let per_token = trainer::training_flops_per_token(&config, settings.seq_len);
    let n_tokens = plan.n_tokens() as f64;
    let seconds = n_tokens / trial.tokens_per_second;
    let cost = &prices.cost(1, seconds);
    let epochs = n_tokens / data.n_tokens() as f64;
    if args.watch.json {
        let money = |money: &Option<Money>| money.as_ref().map(money_json);
        let report = json!({
            "event": "plan",
            "n_layers": shape.n_layers, "n_embd": shape.n_embd, "n_heads": shape.n_heads,
            "n_kv_heads": shape.n_kv_heads, "head_dim": shape.head_dim, "n_ff": shape.n_ff,
            "vocab_size": shape.vocab_size, "tied_output": shape.tied_output, "window": shape.window,
            "n_parameters": count.total, "flops_per_token": per_token, "n_tokens": n_tokens,
            "epochs": epochs, "tokens_per_second": trial.tokens_per_second, "seconds": seconds,
            "peak_memory_bytes": trial.peak_memory, "first_loss": trial.first_loss, "settings": settings,
            "kilowatt_hours": cost.kilowatt_hours, "rent": money(&cost.rent), "electricity": money(&cost.electricity),
        });
        println!("{report}");
        return;
    }
    let rate = &settings.optimizer;
    println!(
        "\nmodel      depth {}: {} wide, {} heads ({} for keys and values) of {}, feed-forward {}, vocabulary {}{}",
        shape.n_layers,
        shape.n_embd,
        shape.n_heads,
        shape.n_kv_heads,
        shape.head_dim,
        shape.n_ff,
        shape.vocab_size,
        if shape.tied_output { ", tied" } else { "" }
    );
    if let Some(window) = shape.window {
        let n_windowed = config.layers.iter().filter(|layer| layer.window.is_some()).count();
        let layers = match shape.n_layers - n_windowed {
            0 => "every layer, for there are fewer than 6".to_owned(),
            _ => format!("{n_windowed} of {} layers, every sixth sees all", shape.n_layers),
        };
        println!("           a window of {window} tokens in {layers}");
    }
    println!(
        "           {} parameters, of which {} in embeddings; {} operations a token",
        human_count(count.total as f64),
        human_count(count.embeddings as f64),
        human_count(per_token)
    );
    println!(
        "run        {} tokens{} ({epochs:.1} times the text) in {} steps of {} tokens ({} at a time)",
        human_count(n_tokens),
        plan.limit.as_ref().map_or(String::new(), |limit| format!(": {limit}")),
        settings.n_steps,
        settings.n_batches * settings.batch_rows as u64,
        settings.batch_rows
    );
    println!("           {:.2e} operations in all", n_tokens * per_token);
    let n_rows = settings.batch_rows as u64;
    let memory = match args.watch.recompute {
        true => TrainingMemory::recomputing(&config, n_rows, settings.products.into()),
        false => TrainingMemory::of(&config, n_rows, settings.products.into()),
    };
    println!(
        "memory     {}: weights {}, gradients {}, optimiser {}, activations {}, buffers {}",
        human_bytes(memory.total()),
        human_bytes(memory.weights),
        human_bytes(memory.gradients),
        human_bytes(memory.optimizer),
        human_bytes(memory.activations),
        human_bytes(memory.buffers)
    );
    println!(
        "learning   {} at {:.2e} (matrices {:.2e}, embeddings {:.2e}, output {:.2e}), {} warm-up steps, then {}",
        args.optimizer,
        rate.lr,
        if rate.matrices == MatrixOptimizer::Muon { rate.muon_lr } else { rate.lr },
        rate.embedding_lr,
        rate.output_lr,
        settings.schedule.n_warmup,
        args.decay
    );
    println!(
        "tried      {:.0} tokens/s, {:.0} GFLOP/s; {} of memory; first loss {:.3}",
        trial.tokens_per_second,
        trial.tokens_per_second * per_token / 1e9,
        human_bytes(trial.peak_memory),
        trial.first_loss
    );
    println!("expected   {} for all steps", human_duration(seconds));
    println!("cost       {}\n", cost_text(cost));
}

/// Energy and money, as far as somebody said what they are.
fn cost_text(cost: &Cost) -> String {
    let energy = cost.kilowatt_hours.map(energy);
    let rent = cost.rent.as_ref().map(|rent| format!("rent {}", money_text(rent)));
    let electricity = cost.electricity.as_ref().map(|money| format!("electricity {}", money_text(money)));
    let parts: Vec<String> = [energy, rent, electricity].into_iter().flatten().collect();
    if parts.is_empty() {
        return "that of this machine for so long: --price-per-hour, or --watts with --price-per-kwh, tell it in money"
            .to_owned();
    }
    parts.join(", ")
}

/// What every model file of the run says beside its tensors.
fn header<'a>(
    folder: &Path,
    shape: &DecoderShape,
    vocabulary: &'a Gguf,
    tokenizer: &Tokenizer,
) -> Header<'a> {
    let mut header: Header<'a> = shape.metadata();
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    header.push(("general.name".to_owned(), Value::String(name.into_bytes().into())));
    header.extend(vocabulary_keys(vocabulary));
    let has_template = header.iter().any(|(key, _)| key == "tokenizer.chat_template");
    if !has_template && tokenizer.token_id(b"<|im_start|>").is_some() {
        let template = ChatTemplate::chatml(tokenizer.special_texts()).source().to_owned();
        header.push(("tokenizer.chat_template".to_owned(), Value::String(template.into_bytes().into())));
    }
    header
}
