//! All that a run needs to go on, in one model file: the weights as any model file has them, the optimiser's numbers
//! beside them, and the state of the loop in the metadata. A file is written beside its place and renamed, so the one
//! before stays whole until the new one is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};
use weights::{Gguf, GgufError, GgufWriter, ModelConfig, TensorSpec, TensorType, Value, tensor_specs};
use xxhash_rust::xxh3::Xxh3;

use crate::optimizer::Optimizer;
use crate::parameters::Parameters;

/// Of what is written here.
const VERSION: u32 = 1;
const VERSION_KEY: &str = "training.version";
const STATE_KEY: &str = "training.state";
const DIGEST_KEY: &str = "training.digest";
/// What a checkpoint's name begins with, before the step.
const NAME: &str = "step-";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Its content.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// The folder.
    #[error("{}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none.
    #[error("no checkpoint in {}; begin the run anew", .0.display())]
    None(PathBuf),
}

/// Where the loop is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoopState {
    /// Steps done.
    pub step: u64,
    /// Steps that changed the weights.
    pub n_updates: u64,
    /// Batches taken, of which a step has one or more.
    pub n_batches: u64,
    /// Tokens that counted in the loss.
    pub n_tokens: f64,
    /// Seconds spent.
    pub seconds: f64,
    /// Running mean of the loss and of its squared distance from it.
    pub loss_mean: f64,
    /// See above.
    pub loss_variance: f64,
    /// Steps in a row whose update was left out because of their loss.
    pub n_left_out: u32,
    /// How often the run went back to a checkpoint.
    pub n_rollbacks: u32,
    /// Factor of the learning rate, lowered by each of those.
    pub rate_factor: f64,
    /// The best held-out loss.
    pub best_loss: Option<f64>,
    /// Steps done then.
    #[serde(default)]
    pub best_step: u64,
    /// Evaluations since then.
    pub n_since_best: u32,
    /// Whether the run has come to its end, with its last step or before.
    pub is_done: bool,
    /// Digest of the data; another would give another run.
    pub data_digest: String,
}

impl LoopState {
    /// Before the first step.
    #[must_use]
    pub fn new(data_digest: String) -> LoopState {
        LoopState {
            step: 0,
            n_updates: 0,
            n_batches: 0,
            n_tokens: 0.0,
            seconds: 0.0,
            loss_mean: 0.0,
            loss_variance: 0.0,
            n_left_out: 0,
            n_rollbacks: 0,
            rate_factor: 1.0,
            best_loss: None,
            best_step: 0,
            n_since_best: 0,
            is_done: false,
            data_digest,
        }
    }
}

/// Keys of a model file beside its tensors: what the architecture is, and the vocabulary.
pub type Header<'a> = Vec<(String, Value<'a>)>;

fn name_of(kind: &str, spec: &TensorSpec) -> String {
    format!("optimizer.{kind}.{}", spec.name)
}

/// Row length first, as in ggml.
pub(crate) fn dims(spec: &TensorSpec) -> Vec<u64> {
    spec.shape.iter().rev().map(|&n| n as u64).collect()
}

/// Writes a checkpoint; without an optimiser one from which nothing goes on.
///
/// # Errors
/// Where the disk refuses; what lay at `path` is then as it was.
pub(crate) fn save_checkpoint(
    path: &Path,
    header: &Header<'_>,
    parameters: &Parameters,
    optimizer: Option<&Optimizer>,
    state: &LoopState,
) -> Result<(), CheckpointError> {
    let mut writer = GgufWriter::new(32)?;
    for (key, value) in header {
        writer.set(key, value.clone())?;
    }
    let state = serde_json::to_vec(state).expect("plain numbers and texts");
    let mut digest = Digest::default();
    parameters.iter().for_each(|(_, values)| digest.add(values));
    let of_optimizer = || optimizer.into_iter().flat_map(Optimizer::state);
    of_optimizer().for_each(|(_, _, values)| digest.add(values));
    writer.set(VERSION_KEY, Value::U32(VERSION))?;
    writer.set(STATE_KEY, Value::String(state.into()))?;
    writer.set(DIGEST_KEY, Value::String(digest.finish().into_bytes().into()))?;
    for (spec, _) in parameters.iter() {
        writer.declare_tensor(&spec.name, &dims(spec), TensorType::F32)?;
    }
    for (kind, spec, _) in of_optimizer() {
        writer.declare_tensor(&name_of(kind, spec), &dims(spec), TensorType::F32)?;
    }
    let mut stream = writer.stream_to(path)?;
    for (_, values) in parameters.iter() {
        stream.write(bytemuck::cast_slice(values))?;
    }
    for (_, _, values) in of_optimizer() {
        stream.write(bytemuck::cast_slice(values))?;
    }
    Ok(stream.finish()?)
}

