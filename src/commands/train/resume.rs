//! `daybreak train resume`: a run goes on from its last checkpoint.

use anyhow::{Result, bail};
use kernels::Pool;
use trainer::{Checkpoint, RunData, RunFile, Training};

use super::n_threads;
use super::running::{Base, begin};
use crate::cli;
use crate::config::isa;

pub(super) fn resume(args: &cli::TrainResume) -> Result<()> {
    let folder = &args.run;
    let file = RunFile::read(folder)?;
    let data = RunData::open(file.stage, &folder.join("data"))?;
    let (checkpoint, damaged) = Checkpoint::open_latest(&folder.join("checkpoints"))?;
    for error in damaged {
        eprintln!("daybreak: {error}; going on from the one before");
    }
    let state = checkpoint.state();
    if state.data_digest != data.digest() {
        bail!(
            "the tokens in {} are not those that this run began with; begin the run anew",
            folder.join("data").display()
        );
    }
    if state.is_done && folder.join("model.gguf").exists() {
        let model = folder.join("model.gguf");
        match state.step < file.settings.n_steps {
            true => println!("the run ended early, after {} steps: {}", state.step, model.display()),
            false => println!("all {} steps are done: {}", state.step, model.display()),
        }
        return Ok(());
    }
    let pool = Pool::new(n_threads(args.watch.threads)?.get(), isa()?)?;
    let base = Base {
        header: checkpoint.header(),
        config: checkpoint.config().clone(),
        parameters: checkpoint.parameters()?,
    };
    begin(&pool, folder, &file, &data, base, args.watch.json, |training: &mut Training<'_>| {
        Ok(training.restore(&checkpoint)?)
    })
}
