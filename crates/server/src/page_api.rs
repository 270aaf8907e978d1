//! The page's API about the server itself: its state, sessions, models. Conversations are in [`crate::app`].

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use models::MachineMemory;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::guard::{self, Peer};
use crate::json_body::{parse, read_body};
use crate::model_host::{DEFAULT_CTX, ListedModel, ModelState};
use crate::sessions::{cookie_token, set_cookie};
use crate::state::AppState;
use crate::turn::settings::Settings;

/// Languages of the page.
const PAGE_LANGUAGES: [&str; 2] = ["en", "zh-CN"];

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/state", get(state))
        .route("/api/session", post(sign_in).delete(sign_out))
        .route("/api/models", get(models))
        .route("/api/models/{name}", delete(remove_model))
        .route("/api/models/{name}/pull", post(pull_model).delete(cancel_pull))
        .route("/api/models/{name}/load", post(load_model))
}

/// `GET /api/state`; who has not signed in learns only that.
async fn state(State(state): State<AppState>, headers: HeaderMap) -> Json<Value> {
    let config = &state.config;
    let signed_in = match &config.api_key {
        None => true,
        Some(key) => {
            let by_key = guard::bearer(&headers).is_some_and(|shown| state.sessions.key_matches(key, shown));
            by_key || cookie_token(&headers).is_some_and(|token| state.sessions.is_valid(token))
        }
    };
    let mut answer = json!({
        "version": config.build.version,
        "languages_supported": PAGE_LANGUAGES,
        "auth": {"required": config.api_key.is_some(), "signed_in": signed_in},
    });
    if signed_in {
        let memory = MachineMemory::read();
        let default_model = state.models.default_name();
        let loaded = state.models.loaded(&default_model);
        let ctx = loaded.map_or(config.ctx.unwrap_or(DEFAULT_CTX), |model| model.max_seq_len());
        answer["commit"] = json!(config.build.commit);
        answer["isa"] = json!(config.isa.name());
        answer["n_threads"] = json!(config.n_threads);
        answer["memory"] = json!({
            "total_bytes": memory.total_bytes,
            "available_bytes": memory.available_bytes,
        });
        answer["default_model"] = json!(default_model);
        answer["ctx"] = json!(ctx);
        answer["settings_defaults"] = Settings::defaults();
        answer["training"] = json!(state.training.is_some());
        answer["started_at"] = json!(state.started_at_ms);
    }
    Json(answer)
}

#[derive(Debug, Deserialize)]
struct SignIn {
    key: String,
}

/// `POST /api/session`
async fn sign_in(State(state): State<AppState>, request: Request) -> Result<Response, ApiError> {
    let Some(key) = &state.config.api_key else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let secure = is_https(request.headers());
    let limits = &state.config.limits;
    let body = read_body(request, 64 << 10, limits.body_timeout).await?;
    let SignIn { key: shown } = parse(&body)?;
    let address = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let token = state.sessions.sign_in(&state.store, key, &shown, address).await?;
    Ok(with_cookie(&set_cookie(&token, secure)))
}

/// `DELETE /api/session`
async fn sign_out(State(state): State<AppState>, headers: HeaderMap) -> Result<Response, ApiError> {
    if let Some(token) = cookie_token(&headers) {
        state.sessions.sign_out(&state.store, token).await?;
    }
    Ok(with_cookie(&set_cookie("", is_https(&headers))))
}

/// A proxy says so when the page came over https.
fn is_https(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let proto = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    origin.is_some_and(|origin| origin.starts_with("https://")) || proto == Some("https")
}

fn with_cookie(line: &str) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Ok(value) = HeaderValue::from_str(line) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

#[derive(Debug, Deserialize)]
struct ModelsQuery {
    /// The person's language; without it the browser's first.
    language: Option<String>,
}

/// `GET /api/models`
async fn models(
    State(state): State<AppState>,
    Query(query): Query<ModelsQuery>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let accepted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
    let first = accepted.and_then(|line| line.split([',', ';']).next()).map(str::trim);
    let language = query.language.as_deref().or(first).unwrap_or("en");
    let list = state.models.list(language).await?;
    let items: Vec<ModelItem> = list.into_iter().map(ModelItem::from).collect();
    Ok(Json(json!({ "items": items })))
}

