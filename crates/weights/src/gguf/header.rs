//! Parses and checks the header of one GGUF file: counts, metadata, tensor table.
//!
//! The format, little-endian throughout:
//! ```text
//! "GGUF" · version u32 · n_tensors u64 · n_metadata u64
//! n_metadata × { key: string · type u32 · value }          string: length u64, bytes
//! n_tensors  × { name: string · n_dims u32 · dims u64… · type u32 · offset u64 }
//! padding to the alignment · tensor data; offsets count from here
//! ```
//! Nothing is allocated from a count before the bytes that such a count needs have been seen to be there.

use std::collections::HashSet;
use std::ops::Range;

use super::TensorInfo;
use super::byte_reader::{ByteReader, Short};
use super::error::{Damage, Subject};
use super::value::{Array, Strings, Value, ValueType};
use crate::tensor_type::TensorKind;

pub(super) const MAGIC: &[u8] = b"GGUF";

/// The named limits of what is accepted. Real models stay far below each of them.
pub mod limits {
    /// Metadata keys of a file. Real files have some 20 to 60.
    pub const MAX_METADATA: u64 = 1 << 16;
    /// Tensors of a file. The largest models have some thousands.
    pub const MAX_TENSORS: u64 = 1 << 17;
    /// Bytes of a metadata key, from the GGUF specification.
    pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;
    /// Bytes of a tensor's name. The specification says 64, some tools write a little more.
    pub const MAX_TENSOR_NAME_BYTES: u64 = 255;
    /// Bytes of one string value. Chat templates, the longest, have some tens of kilobytes.
    pub const MAX_STRING_BYTES: u64 = 1 << 26;
    /// Items of one array. The largest vocabularies have some 300,000 tokens.
    pub const MAX_ARRAY_LEN: u64 = 1 << 26;
    /// Bytes of header and metadata together, so that a hostile file cannot keep the parser walking.
    pub const MAX_HEADER_BYTES: u64 = 1 << 30;
    /// Dimensions of a tensor, from ggml.
    pub const MAX_DIMS: u32 = 4;
    /// Alignment of tensor data. Files use 32 or, for direct reads, a page.
    pub const MAX_ALIGNMENT: u64 = 1 << 20;
    /// Alignment where the file does not say, from the specification.
    pub const DEFAULT_ALIGNMENT: u64 = 32;
    /// Parts of a split model; their names have five digits.
    pub const MAX_PARTS: usize = 4096;
}

/// A metadata entry: where its key and value lie.
#[derive(Debug)]
pub(super) struct Entry {
    key: Range<usize>,
    ty: ValueType,
    /// The value's content: a scalar's or string's bytes, an array's items.
    content: Range<usize>,
    /// For arrays: type and number of the items.
    items: Option<(ValueType, usize)>,
}

impl Entry {
    pub(super) fn key<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.key.clone()]
    }

    pub(super) fn value<'a>(&self, bytes: &'a [u8]) -> Value<'a> {
        let content = &bytes[self.content.clone()];
        match self.items {
            Some((item_type, len)) => Value::Array(Array::from_checked(item_type, len, content)),
            None => Value::decode_fixed(self.ty, content).unwrap_or(Value::String(content.into())),
        }
    }

    /// The bytes of a string value.
    pub(super) fn string<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        (self.ty == ValueType::String).then(|| &bytes[self.content.clone()])
    }

    /// The items of an array of strings.
    pub(super) fn string_array<'a>(&self, bytes: &'a [u8]) -> Option<Strings<'a>> {
        matches!(self.items, Some((ValueType::String, _)))
            .then(|| Strings { rest: &bytes[self.content.clone()] })
    }
}

/// What the header of one file says, checked.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) entries: Vec<Entry>,
    pub(super) tensors: Vec<TensorInfo>,
}

