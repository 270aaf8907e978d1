//! `daybreak train`: its stages and their flags.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueHint};

use super::{DataArgs, PriceArgs, TrainEval, TrainMerge, parse_positive};

/// `daybreak train`
#[derive(Debug, Args)]
pub(crate) struct Train {
    #[command(subcommand)]
    pub(crate) stage: TrainStage,
}

/// One stage from text to a model.
#[derive(Debug, Subcommand)]
pub(crate) enum TrainStage {
    /// Learn a vocabulary from texts (byte-level BPE).
    Tokenizer(TrainTokenizer),
    /// Make a model that predicts text, from nothing.
    Pretrain(TrainPretrain),
    /// Teach a model to answer as in given conversations.
    Sft(TrainSft),
    /// Teach a model which of two answers is preferred.
    Dpo(TrainDpo),
    /// Go on with a run that was interrupted, exactly where its last checkpoint was made.
    Resume(TrainResume),
    /// Measure how good a model is, and what has changed between two.
    Eval(TrainEval),
    /// Write a model for other programs.
    Export(TrainExport),
    /// Put adapters into the weights of their model.
    Merge(TrainMerge),
    /// All stages of a worked example: a first model from nothing.
    Recipe(TrainRecipe),
    /// Measure how fast a model is trained on this machine.
    Speed(TrainSpeed),
}

/// Printed under `daybreak train pretrain --help`.
const PRETRAIN: &str = "\
One dial decides the rest: --depth, or --budget, --tokens or --flops, from which the depth follows. Every figure is printed
before the start, and three steps are tried to tell how long it will take; --dry-run ends there. RUN gets the vocabulary, the
tokens, checkpoints, log.jsonl and at the end model.gguf, which `daybreak serve` and every other runtime of GGUF files read.
Ctrl-C saves; `daybreak train resume RUN` goes on, bit for bit as if nothing had happened.

A TEXT may end in @WEIGHT: it is then read so much more often for its size than one of weight 1.

  daybreak train pretrain books/ --out my-model --budget 30m
  daybreak train pretrain web.jsonl.gz@1 manuals/@3 --out my-model --depth 8 --language en --language zh
  daybreak serve --model my-model/model.gguf";

