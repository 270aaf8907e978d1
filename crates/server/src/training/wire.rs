//! The JSON of training: what the page sends, and recipes as it gets them.

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::desk::{DataKind, Plan, Recipe, Series, Setting, SettingKind};

/// `POST /api/training/runs`.
#[derive(Debug, Deserialize)]
pub(super) struct RunRequest {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) what: PlanRequest,
}

/// `POST /api/training/plan`.
#[derive(Debug, Deserialize)]
pub(super) struct PlanRequest {
    pub(super) recipe: String,
    #[serde(default)]
    pub(super) dataset: Option<String>,
    #[serde(default)]
    pub(super) base: Option<String>,
    #[serde(default)]
    pub(super) settings: Map<String, Json>,
}

/// `POST /api/training/datasets/{name}/preview`.
#[derive(Debug, Deserialize)]
pub(super) struct PreviewRequest {
    pub(super) recipe: String,
    #[serde(default)]
    pub(super) base: Option<String>,
    #[serde(default)]
    pub(super) offset: u64,
}

/// `PATCH /api/training/runs/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct RenameRequest {
    pub(super) name: String,
}

/// `GET /api/training/runs/{id}/events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventsRequest {
    pub(super) after: Option<u64>,
    pub(super) stage: Option<String>,
}

/// `GET /api/training/runs/{id}/series`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SeriesRequest {
    pub(super) max: Option<usize>,
    pub(super) stage: Option<String>,
}

/// `GET /api/training/runs/{id}/log`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LogRequest {
    pub(super) tail: Option<u64>,
}

pub(super) fn recipe_json(recipe: &Recipe) -> Json {
    let data = recipe.data.map(|data| match data {
        DataKind::Text => "text",
        DataKind::Conversations => "conversations",
        DataKind::Pairs => "pairs",
    });
    json!({
        "id": recipe.id,
        "stage": recipe.stage,
        "needs_base": recipe.needs_base,
        "data": data,
        "settings": recipe.settings.iter().map(setting_json).collect::<Vec<_>>(),
    })
}

fn setting_json(setting: &Setting) -> Json {
    let mut json = json!({"key": setting.key, "default": setting.default});
    let kind = match &setting.kind {
        SettingKind::Int { min, max } => {
            (json["min"], json["max"]) = (json!(min), json!(max));
            "int"
        }
        SettingKind::Float { min, max } => {
            (json["min"], json["max"]) = (json!(min), json!(max));
            "float"
        }
        SettingKind::Choice(choices) => {
            json["choices"] = json!(choices);
            "choice"
        }
        SettingKind::Bool => "bool",
        SettingKind::Duration => "duration",
    };
    json["kind"] = json!(kind);
    json
}

pub(super) fn plan_json(plan: &Plan) -> Json {
    let line = |(key, value): &(String, Json)| json!({"key": key, "value": value});
    let mut json = json!({
        "lines": plan.lines.iter().map(line).collect::<Vec<_>>(),
        "n_steps": plan.n_steps,
    });
    if let Some(seconds) = plan.seconds {
        json["seconds"] = json!(seconds);
    }
    if let Some(bytes) = plan.memory_bytes {
        json["memory_bytes"] = json!(bytes);
    }
    json
}

/// `stage` is the one whose series it is, in a run of several.
pub(super) fn series_json(series: Series, stage: Option<&str>) -> Json {
    json!({
        "stage": stage,
        "n_lines": series.n_lines,
        "steps": series.steps,
        "loss": series.loss,
        "rate": series.rate,
        "grad_norm": series.grad_norm,
        "tokens_per_second": series.tokens_per_second,
        "seconds": series.seconds,
        "n_tokens": series.n_tokens,
        "evaluations": series.evaluations,
        "samples": series.samples,
        "notes": series.notes,
    })
}
