//! The data of a run as its stage has it.

use std::path::Path;

use tokenizer::Tokenizer;

use crate::batches::{Batches, held_out_rows};
use crate::data::{Data, DataError};
use crate::lessons::{FineTuning, Lessons};
use crate::objective::{Objective, Pretraining};
use crate::preferences::{DEFAULT_BETA, Preferences, Reference};
use crate::rows::Rows;
use crate::run_file::{RunFile, Stage};

/// What a run reads.
#[derive(Debug)]
pub enum RunData {
    /// Tokens of texts.
    Texts(Data),
    /// Tokens of conversations, answers marked.
    Lessons(Box<Lessons>),
    /// Pairs of answers, and how likely each was to begin with.
    Pairs(Box<Lessons>, Reference),
}

impl RunData {
    /// Opens the data of a run.
    ///
    /// # Errors
    /// Where a file is missing, damaged or of another version.
    pub fn open(stage: Stage, folder: &Path) -> Result<RunData, DataError> {
        Ok(match stage {
            Stage::Pretrain => RunData::Texts(Data::open(folder)?),
            Stage::Sft => RunData::Lessons(Box::new(Lessons::open(folder)?)),
            Stage::Dpo => {
                let lessons = Lessons::open(folder)?;
                let reference = Reference::read(folder, &lessons)?;
                RunData::Pairs(Box::new(lessons), reference)
            }
        })
    }

    /// The same data has the same.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            RunData::Texts(data) => &data.summary.digest,
            RunData::Lessons(lessons) | RunData::Pairs(lessons, _) => &lessons.summary.digest,
        }
    }

    /// What is learnt from it.
    #[must_use]
    pub fn objective(&self, file: &RunFile) -> Box<dyn Objective + '_> {
        let settings = &file.settings;
        match self {
            RunData::Texts(data) => {
                let batches = Batches::new(data, file.end_token, settings.seq_len, settings.seed);
                Box::new(Pretraining::new(batches, settings.batch_rows))
            }
            RunData::Lessons(lessons) => {
                Box::new(FineTuning::new(lessons, 1, settings.batch_rows, settings.seed))
            }
            RunData::Pairs(lessons, reference) => {
                let beta = file.beta.unwrap_or(DEFAULT_BETA);
                let (batch_rows, seed) = (settings.batch_rows, settings.seed);
                Box::new(Preferences::new(lessons, reference.clone(), beta, batch_rows, seed))
            }
        }
    }

    /// What is evaluated.
    #[must_use]
    pub fn held_out(&self, file: &RunFile, tokenizer: &Tokenizer) -> Vec<Rows> {
        let settings = &file.settings;
        match self {
            RunData::Texts(data) => {
                let counts = |token| !tokenizer.is_control(token);
                held_out_rows(data, file.end_token, settings.seq_len, settings.eval_rows, &counts)
            }
            RunData::Lessons(lessons) => lessons.held_out_rows(settings.batch_rows, 1),
            RunData::Pairs(lessons, _) => lessons.held_out_rows(settings.batch_rows, 2),
        }
    }
}