/// `daybreak train pretrain`
#[derive(Debug, Args)]
#[command(after_help = PRETRAIN)]
pub(crate) struct TrainPretrain {
    /// Files and folders to learn from, as for `daybreak train tokenizer`.
    #[arg(value_name = "TEXT[@WEIGHT]", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) texts: Vec<String>,
    /// The folder of the run.
    #[arg(short, long = "out", value_name = "RUN", value_hint = ValueHint::DirPath, required_unless_present = "show")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// The vocabulary: a folder from `daybreak train tokenizer`, or a model [default: learnt from the texts].
    #[arg(long, value_name = "DIR|MODEL")]
    pub(crate) tokenizer: Option<String>,
    /// Tokens of a vocabulary that is learnt [default: 8192 to 32768, by the depth].
    #[arg(long, value_name = "N", conflicts_with = "tokenizer")]
    pub(crate) vocab_size: Option<u32>,
    /// Layers; the width is 64 for each [default: what makes the best use of the budget, else 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=trainer::MAX_DEPTH as i64))]
    pub(crate) depth: Option<u16>,
    /// The output's weights are the embeddings: a smaller file, a little worse.
    #[arg(long)]
    pub(crate) tied: bool,
    /// Time to train for, such as 30m or 8h.
    #[arg(long, value_name = "TIME", value_parser = trainer::plan::parse_duration, group = "length")]
    pub(crate) budget: Option<f64>,
    /// Tokens to train on, such as 20M [default: 20 for each weight of a product].
    #[arg(long, value_name = "N", value_parser = trainer::plan::parse_count, group = "length")]
    pub(crate) tokens: Option<u64>,
    /// Floating-point operations to spend, such as 1e15.
    #[arg(long, value_name = "N", value_parser = parse_positive, group = "length")]
    pub(crate) flops: Option<f64>,
    /// Longest sequence, in tokens.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(8..=131_072))]
    pub(crate) seq_len: u32,
    /// Let a token attend to the last N only, itself among them, in all layers but every sixth (with fewer than 6 in all).
    /// The architecture is then gemma3 instead of qwen3 [default: to all before it].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: Option<u32>,
    /// Tokens of a step [default: by the length of the run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(8..))]
    pub(crate) step_tokens: Option<u32>,
    /// Tokens that go through the model together; more need more memory.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(8..))]
    pub(crate) batch_tokens: u32,
    /// Who moves the matrices inside layers.
    #[arg(long, value_name = "NAME", default_value = "muon", value_parser = ["muon", "adamw"])]
    pub(crate) optimizer: String,
    /// A factor of all learning rates.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) lr_scale: f64,
    /// How the learning rate goes down.
    #[arg(long, value_name = "NAME", default_value = "wsd", value_parser = ["wsd", "cosine", "linear", "constant"])]
    pub(crate) decay: String,
    /// What products are computed in [default: bf16 where the processor has it].
    #[arg(long, value_name = "TYPE", value_parser = ["bf16", "f32"])]
    pub(crate) products: Option<String>,
    /// Longest gradient; longer ones are shortened (0: no limit).
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub(crate) clip: f64,
    /// Decides the first weights and the order of the texts.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Share of the documents that are held out to measure with.
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    pub(crate) held_out: f64,
    /// Keep texts in this language only; give it again for each.
    #[arg(long = "language", value_name = "NAME")]
    pub(crate) languages: Vec<String>,
    /// Steps between two evaluations [default: 10 in a run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) eval_every: Option<u64>,
    /// Held-out tokens that an evaluation reads.
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    pub(crate) eval_tokens: u32,
    /// End the run after so many evaluations without a better loss. The weights of the best evaluation come out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) patience: Option<u32>,
    /// A text that the model goes on with at every evaluation; give it again for each.
    #[arg(long = "sample", value_name = "TEXT")]
    pub(crate) samples: Vec<String>,
    /// Time between two checkpoints.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = trainer::plan::parse_duration)]
    pub(crate) checkpoint_every: f64,
    /// Number format of model.gguf; `daybreak quantize` makes others of it.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16", value_parser = ["f32", "f16", "bf16"])]
    pub(crate) model_type: String,
    /// Print every figure, try three steps and end.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) prices: PriceArgs,
    /// Leave out records that cannot be read, and name the first of them.
    #[arg(long)]
    pub(crate) skip_broken: bool,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

impl TrainPretrain {
    /// The folder of the run.
    pub(crate) fn folder(&self) -> &Path {
        self.output.as_deref().expect("it is required unless there is --show, which makes no run")
    }
}

/// Printed under `daybreak train sft --help`.
const SFT: &str = "\
CHATS are JSONL (a conversation on each line) or JSON (an array of them), also in .gz and .zip: OpenAI's \"messages\", ShareGPT's
\"conversations\", Alpaca's \"instruction\" and \"output\", or what the chat page exports. Only what the assistant says is learnt,
up to the end of its turn; --show prints which tokens these are. RUN gets checkpoints, log.jsonl and at the end model.gguf.

  daybreak train sft chats.jsonl --model smollm2 --show 2
  daybreak train sft chats.jsonl --model my-model/model.gguf --out my-assistant
  daybreak serve --model my-assistant/model.gguf";

/// `daybreak train sft`
#[derive(Debug, Args)]
#[command(after_help = SFT)]
pub(crate) struct TrainSft {
    #[command(flatten)]
    pub(crate) tune: TuneArgs,
}

/// Printed under `daybreak train dpo --help`.
const DPO: &str = "\
PAIRS are JSONL or JSON with two answers to one question: \"prompt\", \"chosen\" and \"rejected\" (texts or lists of messages), or
OpenAI's \"input\", \"preferred_output\" and \"non_preferred_output\". The chosen answer becomes likelier than the rejected one, in
comparison with the model as it was, which is asked once.

