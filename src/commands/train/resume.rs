//! `daybreak train resume`: a run goes on from its last checkpoint.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use kernels::Pool;
use trainer::{Checkpoint, Frozen, LoraSettings, Parameters, RunData, RunFile};
use weights::{Gguf, ModelConfig};

use super::n_threads;
use super::running::{Base, Start, take_steps};
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
    let model = folder.join(file.outcome());
    if state.is_done && model.exists() {
        match state.step < file.settings.n_steps {
            true => println!("the run ended early, after {} steps: {}", state.step, model.display()),
            false => println!("all {} steps are done: {}", state.step, model.display()),
        }
        return Ok(());
    }
    let pool = Pool::new(n_threads(args.watch.threads)?.get(), isa()?)?;
    let header = checkpoint.header();
    let base = match &file.lora {
        Some(lora) => {
            let (config, frozen) = frozen(&pool, lora)?;
            Base { header, parameters: lora.zeros(&config), config, frozen: Some(frozen) }
        }
        None => {
            let config = checkpoint.config()?;
            Base { header, parameters: Parameters::zeros(&config), config, frozen: None }
        }
    };
    take_steps(&pool, folder, &file, &data, base, &args.watch, Start::From(&checkpoint))
}

/// The model that an adapter was begun on, if it is still there.
fn frozen(pool: &Pool, lora: &LoraSettings) -> Result<(ModelConfig, Arc<Frozen>)> {
    let gguf = Gguf::open(&lora.base).context("the model that this adapter is learnt for")?;
    let fingerprint = gguf.fingerprint();
    if fingerprint != lora.fingerprint {
        bail!(
            "{} is not the model that this run began with (its fingerprint is {fingerprint}, that was {}); put that \
             one back, or begin the run anew",
            lora.base.display(),
            lora.fingerprint
        );
    }
    let config = ModelConfig::from_gguf(&gguf)?;
    let frozen = Frozen::new(pool, Arc::new(gguf), &config)?;
    Ok((config, Arc::new(frozen)))
}
