//! Writes a GGUF version 3 file, whole or not at all: beside its place, synced, then renamed.
//!
//! The header says where every tensor lies, so names, shapes and types come first; the tensors' bytes come with
//! them ([`GgufWriter::add_tensor`]) or later, in pieces, for a file that no memory holds ([`GgufStream`]).

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::{GgufError, Subject};
use super::header::{MAGIC, limits};
use super::value::Value;
use crate::atomic_file::AtomicFile;
use crate::tensor_type::TensorType;

/// Collects metadata and tensors and writes them in the order they came.
#[derive(Debug)]
pub struct GgufWriter<'a> {
    alignment: u64,
    metadata: Vec<(String, Value<'a>)>,
    tensors: Vec<Tensor<'a>>,
}

#[derive(Debug)]
struct Tensor<'a> {
    name: String,
    /// ggml order, row length first.
    dims: Vec<u64>,
    ty: TensorType,
    n_bytes: u64,
    /// Absent while they are still to come.
    bytes: Option<Cow<'a, [u8]>>,
}

impl<'a> GgufWriter<'a> {
    /// A writer of tensors aligned to `alignment` bytes, a power of two; 32 is usual.
    pub fn new(alignment: u64) -> Result<GgufWriter<'a>, GgufError> {
        if !alignment.is_power_of_two() || alignment > limits::MAX_ALIGNMENT {
            return Err(GgufError::Unwritable {
                subject: Subject::Header,
                field: "alignment",
                expected: format!("a power of two of at most {}", limits::MAX_ALIGNMENT),
                found: alignment.to_string(),
            });
        }
        let mut metadata = Vec::new();
        if alignment != limits::DEFAULT_ALIGNMENT {
            metadata.push(("general.alignment".to_owned(), Value::U32(alignment as u32)));
        }
        Ok(GgufWriter { alignment, metadata, tensors: Vec::new() })
    }

    /// Sets a key; a key set before gets the new value in its old place.
    /// `general.alignment` is the writer's own and refused.
    pub fn set(&mut self, key: &str, value: Value<'a>) -> Result<(), GgufError> {
        let refuse = |expected: String, found: String| {
            let subject = Subject::key(key.as_bytes());
            Err(GgufError::Unwritable { subject, field: "name", expected, found })
        };
        if key.is_empty() || key.len() as u64 > limits::MAX_KEY_BYTES {
            return refuse(format!("1 to {} bytes", limits::MAX_KEY_BYTES), format!("{} bytes", key.len()));
        }
        if key == "general.alignment" {
            return refuse("the alignment given to GgufWriter::new".into(), "the key itself".into());
        }
        match self.metadata.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.metadata.push((key.to_owned(), value)),
        }
        Ok(())
    }

    /// Adds a tensor. `dims` in ggml's order, the row length first; `bytes` as the format stores them, row by row.
    pub fn add_tensor(
        &mut self,
        name: &str,
        dims: &[u64],
        ty: TensorType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<(), GgufError> {
        let bytes = bytes.into();
        self.declare_tensor(name, dims, ty)?;
        let declared = self.tensors.last_mut().expect("one was declared just now");
        if declared.n_bytes != bytes.len() as u64 {
            let expected = format!("{} bytes for {dims:?} {ty}", declared.n_bytes);
            self.tensors.pop();
            let subject = Subject::tensor(name.as_bytes());
            return Err(GgufError::Unwritable {
                subject,
                field: "data",
                expected,
                found: bytes.len().to_string(),
            });
        }
        declared.bytes = Some(bytes);
        Ok(())
    }

    /// Adds a tensor whose bytes come later, through [`GgufWriter::stream_to`].
    pub fn declare_tensor(&mut self, name: &str, dims: &[u64], ty: TensorType) -> Result<(), GgufError> {
        let refuse = |field, expected: String, found: String| {
            let subject = Subject::tensor(name.as_bytes());
            Err(GgufError::Unwritable { subject, field, expected, found })
        };
        if name.is_empty() || name.len() as u64 > limits::MAX_TENSOR_NAME_BYTES {
            let expected = format!("1 to {} bytes", limits::MAX_TENSOR_NAME_BYTES);
            return refuse("name", expected, format!("{} bytes", name.len()));
        }
        if self.tensors.iter().any(|tensor| tensor.name == name) {
            return refuse("name", "a name used once".into(), "a duplicate".into());
        }
        if dims.is_empty() || dims.len() > limits::MAX_DIMS as usize || dims.contains(&0) {
            let expected = format!("1 to {} sizes, none zero", limits::MAX_DIMS);
            return refuse("dimensions", expected, format!("{dims:?}"));
        }
        let row_bytes = usize::try_from(dims[0]).ok().and_then(|n| ty.row_bytes(n));
        let n_bytes =
            dims[1..].iter().try_fold(row_bytes.map(|n| n as u64), |n, &dim| Some(n?.checked_mul(dim)));
        let Some(n_bytes) = n_bytes.flatten() else {
            return refuse("dimensions", format!("rows of whole {ty} blocks"), format!("{dims:?}"));
        };
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), ty, n_bytes, bytes: None });
        Ok(())
    }

    /// Writes the file: beside `path` under another name, synced, then renamed to `path`.
    /// On failure nothing is left behind and an old file at `path` is as it was.
    pub fn write_to(&self, path: &Path) -> Result<(), GgufError> {
        let mut stream = self.stream_to(path)?;
        for tensor in &self.tensors {
            stream.write(tensor.bytes.as_deref().unwrap_or_default())?;
        }
        stream.finish()
    }

    /// Begins the file; the tensors' bytes are then written in the order in which they were added.
    pub fn stream_to(&self, path: &Path) -> Result<GgufStream, GgufError> {
        if path.file_name().is_none() {
            return Err(GgufError::NotAFile { path: path.to_owned(), what: "no file name" });
        }
        let io = |source| GgufError::Io { path: path.to_owned(), action: "write", source };
        let file = AtomicFile::create(path).map_err(io)?;
        let mut stream = GgufStream {
            path: path.to_owned(),
            out: BufWriter::with_capacity(1 << 20, file),
            alignment: self.alignment,
            left: self.tensors.iter().map(|tensor| (tensor.name.clone(), tensor.n_bytes)).collect(),
            n_written: 0,
        };
        stream.out.write_all(&self.head()).map_err(io)?;
        Ok(stream)
    }

    /// The bytes of the file.
    ///
    /// # Panics
    /// When a tensor was declared without its bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        for tensor in &self.tensors {
            out.extend_from_slice(tensor.bytes.as_deref().expect("tensors of a file in memory have bytes"));
            out.resize(out.len().next_multiple_of(self.alignment as usize), 0);
        }
        out
    }

    /// Everything before the tensors' bytes, padded.
    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            Value::from_text(key).encode(&mut head);
            head.extend(value.value_type().id().to_le_bytes());
            value.encode(&mut head);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            Value::from_text(&tensor.name).encode(&mut head);
            head.extend((tensor.dims.len() as u32).to_le_bytes());
            for dim in &tensor.dims {
                head.extend(dim.to_le_bytes());
            }
            head.extend(tensor.ty.to_ggml_id().to_le_bytes());
            head.extend(offset.to_le_bytes());
            offset += tensor.n_bytes.next_multiple_of(self.alignment);
        }
        head.resize(head.len().next_multiple_of(self.alignment as usize), 0);
        head
    }
}

