//! The caches of other programs: GGUF files of Hugging Face, Ollama and LM Studio, used where they are.
//!
//! Hugging Face: `models--OWNER--REPO/snapshots/<commit>/**.gguf`, links to blobs that are named by their
//! sha256. Ollama: `manifests/<registry>/<owner>/<name>/<tag>` (JSON) names the blob `blobs/sha256-<hex>`.
//! LM Studio: `OWNER/REPO/**.gguf`. Everything read here was written by others, so depth, counts and lengths
//! are limited and nothing that cannot be read is an error.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{LocalModel, Origin};
use crate::digest::is_sha256;
use crate::manifest::read_json;
use crate::quant;

/// Deepest folder below a root that is looked into.
const MAX_DEPTH: usize = 6;
/// Most entries of one folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// Where other programs keep models. Folders that do not exist are fine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheFolders {
    /// Hugging Face hub caches, for example `~/.cache/huggingface/hub`.
    pub hugging_face: Vec<PathBuf>,
    /// Ollama's model folders, for example `~/.ollama/models`.
    pub ollama: Vec<PathBuf>,
    /// LM Studio's model folders, for example `~/.lmstudio/models`.
    pub lm_studio: Vec<PathBuf>,
}

impl CacheFolders {
    /// The usual places, with the variables that move them (`HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`,
    /// `OLLAMA_MODELS`), which `lookup` reads.
    pub fn from_vars(lookup: impl Fn(&str) -> Option<String>) -> CacheFolders {
        let var = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = var("HOME");
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let cache = var("XDG_CACHE_HOME").or_else(|| in_home(".cache"));
        let hugging_face = var("HF_HUB_CACHE")
            .or_else(|| var("HF_HOME").map(|folder| folder.join("hub")))
            .or_else(|| cache.as_ref().map(|folder| folder.join("huggingface/hub")));
        let ollama = match var("OLLAMA_MODELS") {
            Some(folder) => vec![folder],
            None => [in_home(".ollama/models"), Some(PathBuf::from("/usr/share/ollama/.ollama/models"))]
                .into_iter()
                .flatten()
                .collect(),
        };
        let lm_studio = [in_home(".lmstudio/models"), cache.map(|folder| folder.join("lm-studio/models"))];
        CacheFolders {
            hugging_face: hugging_face.into_iter().collect(),
            ollama,
            lm_studio: lm_studio.into_iter().flatten().collect(),
        }
    }

    /// All models in these folders.
    pub(crate) fn scan(&self) -> Vec<LocalModel> {
        let mut models = Vec::new();
        self.hugging_face.iter().for_each(|root| hugging_face(root, &mut models));
        self.ollama.iter().for_each(|root| ollama(root, &mut models));
        self.lm_studio.iter().for_each(|root| lm_studio(root, &mut models));
        models
    }
}

fn hugging_face(root: &Path, models: &mut Vec<LocalModel>) {
    for folder in sorted_entries(root) {
        let Some(repo) = folder.file_name().and_then(|name| name.to_str()?.strip_prefix("models--")) else {
            continue;
        };
        let repo = repo.replacen("--", "/", 1);
        // `refs/main` names the snapshot that is current; others follow.
        let current = std::fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
        let mut snapshots = sorted_entries(&folder.join("snapshots"));
        snapshots.sort_by_key(|path| path.file_name().is_none_or(|name| name != current.trim()));
        for snapshot in snapshots {
            for path in gguf_files(&snapshot) {
                let digest = std::fs::read_link(&path).ok().and_then(|target| {
                    let name = target.file_name()?.to_str()?.to_string();
                    is_sha256(&name).then_some(name)
                });
                let name = format!("hf:{repo}:{}", variant(&path));
                models.extend(local_model(name, path, Origin::HuggingFace, digest));
            }
        }
    }
}

/// What tells this file apart within its repository.
fn variant(path: &Path) -> String {
    let name = path.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
    quant::of_file_name(&name).unwrap_or_else(|| {
        let stem = name.strip_suffix(".gguf").unwrap_or(&name);
        quant::without_split_number(stem).to_uppercase()
    })
}

