//! What the server asks of the trainer: recipes, the commands that they become, and what a run's folder tells.
//!
//! The binary answers; so the server depends on no trainer, and a run is a command like any other.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

/// Something that can be trained.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// A word for programs; the page has its title and explanation.
    pub id: &'static str,
    /// `pretrain`, `sft` or `dpo`, or `recipe` where it is several of these one after the other.
    pub stage: &'static str,
    /// Whether it begins with a model that is there.
    pub needs_base: bool,
    /// What it learns from; none where it brings that itself.
    pub data: Option<DataKind>,
    /// What can be set.
    pub settings: Vec<Setting>,
}

/// What a recipe learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// Any text.
    Text,
    /// Conversations.
    Conversations,
    /// Questions with two answers.
    Pairs,
}

/// Something that can be set.
#[derive(Debug, Clone)]
pub struct Setting {
    /// A word for programs; the page has its label.
    pub key: &'static str,
    /// What it takes.
    pub kind: SettingKind,
    /// When it is not set; null: it is worked out.
    pub default: Json,
}

/// What a setting takes.
#[derive(Debug, Clone)]
pub enum SettingKind {
    /// A whole number.
    Int {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// A number.
    Float {
        /// The least.
        min: f64,
        /// The greatest.
        max: f64,
    },
    /// One of these.
    Choice(&'static [&'static str]),
    /// Yes or no.
    Bool,
    /// A time such as `30m`.
    Duration,
}

/// A run to be begun, checked.
#[derive(Debug)]
pub struct Order<'a> {
    /// What is to be trained.
    pub recipe: &'a Recipe,
    /// What was set: keys of the recipe, values of their kinds, none of them null.
    pub settings: &'a Map<String, Json>,
    /// The folder of the dataset, where the recipe has one.
    pub dataset: Option<&'a Path>,
    /// The file of the model to begin with.
    pub base: Option<&'a Path>,
    /// The folder of the run, which is not there yet.
    pub folder: &'a Path,
}

/// Samples to be shown.
#[derive(Debug)]
pub struct PreviewOrder<'a> {
    /// In which stage.
    pub stage: &'static str,
    /// As what its data is read.
    pub data: DataKind,
    /// The folder of the dataset.
    pub dataset: &'a Path,
    /// The file of the model whose tokens are shown.
    pub base: Option<&'a Path>,
    /// Records to pass over,
    pub offset: u64,
    /// and to show.
    pub n_records: u64,
}

/// What a run is going to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Every figure that was worked out, in the order of their importance.
    pub lines: Vec<(String, Json)>,
    /// Steps, where they can be told.
    pub n_steps: Option<u64>,
    /// How long they take, where it was tried.
    pub seconds: Option<f64>,
    /// Memory that it takes.
    pub memory_bytes: Option<u64>,
}

/// A part of a run with a course of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// A word for programs: `pretrain`, `sft` or `dpo`.
    pub name: &'static str,
    /// Its log, a JSON object on each line; not there as long as it has not begun.
    pub log: PathBuf,
}

/// How far a run is, in the stage that it is at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Whether its steps have begun; before that it reads, learns a vocabulary and tries a few.
    pub has_begun: bool,
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub n_steps: u64,
    /// Of the last step, in nats.
    pub loss: Option<f64>,
    /// Of the last evaluation, in nats.
    pub held_out_loss: Option<f64>,
    /// Of the last evaluation.
    pub bits_per_byte: Option<f64>,
    /// Of the last evaluation.
    pub accuracy: Option<f64>,
    /// Of the last step.
    pub tokens_per_second: Option<f64>,
    /// Until the last step, as far as can be said.
    pub seconds_left: Option<f64>,
    /// Tokens so far.
    pub n_tokens: Option<f64>,
    /// Seconds of training so far.
    pub seconds: Option<f64>,
}

/// What happened in a run, thinned.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Lines of the log that this tells.
    pub n_lines: u64,
    /// Steps, and for each:
    pub steps: Vec<u64>,
    /// its loss,
    pub loss: Vec<f64>,
    /// the factor of the learning rates,
    pub rate: Vec<f64>,
    /// the gradient's length,
    pub grad_norm: Vec<f64>,
    /// its speed,
    pub tokens_per_second: Vec<f64>,
    /// the seconds of training until its end,
    pub seconds: Vec<f64>,
    /// and the tokens.
    pub n_tokens: Vec<f64>,
    /// Evaluations as the log has them.
    pub evaluations: Vec<Json>,
    /// Samples as the log has them, the newest.
    pub samples: Vec<Json>,
    /// What else happened: `{step, kind, reason?}`.
    pub notes: Vec<Json>,
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeModel {
    /// Its file.
    pub path: PathBuf,
    /// What it is.
    pub kind: ModelKind,
}

/// What a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelKind {
    /// A whole model.
    Model,
    /// What is to be added to its base.
    Adapter,
}

/// What a finished model got in a test that comes with its recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct TestResult {
    /// The test.
    pub task: String,
    /// What was counted, as lm-evaluation-harness names it.
    pub metric: String,
    /// Questions.
    pub n: usize,
    /// The share of them, 0 to 1,
    pub value: f64,
    /// and where it lies with a confidence of 95 %.
    pub interval: Option<[f64; 2]>,
}

/// Who knows training.
pub trait TrainingDesk: Debug + Send + Sync {
    /// What can be trained.
    fn recipes(&self) -> &[Recipe];

    /// Whether a text is a time, for [`SettingKind::Duration`].
    fn is_duration(&self, text: &str) -> bool;

    /// What is wrong with a command that was made here, if its settings contradict each other.
    ///
    /// # Errors
    /// In one line.
    fn check(&self, command: &[String]) -> Result<(), String>;

    /// Program and arguments that do what was ordered.
    fn begin(&self, order: &Order<'_>) -> Vec<String>;

    /// Program and arguments that go on with the run in a folder; none where there is nothing to go on with.
    fn go_on(&self, folder: &Path, settings: &Map<String, Json>) -> Option<Vec<String>>;

    /// Program and arguments that print what a run would be, and train nothing.
    fn plan(&self, order: &Order<'_>) -> Vec<String>;

    /// What that command printed; none where it is not as expected.
    fn read_plan(&self, printed: &str) -> Option<Plan>;

    /// Program and arguments that print a JSON object `{record, source, title?, tokens: [{text, trained}]}` for each
    /// sample, a line each; records count from 0, and a pair's two samples are of one record.
    fn preview(&self, order: &PreviewOrder<'_>) -> Vec<String>;

    /// How far the run in a folder is.
    fn progress(&self, folder: &Path) -> Progress;

    /// The log of the run in a folder, a JSON object on each line; of a run of several stages that of the one it is at.
    fn log_path(&self, folder: &Path) -> PathBuf;

    /// The stages of the run in a folder, in their order; empty where it is a single one.
    fn stages(&self, folder: &Path) -> Vec<Stage>;

    /// What a log tells, in at most `max` points.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn series(&self, log: &Path, max: usize) -> io::Result<Series>;

    /// What came out of the run in a folder, once something has.
    fn model(&self, folder: &Path) -> Option<MadeModel>;

    /// What the model that came out of the run in a folder got in the tests of its recipe, once it was asked.
    fn results(&self, folder: &Path) -> Vec<TestResult>;

    /// Digest of what the run in a folder reads, once that is known: the same data has the same.
    fn data_digest(&self, folder: &Path) -> Option<String>;
}
