//! The library: which models are on this disk, and which file is this name?
//!
//! Models lie in our own folder (downloaded by `pull`), in a folder that several data directories share, and in
//! the caches of other programs (`library/caches.rs`), whose files are used where they are. Names are looked
//! for in that order.

mod caches;
mod hashes;
mod nearest;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use caches::CacheFolders;

use crate::catalog::{Catalog, CatalogEntry};
use crate::hub_name::HubName;
use crate::manifest::{self, Manifest};
use crate::quant;

/// Where models lie on this machine.
#[derive(Debug, Clone)]
pub struct LibraryConfig {
    /// Our own folder, `<data>/models`; downloads go here.
    pub models_dir: PathBuf,
    /// A folder shared by several data directories, for example `~/.cache/daybreak/models`; only read.
    pub shared_dir: Option<PathBuf>,
    /// Caches of other programs; only read.
    pub caches: CacheFolders,
    /// The models that have names.
    pub catalog: Catalog,
}

/// The models on this disk. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Library {
    config: Arc<LibraryConfig>,
    hashes: Arc<hashes::HashMemory>,
}

/// Who has put a model on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// We did; `remove` takes it away again.
    Pulled,
    /// It lies in the shared folder.
    Shared,
    /// The Hugging Face cache.
    HuggingFace,
    /// Ollama.
    Ollama,
    /// LM Studio.
    LmStudio,
    /// A file that was named by its path.
    File,
}

impl Origin {
    /// Word for lists and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Pulled => "pulled",
            Origin::Shared => "shared",
            Origin::HuggingFace => "huggingface",
            Origin::Ollama => "ollama",
            Origin::LmStudio => "lmstudio",
            Origin::File => "file",
        }
    }
}

/// A model on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalModel {
    /// Name by which it can be asked for.
    pub name: String,
    /// Its files in order; more than one when it is split.
    pub paths: Vec<PathBuf>,
    /// Length of all files together in bytes.
    pub size: u64,
    /// Who put it there.
    pub origin: Origin,
    /// Digest of the (first) file, when it is known without computing it.
    pub sha256: Option<String>,
}

impl LocalModel {
    /// The file to open.
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }
}

/// Why a name is no model here.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Known, but not on this disk.
    #[error("model {name:?} is not on this machine: run `daybreak pull {name}`{}", size_hint(*file_size))]
    NotHere {
        /// Full name.
        name: String,
        /// Length of its file, when known.
        file_size: Option<u64>,
    },
    /// Nothing of that name.
    #[error(
        "unknown model {name:?}{}: `daybreak models` lists what is here, `daybreak pull NAME` or `daybreak pull hf:OWNER/REPO` fetches one",
        nearest_hint(nearest)
    )]
    Unknown {
        /// As asked for.
        name: String,
        /// Names that look like it.
        nearest: Vec<String>,
    },
    /// Several models begin like that.
    #[error("model {name:?} could be any of {}: give the whole name", names.join(", "))]
    Ambiguous {
        /// As asked for.
        name: String,
        /// What it could be.
        names: Vec<String>,
    },
    /// A path that holds no model file.
    #[error("{}: expected a GGUF file, found {found}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: String,
    },
}

impl ResolveError {
    /// Word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            ResolveError::NotHere { .. } => "model_not_downloaded",
            ResolveError::Unknown { .. } => "model_not_found",
            ResolveError::Ambiguous { .. } => "model_ambiguous",
            ResolveError::NotAFile { .. } => "not_a_model_file",
        }
    }
}

fn size_hint(file_size: Option<u64>) -> String {
    file_size.map_or(String::new(), |size| format!(" ({})", crate::byte_count::show(size)))
}

fn nearest_hint(nearest: &[String]) -> String {
    if nearest.is_empty() { String::new() } else { format!(" (did you mean {}?)", nearest.join(", ")) }
}

