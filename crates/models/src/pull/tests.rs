//! Downloads against a server that behaves like the hub, and pip against wheels made here.

#![allow(clippy::unwrap_used)]

mod hub_server;
mod interrupted;
mod names;
mod sources;
mod wheels;

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use hub_server::{Faults, HubServer};

use crate::cancel::Cancel;
use crate::catalog::{Catalog, CatalogEntry, Source};
use crate::library::{CacheFolders, Library, LibraryConfig, LocalModel};
use crate::pull::{Progress, PullError, pull};
use crate::settings::Settings;

const REPO: &str = "maker/Model-GGUF";
const FILE: &str = "model-Q8_0.gguf";

/// Bytes like a model's: the magic, then noise that no two places share. 0.5 MB for an odd number of chunks.
fn model_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = b"GGUF".to_vec();
    while bytes.len() < 500_001 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    let mut hasher = crate::digest::Hasher::default();
    hasher.update(bytes);
    hasher.finish()
}

fn settings(server: &HubServer) -> Settings {
    Settings {
        hf_endpoint: server.hub.clone(),
        modelscope_endpoint: "http://127.0.0.1:9".to_string(),
        reach_limit: Duration::from_millis(1500),
        stall_limit: Duration::from_millis(400),
        ..Settings::from_vars(|_| None)
    }
}

/// A catalog entry for these bytes, verified.
fn entry(name: &str, bytes: &[u8], sources: Vec<Source>) -> CatalogEntry {
    CatalogEntry {
        name: name.to_string(),
        aliases: Vec::new(),
        title: name.to_string(),
        architecture: "llama".to_string(),
        parameters: 1,
        quant: "Q8_0".to_string(),
        file_size: bytes.len() as u64,
        license: "MIT".to_string(),
        languages: vec!["en".to_string()],
        context_length: 128,
        sha256: Some(sha256(bytes)),
        sources,
        gated: false,
        unverified: false,
        default: false,
        reasoning: false,
        purpose: None,
        preferred: false,
        probe: None,
    }
}

fn hub_source() -> Source {
    Source::HuggingFace {
        repo: REPO.to_string(),
        file: Some(FILE.to_string()),
        quant: None,
        revision: "main".to_string(),
    }
}

fn library(folder: &Path, entries: Vec<CatalogEntry>) -> Library {
    Library::new(LibraryConfig {
        models_dir: folder.join("models"),
        shared_dir: None,
        caches: CacheFolders::default(),
        catalog: Catalog::from_entries(entries),
    })
}

/// Pulls and returns what progress told.
async fn pull_quietly(
    library: &Library,
    name: &str,
    settings: &Settings,
) -> (Result<LocalModel, PullError>, Vec<Progress>) {
    let told = Mutex::new(Vec::new());
    let result =
        pull(library, name, settings, &|progress| told.lock().unwrap().push(progress), &Cancel::new()).await;
    (result, told.into_inner().unwrap())
}

/// Names in the models folder, without the locks.
fn left_behind(library: &Library) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(library.models_dir()) else {
        return Vec::new();
    };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != ".locks");
    names.sort();
    names
}
