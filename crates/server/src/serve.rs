//! The server's life: check the settings, open the store, listen, load, serve, end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use store::{Store, StoreConfig, StoreError};
use tokio::net::{TcpListener, TcpSocket};
use tower_http::catch_panic::CatchPanicLayer;

use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::model_host::{HostConfig, ModelHost};
use crate::page_api::LAST_MODEL;
use crate::sessions::Sessions;
use crate::state::{AppState, Phase, Shutdown, now_ms};
use crate::{app, connections, guard, health, kept, metrics, openai, page, page_api, training, turn};

/// How long connections have to send their last words once everything else has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Connections that the system keeps waiting for us; 200 clients that come at once must find room.
const BACKLOG: u32 = 1024;
/// Conversations that were deleted longer ago than this are gone for good.
const KEEP_DELETED: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host is no address.
    #[error("host {host:?} is not an IP address; use 127.0.0.1, 0.0.0.0, ::1 or the address of an interface")]
    BadHost {
        /// As given.
        host: String,
    },
    /// Open to the network without a key.
    #[error(
        "listening on {host} lets every machine of the network in: set an API key with --api-key KEY or \
         DAYBREAK_API_KEY, or listen on 127.0.0.1"
    )]
    KeyRequired {
        /// As given.
        host: String,
    },
    /// A web origin that is none.
    #[error("{origin:?} is not a web origin; write it as https://chat.example.org or http://localhost:3000")]
    BadOrigin {
        /// As given.
        origin: String,
    },
    /// Somebody else listens there.
    #[error("{address} is in use by another program; stop it, or choose another port with --port")]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model that was named at the start cannot be served.
    #[error(transparent)]
    Model(#[from] ApiError),
}

/// Serves until `shutdown` is ready, then ends in order.
///
/// `on_ready` is told the address once the models of [`ServerConfig::models`] answer; connections are taken
/// before that, so that `/health` and the page can tell how far it is.
///
/// The future is boxed here, so that the whole server is compiled once, in this crate, and not again in every
/// program and test that starts one.
pub fn serve(
    config: ServerConfig,
    on_ready: impl FnOnce(SocketAddr) + Send + 'static,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Serving {
    boxed(config, Box::new(on_ready), Box::pin(shutdown))
}

/// A server's whole life.
pub type Serving = Pin<Box<dyn Future<Output = Result<(), ServeError>> + Send>>;

type OnReady = Box<dyn FnOnce(SocketAddr) + Send>;
type StopSignal = Pin<Box<dyn Future<Output = ()> + Send>>;

fn boxed(config: ServerConfig, on_ready: OnReady, shutdown: StopSignal) -> Serving {
    Box::pin(run(config, on_ready, shutdown))
}

async fn run(config: ServerConfig, on_ready: OnReady, mut shutdown: StopSignal) -> Result<(), ServeError> {
    check(&config)?;
    let listener = listen(&config)?;
    let address =
        listener.local_addr().map_err(|source| ServeError::Listen { address: unknown(), source })?;
    let state = open(config).await?;
    let router = router(state.clone());
    let limits = state.config.limits.clone();
    let stop = state.shutdown.clone();
    let serving = tokio::spawn(async move { connections::run(listener, router, &limits, &stop).await });
    let loaded = tokio::select! {
        outcome = load_first_models(&state) => Some(outcome),
        () = &mut shutdown => None,
    };
    let outcome = match loaded {
        Some(Ok(())) => {
            on_ready(address);
            shutdown.await;
            Ok(())
        }
        Some(error) => error,
        None => Ok(()),
    };
    end(&state, serving).await;
    Ok(outcome?)
}

/// Ready at SIGINT or SIGTERM, from the call on and not from the first poll: a server that is told to end the
/// moment it has said that it is there ends in order, too. Call it inside a runtime.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        let [Ok(mut interrupt), Ok(mut terminate)] = signals else {
            // Without a handler the signal ends the process, which is what was wanted.
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

fn check(config: &ServerConfig) -> Result<(), ServeError> {
    let Some(address) = config.address() else {
        return Err(ServeError::BadHost { host: config.host.clone() });
    };
    if !address.is_loopback() && config.api_key.as_ref().is_none_or(|key| key.is_empty()) {
        return Err(ServeError::KeyRequired { host: config.host.clone() });
    }
    let is_origin = |origin: &str| {
        let rest = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        origin == "*"
            || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']))
    };
    match config.cors_origins.iter().find(|origin| !is_origin(origin)) {
        Some(origin) => Err(ServeError::BadOrigin { origin: origin.clone() }),
        None => Ok(()),
    }
}

fn unknown() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

fn listen(config: &ServerConfig) -> Result<TcpListener, ServeError> {
    let ip = config.address().ok_or_else(|| ServeError::BadHost { host: config.host.clone() })?;
    let address = SocketAddr::new(ip, config.port);
    let bind = || {
        let socket = if ip.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart does not wait for connections of the last run to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortInUse { address },
        _ => ServeError::Listen { address, source },
    })
}

