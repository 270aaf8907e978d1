//! A GGUF file, opened and checked: metadata and tensors of one model, over one map or the maps of its parts.
//!
//! [`Gguf::open`] maps the file, walks its header once and checks every length, count, offset, type, alignment and
//! overlap; after that, metadata and tensor bytes are read in place. Opening any part of a split model
//! (`name-00002-of-00003.gguf`) opens all of it.

mod byte_reader;
mod error;
mod header;
mod looks_like;
mod quoted;
mod split;
mod value;
mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

pub use error::{Damage, GgufError, Subject};
pub use header::limits;
pub use looks_like::LooksLike;
pub use quoted::MetadataKey;
pub(crate) use quoted::quote;
pub use value::{Array, Value, ValueType};
pub use writer::{GgufStream, GgufWriter};

use crate::mmap::FileMap;
use crate::tensor_type::TensorKind;
use header::Header;

/// One tensor of a file: its name, shape, format and place.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes in ggml's order, the row length first: `[n_cols, n_rows, …]`; one to four of them, none zero.
    pub dims: Vec<u64>,
    /// Number format.
    pub kind: TensorKind,
    /// Which part of a split model holds it; 0 for a single file.
    part_idx: usize,
    /// Bytes within that part; checked to lie inside it.
    range: Range<usize>,
}

impl TensorInfo {
    /// Elements of one row.
    pub fn n_cols(&self) -> u64 {
        self.dims[0]
    }

    /// Number of rows: the product of all sizes but the first.
    pub fn n_rows(&self) -> u64 {
        self.dims[1..].iter().product()
    }

    /// Number of elements.
    pub fn n_elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Bytes in the file.
    pub fn n_bytes(&self) -> u64 {
        self.range.len() as u64
    }

    /// Sizes outermost first, `[n_rows, n_cols]`, without trailing ones of ggml's order.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape: Vec<u64> = self.dims.clone();
        while shape.len() > 1 && shape.last() == Some(&1) {
            shape.pop();
        }
        shape.reverse();
        shape
    }

    /// Where the bytes begin within their file.
    pub fn offset(&self) -> u64 {
        self.range.start as u64
    }
}

/// One file of a model: its name and its bytes.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    bytes: PartBytes,
}

#[derive(Debug)]
enum PartBytes {
    Map(FileMap),
    Memory(Vec<u8>),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match &self.bytes {
            PartBytes::Map(map) => map.bytes(),
            PartBytes::Memory(bytes) => bytes,
        }
    }
}

/// An open model file, or all parts of a split one.
#[derive(Debug)]
pub struct Gguf {
    parts: Vec<Part>,
    header: Header,
    tensors: Vec<TensorInfo>,
    tensor_idx: HashMap<String, usize>,
}

impl Gguf {
    /// Opens and checks a model file; of a split model any part may be named.
    pub fn open(path: &Path) -> Result<Gguf, GgufError> {
        let first = open_part(path)?;
        let header = Header::parse(first.bytes()).map_err(|damage| damage.in_file(path))?;
        let split = split::Split::of(path, &header, first.bytes())?;
        let Some(split) = split else {
            return Gguf::join(vec![first], header, vec![]);
        };
        split.check_all_present()?;
        let mut parts = Vec::new();
        let mut headers = Vec::new();
        for part_path in &split.paths {
            let part = open_part(part_path)?;
            let header = Header::parse(part.bytes()).map_err(|damage| damage.in_file(part_path))?;
            split.check_part(part_path, parts.len(), &header, part.bytes())?;
            parts.push(part);
            headers.push(header);
        }
        let n_tensors: usize = headers.iter().map(|header| header.tensors.len()).sum();
        split.check_tensor_count(n_tensors)?;
        let first = headers.remove(0);
        Gguf::join(parts, first, headers)
    }

