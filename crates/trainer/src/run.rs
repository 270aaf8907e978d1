//! A run from its first step to its last, in a folder of its own: what it was told, its checkpoints, its log, its model.
//!
//! | in the folder | what |
//! |---|---|
//! | `run.json` | what the run was told |
//! | `tokenizer.gguf`, `tokenizer.json` | the vocabulary |
//! | `data/` | tokens |
//! | `checkpoints/` | the newest two, and that of the best evaluation of a run that may end early |
//! | `log.jsonl` | what happened, an [`Event`] on each line |
//! | `model.gguf` or `adapter.gguf` | what came out |

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokenizer::{TokenId, Tokenizer};
use weights::{AtomicFile, TensorType};

use crate::checkpoint::{
    Checkpoint, CheckpointError, Header, checkpoint_path, drop_behind, keep_newest, save_checkpoint,
    write_model,
};
use crate::lora::LoraSettings;
use crate::parameters::Parameters;
use crate::rows::Rows;
use crate::run_file::{ADAPTER_FILE, LOG_FILE, MODEL_FILE};
use crate::training::{Anomaly, Training};

/// What happens in a run, as its log has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// It goes on from a checkpoint.
    Resumed {
        /// Steps done.
        step: u64,
    },
    /// A step was taken.
    Step {
        /// Its number, the first being 1.
        step: u64,
        /// Mean loss in nats.
        loss: f64,
        /// Factor of the learning rates.
        rate: f64,
        /// The gradient's length.
        grad_norm: f64,
        /// Tokens so far.
        n_tokens: f64,
        /// How often all of the data was seen so far.
        epochs: f64,
        /// Tokens of this step per second.
        tokens_per_second: f64,
        /// Seconds so far.
        seconds: f64,
    },
    /// A step changed nothing, for the reason given.
    LeftOut {
        /// The step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// The run went back to a checkpoint and goes on behind the data that led there.
    RolledBack {
        /// The checkpoint's step.
        step: u64,
        /// Why.
        reason: String,
    },
    /// What is held out was read.
    Evaluated {
        /// Steps done.
        step: u64,
        /// Mean loss in nats.
        loss: f64,
        /// Loss in bits for each byte of text, where text is predicted.
        #[serde(skip_serializing_if = "Option::is_none")]
        bits_per_byte: Option<f64>,
        /// Share of the pairs whose chosen answer has become likelier than the rejected one, where there are pairs.
        #[serde(skip_serializing_if = "Option::is_none")]
        accuracy: Option<f64>,
        /// Whether it was the best so far.
        is_best: bool,
    },
    /// The model went on with a text.
    Sample {
        /// Steps done.
        step: u64,
        /// What it was given.
        prompt: String,
        /// What it made of it.
        text: String,
    },
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: u64,
    },
    /// No better loss for as many evaluations as were allowed.
    StoppedEarly {
        /// Steps done.
        step: u64,
        /// That whose weights come out: of the best evaluation, if they were kept.
        #[serde(default)]
        best_step: u64,
    },
    /// All steps are done.
    Done {
        /// Steps done.
        step: u64,
        /// Seconds in all.
        seconds: f64,
    },
}

impl Event {
    fn step(&self) -> u64 {
        match self {
            Event::Resumed { step }
            | Event::Step { step, .. }
            | Event::LeftOut { step, .. }
            | Event::RolledBack { step, .. }
            | Event::Evaluated { step, .. }
            | Event::Sample { step, .. }
            | Event::Saved { step }
            | Event::StoppedEarly { step, .. }
            | Event::Done { step, .. } => *step,
        }
    }
}

/// Why a run ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of the run.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The loss does not come down again.
    #[error(
        "stopped at step {step}: {reason}, {n_rollbacks} times after going back to a checkpoint; lower the learning \
         rate, the last good checkpoint is kept"
    )]
    Diverged {
        /// The step.
        step: u64,
        /// What was seen.
        reason: String,
        /// How often the run went back.
        n_rollbacks: u32,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps done, or stopped early.
    Complete,
    /// Whoever watched wanted no more; it can go on.
    Interrupted,
}

