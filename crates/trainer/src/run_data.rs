//! The data of a run as its stage has it.

use std::path::Path;

use tokenizer::Tokenizer;

use crate::batches::{Batches, held_out_rows};
use crate::data::{Data, DataError};
use crate::lessons::{FineTuning, Lessons};
use crate::objective::{Objective, Pretraining};
use crate::rows::Rows;
use crate::run_file::{RunFile, Stage};

/// What a run reads.
#[derive(Debug)]
pub enum RunData {
    /// Tokens of texts.
    Texts(Data),
    /// Tokens of conversations, answers marked.
    Lessons(Box<Lessons>),
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
        })
    }

    /// The same data has the same.
    #[must_use]
    pub fn digest(&self) -> &str {
        match self {
            RunData::Texts(data) => &data.summary.digest,
            RunData::Lessons(lessons) => &lessons.summary.digest,
        }
    }

    /// What is learnt from it.
    #[must_use]
    pub fn objective(&self, file: &RunFile) -> Box<dyn Objective + '_> {
        let settings = &file.settings;
        match self {
            RunData::Texts(data) => {
                let batches = Batches::new(data, file.document_token, settings.seq_len, settings.seed);
                Box::new(Pretraining::new(batches, settings.batch_rows))
            }
            RunData::Lessons(lessons) => {
                Box::new(FineTuning::new(lessons, settings.batch_rows, settings.seed))
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
                held_out_rows(data, file.document_token, settings.seq_len, settings.eval_rows, &counts)
            }
            RunData::Lessons(lessons) => lessons.held_out_rows(settings.batch_rows),
        }
    }
}
