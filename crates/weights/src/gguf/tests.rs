//! Reading, writing and refusing whole files.

#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::tensor_type::TensorType;
use crate::tiny_model::TinyModel;

/// Every kind of value, under a key of its name.
fn all_values() -> Vec<(&'static str, Value<'static>)> {
    vec![
        ("u8", Value::U8(200)),
        ("i8", Value::I8(-100)),
        ("u16", Value::U16(60_000)),
        ("i16", Value::I16(-30_000)),
        ("u32", Value::U32(4_000_000_000)),
        ("i32", Value::I32(-2_000_000_000)),
        ("u64", Value::U64(u64::MAX)),
        ("i64", Value::I64(i64::MIN)),
        ("f32", Value::F32(-1.5)),
        ("f64", Value::F64(1e300)),
        ("bool", Value::Bool(true)),
        ("text", Value::from_text("naïve 你好")),
        ("bytes", Value::String(b"\xff\x00\n".to_vec().into())),
        ("strings", Value::Array(Array::from_strings([&b"a"[..], b"", b"\xff"]))),
        ("none", Value::Array(Array::from_strings::<&str>([]))),
        ("floats", Value::Array(Array::from_f32s(&[1.0, -2.0]))),
        ("counts", Value::Array(Array::from_u32s(&[1, u32::MAX]))),
        ("signed", Value::Array(Array::from_i32s(&[-1, 1]))),
        ("flags", Value::Array(Array::from_bools(&[true, false]))),
    ]
}

#[test]
fn what_is_written_is_read_back() {
    for alignment in [1, 32, 64, 4096] {
        let mut writer = GgufWriter::new(alignment).unwrap();
        for (key, value) in all_values() {
            writer.set(key, value).unwrap();
        }
        let a: Vec<u8> = (0..24).collect();
        let b: Vec<u8> = (0..36).rev().collect();
        writer.add_tensor("a", &[3, 2], TensorType::F32, &a).unwrap();
        writer.add_tensor("b.weight", &[32, 1, 2], TensorType::Q4_0, &b).unwrap();
        let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();

        assert_eq!((gguf.version(), gguf.alignment()), (3, alignment));
        for (key, value) in all_values() {
            assert_eq!(gguf.get(key), Some(value), "{key}");
        }
        let keys: Vec<_> = gguf.metadata().map(|(key, _)| key.as_str().unwrap().to_owned()).collect();
        let written: Vec<_> = all_values().iter().map(|(key, _)| *key).collect();
        assert_eq!(keys.iter().filter(|key| *key != "general.alignment").collect::<Vec<_>>(), written);

        let info = gguf.tensor("a").unwrap();
        assert_eq!((info.dims.as_slice(), info.kind.name(), gguf.bytes(info)), (&[3, 2][..], "F32", &a[..]));
        let info = gguf.tensor("b.weight").unwrap();
        assert_eq!((info.n_cols(), info.n_rows(), info.n_elements(), info.n_bytes()), (32, 2, 64, 36));
        assert_eq!(info.shape(), [2, 1, 32]);
        assert_eq!(gguf.bytes(info), b);
        assert!(info.offset().is_multiple_of(alignment));
        assert_eq!(gguf.tensor("c"), None);
    }
}

