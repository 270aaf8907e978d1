//! A run: what a job is for, kept in its record, and how it is told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use store::{Job, JobId, JobStatus};

use super::desk::{MadeModel, ModelKind, Progress, Stage, TestResult};
use super::{Training, lineage};

/// What tells a run from other jobs.
const KIND: &str = "training";

/// What a job is for, when it is a run. What it was made of is copied here, since all of that may go before the run does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Run {
    kind: String,
    pub(super) recipe: String,
    pub(super) stage: String,
    pub(super) settings: Map<String, Json>,
    /// None where the recipe brings its own data.
    pub(super) dataset: Option<String>,
    pub(super) n_data_files: usize,
    pub(super) data_bytes: u64,
    pub(super) base: Option<Base>,
    /// The trainer's folder within the job's; models are called by its name.
    pub(super) folder: String,
    /// The name under which the chat knows its model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) served_as: Option<String>,
}

/// The model that a run begins with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Base {
    pub(super) name: String,
    pub(super) path: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    /// The run that made it, with what that was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) run: Option<String>,
    #[serde(default)]
    pub(super) lineage: Vec<Json>,
}

impl Run {
    pub(super) fn new(recipe: &super::Recipe, settings: Map<String, Json>) -> Run {
        Run {
            kind: KIND.to_owned(),
            recipe: recipe.id.to_owned(),
            stage: recipe.stage.to_owned(),
            settings,
            dataset: None,
            n_data_files: 0,
            data_bytes: 0,
            base: None,
            folder: String::new(),
            served_as: None,
        }
    }

    /// What a job is for, if that is a run.
    pub(super) fn of(job: &Job) -> Option<Run> {
        if job.purpose["kind"] != KIND {
            return None;
        }
        serde_json::from_value(job.purpose.clone())
            .inspect_err(|error| tracing::error!("run {}: its record is not as expected: {error}", job.id))
            .ok()
    }

    pub(super) fn to_json(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl Training {
    /// The trainer's folder of a run.
    pub(super) fn run_folder(&self, id: JobId, run: &Run) -> PathBuf {
        self.jobs.folder(id).join(&run.folder)
    }

    /// A run as the page gets it; none for a job that is none. Reads files.
    pub(super) fn run_json(&self, job: &Job) -> Option<Json> {
        let run = Run::of(job)?;
        let folder = self.run_folder(job.id, &run);
        let progress = self.config.desk.progress(&folder);
        let made = self.config.desk.model(&folder);
        let stages = self.config.desk.stages(&folder);
        let mut command = job.command.clone();
        if let Some(program) = command.first_mut() {
            *program = "daybreak".to_owned();
        }
        let mut json = json!({
            "id": job.id.to_string(),
            "name": job.name,
            "recipe": run.recipe,
            "stage": run.stage,
            "dataset": run.dataset,
            "base": run.base.as_ref().map(|base| &base.name),
            "settings": run.settings,
            "status": status(job.status, &progress),
            "reason": job.reason,
            "exit_code": job.exit_code,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "ended_at": job.ended_at,
            "n_starts": job.n_starts,
            "folder": folder,
            "command": command,
            "progress": self.progress_json(job, &progress),
            "lineage": lineage::of(&run, self.config.desk.data_digest(&folder)),
        });
        if !stages.is_empty() {
            let told = |stage: &Stage| json!({ "name": stage.name, "has_begun": stage.log.exists() });
            json["stages"] = stages.iter().map(told).collect();
        }
        let results = self.config.desk.results(&folder);
        if !results.is_empty() {
            json["results"] = results.iter().map(result_json).collect();
        }
        if let Some(made) = made {
            json["model"] = model_json(&made, &run);
        }
        if let Some(base) = &run.base {
            json["parent"] = json!({ "model": base.name });
        }
        Some(json)
    }

    fn progress_json(&self, job: &Job, progress: &Progress) -> Json {
        let mut json = json!({ "step": progress.step, "n_steps": progress.n_steps });
        let mut set = |key: &str, value: Option<f64>| {
            if let Some(value) = value {
                json[key] = json!(value);
            }
        };
        set("loss", progress.loss);
        set("held_out_loss", progress.held_out_loss);
        set("bits_per_byte", progress.bits_per_byte);
        set("accuracy", progress.accuracy);
        set("n_tokens", progress.n_tokens);
        set("seconds", progress.seconds);
        if job.status == JobStatus::Running || job.status == JobStatus::Ending {
            let usage = self.jobs.usage(job.id);
            set("tokens_per_second", progress.tokens_per_second);
            set("seconds_left", progress.seconds_left);
            set("cpu_share", usage.map(|usage| usage.cpu_share));
            if let Some(usage) = usage {
                json["memory_bytes"] = json!(usage.memory_bytes);
            }
        }
        if job.status == JobStatus::Running && !progress.has_begun {
            json["doing"] = json!(self.jobs.last_line(job.id));
        }
        json
    }
}

/// In the page's words.
fn status(status: JobStatus, progress: &Progress) -> &'static str {
    match status {
        JobStatus::Running if !progress.has_begun => "preparing",
        JobStatus::Ending => "pausing",
        other => other.name(),
    }
}

fn result_json(result: &TestResult) -> Json {
    let [low, high] = result.interval.map_or([None; 2], |interval| interval.map(Some));
    json!({
        "task": result.task,
        "metric": result.metric,
        "n": result.n,
        "value": result.value,
        "low": low,
        "high": high,
    })
}

fn model_json(made: &MadeModel, run: &Run) -> Json {
    json!({
        "path": made.path,
        "kind": match made.kind {
            ModelKind::Model => "model",
            ModelKind::Adapter => "adapter",
        },
        "bytes": std::fs::metadata(&made.path).map_or(0, |meta| meta.len()),
        "name": run.served_as,
    })
}
