//! What the server asks of the trainer (`server::TrainingDesk`): recipes, the commands that they become, and what the
//! folder of a run tells.

mod log;
mod plan;
mod recipes;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Map, Value as Json};
use server::{
    DataKind, MadeModel, ModelKind, Order, Plan, PreviewOrder, Progress, Recipe, Series, Stage, TestResult,
    TrainingConfig, TrainingDesk, TrainingLimits,
};
use trainer::eval::Results;
use trainer::{ADAPTER_FILE, LOG_FILE, MODEL_FILE};

use crate::cli::Cli;
use crate::commands::train::recipe;

/// This program, where its file is gone.
const MYSELF: &str = "/proc/self/exe";
/// What a run leaves of the processors to others: as much as a process can.
const NICENESS: &str = "19";

/// Training, for the server.
pub(crate) fn training() -> TrainingConfig {
    let program = std::env::current_exe().ok().filter(|path| path.is_file());
    let program = program.map_or_else(|| MYSELF.to_owned(), |path| text(&path));
    let wrapper = [&program, "job-wrapper", "--nice", NICENESS];
    TrainingConfig {
        desk: std::sync::Arc::new(Desk { recipes: recipes::all(), program: program.clone() }),
        wrapper: wrapper.map(OsString::from).to_vec(),
        background: wrapper.map(OsString::from).to_vec(),
        limits: TrainingLimits::standard(),
    }
}

#[derive(Debug)]
struct Desk {
    recipes: Vec<Recipe>,
    program: String,
}

impl Desk {
    fn train(&self, stage: &str) -> Vec<String> {
        [&self.program, "train", stage].map(str::to_owned).to_vec()
    }

    /// The command of an order, without its folder.
    fn order(&self, order: &Order<'_>) -> Vec<String> {
        let mut command = self.train(order.recipe.stage);
        match (order.dataset, order.recipe.data) {
            (Some(dataset), Some(data)) => command.extend(texts(dataset, data)),
            _ => command.push(order.recipe.id.to_owned()),
        }
        if let Some(base) = order.base {
            command.extend(["--model".to_owned(), text(base)]);
        }
        for (key, value) in order.settings {
            let flag = format!("--{}", key.replace('_', "-"));
            match value {
                // All weights are trained, which has no flag.
                value if key == "lora" && value.as_i64() == Some(0) => {}
                Json::Bool(true) => command.push(flag),
                Json::Bool(false) => {}
                value => command.extend([flag, flag_value(value)]),
            }
        }
        command
    }
}

impl TrainingDesk for Desk {
    fn recipes(&self) -> &[Recipe] {
        &self.recipes
    }

    fn is_duration(&self, text: &str) -> bool {
        trainer::plan::parse_duration(text).is_ok()
    }

    fn check(&self, command: &[String]) -> Result<(), String> {
        // Clap's first line says what is wrong, the rest how to ask for help.
        let checked = Cli::try_parse_from(command).map(|_| ());
        checked.map_err(|error| {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            line.strip_prefix("error: ").unwrap_or(line).to_owned()
        })
    }

    fn begin(&self, order: &Order<'_>) -> Vec<String> {
        let mut command = self.order(order);
        command.extend(["--out".to_owned(), text(order.folder)]);
        command
    }

    fn go_on(&self, folder: &Path, settings: &Map<String, Json>) -> Option<Vec<String>> {
        if recipe::stages_in(folder).is_some() {
            // It does what is not done yet.
            let recipe = self.recipes.iter().find(|recipe| recipe.data.is_none())?;
            return Some(self.begin(&Order { recipe, settings, dataset: None, base: None, folder }));
        }
        // Written last: a run that has it has its first checkpoint.
        if !trainer::RunFile::is_in(folder) {
            return None;
        }
        let mut command = self.train("resume");
        command.push(text(folder));
        if let Some(threads) = settings.get("threads") {
            command.extend(["--threads".to_owned(), flag_value(threads)]);
        }
        if settings.get("recompute") == Some(&Json::Bool(true)) {
            command.push("--recompute".to_owned());
        }
        Some(command)
    }

    fn plan(&self, order: &Order<'_>) -> Vec<String> {
        let mut command = self.begin(order);
        command.extend(["--dry-run", "--json"].map(str::to_owned));
        command
    }

