//! Reads the golden files of tokenizers: a plain vocabulary and texts with the ids that a reference gave.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizer::{Specials, TokenId, TokenKind, Tokenizer, Vocabulary, VocabularyKind};

/// One text with its expected ids.
pub struct Case {
    pub text: Vec<u8>,
    pub specials: Specials,
    pub with_bos: bool,
    pub ids: Vec<TokenId>,
}

/// One golden file.
pub struct GoldenFile {
    pub path: PathBuf,
    pub tokenizer: Tokenizer,
    pub cases: Vec<Case>,
}

/// All golden files of a folder, by name.
pub fn read_folder(folder: &Path) -> Vec<GoldenFile> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> GoldenFile {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let vocabulary = vocabulary(&json["vocabulary"]);
    let tokenizer = Tokenizer::new(&vocabulary).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let cases = json["cases"].as_array().unwrap().iter().map(case).collect();
    GoldenFile { path: path.to_owned(), tokenizer, cases }
}

fn case(json: &Value) -> Case {
    let text = match json["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => numbers(&json["bytes"]).into_iter().map(|byte| u8::try_from(byte).unwrap()).collect(),
    };
    let specials = if json["specials"] == "parse" { Specials::Parse } else { Specials::AsText };
    Case { text, specials, with_bos: json["with_bos"] == true, ids: numbers(&json["ids"]) }
}

fn numbers(json: &Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|n| u32::try_from(n.as_u64().unwrap()).unwrap()).collect()
}

/// The vocabulary in this JSON, borrowing its texts.
pub fn vocabulary(json: &Value) -> Vocabulary<'_> {
    let texts = |key: &str| -> Vec<&[u8]> {
        json[key].as_array().into_iter().flatten().map(|text| text.as_str().unwrap().as_bytes()).collect()
    };
    let id = |key: &str| json[key].as_u64().map(|id| u32::try_from(id).unwrap());
    let kind = if json["kind"] == "spm" { VocabularyKind::Spm } else { VocabularyKind::Bpe };
    let mut vocabulary = Vocabulary::new(kind, texts("tokens"));
    vocabulary.pre = json["pre"].as_str().map(str::to_owned);
    vocabulary.merges = texts("merges");
    let kinds = json["kinds"].as_array().into_iter().flatten();
    vocabulary.kinds =
        kinds.map(|id| TokenKind::from_ggml_id(i32::try_from(id.as_i64().unwrap()).unwrap())).collect();
    vocabulary.scores =
        json["scores"].as_array().into_iter().flatten().map(|score| score.as_f64().unwrap() as f32).collect();
    vocabulary.bos = id("bos");
    vocabulary.eos = id("eos");
    vocabulary.unk = id("unk");
    vocabulary.eot = id("eot");
    vocabulary.eom = id("eom");
    vocabulary.add_bos = json["add_bos"].as_bool();
    vocabulary.add_eos = json["add_eos"].as_bool();
    vocabulary.add_space_prefix = json["add_space_prefix"].as_bool();
    vocabulary
}

/// The folder of committed goldens.
pub fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizers")
}

/// Every case of the file that differs, told with the first difference.
pub fn differences(file: &GoldenFile) -> Vec<String> {
    let mut told = Vec::new();
    for case in &file.cases {
        let ids = if case.with_bos {
            file.tokenizer.encode_with_bos(&case.text, case.specials)
        } else {
            file.tokenizer.encode(&case.text, case.specials)
        };
        if ids != case.ids {
            let at = ids.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
            let around =
                |ids: &[u32]| ids[at.saturating_sub(1).min(ids.len())..(at + 6).min(ids.len())].to_vec();
            told.push(format!(
                "{}: {:?} ({:?}): from id {at} on expected {:?}, found {:?}",
                file.path.display(),
                String::from_utf8_lossy(&case.text).chars().take(80).collect::<String>(),
                case.specials,
                around(&case.ids),
                around(&ids),
            ));
        }
    }
    told
}