#[test]
fn typed_access_converts_integers_and_refuses_the_rest() {
    let mut writer = GgufWriter::new(32).unwrap();
    for (key, value) in all_values() {
        writer.set(key, value).unwrap();
    }
    let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
    assert_eq!(gguf.get_u32("u8").unwrap(), Some(200));
    assert_eq!(gguf.get_u32("absent").unwrap(), None);
    assert_eq!(gguf.get_f32("f64").unwrap(), Some(f32::INFINITY));
    assert_eq!(gguf.get_bool("bool").unwrap(), Some(true));
    assert_eq!(gguf.get_str("text").unwrap(), Some("naïve 你好"));
    assert_eq!(gguf.get_bytes("bytes").unwrap(), Some(&b"\xff\x00\n"[..]));
    assert_eq!(gguf.get_array_bytes("strings").unwrap().unwrap(), [&b"a"[..], b"", b"\xff"]);
    assert_eq!(gguf.get_array_bytes("none").unwrap().unwrap(), [b""; 0]);
    assert_eq!(gguf.get_array_f32("floats").unwrap().unwrap(), [1.0, -2.0]);
    assert_eq!(gguf.get_array_u32("counts").unwrap().unwrap(), [1, u32::MAX]);
    assert_eq!(gguf.get_array_i32("signed").unwrap().unwrap(), [-1, 1]);
    assert_eq!(gguf.get_array_bool("flags").unwrap().unwrap(), [true, false]);

    let expect = |error: GgufError, text: &str| assert_eq!(error.to_string(), text);
    expect(
        gguf.get_u32("u64").unwrap_err(),
        "metadata key \"u64\": expected an integer of 0 to 4294967295, found u64 18446744073709551615",
    );
    expect(
        gguf.get_u32("i8").unwrap_err(),
        "metadata key \"i8\": expected an integer of 0 to 4294967295, found i8 -100",
    );
    expect(gguf.get_str("u8").unwrap_err(), "metadata key \"u8\": expected a string, found u8 200");
    expect(
        gguf.get_str("bytes").unwrap_err(),
        "metadata key \"bytes\": expected a string of UTF-8, found other bytes at 0 of the string",
    );
    expect(
        gguf.get_array_f32("flags").unwrap_err(),
        "metadata key \"flags\": expected an array of floats, found an array of 2 bool",
    );
    expect(
        gguf.get_f32("text").unwrap_err(),
        "metadata key \"text\": expected a float, found string \"naïve 你好\"",
    );
}

/// Bytes of a header by hand, for what the writer refuses to write.
struct Raw(Vec<u8>);