    /// Reads a model that lies in memory (tests, fuzzing); errors name it `<memory>`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
        let path = PathBuf::from("<memory>");
        let part = Part { path: path.clone(), bytes: PartBytes::Memory(bytes) };
        check_magic(&path, part.bytes())?;
        let header = Header::parse(part.bytes()).map_err(|damage| damage.in_file(&path))?;
        Gguf::join(vec![part], header, vec![])
    }

    /// Puts the parts' tensors into one list. `first` is the header of part 0, `others` those of the rest.
    fn join(parts: Vec<Part>, mut first: Header, others: Vec<Header>) -> Result<Gguf, GgufError> {
        let mut tensors = std::mem::take(&mut first.tensors);
        for (i, other) in others.into_iter().enumerate() {
            tensors.extend(other.tensors.into_iter().map(|info| TensorInfo { part_idx: i + 1, ..info }));
        }
        let mut tensor_idx = HashMap::with_capacity(tensors.len());
        for (i, info) in tensors.iter().enumerate() {
            if tensor_idx.insert(info.name.clone(), i).is_some() {
                // Within a part the header has been checked, so this one is split over two parts.
                let damage = Damage::Duplicate {
                    subject: Subject::tensor(info.name.as_bytes()),
                    offset: info.offset(),
                };
                return Err(damage.in_file(&parts[info.part_idx].path));
            }
        }
        Ok(Gguf { parts, header: first, tensors, tensor_idx })
    }

    /// GGUF version of the (first) file: 2 or 3.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Alignment of tensor data in bytes: `general.alignment`, 32 when the file does not say.
    pub fn alignment(&self) -> u64 {
        self.header.alignment
    }

    /// All metadata in file order; keys are bytes, unique, not necessarily text.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (MetadataKey<'_>, Value<'_>)> {
        let bytes = self.parts[0].bytes();
        self.header.entries.iter().map(move |entry| (MetadataKey(entry.key(bytes)), entry.value(bytes)))
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let bytes = self.parts[0].bytes();
        self.header
            .entries
            .iter()
            .find(|entry| entry.key(bytes) == key.as_bytes())
            .map(|entry| entry.value(bytes))
    }

    /// All tensors, in file order, parts one after the other.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_idx.get(name).map(|&i| &self.tensors[i])
    }

    /// The bytes of a tensor of this file, as stored: rows of blocks.
    pub fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.parts[info.part_idx].bytes()[info.range.clone()]
    }

    /// Gives a tensor's pages back to the system, once its content has been repacked elsewhere.
    /// Its bytes can still be read; that fetches them from the file again.
    pub fn release(&self, info: &TensorInfo) {
        if let PartBytes::Map(map) = &self.parts[info.part_idx].bytes {
            map.release(info.range.clone());
        }
    }

    /// Bytes of all files of the model.
    pub fn file_size(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes().len() as u64).sum()
    }

    /// The files of the model, first part first.
    pub fn paths(&self) -> impl ExactSizeIterator<Item = &Path> {
        self.parts.iter().map(|part| part.path.as_path())
    }
}

