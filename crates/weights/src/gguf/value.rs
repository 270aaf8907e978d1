//! Metadata values: GGUF's scalar types, strings of bytes and flat arrays, borrowed from the file or owned.
//!
//! An array keeps the file's own encoding and decodes an item when it is asked for, so that a vocabulary of 150,000
//! strings costs nothing to hold.

use std::borrow::Cow;
use std::fmt;

use super::quoted::quote;

/// The type of a value as GGUF numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the format's own
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this number.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(id as usize).copied()
    }

    /// GGUF's number of the type.
    pub fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of a value whose size is fixed; `None` for strings and arrays.
    pub fn fixed_size(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }

    /// Name as `inspect` prints it.
    pub fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names are the format's own
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// Bytes; usually UTF-8, never promised to be.
    String(Cow<'a, [u8]>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// A string value from text.
    pub fn from_text(text: &'a str) -> Value<'a> {
        Value::String(Cow::Borrowed(text.as_bytes()))
    }

    /// The value's type.
    pub fn value_type(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// Any integer type, if not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::U64(n) => Some(n),
            _ => u64::try_from(self.as_i64()?).ok(),
        }
    }

    /// Any integer type, if it fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::U8(n) => Some(n.into()),
            Value::I8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::I16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::I32(n) => Some(n.into()),
            Value::I64(n) => Some(n),
            Value::U64(n) => i64::try_from(n).ok(),
            _ => None,
        }
    }

    /// Either float type.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<&Array<'a>> {
        match self {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// Type and content in a few words, for messages: `u32 7`, `string "llama"`, `array of 3 string`.
    pub fn describe(&self) -> String {
        match self {
            Value::Array(array) => format!("an array of {} {}", array.len(), array.item_type().name()),
            other => format!("{} {other}", other.value_type().name()),
        }
    }

    /// Decodes a value of fixed size; `bytes` has exactly that many.
    pub(super) fn decode_fixed(ty: ValueType, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match ty {
            ValueType::U8 => Value::U8(*bytes.first()?),
            ValueType::I8 => Value::I8(i8::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::Bool => Value::Bool(*bytes.first()? != 0),
            ValueType::U64 => Value::U64(u64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            ValueType::String | ValueType::Array => return None,
        })
    }

    /// Appends the value as GGUF stores it, without its type.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(n) => out.extend(n.to_le_bytes()),
            Value::I8(n) => out.extend(n.to_le_bytes()),
            Value::U16(n) => out.extend(n.to_le_bytes()),
            Value::I16(n) => out.extend(n.to_le_bytes()),
            Value::U32(n) => out.extend(n.to_le_bytes()),
            Value::I32(n) => out.extend(n.to_le_bytes()),
            Value::F32(x) => out.extend(x.to_le_bytes()),
            Value::Bool(b) => out.push(u8::from(*b)),
            Value::U64(n) => out.extend(n.to_le_bytes()),
            Value::I64(n) => out.extend(n.to_le_bytes()),
            Value::F64(x) => out.extend(x.to_le_bytes()),
            Value::String(bytes) => {
                out.extend((bytes.len() as u64).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Value::Array(array) => {
                out.extend(array.item_type.id().to_le_bytes());
                out.extend((array.len as u64).to_le_bytes());
                out.extend_from_slice(&array.data);
            }
        }
    }
}

/// The content alone, on one bounded line.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(n) => n.fmt(f),
            Value::I8(n) => n.fmt(f),
            Value::U16(n) => n.fmt(f),
            Value::I16(n) => n.fmt(f),
            Value::U32(n) => n.fmt(f),
            Value::I32(n) => n.fmt(f),
            Value::F32(x) => x.fmt(f),
            Value::Bool(b) => b.fmt(f),
            Value::U64(n) => n.fmt(f),
            Value::I64(n) => n.fmt(f),
            Value::F64(x) => x.fmt(f),
            Value::String(bytes) => f.write_str(&quote(bytes)),
            Value::Array(array) => {
                f.write_str("[")?;
                for (i, item) in array.iter().take(3).enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{item}")?;
                }
                if array.len() > 3 {
                    write!(f, ", … {} in all", array.len())?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A flat array of one type, in the file's encoding.
///
/// Its bytes are valid: `len` items of `item_type`, strings each with their length before them.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    item_type: ValueType,
    len: usize,
    data: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// The array in bytes that have been checked.
    pub(super) fn from_checked(item_type: ValueType, len: usize, data: &'a [u8]) -> Array<'a> {
        Array { item_type, len, data: Cow::Borrowed(data) }
    }

    /// An array of strings.
    pub fn from_strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Array<'static> {
        let mut data = Vec::new();
        let mut len = 0;
        for string in strings {
            let bytes = string.as_ref();
            data.extend((bytes.len() as u64).to_le_bytes());
            data.extend_from_slice(bytes);
            len += 1;
        }
        Array { item_type: ValueType::String, len, data: Cow::Owned(data) }
    }

    /// An array of floats.
    pub fn from_f32s(items: &[f32]) -> Array<'static> {
        Array::from_fixed(ValueType::F32, items.iter().map(|x| x.to_le_bytes()))
    }

    /// An array of unsigned integers.
    pub fn from_u32s(items: &[u32]) -> Array<'static> {
        Array::from_fixed(ValueType::U32, items.iter().map(|n| n.to_le_bytes()))
    }

    /// An array of signed integers.
    pub fn from_i32s(items: &[i32]) -> Array<'static> {
        Array::from_fixed(ValueType::I32, items.iter().map(|n| n.to_le_bytes()))
    }

    /// An array of booleans.
    pub fn from_bools(items: &[bool]) -> Array<'static> {
        Array::from_fixed(ValueType::Bool, items.iter().map(|&b| [u8::from(b)]))
    }

    fn from_fixed<const N: usize>(
        item_type: ValueType,
        items: impl ExactSizeIterator<Item = [u8; N]>,
    ) -> Array<'static> {
        let len = items.len();
        Array { item_type, len, data: Cow::Owned(items.flatten().collect()) }
    }

    /// The type of every item.
    pub fn item_type(&self) -> ValueType {
        self.item_type
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The items, in order.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        let fixed = self.item_type.fixed_size();
        let numbers = self.data.chunks_exact(fixed.unwrap_or(1)).filter(move |_| fixed.is_some());
        let numbers = numbers.filter_map(|bytes| Value::decode_fixed(self.item_type, bytes));
        let strings = self.strings().into_iter().flatten().map(|bytes| Value::String(Cow::Borrowed(bytes)));
        numbers.chain(strings)
    }

    /// The items as bytes, if they are strings.
    pub fn strings(&self) -> Option<impl Iterator<Item = &[u8]>> {
        (self.item_type == ValueType::String).then(|| Strings { rest: &self.data })
    }
}

/// Walks strings that stand one after the other, each with its length in 8 bytes before it.
pub(super) struct Strings<'a> {
    pub rest: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<8>()?;
        let (string, rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?)?;
        self.rest = rest;
        Some(string)
    }
}
