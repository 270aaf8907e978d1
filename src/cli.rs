//! The command line and its manual: every command, flag, default and exit code.

mod eval;
mod merge;
mod plan;
mod train;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use engine::PromptLookup;

pub(crate) use eval::{TemplateChoice, TrainEval};
pub(crate) use merge::TrainMerge;
pub(crate) use plan::{Plan, PriceArgs};
pub(crate) use train::{
    ExportFormat, Recipe, SPECIAL_TOKENS, ShowArgs, Train, TrainDpo, TrainExport, TrainPretrain, TrainRecipe,
    TrainResume, TrainSft, TrainSpeed, TrainStage, TrainTokenizer, TuneArgs, WatchArgs,
};

/// Printed under `daybreak --help`.
const EXIT_CODES: &str = "\
MODEL is a name from the catalog (`daybreak models --all` lists them; `smollm2` is short for
`smollm2:135m`) or a path to a .gguf file.

Exit codes:
  0    done
  1    it could not be done; one line on standard error says what, where and what to do
       (a damaged file, an unknown model, a port or data directory in use, a failed download …)
  2    the command line was not understood
  130  interrupted with Ctrl-C

Examples:
  daybreak serve                               the chat page and the APIs on http://localhost:8420
  daybreak run smollm2 \"why is the sky blue?\"
  cat report.txt | daybreak run smollm2 \"summarise this\"
  daybreak pull hf:Qwen/Qwen3-0.6B-GGUF:Q8_0   any GGUF repository of the Hugging Face hub";

/// Your own ChatGPT in one binary: pull a model, talk with it, serve it.
#[derive(Debug, Parser)]
#[command(name = "daybreak", version, max_term_width = 100, after_help = EXIT_CODES, disable_help_subcommand = false)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Say more on standard error (-v: what happens, -vv: every detail).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the chat page and the APIs.
    Serve(Serve),
    /// Talk with a model in the terminal.
    Chat(Chat),
    /// Answer one prompt and end; standard input, when piped, is added to the prompt.
    Run(Run),
    /// Download a model; an interrupted download goes on where it stopped.
    Pull(Pull),
    /// List the models on this disk (also those in the caches of Hugging Face, Ollama and LM Studio).
    Models(Models),
    /// Delete a downloaded model.
    Rm(Rm),
    /// Show what is in a model file or an adapter: metadata, tensors, the memory it will need.
    Inspect(Inspect),
    /// Show the token ids of a text.
    Tokenize(Tokenize),
    /// Measure prefill and decode speed, time to first token and memory.
    Bench(Bench),
    /// Write a model in another number format, smaller or more exact.
    Quantize(Quantize),
    /// Measure how well a model predicts a text, and how far it is from another.
    Perplexity(Perplexity),
    /// Make a model of your own from text, stage by stage.
    Train(Train),
    /// Work out what training a model takes: arithmetic, memory, time, energy, money; or what can be trained for them.
    Plan(Plan),
    /// Run a command apart from the server and note how it ended; the server calls it for training.
    #[command(hide = true)]
    JobWrapper(JobWrapper),
    /// Print the completion script for a shell (bash, zsh, fish, elvish, powershell).
    Completions {
        /// The shell to complete for.
        shell: clap_complete::Shell,
    },
}

/// Where models and conversations lie.
#[derive(Debug, Clone, Args)]
pub(crate) struct DataArgs {
    /// The data directory (models, conversations) [default: ~/.local/share/daybreak].
    #[arg(long, value_name = "DIR", env = "DAYBREAK_DATA", value_hint = ValueHint::DirPath)]
    pub(crate) data: Option<PathBuf>,

    /// One more catalog file, in the format of the built-in one; may be given several times.
    #[arg(long = "catalog", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) catalogs: Vec<PathBuf>,
}

/// What changes a model's weights.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct AdapterArgs {
    /// Run the model with a LoRA adapter, a GGUF file that was made for it; its scale is 1 if not said otherwise.
    /// May be given several times: they add up.
    #[arg(long = "adapter", value_name = "PATH[:SCALE]", value_parser = parse_adapter, value_hint = ValueHint::FilePath)]
    pub(crate) adapters: Vec<models::AdapterFile>,
}

