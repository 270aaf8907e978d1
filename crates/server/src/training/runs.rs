//! `/api/training/runs`: order, show, rename, pause, resume, stop, delete.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Json as Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jobs::JobOrder;
use serde_json::{Value as Json, json};
use store::{Job, JobId, JobStatus, JobWish};

use super::desk::{ModelKind, Order};
use super::run::Run;
use super::wire::{LogRequest, PlanRequest, RenameRequest, RunRequest, SeriesRequest, series_json};
use super::{Training, of, orders};
use crate::app::extract::{PathId, QueryOf};
use crate::app::owner;
use crate::error::ApiError;
use crate::generation::on_blocking_thread;
use crate::json_body::JsonBody;
use crate::state::AppState;

/// Points of a series where the client does not say, and at most.
const SERIES_POINTS: usize = 1000;
const MAX_SERIES_POINTS: usize = 10_000;
/// Bytes of the printed log where the client does not say, and at most.
const LOG_TAIL: u64 = 64 << 10;
const MAX_LOG_TAIL: u64 = 4 << 20;
/// The longest name of a run's folder, in characters.
const MAX_FOLDER_CHARS: usize = 40;

pub(super) async fn list(State(state): State<AppState>) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let jobs = training.jobs.list(owner(&state)).await?;
    let items = on_blocking_thread(move || {
        jobs.iter().filter_map(|job| training.run_json(job)).collect::<Vec<Json>>()
    });
    Ok(Body(json!({ "items": items.await? })))
}

pub(super) async fn create(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<RunRequest>,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let training = of(&state)?;
    let owner = owner(&state);
    let RunRequest { name, what: PlanRequest { recipe, dataset, base, settings } } = request;
    let recipe = training.recipe(&recipe)?;
    let mut run = Run::new(recipe, training.settings(recipe, settings)?);
    run.base = orders::base(&state, &training, owner, recipe, base).await?;
    if let Some(dataset) = training.ordered_dataset(recipe, dataset.as_deref())? {
        run.n_data_files = dataset.files.len();
        run.data_bytes = dataset.bytes();
        run.dataset = Some(dataset.name);
    }
    run.folder = folder_name(&name);
    let id = JobId::new();
    let command = training.command(id, &run)?;
    let new = JobOrder { name, purpose: run.to_json(), command };
    let job = training.jobs.submit(owner, id, new).await?;
    Ok((StatusCode::CREATED, told(training, job).await?))
}

