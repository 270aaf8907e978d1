//! Importance matrices: how much each input column of a matrix matters, measured by llama.cpp's `llama-imatrix`.
//!
//! Two formats: a GGUF whose tensors `NAME.in_sum2` hold the sums of squared activations of matrix NAME (and
//! `NAME.counts` over how many tokens), and the older `.dat`:
//! ```text
//! n_entries i32 · n_entries × { name_len i32 · name · n_calls i32 · n_values i32 · values f32 … }
//! [ n_chunks i32 · dataset_len i32 · dataset ]
//! ```
//! Only proportions within a row matter to a quantiser, so the sums are not divided by their counts.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::gguf::{Gguf, GgufError, quote};
use crate::tensor_type::{TensorKind, TensorType};

/// Larger than the file of any model: some ten thousand numbers for each of some thousand matrices.
const MAX_BYTES: u64 = 1 << 32;

/// What is known of a model's matrices.
#[derive(Debug)]
pub struct ImportanceMatrix {
    entries: HashMap<String, Vec<f32>>,
    /// Pieces of text that it was measured on, if the file says so.
    pub n_chunks: Option<u32>,
    /// Name of the text, if the file says so.
    pub dataset: Option<String>,
}

/// Why an importance matrix could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImportanceError {
    /// The system refused.
    #[error("cannot read importance matrix {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A GGUF file that is damaged.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The content is not that of an importance matrix.
    #[error("importance matrix {}: {what}: expected {expected}, found {found}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Which part of it.
        what: String,
        /// What would do.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
}

impl ImportanceMatrix {
    /// Reads either format.
    pub fn open(path: &Path) -> Result<ImportanceMatrix, ImportanceError> {
        let io = |source| ImportanceError::Io { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(invalid(path, "file", "a regular file of at most 4 GiB", &metadata.len()));
        }
        let matrix = match Gguf::open(path) {
            Ok(gguf) => from_gguf(path, &gguf),
            Err(GgufError::NotGguf { .. }) => from_dat(path, &std::fs::read(path).map_err(io)?),
            Err(error) => Err(error.into()),
        }?;
        if matrix.entries.is_empty() {
            return Err(invalid(path, "content", "at least one matrix", &"none"));
        }
        for (name, values) in &matrix.entries {
            if let Some(bad) = values.iter().find(|x| !x.is_finite() || **x < 0.0) {
                let what = format!("matrix {}", quote(name.as_bytes()));
                return Err(invalid(path, &what, "finite numbers of at least 0", bad));
            }
        }
        Ok(matrix)
    }

    /// The importance of the columns of a matrix, e.g. `blk.0.attn_q.weight`, in any scale; experts' one after
    /// the other.
    pub fn get(&self, tensor: &str) -> Option<&[f32]> {
        self.entries.get(tensor).map(Vec::as_slice)
    }

    /// Number of matrices.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn invalid(
    path: &Path,
    what: &str,
    expected: &'static str,
    found: &dyn std::fmt::Display,
) -> ImportanceError {
    ImportanceError::Invalid {
        path: path.to_owned(),
        what: what.to_owned(),
        expected,
        found: found.to_string(),
    }
}

fn from_gguf(path: &Path, gguf: &Gguf) -> Result<ImportanceMatrix, ImportanceError> {
    let mut entries = HashMap::new();
    for tensor in gguf.tensors() {
        let Some(name) = tensor.name.strip_suffix(".in_sum2") else { continue };
        if tensor.kind != TensorKind::Known(TensorType::F32) {
            let what = format!("tensor {}", quote(tensor.name.as_bytes()));
            return Err(invalid(path, &what, "F32", &tensor.kind));
        }
        entries.insert(name.to_owned(), floats(gguf.bytes(tensor)));
    }
    let n_chunks = gguf.get_u32("imatrix.chunk_count")?;
    let dataset = gguf.get_array_bytes("imatrix.datasets")?;
    let dataset = dataset.and_then(|names| Some(String::from_utf8_lossy(names.first()?).into_owned()));
    Ok(ImportanceMatrix { entries, n_chunks, dataset })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn from_dat(path: &Path, bytes: &[u8]) -> Result<ImportanceMatrix, ImportanceError> {
    let mut rest = Dat { path, bytes, pos: 0 };
    let n_entries = rest.count("number of matrices")?;
    let mut entries = HashMap::new();
    for i in 0..n_entries {
        let n = rest.count(&format!("name length of matrix {i}"))?;
        let name = String::from_utf8_lossy(rest.take(n, &format!("name of matrix {i}"))?).into_owned();
        let quoted = format!("matrix {}", quote(name.as_bytes()));
        rest.count(&format!("{quoted}, number of calls"))?;
        let n = rest.count(&format!("{quoted}, number of values"))?;
        let values = rest.take(n.saturating_mul(4), &format!("{quoted}, values"))?;
        entries.insert(name, floats(values));
    }
    // Older files end here.
    let n_chunks = rest.count("number of chunks").ok().map(|n| n as u32);
    let dataset = rest.count("dataset").and_then(|n| rest.take(n, "dataset")).ok();
    let dataset = dataset.map(|name| String::from_utf8_lossy(name).into_owned());
    Ok(ImportanceMatrix { entries, n_chunks, dataset })
}

/// The bytes of a `.dat` that are still to be read.
struct Dat<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    pos: usize,
}