/// How a model is run.
#[derive(Debug, Clone, Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,

    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,

    /// The longest conversation, in tokens [default: what the model was trained for, as far as the
    /// memory for keys and values holds it].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..))]
    pub(crate) ctx: Option<u32>,

    /// Memory for keys and values, shared by all conversations: bytes, or with K, M, G
    /// [default: two conversations of full length, at most a quarter of the memory].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) kv_memory: Option<u64>,

    /// Guess tokens from what stands in prompt and answer, which speeds up copying and editing text.
    /// Answers are the same, bit for bit: `auto` guesses where that is expected to pay, `always` whatever it costs.
    #[arg(long, default_value = "auto", value_name = "WHEN", value_parser = prompt_lookup())]
    pub(crate) prompt_lookup: PromptLookup,

    /// A Jinja chat template to use instead of the model's own.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) chat_template: Option<PathBuf>,
}

fn prompt_lookup() -> impl TypedValueParser<Value = PromptLookup> {
    PossibleValuesParser::new(["auto", "off", "always"]).map(|when| match when.as_str() {
        "off" => PromptLookup::Off,
        "always" => PromptLookup::Always,
        _ => PromptLookup::Auto,
    })
}

/// How the next token is chosen.
#[derive(Debug, Clone, Args)]
pub(crate) struct SamplingArgs {
    /// 0 always takes the likeliest token; higher is more varied.
    #[arg(long, default_value_t = 0.7)]
    pub(crate) temperature: f32,
    /// Keep the smallest set of tokens whose probability adds up to this.
    #[arg(long, default_value_t = 0.95)]
    pub(crate) top_p: f32,
    /// Keep the K likeliest tokens (0: all).
    #[arg(long, default_value_t = 40)]
    pub(crate) top_k: u32,
    /// Drop tokens less likely than this share of the likeliest.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) min_p: f32,
    /// Penalty on tokens of the last 64 (1: none).
    #[arg(long, default_value_t = 1.0)]
    pub(crate) repeat_penalty: f32,
    /// The same seed, model and prompt give the same answer; drawn when not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// The longest answer, in tokens [default: what fits].
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Instructions that stand before the conversation.
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// Ask a reasoning model to answer without its reasoning, where its template allows that.
    #[arg(long)]
    pub(crate) no_think: bool,
}

/// The form that an answer must have, at any temperature.
#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
pub(crate) struct FormArgs {
    /// The answer is JSON that this JSON Schema accepts.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) json_schema: Option<PathBuf>,
    /// The answer is a text of this grammar, in Lark's notation or in llama.cpp's GBNF.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) grammar: Option<PathBuf>,
    /// The regular expression matches the whole answer.
    #[arg(long, value_name = "R")]
    pub(crate) regex: Option<String>,
}

/// `daybreak serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// A model to load at the start; may be given several times, the first is the default
    /// [default: the last one used, else smollm2:135m, downloaded when it is not there].
    #[arg(short, long = "model", value_name = "MODEL")]
    pub(crate) models: Vec<String>,
    /// The address to listen on; beyond loopback an API key is required.
    #[arg(long, default_value = "127.0.0.1", value_name = "H")]
    pub(crate) host: String,
    /// Disk for what conversations were computed to, so that a long one goes on at once after a restart: bytes, or
    /// with K, M, G; 0 keeps nothing. It is deleted with its conversation, the least recently used first.
    #[arg(long, default_value = "1G", value_name = "BYTES", value_parser = parse_bytes_or_0)]
    pub(crate) kv_disk: u64,
    /// The port to listen on (0: any free one).
    #[arg(short, long, default_value_t = 8420, value_name = "P")]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) data: DataArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Clients must show this key: `Authorization: Bearer KEY`; the page asks for it once.
    #[arg(long, value_name = "KEY", env = "DAYBREAK_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// A host name under which a proxy or container is reached; may be given several times.
    #[arg(long = "allowed-host", value_name = "NAME")]
    pub(crate) allowed_hosts: Vec<String>,
    /// A web origin whose pages may call the API; may be given several times.
    #[arg(long = "cors-origin", value_name = "ORIGIN")]
    pub(crate) cors_origins: Vec<String>,
    /// Conversations in PostgreSQL instead of the data directory: postgres://…
    #[arg(long, value_name = "URL", env = "DAYBREAK_DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Open the page in a browser where there is a display.
    #[arg(long)]
    pub(crate) open: bool,
}

