//! `POST /api/training/runs/{id}/serve`: what a run has made becomes a model that the chat can choose.

use axum::Json as Body;
use axum::extract::State;
use serde_json::{Value as Json, json};
use store::JobId;

use super::desk::{MadeModel, ModelKind};
use super::run::Run;
use super::runs::find;
use crate::app::extract::PathId;
use crate::app::owner;
use crate::error::ApiError;
use crate::state::AppState;

/// How the names of such models begin.
const PREFIX: &str = "run/";

pub(super) async fn serve(
    State(state): State<AppState>,
    PathId(id): PathId<JobId>,
) -> Result<Body<Json>, ApiError> {
    let (training, job, mut run) = find(&state, id).await?;
    let Some(made) = training.config.desk.model(&training.run_folder(id, &run)) else {
        let reason = format!("the run {:?} has made no model yet; it does so with its last step", job.name);
        return Err(ApiError::Conflict { code: "no_model_yet", reason });
    };
    let name = match &run.served_as {
        Some(name) => name.clone(),
        None => free_name(&state, &job.name),
    };
    run.served_as = Some(name.clone());
    state.store.set_job_purpose(owner(&state), id, &run.to_json()).await?;
    register(&state, &name, &run, made);
    Ok(Body(json!({ "model": name })))
}

/// At the start: the models that were served before.
pub(crate) async fn serve_again(state: &AppState) -> Result<(), ApiError> {
    let Some(training) = &state.training else { return Ok(()) };
    for job in training.jobs.list(owner(state)).await? {
        let Some(run) = Run::of(&job) else { continue };
        let made = training.config.desk.model(&training.run_folder(job.id, &run));
        if let (Some(name), Some(made)) = (&run.served_as, made) {
            register(state, name, &run, made);
        }
    }
    Ok(())
}

/// An adapter is served beside the model that it was learnt for.
fn register(state: &AppState, name: &str, run: &Run, made: MadeModel) {
    match (made.kind, &run.base) {
        (ModelKind::Adapter, Some(base)) => {
            let adapter = models::AdapterFile { path: made.path, scale: 1.0 };
            state.models.name_file(name, base.path.clone(), vec![adapter]);
        }
        _ => state.models.name_file(name, made.path, Vec::new()),
    }
}

/// A name that no other file has.
fn free_name(state: &AppState, name: &str) -> String {
    let name = format!("{PREFIX}{name}");
    let taken = |name: &str| state.models.is_named(name);
    let numbered = (2..).map(|n| format!("{name} {n}"));
    std::iter::once(name.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or(name)
}
