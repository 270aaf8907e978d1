//! What is ordered, checked: a recipe that there is, settings of its kinds, a dataset with files, a model that is here.

use axum::Json as Body;
use axum::extract::State;
use serde_json::{Map, Value as Json, json};
use store::OwnerId;

use super::datasets::Dataset;
use super::desk::{Recipe, Setting, SettingKind};
use super::run::{Base, Run};
use super::wire::recipe_json;
use super::{Training, of};
use crate::error::ApiError;
use crate::state::AppState;

pub(super) async fn recipes(State(state): State<AppState>) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let items: Vec<Json> = training.config.desk.recipes().iter().map(recipe_json).collect();
    Ok(Body(json!({ "items": items })))
}

impl Training {
    pub(super) fn recipe(&self, id: &str) -> Result<&Recipe, ApiError> {
        let recipes = self.config.desk.recipes();
        recipes.iter().find(|recipe| recipe.id == id).ok_or_else(|| {
            let known: Vec<&str> = recipes.iter().map(|recipe| recipe.id).collect();
            ApiError::bad_value("recipe", format!("expected one of {}, found {id:?}", known.join(", ")))
        })
    }

    /// The settings that are set, each of its kind.
    pub(super) fn settings(
        &self,
        recipe: &Recipe,
        given: Map<String, Json>,
    ) -> Result<Map<String, Json>, ApiError> {
        let mut settings = Map::new();
        for (key, value) in given {
            let field = format!("settings.{key}");
            let Some(setting) = recipe.settings.iter().find(|setting| setting.key == key) else {
                return Err(ApiError::bad_value(
                    field,
                    format!("the recipe {} has no such setting", recipe.id),
                ));
            };
            if value.is_null() {
                continue;
            }
            if let Some(expected) = self.mismatch(setting, &value) {
                return Err(ApiError::bad_value(field, format!("expected {expected}, found {value}")));
            }
            settings.insert(key, value);
        }
        Ok(settings)
    }

    /// What was expected, where a value is something else.
    fn mismatch(&self, setting: &Setting, value: &Json) -> Option<String> {
        let (fits, expected) = match &setting.kind {
            SettingKind::Int { min, max } => (
                value.as_i64().is_some_and(|n| (*min..=*max).contains(&n)),
                format!("a whole number from {min} to {max}"),
            ),
            SettingKind::Float { min, max } => (
                value.as_f64().is_some_and(|x| (*min..=*max).contains(&x)),
                format!("a number from {min} to {max}"),
            ),
            SettingKind::Choice(choices) => (
                value.as_str().is_some_and(|choice| choices.contains(&choice)),
                format!("one of {}", choices.join(", ")),
            ),
            SettingKind::Bool => (value.is_boolean(), "true or false".to_owned()),
            SettingKind::Duration => (
                value.as_str().is_some_and(|text| self.config.desk.is_duration(text)),
                "a time such as 30m or 8h".to_owned(),
            ),
        };
        (!fits).then_some(expected)
    }

    /// Whether settings go together that are each as they should be.
    pub(super) fn check(&self, command: &[String]) -> Result<(), ApiError> {
        let checked = self.config.desk.check(command);
        checked.map_err(|reason| ApiError::bad_value("settings", reason))
    }

    /// The dataset of an order, where the recipe needs one.
    pub(super) fn ordered_dataset(
        &self,
        recipe: &Recipe,
        name: Option<&str>,
    ) -> Result<Option<Dataset>, ApiError> {
        match (recipe.data, name.filter(|name| !name.is_empty())) {
            (Some(_), Some(name)) => self.dataset_with_files(name).map(Some),
            (Some(_), None) => Err(ApiError::Missing { param: "dataset".to_owned() }),
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let reason = format!("the recipe {} brings its own data", recipe.id);
                Err(ApiError::bad_value("dataset", reason))
            }
        }
    }

    /// A dataset with something in it.
    pub(super) fn dataset_with_files(&self, name: &str) -> Result<Dataset, ApiError> {
        let dataset = self.dataset(name).map_err(|error| match error {
            ApiError::NotFound { .. } => {
                ApiError::bad_value("dataset", format!("there is no dataset {name:?}"))
            }
            other => other,
        })?;
        match dataset.bytes() {
            0 => Err(ApiError::bad_value(
                "dataset",
                format!("the dataset {name:?} has no text in it; add files"),
            )),
            _ => Ok(dataset),
        }
    }
}

/// The model that a recipe begins with, by the name that the chat has for it.
pub(super) async fn base(
    state: &AppState,
    training: &Training,
    owner: OwnerId,
    recipe: &Recipe,
    name: Option<String>,
) -> Result<Option<Base>, ApiError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return match recipe.needs_base {
            true => Err(ApiError::Missing { param: "base".to_owned() }),
            false => Ok(None),
        };
    };
    if !recipe.needs_base {
        let reason = format!("the recipe {} begins with nothing", recipe.id);
        return Err(ApiError::bad_value("base", reason));
    }
    let unknown = |error: ApiError| match error {
        ApiError::ModelNotFound { reason } | ApiError::ModelNotDownloaded { reason } => {
            ApiError::bad_value("base", reason)
        }
        other => other,
    };
    let name = state.models.full_name(&name).await.map_err(unknown)?;
    let local = state.models.find(&name).await.map_err(unknown)?;
    if state.models.has_adapters(&name) {
        let reason = format!("{name:?} is a model with an adapter beside it; merge them into one first");
        return Err(ApiError::bad_value("base", reason));
    }
    let path = std::path::absolute(local.path()).unwrap_or_else(|_| local.path().to_path_buf());
    for job in training.jobs.list(owner).await? {
        if let Some(run) = Run::of(&job)
            && run.served_as.as_ref() == Some(&name)
        {
            return Ok(Some(training.base_of_run(name, path, job.id, &run)));
        }
    }
    Ok(Some(Base { name, path, sha256: local.sha256, run: None, lineage: Vec::new() }))
}