/// `daybreak chat`
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// Catalog name or path [default: smollm2:135m].
    pub(crate) model: Option<String>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Catalog name or path.
    pub(crate) model: String,
    /// The prompt; without it standard input is the prompt.
    pub(crate) prompt: Option<String>,
    /// Give the prompt to the model as it is, without the chat template.
    #[arg(long)]
    pub(crate) raw: bool,
    #[command(flatten)]
    pub(crate) form: FormArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak pull`
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Catalog name, or hf:OWNER/REPO[:QUANT] for any GGUF repository of the hub.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak models`
#[derive(Debug, Args)]
pub(crate) struct Models {
    /// Also list what the catalog offers for download.
    #[arg(short, long)]
    pub(crate) all: bool,
    /// One JSON array instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak rm`
#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// The downloaded model.
    pub(crate) model: String,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak inspect`
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// Catalog name or path.
    pub(crate) model: String,
    /// List every tensor and whole arrays.
    #[arg(short, long)]
    pub(crate) full: bool,
    /// The context length to compute the memory for [default: as `serve` would].
    #[arg(long, value_name = "N")]
    pub(crate) ctx: Option<u32>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak tokenize`
#[derive(Debug, Args)]
pub(crate) struct Tokenize {
    /// Catalog name or path.
    pub(crate) model: String,
    /// The text; without it standard input is read.
    pub(crate) text: Option<String>,
    /// Read special tokens in the text as such.
    #[arg(long)]
    pub(crate) special: bool,
    /// Begin with the token that the model begins with.
    #[arg(long)]
    pub(crate) bos: bool,
    /// Ids only, separated by blanks.
    #[arg(long)]
    pub(crate) ids: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `daybreak bench`
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Catalog name or path.
    #[arg(required_unless_present = "machine", conflicts_with = "machine")]
    pub(crate) model: Option<String>,
    /// Measure the machine instead: its integer and float peak and its read bandwidth, which bound every model.
    #[arg(long)]
    pub(crate) machine: bool,
    /// Answers at once; decode is then their sum.
    #[arg(short, long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) streams: u16,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
    /// Prompt tokens to read.
    #[arg(short = 'p', long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) prompt_tokens: u32,
    /// Tokens to generate.
    #[arg(short = 'n', long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) new_tokens: u32,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Rounds; best and median are reported.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) rounds: u32,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Add time, GB/s and operations/s of each phase.
    #[arg(long)]
    pub(crate) profile: bool,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// Printed under `daybreak quantize --help`.
const FORMATS: &str = "\
TYPE, with the size of a model of a billion parameters:
  F32     4.0 GB   F16, BF16  2.0 GB   plain floats
  Q8_0    1.1 GB   hardly to be told from the original
  Q6_K    0.8 GB   very close
  Q5_K_M  0.7 GB   close          Q5_K_S, Q5_1, Q5_0  a little smaller or faster
  Q4_K_M  0.6 GB   the usual one  Q4_K_S, Q4_1, Q4_0  a little smaller or faster

Each tensor gets the type that llama.cpp's quantiser would give it: vectors and norms stay as they
are, the output gets at least six bits, and a row that does not consist of whole blocks of 256 falls
back (Q4_K to Q5_0, Q5_K to Q5_1, Q6_K to Q8_0). The file loads in every program that reads GGUF.";

/// `daybreak quantize`
#[derive(Debug, Args)]
#[command(after_help = FORMATS)]
pub(crate) struct Quantize {
    /// The model to read: catalog name or path (of a split model any part).
    #[arg(value_name = "IN")]
    pub(crate) input: String,
    /// The file to write.
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q5_K_S, Q5_1, Q5_0, Q4_K_M, Q4_K_S, Q4_1 or Q4_0.
    #[arg(value_name = "TYPE", value_parser = parse_file_type)]
    pub(crate) file_type: weights::FileType,
    /// An importance matrix of llama.cpp's llama-imatrix (GGUF or .dat): errors count by it.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) imatrix: Option<PathBuf>,
    /// Also quantise tensors that are quantised already; what they lost stays lost.
    #[arg(long)]
    pub(crate) allow_requantize: bool,
    /// Every matrix in TYPE itself, without the finer types for some of them.
    #[arg(long)]
    pub(crate) pure: bool,
    /// Replace OUT if it exists.
    #[arg(long)]
    pub(crate) force: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

fn parse_file_type(name: &str) -> Result<weights::FileType, String> {
    weights::FileType::from_name(name).ok_or_else(|| {
        let names = weights::FileType::ALL.map(weights::FileType::name);
        format!("expected one of {}", names.join(", "))
    })
}

/// Printed under `daybreak perplexity --help`.
const PERPLEXITY_RULE: &str = "\
The text is cut into windows of --ctx tokens. In each the model's rule for a first token holds, and
the tokens of the second half are predicted, each from all before it in its window: the rule of
llama.cpp's llama-perplexity, whose figures are comparable. The files of --save-logits and --kl have
its format, too.

