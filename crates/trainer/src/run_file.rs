//! What a run was told, as it lies in its folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokenizer::TokenId;
use weights::AtomicFile;

use crate::lora::LoraSettings;
use crate::training::LoopSettings;

const VERSION: u32 = 1;
const NAME: &str = "run.json";
/// What happens in a run, in its folder: a JSON object on each line.
pub const LOG_FILE: &str = "log.jsonl";
/// What comes out of a run where a model was learnt,
pub const MODEL_FILE: &str = "model.gguf";
/// and where it was an adapter.
pub const ADAPTER_FILE: &str = "adapter.gguf";

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// To predict any text.
    Pretrain,
    /// To answer as in given conversations.
    Sft,
    /// To answer as was preferred.
    Dpo,
}

/// What a run was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    version: u32,
    /// What it is for.
    pub stage: Stage,
    /// The loop.
    pub settings: LoopSettings,
    /// How strongly preferences hold the model to what it was (β), where they are learnt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// What every document begins with.
    pub document_token: TokenId,
    /// What is to be said where one ends.
    pub end_token: TokenId,
    /// Texts that the model goes on with at every evaluation.
    pub prompts: Vec<String>,
    /// Number format of the model's matrices: `F32`, `F16` or `BF16`.
    pub model_type: String,
    /// The adapter, where the model itself stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
}

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum RunFileError {
    /// The system.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder is no run's, or its run never began.
    #[error("{} holds no run that can go on: there is no {NAME} in it; begin the run anew", .0.display())]
    None(PathBuf),
    /// Its content.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl RunFile {
    /// A new run.
    #[must_use]
    pub fn new(
        stage: Stage,
        settings: LoopSettings,
        [document_token, end_token]: [TokenId; 2],
        prompts: Vec<String>,
        model_type: &str,
    ) -> RunFile {
        let model_type = model_type.to_owned();
        RunFile {
            version: VERSION,
            stage,
            settings,
            beta: None,
            document_token,
            end_token,
            prompts,
            model_type,
            lora: None,
        }
    }

    /// Whether a folder holds a run that can go on.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// The name of the file that comes out of the run.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        if self.lora.is_some() { ADAPTER_FILE } else { MODEL_FILE }
    }

    /// Reads the file of a run's folder.
    ///
    /// # Errors
    /// Where it is missing or no such file.
    pub fn read(folder: &Path) -> Result<RunFile, RunFileError> {
        let path = folder.join(NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(RunFileError::None(folder.to_owned()));
            }
            Err(source) => return Err(RunFileError::Io { path, source }),
        };
        let run: RunFile = serde_json::from_slice(&text)
            .map_err(|error| RunFileError::Content { path: path.clone(), what: error.to_string() })?;
        if run.version != VERSION {
            let what = format!(
                "a run of version {}, this program knows {VERSION}; go on with the program that began it",
                run.version
            );
            return Err(RunFileError::Content { path, what });
        }
        Ok(run)
    }

    /// Writes it.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<(), RunFileError> {
        let path = folder.join(NAME);
        let text = serde_json::to_vec_pretty(self).expect("plain numbers and texts");
        let write = || {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(&text)?;
            file.finish()
        };
        write().map_err(|source| RunFileError::Io { path: path.clone(), source })
    }
}