/// A checkpoint that was opened.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    gguf: Gguf,
    state: LoopState,
}

impl Checkpoint {
    /// Opens a checkpoint and checks all of it against its digest.
    ///
    /// # Errors
    /// Where it is missing, damaged, of another version, or no checkpoint at all.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        let unusable = |what: String| CheckpointError::Unusable { path: path.to_owned(), what };
        let gguf = Gguf::open(path)?;
        match gguf.get_u32(VERSION_KEY)? {
            Some(VERSION) => {}
            Some(other) => {
                return Err(unusable(format!(
                    "a checkpoint of version {other}, this program writes {VERSION}; go on with the program that wrote it"
                )));
            }
            None => return Err(unusable("a model, but no checkpoint of a run".to_owned())),
        }
        let state = gguf.get_bytes(STATE_KEY)?.unwrap_or_default();
        let state = serde_json::from_slice(state).map_err(|error| unusable(format!("its state: {error}")))?;
        let mut digest = Digest::default();
        gguf.tensors().iter().for_each(|info| digest.0.update(gguf.bytes(info)));
        if gguf.get_str(DIGEST_KEY)? != Some(&digest.finish()) {
            return Err(unusable("damaged: its content is not what was written".to_owned()));
        }
        Ok(Checkpoint { path: path.to_owned(), gguf, state })
    }

    /// The newest checkpoint of a folder that is whole, and what was wrong with newer ones.
    ///
    /// # Errors
    /// Where there is none; with the reason if there is one that cannot be used.
    pub fn open_latest(folder: &Path) -> Result<(Checkpoint, Vec<CheckpointError>), CheckpointError> {
        let mut damaged = Vec::new();
        for (_, path) in list(folder)?.into_iter().rev() {
            match Checkpoint::open(&path) {
                Ok(checkpoint) => return Ok((checkpoint, damaged)),
                Err(error) => damaged.push(error),
            }
        }
        Err(damaged.into_iter().next().unwrap_or_else(|| CheckpointError::None(folder.to_owned())))
    }

    /// The model, where all of it is learnt.
    ///
    /// # Errors
    /// Where the file does not say.
    pub fn config(&self) -> Result<ModelConfig, CheckpointError> {
        ModelConfig::from_gguf(&self.gguf)
            .map_err(|error| CheckpointError::Unusable { path: self.path.clone(), what: error.to_string() })
    }

    /// Where the loop was.
    #[must_use]
    pub fn state(&self) -> &LoopState {
        &self.state
    }

    /// What the file says beside tensors and the run's state.
    #[must_use]
    pub fn header(&self) -> Header<'_> {
        let entries = self.gguf.metadata().filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value)));
        entries.filter(|(key, _)| !key.starts_with("training.") && key != "general.alignment").collect()
    }

    /// Takes up the weights.
    ///
    /// # Errors
    /// Where a tensor is missing or of another shape.
    pub fn fill(&self, parameters: &mut Parameters) -> Result<(), CheckpointError> {
        parameters.iter_mut().try_for_each(|(spec, values)| self.read(&spec.name, spec, values))
    }

    /// Fills an optimiser with what it held.
    ///
    /// # Errors
    /// As [`Checkpoint::fill`].
    pub fn restore(&self, optimizer: &mut Optimizer) -> Result<(), CheckpointError> {
        optimizer
            .restore(self.state.n_updates, |kind, spec, values| self.read(&name_of(kind, spec), spec, values))
    }

    fn read(&self, name: &str, spec: &TensorSpec, values: &mut [f32]) -> Result<(), CheckpointError> {
        let found = self.gguf.tensor(name).filter(|info| {
            info.dims == dims(spec) && self.gguf.bytes(info).len() == std::mem::size_of_val(values)
        });
        let Some(info) = found else {
            let what =
                format!("tensor {name} of shape {:?} is missing; it belongs to another run", spec.shape);
            return Err(CheckpointError::Unusable { path: self.path.clone(), what });
        };
        bytemuck::cast_slice_mut(values).copy_from_slice(self.gguf.bytes(info));
        Ok(())
    }
}

