//! A model as a folder that `transformers` loads: `model.safetensors`, `config.json`, `generation_config.json`, and the
//! tokenizer's files where they are known.
//!
//! A safetensors file is the length of a JSON header (u64), the header (each tensor's type, shape and place), and the
//! numbers in the header's order. They are converted and written a few megabytes at a time; each file appears whole or
//! not at all, and `config.json`, without which the folder is no model, appears last.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde_json::{Value as Json, json};
use weights::{AtomicFile, ModelConfig, TensorSpec};

use super::hugging_face_config::{Unexportable, hugging_face_config};
use super::hugging_face_tensors::{Undo, hugging_face_name, undo};
use crate::parameters::Parameters;

/// Why a model was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It has no configuration in `transformers`.
    #[error(transparent)]
    Unexportable(#[from] Unexportable),
    /// A number is not finite, or becomes infinite.
    #[error("tensor {tensor} holds {number}, which {dtype} cannot hold")]
    Number {
        /// GGUF's name.
        tensor: String,
        /// The number.
        number: f32,
        /// The type to write.
        dtype: &'static str,
    },
    /// The header of the weights.
    #[error("the header of model.safetensors: {0}")]
    Header(#[from] SafeTensorError),
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The type of the weights in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HuggingFaceDtype {
    /// Every number as it is.
    F32,
    /// Half as long, the range of single precision.
    BF16,
    /// Half as long, three more bits of precision, up to 65,504.
    F16,
}

impl HuggingFaceDtype {
    /// PyTorch's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            HuggingFaceDtype::F32 => "float32",
            HuggingFaceDtype::BF16 => "bfloat16",
            HuggingFaceDtype::F16 => "float16",
        }
    }

    fn safetensors(self) -> Dtype {
        match self {
            HuggingFaceDtype::F32 => Dtype::F32,
            HuggingFaceDtype::BF16 => Dtype::BF16,
            HuggingFaceDtype::F16 => Dtype::F16,
        }
    }

    fn n_bytes(self) -> usize {
        match self {
            HuggingFaceDtype::F32 => 4,
            HuggingFaceDtype::BF16 | HuggingFaceDtype::F16 => 2,
        }
    }

    /// Numbers → bytes; where one is not finite in this type, that number.
    fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) -> Result<(), f32> {
        bytes.resize(numbers.len() * self.n_bytes(), 0);
        let pairs = bytes.as_chunks_mut::<2>().0.iter_mut().zip(numbers);
        let is_finite: fn(f32) -> bool = match self {
            HuggingFaceDtype::F32 => {
                let places = bytes.as_chunks_mut::<4>().0;
                places.iter_mut().zip(numbers).for_each(|(place, x)| *place = x.to_le_bytes());
                |x| x.is_finite()
            }
            HuggingFaceDtype::BF16 => {
                pairs.for_each(|(place, &x)| *place = bf16::from_f32(x).to_le_bytes());
                |x| bf16::from_f32(x).is_finite()
            }
            HuggingFaceDtype::F16 => {
                pairs.for_each(|(place, &x)| *place = f16::from_f32(x).to_le_bytes());
                |x| f16::from_f32(x).is_finite()
            }
        };
        numbers.iter().find(|&&x| !is_finite(x)).map_or(Ok(()), |&x| Err(x))
    }
}

/// Tokens with a role.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpecialIds<'a> {
    /// Begins a text.
    pub bos: Option<u32>,
    /// End an answer; the first ends a text.
    pub eos: &'a [u32],
    /// Fills batches.
    pub pad: Option<u32>,
}

impl SpecialIds<'_> {
    /// Adds the keys that configurations have for them. What is not known is said, for each class has ids of its own.
    pub(super) fn put(&self, json: &mut Json) {
        json["bos_token_id"] = json!(self.bos);
        json["eos_token_id"] = match self.eos {
            [] => Json::Null,
            [one] => json!(one),
            several => json!(several),
        };
        json["pad_token_id"] = json!(self.pad);
    }
}

/// What a folder holds beside the weights.
#[derive(Debug, Clone, Copy)]
pub struct HuggingFaceExtras<'a> {
    /// The type of the weights.
    pub dtype: HuggingFaceDtype,
    /// Tokens with a role.
    pub ids: SpecialIds<'a>,
    /// `tokenizer.json`, as [`tokenizer_json`](crate::tokenizer_json) makes it.
    pub tokenizer_json: Option<&'a Json>,
    /// Jinja source; goes with a tokenizer only.
    pub chat_template: Option<&'a str>,
}