pub(super) async fn show(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<Body<Json>, ApiError> {
    let (training, job, _) = find(&state, id).await?;
    told(training, job).await
}

pub(super) async fn rename(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
    JsonBody(request): JsonBody<RenameRequest>,
) -> Result<Body<Json>, ApiError> {
    let (training, ..) = find(&state, id).await?;
    let job = training.jobs.rename(owner(&state), id, &request.name).await?;
    told(training, job).await
}

pub(super) async fn pause(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<Body<Json>, ApiError> {
    end(&state, id, JobWish::Pause).await
}

pub(super) async fn stop(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<Body<Json>, ApiError> {
    end(&state, id, JobWish::Stop).await
}

async fn end(state: &AppState, id: JobId, wish: JobWish) -> Result<Body<Json>, ApiError> {
    let (training, ..) = find(state, id).await?;
    let job = training.jobs.interrupt(owner(state), id, wish).await?;
    told(training, job).await
}

/// Goes on from the last checkpoint; a run that had none yet begins anew.
pub(super) async fn resume(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<Body<Json>, ApiError> {
    let (training, job, run) = find(&state, id).await?;
    let folder = training.run_folder(id, &run);
    let going_on = training.config.desk.go_on(&folder, &run.settings);
    let command = match going_on {
        Some(command) => command,
        None if job.status.is_going() || job.status == JobStatus::Done => job.command,
        None => {
            run.dataset.as_deref().map(|name| training.dataset_with_files(name)).transpose()?;
            clear(folder).await?;
            training.command(id, &run)?
        }
    };
    let job = training.jobs.resume(owner(&state), id, command).await?;
    told(training, job).await
}

/// What was prepared, but not begun, is in the way of the next attempt.
async fn clear(folder: PathBuf) -> Result<(), ApiError> {
    let cleared = on_blocking_thread(move || match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(super::datasets::disk_error(&folder, error))
        }
        _ => Ok(()),
    });
    cleared.await?
}

pub(super) async fn delete(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<StatusCode, ApiError> {
    let (training, _, run) = find(&state, id).await?;
    let owner = owner(&state);
    for job in training.jobs.list(owner).await? {
        if training.needs_model_of(&job, id) {
            let reason = format!("the run {:?} needs its model; stop or delete that first", job.name);
            return Err(ApiError::Conflict { code: "run_in_use", reason });
        }
    }
    training.jobs.remove(owner, id).await?;
    if let Some(name) = run.served_as {
        state.models.forget_file(&name);
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn series(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
    QueryOf(request): QueryOf<SeriesRequest>,
) -> Result<Body<Json>, ApiError> {
    let (training, _, run) = find(&state, id).await?;
    let folder = training.run_folder(id, &run);
    let max = request.max.unwrap_or(SERIES_POINTS).clamp(2, MAX_SERIES_POINTS);
    let read = on_blocking_thread(move || {
        let log = training.log_of(&folder, request.stage.as_deref())?;
        let series = training.config.desk.series(&log.path, max);
        let series = series.map_err(|error| super::datasets::disk_error(&log.path, error))?;
        Ok::<_, ApiError>(series_json(series, log.stage))
    });
    Ok(Body(read.await??))
}

/// What the run has printed, the end of it.
pub(super) async fn log(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
    QueryOf(request): QueryOf<LogRequest>,
) -> Result<Response, ApiError> {
    let (training, ..) = find(&state, id).await?;
    let n_bytes = request.tail.unwrap_or(LOG_TAIL).min(MAX_LOG_TAIL);
    let text = on_blocking_thread(move || training.jobs.output_tail(id, n_bytes)).await??;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, text).into_response())
}

/// A run of the signed-in person.
pub(super) async fn find(state: &AppState, id: JobId) -> Result<(Arc<Training>, Job, Run), ApiError> {
    let training = of(state)?;
    let not_found = || ApiError::NotFound { what: "run" };
    let job = training.jobs.get(owner(state), id).await.map_err(|error| match error {
        jobs::JobsError::Store(store::StoreError::NotFound { .. }) => not_found(),
        other => other.into(),
    })?;
    let run = Run::of(&job).ok_or_else(not_found)?;
    Ok((training, job, run))
}

pub(super) async fn told(training: Arc<Training>, job: Job) -> Result<Body<Json>, ApiError> {
    let json = on_blocking_thread(move || training.run_json(&job)).await?;
    json.map(Body).ok_or(ApiError::NotFound { what: "run" })
}

/// The log of one stage.
pub(super) struct StageLog {
    /// Its name; none in a run that is a single one.
    pub(super) stage: Option<&'static str>,
    pub(super) path: PathBuf,
}

impl Training {
    /// The log of a stage, or of the one that the run is at.
    pub(super) fn log_of(&self, folder: &Path, stage: Option<&str>) -> Result<StageLog, ApiError> {
        let stages = self.config.desk.stages(folder);
        let current = self.config.desk.log_path(folder);
        match stage {
            None => {
                let stage = stages.iter().find(|stage| stage.log == current).map(|stage| stage.name);
                Ok(StageLog { stage, path: current })
            }
            Some(name) => {
                let found = stages.into_iter().find(|stage| stage.name == name);
                let found = found
                    .ok_or_else(|| ApiError::bad_value("stage", format!("the run has no stage {name:?}")))?;
                Ok(StageLog { stage: Some(found.name), path: found.log })
            }
        }
    }

    /// Whether a run began with the model of another one and has not ended, or has made an adapter for it.
    fn needs_model_of(&self, job: &Job, other: JobId) -> bool {
        let Some(run) = Run::of(job) else { return false };
        if run.base.as_ref().and_then(|base| base.run.as_deref()) != Some(&other.to_string()) {
            return false;
        }
        let made = self.config.desk.model(&self.run_folder(job.id, &run));
        let is_open = job.status.is_going() || job.status == JobStatus::Paused;
        is_open || made.is_some_and(|made| made.kind == ModelKind::Adapter)
    }

    /// The command that begins a run.
    fn command(&self, id: JobId, run: &Run) -> Result<Vec<String>, ApiError> {
        let dataset = run.dataset.as_ref().map(|name| self.datasets.join(name));
        let order = Order {
            recipe: self.recipe(&run.recipe)?,
            settings: &run.settings,
            dataset: dataset.as_deref(),
            base: run.base.as_ref().map(|base| Path::new(&base.path)),
            folder: &self.run_folder(id, run),
        };
        let command = self.config.desk.begin(&order);
        self.check(&command)?;
        Ok(command)
    }
}

/// A run's name as that of a folder: letters and digits in any script, and dashes between them.
fn folder_name(name: &str) -> String {
    let mut folder = String::new();
    for c in name.chars() {
        if c.is_alphanumeric() || c == '_' {
            folder.extend(c.to_lowercase());
        } else if !folder.is_empty() && !folder.ends_with('-') {
            folder.push('-');
        }
    }
    let folder: String = folder.chars().take(MAX_FOLDER_CHARS).collect();
    let folder = folder.trim_matches('-');
    if folder.is_empty() { "model".to_owned() } else { folder.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_named_after_its_run_and_is_one_part_of_a_path() {
        for (name, folder) in [
            ("My first model!", "my-first-model"),
            ("第一个 模型", "第一个-模型"),
            ("../../etc/passwd", "etc-passwd"),
            ("...", "model"),
            ("-rf", "rf"),
        ] {
            assert_eq!(folder_name(name), folder);
        }
        assert!(folder_name(&"长".repeat(500)).len() < 200);
    }
}