/// Something for the model to go on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// As people see it.
    pub text: String,
    /// As the model does.
    pub tokens: Vec<TokenId>,
}

/// What goes with the steps.
pub struct Run<'a> {
    /// The run's folder.
    pub folder: &'a Path,
    /// Keys of every model file that is written.
    pub header: Header<'a>,
    /// The vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// What is evaluated.
    pub held_out: Vec<Rows>,
    /// What the model goes on with at every evaluation.
    pub prompts: Vec<Prompt>,
    /// Tokens that end a sample, beside those that end any answer.
    pub ends: Vec<TokenId>,
    /// What is written when it is done.
    pub outcome: Outcome<'a>,
}

/// What comes out of a run.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// A model, its matrices in this number format.
    Model(TensorType),
    /// An adapter.
    Adapter(&'a LoraSettings),
}

impl Outcome<'_> {
    /// The name of its file.
    #[must_use]
    pub fn file_name(&self) -> &'static str {
        match self {
            Outcome::Model(_) => MODEL_FILE,
            Outcome::Adapter(_) => ADAPTER_FILE,
        }
    }
}

/// Steps without any effect in a row before the run goes back to a checkpoint, and how often it does.
const MAX_LEFT_OUT: u32 = 3;
const MAX_ROLLBACKS: u32 = 3;
/// Checkpoints that are kept.
const N_KEPT: usize = 2;
/// The checkpoint of the best evaluation, where a run may end early.
const BEST_FILE: &str = "best.gguf";
/// Tokens of a sample, and its temperature.
const SAMPLE_LEN: usize = 40;
const SAMPLE_TEMPERATURE: f32 = 0.7;

