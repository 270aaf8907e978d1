//! What the server is told by the binary: plain values, all of them decided there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use engine::{Isa, PromptLookup};

use crate::training::TrainingConfig;

/// Settings of one server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address to listen on: an IP address or `localhost`.
    pub host: String,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// The data directory: conversations, models.
    pub data_dir: PathBuf,
    /// Conversations in PostgreSQL instead (`postgres://…`).
    pub database_url: Option<String>,
    /// The models of this machine and their names.
    pub library: models::Library,
    /// How downloads reach the outside.
    pub pull: models::Settings,
    /// Models to load at the start, by name or path; the first is the default. One that cannot be loaded
    /// ends the server. When empty, the model that was used last, else `default_model`.
    pub models: Vec<String>,
    /// Adapters for the first of `models`, which is then served under a name of its own.
    pub adapters: Vec<models::AdapterFile>,
    /// The model when none is named and none was used before, for example `smollm2:135m`; downloaded when
    /// it is not there, and no reason to end when it cannot be had.
    pub default_model: String,
    /// Threads that compute, for all models together.
    pub n_threads: usize,
    /// Instruction set of the kernels.
    pub isa: Isa,
    /// Longest conversation in tokens, for example 8192; none: what the model was trained for, as far as the memory
    /// for keys and values holds it.
    pub ctx: Option<usize>,
    /// Bytes for keys and values of each loaded model; none: two conversations of full length, at most a
    /// quarter of the memory.
    pub kv_memory_bytes: Option<u64>,
    /// Bytes of disk for the keys and values of conversations, so that they go on after a restart; 0 keeps none.
    pub kv_disk_bytes: u64,
    /// Whether tokens are guessed from what stands in prompt and answer; answers are the same.
    pub prompt_lookup: PromptLookup,
    /// A Jinja chat template to use instead of the models' own (the text, not the path).
    pub chat_template: Option<String>,
    /// Clients must show this key. Required when listening beyond loopback.
    pub api_key: Option<String>,
    /// Further host names under which the server is reached.
    pub allowed_hosts: Vec<String>,
    /// Web origins whose pages may call the API; `*` for all.
    pub cors_origins: Vec<String>,
    /// Training on the page; none where it is not to be had.
    pub training: Option<TrainingConfig>,
    /// Which build this is.
    pub build: BuildInfo,
    /// The bounds.
    pub limits: Limits,
}

/// Which build this is, for receipts and `/api/state`.
#[derive(Debug, Clone)]
pub struct BuildInfo {
    /// For example `0.1.0`.
    pub version: String,
    /// The commit, when it is known.
    pub commit: Option<String>,
}

/// Every bound of the server. [`Limits::standard`] is what the binary uses; tests set smaller ones.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; more wait in the system's own queue. Below the usual 1024 open files.
    pub max_connections: usize,
    /// Bytes of a request's body.
    pub max_body_bytes: usize,
    /// A request's head must have arrived within this, an idle connection is closed after it.
    pub head_timeout: Duration,
    /// A request's body must have arrived within this.
    pub body_timeout: Duration,
    /// A client that takes nothing for this long is cut off.
    pub write_stall_timeout: Duration,
    /// How long running answers may go on once the server is asked to end.
    pub shutdown_grace: Duration,
    /// Sequences that one model computes at once.
    pub max_running: usize,
    /// Requests that wait for one model.
    pub max_queue: usize,
    /// Downloads at once.
    pub max_downloads: usize,
    /// Bytes that all models in memory may take together, for example `8 << 30`; none: what the machine has.
    pub max_model_bytes: Option<u64>,
}

impl Limits {
    /// The bounds of `daybreak serve`.
    pub fn standard() -> Limits {
        Limits {
            max_connections: 768,
            max_body_bytes: 20 << 20,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(60),
            write_stall_timeout: Duration::from_secs(120),
            shutdown_grace: Duration::from_secs(10),
            max_running: 16,
            max_queue: 128,
            max_downloads: 4,
            max_model_bytes: None,
        }
    }
}

impl ServerConfig {
    /// The address to bind: `localhost` is 127.0.0.1, every other name must be an IP address.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        if host.eq_ignore_ascii_case("localhost") {
            return Some(IpAddr::from([127, 0, 0, 1]));
        }
        host.parse().ok()
    }
}