  daybreak train dpo pairs.jsonl --model my-assistant/model.gguf --out my-better-assistant";

/// `daybreak train dpo`
#[derive(Debug, Args)]
#[command(after_help = DPO)]
pub(crate) struct TrainDpo {
    #[command(flatten)]
    pub(crate) tune: TuneArgs,
    /// How strongly the model is held to what it was: a higher one keeps it nearer.
    #[arg(long, value_name = "X", default_value_t = trainer::DEFAULT_BETA, value_parser = parse_positive)]
    pub(crate) beta: f64,
}

/// How a model that is there is taught.
#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// Files of records.
    #[arg(value_name = "RECORDS", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) records: Vec<PathBuf>,
    /// The model to begin with: catalog name or path.
    #[arg(short, long, value_name = "MODEL")]
    pub(crate) model: String,
    /// The folder of the run.
    #[arg(short, long = "out", value_name = "RUN", value_hint = ValueHint::DirPath, required_unless_present = "show")]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) show: ShowArgs,
    /// Read the records, print every figure and end.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Train an adapter of this rank instead of all weights: the model stays as it is, quantised too, and adapter.gguf
    /// comes out.
    #[arg(long, value_name = "RANK", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) lora: Option<u16>,
    /// Strength of the adapter, in ranks: B · A is multiplied by alpha / rank [default: twice the rank].
    #[arg(long, value_name = "X", requires = "lora", value_parser = parse_positive)]
    pub(crate) lora_alpha: Option<f64>,
    /// The matrices that get an adapter in every layer: some of q, k, v, o, gate, up, down, or attention, ffn, all.
    #[arg(long, value_name = "LIST", requires = "lora", default_value = "all")]
    pub(crate) lora_targets: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// A Jinja chat template to use instead of the model's own; it becomes the new model's.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chat_template: Option<PathBuf>,
    /// How often each record is learnt [default: 3; dpo: 1].
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<f64>,
    /// Learning rate [default: 0.05 / the model's width; dpo: 0.01 / the width; ten times that of an adapter].
    #[arg(long, value_name = "X", value_parser = parse_positive)]
    pub(crate) lr: Option<f64>,
    /// How the learning rate goes down.
    #[arg(long, value_name = "NAME", default_value = "linear", value_parser = ["wsd", "cosine", "linear", "constant"])]
    pub(crate) decay: String,
    /// Longest conversation, in tokens; what is longer is cut off.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(8..=131_072))]
    pub(crate) seq_len: u32,
    /// Tokens of a step.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(8..))]
    pub(crate) step_tokens: u32,
    /// Tokens that go through the model together; more need more memory.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(8..))]
    pub(crate) batch_tokens: u32,
    /// What products are computed in [default: bf16 where the processor has it].
    #[arg(long, value_name = "TYPE", value_parser = ["bf16", "f32"])]
    pub(crate) products: Option<String>,
    /// Decides the order of the conversations.
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub(crate) seed: u64,
    /// Share of the conversations that is held out to measure with.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub(crate) held_out: f64,
    /// Steps between two evaluations [default: 10 in a run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) eval_every: Option<u64>,
    /// End the run after so many evaluations without a better loss. The weights of the best evaluation come out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) patience: Option<u32>,
    /// A question that the model answers at every evaluation; give it again for each.
    #[arg(long = "sample", value_name = "TEXT")]
    pub(crate) samples: Vec<String>,
    /// Time between two checkpoints.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = trainer::plan::parse_duration)]
    pub(crate) checkpoint_every: f64,
    /// Number format of model.gguf; `daybreak quantize` makes others of it.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16", value_parser = ["f32", "f16", "bf16"])]
    pub(crate) model_type: String,
    /// Leave out records that cannot be read or teach nothing, and name the first of them.
    #[arg(long)]
    pub(crate) skip_broken: bool,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// `daybreak train resume`
#[derive(Debug, Args)]
pub(crate) struct TrainResume {
    /// The folder of the run.
    #[arg(value_name = "RUN", value_hint = ValueHint::DirPath)]
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Printed under `daybreak train recipe --help`.
const RECIPES: &str = "\
first-light  A model that knows the chemical elements, adds two numbers and spells words, in English and Chinese: lessons and
             tests are generated, a vocabulary is learnt, then texts, then conversations.

Every stage is shown as the command that does it. What is done already is not done again, so that Ctrl-C loses nothing.

