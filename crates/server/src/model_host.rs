//! Which models are loaded, being loaded, being downloaded or broken; from a name to a model that answers.
//!
//! [`ModelHost::get`] is the one way to a model: one that is loaded is handed out, one that lies on this disk is
//! loaded first, a broken one is named with its error. Whoever holds the `Arc` keeps the model in memory; when
//! another needs the memory, the one that nobody holds and that was used least recently goes
//! (`model_host/loading.rs`). Downloads are in `model_host/downloads.rs`, lists in `model_host/listing.rs`.

mod downloads;
mod listing;
mod loading;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Instant, SystemTime};

use engine::{Engine, Isa, PromptLookup};
use models::{AdapterFile, Library, LocalModel, OpenModel, ResolveError};
use tokenizer::GrammarCompiler;
use tokio::sync::watch;

pub(crate) use listing::{ListedModel, ModelState};

use crate::error::ApiError;
use downloads::Download;

/// The length of a conversation for which a model's memory is estimated before it is loaded, in tokens.
pub(crate) const DEFAULT_CTX: usize = 8192;

/// What the host is told; plain values of [`crate::config::ServerConfig`].
#[derive(Debug, Clone)]
pub(crate) struct HostConfig {
    pub(crate) library: Library,
    pub(crate) pull: models::Settings,
    pub(crate) n_threads: usize,
    pub(crate) isa: Isa,
    pub(crate) ctx: Option<usize>,
    pub(crate) kv_memory_bytes: Option<u64>,
    pub(crate) chat_template: Option<String>,
    pub(crate) max_running: usize,
    pub(crate) max_queue: usize,
    pub(crate) prompt_lookup: PromptLookup,
    pub(crate) max_downloads: usize,
    pub(crate) max_model_bytes: Option<u64>,
}

/// A model in memory.
pub(crate) struct LoadedModel {
    /// Its full name.
    pub(crate) name: String,
    /// Tokenizer, template, configuration.
    pub(crate) open: OpenModel,
    /// The engine that runs it.
    pub(crate) engine: Engine,
    /// Compiles the forms that its answers must have.
    pub(crate) grammars: GrammarCompiler,
    /// Bytes it takes with all its keys and values.
    pub(crate) memory_bytes: u64,
    /// Of its (first) file, and of each adapter's.
    digests: Vec<OnceLock<String>>,
}

impl LoadedModel {
    /// The longest conversation in tokens.
    pub(crate) fn max_seq_len(&self) -> usize {
        self.engine.max_seq_len()
    }

    /// Digest of its (first) file, lower-case hex; none until it has been computed in the background.
    pub(crate) fn sha256(&self) -> Option<String> {
        self.digests[0].get().cloned()
    }

    /// What changes its weights: the name of each file, its digest as for `sha256`, and how much of it.
    pub(crate) fn adapters(&self) -> impl Iterator<Item = (String, Option<String>, f32)> {
        let digests = self.digests[1..].iter().map(|digest| digest.get().cloned());
        self.open.adapter_files().zip(digests).map(|((file, scale), digest)| (file.name, digest, scale))
    }

    /// Digest of its chat template's source.
    pub(crate) fn template_hash(&self) -> String {
        self.open.template_sha256.clone()
    }
}

/// Why a model could not be loaded; kept so that everyone who asks is told.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Its file, or what its engine made of it.
    Broken { code: &'static str, reason: String },
    /// The machine is too small, or too full.
    NoMemory { needed: u64, available: u64 },
}

impl Failure {
    fn to_error(&self, model: &str) -> ApiError {
        let model = model.to_string();
        match self.clone() {
            Failure::Broken { code, reason } => ApiError::ModelFailed { model, code, reason },
            Failure::NoMemory { needed, available } => ApiError::NotEnoughMemory { model, needed, available },
        }
    }
}

/// How far a load is.
#[derive(Clone)]
enum LoadStatus {
    /// From 0 to 1.
    Loading(f32),
    Done(Result<Arc<LoadedModel>, Failure>),
}

/// What is known of a model beyond its files.
enum Slot {
    Loading(watch::Receiver<LoadStatus>),
    Loaded {
        model: Arc<LoadedModel>,
        used_at: Instant,
    },
    /// With the file it was found in: another file is another chance.
    Failed {
        failure: Failure,
        stamp: Option<FileStamp>,
    },
}

/// Tells one state of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
}

impl FileStamp {
    fn of(local: &LocalModel) -> Option<FileStamp> {
        let path = local.path().to_path_buf();
        let meta = std::fs::metadata(&path).ok()?;
        Some(FileStamp { path, len: meta.len(), modified: meta.modified().ok() })
    }
}

/// The models of this server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ModelHost {
    inner: Arc<Inner>,
}

