//! `daybreak pull`: a catalog name or a repository of the hub → a checked file on this disk.

use anyhow::Result;
use models::Cancel;

use crate::cli;
use crate::config::ModelSettings;
use crate::progress::PullBar;
use crate::terminal::{Interrupted, human_bytes};

pub(crate) fn pull(args: cli::Pull) -> Result<()> {
    let settings = ModelSettings::new(&args.data)?;
    let model = download(&settings, &args.model)?;
    println!("{}  {}  {}", model.name, human_bytes(model.size), model.path().display());
    Ok(())
}

/// Downloads with a bar; Ctrl-C keeps the part for the next time.
pub(crate) fn download(settings: &ModelSettings, name: &str) -> Result<models::LocalModel> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let bar = PullBar::new(name);
        let cancel = Cancel::new();
        let show = |progress| bar.show(&progress);
        let pulled = tokio::select! {
            pulled = models::pull(&settings.library, name, &settings.pull, &show, &cancel) => pulled,
            _ = tokio::signal::ctrl_c() => {
                bar.clear();
                eprintln!("stopped; `daybreak pull {name}` goes on from here");
                return Err(Interrupted.into());
            }
        };
        bar.clear();
        Ok(pulled?)
    })
}