impl Header {
    /// Reads the header of a file that begins with [`MAGIC`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Header, Damage> {
        let mut reader = ByteReader::new(bytes);
        let truncated = |field| move |short| Damage::truncated(Subject::Header, field, short);
        reader.take(4).map_err(truncated("magic"))?;
        let version = reader.u32().map_err(truncated("version"))?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 1..=3) => return Err(Damage::BigEndian),
            _ => return Err(Damage::Version(version)),
        }
        let n_tensors = reader.u64().map_err(truncated("tensor count"))?;
        let n_metadata = reader.u64().map_err(truncated("metadata count"))?;
        let limit = |field, offset, found: u64, max: u64| {
            if found <= max {
                return Ok(());
            }
            Err(Damage::invalid(Subject::Header, field, offset, format_args!("at most {max}"), found))
        };
        limit("tensor count", 8, n_tensors, limits::MAX_TENSORS)?;
        limit("metadata count", 16, n_metadata, limits::MAX_METADATA)?;
        // The smallest entries: an empty key with one byte, a nameless tensor with one dimension.
        let least = |n: u64, each: u64, field| {
            let needed = n * each;
            let available = (bytes.len() - 24) as u64;
            let short = Short { offset: 24, needed, available };
            if needed <= available { Ok(()) } else { Err(Damage::truncated(Subject::Header, field, short)) }
        };
        least(n_metadata, 8 + 4 + 1, "metadata table")?;
        least(n_tensors, 8 + 4 + 8 + 4 + 8, "tensor table")?;

        let entries = parse_metadata(&mut reader, n_metadata)?;
        let alignment = alignment_of(&entries, bytes)?;
        let records = parse_tensor_table(&mut reader, n_tensors)?;
        let tensors = place_tensors(records, alignment, reader.pos(), bytes.len())?;
        Ok(Header { version, alignment, entries, tensors })
    }

    /// An integer key, for the split facts.
    pub(super) fn integer(&self, bytes: &[u8], key: &str) -> Option<u64> {
        self.entries.iter().find(|entry| entry.key(bytes) == key.as_bytes())?.value(bytes).as_u64()
    }
}

/// A length-prefixed run of at most `max` bytes; its range in the file.
fn string_range(
    reader: &mut ByteReader<'_>,
    subject: &dyn Fn() -> Subject,
    field: &'static str,
    max: u64,
) -> Result<Range<usize>, Damage> {
    let offset = reader.pos();
    let len = reader.u64().map_err(|short| Damage::truncated(subject(), field, short))?;
    if len > max {
        let expected = format_args!("a length of at most {max} bytes");
        return Err(Damage::invalid(subject(), field, offset, expected, len));
    }
    let start = reader.pos();
    reader.take(len).map_err(|short| Damage::truncated(subject(), field, short))?;
    Ok(start..reader.pos())
}

fn parse_metadata(reader: &mut ByteReader<'_>, n_metadata: u64) -> Result<Vec<Entry>, Damage> {
    let bytes = reader.all();
    let mut entries = Vec::new();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for i in 0..n_metadata {
        let offset = reader.pos();
        if offset as u64 > limits::MAX_HEADER_BYTES {
            let expected = format_args!("metadata within the first {} bytes", limits::MAX_HEADER_BYTES);
            return Err(Damage::invalid(Subject::KeyNumber(i), "place", offset, expected, "more"));
        }
        let key = string_range(reader, &|| Subject::KeyNumber(i), "name", limits::MAX_KEY_BYTES)?;
        let name = &bytes[key.clone()];
        if name.is_empty() {
            return Err(Damage::invalid(Subject::KeyNumber(i), "name", offset, "at least one byte", "none"));
        }
        if !seen.insert(name) {
            return Err(Damage::Duplicate { subject: Subject::key(name), offset: offset as u64 });
        }
        let ty = value_type(reader, name, "type")?;
        let (content, items) = match ty {
            ValueType::Array => parse_array(reader, name)?,
            _ => (item_range(reader, name, ty, "value")?, None),
        };
        entries.push(Entry { key, ty, content, items });
    }
    Ok(entries)
}

fn value_type(reader: &mut ByteReader<'_>, key: &[u8], field: &'static str) -> Result<ValueType, Damage> {
    let offset = reader.pos();
    let id = reader.u32().map_err(|short| Damage::truncated(Subject::key(key), field, short))?;
    ValueType::from_id(id)
        .ok_or_else(|| Damage::invalid(Subject::key(key), field, offset, "a value type of 0 to 12", id))
}