  daybreak train recipe first-light
  daybreak serve --model first-light/model/model.gguf";

/// `daybreak train recipe`
#[derive(Debug, Args)]
#[command(after_help = RECIPES)]
pub(crate) struct TrainRecipe {
    /// Which one.
    #[arg(value_name = "NAME", value_enum)]
    pub(crate) name: Recipe,
    /// The folder for everything [default: the recipe's name].
    #[arg(short, long = "out", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: Option<PathBuf>,
    /// Everything much smaller: to see how it goes in a minute. What comes out has learnt next to nothing.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print every figure, try a few steps, and end; nothing is kept.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// What happens as JSON, an object on each line, as in log.jsonl.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A worked example.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Recipe {
    /// A narrow subject in two languages, from nothing.
    FirstLight,
}

/// `daybreak train speed`
#[derive(Debug, Args)]
pub(crate) struct TrainSpeed {
    /// Layers; the width is 64 for each.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=trainer::MAX_DEPTH as i64))]
    pub(crate) depth: u16,
    /// Heads of keys and values [default: a half or a third of the heads].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) kv_heads: Option<u16>,
    /// Size of the vocabulary.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    pub(crate) vocab_size: u32,
    /// Tokens of a sequence.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=131_072))]
    pub(crate) seq_len: u32,
    /// A window, as of `daybreak train pretrain`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: Option<u32>,
    /// A model to learn an adapter for, instead of a new one: catalog name or path.
    #[arg(short, long, value_name = "MODEL", requires = "lora", conflicts_with_all = ["depth", "kv_heads", "vocab_size", "window"])]
    pub(crate) model: Option<String>,
    /// Rank of the adapter, which all matrices of a layer get.
    #[arg(long, value_name = "RANK", requires = "model", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) lora: Option<u16>,
    /// Share of every sequence, at its end, that is learnt: what is before it is read only, as a question is.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = parse_positive)]
    pub(crate) answer_share: f64,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    /// Sequences of a step.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) sequences: u32,
    /// Steps that are timed.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) steps: u32,
    /// What products are computed in.
    #[arg(long, value_name = "TYPE", default_value = "bf16", value_parser = ["bf16", "f32"])]
    pub(crate) products: String,
    /// Who moves the matrices inside layers.
    #[arg(long, value_name = "NAME", default_value = "adamw", value_parser = ["muon", "adamw"])]
    pub(crate) optimizer: String,
    /// Compute layers again on the way back instead of keeping what they made.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is looked at before anything is trained.
#[derive(Debug, Clone, Args)]
pub(crate) struct ShowArgs {
    /// Print N records with what is learnt marked, and train nothing.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) show: Option<u32>,
    /// Pass over so many records before the first that is shown.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "show")]
    pub(crate) show_from: u64,
}

/// How a run is computed and watched; nothing of it changes what comes out.
#[derive(Debug, Clone, Args)]
pub(crate) struct WatchArgs {
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Compute layers again on the way back instead of keeping what they made: a third more work, far less memory.
    #[arg(long)]
    pub(crate) recompute: bool,
    /// What happens as JSON, an object on each line, as in log.jsonl.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Control tokens of a new vocabulary: what stands between texts, and what a chat is made of.
pub(crate) const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// Printed under `daybreak train tokenizer --help`.
const TEXTS: &str = "\
Texts are files or folders: plain text and Markdown (a file is a document), HTML (a page is a document), JSONL (a line is a
document: the field \"text\", or a chat's \"messages\"), and all of these in .gz and .zip. DIR gets tokenizer.json, which
`tokenizers` and `transformers` read, and tokenizer.gguf, which `daybreak tokenize` and llama.cpp read.

