//! `daybreak train eval`: tasks and a model → figures, beside another model's if there is one.

mod report;
mod served;
mod tasks;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use trainer::eval::{
    Comparison, EvalError, EvalSettings, Examinee, Results, Sample, Task, Wording, compare, evaluate,
};
use weights::AtomicFile;

use crate::cli;
use crate::config::ModelSettings;
use crate::progress::CountBar;
use crate::terminal::{Interrupted, stop_on_ctrl_c};
use served::Served;

/// Longest file of results that is read: ten million answers.
const MAX_RESULTS_BYTES: u64 = 1 << 30;

pub(super) fn eval(args: &cli::TrainEval) -> Result<()> {
    if args.list {
        return report::list(&mut std::io::stdout().lock());
    }
    let tasks = tasks::choose(&args.tasks, args.skip_broken)?;
    let earlier = args.compare.as_deref().map(read_results).transpose()?;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let samples = args.samples.as_deref().map(SamplesFile::create).transpose()?;
    let mut asking = Asking { args, tasks: &tasks, settings: ModelSettings::new(&args.data)?, stop, samples };
    let name = args.model.as_deref().context("no model was named")?;
    let after = asking.ask(name, &args.adapter)?;
    let before = match (&args.base, earlier) {
        (Some(base), _) => Some(asking.ask(base, &cli::AdapterArgs::default())?),
        (None, earlier) => earlier,
    };
    let changes = before.as_ref().map(|before| changes(before, &after)).transpose()?;
    if let Some(samples) = asking.samples {
        samples.finish()?;
    }
    let mut json = serde_json::to_value(&after)?;
    if let (Some(before), Some(changes)) = (&before, &changes) {
        json["base"] = serde_json::to_value(before)?;
        json["comparison"] = changes.iter().map(comparison_json).collect::<Result<Value>>()?;
    }
    if let Some(path) = &args.output {
        let written = AtomicFile::create(path).and_then(|mut file| {
            writeln!(file, "{json}")?;
            file.finish()
        });
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    match (&before, changes) {
        _ if args.json => writeln!(out, "{json}")?,
        (Some(before), Some(changes)) => report::comparison(&mut out, before, &after, &changes)?,
        _ => report::results(&mut out, &after)?,
    }
    Ok(())
}

/// The table of results that were kept.
pub(super) fn show_results(path: &Path) -> Result<()> {
    report::results(&mut std::io::stdout().lock(), &read_results(path)?)
}

fn comparison_json(change: &Comparison) -> Result<Value> {
    let mut json = serde_json::to_value(change)?;
    json["is_certain"] = json!(change.is_certain());
    Ok(json)
}

/// The figures of tasks that both models were asked.
fn changes(before: &Results, after: &Results) -> Result<Vec<Comparison>> {
    let mut rows = Vec::new();
    for task in &after.tasks {
        match before.tasks.iter().find(|other| other.task == task.task) {
            Some(other) => rows.extend(compare(other, task)?),
            None => eprintln!("daybreak: {} is not among the other results, so it is left out", task.task),
        }
    }
    if rows.is_empty() {
        bail!("the other results hold none of these tasks");
    }
    Ok(rows)
}

/// What models are asked.
struct Asking<'a> {
    args: &'a cli::TrainEval,
    tasks: &'a [Task],
    settings: ModelSettings,
    stop: Arc<AtomicBool>,
    samples: Option<SamplesFile<'a>>,
}

impl Asking<'_> {
    /// Asks a model everything.
    fn ask(&mut self, model: &str, adapter: &cli::AdapterArgs) -> Result<Results> {
        let args = self.args;
        let name = &with_adapters(model, adapter);
        let model = self.settings.open_adapted(model, args.chat_template.as_deref(), adapter)?;
        for warning in model.warnings.iter().filter(|warning| warning.code != "no_chat_template") {
            eprintln!("daybreak: {}: {}", model.name, warning.message);
        }
        let n_parallel =
            NonZeroUsize::from(std::num::NonZeroU16::new(args.parallel).context("no question at once")?);
        let served = Served::start(&model, args, n_parallel, Arc::clone(&self.stop))?;
        let examinee = Examinee {
            model: &served,
            tokenizer: &model.tokenizer,
            template: &model.template,
            max_len: served.max_len(),
        };
        let settings = EvalSettings {
            n_few_shot: args.num_fewshot.map(usize::from),
            limit: args.limit.map(|n| n as usize),
            seed: args.seed,
            wording: match args.template {
                cli::TemplateChoice::Plain => Wording::Plain,
                cli::TemplateChoice::Chat => Wording::Chat,
                cli::TemplateChoice::Auto => Wording::ByKind { has_template: !model.template.is_fallback() },
            },
            n_parallel,
        };
        let asked = |task: &Task| settings.limit.unwrap_or(usize::MAX).min(task.documents.len());
        let bar = CountBar::new("questions", self.tasks.iter().map(|task| asked(task) as u64).sum());
        let mut n_before = 0;
        let mut results = Vec::with_capacity(self.tasks.len());
        for task in self.tasks {
            let told = |n_done: usize| bar.show(n_before + n_done as u64, &format!("{name}  {}", task.name));
            let done = evaluate(task, examinee, &settings, &told);
            let (result, samples) = match done {
                Err(EvalError::Stopped) => {
                    bar.clear();
                    return Err(Interrupted.into());
                }
                done => done?,
            };
            n_before += result.n as u64;
            results.push(result);
            if let Some(file) = &mut self.samples {
                file.add(name, &samples)?;
            }
        }
        bar.clear();
        served.shutdown();
        Ok(Results::new(name, results))
    }
}

/// A model's name in results.
fn with_adapters(model: &str, adapter: &cli::AdapterArgs) -> String {
    adapter.adapters.iter().fold(model.to_owned(), |name, file| {
        let scale = if file.scale == 1.0 { String::new() } else { format!(":{}", file.scale) };
        format!("{name} + {}{scale}", file.path.display())
    })
}

/// What was asked and came back, on its way to a file.
struct SamplesFile<'a> {
    path: &'a Path,
    out: BufWriter<AtomicFile>,
}

impl SamplesFile<'_> {
    fn create(path: &Path) -> Result<SamplesFile<'_>> {
        let file = AtomicFile::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(SamplesFile { path, out: BufWriter::new(file) })
    }

    fn add(&mut self, model: &str, samples: &[Sample]) -> Result<()> {
        for sample in samples {
            let mut line = serde_json::to_value(sample)?;
            line["model"] = json!(model);
            writeln!(self.out, "{line}").with_context(|| format!("cannot write {}", self.path.display()))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let file = self.out.into_inner().map_err(|error| error.into_error());
        file.and_then(AtomicFile::finish).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn read_results(path: &Path) -> Result<Results> {
    let context = || format!("cannot read {}", path.display());
    let mut text = Vec::new();
    let file = File::open(path).with_context(context)?;
    file.take(MAX_RESULTS_BYTES + 1).read_to_end(&mut text).with_context(context)?;
    if text.len() as u64 > MAX_RESULTS_BYTES {
        bail!("{} is longer than {} MB", path.display(), MAX_RESULTS_BYTES >> 20);
    }
    let results: Option<Results> = serde_json::from_slice(&text).ok();
    results.filter(Results::is_known).with_context(|| {
        format!("{} holds no results of `daybreak train eval --json` that this version reads", path.display())
    })
}