struct Inner {
    config: HostConfig,
    state: Mutex<HostState>,
    /// One load at a time: each must see the memory that the one before has left.
    load_gate: tokio::sync::Mutex<()>,
}

struct HostState {
    default_name: String,
    slots: HashMap<String, Slot>,
    downloads: HashMap<String, Download>,
    /// Models that the person who started the server named by path, or gave adapters, and those of runs.
    files: HashMap<String, NamedFile>,
}

/// A model that is known to this server alone.
#[derive(Clone)]
struct NamedFile {
    local: LocalModel,
    adapters: Vec<AdapterFile>,
}

impl ModelHost {
    pub(crate) fn new(config: HostConfig, default_name: String) -> ModelHost {
        let state = HostState {
            default_name,
            slots: HashMap::new(),
            downloads: HashMap::new(),
            files: HashMap::new(),
        };
        ModelHost {
            inner: Arc::new(Inner {
                config,
                state: Mutex::new(state),
                load_gate: tokio::sync::Mutex::new(()),
            }),
        }
    }

    /// The model of this name, loaded if need be.
    pub(crate) async fn get(&self, name: &str) -> Result<Arc<LoadedModel>, ApiError> {
        self.get_watching(name, |_| {}).await
    }

    /// The named model, or the default one.
    pub(crate) async fn get_or_default(&self, name: Option<&str>) -> Result<Arc<LoadedModel>, ApiError> {
        match name {
            Some(name) => self.get(name).await,
            None => self.get(&self.default_name()).await,
        }
    }

    /// As [`ModelHost::get`], telling how far the loading is, from 0 to 1.
    pub(crate) async fn get_watching(
        &self,
        name: &str,
        mut on_progress: impl FnMut(f32) + Send,
    ) -> Result<Arc<LoadedModel>, ApiError> {
        let name = self.catalog_name(name);
        if let Some(model) = self.loaded(&name) {
            return Ok(model);
        }
        let mut status = self.begin_load(&name, false).await?;
        loop {
            let now = status.borrow_and_update().clone();
            match now {
                LoadStatus::Loading(progress) => on_progress(progress),
                LoadStatus::Done(outcome) => return outcome.map_err(|failure| failure.to_error(&name)),
            }
            if status.changed().await.is_err() {
                return Err(ApiError::Internal { reason: "a model was being loaded and was lost" });
            }
        }
    }

    /// Begins to load a model without waiting for it; one that has failed before gets another chance.
    pub(crate) async fn load(&self, name: &str) -> Result<(), ApiError> {
        let name = self.catalog_name(name);
        match self.loaded(&name) {
            Some(_) => Ok(()),
            None => self.begin_load(&name, true).await.map(|_| ()),
        }
    }

    /// The name under which a model is listed, from a name, alias or beginning of one.
    pub(crate) async fn full_name(&self, name: &str) -> Result<String, ApiError> {
        let name = self.catalog_name(name);
        let is_known = self.state().slots.contains_key(&name);
        if is_known { Ok(name) } else { Ok(self.find(&name).await?.name) }
    }

    /// The model that answers when none is named.
    pub(crate) fn default_name(&self) -> String {
        self.state().default_name.clone()
    }

    pub(crate) fn set_default(&self, name: &str) {
        self.state().default_name = name.to_string();
    }

    /// The model of this name if it is in memory.
    pub(crate) fn loaded(&self, name: &str) -> Option<Arc<LoadedModel>> {
        let name = self.catalog_name(name);
        let mut state = self.state();
        let Some(Slot::Loaded { model, used_at }) = state.slots.get_mut(&name) else { return None };
        if model.engine.health().is_err() {
            // It panicked, and starts anew with the next request.
            state.slots.remove(&name);
            return None;
        }
        *used_at = Instant::now();
        Some(Arc::clone(model))
    }

    /// Whether a request may name this model: it is known and on this disk. Loads nothing.
    pub(crate) async fn check(&self, name: &str) -> Result<(), ApiError> {
        match self.loaded(name) {
            Some(_) => Ok(()),
            None => self.find(&self.catalog_name(name)).await.map(|_| ()),
        }
    }