/// The place of a step's checkpoint.
#[must_use]
pub(crate) fn checkpoint_path(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{NAME}{step:09}.gguf"))
}

/// Deletes all but the newest `n` checkpoints of a folder.
///
/// # Errors
/// Where the folder cannot be read or a file not be deleted.
pub(crate) fn keep_newest(folder: &Path, n: usize) -> Result<(), CheckpointError> {
    let all = list(folder)?;
    for (_, path) in &all[..all.len().saturating_sub(n)] {
        fs::remove_file(path).map_err(|source| CheckpointError::Io { path: path.clone(), source })?;
    }
    Ok(())
}

/// Deletes the checkpoints behind a step, which another course of the run has left.
///
/// # Errors
/// As [`keep_newest`].
pub(crate) fn drop_behind(folder: &Path, step: u64) -> Result<(), CheckpointError> {
    for (of, path) in list(folder)? {
        if of > step {
            fs::remove_file(&path).map_err(|source| CheckpointError::Io { path, source })?;
        }
    }
    Ok(())
}

/// The checkpoints of a folder by their step.
fn list(folder: &Path) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
    let io = |source| CheckpointError::Io { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let step = name.strip_prefix(NAME).and_then(|rest| rest.strip_suffix(".gguf")?.parse().ok());
        found.extend(step.map(|step| (step, path)));
    }
    found.sort();
    Ok(found)
}

/// Of all numbers in the order of the file.
#[derive(Default)]
struct Digest(Xxh3);

impl Digest {
    fn add(&mut self, values: &[f32]) {
        self.0.update(bytemuck::cast_slice(values));
    }

    fn finish(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

/// Writes a model file without the run's state, its matrices in `ty`, which must be a type of floats.
///
/// # Errors
/// Where the disk refuses.
pub fn write_model(
    path: &Path,
    header: &Header<'_>,
    config: &ModelConfig,
    parameters: &Parameters,
    ty: TensorType,
) -> Result<(), CheckpointError> {
    let type_of = |spec: &TensorSpec| if spec.shape.len() == 2 { ty } else { TensorType::F32 };
    let mut writer = GgufWriter::new(32)?;
    for (key, value) in header {
        writer.set(key, value.clone())?;
    }
    for spec in tensor_specs(config) {
        writer.declare_tensor(&spec.name, &dims(&spec), type_of(&spec))?;
    }
    let mut stream = writer.stream_to(path)?;
    for (spec, values) in parameters.iter() {
        match type_of(spec) {
            TensorType::F16 => {
                let mut halves = vec![half::f16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                stream.write(bytemuck::cast_slice(halves.reinterpret_cast()))?;
            }
            TensorType::BF16 => {
                let mut halves = vec![half::bf16::ZERO; values.len()];
                halves.convert_from_f32_slice(values);
                stream.write(bytemuck::cast_slice(halves.reinterpret_cast()))?;
            }
            _ => stream.write(bytemuck::cast_slice(values))?,
        }
    }
    Ok(stream.finish()?)
}