#[derive(Deserialize)]
struct OllamaManifest {
    layers: Vec<OllamaLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OllamaLayer {
    media_type: String,
    digest: String,
}

fn ollama(root: &Path, models: &mut Vec<LocalModel>) {
    let manifests = root.join("manifests");
    for path in files_below(&manifests, &|_| true) {
        let Ok(manifest) = read_json::<OllamaManifest>(&path) else {
            continue;
        };
        let model_layer = |layer: &&OllamaLayer| layer.media_type == "application/vnd.ollama.image.model";
        let Some(layer) = manifest.layers.iter().find(model_layer) else {
            continue;
        };
        let Some(digest) = layer.digest.strip_prefix("sha256:").filter(|digest| is_sha256(digest)) else {
            continue;
        };
        let parts: Vec<String> = path.strip_prefix(&manifests).map_or_else(
            |_| Vec::new(),
            |below| below.iter().map(|part| part.to_string_lossy().into_owned()).collect(),
        );
        let name = match parts.as_slice() {
            [registry, owner, name, tag] if registry == "registry.ollama.ai" && owner == "library" => {
                format!("ollama:{name}:{tag}")
            }
            [registry, owner, name, tag] if registry == "registry.ollama.ai" => {
                format!("ollama:{owner}/{name}:{tag}")
            }
            [registry, owner, name, tag] => format!("ollama:{registry}/{owner}/{name}:{tag}"),
            _ => continue,
        };
        let blob = root.join("blobs").join(format!("sha256-{digest}"));
        models.extend(local_model(name, blob, Origin::Ollama, Some(digest.to_string())));
    }
}

fn lm_studio(root: &Path, models: &mut Vec<LocalModel>) {
    for path in gguf_files(root) {
        let Ok(below) = path.strip_prefix(root) else {
            continue;
        };
        let folder =
            below.parent().map_or_else(Default::default, |folder| folder.to_string_lossy().into_owned());
        let name = format!("lmstudio:{folder}:{}", variant(&path));
        models.extend(local_model(name, path, Origin::LmStudio, None));
    }
}

/// GGUF files that lie in this folder itself, named by their stem.
pub(super) fn loose_files(folder: &Path, origin: Origin) -> Vec<LocalModel> {
    let files = sorted_entries(folder).into_iter().filter(|path| is_first_model_file(path));
    files
        .filter_map(|path| {
            let stem = path.file_stem()?.to_string_lossy().into_owned();
            local_model(quant::without_split_number(&stem).to_string(), path, origin, None)
        })
        .collect()
}

/// A model at this path, when there is one of some length.
fn local_model(name: String, path: PathBuf, origin: Origin, sha256: Option<String>) -> Option<LocalModel> {
    let paths = quant::split_siblings(&path);
    let mut size = 0;
    for path in &paths {
        let meta = std::fs::metadata(path).ok()?;
        if !meta.is_file() || meta.len() == 0 {
            return None;
        }
        size += meta.len();
    }
    Some(LocalModel { name, paths, size, origin, sha256 })
}

/// Whether this is the (first) file of a language model by its name.
fn is_first_model_file(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let lower = name.to_lowercase();
    let Some(stem) = name.strip_suffix(".gguf") else {
        return false;
    };
    let is_later_part = quant::without_split_number(stem).len() != stem.len() && !stem.contains("-00001-of-");
    !quant::is_side_file(&lower) && !is_later_part
}

/// Model files below this folder, first parts of split ones only.
fn gguf_files(root: &Path) -> Vec<PathBuf> {
    files_below(root, &is_first_model_file)
}

/// Files below `root` that `wanted` accepts, sorted.
fn files_below(root: &Path, wanted: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    fn visit(folder: &Path, depth: usize, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<PathBuf>) {
        for path in sorted_entries(folder) {
            // Links to folders are not followed, so that no loop can be built.
            let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir());
            if is_folder && depth < MAX_DEPTH {
                visit(&path, depth + 1, wanted, found);
            } else if !is_folder && found.len() < MAX_ENTRIES && wanted(&path) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    visit(root, 0, wanted, &mut found);
    found
}

/// What is in a folder, sorted; nothing when it cannot be read.
pub(super) fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> =
        entries.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
