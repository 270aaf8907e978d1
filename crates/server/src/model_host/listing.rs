//! Every model there is, for lists: the catalog's, those on this disk, those being fetched, each in its state.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use models::{CatalogEntry, LocalModel, MachineMemory, estimate_memory, recommend};

use super::{DEFAULT_CTX, Failure, HostState, LoadStatus, LoadedModel, ModelHost, Slot};
use crate::error::ApiError;

/// How far a download is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownloadProgress {
    /// Bytes that are here.
    pub(crate) done: u64,
    /// Bytes of the whole model, when known.
    pub(crate) total: Option<u64>,
    /// Smoothed.
    pub(crate) bytes_per_second: u64,
    /// `waiting`, `connecting`, `checking`, `downloading` or `unpacking`.
    pub(crate) phase: &'static str,
}

/// What a model is doing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ModelState {
    /// It could be downloaded.
    Available,
    /// It is being downloaded.
    Downloading(DownloadProgress),
    /// It lies on this disk.
    Downloaded,
    /// It is on its way into memory, from 0 to 1.
    Loading(f32),
    /// It answers.
    Loaded,
    /// It could not be downloaded or loaded.
    Failed {
        /// A word for programs.
        code: &'static str,
        /// Why.
        message: String,
    },
}

/// One model of the page's list.
#[derive(Clone)]
pub(crate) struct ListedModel {
    /// Full name.
    pub(crate) name: String,
    /// The catalog's entry, if it has one.
    pub(crate) entry: Option<CatalogEntry>,
    /// Its file, if it is on this disk.
    pub(crate) local: Option<LocalModel>,
    /// What it is doing.
    pub(crate) state: ModelState,
    /// Bytes it needs, or takes.
    pub(crate) memory_needed: u64,
    /// Whether that fits beside what cannot be unloaded.
    pub(crate) fits: bool,
    /// Whether it is the one to recommend.
    pub(crate) recommended: bool,
    /// Whether it answers when none is named.
    pub(crate) default: bool,
    /// The loaded model, if it is.
    pub(crate) loaded: Option<Arc<LoadedModel>>,
}

/// One model of `/v1/models`.
#[derive(Debug, Clone)]
pub(crate) struct ServableModel {
    /// Full name.
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) created: i64,
    /// Whether it is in memory.
    pub(crate) loaded: bool,
    /// The longest conversation, when it is loaded.
    pub(crate) max_seq_len: Option<usize>,
}

impl ModelHost {
    /// Every model, for a person who speaks `language`: those on this disk, then the catalog's.
    pub(crate) async fn list(&self, language: &str) -> Result<Vec<ListedModel>, ApiError> {
        let here = self.local_models().await?;
        let catalog = self.inner.config.library.catalog();
        let memory = MachineMemory::read();
        let taken: u64 = self.all_loaded().iter().map(|model| model.memory_bytes).sum();
        let room = memory.available_bytes.saturating_add(taken);
        let recommended = recommend(catalog, language, room).map(|entry| entry.name.clone());
        let ctx = self.inner.config.ctx.unwrap_or(DEFAULT_CTX);
        let state = self.state();
        let mut names: Vec<String> = here.iter().map(|model| model.name.clone()).collect();
        let others = catalog.entries().iter().map(|entry| &entry.name).chain(state.downloads.keys());
        others.for_each(|name| {
            if !names.contains(name) {
                names.push(name.clone());
            }
        });
        let list = names.into_iter().map(|name| {
            let entry = catalog.entries().iter().find(|entry| entry.name == name).cloned();
            let local = here.iter().find(|model| model.name == name).cloned();
            let loaded = match state.slots.get(&name) {
                Some(Slot::Loaded { model, .. }) => Some(Arc::clone(model)),
                _ => None,
            };
            let memory_needed = match (&loaded, &entry, &local) {
                (Some(model), ..) => model.memory_bytes,
                (None, Some(entry), _) => estimate_memory(entry, ctx),
                // Weights take up to 1.15 times their file; what else there is stays below 512 MiB.
                (None, None, local) => local.as_ref().map_or(0, |local| local.size / 20 * 23 + (512 << 20)),
            };
            ListedModel {
                state: state_of(&state, &name, local.is_some()),
                memory_needed,
                fits: loaded.is_some() || memory.total_bytes == 0 || memory_needed <= room,
                recommended: recommended.as_ref() == Some(&name),
                default: state.default_name == name,
                name,
                entry,
                local,
                loaded,
            }
        });
        Ok(list.collect())
    }

    /// The models that a request may name, those in memory first.
    pub(crate) async fn servable(&self) -> Result<Vec<ServableModel>, ApiError> {
        let here = self.local_models().await?;
        let loaded = self.all_loaded();
        let mut servable: Vec<ServableModel> = here
            .into_iter()
            .map(|model| {
                let in_memory = loaded.iter().find(|loaded| loaded.name == model.name);
                ServableModel {
                    created: created(&model),
                    loaded: in_memory.is_some(),
                    max_seq_len: in_memory.map(|loaded| loaded.max_seq_len()),
                    name: model.name,
                }
            })
            .collect();
        servable.sort_by_key(|model| !model.loaded);
        Ok(servable)
    }

    /// The models on this disk, and those named by path at the start.
    async fn local_models(&self) -> Result<Vec<LocalModel>, ApiError> {
        let library = self.inner.config.library.clone();
        let listed = tokio::task::spawn_blocking(move || library.list()).await;
        let mut models = listed.map_err(|_| ApiError::Internal { reason: "models were being listed" })?;
        let mut files: Vec<LocalModel> = self.state().files.values().map(|file| file.local.clone()).collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        models.retain(|model| files.iter().all(|file| file.name != model.name));
        files.extend(models);
        Ok(files)
    }
}

fn state_of(state: &HostState, name: &str, is_here: bool) -> ModelState {
    if let Some(download) = state.downloads.get(name) {
        match download.failed() {
            None => return ModelState::Downloading(download.progress()),
            Some((code, message)) if !is_here => return ModelState::Failed { code, message },
            Some(_) => {}
        }
    }
    match state.slots.get(name) {
        Some(Slot::Loaded { .. }) => ModelState::Loaded,
        Some(Slot::Loading(status)) => match &*status.borrow() {
            LoadStatus::Loading(progress) => ModelState::Loading(*progress),
            LoadStatus::Done(_) => ModelState::Loading(1.0),
        },
        Some(Slot::Failed { failure, .. }) if is_here => {
            let message = failure.to_error(name).to_string();
            let code = match failure {
                Failure::Broken { code, .. } => code,
                Failure::NoMemory { .. } => "not_enough_memory",
            };
            ModelState::Failed { code, message }
        }
        _ if is_here => ModelState::Downloaded,
        _ => ModelState::Available,
    }
}

/// When the model's file was made, seconds since 1970.
fn created(model: &LocalModel) -> i64 {
    let modified = std::fs::metadata(model.path()).and_then(|meta| meta.modified());
    let since = modified.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}