/// Why a model was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No such model.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// It belongs to someone else.
    #[error("model {name:?} was not downloaded by daybreak: it lies in {}", path.display())]
    NotOurs {
        /// The model.
        name: String,
        /// Where it lies.
        path: PathBuf,
    },
    /// It is being downloaded right now.
    #[error("model {name:?} is being downloaded by another process: stop that first")]
    Busy {
        /// The model.
        name: String,
    },
    /// The system refused.
    #[error("cannot remove {}: {source}", path.display())]
    Io {
        /// What was to be removed.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RemoveError {
    /// Word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            RemoveError::Resolve(error) => error.code(),
            RemoveError::NotOurs { .. } => "model_not_ours",
            RemoveError::Busy { .. } => "model_busy",
            RemoveError::Io { .. } => "io_error",
        }
    }
}

impl Library {
    /// A library over these folders. Nothing is read or created yet.
    pub fn new(config: LibraryConfig) -> Library {
        let hashes = Arc::new(hashes::HashMemory::new(config.models_dir.join("hashes.json")));
        Library { config: Arc::new(config), hashes }
    }

    /// The models that have names.
    pub fn catalog(&self) -> &Catalog {
        &self.config.catalog
    }

    /// Our own folder.
    pub fn models_dir(&self) -> &Path {
        &self.config.models_dir
    }

    /// Every model on this disk: ours, then the shared ones, then those of other programs; a file that two
    /// programs share is told once. Folders that cannot be read count as empty.
    pub fn list(&self) -> Vec<LocalModel> {
        let mut models = pulled(&self.config.models_dir);
        if let Some(folder) = &self.config.shared_dir {
            models.extend(self.shared(folder));
        }
        models.extend(self.config.caches.scan());
        for model in &mut models {
            if model.sha256.is_none() {
                model.sha256 = self.hashes.recall(model.path());
            }
        }
        let mut seen = std::collections::HashSet::new();
        models.retain(|model| {
            let place = std::fs::canonicalize(model.path()).unwrap_or_else(|_| model.path().to_path_buf());
            seen.insert(place) && seen.insert(PathBuf::from(format!("name\0{}", model.name)))
        });
        models
    }

    /// Files of the shared folder: catalog entries by their file name, others as they are called.
    fn shared(&self, folder: &Path) -> Vec<LocalModel> {
        let mut models = pulled(folder);
        for model in &mut models {
            model.origin = Origin::Shared;
        }
        for model in caches::loose_files(folder, Origin::Shared) {
            if models.iter().any(|known| known.paths.contains(&model.paths[0])) {
                continue;
            }
            let stem = model.path().file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
            let entry = self.config.catalog.entries().iter().find(|entry| Some(entry.file_stem()) == stem);
            // A file of another length is another model, whatever it is called.
            match entry {
                Some(entry) if entry.unverified || entry.file_size == model.size => {
                    models.push(LocalModel { name: entry.name.clone(), ..model });
                }
                _ => models.push(model),
            }
        }
        models
    }

    /// The model that is meant by a catalog name, `hf:OWNER/REPO[:QUANT]`, the name of a listed model, its
    /// unmistakable beginning, or a path.
    pub fn resolve(&self, name: &str) -> Result<LocalModel, ResolveError> {
        if name.is_empty() {
            return Err(ResolveError::Unknown { name: String::new(), nearest: Vec::new() });
        }
        if let Some(model) = at_path(name)? {
            return Ok(LocalModel { sha256: self.hashes.recall(model.path()), ..model });
        }
        let models = self.list();
        if let Some(entry) = self.config.catalog.find(name) {
            return self.find_entry(entry, models);
        }
        let lower = name.to_lowercase();
        if let Some(hub) = HubName::parse(name) {
            let wanted = hub.to_string().to_lowercase();
            return of_hub_name(models, &hub, &wanted)
                .ok_or(ResolveError::NotHere { name: hub.to_string(), file_size: None });
        }
        if let Some(model) = models.iter().find(|model| model.name.to_lowercase() == lower) {
            return Ok(model.clone());
        }
        let begins: Vec<&LocalModel> =
            models.iter().filter(|model| model.name.to_lowercase().starts_with(&lower)).collect();
        match begins.as_slice() {
            [one] => Ok((*one).clone()),
            [] => Err(self.unknown(name, &models)),
            several => Err(ResolveError::Ambiguous {
                name: name.to_string(),
                names: several.iter().map(|model| model.name.clone()).collect(),
            }),
        }
    }

