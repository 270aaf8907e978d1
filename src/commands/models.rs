//! `daybreak models`: what is on this disk and where it came from; with `--all`, what the catalog offers.

use std::io::Write;

use anyhow::Result;
use models::{LocalModel, Origin};
use serde_json::json;

use crate::cli;
use crate::config::ModelSettings;
use crate::terminal::{human_bytes, printable, table};

pub(crate) fn models(args: cli::Models) -> Result<()> {
    let settings = ModelSettings::new(&args.data)?;
    let local = settings.library.list();
    let mut out = std::io::stdout().lock();
    if args.json {
        return print_json(&settings, &local, args.all, &mut out);
    }
    if local.is_empty() {
        writeln!(out, "No models on this disk yet. `daybreak pull smollm2` fetches a small one (98 MB).")?;
    } else {
        let rows = local.iter().map(|model| {
            let name = printable(model.name.as_bytes());
            [
                name,
                human_bytes(model.size),
                origin(model.origin).to_owned(),
                model.path().display().to_string(),
            ]
        });
        table(&mut out, ["NAME", "SIZE", "FROM", "PATH"], rows, &[])?;
    }
    if args.all {
        let rows = settings.library.catalog().entries().iter().map(|entry| {
            let here = if local.iter().any(|model| model.name == entry.name) { "here" } else { "" };
            let access = if entry.gated { "asks for an account" } else { here };
            [entry.name.clone(), human_bytes(entry.file_size), entry.languages.join(" "), {
                let licence = &entry.license;
                if access.is_empty() { licence.clone() } else { format!("{licence}, {access}") }
            }]
        });
        writeln!(out, "\nIn the catalog (daybreak pull NAME):")?;
        table(&mut out, ["NAME", "SIZE", "LANGUAGES", "LICENCE"], rows, &[])?;
    }
    Ok(())
}

fn print_json(settings: &ModelSettings, local: &[LocalModel], all: bool, out: &mut impl Write) -> Result<()> {
    let here = local.iter().map(|model| {
        json!({
            "name": model.name, "size": model.size, "from": origin(model.origin),
            "path": model.path().display().to_string(), "sha256": settings.library.known_sha256(model), "here": true,
        })
    });
    let catalog = settings.library.catalog().entries().iter();
    let offered = catalog.filter(|entry| all && !local.iter().any(|model| model.name == entry.name)).map(|entry| {
        json!({
            "name": entry.name, "size": entry.file_size, "licence": entry.license, "languages": entry.languages,
            "sha256": entry.sha256, "gated": entry.gated, "here": false,
        })
    });
    let rows: Vec<_> = here.chain(offered).collect();
    writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Pulled => "daybreak",
        Origin::Shared => "daybreak cache",
        Origin::HuggingFace => "Hugging Face",
        Origin::Ollama => "Ollama",
        Origin::LmStudio => "LM Studio",
        Origin::File => "file",
    }
}
