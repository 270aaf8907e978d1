//! Settings for tests: of this crate, and of those that see it from outside (`tests/http/world.rs`).

use std::path::Path;

use engine::Isa;
use models::{CacheFolders, Catalog, Library, LibraryConfig, Settings};
use server::{BuildInfo, Limits, ServerConfig};

/// A server on any free port of localhost, with a data directory of its own, that finds no models.
pub(crate) fn config(data_dir: &Path) -> ServerConfig {
    let nothing = |_: &str| None;
    let library = Library::new(LibraryConfig {
        models_dir: data_dir.join("models"),
        shared_dir: None,
        caches: CacheFolders::from_vars(nothing),
        catalog: Catalog::builtin(),
    });
    ServerConfig {
        host: "127.0.0.1".to_string(),
        port: 0,
        data_dir: data_dir.to_path_buf(),
        database_url: None,
        library,
        pull: Settings::from_vars(nothing),
        models: Vec::new(),
        adapters: vec![],
        default_model: "smollm2:135m".to_string(),
        n_threads: 2,
        isa: Isa::Scalar,
        ctx: None,
        kv_memory_bytes: None,
        kv_disk_bytes: 1 << 30,
        prompt_lookup: engine::PromptLookup::Auto,
        chat_template: None,
        api_key: None,
        allowed_hosts: Vec::new(),
        cors_origins: Vec::new(),
        training: None,
        build: BuildInfo { version: "0.0.0-test".to_string(), commit: None },
        limits: Limits::standard(),
    }
}
