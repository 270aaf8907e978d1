//! `daybreak train merge`: its flags.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{DataArgs, parse_adapter, parse_file_type};

/// Printed under `daybreak train merge --help`.
const MERGE: &str = "\
What the adapters add is put into the weights, and the result is a model like any other. Tensors that no adapter touches are
copied as they are. Those that are touched keep their number format, too: in a quantised model they are quantised again and
lose a little; merge into the original where there is one, and quantise afterwards, or in one go with --type.

  daybreak train merge smollm2 nurse.gguf -o smollm2-nurse.gguf
  daybreak train merge model-f16.gguf nurse.gguf:0.7 polite.gguf -o both.gguf --type Q4_K_M";

/// `daybreak train merge`
#[derive(Debug, Args)]
#[command(after_help = MERGE)]
pub(crate) struct TrainMerge {
    /// The model that the adapters were made for: catalog name or path.
    #[arg(value_name = "MODEL")]
    pub(crate) base: String,
    /// The adapters; each counts with its scale, 1 if not said otherwise.
    #[arg(value_name = "ADAPTER[:SCALE]", required = true, value_parser = parse_adapter, value_hint = ValueHint::FilePath)]
    pub(crate) adapters: Vec<models::AdapterFile>,
    /// The file to write.
    #[arg(short, long = "out", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// Number format of the whole file, as for `daybreak quantize` [default: each tensor keeps its own].
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_file_type)]
    pub(crate) file_type: Option<weights::FileType>,
    /// Replace FILE if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}