/// `POST /api/models/{name}/pull`
async fn pull_model(State(state): State<AppState>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    state.models.pull(&name, false).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `DELETE /api/models/{name}/pull`
async fn cancel_pull(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.cancel_pull(&name)?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/models/{name}/load`: also makes it the default of this and the next start.
async fn load_model(State(state): State<AppState>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let name = state.models.full_name(&name).await?;
    state.models.load(&name).await?;
    state.models.set_default(&name);
    state.store.set_value(LAST_MODEL, name.as_bytes()).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Where the store remembers the model that was chosen last.
pub(crate) const LAST_MODEL: &str = "last_model";

/// `DELETE /api/models/{name}`
async fn remove_model(
    State(state): State<AppState>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.models.remove(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A model as the page sees it.
#[derive(Debug, Serialize)]
struct ModelItem {
    name: String,
    title: String,
    architecture: Option<String>,
    parameters: Option<u64>,
    quant: Option<String>,
    file_size: u64,
    license: Option<String>,
    languages: Vec<String>,
    context_length: Option<u64>,
    /// The longest conversation here, when it is loaded.
    ctx: Option<usize>,
    origin: Option<&'static str>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Value>,
    memory_needed: u64,
    fits: bool,
    recommended: bool,
    gated: bool,
    unverified: bool,
    reasoning: Value,
    warnings: Vec<Value>,
    default: bool,
}

impl From<ListedModel> for ModelItem {
    fn from(model: ListedModel) -> ModelItem {
        let (state, progress, error) = match model.state {
            ModelState::Available => ("available", None, None),
            ModelState::Downloading(progress) => {
                let progress = json!({
                    "done": progress.done,
                    "total": progress.total,
                    "bytes_per_second": progress.bytes_per_second,
                    "phase": progress.phase,
                });
                ("downloading", Some(progress), None)
            }
            ModelState::Downloaded => ("downloaded", None, None),
            ModelState::Loading(share) => {
                let total = model.local.as_ref().map_or(0, |local| local.size);
                let done = (f64::from(share) * total as f64) as u64;
                let progress =
                    json!({"done": done, "total": total, "bytes_per_second": 0, "phase": "loading"});
                ("loading", Some(progress), None)
            }
            ModelState::Loaded => ("loaded", None, None),
            ModelState::Failed { code, message } => {
                ("failed", None, Some(json!({"code": code, "message": message})))
            }
        };
        let entry = model.entry.as_ref();
        let open = model.loaded.as_ref().map(|loaded| &loaded.open);
        let reasoning = match open {
            Some(open) => {
                let reasoning = open.template.reasoning();
                json!({"supported": reasoning.supported, "can_disable": reasoning.can_disable})
            }
            None => {
                let reasons = entry.is_some_and(|entry| entry.reasoning);
                json!({"supported": reasons, "can_disable": reasons})
            }
        };
        let warnings = open.map_or_else(Vec::new, |open| {
            let warning =
                |warning: &models::Warning| json!({"code": warning.code, "message": warning.message});
            open.warnings.iter().map(warning).collect()
        });
        let languages = open.map(|open| open.languages.clone()).filter(|languages| !languages.is_empty());
        ModelItem {
            title: entry.map_or_else(|| model.name.clone(), |entry| entry.title.clone()),
            architecture: entry.map(|entry| entry.architecture.clone()),
            parameters: entry.map(|entry| entry.parameters),
            quant: entry.map(|entry| entry.quant.clone()),
            file_size: model
                .local
                .as_ref()
                .map(|local| local.size)
                .or(entry.map(|e| e.file_size))
                .unwrap_or(0),
            license: entry.map(|entry| entry.license.clone()),
            languages: languages.or(entry.map(|entry| entry.languages.clone())).unwrap_or_default(),
            context_length: entry.map(|entry| entry.context_length),
            ctx: model.loaded.as_ref().map(|loaded| loaded.max_seq_len()),
            origin: model.local.as_ref().map(|local| local.origin.as_str()),
            state,
            progress,
            error,
            memory_needed: model.memory_needed,
            fits: model.fits,
            recommended: model.recommended,
            gated: entry.is_some_and(|entry| entry.gated),
            unverified: entry.is_some_and(|entry| entry.unverified),
            reasoning,
            warnings,
            default: model.default,
            name: model.name,
        }
    }
}
