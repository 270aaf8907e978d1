//! `daybreak train`: the stages from text to a model.

mod export;
mod pretrain;
mod resume;
mod running;
mod speed;
mod tokenizer;

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cli;
use crate::config::default_threads;

pub(crate) fn train(args: cli::Train) -> Result<()> {
    match args.stage {
        cli::TrainStage::Tokenizer(args) => tokenizer::train(&args),
        cli::TrainStage::Pretrain(args) => pretrain::train(&args),
        cli::TrainStage::Resume(args) => resume::resume(&args),
        cli::TrainStage::Export(args) => export::export(&args),
        cli::TrainStage::Speed(args) => speed::speed(&args),
    }
}

/// Nothing is overwritten without being asked.
fn check_output(folder: &Path, force: bool) -> Result<()> {
    let is_empty = |folder: &Path| std::fs::read_dir(folder).map(|mut entries| entries.next().is_none());
    match std::fs::metadata(folder) {
        Err(_) => Ok(()),
        Ok(metadata) if !metadata.is_dir() => {
            bail!("{} is a file; expected the name of a folder to write", folder.display())
        }
        Ok(_) if force || is_empty(folder)? => Ok(()),
        Ok(_) => bail!("{} exists and is not empty; --force writes into it", folder.display()),
    }
}

/// The threads that were asked for, else one for each core.
fn n_threads(asked: Option<u16>) -> Result<NonZeroUsize> {
    NonZeroUsize::new(asked.map_or_else(default_threads, usize::from)).context("no thread to compute with")
}
