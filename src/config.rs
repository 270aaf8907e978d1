//! The one place that reads the environment: flags, environment and machine become the plain settings
//! that the crates are handed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use engine::{ContextPlan, ContextWish, EngineConfig, Isa};

use crate::cli::{AdapterArgs, DataArgs, EngineArgs};

/// `name` from the environment, when set and not empty.
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn home() -> Result<PathBuf> {
    std::env::home_dir()
        .filter(|home| !home.as_os_str().is_empty())
        .context("the home directory is not known: set HOME, or give --data DIR")
}

/// Where models and conversations lie: the flag, else `$XDG_DATA_HOME/daybreak`, else
/// `~/.local/share/daybreak`.
pub(crate) fn data_dir(flag: Option<PathBuf>) -> Result<PathBuf> {
    match (flag, var("XDG_DATA_HOME")) {
        (Some(dir), _) => Ok(dir),
        (None, Some(xdg)) => Ok(PathBuf::from(xdg).join("daybreak")),
        (None, None) => Ok(home()?.join(".local/share/daybreak")),
    }
}

/// Physical cores this process may use: threads that share a core compute no faster here.
pub(crate) fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, |n| n.get());
    allowed.min(physical_cores().unwrap_or(allowed)).max(1)
}

/// Distinct (package, core) pairs in `/proc/cpuinfo`.
fn physical_cores() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let mut cores = std::collections::BTreeSet::new();
    let mut package = "";
    for line in text.lines() {
        match line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) {
            Some(("physical id", id)) => package = id,
            Some(("core id", id)) => {
                cores.insert((package.to_owned(), id.to_owned()));
            }
            _ => {}
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// The models of this machine, and how more are fetched.
pub(crate) struct ModelSettings {
    pub(crate) library: models::Library,
    pub(crate) pull: models::Settings,
}

impl ModelSettings {
    /// From the flags that name the data directory and further catalogs.
    pub(crate) fn new(args: &DataArgs) -> Result<ModelSettings> {
        let shared_dir = match var("XDG_CACHE_HOME") {
            Some(cache) => Some(PathBuf::from(cache)),
            None => home().ok().map(|home| home.join(".cache")),
        };
        let library = models::Library::new(models::LibraryConfig {
            models_dir: data_dir(args.data.clone())?.join("models"),
            shared_dir: shared_dir.map(|cache| cache.join("daybreak/models")),
            caches: models::CacheFolders::from_vars(var),
            catalog: models::Catalog::with_files(&args.catalogs)?,
        });
        Ok(ModelSettings { library, pull: models::Settings::from_vars(var) })
    }

    /// The model of this name or path; one that is in the catalog but not here yet says how to get it.
    pub(crate) fn open(&self, name: &str, chat_template: Option<&Path>) -> Result<models::OpenModel> {
        self.open_adapted(name, chat_template, &AdapterArgs::default())
    }

    /// As `open`, with adapters.
    pub(crate) fn open_adapted(
        &self,
        name: &str,
        chat_template: Option<&Path>,
        adapters: &AdapterArgs,
    ) -> Result<models::OpenModel> {
        let local = self.library.resolve(name)?;
        let chat_template = read_template(chat_template)?;
        let options = models::OpenOptions { chat_template, adapters: adapters.adapters.clone() };
        Ok(models::OpenModel::open(&local, self.library.catalog(), &options)?)
    }
}

/// Largest chat template that is read: the longest in use are a hundredth of it.
const MAX_TEMPLATE_BYTES: u64 = 1 << 20;

/// The text of a `--chat-template` file.
pub(crate) fn read_template(path: Option<&Path>) -> Result<Option<String>> {
    let Some(path) = path else { return Ok(None) };
    let size = std::fs::metadata(path).with_context(|| format!("chat template {}", path.display()))?.len();
    if size > MAX_TEMPLATE_BYTES {
        bail!("chat template {} is {size} bytes long, at most {MAX_TEMPLATE_BYTES} are read", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("chat template {}", path.display()))?;
    Ok(Some(text))
}

/// The instruction set to compute with: what `DAYBREAK_ISA` names, else the best this machine has.
pub(crate) fn isa() -> Result<Isa> {
    let best = Isa::detect();
    let Some(name) = var("DAYBREAK_ISA") else { return Ok(best) };
    let isa = Isa::from_name(&name)
        .with_context(|| format!("DAYBREAK_ISA is {name:?}, expected scalar, avx2, avx512 or amx"))?;
    if !isa.is_available() {
        bail!("DAYBREAK_ISA asks for {}, but this processor has {} at most", isa.name(), best.name());
    }
    Ok(isa)
}

/// What one conversation at a terminal gets: the flags, else what the model was trained for and the machine holds.
pub(crate) fn context_plan(
    ctx: Option<u32>,
    kv_memory_bytes: Option<u64>,
    model: &weights::ModelConfig,
) -> ContextPlan {
    let wish = ContextWish { ctx: ctx.map(|ctx| ctx as usize), kv_memory_bytes, n_conversations: 1 };
    let total_bytes = models::MachineMemory::read().total_bytes;
    ContextPlan::new(wish, model.max_seq_len, engine::kv_bytes_per_token(model), total_bytes)
}

/// Engine settings for one person at a terminal: one sequence, the flags, the machine.
pub(crate) fn engine_config(args: &EngineArgs, model: &models::OpenModel) -> Result<EngineConfig> {
    let ContextPlan { max_seq_len, kv_memory_bytes } = context_plan(args.ctx, args.kv_memory, &model.config);
    Ok(EngineConfig {
        n_threads: args.threads.map_or_else(default_threads, usize::from),
        isa: isa()?,
        max_seq_len,
        kv_memory_bytes,
        max_batch_tokens: 512,
        max_running: 1,
        max_queue: 1,
        prompt_lookup: args.prompt_lookup,
    })
}

/// Whether a browser window could be shown.
pub(crate) fn has_display() -> bool {
    var("DISPLAY").is_some() || var("WAYLAND_DISPLAY").is_some()
}

/// The commit this binary was built from, when the build knew it.
pub(crate) fn commit() -> Option<String> {
    option_env!("DAYBREAK_COMMIT").filter(|commit| !commit.is_empty()).map(str::to_owned)
}