/// Passes over one value that is not an array; the range of its content.
fn item_range(
    reader: &mut ByteReader<'_>,
    key: &[u8],
    ty: ValueType,
    field: &'static str,
) -> Result<Range<usize>, Damage> {
    let Some(size) = ty.fixed_size() else {
        return string_range(reader, &|| Subject::key(key), field, limits::MAX_STRING_BYTES);
    };
    let start = reader.pos();
    let content =
        reader.take(size as u64).map_err(|short| Damage::truncated(Subject::key(key), field, short))?;
    if ty == ValueType::Bool && content[0] > 1 {
        return Err(Damage::invalid(Subject::key(key), field, start, "a boolean of 0 or 1", content[0]));
    }
    Ok(start..reader.pos())
}

type ArrayContent = (Range<usize>, Option<(ValueType, usize)>);

fn parse_array(reader: &mut ByteReader<'_>, key: &[u8]) -> Result<ArrayContent, Damage> {
    let offset = reader.pos();
    let ty = value_type(reader, key, "item type")?;
    if ty == ValueType::Array {
        return Err(Damage::invalid(
            Subject::key(key),
            "item type",
            offset,
            "no array within an array",
            "one",
        ));
    }
    let offset = reader.pos();
    let len = reader.u64().map_err(|short| Damage::truncated(Subject::key(key), "item count", short))?;
    if len > limits::MAX_ARRAY_LEN {
        let expected = format_args!("at most {} items", limits::MAX_ARRAY_LEN);
        return Err(Damage::invalid(Subject::key(key), "item count", offset, expected, len));
    }
    let start = reader.pos();
    if let Some(size) = ty.fixed_size() {
        let short = |short| Damage::truncated(Subject::key(key), "array", short);
        let items = reader.take(len * size as u64).map_err(short)?;
        if let Some(i) = items.iter().position(|&byte| ty == ValueType::Bool && byte > 1) {
            let expected = "booleans of 0 or 1";
            return Err(Damage::invalid(Subject::key(key), "array", start + i, expected, items[i]));
        }
    } else {
        for _ in 0..len {
            item_range(reader, key, ty, "array item")?;
        }
    }
    // `len` is at most MAX_ARRAY_LEN and fits a usize on every machine that can map a model.
    Ok((start..reader.pos(), Some((ty, len as usize))))
}

fn alignment_of(entries: &[Entry], bytes: &[u8]) -> Result<u64, Damage> {
    let key = b"general.alignment";
    let Some(entry) = entries.iter().find(|entry| entry.key(bytes) == key) else {
        return Ok(limits::DEFAULT_ALIGNMENT);
    };
    let value = entry.value(bytes);
    match value.as_u64() {
        Some(n) if n.is_power_of_two() && n <= limits::MAX_ALIGNMENT => Ok(n),
        _ => {
            let expected = format_args!("a power of two of at most {}", limits::MAX_ALIGNMENT);
            let offset = entry.content.start;
            Err(Damage::invalid(Subject::key(key), "value", offset, expected, value.describe()))
        }
    }
}

/// A tensor as the table states it, its size computed, not yet placed in the file.
struct Record {
    name: String,
    dims: Vec<u64>,
    kind: TensorKind,
    n_bytes: u64,
    /// Offset from the beginning of the data.
    data_offset: u64,
    /// Where in the file the offset is stated.
    stated_at: usize,
}

fn parse_tensor_table(reader: &mut ByteReader<'_>, n_tensors: u64) -> Result<Vec<Record>, Damage> {
    let bytes = reader.all();
    let mut records = Vec::new();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    for i in 0..n_tensors {
        let offset = reader.pos();
        let unnamed = || Subject::TensorNumber(i);
        let name = &bytes[string_range(reader, &unnamed, "name", limits::MAX_TENSOR_NAME_BYTES)?];
        if name.is_empty() {
            return Err(Damage::invalid(unnamed(), "name", offset, "at least one byte", "none"));
        }
        let Ok(text) = std::str::from_utf8(name) else {
            return Err(Damage::invalid(Subject::tensor(name), "name", offset, "UTF-8 text", "other bytes"));
        };
        if !seen.insert(name) {
            return Err(Damage::Duplicate { subject: Subject::tensor(name), offset: offset as u64 });
        }
        records.push(parse_record(reader, text)?);
    }
    Ok(records)
}