    fn read_plan(&self, printed: &str) -> Option<Plan> {
        plan::read(printed)
    }

    fn preview(&self, order: &PreviewOrder<'_>) -> Vec<String> {
        let mut command = self.train(order.stage);
        command.extend(texts(order.dataset, order.data));
        if let Some(base) = order.base {
            command.extend(["--model".to_owned(), text(base)]);
        }
        command.extend(["--show".to_owned(), order.n_records.to_string()]);
        command.extend(["--show-from".to_owned(), order.offset.to_string(), "--json".to_owned()]);
        command
    }

    fn progress(&self, folder: &Path) -> Progress {
        log::progress(&current(folder))
    }

    fn log_path(&self, folder: &Path) -> PathBuf {
        current(folder).join(LOG_FILE)
    }

    fn stages(&self, folder: &Path) -> Vec<Stage> {
        let stages = recipe::stages_in(folder).into_iter().flatten();
        stages.map(|(name, folder)| Stage { name, log: folder.join(LOG_FILE) }).collect()
    }

    fn series(&self, log: &Path, max: usize) -> io::Result<Series> {
        log::series(log, max)
    }

    fn model(&self, folder: &Path) -> Option<MadeModel> {
        // What a recipe makes is what its last stage makes.
        let last = recipe::stages_in(folder).map(|stages| stages.into_iter().next_back());
        let folder = last.flatten().map_or_else(|| folder.to_path_buf(), |(_, last)| last);
        let files = [(MODEL_FILE, ModelKind::Model), (ADAPTER_FILE, ModelKind::Adapter)];
        let made = files.map(|(name, kind)| MadeModel { path: folder.join(name), kind });
        made.into_iter().find(|made| made.path.is_file())
    }

    fn results(&self, folder: &Path) -> Vec<TestResult> {
        let kept = std::fs::read(recipe::results_in(folder)).ok();
        let kept: Option<Results> = kept.and_then(|text| serde_json::from_slice(&text).ok());
        let tasks = kept.filter(Results::is_known).map(|results| results.tasks).unwrap_or_default();
        let told = tasks.iter().flat_map(|task| {
            task.metrics.iter().map(|metric| TestResult {
                task: task.task.clone(),
                metric: metric.metric.clone(),
                n: task.n,
                value: metric.figure.value,
                interval: metric.figure.interval.map(|interval| [interval.low, interval.high]),
            })
        });
        told.collect()
    }

    fn data_digest(&self, folder: &Path) -> Option<String> {
        let first = recipe::stages_in(folder).map(|[(_, first), _]| first);
        let folder = first.as_deref().unwrap_or(folder);
        let summaries = ["data.json", "lessons.json"].map(|name| folder.join("data").join(name));
        let summary = summaries.iter().find_map(|path| std::fs::read(path).ok())?;
        let summary: Json = serde_json::from_slice(&summary).ok()?;
        Some(summary["digest"].as_str()?.to_owned())
    }
}

/// The folder of the stage that a run is at.
fn current(folder: &Path) -> PathBuf {
    let stages = recipe::stages_in(folder).into_iter().flatten().map(|(_, folder)| folder);
    let mut begun = stages.filter(|folder| folder.join(LOG_FILE).exists());
    begun.next_back().unwrap_or_else(|| folder.to_path_buf())
}

/// A dataset on the command line: its folder, or every file by name where a walk through the folder would pass some by.
fn texts(dataset: &Path, data: DataKind) -> Vec<String> {
    let entries = std::fs::read_dir(dataset).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_shown(path)).collect();
    files.sort();
    let is_walked = |path: &PathBuf| {
        let name = path.to_string_lossy().to_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let texts = ["txt", "text", "md", "markdown", "html", "htm", "jsonl", "ndjson", "zip"];
        name.rsplit_once('.').is_some_and(|(_, ending)| texts.contains(&ending))
    };
    match data == DataKind::Text && files.iter().all(is_walked) {
        true => vec![text(dataset)],
        false => files.iter().map(|path| text(path)).collect(),
    }
}

fn is_shown(path: &Path) -> bool {
    let is_hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
    !is_hidden && path.is_file()
}

fn flag_value(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
