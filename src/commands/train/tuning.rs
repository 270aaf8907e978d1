//! `daybreak train sft` and `dpo`: a model and conversations → a model that answers as in them; a model and pairs of
//! answers → one that prefers the chosen ones.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kernels::Pool;
use models::OpenModel;
use serde_json::json;
use tokenizer::ChatTemplate;
use trainer::plan::TrainingMemory;
use trainer::{
    Corpus, FineTuning, Frozen, Header, LessonKind, Lessons, LoopSettings, LoraSettings, Model, OnBroken,
    OptimizerSettings, Parameters, PrepareLessons, Reference, RunData, RunFile, Schedule, Stage,
};
use weights::Value;

use super::running::{Base, Start, take_steps};
use super::{NewFolder, check_new, decay, n_threads, products, show, write_vocabulary};
use crate::cli;
use crate::config::{ModelSettings, isa};
use crate::progress::CountBar;
use crate::terminal::human_count;

/// Share of the steps on which the learning rate goes up.
const WARMUP_SHARE: f64 = 0.03;
/// How much faster an adapter learns than all weights would, where nobody says otherwise; about so much was best for many
/// models (Schulman et al. 2025, "LoRA Without Regret").
const LORA_LR: f64 = 10.0;
/// Questions for the model, where none was given.
const DEFAULT_SAMPLES: [&str; 2] = ["Who are you?", "你好！"];

/// What tells one way of teaching from another.
struct Teaching {
    stage: Stage,
    kind: LessonKind,
    epochs: f64,
    /// Learning rate times the width of the model.
    lr_times_width: f64,
    beta: Option<f64>,
}

pub(super) fn sft(args: &cli::TrainSft) -> Result<()> {
    let teaching = Teaching {
        stage: Stage::Sft,
        kind: LessonKind::Chats,
        epochs: 3.0,
        lr_times_width: 0.05,
        beta: None,
    };
    tune(&args.tune, &teaching)
}

pub(super) fn dpo(args: &cli::TrainDpo) -> Result<()> {
    let teaching = Teaching {
        stage: Stage::Dpo,
        kind: LessonKind::Pairs,
        epochs: 1.0,
        lr_times_width: 0.01,
        beta: Some(args.beta),
    };
    tune(&args.tune, &teaching)
}

impl Teaching {
    fn epochs(&self, args: &cli::TuneArgs) -> f64 {
        args.epochs.unwrap_or(self.epochs)
    }

    /// Lessons that are learnt together.
    fn n_together(&self) -> usize {
        if self.kind == LessonKind::Pairs { 2 } else { 1 }
    }
}