/// Writes the model into `folder`, which is made where it is not there. Files of these names are replaced.
///
/// # Errors
/// Where `transformers` has no configuration for the model, the type cannot hold a number, or a file cannot be written.
pub fn write_hugging_face(
    folder: &Path,
    config: &ModelConfig,
    parameters: &Parameters,
    extras: &HuggingFaceExtras<'_>,
) -> Result<(), ExportError> {
    let json = hugging_face_config(config, extras.dtype, &extras.ids)?;
    std::fs::create_dir_all(folder).map_err(|source| ExportError::Io { path: folder.to_owned(), source })?;
    write_weights(&folder.join("model.safetensors"), config, parameters, extras.dtype)?;
    if let Some(tokenizer) = extras.tokenizer_json {
        write_json(&folder.join("tokenizer.json"), tokenizer)?;
        write_json(&folder.join("tokenizer_config.json"), &tokenizer_config(config, tokenizer, extras))?;
    }
    let mut generation = json!({});
    extras.ids.put(&mut generation);
    write_json(&folder.join("generation_config.json"), &generation)?;
    write_json(&folder.join("config.json"), &json)
}

/// What `transformers` must know of a tokenizer beside its `tokenizer.json`.
fn tokenizer_config(config: &ModelConfig, tokenizer: &Json, extras: &HuggingFaceExtras<'_>) -> Json {
    let added = tokenizer["added_tokens"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |id: Option<u32>| {
        let token = id.and_then(|id| added.iter().find(|token| token["id"] == id));
        token.map_or(Json::Null, |token| token["content"].clone())
    };
    let mut json = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": text(extras.ids.bos),
        "eos_token": text(extras.ids.eos.first().copied()),
        "pad_token": text(extras.ids.pad),
        "model_max_length": config.max_seq_len,
        "clean_up_tokenization_spaces": false,
    });
    if let Some(template) = extras.chat_template {
        json["chat_template"] = json!(template);
    }
    json
}

fn write_json(path: &Path, json: &Json) -> Result<(), ExportError> {
    let text = format!("{json:#}\n");
    let written = AtomicFile::create(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.finish()
    });
    written.map_err(|source| ExportError::Io { path: path.to_owned(), source })
}

fn write_weights(
    path: &Path,
    config: &ModelConfig,
    parameters: &Parameters,
    dtype: HuggingFaceDtype,
) -> Result<(), ExportError> {
    let io = |source| ExportError::Io { path: path.to_owned(), source };
    let tensors = || {
        parameters.iter().filter_map(|(spec, values)| {
            Some((hugging_face_name(config, spec)?, undo(config, spec), spec, values))
        })
    };
    let mut file = AtomicFile::create(path).map_err(io)?;
    file.write_all(&header(tensors().map(|(name, _, spec, _)| (name, spec)), dtype)?).map_err(io)?;
    let mut bytes = Vec::new();
    for (_, undo, spec, values) in tensors() {
        write_tensor(&mut file, undo, spec, values, dtype, &mut bytes).map_err(|error| match error {
            TensorError::Io(source) => io(source),
            TensorError::Number(number) => {
                ExportError::Number { tensor: spec.name.clone(), number, dtype: dtype.name() }
            }
        })?;
    }
    file.finish().map_err(io)
}

enum TensorError {
    Io(io::Error),
    Number(f32),
}

fn write_tensor(
    out: &mut impl Write,
    undo: Undo,
    spec: &TensorSpec,
    values: &[f32],
    dtype: HuggingFaceDtype,
    bytes: &mut Vec<u8>,
) -> Result<(), TensorError> {
    let n_cols = spec.shape[1..].iter().product();
    undo.for_each_slab(values, n_cols, |slab| {
        dtype.encode(slab, bytes).map_err(TensorError::Number)?;
        out.write_all(bytes).map_err(TensorError::Io)
    })
}

