//! Training on the page, under `/api/training`: datasets, runs as jobs, what they tell while they go, their models.
//!
//! What a recipe is, which command it becomes and what lies in a run's folder is the trainer's affair; the binary hands
//! it in as a [`TrainingDesk`] (`desk`). Here it is said who may order what, and how it is told. Each file has the routes
//! of one subject; `run` is what a run is besides a job, `wire` what goes over the wire.

mod datasets;
mod desk;
mod events;
mod lineage;
mod models;
mod orders;
mod run;
mod runs;
mod trials;
mod wire;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{delete, get, post, put};
use jobs::{Jobs, JobsConfig};
use store::Store;
use tokio::sync::Semaphore;

pub use desk::{
    DataKind, MadeModel, ModelKind, Order, Plan, PreviewOrder, Progress, Recipe, Series, Setting,
    SettingKind, Stage, TestResult, TrainingDesk,
};

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::state::AppState;

/// Training, as the binary hands it in.
#[derive(Debug, Clone)]
pub struct TrainingConfig {
    /// Knows recipes and run folders.
    pub desk: Arc<dyn TrainingDesk>,
    /// Program and first arguments of what runs a job's command apart from the server; the job's folder, `--` and the
    /// command follow.
    pub wrapper: Vec<OsString>,
    /// Program and first arguments of what runs a command with low priority; `--` and the command follow.
    pub background: Vec<OsString>,
    /// The bounds.
    pub limits: TrainingLimits,
}

/// Every bound of training. [`TrainingLimits::standard`] is what the binary uses.
#[derive(Debug, Clone)]
pub struct TrainingLimits {
    /// Runs at once; more wait.
    pub max_running: usize,
    /// Datasets.
    pub max_datasets: usize,
    /// Files of a dataset: all of them may stand on a command line.
    pub max_files: usize,
    /// Bytes of all datasets together.
    pub max_bytes: u64,
    /// Bytes of the disk that uploads and new runs leave free.
    pub min_free_bytes: u64,
    /// An upload that brings nothing for this long is given up.
    pub upload_stall: Duration,
    /// How long a plan or a preview may take.
    pub trial_timeout: Duration,
    /// How long a run may take to save itself when it is asked to end.
    pub end_limit: Duration,
}

impl TrainingLimits {
    /// The bounds of `daybreak serve`.
    pub fn standard() -> TrainingLimits {
        TrainingLimits {
            max_running: 1,
            max_datasets: 200,
            max_files: 300,
            max_bytes: 64 << 30,
            min_free_bytes: 512 << 20,
            upload_stall: Duration::from_secs(60),
            trial_timeout: Duration::from_secs(300),
            end_limit: Duration::from_secs(300),
        }
    }
}

/// Training in a running server.
#[derive(Debug)]
pub(crate) struct Training {
    config: TrainingConfig,
    jobs: Jobs,
    /// The person's datasets, each a folder of files.
    datasets: PathBuf,
    /// Plans and previews, one at a time: each takes as much of the machine as a run.
    trial: Semaphore,
}

impl Training {
    /// How many runs wait, and how many are running.
    pub(crate) fn n_going(&self) -> (usize, usize) {
        self.jobs.n_going()
    }
}

/// Takes up the jobs that are on record.
pub(crate) fn open(config: &ServerConfig, store: &Store) -> Result<Option<Arc<Training>>, ApiError> {
    let Some(training) = config.training.clone() else { return Ok(None) };
    let data_dir = std::path::absolute(&config.data_dir).unwrap_or_else(|_| config.data_dir.clone());
    let jobs = JobsConfig {
        folder: data_dir.join("runs"),
        wrapper: training.wrapper.clone(),
        max_running: training.limits.max_running,
        min_free_bytes: training.limits.min_free_bytes,
        end_limit: training.limits.end_limit,
    };
    let jobs = Jobs::open(store.clone(), jobs)?;
    trials::clear(&jobs);
    let datasets = data_dir.join("datasets");
    datasets::clear(&datasets);
    Ok(Some(Arc::new(Training { config: training, jobs, datasets, trial: Semaphore::new(1) })))
}

/// Watches runs no longer; they go on.
pub(crate) async fn close(state: &AppState) {
    if let Some(training) = &state.training {
        training.jobs.close().await;
    }
}

/// Makes the models of runs that were served before known again.
pub(crate) use models::serve_again;

/// The routes, where there is training.
pub(crate) fn router(state: &AppState) -> Router<AppState> {
    if state.training.is_none() {
        return Router::new();
    }
    Router::new()
        .route("/api/training/recipes", get(orders::recipes))
        .route("/api/training/datasets", get(datasets::list))
        .route("/api/training/datasets/{name}", delete(datasets::delete))
        .route(
            "/api/training/datasets/{name}/files/{file}",
            put(datasets::upload).delete(datasets::delete_file),
        )
        .route("/api/training/datasets/{name}/preview", post(trials::preview))
        .route("/api/training/plan", post(trials::plan))
        .route("/api/training/runs", get(runs::list).post(runs::create))
        .route("/api/training/runs/{id}", get(runs::show).patch(runs::rename).delete(runs::delete))
        .route("/api/training/runs/{id}/pause", post(runs::pause))
        .route("/api/training/runs/{id}/resume", post(runs::resume))
        .route("/api/training/runs/{id}/stop", post(runs::stop))
        .route("/api/training/runs/{id}/events", get(events::follow))
        .route("/api/training/runs/{id}/series", get(runs::series))
        .route("/api/training/runs/{id}/log", get(runs::log))
        .route("/api/training/runs/{id}/serve", post(models::serve))
}

/// What the routes work with, which exist only where it does.
fn of(state: &AppState) -> Result<Arc<Training>, ApiError> {
    state.training.clone().ok_or(ApiError::NotFound { what: "training" })
}