/// A file whose header is written and whose tensors are on their way. Dropped before [`GgufStream::finish`], it
/// leaves nothing behind.
#[derive(Debug)]
pub struct GgufStream {
    path: PathBuf,
    out: BufWriter<AtomicFile>,
    alignment: u64,
    /// The tensors that are not complete, each with the bytes it still lacks.
    left: VecDeque<(String, u64)>,
    /// Bytes of tensors and their padding so far.
    n_written: u64,
}

impl GgufStream {
    /// The next bytes: of the first tensor that is not complete yet, all of it or a part.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), GgufError> {
        let n = bytes.len() as u64;
        let Some((_, left)) = self.left.front_mut().filter(|(_, left)| n <= *left) else {
            let (name, left) =
                self.left.front().map_or(("after the last", 0), |(name, left)| (name.as_str(), *left));
            return Err(GgufError::Unwritable {
                subject: Subject::tensor(name.as_bytes()),
                field: "data",
                expected: format!("at most {left} more bytes"),
                found: n.to_string(),
            });
        };
        *left -= n;
        let is_complete = *left == 0;
        let io = |source| GgufError::Io { path: self.path.clone(), action: "write", source };
        self.out.write_all(bytes).map_err(io)?;
        self.n_written += n;
        if is_complete {
            self.left.pop_front();
            let end = self.n_written.next_multiple_of(self.alignment);
            let n_padding = end - self.n_written;
            io::copy(&mut io::Read::take(io::repeat(0), n_padding), &mut self.out).map_err(io)?;
            self.n_written = end;
        }
        Ok(())
    }

    /// Syncs the file and gives it its name.
    pub fn finish(self) -> Result<(), GgufError> {
        if let Some((name, left)) = self.left.front() {
            return Err(GgufError::Unwritable {
                subject: Subject::tensor(name.as_bytes()),
                field: "data",
                expected: format!("{left} more bytes"),
                found: "the end".to_owned(),
            });
        }
        let file = self.out.into_inner().map_err(|error| error.into_error());
        let finished = file.and_then(AtomicFile::finish);
        finished.map_err(|source| GgufError::Io { path: self.path, action: "write", source })
    }
}