    /// The catalog entry's model among `models`: by name, else by digest.
    fn find_entry(&self, entry: &CatalogEntry, models: Vec<LocalModel>) -> Result<LocalModel, ResolveError> {
        let by_name = models.iter().position(|model| {
            model.name == entry.name && matches!(model.origin, Origin::Pulled | Origin::Shared)
        });
        let by_digest = || {
            let digest = entry.sha256.as_ref()?;
            models.iter().position(|model| model.sha256.as_ref() == Some(digest))
        };
        match by_name.or_else(by_digest) {
            Some(idx) => Ok(LocalModel { name: entry.name.clone(), ..models[idx].clone() }),
            None => Err(ResolveError::NotHere { name: entry.name.clone(), file_size: Some(entry.file_size) }),
        }
    }

    pub(crate) fn unknown(&self, name: &str, models: &[LocalModel]) -> ResolveError {
        let catalog_names = self.config.catalog.entries().iter().map(|entry| entry.name.as_str());
        let names = catalog_names.chain(models.iter().map(|model| model.name.as_str()));
        let nearest = match HubName::parse(&format!("hf:{name}")) {
            // `OWNER/REPO` is written like a repository of the hub.
            Some(hub) => vec![hub.to_string()],
            None => nearest::nearest(name, names),
        };
        ResolveError::Unknown { name: name.to_string(), nearest }
    }

    /// Takes a model that we downloaded off this disk, or what there is of an unfinished download.
    /// Returns the bytes that are free again.
    pub fn remove(&self, name: &str) -> Result<u64, RemoveError> {
        let folder = &self.config.models_dir;
        let full_name = match (self.config.catalog.find(name), HubName::parse(name)) {
            (Some(entry), _) => entry.name.clone(),
            (None, Some(hub)) => hub.to_string(),
            (None, None) => name.to_string(),
        };
        let model = match self.resolve(name) {
            Ok(model) if model.origin == Origin::Pulled => Some(model),
            Ok(model) => {
                return Err(RemoveError::NotOurs {
                    name: model.name.clone(),
                    path: model.path().to_path_buf(),
                });
            }
            Err(error) => {
                if !has_parts(folder, &stem_of(&full_name)) {
                    return Err(error.into());
                }
                None
            }
        };
        let name = model.as_ref().map_or(full_name, |model| model.name.clone());
        let stem = stem_of(&name);
        let lock = crate::pull_lock::PullLock::try_take(folder, &stem)
            .map_err(|source| RemoveError::Io { path: folder.clone(), source })?
            .ok_or(RemoveError::Busy { name })?;
        let mut paths = vec![manifest::path(folder, &stem)];
        paths.extend(model.into_iter().flat_map(|model| model.paths));
        paths.extend(parts_of(folder, &stem));
        let mut bytes = 0;
        for path in paths {
            let size = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Ok(()) => bytes += size,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(RemoveError::Io { path, source }),
            }
        }
        drop(lock);
        Ok(bytes)
    }

    /// The digest of the model's (first) file if it is known: from its download, its cache, or remembered.
    pub fn known_sha256(&self, model: &LocalModel) -> Option<String> {
        model.sha256.clone().or_else(|| self.hashes.recall(model.path()))
    }

    /// The digest of the model's (first) file; computed when it is not known, which takes a second or two
    /// per gigabyte, and then remembered by path, size, time and inode.
    pub fn sha256(&self, model: &LocalModel) -> io::Result<String> {
        match self.known_sha256(model) {
            Some(known) => Ok(known),
            None => self.hashes.compute(model.path()),
        }
    }
}