    /// All models in memory.
    pub(crate) fn all_loaded(&self) -> Vec<Arc<LoadedModel>> {
        let state = self.state();
        let mut loaded: Vec<_> = state
            .slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Loaded { model, .. } => Some(Arc::clone(model)),
                _ => None,
            })
            .collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        loaded
    }

    /// Whether any model is on its way into memory.
    pub(crate) fn is_loading(&self) -> bool {
        self.state().slots.values().any(|slot| matches!(slot, Slot::Loading(_)))
    }

    /// Takes a model that was downloaded off this disk and, once nobody uses it, out of memory.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), ApiError> {
        let name = self.full_name(name).await.unwrap_or_else(|_| name.to_string());
        if let Some(download) = self.state().downloads.get(&name)
            && download.is_running()
        {
            let reason = format!("model {name:?} is being downloaded: cancel that first");
            return Err(ApiError::Conflict { code: "model_busy", reason });
        }
        let (library, removed) = (self.inner.config.library.clone(), name.clone());
        let outcome = tokio::task::spawn_blocking(move || library.remove(&removed)).await;
        match outcome.map_err(|_| ApiError::Internal { reason: "a model was being removed" })? {
            Ok(_) => {
                let mut state = self.state();
                state.downloads.remove(&name);
                let slot = state.slots.remove(&name);
                drop(state);
                // Joins the engine's thread, if this was the last handle.
                tokio::task::spawn_blocking(move || drop(slot));
                Ok(())
            }
            Err(models::RemoveError::Resolve(error)) => Err(from_resolve(error)),
            Err(error) => Err(ApiError::Conflict { code: error.code(), reason: error.to_string() }),
        }
    }

    /// Takes a file that was named by its path under a name of its own, which it returns; likewise a model with
    /// adapters: `smollm2:135m+nurse`.
    pub(crate) async fn add_file(&self, path: &str, adapters: &[AdapterFile]) -> Result<String, ApiError> {
        let local = self.resolve(path).await?;
        let is_listed = local.origin != models::Origin::File;
        if is_listed && adapters.is_empty() {
            return Ok(local.name);
        }
        let mut name = if is_listed { local.name.clone() } else { stem(local.path()) };
        for adapter in adapters {
            name = format!("{name}+{}", stem(&adapter.path));
        }
        let local = LocalModel { name: name.clone(), ..local };
        let file = NamedFile { local, adapters: adapters.to_vec() };
        self.state().files.insert(name.clone(), file);
        Ok(name)
    }

    /// What it is to be run with.
    fn adapters_of(&self, name: &str) -> Vec<AdapterFile> {
        self.state().files.get(name).map_or_else(Vec::new, |file| file.adapters.clone())
    }

    /// Makes a file known under a name of its own, until [`ModelHost::forget_file`].
    pub(crate) fn name_file(&self, name: &str, path: PathBuf, adapters: Vec<AdapterFile>) {
        let paths = std::iter::once(&path).chain(adapters.iter().map(|adapter| &adapter.path));
        let size = paths.map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum();
        let (name, origin) = (name.to_string(), models::Origin::File);
        let local = LocalModel { name: name.clone(), paths: vec![path], size, origin, sha256: None };
        self.state().files.insert(name, NamedFile { local, adapters });
    }

    /// Whether a file was named so.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.state().files.contains_key(name)
    }

    /// Whether more belongs to a model than its file.
    pub(crate) fn has_adapters(&self, name: &str) -> bool {
        !self.adapters_of(name).is_empty()
    }

    /// A named file is a model no longer; whoever is using it may go on.
    pub(crate) fn forget_file(&self, name: &str) {
        let mut state = self.state();
        state.files.remove(name);
        let slot = state.slots.remove(name);
        drop(state);
        // Joins the engine's thread, if this was the last handle.
        tokio::task::spawn_blocking(move || drop(slot));
    }

    /// The catalog's name for a name or alias; other names as they are.
    fn catalog_name(&self, name: &str) -> String {
        if self.state().files.contains_key(name) {
            return name.to_string();
        }
        let entry = self.inner.config.library.catalog().find(name);
        entry.map_or_else(|| name.to_string(), |entry| entry.name.clone())
    }

    /// The file of a name that a request may use: no paths, these are the server's own affair.
    pub(crate) async fn find(&self, name: &str) -> Result<LocalModel, ApiError> {
        if let Some(file) = self.state().files.get(name) {
            return Ok(file.local.clone());
        }
        let unknown = || ApiError::ModelNotFound {
            reason: format!("unknown model {name:?}; GET /v1/models lists what this server has"),
        };
        if name.starts_with(['/', '.', '~']) || name.contains('\\') || name.ends_with(".gguf") {
            return Err(unknown());
        }
        match self.resolve(name).await {
            Ok(local) if local.origin == models::Origin::File => Err(unknown()),
            other => other,
        }
    }

    async fn resolve(&self, name: &str) -> Result<LocalModel, ApiError> {
        let (library, name) = (self.inner.config.library.clone(), name.to_string());
        let outcome = tokio::task::spawn_blocking(move || library.resolve(&name)).await;
        outcome
            .map_err(|_| ApiError::Internal { reason: "a model was being looked for" })?
            .map_err(from_resolve)
    }

    fn state(&self) -> MutexGuard<'_, HostState> {
        self.inner.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A file's name without its ending.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn from_resolve(error: ResolveError) -> ApiError {
    let reason = error.to_string();
    match error {
        ResolveError::NotHere { .. } => ApiError::ModelNotDownloaded { reason },
        _ => ApiError::ModelNotFound { reason },
    }
}
