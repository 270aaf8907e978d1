//! `POST …/plan` and `POST …/preview`: what a run would be, and what it would read, found out by a child process of low
//! priority that is bounded in time and in what it prints, and that ends when nobody waits for it any more.

use std::path::Path;
use std::process::Stdio;

use axum::Json as Body;
use axum::extract::{Path as InPath, State};
use jobs::Jobs;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::datasets::disk_error;
use super::desk::{Order, PreviewOrder};
use super::wire::{PlanRequest, PreviewRequest, plan_json};
use super::{Training, of, orders};
use crate::app::owner;
use crate::error::ApiError;
use crate::json_body::JsonBody;
use crate::state::AppState;

/// How folders of plans begin.
const FOLDER: &str = ".plan-";
/// Records of a preview.
const N_RECORDS: u64 = 8;
/// What a child may print: samples of some thousand tokens each.
const MAX_PRINTED: u64 = 8 << 20;
/// What it may say of what went wrong.
const MAX_COMPLAINT: u64 = 16 << 10;

/// Removes what plans have left that were cut off with the server.
pub(super) fn clear(jobs: &Jobs) {
    for entry in std::fs::read_dir(jobs.root()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(FOLDER) {
            // Tried again at the next start.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub(super) async fn plan(
    State(state): State<AppState>,
    JsonBody(request): JsonBody<PlanRequest>,
) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let recipe = training.recipe(&request.recipe)?;
    let settings = training.settings(recipe, request.settings)?;
    let base = orders::base(&state, &training, owner(&state), recipe, request.base).await?;
    let dataset = training.ordered_dataset(recipe, request.dataset.as_deref())?;
    // What a child that is being killed still writes there goes at the next start.
    let root = training.jobs.root();
    let folder = tempfile::Builder::new().prefix(FOLDER).tempdir_in(root);
    let folder = folder.map_err(|error| disk_error(root, error))?;
    let order = Order {
        recipe,
        settings: &settings,
        dataset: dataset.as_ref().map(|dataset| dataset.path.as_path()),
        base: base.as_ref().map(|base| Path::new(&base.path)),
        folder: &folder.path().join("run"),
    };
    let command = training.config.desk.plan(&order);
    training.check(&command)?;
    let printed = training.try_out(command).await?;
    let plan = training.config.desk.read_plan(&printed);
    let plan = plan.ok_or(ApiError::Internal { reason: "a plan was being read" })?;
    let mut answer = plan_json(&plan);
    // Beside a run everything takes longer.
    answer["n_running"] = json!(training.n_going().1);
    Ok(Body(answer))
}

pub(super) async fn preview(
    State(state): State<AppState>,
    InPath(name): InPath<String>,
    JsonBody(request): JsonBody<PreviewRequest>,
) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let recipe = training.recipe(&request.recipe)?;
    let Some(data) = recipe.data else {
        let reason = format!("the recipe {} brings its own data", recipe.id);
        return Err(ApiError::bad_value("recipe", reason));
    };
    let base = orders::base(&state, &training, owner(&state), recipe, request.base).await?;
    let dataset = training.dataset(&name)?;
    if dataset.bytes() == 0 {
        return Ok(Body(json!({ "items": [] })));
    }
    let order = PreviewOrder {
        stage: recipe.stage,
        data,
        dataset: &dataset.path,
        base: base.as_ref().map(|base| Path::new(&base.path)),
        offset: request.offset,
        n_records: N_RECORDS,
    };
    let printed = training.try_out(training.config.desk.preview(&order)).await?;
    let items: Vec<Json> = printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let next_offset = items.last().and_then(|item| item["record"].as_u64()).map(|record| record + 1);
    let mut answer = json!({ "items": items });
    if let Some(next) = next_offset.filter(|next| *next >= request.offset.saturating_add(N_RECORDS)) {
        answer["next_offset"] = json!(next);
    }
    Ok(Body(answer))
}

impl Training {
    /// Runs a command to its end; what it printed. Dropped before that, it is killed.
    async fn try_out(&self, command: Vec<String>) -> Result<String, ApiError> {
        let limit = self.config.limits.trial_timeout;
        let too_long = |_| ApiError::TrainingRefused {
            reason: format!(
                "it took longer than {} s and was given up; take less data or a smaller model",
                limit.as_secs()
            ),
        };
        let work = async {
            let _turn = self.trial.acquire().await;
            let started = |error| disk_error(Path::new("the trainer"), error);
            let (program, first) =
                self.config.background.split_first().ok_or(ApiError::Internal { reason: "no trainer" })?;
            let mut child = Command::new(program)
                .args(first)
                .arg("--")
                .args(command)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .map_err(started)?;
            let (out, complaint) = (child.stdout.take(), child.stderr.take());
            // Read to the bound and closed: a child that prints on is ended by that.
            let (printed, complaint) = tokio::join!(read(out, MAX_PRINTED), read(complaint, MAX_COMPLAINT));
            let status = child.wait().await.map_err(started)?;
            match status.success() {
                true => Ok(printed),
                false => Err(ApiError::TrainingRefused { reason: last_line(&complaint) }),
            }
        };
        tokio::time::timeout(limit, work).await.map_err(too_long)?
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, most: u64) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read until it failed is all there is.
        let _ = from.take(most).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a command says when it fails is its last line.
fn last_line(complaint: &str) -> String {
    let line = complaint.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let line = line.unwrap_or("the trainer has failed without a word");
    line.strip_prefix("daybreak: ").unwrap_or(line).to_owned()
}