impl Run<'_> {
    /// Makes the run one that can go on, before its first step.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn begin(&self, training: &Training<'_>) -> Result<(), RunError> {
        let checkpoints = self.checkpoints();
        fs::create_dir_all(&checkpoints).map_err(|source| RunError::Io { path: checkpoints, source })?;
        Ok(self.save(training)?)
    }

    /// Takes the steps that are left of a run that has begun. `watch` hears of everything and may end the run, which is then saved.
    ///
    /// # Errors
    /// Where a file cannot be written, or the loss does not come down again.
    pub fn go(
        &self,
        training: &mut Training<'_>,
        watch: &mut dyn FnMut(&Event) -> ControlFlow<()>,
    ) -> Result<Ending, RunError> {
        drop_behind(&self.checkpoints(), training.state().step)?;
        let journal = Journal::open(&self.folder.join(LOG_FILE), training.state().step)?;
        let mut watcher = Watcher { journal, watch, has_enough: false };
        if training.state().step > 0 {
            watcher.tell(Event::Resumed { step: training.state().step })?;
        } else {
            self.look(training, &mut watcher)?;
        }
        let settings = training.settings().clone();
        let mut last_save = Instant::now();
        let mut is_done = training.state().is_done;
        let mut ends_early = false;
        while training.state().step < settings.n_steps && !is_done && !watcher.has_enough {
            let start = Instant::now();
            let report = training.step();
            let seconds = start.elapsed().as_secs_f64();
            training.state_mut().seconds += seconds;
            let state = training.state();
            let step = state.step;
            watcher.tell(Event::Step {
                step,
                loss: report.loss,
                rate: report.rate,
                grad_norm: report.grad_norm,
                n_tokens: state.n_tokens,
                epochs: training.n_epochs(),
                tokens_per_second: report.n_rows as f64 / seconds,
                seconds: state.seconds,
            })?;
            if let Some(anomaly) = report.left_out {
                let reason = reason(anomaly, report.loss);
                watcher.tell(Event::LeftOut { step, reason: reason.clone() })?;
                if training.state().n_left_out >= MAX_LEFT_OUT {
                    self.roll_back(training, &reason)?;
                    watcher.tell(Event::RolledBack { step: training.state().step, reason })?;
                    self.save(training)?;
                }
                continue;
            }
            if step.is_multiple_of(settings.eval_every) || step == settings.n_steps {
                let start = Instant::now();
                let has_patience = self.look(training, &mut watcher)?;
                training.state_mut().seconds += start.elapsed().as_secs_f64();
                if !has_patience {
                    (is_done, ends_early) = (true, true);
                    continue;
                }
            }
            if last_save.elapsed().as_secs_f64() >= settings.checkpoint_seconds {
                self.save(training)?;
                watcher.tell(Event::Saved { step })?;
                last_save = Instant::now();
            }
        }
        let (step, seconds) = (training.state().step, training.state().seconds);
        training.state_mut().is_done = is_done || step >= settings.n_steps;
        let best = if training.state().is_done { self.best_weights(training)? } else { None };
        if ends_early {
            let best_step = if best.is_some() { training.state().best_step } else { step };
            watcher.tell(Event::StoppedEarly { step, best_step })?;
        }
        self.save(training)?;
        if !training.state().is_done {
            watcher.tell(Event::Saved { step })?;
            return Ok(Ending::Interrupted);
        }
        let path = self.folder.join(self.outcome.file_name());
        let (config, parameters) = (training.config(), best.as_ref().unwrap_or(training.parameters()));
        match self.outcome {
            Outcome::Model(ty) => write_model(&path, &self.header, config, parameters, ty)?,
            Outcome::Adapter(lora) => {
                let name = self.folder.file_name().unwrap_or_default().to_string_lossy();
                lora.write(&path, &name, config, parameters)?;
            }
        }
        watcher.tell(Event::Done { step, seconds })?;
        Ok(Ending::Complete)
    }

    fn checkpoints(&self) -> PathBuf {
        self.folder.join("checkpoints")
    }

    /// Where a run of some patience keeps what was best.
    fn best(&self) -> PathBuf {
        self.checkpoints().join(BEST_FILE)
    }

    /// The weights that predicted best what is held out, where a run of some patience has gone on since.
    fn best_weights(&self, training: &Training<'_>) -> Result<Option<Parameters>, CheckpointError> {
        let (state, path) = (training.state(), self.best());
        if training.settings().patience.is_none() || state.n_since_best == 0 || !path.exists() {
            return Ok(None);
        }
        let best = Checkpoint::open(&path)?;
        if best.state().step != state.best_step {
            return Ok(None);
        }
        let mut parameters = training.parameters().clone();
        best.fill(&mut parameters)?;
        Ok(Some(parameters))
    }

    fn save(&self, training: &Training<'_>) -> Result<(), CheckpointError> {
        let path = checkpoint_path(&self.checkpoints(), training.state().step);
        let optimizer = Some(training.optimizer());
        save_checkpoint(&path, &self.header, training.parameters(), optimizer, training.state())?;
        keep_newest(&self.checkpoints(), N_KEPT)
    }

    fn roll_back(&self, training: &mut Training<'_>, reason: &str) -> Result<(), RunError> {
        let (checkpoint, _) = Checkpoint::open_latest(&self.checkpoints())?;
        if training.state().n_rollbacks >= MAX_ROLLBACKS {
            let (step, n_rollbacks) = (training.state().step, training.state().n_rollbacks);
            return Err(RunError::Diverged { step, reason: reason.to_owned(), n_rollbacks });
        }
        Ok(training.roll_back(&checkpoint)?)
    }

    /// Evaluates and samples; whether the run should go on.
    fn look(&self, training: &mut Training<'_>, watcher: &mut Watcher<'_>) -> Result<bool, RunError> {
        let step = training.state().step;
        let mut has_patience = true;
        if !self.held_out.is_empty() {
            let evaluation = training.evaluate(&self.held_out);
            let has_choices = evaluation.n_choices > 0;
            let n_bytes: u64 = self.held_out.iter().map(|rows| self.n_bytes(rows)).sum();
            let bits = evaluation.loss / std::f64::consts::LN_2;
            let bits_per_byte = (!has_choices).then(|| bits / n_bytes.max(1) as f64);
            let accuracy = has_choices.then(|| evaluation.n_right as f64 / evaluation.n_choices as f64);
            let loss = evaluation.loss / evaluation.weight.max(1.0);
            let patience = training.settings().patience;
            let state = training.state_mut();
            let is_best = state.best_loss.is_none_or(|best| loss < best);
            if is_best {
                state.best_loss = Some(loss);
                state.best_step = step;
            }
            state.n_since_best = if is_best { 0 } else { state.n_since_best + 1 };
            has_patience = patience.is_none_or(|most| state.n_since_best < most);
            if is_best && patience.is_some() {
                let (path, parameters) = (self.best(), training.parameters());
                save_checkpoint(&path, &self.header, parameters, None, training.state())?;
            }
            watcher.tell(Event::Evaluated { step, loss, bits_per_byte, accuracy, is_best })?;
        }
        if step > 0 && !self.prompts.is_empty() {
            let ends = [&self.ends[..], self.tokenizer.end_of_generation_ids()].concat();
            let prompts: Vec<&[TokenId]> = self.prompts.iter().map(|prompt| &prompt.tokens[..]).collect();
            let samples = training.sample(&prompts, SAMPLE_LEN, SAMPLE_TEMPERATURE, &ends);
            for (prompt, sample) in self.prompts.iter().zip(samples) {
                let text = String::from_utf8_lossy(&self.tokenizer.decode(&sample)).into_owned();
                watcher.tell(Event::Sample { step, prompt: prompt.text.clone(), text })?;
            }
        }
        Ok(has_patience)
    }

    /// Bytes of the texts that count in the loss.
    fn n_bytes(&self, rows: &Rows) -> u64 {
        let batch = rows.batch();
        let counted = batch.targets.iter().zip(batch.weights).filter(|(_, weight)| **weight > 0.0);
        counted.map(|(&target, _)| self.tokenizer.piece(target).len() as u64).sum()
    }
}

