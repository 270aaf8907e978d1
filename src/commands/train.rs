//! `daybreak train`: the stages from text to a model.

mod export;
mod tokenizer;

use std::path::Path;

use anyhow::{Result, bail};

use crate::cli;

pub(crate) fn train(args: cli::Train) -> Result<()> {
    match args.stage {
        cli::TrainStage::Tokenizer(args) => tokenizer::train(&args),
        cli::TrainStage::Export(args) => export::export(&args),
    }
}

/// A folder to write: nothing in it is overwritten without being asked.
fn check_output(folder: &Path, force: bool) -> Result<()> {
    let is_empty = || std::fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    match std::fs::metadata(folder) {
        Err(_) => Ok(()),
        Ok(metadata) if !metadata.is_dir() => {
            bail!("{} is a file; expected the name of a folder to write", folder.display())
        }
        Ok(_) if force || is_empty()? => Ok(()),
        Ok(_) => bail!("{} exists and is not empty; --force writes into it", folder.display()),
    }
}