/// The models of a folder that have a manifest.
pub(crate) fn pulled(folder: &Path) -> Vec<LocalModel> {
    let mut models = Vec::new();
    for path in caches::sorted_entries(folder) {
        let stem = match (path.file_stem().and_then(|stem| stem.to_str()), path.extension()) {
            (Some(stem), Some(ending)) if ending == "json" => stem.to_string(),
            _ => continue,
        };
        if let Some(manifest) = Manifest::read(folder, &stem) {
            models.push(of_manifest(folder, &manifest));
        }
    }
    models
}

/// The model that a manifest describes.
pub(crate) fn of_manifest(folder: &Path, manifest: &Manifest) -> LocalModel {
    LocalModel {
        name: manifest.name.clone(),
        paths: manifest.files.iter().map(|file| folder.join(&file.file)).collect(),
        size: manifest.files.iter().map(|file| file.size).sum(),
        origin: Origin::Pulled,
        sha256: manifest.files.first().map(|file| file.sha256.clone()),
    }
}

/// Stem of the files of this model in a models folder; different names have different stems (no part of a
/// name holds two dashes in a row, and the catalog refuses two names with one stem).
pub(crate) fn stem_of(name: &str) -> String {
    match HubName::parse(name) {
        Some(hub) => hub.to_string().replace(['/', ':'], "--"),
        None => name.replace(':', "-"),
    }
}

/// Unfinished downloads of this stem, with their sidecars.
pub(crate) fn parts_of(folder: &Path, stem: &str) -> Vec<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy().into_owned());
        name.strip_prefix(stem).is_some_and(|rest| {
            let rest = quant::without_split_number(rest);
            [".gguf.part", ".gguf.part.json", ".wheels"].contains(&rest)
        })
    };
    caches::sorted_entries(folder).into_iter().filter(ours).collect()
}

fn has_parts(folder: &Path, stem: &str) -> bool {
    !parts_of(folder, stem).is_empty()
}

/// The file at a path, when the name is one: it exists, or it is written like a path to a model file.
fn at_path(name: &str) -> Result<Option<LocalModel>, ResolveError> {
    let path = Path::new(name);
    let like_a_path = name.ends_with(".gguf") || name.starts_with(['/', '.', '~']) || name.contains('\\');
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => {
            let paths = quant::split_siblings(path);
            let size = paths.iter().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())).sum();
            let name = name.to_string();
            Ok(Some(LocalModel { name, paths, size, origin: Origin::File, sha256: None }))
        }
        Ok(meta) if like_a_path || name.contains('/') => {
            let found = if meta.is_dir() { "a directory" } else { "something that is no regular file" };
            Err(ResolveError::NotAFile { path: path.to_path_buf(), found: found.to_string() })
        }
        Err(error) if like_a_path => {
            let found = match error.kind() {
                io::ErrorKind::NotFound => "no such file".to_string(),
                _ => error.to_string(),
            };
            Err(ResolveError::NotAFile { path: path.to_path_buf(), found })
        }
        _ => Ok(None),
    }
}

/// The model of a hub name: the exact quantisation, or the usual choice among those here when none is asked.
fn of_hub_name(models: Vec<LocalModel>, hub: &HubName, wanted: &str) -> Option<LocalModel> {
    if hub.quant.is_some() {
        return models.into_iter().find(|model| model.name.to_lowercase() == wanted);
    }
    let prefix = format!("{wanted}:");
    let rank = |model: &LocalModel| {
        let quant = model.name.rsplit(':').next().unwrap_or("").to_uppercase();
        quant::PREFERRED.iter().position(|known| *known == quant).unwrap_or(quant::PREFERRED.len())
    };
    (models.into_iter().filter(|model| model.name.to_lowercase().starts_with(&prefix))).min_by_key(rank)
}
