//! `daybreak serve`: the chat page and the APIs.

use std::io::Write;

use anyhow::{Result, bail};
use server::{BuildInfo, Limits, ServerConfig};

use crate::cli;
use crate::commands::chat::DEFAULT_MODEL;
use crate::commands::pull::download;
use crate::config::{self, ModelSettings, data_dir, default_threads, isa, read_template};
use crate::terminal::Interrupted;
use crate::training_desk;

pub(crate) fn serve(args: cli::Serve) -> Result<()> {
    let settings = ModelSettings::new(&args.data)?;
    if args.models.is_empty() && !args.engine.adapter.adapters.is_empty() {
        bail!("--adapter needs --model: name the model that the adapter was made for");
    }
    // Without any model here the default one comes first, with its bar in the terminal; the page could fetch it,
    // too, but the first question should not have to wait for a second decision.
    if args.models.is_empty()
        && settings.library.list().is_empty()
        && let Err(error) = download(&settings, DEFAULT_MODEL)
    {
        if error.is::<Interrupted>() {
            return Err(error);
        }
        eprintln!("daybreak: {error:#}");
        eprintln!("daybreak: going on without a model; choose one on the page");
    }
    for name in &args.models {
        if settings.library.resolve(name).is_err() && settings.library.catalog().find(name).is_some() {
            download(&settings, name)?;
        }
    }
    let server_config = ServerConfig {
        host: args.host,
        port: args.port,
        data_dir: data_dir(args.data.data.clone())?,
        database_url: args.database_url,
        library: settings.library,
        pull: settings.pull,
        models: args.models,
        adapters: args.engine.adapter.adapters,
        default_model: DEFAULT_MODEL.to_owned(),
        n_threads: args.engine.threads.map_or_else(default_threads, usize::from),
        isa: isa()?,
        ctx: args.engine.ctx.map(|ctx| ctx as usize),
        kv_memory_bytes: args.engine.kv_memory,
        kv_disk_bytes: args.kv_disk,
        prompt_lookup: args.engine.prompt_lookup,
        chat_template: read_template(args.engine.chat_template.as_deref())?,
        api_key: args.api_key,
        allowed_hosts: args.allowed_hosts,
        cors_origins: args.cors_origins,
        training: Some(training_desk::training()),
        build: BuildInfo { version: env!("CARGO_PKG_VERSION").to_owned(), commit: config::commit() },
        limits: Limits::standard(),
    };
    let opens = args.open && config::has_display();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let on_ready = move |address| {
        let url = page_url(address);
        let mut out = std::io::stdout().lock();
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "{url}").and_then(|()| out.flush());
        if opens {
            let _ = std::process::Command::new("xdg-open").arg(&url).spawn();
        }
    };
    runtime.block_on(async { server::serve(server_config, on_ready, server::shutdown_signal()).await })?;
    Ok(())
}

/// What a person types: `localhost` for loopback and for "every address".
fn page_url(address: std::net::SocketAddr) -> String {
    let ip = address.ip();
    match ip.is_unspecified() || ip == std::net::Ipv4Addr::LOCALHOST {
        true => format!("http://localhost:{}", address.port()),
        false => format!("http://{address}"),
    }
}
