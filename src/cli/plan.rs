//! `daybreak plan`: its flags.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use trainer::plan::Amount;

use super::{DataArgs, parse_positive, parse_share};

/// Printed under `daybreak plan --help`.
const PLANS: &str = "\
MODEL is a catalog name, a path to a .gguf file, or gpt-3: the published figures of its training beside those computed
here. Without MODEL and --depth, --time and --budget find the model that makes the most of them (Hoffmann et al. 2022:
20 tokens for each parameter).

  daybreak plan gpt-3
  daybreak plan gpt-3 --on h100 --count 1024
  daybreak plan --depth 12 --on rtx-4090 --currency CNY
  daybreak plan --budget \"200 CNY\" --on rtx-4090      what can I train for 200 yuan?
  daybreak plan --time 8h                             what can I train overnight on this machine?

Money is what was stated on a day by a source that is named; rent grows with what a run wastes, and prices move.";

/// What a machine costs.
#[derive(Debug, Args)]
pub(crate) struct PriceArgs {
    /// The power of one machine, in watts; an accelerator's rated power is known.
    #[arg(long, value_name = "W", value_parser = parse_positive)]
    pub(crate) watts: Option<f64>,
    /// The rent of one machine, as in "$2" or "15 CNY"; an accelerator's is in its file.
    #[arg(long, value_name = "MONEY", value_parser = trainer::plan::parse_amount)]
    pub(crate) price_per_hour: Option<Amount>,
    /// What a kilowatt hour costs, where it is not part of the rent.
    #[arg(long, value_name = "MONEY", value_parser = trainer::plan::parse_amount)]
    pub(crate) price_per_kwh: Option<Amount>,
}

/// `daybreak plan`
#[derive(Debug, Args)]
#[command(after_help = PLANS)]
pub(crate) struct Plan {
    /// Catalog name, path, or gpt-3.
    pub(crate) model: Option<String>,
    /// Instead of MODEL: a new decoder of so many layers, 64 wide for each.
    #[arg(long, value_name = "N", conflicts_with = "model", value_parser = clap::value_parser!(u16).range(1..=trainer::MAX_DEPTH as i64))]
    pub(crate) depth: Option<u16>,
    /// Tokens in the vocabulary of a new decoder.
    #[arg(long, value_name = "N", default_value_t = 32_768, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) vocab_size: u32,
    /// A new decoder's output has the embeddings' weights, as with `daybreak train pretrain --tied`.
    #[arg(long, conflicts_with = "model")]
    pub(crate) tied: bool,
    /// A new decoder's layers see the last N tokens only, as with `daybreak train pretrain --window`.
    #[arg(long, value_name = "N", conflicts_with = "model", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: Option<u32>,
    /// Tokens to learn from, as in 300B or 2.5M [default: 20 for each weight of a product, or what --time and --budget allow].
    #[arg(long, value_name = "N", value_parser = trainer::plan::parse_count, conflicts_with_all = ["budget", "time"])]
    pub(crate) tokens: Option<u64>,
    /// Tokens of a sequence [default: 2048, or what the model was made for if that is less].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=(1 << 20)))]
    pub(crate) seq_len: Option<u32>,
    /// Sequences that are at work at a time, for the memory.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=(1 << 20)))]
    pub(crate) sequences: u32,
    /// The kind of machine: an accelerator's name, or here for this machine, which is measured [default: here; gpt-3: v100].
    #[arg(long, value_name = "NAME")]
    pub(crate) on: Option<String>,
    /// How many of them [default: 1; gpt-3: 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// The share of the machine's peak that training gets [default: 0.4; gpt-3: from the published time].
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) mfu: Option<f64>,
    #[command(flatten)]
    pub(crate) prices: PriceArgs,
    /// The currency to tell money in, and of amounts without one.
    #[arg(long, value_name = "CODE", value_parser = trainer::plan::parse_currency)]
    pub(crate) currency: Option<String>,
    /// What can be trained for this much, as in "200 CNY" or "$5".
    #[arg(long, value_name = "MONEY", value_parser = trainer::plan::parse_amount)]
    pub(crate) budget: Option<Amount>,
    /// What can be trained in this time, as in 8h, 30m or 2d.
    #[arg(long, value_name = "TIME", value_parser = trainer::plan::parse_duration)]
    pub(crate) time: Option<f64>,
    /// A file of accelerators and prices, in the form of the built-in one; may be given several times.
    #[arg(long = "accelerators", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) accelerators: Vec<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads that this machine is measured with [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}