/// The rest of a tensor's record, after its name.
fn parse_record(reader: &mut ByteReader<'_>, name: &str) -> Result<Record, Damage> {
    let subject = || Subject::tensor(name.as_bytes());
    let truncated = |field| move |short| Damage::truncated(subject(), field, short);
    let invalid = |field, offset, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
        Damage::invalid(subject(), field, offset, expected, found)
    };

    let offset = reader.pos();
    let n_dims = reader.u32().map_err(truncated("dimension count"))?;
    if !(1..=limits::MAX_DIMS).contains(&n_dims) {
        let expected = format_args!("1 to {}", limits::MAX_DIMS).to_string();
        return Err(invalid("dimension count", offset, &expected, &n_dims));
    }
    let dims_at = reader.pos();
    let mut dims = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        dims.push(reader.u64().map_err(truncated("dimensions"))?);
    }
    let offset = reader.pos();
    let type_id = reader.u32().map_err(truncated("type"))?;
    let Some(kind) = TensorKind::from_ggml_id(type_id) else {
        return Err(invalid("type", offset, &"the number of a ggml type known here", &type_id));
    };
    let stated_at = reader.pos();
    let data_offset = reader.u64().map_err(truncated("offset"))?;

    if dims.contains(&0) {
        return Err(invalid("dimensions", dims_at, &"none of them zero", &format!("{dims:?}")));
    }
    let (block_len, block_bytes) = (kind.block_len() as u64, kind.block_bytes() as u64);
    if !dims[0].is_multiple_of(block_len) {
        let expected = format!("a row length that is a multiple of {block_len} ({kind})");
        return Err(invalid("dimensions", dims_at, &expected, &dims[0]));
    }
    let n_elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim));
    let n_bytes = n_elements.and_then(|n| (n / block_len).checked_mul(block_bytes));
    let Some(n_bytes) = n_bytes.filter(|&n| i64::try_from(n).is_ok()) else {
        return Err(invalid("dimensions", dims_at, &"a size below 2^63 bytes", &format!("{dims:?}")));
    };
    Ok(Record { name: name.to_owned(), dims, kind, n_bytes, data_offset, stated_at })
}

/// Turns offsets into checked ranges of the file: aligned, inside, apart from each other.
fn place_tensors(
    records: Vec<Record>,
    alignment: u64,
    table_end: usize,
    file_len: usize,
) -> Result<Vec<TensorInfo>, Damage> {
    // `table_end` lies within the file and the alignment is at most 2^20, so this cannot overflow.
    let data_start = (table_end as u64).next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(records.len());
    for record in &records {
        let subject = || Subject::tensor(record.name.as_bytes());
        if !record.data_offset.is_multiple_of(alignment) {
            let expected = format_args!("a multiple of the alignment {alignment}");
            return Err(Damage::invalid(subject(), "offset", record.stated_at, expected, record.data_offset));
        }
        let start = data_start.checked_add(record.data_offset);
        let end = start.and_then(|start| start.checked_add(record.n_bytes));
        let (Some(start), Some(end)) = (start, end) else {
            let expected = "an offset within the file";
            return Err(Damage::invalid(subject(), "offset", record.stated_at, expected, record.data_offset));
        };
        if end > file_len as u64 {
            let available = (file_len as u64).saturating_sub(start);
            let short = Short { offset: start, needed: record.n_bytes, available };
            return Err(Damage::truncated(subject(), "data", short));
        }
        tensors.push(TensorInfo {
            name: record.name.clone(),
            dims: record.dims.clone(),
            kind: record.kind,
            part_idx: 0,
            // Both are at most `file_len`, a usize.
            range: start as usize..end as usize,
        });
    }
    check_apart(&tensors, &records)?;
    Ok(tensors)
}

/// No two tensors share bytes.
fn check_apart(tensors: &[TensorInfo], records: &[Record]) -> Result<(), Damage> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_by_key(|&i| tensors[i].range.start);
    for pair in order.windows(2) {
        let (before, after) = (&tensors[pair[0]], &tensors[pair[1]]);
        if after.range.start < before.range.end {
            let subject = Subject::tensor(after.name.as_bytes());
            let other = Subject::tensor(before.name.as_bytes());
            let expected = format_args!("data after byte {}, the end of {other}", before.range.end);
            let found = format_args!("an overlap from byte {}", after.range.start);
            return Err(Damage::invalid(subject, "offset", records[pair[1]].stated_at, expected, found));
        }
    }
    Ok(())
}