fn tune(args: &cli::TuneArgs, teaching: &Teaching) -> Result<()> {
    let model = ModelSettings::new(&args.data)?.open(&args.model, args.chat_template.as_deref())?;
    let corpus = Corpus::find(&args.records)?;
    if args.show.show.is_some() {
        return show::records(&args.show, args.watch.json, &corpus, &model, teaching.kind);
    }
    let folder = args.output.as_deref().context("no folder for the run; name one with --out")?;
    check_new(folder)?;
    check(args)?;
    let pool = Pool::new(n_threads(args.watch.threads)?.get(), isa()?)?;
    let products = products(args.products.as_deref(), &pool);
    // Refused before anything is written.
    Model::new(model.config.clone(), products.precision())?;
    let lora = args.lora.map(|rank| lora_settings(args, rank, &model)).transpose()?;
    let new = NewFolder::create(folder)?;
    let template = &model.template;
    write_vocabulary(&model.gguf, Some(template.source()), &folder.join("tokenizer.gguf"))?;
    let task = PrepareLessons {
        corpus: &corpus,
        on_broken: if args.skip_broken { OnBroken::Skip } else { OnBroken::Stop },
        tokenizer: &model.tokenizer,
        template,
        seq_len: args.seq_len as usize,
        held_out_share: args.held_out,
        kind: teaching.kind,
    };
    let data_folder = folder.join("data");
    let lessons = trainer::prepare_lessons(&task, &data_folder)?;
    report_lessons(args, teaching, &lessons);
    let settings = settings(args, teaching, &model, &lessons, products);
    report_plan(args, teaching, &settings);
    let base =
        base(&pool, &model, lora.as_ref(), header(folder, &model, template, lora.is_some()), args.seed)?;
    report_learnt(args, &settings, &base);
    if args.dry_run {
        return Ok(());
    }
    let data = match teaching.stage {
        Stage::Dpo => {
            let bar = CountBar::new("answers", (lessons.len() + lessons.n_held_out()) as u64);
            let reference = Reference::of(
                &pool,
                &mut base.model(settings.products, lora.as_ref(), false)?,
                &base.parameters,
                &lessons,
                settings.batch_rows,
                &mut |n_done, _| bar.show(n_done as u64, "asking the model as it is"),
            );
            bar.clear();
            reference.write(&data_folder)?;
            RunData::Pairs(Box::new(lessons), reference)
        }
        _ => RunData::Lessons(Box::new(lessons)),
    };
    let eos = model.tokenizer.eos().unwrap_or_default();
    let bos = model.tokenizer.bos().unwrap_or(eos);
    let prompts = match args.samples.is_empty() {
        true => DEFAULT_SAMPLES.map(str::to_owned).to_vec(),
        false => args.samples.clone(),
    };
    let mut file = RunFile::new(teaching.stage, settings, [bos, eos], prompts, &args.model_type);
    file.beta = teaching.beta;
    file.lora = lora;
    take_steps(&pool, folder, &file, &data, base, &args.watch, Start::New(new))
}

fn lora_settings(args: &cli::TuneArgs, rank: u16, model: &OpenModel) -> Result<LoraSettings> {
    let base = model.path.canonicalize().with_context(|| format!("{}", model.path.display()))?;
    let targets = trainer::lora_targets(&args.lora_targets)?;
    let alpha = args.lora_alpha.map(|alpha| alpha as f32);
    Ok(LoraSettings::new(usize::from(rank), alpha, targets, base, &model.gguf))
}

/// What is learnt: all weights, or an adapter beside weights that stay as they are.
fn base<'a>(
    pool: &Pool,
    model: &OpenModel,
    lora: Option<&LoraSettings>,
    header: Header<'a>,
    seed: u64,
) -> Result<Base<'a>> {
    let config = model.config.clone();
    Ok(match lora {
        Some(lora) => {
            let frozen = Frozen::new(pool, Arc::clone(&model.gguf), &config)?;
            let parameters = lora.initial(&config, seed);
            Base { header, config, parameters, frozen: Some(Arc::new(frozen)) }
        }
        None => {
            let parameters = Parameters::from_gguf(pool, &model.gguf, &config)?;
            Base { header, config, parameters, frozen: None }
        }
    })
}

fn report_learnt(args: &cli::TuneArgs, settings: &LoopSettings, base: &Base<'_>) {
    let n_trainable = base.parameters.len();
    if args.watch.json {
        // What an adapter takes beside weights that stay as they are is not worked out yet.
        let memory = args.lora.is_none().then(|| {
            TrainingMemory::of(&base.config, settings.batch_rows as u64, settings.products.into()).total()
        });
        println!("{}", json!({ "event": "learnt", "n_trainable": n_trainable, "memory_bytes": memory }));
        return;
    }
    let n = human_count(n_trainable as f64);
    match args.lora {
        Some(rank) => println!("an adapter of rank {rank} is learnt: {n} numbers beside the model\n"),
        None => println!("all {n} weights are learnt\n"),
    }
}

/// What clap cannot check.
fn check(args: &cli::TuneArgs) -> Result<()> {
    for (name, value, range) in
        [("--epochs", args.epochs.unwrap_or(1.0), 0.01..=10_000.0), ("--held-out", args.held_out, 0.0..=0.5)]
    {
        if !range.contains(&value) {
            bail!("{name} is {value}, expected {} to {}", range.start(), range.end());
        }
    }
    if args.batch_tokens < args.seq_len {
        bail!(
            "--batch-tokens is {}, less than a conversation of --seq-len {}: take more, or shorter ones",
            args.batch_tokens,
            args.seq_len
        );
    }
    Ok(())
}