impl Raw {
    fn new(version: u32, n_tensors: u64, n_metadata: u64) -> Raw {
        let mut raw = Raw(b"GGUF".to_vec());
        raw.u32(version).u64(n_tensors).u64(n_metadata);
        raw
    }
    fn u32(&mut self, n: u32) -> &mut Raw {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn u64(&mut self, n: u64) -> &mut Raw {
        self.0.extend(n.to_le_bytes());
        self
    }
    fn string(&mut self, text: &[u8]) -> &mut Raw {
        self.u64(text.len() as u64);
        self.0.extend_from_slice(text);
        self
    }
    fn tensor(&mut self, name: &[u8], dims: &[u64], ty: u32, offset: u64) -> &mut Raw {
        self.string(name).u32(dims.len() as u32);
        for &dim in dims {
            self.u64(dim);
        }
        self.u32(ty).u64(offset)
    }
    fn data(&mut self, n: usize) -> &mut Raw {
        let len = self.0.len().next_multiple_of(32) + n;
        self.0.resize(len, 0);
        self
    }
    fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

#[test]
fn each_kind_of_damage_has_its_own_line() {
    let key = |ty: u32| {
        let mut raw = Raw::new(3, 0, 1);
        raw.string(b"k").u32(ty);
        raw
    };
    let tensor = |dims: &[u64], ty, offset| Raw::new(3, 1, 0).tensor(b"t", dims, ty, offset).data(64).bytes();
    let two_tensors = |a: (&[u8], u64), b: (&[u8], u64)| {
        Raw::new(3, 2, 0).tensor(a.0, &[8], 0, a.1).tensor(b.0, &[16], 0, b.1).data(256).bytes()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (
            b"GG".to_vec(),
            "is not a GGUF file: expected the bytes \"GGUF\" at the start, found text that begins \"GG\"",
        ),
        (b"GGUF".to_vec(), "truncated: GGUF header (version) at byte 4 needs 4 bytes, 0 are left"),
        (
            Raw::new(1, 0, 0).bytes(),
            "unsupported GGUF version at byte 4: expected 2 or 3, found 1 (convert the model again with a newer tool)",
        ),
        (Raw::new(4, 0, 0).bytes(), "unsupported GGUF version at byte 4: expected 2 or 3, found 4"),
        (
            Raw::new(3u32.swap_bytes(), 0, 0).bytes(),
            "is a big-endian GGUF file, which is not supported; expected a little-endian one (convert it with gguf_convert_endian.py)",
        ),
        (
            Raw::new(3, u64::MAX, 0).bytes(),
            "GGUF header: tensor count at byte 8: expected at most 131072, found 18446744073709551615",
        ),
        (
            Raw::new(3, 0, u64::MAX).bytes(),
            "GGUF header: metadata count at byte 16: expected at most 65536, found 18446744073709551615",
        ),
        (
            Raw::new(3, 0, 60_000).bytes(),
            "truncated: GGUF header (metadata table) at byte 24 needs 780000 bytes, 0 are left",
        ),
        (
            Raw::new(3, 100_000, 0).bytes(),
            "truncated: GGUF header (tensor table) at byte 24 needs 3200000 bytes, 0 are left",
        ),
        (
            Raw::new(3, 0, 1).u64(u64::MAX).data(64).bytes(),
            "metadata key number 0: name at byte 24: expected a length of at most 65535 bytes, found 18446744073709551615",
        ),
        (
            Raw::new(3, 0, 1).u64(1000).data(32).bytes(),
            "truncated: metadata key number 0 (name) at byte 32 needs 1000 bytes, 32 are left",
        ),
        (
            Raw::new(3, 0, 1).u64(0).u32(0).data(8).bytes(),
            "metadata key number 0: name at byte 24: expected at least one byte, found none",
        ),
        (
            key(13).data(0).bytes(),
            "metadata key \"k\": type at byte 33: expected a value type of 0 to 12, found 13",
        ),
        (
            key(10).u32(7).bytes(),
            "truncated: metadata key \"k\" (value) at byte 37 needs 8 bytes, 4 are left",
        ),
        (
            key(7).u32(2).bytes(),
            "metadata key \"k\": value at byte 37: expected a boolean of 0 or 1, found 2",
        ),
        (
            key(8).u64(1 << 62).bytes(),
            "metadata key \"k\": value at byte 37: expected a length of at most 67108864 bytes, found 4611686018427387904",
        ),
        (
            key(9).u32(9).u64(1).bytes(),
            "metadata key \"k\": item type at byte 37: expected no array within an array, found one",
        ),
        (
            key(9).u32(4).u64(u64::MAX).bytes(),
            "metadata key \"k\": item count at byte 41: expected at most 67108864 items, found 18446744073709551615",
        ),
        (
            key(9).u32(12).u64(1 << 26).bytes(),
            "truncated: metadata key \"k\" (array) at byte 49 needs 536870912 bytes, 0 are left",
        ),
        (
            key(9).u32(8).u64(1 << 26).bytes(),
            "truncated: metadata key \"k\" (array item) at byte 49 needs 8 bytes, 0 are left",
        ),
        (
            key(9).u32(7).u64(4).u32(0x0201_0001).bytes(),
            "metadata key \"k\": array at byte 52: expected booleans of 0 or 1, found 2",
        ),
        (
            Raw::new(3, 0, 2).string(b"k").u32(0).string(b"").data(64).bytes(),
            "metadata key number 1: name at byte 38",
        ),
        (
            Raw::new(3, 0, 2).string(b"k").u32(4).u32(1).string(b"k").u32(4).u32(2).bytes(),
            "metadata key \"k\" at byte 41: expected a name used once, found it a second time (duplicate)",
        ),
        (
            Raw::new(3, 0, 1).string(b"general.alignment").u32(4).u32(48).bytes(),
            "metadata key \"general.alignment\": value at byte 53: expected a power of two of at most 1048576, found u32 48",
        ),
        (
            Raw::new(3, 0, 1).string(b"general.alignment").u32(4).u32(0).bytes(),
            "expected a power of two of at most 1048576, found u32 0",
        ),
        (
            Raw::new(3, 0, 1).string(b"general.alignment").u32(6).u32(0).bytes(),
            "expected a power of two of at most 1048576, found f32 0",
        ),
        (
            Raw::new(3, 1, 0).tensor(b"\xff", &[4], 0, 0).data(64).bytes(),
            "tensor \"\u{fffd}\": name at byte 24: expected UTF-8 text, found other bytes",
        ),
        (
            Raw::new(3, 1, 0).tensor(b"", &[4], 0, 0).data(64).bytes(),
            "tensor number 0: name at byte 24: expected at least one byte, found none",
        ),
        (tensor(&[], 0, 0), "tensor \"t\": dimension count at byte 33: expected 1 to 4, found 0"),
        (tensor(&[1; 5], 0, 0), "tensor \"t\": dimension count at byte 33: expected 1 to 4, found 5"),
        (
            tensor(&[4, 0], 0, 0),
            "tensor \"t\": dimensions at byte 37: expected none of them zero, found [4, 0]",
        ),
        (
            tensor(&[u64::MAX, 2], 0, 0),
            "tensor \"t\": dimensions at byte 37: expected a size below 2^63 bytes, found [18446744073709551615, 2]",
        ),
        (tensor(&[1 << 62], 0, 0), "expected a size below 2^63 bytes, found [4611686018427387904]"),
        (
            tensor(&[33], 2, 0),
            "tensor \"t\": dimensions at byte 37: expected a row length that is a multiple of 32 (Q4_0), found 33",
        ),
        (
            tensor(&[4], 5, 0),
            "tensor \"t\": type at byte 45: expected the number of a ggml type known here, found 5",
        ),
        (
            tensor(&[4], 0, 16),
            "tensor \"t\": offset at byte 49: expected a multiple of the alignment 32, found 16",
        ),
        (
            tensor(&[4], 0, u64::MAX - 31),
            "tensor \"t\": offset at byte 49: expected an offset within the file, found 18446744073709551584",
        ),
        (tensor(&[17], 0, 0), "truncated: tensor \"t\" (data) at byte 64 needs 68 bytes, 64 are left"),
        (
            tensor(&[4], 0, 1 << 40),
            "truncated: tensor \"t\" (data) at byte 1099511627840 needs 16 bytes, 0 are left",
        ),
        (
            two_tensors((b"a", 0), (b"a", 32)),
            "tensor \"a\" at byte 57: expected a name used once, found it a second time (duplicate)",
        ),
        (
            two_tensors((b"b", 32), (b"a", 0)),
            "tensor \"b\": offset at byte 49: expected data after byte 160, the end of tensor \"a\", found an overlap from byte 128",
        ),
        (two_tensors((b"a", 0), (b"b", 0)), "an overlap from byte 96"),
    ];
    for (bytes, expected) in cases {
        let error = Gguf::from_bytes(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "\nexpected: {expected}\n   found: {error}");
        assert!(error.starts_with("<memory>") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_not_a_panic() {
    let bytes = TinyModel::llama().to_bytes();
    let gguf = Gguf::from_bytes(bytes.clone()).unwrap();
    let end_of_data =
        gguf.tensors().iter().map(|info| info.offset() + info.n_bytes()).max().unwrap() as usize;
    for len in (0..2048).chain((2048..end_of_data).step_by(97)) {
        let error =
            Gguf::from_bytes(bytes[..len].to_vec()).expect_err("a cut file must not open").to_string();
        let expected = if len == 0 {
            "empty"
        } else if len < 4 {
            "not a GGUF"
        } else {
            "truncated"
        };
        assert!(error.contains(expected), "cut at {len}: {error}");
    }
    assert!(Gguf::from_bytes(bytes[..end_of_data].to_vec()).is_ok(), "padding at the end may be missing");
}

#[test]
fn a_changed_byte_anywhere_never_panics() {
    let bytes = TinyModel::llama().to_bytes();
    for i in 0..2048 {
        for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[i] = value;
            if let Ok(gguf) = Gguf::from_bytes(changed) {
                let _ =
                    crate::ModelConfig::from_gguf(&gguf).map(|config| crate::check_tensors(&gguf, &config));
                let _ = crate::vocabulary_metadata(&gguf);
            }
        }
    }
}

#[test]
fn version_2_is_read_like_version_3() {
    let mut bytes = TinyModel::llama().to_bytes();
    bytes[4] = 2;
    let gguf = Gguf::from_bytes(bytes).unwrap();
    assert_eq!(gguf.version(), 2);
    assert_eq!(gguf.tensors().len(), 20);
}

#[test]
fn what_is_not_a_model_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        Gguf::open(&path).unwrap_err().to_string()
    };
    let error = Gguf::open(folder.path()).unwrap_err().to_string();
    assert!(error.ends_with("is a directory; expected a .gguf file"), "{error}");
    assert!(at("empty", b"").contains("is empty (0 bytes)"));
    assert!(at("page", b"<!doctype html>").contains("found an HTML page"));
    assert!(at("zip", b"PK\x03\x04").contains("found a zip archive"));
    let error = Gguf::open(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(error.starts_with("cannot open ") && error.contains("No such file"), "{error}");
    let error = Gguf::open(Path::new("/dev/null")).unwrap_err().to_string();
    assert_eq!(error, "/dev/null is not a regular file; expected a .gguf file");
}

#[test]
fn a_written_file_replaces_the_old_one_whole_and_leaves_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, b"old").unwrap();
    let mut writer = GgufWriter::new(32).unwrap();
    let data = vec![7; 128 * 1024];
    writer.add_tensor("t", &[32 * 1024], TensorType::F32, &data).unwrap();
    writer.write_to(&path).unwrap();
    let gguf = Gguf::open(&path).unwrap();
    let info = gguf.tensor("t").unwrap();
    assert_eq!(gguf.bytes(info), data);
    gguf.release(info);
    assert_eq!(gguf.bytes(info), data, "released bytes come back from the file");
    assert_eq!(gguf.file_size(), fs::metadata(&path).unwrap().len());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

    // A folder in the way: the rename fails, and what was written beside it is gone again.
    let blocked = folder.path().join("folder");
    fs::create_dir_all(blocked.join("inside")).unwrap();
    let error = writer.write_to(&blocked).unwrap_err().to_string();
    assert!(error.starts_with("cannot write "), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_file_written_in_pieces_is_the_file_written_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (vec![1u8; 40], vec![2u8; 34]);
    let mut whole = GgufWriter::new(64).unwrap();
    whole.set("k", Value::U8(1)).unwrap();
    whole.add_tensor("a", &[10], TensorType::F32, &a).unwrap();
    whole.add_tensor("b", &[32], TensorType::Q8_0, &b).unwrap();
    let mut declared = GgufWriter::new(64).unwrap();
    declared.set("k", Value::U8(1)).unwrap();
    declared.declare_tensor("a", &[10], TensorType::F32).unwrap();
    declared.declare_tensor("b", &[32], TensorType::Q8_0).unwrap();
    let path = folder.path().join("model.gguf");
    let mut stream = declared.stream_to(&path).unwrap();
    for piece in [&a[..7], &a[7..], &b[..1], &b[1..]] {
        stream.write(piece).unwrap();
    }
    assert!(!path.exists(), "it has no name before it is whole");
    stream.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole.to_bytes());
}

#[test]
fn a_stream_takes_just_the_bytes_that_were_declared_and_leaves_nothing_when_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut writer = GgufWriter::new(32).unwrap();
    writer.declare_tensor("a", &[10], TensorType::F32).unwrap();
    let mut stream = writer.stream_to(&path).unwrap();
    stream.write(&[0; 30]).unwrap();
    assert_eq!(
        stream.write(&[0; 11]).unwrap_err().to_string(),
        "cannot write tensor \"a\": data: expected at most 10 more bytes, found 11"
    );
    assert_eq!(
        stream.finish().unwrap_err().to_string(),
        "cannot write tensor \"a\": data: expected 10 more bytes, found the end"
    );
    drop(writer.stream_to(&path).unwrap());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_writer_refuses_what_no_reader_would_take() {
    let mut writer = GgufWriter::new(32).unwrap();
    let expect =
        |result: Result<(), GgufError>, text: &str| assert_eq!(result.unwrap_err().to_string(), text);
    expect(
        GgufWriter::new(48).map(|_| ()),
        "cannot write GGUF header: alignment: expected a power of two of at most 1048576, found 48",
    );
    expect(
        writer.set("", Value::U8(0)),
        "cannot write metadata key \"\": name: expected 1 to 65535 bytes, found 0 bytes",
    );
    expect(
        writer.set("general.alignment", Value::U32(64)),
        "cannot write metadata key \"general.alignment\": name: expected the alignment given to GgufWriter::new, found the key itself",
    );
    expect(
        writer.add_tensor("t", &[4], TensorType::F32, vec![0; 12]),
        "cannot write tensor \"t\": data: expected 16 bytes for [4] F32, found 12",
    );
    expect(
        writer.add_tensor("t", &[31], TensorType::Q8_0, vec![]),
        "cannot write tensor \"t\": dimensions: expected rows of whole Q8_0 blocks, found [31]",
    );
    expect(
        writer.add_tensor("t", &[], TensorType::F32, vec![]),
        "cannot write tensor \"t\": dimensions: expected 1 to 4 sizes, none zero, found []",
    );
    writer.add_tensor("t", &[1], TensorType::F32, vec![0; 4]).unwrap();
    expect(
        writer.add_tensor("t", &[1], TensorType::F32, vec![0; 4]),
        "cannot write tensor \"t\": name: expected a name used once, found a duplicate",
    );
    writer.set("k", Value::U8(1)).unwrap();
    writer.set("k", Value::U8(2)).unwrap();
    let gguf = Gguf::from_bytes(writer.to_bytes()).unwrap();
    assert_eq!((gguf.get("k"), gguf.metadata().len()), (Some(Value::U8(2)), 1), "set replaces");
}

/// Writes part `no` (from 0) of `count` with one tensor, and returns its path.
fn write_part(folder: &Path, no: u16, count: u16, tensor: &str, n_tensors: i32) -> PathBuf {
    let path = folder.join(format!("big-{:05}-of-{count:05}.gguf", no + 1));
    let mut writer = GgufWriter::new(32).unwrap();
    writer.set("split.no", Value::U16(no)).unwrap();
    writer.set("split.count", Value::U16(count)).unwrap();
    writer.set("split.tensors.count", Value::I32(n_tensors)).unwrap();
    if no == 0 {
        writer.set("general.name", Value::from_text("big")).unwrap();
    }
    writer.add_tensor(tensor, &[2], TensorType::F32, vec![no as u8; 8]).unwrap();
    writer.write_to(&path).unwrap();
    path
}

#[test]
fn a_split_model_opens_from_any_part() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..3).map(|i| write_part(folder.path(), i, 3, &format!("t{i}"), 3)).collect();
    for path in &paths {
        let gguf = Gguf::open(path).unwrap();
        assert_eq!(gguf.paths().collect::<Vec<_>>(), paths);
        assert_eq!(gguf.get_str("general.name").unwrap(), Some("big"));
        for i in 0..3u8 {
            let info = gguf.tensor(&format!("t{i}")).unwrap();
            assert_eq!(gguf.bytes(info), [i; 8]);
        }
        let sizes: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!(gguf.file_size(), sizes);
    }
}

