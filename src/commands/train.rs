//! `daybreak train`: the stages from text to a model.

mod eval;
mod export;
mod merge;
mod pretrain;
pub(crate) mod recipe;
mod resume;
mod running;
mod show;
mod speed;
mod tokenizer;
mod tuning;

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::{Context, Result, bail};
use kernels::Pool;
use trainer::{Decay, DecoderOptions, Products};
use weights::{Gguf, Value};

use crate::cli;
use crate::config::default_threads;

pub(crate) fn train(args: cli::Train) -> Result<()> {
    match args.stage {
        cli::TrainStage::Tokenizer(args) => tokenizer::train(&args),
        cli::TrainStage::Pretrain(args) => pretrain::train(&args),
        cli::TrainStage::Sft(args) => tuning::sft(&args),
        cli::TrainStage::Dpo(args) => tuning::dpo(&args),
        cli::TrainStage::Resume(args) => resume::resume(&args),
        cli::TrainStage::Eval(args) => eval::eval(&args),
        cli::TrainStage::Export(args) => export::export(&args),
        cli::TrainStage::Merge(args) => merge::merge(&args),
        cli::TrainStage::Recipe(args) => recipe::recipe(&args),
        cli::TrainStage::Speed(args) => speed::speed(&args),
    }
}

/// Nothing is overwritten without being asked.
fn check_output(folder: &Path, force: bool) -> Result<()> {
    match force || is_free(folder)? {
        true => Ok(()),
        false => bail!("{} exists and is not empty; --force writes into it", folder.display()),
    }
}

/// Nothing is overwritten.
fn check_new(folder: &Path) -> Result<()> {
    match is_free(folder)? {
        true => Ok(()),
        false => bail!("{} exists and is not empty; name another folder with --out", folder.display()),
    }
}

/// Whether a folder is empty or not there.
fn is_free(folder: &Path) -> Result<bool> {
    match std::fs::metadata(folder) {
        Err(_) => Ok(true),
        Ok(metadata) if !metadata.is_dir() => {
            bail!("{} is a file; expected the name of a folder to write", folder.display())
        }
        Ok(_) => {
            let mut entries = std::fs::read_dir(folder).with_context(|| format!("{}", folder.display()))?;
            Ok(entries.next().is_none())
        }
    }
}

/// The folder of a run that is being prepared. Unless it is kept, what was written there goes again, so that the next
/// attempt finds it as this one did.
struct NewFolder<'a> {
    folder: &'a Path,
    was_there: bool,
    is_kept: bool,
}

impl NewFolder<'_> {
    /// Makes the folder, which must be empty if it is there.
    fn create(folder: &Path) -> Result<NewFolder<'_>> {
        check_new(folder)?;
        let was_there = folder.exists();
        std::fs::create_dir_all(folder).with_context(|| format!("{}", folder.display()))?;
        Ok(NewFolder { folder, was_there, is_kept: false })
    }

    /// The run begins.
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for NewFolder<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        // What cannot be removed is in the way of the next attempt, which says so.
        let _ = std::fs::remove_dir_all(self.folder);
        if self.was_there {
            let _ = std::fs::create_dir(self.folder);
        }
    }
}

/// The threads that were asked for, else one for each core.
fn n_threads(asked: Option<u16>) -> Result<NonZeroUsize> {
    NonZeroUsize::new(asked.map_or_else(default_threads, usize::from)).context("no thread to compute with")
}

/// What a new model has, as its flags say: a window that no sequence is longer than would be none.
pub(crate) fn decoder_options(tied: bool, window: Option<u32>, seq_len: usize) -> Result<DecoderOptions> {
    let window = window.map(|n| n as usize);
    if let Some(window) = window.filter(|&window| window >= seq_len) {
        bail!("--window is {window}, expected less than --seq-len, which is {seq_len}");
    }
    Ok(DecoderOptions { tied_output: tied, window })
}

/// The keys of a model's vocabulary, as a file of its own.
fn write_vocabulary(model: &Gguf, chat_template: Option<&str>, place: &Path) -> Result<()> {
    let mut writer = weights::GgufWriter::new(32)?;
    writer.set("general.architecture", Value::from_text("llama"))?;
    for (key, value) in vocabulary_keys(model) {
        writer.set(&key, value)?;
    }
    if let Some(template) = chat_template {
        writer.set("tokenizer.chat_template", Value::from_text(template))?;
    }
    Ok(writer.write_to(place)?)
}

fn vocabulary_keys(gguf: &Gguf) -> impl Iterator<Item = (String, Value<'_>)> {
    gguf.metadata()
        .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)))
        .filter(|(key, _)| key.starts_with("tokenizer."))
}

/// What products are computed in: as asked, else what the processor is fastest in.
fn products(asked: Option<&str>, pool: &Pool) -> Products {
    match asked {
        Some("f32") => Products::F32,
        Some(_) => Products::Bf16,
        None if pool.isa().has_bf16() => Products::Bf16,
        None => Products::F32,
    }
}

/// The shape of this name, one of those that the command line knows.
fn decay(name: &str) -> Decay {
    match name {
        "cosine" => Decay::Cosine,
        "linear" => Decay::Linear,
        "constant" => Decay::Constant,
        _ => Decay::Wsd,
    }
}