async fn open(config: ServerConfig) -> Result<AppState, ServeError> {
    let store_config =
        StoreConfig { data_dir: config.data_dir.clone(), database_url: config.database_url.clone() };
    let store = Store::open(store_config).await?;
    store.recover().await?;
    store.purge_deleted(KEEP_DELETED).await?;
    let sessions = Sessions::open(&store, config.api_key.as_deref()).await?;
    let host = HostConfig {
        library: config.library.clone(),
        pull: config.pull.clone(),
        n_threads: config.n_threads,
        isa: config.isa,
        ctx: config.ctx,
        kv_memory_bytes: config.kv_memory_bytes,
        chat_template: config.chat_template.clone(),
        max_running: config.limits.max_running,
        max_queue: config.limits.max_queue,
        prompt_lookup: config.prompt_lookup,
        max_downloads: config.limits.max_downloads,
        max_model_bytes: config.limits.max_model_bytes,
    };
    let saved = kept::open(&config, &store).await?;
    let training = training::open(&config, &store)?;
    let state = AppState {
        models: ModelHost::new(host, config.default_model.clone()),
        saved,
        training,
        store,
        runs: turn::Runs::new(),
        metrics: Arc::new(Metrics::new()),
        sessions: Arc::new(sessions),
        shutdown: Shutdown::new(),
        started_at_ms: now_ms(),
        config: Arc::new(config),
    };
    training::serve_again(&state).await?;
    Ok(state)
}

/// Loads what the person asked for, or else what was used last, or else the default.
async fn load_first_models(state: &AppState) -> Result<(), ApiError> {
    let models = &state.models;
    if state.config.models.is_empty() {
        let last = state.store.value(LAST_MODEL).await?.and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(last) = last
            && models.check(&last).await.is_ok()
        {
            models.set_default(&last);
        }
        let name = models.full_name(&models.default_name()).await.unwrap_or_else(|_| models.default_name());
        models.set_default(&name);
        // Nobody asked for it by name, so the server lives on without it and the page tells why.
        match models.get(&name).await {
            Err(ApiError::ModelNotDownloaded { .. }) => {
                if let Err(error) = models.pull(&name, true).await {
                    tracing::error!("{error}");
                }
            }
            Err(error) => tracing::error!("{error}"),
            Ok(_) => {}
        }
        return Ok(());
    }
    for (idx, path_or_name) in state.config.models.iter().enumerate() {
        let adapters = if idx == 0 { state.config.adapters.as_slice() } else { &[] };
        let name = models.add_file(path_or_name, adapters).await?;
        if idx == 0 {
            models.set_default(&name);
        }
        models.get(&name).await?;
    }
    Ok(())
}

/// Everything that is served, behind the guards.
fn router(state: AppState) -> Router {
    let router = Router::new()
        .route("/health", get(health::show))
        .route("/metrics", get(health::metrics))
        .merge(openai::router())
        .merge(page_api::router())
        .merge(app::router())
        .merge(training::router(&state))
        .fallback(fallback)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(state.clone(), guard::key_or_session));
    // A preflight carries no key; so CORS answers before the key is asked for.
    let router = match guard::cors(&state.config) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(state.clone(), guard::host_and_origin))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(guard::security_headers))
        .layer(from_fn_with_state(state.clone(), metrics::count))
        .with_state(state)
}

/// The page's files; everything else is unknown, in JSON.
async fn fallback(request: Request) -> Response {
    let path = request.uri().path();
    let is_api = ["/api", "/v1"].iter().any(|api| path == *api || path.starts_with(&format!("{api}/")));
    let page = if is_api { None } else { page::serve(request.method(), path, request.headers()) };
    page.unwrap_or_else(|| {
        let method = request.method().to_string();
        ApiError::UnknownPath { method, path: path.to_string() }.into_response()
    })
}

async fn method_not_allowed(request: Request) -> ApiError {
    let method = request.method().to_string();
    ApiError::MethodNotAllowed { method, path: request.uri().path().to_string() }
}

fn panicked(_: Box<dyn std::any::Any + Send>) -> Response<axum::body::Body> {
    let response = ApiError::Internal { reason: "a request handler panicked" }.into_response();
    debug_assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// No new connections; running answers may finish for a while; what is left is told and ends.
async fn end(state: &AppState, serving: tokio::task::JoinHandle<()>) {
    let grace = state.config.limits.shutdown_grace;
    state.shutdown.advance(Phase::Draining);
    state.models.cancel_all_pulls();
    training::close(state).await;
    let mut serving = serving;
    let finish = async {
        // Both have the same time: the page's answers and everyone's connections.
        let (_, served) = tokio::join!(state.runs.shutdown(grace), tokio::time::timeout(grace, &mut serving));
        served.is_ok()
    };
    if !finish.await {
        state.shutdown.advance(Phase::Aborting);
        if tokio::time::timeout(LAST_WORDS, &mut serving).await.is_err() {
            serving.abort();
        }
    }
    let models = state.models.clone();
    // Engine threads end with the last handle; a step that is being computed does so soon.
    let _ = tokio::task::spawn_blocking(move || {
        models.all_loaded().iter().for_each(|model| model.engine.shutdown())
    })
    .await;
}