/// The value of a key in the type the caller expects: `Ok(None)` when the key is absent, an error when it holds
/// something else.
impl Gguf {
    /// A whole number that fits in 32 bits; any integer type of the file will do.
    pub fn get_u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.typed(key, "an integer of 0 to 4294967295", |value| {
            value.as_u64().and_then(|n| u32::try_from(n).ok())
        })
    }

    /// A float (32 or 64 bits in the file).
    pub fn get_f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.typed(key, "a float", |value| value.as_f32())
    }

    /// A boolean.
    pub fn get_bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.typed(key, "a boolean", |value| match value {
            Value::Bool(b) => Some(*b),
            _ => None,
        })
    }

    /// A string that is UTF-8.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        let Some(bytes) = self.get_bytes(key)? else { return Ok(None) };
        std::str::from_utf8(bytes).map(Some).map_err(|error| GgufError::ValueType {
            key: quoted::quote(key.as_bytes()),
            expected: "a string of UTF-8",
            found: format!("other bytes at {} of the string", error.valid_up_to()),
        })
    }

    /// A string, whatever its bytes.
    pub fn get_bytes(&self, key: &str) -> Result<Option<&[u8]>, GgufError> {
        let bytes = self.parts[0].bytes();
        let Some(entry) = self.header.entries.iter().find(|entry| entry.key(bytes) == key.as_bytes()) else {
            return Ok(None);
        };
        entry.string(bytes).map(Some).ok_or_else(|| wrong_type(key, "a string", &entry.value(bytes)))
    }

    /// An array of strings, whatever their bytes.
    pub fn get_array_bytes(&self, key: &str) -> Result<Option<Vec<&[u8]>>, GgufError> {
        let bytes = self.parts[0].bytes();
        let Some(entry) = self.header.entries.iter().find(|entry| entry.key(bytes) == key.as_bytes()) else {
            return Ok(None);
        };
        entry
            .string_array(bytes)
            .map(|strings| Some(strings.collect()))
            .ok_or_else(|| wrong_type(key, "an array of strings", &entry.value(bytes)))
    }

    /// An array of floats.
    pub fn get_array_f32(&self, key: &str) -> Result<Option<Vec<f32>>, GgufError> {
        self.typed(key, "an array of floats", |value| {
            value.as_array()?.iter().map(|item| item.as_f32()).collect()
        })
    }

    /// An array of whole numbers that fit in 32 bits.
    pub fn get_array_u32(&self, key: &str) -> Result<Option<Vec<u32>>, GgufError> {
        self.typed(key, "an array of integers of 0 to 4294967295", |value| {
            value.as_array()?.iter().map(|item| item.as_u64().and_then(|n| u32::try_from(n).ok())).collect()
        })
    }

    /// An array of signed whole numbers that fit in 32 bits.
    pub fn get_array_i32(&self, key: &str) -> Result<Option<Vec<i32>>, GgufError> {
        self.typed(key, "an array of integers of 32 bits", |value| {
            value.as_array()?.iter().map(|item| item.as_i64().and_then(|n| i32::try_from(n).ok())).collect()
        })
    }

    /// An array of booleans.
    pub fn get_array_bool(&self, key: &str) -> Result<Option<Vec<bool>>, GgufError> {
        self.typed(key, "an array of booleans", |value| {
            let items = value.as_array()?.iter();
            items.map(|item| if let Value::Bool(b) = item { Some(b) } else { None }).collect()
        })
    }

    fn typed<T>(
        &self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&Value<'_>) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(&value).map(Some).ok_or_else(|| wrong_type(key, expected, &value))
    }
}

fn wrong_type(key: &str, expected: &'static str, found: &Value<'_>) -> GgufError {
    GgufError::ValueType { key: quoted::quote(key.as_bytes()), expected, found: found.describe() }
}

/// Maps a file after the checks that need no parsing.
fn open_part(path: &Path) -> Result<Part, GgufError> {
    let io = |action| move |source| GgufError::Io { path: path.to_owned(), action, source };
    // Asked before opening, because opening a pipe would wait for its writer.
    let metadata = std::fs::metadata(path).map_err(io("open"))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a directory" } else { "not a regular file" };
        return Err(GgufError::NotAFile { path: path.to_owned(), what });
    }
    if metadata.len() == 0 {
        return Err(GgufError::Empty { path: path.to_owned() });
    }
    let file = File::open(path).map_err(io("open"))?;
    let map = FileMap::new(&file).map_err(io("map"))?;
    check_magic(path, map.bytes())?;
    Ok(Part { path: path.to_owned(), bytes: PartBytes::Map(map) })
}

fn check_magic(path: &Path, bytes: &[u8]) -> Result<(), GgufError> {
    if bytes.is_empty() {
        return Err(GgufError::Empty { path: path.to_owned() });
    }
    if bytes.starts_with(header::MAGIC) {
        return Ok(());
    }
    Err(GgufError::NotGguf { path: path.to_owned(), looks_like: LooksLike::guess(bytes) })
}

#[cfg(test)]
mod tests;
