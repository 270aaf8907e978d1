//! The vocabulary of a GGUF file, read just far enough for the tests and the bench of this crate, which may not
//! depend on the crate that reads model files. It trusts the file.

use std::collections::HashMap;

use tokenizer::{TokenKind, Vocabulary, VocabularyKind};

/// One metadata value, as far as vocabularies use them.
#[derive(Debug)]
enum Value<'a> {
    Number(i64),
    Text(&'a [u8]),
    Texts(Vec<&'a [u8]>),
    Integers(Vec<i32>),
    Floats(Vec<f32>),
    Other,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn u64(&mut self) -> usize {
        u64::from_le_bytes(self.take(8).try_into().expect("eight bytes")) as usize
    }

    fn text(&mut self) -> &'a [u8] {
        let n = self.u64();
        self.take(n)
    }

    fn value(&mut self, kind: u32) -> Value<'a> {
        match kind {
            0 | 1 | 7 => Value::Number(i64::from(self.take(1)[0])),
            4 | 5 => Value::Number(i64::from(self.u32())),
            8 => Value::Text(self.text()),
            9 => {
                let (kind, n) = (self.u32(), self.u64());
                match kind {
                    8 => Value::Texts((0..n).map(|_| self.text()).collect()),
                    5 => Value::Integers((0..n).map(|_| self.u32() as i32).collect()),
                    6 => Value::Floats((0..n).map(|_| f32::from_bits(self.u32())).collect()),
                    _ => {
                        (0..n).for_each(|_| drop(self.value(kind)));
                        Value::Other
                    }
                }
            }
            2 | 3 => {
                self.take(2);
                Value::Other
            }
            6 => {
                self.take(4);
                Value::Other
            }
            _ => {
                self.take(8);
                Value::Other
            }
        }
    }
}

/// The vocabulary in the bytes of a GGUF file.
pub(crate) fn vocabulary(file: &[u8]) -> Vocabulary<'_> {
    let mut reader = Reader(file);
    assert_eq!(reader.take(4), b"GGUF");
    reader.u32();
    reader.u64();
    let n = reader.u64();
    let mut metadata = HashMap::new();
    for _ in 0..n {
        let key = reader.text();
        let kind = reader.u32();
        let value = reader.value(kind);
        if let Some(key) = key.strip_prefix(b"tokenizer.ggml.") {
            metadata.insert(String::from_utf8_lossy(key).into_owned(), value);
        }
    }
    let number = |key: &str| match metadata.get(key) {
        Some(Value::Number(n)) => Some(*n),
        _ => None,
    };
    let id = |key: &str| number(key).and_then(|n| u32::try_from(n).ok());
    let texts = |key: &str| match metadata.get(key) {
        Some(Value::Texts(texts)) => texts.clone(),
        _ => Vec::new(),
    };
    let model = match metadata.get("model") {
        Some(Value::Text(b"llama")) => VocabularyKind::Spm,
        _ => VocabularyKind::Bpe,
    };
    let mut vocabulary = Vocabulary::new(model, texts("tokens"));
    vocabulary.merges = texts("merges");
    if let Some(Value::Text(pre)) = metadata.get("pre") {
        vocabulary.pre = Some(String::from_utf8_lossy(pre).into_owned());
    }
    if let Some(Value::Integers(kinds)) = metadata.get("token_type") {
        vocabulary.kinds = kinds.iter().map(|&kind| TokenKind::from_ggml_id(kind)).collect();
    }
    if let (VocabularyKind::Spm, Some(Value::Floats(scores))) = (model, metadata.get("scores")) {
        vocabulary.scores = scores.clone();
    }
    vocabulary.bos = id("bos_token_id");
    vocabulary.eos = id("eos_token_id");
    vocabulary.unk = id("unknown_token_id");
    vocabulary.pad = id("padding_token_id");
    vocabulary.add_bos = number("add_bos_token").map(|n| n != 0);
    vocabulary.add_space_prefix = number("add_space_prefix").map(|n| n != 0);
    vocabulary
}