impl<'a> Dat<'a> {
    fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], ImportanceError> {
        let available = self.bytes.len() - self.pos;
        if n > available {
            let found = format!("{available} of {n} bytes at byte {}", self.pos);
            return Err(invalid(
                self.path,
                what,
                "a GGUF file, or a .dat file that does not end early",
                &found,
            ));
        }
        self.pos += n;
        Ok(&self.bytes[self.pos - n..self.pos])
    }

    /// A count, which the format stores with a sign.
    fn count(&mut self, what: &str) -> Result<usize, ImportanceError> {
        let bytes = self.take(4, what)?;
        let n = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        usize::try_from(n).map_err(|_| invalid(self.path, what, "a number of at least 0", &n))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::{Array, GgufWriter, Value};

    fn f32_bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// A `.dat` of one matrix.
    fn dat(name: &str, values: &[f32]) -> Vec<u8> {
        let mut bytes = 1i32.to_le_bytes().to_vec();
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(5i32.to_le_bytes());
        bytes.extend((values.len() as i32).to_le_bytes());
        bytes.extend(f32_bytes(values));
        bytes
    }

    fn open(bytes: &[u8]) -> Result<ImportanceMatrix, ImportanceError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imatrix");
        std::fs::write(&path, bytes).unwrap();
        ImportanceMatrix::open(&path)
    }

    #[test]
    fn both_formats_are_read() {
        let mut writer = GgufWriter::new(32).unwrap();
        writer.set("imatrix.chunk_count", Value::U32(7)).unwrap();
        writer.set("imatrix.datasets", Value::Array(Array::from_strings(["wiki"]))).unwrap();
        let values = f32_bytes(&[1.0, 2.0, 0.5]);
        writer.add_tensor("blk.0.attn_q.weight.in_sum2", &[3], TensorType::F32, values).unwrap();
        let counts = f32_bytes(&[9.0]);
        writer.add_tensor("blk.0.attn_q.weight.counts", &[1], TensorType::F32, counts).unwrap();
        let mut old = dat("blk.0.attn_q.weight", &[1.0, 2.0, 0.5]);
        old.extend(7i32.to_le_bytes());
        old.extend(4i32.to_le_bytes());
        old.extend(b"wiki");
        for bytes in [writer.to_bytes(), old] {
            let matrix = open(&bytes).unwrap();
            assert_eq!(matrix.get("blk.0.attn_q.weight"), Some(&[1.0, 2.0, 0.5][..]));
            assert_eq!(
                (matrix.len(), matrix.n_chunks, matrix.dataset.as_deref()),
                (1, Some(7), Some("wiki"))
            );
        }
        assert_eq!(open(&dat("a", &[1.0])).unwrap().n_chunks, None, "the end may be missing");
    }

    #[test]
    fn what_is_no_importance_matrix_is_refused() {
        let whole = dat("some.weight", &[1.0, 2.0]);
        for n in 1..whole.len() {
            let error = open(&whole[..n]).unwrap_err().to_string();
            assert!(error.contains("end early"), "{n} bytes: {error}");
        }
        let cases = [
            (dat("a", &[1.0, f32::NAN]), "finite numbers of at least 0, found NaN"),
            (dat("a", &[-1.0]), "found -1"),
            ((-1i32).to_le_bytes().to_vec(), "number of matrices: expected a number of at least 0, found -1"),
            (i32::MAX.to_le_bytes().to_vec(), "end early"),
            (0i32.to_le_bytes().to_vec(), "at least one matrix"),
            (GgufWriter::new(32).unwrap().to_bytes(), "at least one matrix"),
        ];
        for (bytes, text) in cases {
            let error = open(&bytes).unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
    }
}