  daybreak train tokenizer books/ chats.jsonl.gz --out my-tokenizer --vocab-size 8192
  daybreak tokenize my-tokenizer/tokenizer.gguf \"some text\"";

/// `daybreak train tokenizer`
#[derive(Debug, Args)]
#[command(after_help = TEXTS)]
pub(crate) struct TrainTokenizer {
    /// Files and folders to learn from.
    #[arg(value_name = "TEXT", required = true, value_hint = ValueHint::AnyPath)]
    pub(crate) texts: Vec<PathBuf>,
    /// The folder to write.
    #[arg(short, long = "out", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// Tokens in all: special tokens, the 256 bytes, and what is merged.
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    pub(crate) vocab_size: u32,
    /// A control token; give it again for each. The first ends a text.
    #[arg(long = "special-token", value_name = "TEXT", default_values = SPECIAL_TOKENS)]
    pub(crate) special_tokens: Vec<String>,
    /// How text is cut into words before anything is merged, by the name that GGUF files have for it. qwen2 keeps
    /// digits apart; deepseek-coder does so too and keeps Chinese apart from Latin letters.
    #[arg(long, value_name = "NAME", default_value = "qwen2")]
    pub(crate) pre: String,
    /// Pairs that occur less often are not merged.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) min_count: u64,
    /// Leave out records that cannot be read, and name the first of them at the end.
    #[arg(long)]
    pub(crate) skip_broken: bool,
    /// Write into DIR even if it is not empty.
    #[arg(long)]
    pub(crate) force: bool,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads that count [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Printed under `daybreak train export --help`.
const EXPORTED: &str = "\
DIR becomes a folder that `transformers` loads: model.safetensors, config.json and
generation_config.json, and where the vocabulary is byte-level BPE also tokenizer.json and
tokenizer_config.json with the chat template. On the way each weight takes four bytes of memory.
`daybreak quantize` writes GGUF.

  daybreak train export smollm2 --out smollm2-hf --type bf16
  AutoModelForCausalLM.from_pretrained(\"smollm2-hf\")";

/// `daybreak train export`
#[derive(Debug, Args)]
#[command(after_help = EXPORTED)]
pub(crate) struct TrainExport {
    /// The model to read: catalog name or path.
    #[arg(value_name = "MODEL")]
    pub(crate) model: String,
    /// The folder to write.
    #[arg(short, long = "out", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) output: PathBuf,
    /// The format: safetensors.
    #[arg(long, value_name = "FORMAT", default_value = "safetensors", value_parser = export_format())]
    #[arg(hide_possible_values = true)]
    pub(crate) format: ExportFormat,
    /// The type of the weights: f32 keeps every number, bf16 and f16 take half the room.
    #[arg(long = "type", value_name = "TYPE", default_value = "f32", value_parser = export_type())]
    #[arg(hide_possible_values = true)]
    pub(crate) dtype: trainer::HuggingFaceDtype,
    /// Write into DIR even if it is not empty.
    #[arg(long)]
    pub(crate) force: bool,
    /// Threads that read the weights [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// What a model is written as.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExportFormat {
    /// Hugging Face's folder.
    Safetensors,
}

fn export_format() -> impl TypedValueParser<Value = ExportFormat> {
    PossibleValuesParser::new(["safetensors"]).map(|_| ExportFormat::Safetensors)
}

fn export_type() -> impl TypedValueParser<Value = trainer::HuggingFaceDtype> {
    PossibleValuesParser::new(["f32", "bf16", "f16"]).map(|name| match name.as_str() {
        "f32" => trainer::HuggingFaceDtype::F32,
        "bf16" => trainer::HuggingFaceDtype::BF16,
        _ => trainer::HuggingFaceDtype::F16,
    })
}