  daybreak perplexity model-f16.gguf text.txt --save-logits base.bin
  daybreak perplexity model-q4.gguf text.txt --kl base.bin";

/// `daybreak perplexity`
#[derive(Debug, Args)]
#[command(after_help = PERPLEXITY_RULE)]
pub(crate) struct Perplexity {
    /// Catalog name or path.
    pub(crate) model: String,
    /// The text; at least two windows long.
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) adapter: AdapterArgs,
    /// Tokens of a window [default: 512, or that of the --kl file].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(4..=(1 << 20)))]
    pub(crate) ctx: Option<u32>,
    /// Stop after this many windows [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) chunks: Option<u32>,
    /// Compare with the probabilities in this file: Kullback-Leibler divergence from it.
    #[arg(long, value_name = "BASE", value_hint = ValueHint::FilePath)]
    pub(crate) kl: Option<PathBuf>,
    /// Write the probabilities to this file, for --kl (2 bytes for each token of the vocabulary at each place).
    #[arg(long, value_name = "BASE", value_hint = ValueHint::FilePath, conflicts_with = "kl")]
    pub(crate) save_logits: Option<PathBuf>,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(crate) json: bool,
    /// Threads that compute [default: the physical cores].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    #[command(flatten)]
    pub(crate) data: DataArgs,
}

/// `nurse.gguf:0.5`: what stands behind the last colon is the scale if it is a number.
fn parse_adapter(text: &str) -> Result<models::AdapterFile, String> {
    let scaled = text.rsplit_once(':').and_then(|(path, scale)| Some((path, scale.parse::<f32>().ok()?)));
    let (path, scale) = scaled.unwrap_or((text, 1.0));
    if path.is_empty() {
        return Err("expected the path of a file".into());
    }
    if !scale.is_finite() {
        return Err(format!("a scale of {scale} is no finite number"));
    }
    Ok(models::AdapterFile { path: path.into(), scale })
}

/// `daybreak job-wrapper`
#[derive(Debug, Args)]
pub(crate) struct JobWrapper {
    /// How much of the processors is left to others, 0 to 19.
    #[arg(long, value_name = "N", default_value_t = 19, value_parser = clap::value_parser!(i32).range(0..=19))]
    pub(crate) nice: i32,
    /// Where to note it; without one the command takes the place of this process.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: Option<PathBuf>,
    /// The command.
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<std::ffi::OsString>,
}

fn parse_positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|x| x.is_finite() && *x > 0.0);
    number.ok_or_else(|| format!("{text:?} is not a number above zero"))
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = parse_positive(text).ok().filter(|share| *share <= 1.0);
    share.ok_or_else(|| format!("{text:?} is not a share; write a number above 0 and at most 1, like 0.4"))
}

/// `64M` → 67,108,864.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" | "KIB" => 1u64 << 10,
        "M" | "MB" | "MIB" => 1 << 20,
        "G" | "GB" | "GIB" => 1 << 30,
        other => return Err(format!("unknown unit {other:?}; use K, M or G, as in 64M")),
    };
    digits
        .parse::<f64>()
        .ok()
        .map(|number| number * unit as f64)
        .filter(|bytes| *bytes >= 1.0 && *bytes < 1e15)
        .map(|bytes| bytes as u64)
        .ok_or_else(|| format!("{text:?} is not a size; write it like 67108864, 64M or 1.5G"))
}

/// As `parse_bytes`, and 0 for none.
fn parse_bytes_or_0(text: &str) -> Result<u64, String> {
    if text.trim() == "0" { Ok(0) } else { parse_bytes(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_adapter_is_a_path_and_maybe_a_scale() {
        let cases =
            [("a.gguf", "a.gguf", 1.0), ("b/a.gguf:0.5", "b/a.gguf", 0.5), ("a:b.gguf:-2", "a:b.gguf", -2.0)];
        for (text, path, scale) in cases {
            assert_eq!(parse_adapter(text), Ok(models::AdapterFile { path: path.into(), scale }));
        }
        assert_eq!(parse_adapter("a:b.gguf").map(|file| file.scale), Ok(1.0));
        for nonsense in ["", ":1", "a.gguf:nan", "a.gguf:inf"] {
            assert!(parse_adapter(nonsense).is_err(), "{nonsense:?}");
        }
    }

    #[test]
    fn sizes_take_units_and_refuse_nonsense() {
        assert_eq!(parse_bytes("64M"), Ok(64 << 20));
        assert_eq!(parse_bytes("1.5g"), Ok(3 << 29));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for nonsense in ["", "M", "-1M", "0", "1X", "nan", "1e400"] {
            assert!(parse_bytes(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
