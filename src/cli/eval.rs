//! `daybreak train eval` and its flags.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueHint};

use super::{AdapterArgs, DataArgs};

/// Printed under `daybreak train eval --help`.
const EVAL: &str = "\
A TASK is a name of --list, a language of it (en, zh), a text (.txt, .md, .html), or a file of records (JSONL):

  {\"question\": \"The sky is\", \"choices\": [\"blue\", \"green\"], \"answer\": 0}     the likeliest choice counts
  {\"question\": \"2 + 2 =\", \"answer\": \"4\"}                                  what the model writes is compared
  {\"question\": \"Say hello.\", \"checks\": [{\"kind\": \"lowercase\"}]}         … or verified by a program
  {\"text\": \"Once upon a time\"}                                          every byte is predicted

Scores are those of lm-evaluation-harness. The first record of a file may say how the rest is put; docs/EVALUATION.md has every
field and formula. With --base or --compare both models are held against each other, question by question.

  daybreak train eval my-assistant/model.gguf
  daybreak train eval my-assistant/model.gguf --base my-model/model.gguf
  daybreak train eval smollm2 --adapter my-adapter/adapter.gguf --base smollm2
  daybreak train eval smollm2 questions.jsonl arithmetic-en --num-fewshot 5 --out before.json
  daybreak train eval tuned.gguf questions.jsonl arithmetic-en --num-fewshot 5 --compare before.json";

/// `daybreak train eval`
#[derive(Debug, Args)]
#[command(after_help = EVAL)]
pub(crate) struct TrainEval {
    /// The model: catalog name or path.
    #[arg(value_name = "MODEL", required_unless_present = "list")]
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
    /// What it is asked [default: every task of --list].
    #[arg(value_name = "TASK", value_hint = ValueHint::FilePath)]
    pub(crate) tasks: Vec<String>,
    /// Print the tasks that come with the program and end.
    #[arg(long)]
    pub(crate) list: bool,
    /// Ask this model the same, without an adapter, and show what is different.
    #[arg(long, value_name = "MODEL")]
    pub(crate) base: Option<String>,
    /// Show what is different from results that were kept.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "base")]
    pub(crate) compare: Option<PathBuf>,
    /// Examples before each question [default: the task's own number].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) num_fewshot: Option<u16>,
    /// Ask only the first N questions of each task.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: Option<u32>,
    /// Decides which examples stand before a question.
    #[arg(long, value_name = "N", default_value_t = 1234)]
    pub(crate) seed: u64,
    /// How questions are put: as plain text, as a chat, or by their kind: what the model writes itself as a chat where its
    /// file has a template, all else as text.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = template())]
    pub(crate) template: TemplateChoice,
    /// A Jinja chat template to use instead of the model's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chat_template: Option<PathBuf>,
    /// Tokens that the model reads at once at most [default: what it was trained for, at most 2048].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=(1 << 20)))]
    pub(crate) ctx: Option<u32>,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Questions that are asked at once; no score depends on it.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) parallel: u16,
    /// Leave out records that cannot be read, and name the first of them.
    #[arg(long)]
    pub(crate) skip_broken: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Keep the results in this file as well, as --json prints them.
    #[arg(short, long = "out", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// Write what was asked, what came back and how it counted to this file (JSONL).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) samples: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// How questions are put.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TemplateChoice {
    /// By their kind.
    Auto,
    /// As text.
    Plain,
    /// As a chat.
    Chat,
}

fn template() -> impl TypedValueParser<Value = TemplateChoice> {
    PossibleValuesParser::new(["auto", "plain", "chat"]).map(|how| match how.as_str() {
        "plain" => TemplateChoice::Plain,
        "chat" => TemplateChoice::Chat,
        _ => TemplateChoice::Auto,
    })
}