fn settings(
    args: &cli::TuneArgs,
    teaching: &Teaching,
    model: &OpenModel,
    lessons: &Lessons,
    products: trainer::Products,
) -> LoopSettings {
    let batch_rows = args.batch_tokens as usize;
    let n_batches = u64::from(args.step_tokens.div_ceil(args.batch_tokens));
    let of_epoch =
        FineTuning::new(lessons, teaching.n_together(), batch_rows, args.seed).n_batches_of_epoch();
    let n_steps = (teaching.epochs(args) * of_epoch as f64 / n_batches as f64).ceil().max(1.0) as u64;
    let lr_times_width = teaching.lr_times_width * if args.lora.is_some() { LORA_LR } else { 1.0 };
    let lr = args.lr.unwrap_or(lr_times_width / model.config.n_embd as f64);
    LoopSettings {
        seed: args.seed,
        seq_len: args.seq_len as usize,
        batch_rows,
        n_batches,
        n_steps,
        products,
        optimizer: OptimizerSettings { beta2: 0.99, ..OptimizerSettings::adamw(lr as f32) },
        schedule: Schedule {
            n_warmup: (WARMUP_SHARE * n_steps as f64).ceil() as u64,
            decay: decay(&args.decay),
            decay_share: 0.3,
            end: 0.0,
        },
        clip: Some(1.0),
        eval_every: args.eval_every.unwrap_or_else(|| n_steps.div_ceil(10)),
        eval_rows: 0,
        patience: args.patience,
        checkpoint_seconds: args.checkpoint_every,
    }
}

fn report_lessons(args: &cli::TuneArgs, teaching: &Teaching, lessons: &Lessons) {
    let summary = &lessons.summary;
    if args.watch.json {
        println!("{}", json!({ "event": "data", "lessons": summary }));
        return;
    }
    let n_together = teaching.n_together() as u64;
    println!(
        "{} {} to learn from: {} tokens, of which {} are learnt; {} held out",
        summary.n_lessons / n_together,
        if n_together == 2 { "pairs" } else { "conversations" },
        summary.n_tokens,
        summary.n_answer_tokens,
        summary.n_held_out / n_together
    );
    for (n, what) in [
        (summary.n_duplicates, "left out: were there before"),
        (summary.n_cut_off, "cut off at --seq-len"),
        (summary.n_without_answer, "left out: no answer was left of them"),
        (summary.n_broken, "left out: could not be read, or teach nothing"),
    ] {
        if n > 0 {
            println!("    {n} {what}");
        }
    }
    summary.broken.iter().for_each(|record| eprintln!("daybreak: left out: {record}"));
}

fn report_plan(args: &cli::TuneArgs, teaching: &Teaching, settings: &LoopSettings) {
    if args.watch.json {
        println!("{}", json!({ "event": "plan", "settings": settings }));
        return;
    }
    println!(
        "{} steps of up to {} tokens (each record {} times), learning rate {:.2e}, {}\n",
        settings.n_steps,
        settings.n_batches * settings.batch_rows as u64,
        teaching.epochs(args),
        settings.optimizer.lr,
        args.decay
    );
}

/// What the files of the run say: what the model's said before, but for how its numbers were written. An adapter has
/// little to say.
fn header<'a>(
    folder: &Path,
    model: &'a OpenModel,
    template: &'a ChatTemplate,
    is_adapter: bool,
) -> Header<'a> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = ("general.name".to_owned(), Value::String(name.into_bytes().into()));
    if is_adapter {
        return vec![name];
    }
    let of_numbers =
        ["general.file_type", "general.quantization_version", "general.alignment", "general.name"];
    let mut header: Header<'_> = model
        .gguf
        .metadata()
        .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)))
        .filter(|(key, _)| {
            !of_numbers.contains(&key.as_str())
                && !key.starts_with("split.")
                && !key.starts_with("quantize.")
                && key != "tokenizer.chat_template"
        })
        .collect();
    header.push(name);
    header.push(("tokenizer.chat_template".to_owned(), Value::from_text(template.source())));
    header
}