/// The length of the header and the header.
fn header<'a>(
    tensors: impl Iterator<Item = (String, &'a TensorSpec)>,
    dtype: HuggingFaceDtype,
) -> Result<Vec<u8>, SafeTensorError> {
    let mut at = 0;
    let infos = tensors.map(|(name, spec)| {
        let start = at;
        at += spec.shape.iter().product::<usize>() * dtype.n_bytes();
        let info =
            TensorInfo { dtype: dtype.safetensors(), shape: spec.shape.clone(), data_offsets: (start, at) };
        (name, info)
    });
    // Without it `transformers` does not know whose order of dimensions this is.
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    let metadata = Metadata::new(Some(format), infos.collect())?;
    let mut json = serde_json::to_vec(&metadata)?;
    // The numbers begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use safetensors::SafeTensors;
    use weights::{DecoderShape, TensorRole};

    use super::*;

    fn model() -> (ModelConfig, Parameters) {
        let shape = DecoderShape {
            n_layers: 2,
            n_embd: 16,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 6,
            n_ff: 24,
            vocab_size: 10,
            max_seq_len: 32,
            tied_output: false,
            rope_theta: 10_000.0,
            window: None,
        };
        let config = shape.config();
        let mut parameters = Parameters::zeros(&config);
        let mut next = 0.0;
        for (_, values) in parameters.iter_mut() {
            values.fill_with(|| {
                next += 0.37;
                next % 3.0 - 1.5
            });
        }
        (config, parameters)
    }

    fn extras<'a>(dtype: HuggingFaceDtype, tokenizer: Option<&'a Json>) -> HuggingFaceExtras<'a> {
        let ids = SpecialIds { bos: None, eos: &[2, 1], pad: None };
        HuggingFaceExtras { dtype, ids, tokenizer_json: tokenizer, chat_template: Some("{{ messages }}") }
    }

    #[test]
    fn the_file_holds_every_number_under_its_name() {
        let (config, parameters) = model();
        let folder = tempfile::tempdir().unwrap();
        for dtype in [HuggingFaceDtype::F32, HuggingFaceDtype::BF16, HuggingFaceDtype::F16] {
            write_hugging_face(folder.path(), &config, &parameters, &extras(dtype, None)).unwrap();
            let bytes = fs::read(folder.path().join("model.safetensors")).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.len(), parameters.iter().count());
            for (spec, values) in parameters.iter() {
                let tensor = file.tensor(&hugging_face_name(&config, spec).unwrap()).unwrap();
                assert_eq!(tensor.shape(), spec.shape);
                assert_eq!(tensor.dtype(), dtype.safetensors());
                for (found, &x) in tensor.data().chunks(dtype.n_bytes()).zip(values) {
                    let expected = match dtype {
                        HuggingFaceDtype::F32 => x.to_le_bytes().to_vec(),
                        HuggingFaceDtype::BF16 => bf16::from_f32(x).to_le_bytes().to_vec(),
                        HuggingFaceDtype::F16 => f16::from_f32(x).to_le_bytes().to_vec(),
                    };
                    assert_eq!(found, expected);
                }
            }
        }
    }

    #[test]
    fn a_tokenizer_is_written_with_its_special_texts_and_template() {
        let (config, parameters) = model();
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| -> Json {
            serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
        };
        write_hugging_face(folder.path(), &config, &parameters, &extras(HuggingFaceDtype::F32, None))
            .unwrap();
        assert!(!folder.path().join("tokenizer_config.json").exists(), "a template alone is no tokenizer");
        let tokenizer = json!({ "added_tokens": [{ "id": 2, "content": "<|end|>" }] });
        let extras = extras(HuggingFaceDtype::F32, Some(&tokenizer));
        write_hugging_face(folder.path(), &config, &parameters, &extras).unwrap();
        assert_eq!(read("tokenizer.json"), tokenizer);
        let found = read("tokenizer_config.json");
        assert_eq!((&found["eos_token"], &found["bos_token"]), (&json!("<|end|>"), &Json::Null));
        assert_eq!(found["chat_template"], "{{ messages }}");
        assert_eq!(read("generation_config.json")["eos_token_id"], json!([2, 1]));
        assert_eq!(read("config.json")["model_type"], "qwen3");
    }

    #[test]
    fn a_number_that_the_type_cannot_hold_is_an_error_and_leaves_no_file() {
        let (config, mut parameters) = model();
        parameters.get_mut(TensorRole::OutputNorm, None).unwrap()[3] = 65_520.0;
        let folder = tempfile::tempdir().unwrap();
        let write = |dtype| write_hugging_face(folder.path(), &config, &parameters, &extras(dtype, None));
        let error = write(HuggingFaceDtype::F16).unwrap_err().to_string();
        assert_eq!(error, "tensor output_norm.weight holds 65520, which float16 cannot hold");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        write(HuggingFaceDtype::BF16).unwrap();
    }
}
