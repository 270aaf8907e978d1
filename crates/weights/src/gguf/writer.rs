//! Writes a GGUF version 3 file, whole or not at all: beside its place, synced, then renamed.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::error::{GgufError, Subject};
use super::header::{MAGIC, limits};
use super::value::Value;
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
    bytes: Cow<'a, [u8]>,
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
        if n_bytes != bytes.len() as u64 {
            return refuse("data", format!("{n_bytes} bytes for {dims:?} {ty}"), bytes.len().to_string());
        }
        self.tensors.push(Tensor { name: name.to_owned(), dims: dims.to_vec(), ty, bytes });
        Ok(())
    }

    /// Writes the file: beside `path` under another name, synced, then renamed to `path`.
    /// On failure nothing is left behind and an old file at `path` is as it was.
    pub fn write_to(&self, path: &Path) -> Result<(), GgufError> {
        let io = |action| move |source| GgufError::Io { path: path.to_owned(), action, source };
        let Some(name) = path.file_name() else {
            return Err(GgufError::NotAFile { path: path.to_owned(), what: "no file name" });
        };
        let mut partial_name = std::ffi::OsString::from(".");
        partial_name.push(name);
        partial_name.push(format!(".{}.part", std::process::id()));
        let partial = path.with_file_name(partial_name);
        let written = File::create(&partial).and_then(|file| {
            let mut out = BufWriter::with_capacity(1 << 20, file);
            self.write(&mut out)?;
            out.into_inner().map_err(|error| error.into_error())?.sync_all()
        });
        if let Err(source) = written.and_then(|()| fs::rename(&partial, path)) {
            let _ = fs::remove_file(&partial); // the first error is the one to tell
            return Err(io("write")(source));
        }
        // The new name itself must survive a power loss too.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("sync the folder of"))
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out).expect("writing to memory cannot fail");
        out
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
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
            offset += (tensor.bytes.len() as u64).next_multiple_of(self.alignment);
        }
        out.write_all(&head)?;
        self.pad(out, head.len())?;
        for tensor in &self.tensors {
            out.write_all(&tensor.bytes)?;
            self.pad(out, tensor.bytes.len())?;
        }
        Ok(())
    }

    /// Zeros up to the next multiple of the alignment.
    fn pad(&self, out: &mut impl Write, written: usize) -> io::Result<()> {
        let n = (written as u64).next_multiple_of(self.alignment) - written as u64;
        io::copy(&mut io::Read::take(io::repeat(0), n), out).map(|_| ())
    }
}