#[test]
fn missing_and_misplaced_parts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..3).map(|i| write_part(folder.path(), i, 3, &format!("t{i}"), 3)).collect();
    let error = |path: &Path| Gguf::open(path).unwrap_err().to_string();

    fs::rename(&paths[1], folder.path().join("away")).unwrap();
    let found = error(&paths[0]);
    assert!(
        found.ends_with(
            "part of a model split into 3 files, of which one is missing: big-00002-of-00003.gguf"
        ),
        "{found}"
    );
    fs::copy(&paths[2], &paths[1]).unwrap();
    let found = error(&paths[0]);
    assert!(found.contains("part number of a split model: expected split.no = 1, found 2"), "{found}");
    write_part(folder.path(), 1, 3, "t0", 3);
    let found = error(&paths[0]);
    assert!(found.contains("tensor \"t0\"") && found.contains("duplicate"), "{found}");
    for (i, path) in paths.iter().enumerate() {
        fs::remove_file(path).unwrap();
        write_part(folder.path(), i as u16, 3, &format!("t{i}"), 4);
    }
    let found = error(&paths[0]);
    assert!(
        found.contains("tensor count of a split model: expected split.tensors.count = 4, found 3"),
        "{found}"
    );
    let renamed = folder.path().join("model.gguf");
    fs::rename(&paths[0], &renamed).unwrap();
    let found = error(&renamed);
    assert!(
        found.contains(
            "expected a file name that ends in -00001-of-00003.gguf, as its siblings' do, found model.gguf"
        ),
        "{found}"
    );
}
