//! `daybreak train`: the stages from text to a model.

mod tokenizer;

use anyhow::Result;

use crate::cli;

pub(crate) fn train(args: cli::Train) -> Result<()> {
    match args.stage {
        cli::TrainStage::Tokenizer(args) => tokenizer::train(&args),
    }
}