fn reason(anomaly: Anomaly, loss: f64) -> String {
    match anomaly {
        Anomaly::NotFinite => "loss or gradient is not finite".to_owned(),
        Anomaly::Spike { usual } => format!("the loss jumped from {usual:.3} to {loss:.3}"),
    }
}

/// Who is told what happens.
struct Watcher<'a> {
    journal: Journal,
    watch: &'a mut dyn FnMut(&Event) -> ControlFlow<()>,
    has_enough: bool,
}

impl Watcher<'_> {
    fn tell(&mut self, event: Event) -> Result<(), RunError> {
        self.journal.write(&event)?;
        self.has_enough |= (self.watch)(&event).is_break();
        Ok(())
    }
}

/// The log, a line for each event.
struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the log of a run at `step`; what a course behind that step has left in it goes.
    fn open(path: &Path, step: u64) -> Result<Journal, RunError> {
        let io = |source| RunError::Io { path: path.to_owned(), source };
        if path.exists() {
            let mut kept = AtomicFile::create(path).map_err(io)?;
            for line in BufReader::new(File::open(path).map_err(io)?).lines() {
                let line = line.map_err(io)?;
                // A line that was cut off by a kill is none.
                let event = serde_json::from_str::<Event>(&line).ok();
                if event.is_some_and(|event| event.step() <= step && step > 0) {
                    writeln!(kept, "{line}").map_err(io)?;
                }
            }
            kept.finish().map_err(io)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(io)?;
        Ok(Journal { path: path.to_owned(), file })
    }

    fn write(&mut self, event: &Event) -> Result<(), RunError> {
        let mut line = serde_json::to_vec(event).expect("plain numbers and texts");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| RunError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests;
