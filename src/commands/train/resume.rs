//! `daybreak train resume`: a run goes on from its last checkpoint.

use anyhow::{Context, Result, bail};
use kernels::Pool;
use trainer::{Batches, Checkpoint, Data, Pretraining, Run, RunFile, Stage, Training, held_out_rows};
use weights::TensorType;

use super::{n_threads, running};
use crate::cli;
use crate::config::isa;

pub(super) fn resume(args: &cli::TrainResume) -> Result<()> {
    let folder = &args.run;
    let file = RunFile::read(folder)?;
    let data = Data::open(&folder.join("data"))?;
    let (checkpoint, damaged) = Checkpoint::open_latest(&folder.join("checkpoints"))?;
    for error in damaged {
        eprintln!("daybreak: {error}; going on from the one before");
    }
    if checkpoint.state().data_digest != data.summary.digest {
        bail!(
            "the tokens in {} are not those that this run began with; begin the run anew",
            folder.join("data").display()
        );
    }
    let state = checkpoint.state();
    if state.step >= file.settings.n_steps && folder.join("model.gguf").exists() {
        println!("all {} steps are done: {}", state.step, folder.join("model.gguf").display());
        return Ok(());
    }
    let tokenizer = models::open_tokenizer(&folder.join("tokenizer.gguf"))?;
    let pool = Pool::new(n_threads(args.watch.threads)?.get(), isa()?)?;
    let settings = file.settings.clone();
    let objective = match file.stage {
        Stage::Pretrain => {
            let batches = Batches::new(&data, file.document_token, settings.seq_len, settings.seed);
            Box::new(Pretraining::new(batches, settings.batch_rows))
        }
    };
    let parameters = checkpoint.parameters()?;
    let config = checkpoint.config().clone();
    let digest = data.summary.digest.clone();
    let (seq_len, eval_rows) = (settings.seq_len, settings.eval_rows);
    let mut training = Training::new(&pool, settings, objective, config, parameters, digest)?;
    training.restore(&checkpoint)?;
    let counts = |token| !tokenizer.is_control(token);
    let run = Run {
        folder,
        header: checkpoint.header(),
        tokenizer: &tokenizer,
        document_token: file.document_token,
        held_out: held_out_rows(&data, file.document_token, seq_len, eval_rows, &counts),
        prompts: file.prompts.clone(),
        model_type: model_type(&file.model_type)?,
    };
    running::go(&run, &mut training, args.watch.json)
}

/// Number format of a finished model.
pub(super) fn model_type(name: &str) -> Result<TensorType> {
    let types = [TensorType::F32, TensorType::F16, TensorType::BF16];
    let found = types.into_iter().find(|ty| ty.name().eq_ignore_ascii_case(name));
    found.with_context(|| {
        format!("{name:?} is no number format of a finished model: expected f32, f16 or bf16")
    })
}
