//! Ids equal those of the reference implementations: on vocabularies that these trained, and on those of real models.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

#[path = "support/gguf_file.rs"]
mod gguf_file;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizer::{Specials, TokenId, TokenKind, Tokenizer, Vocabulary, VocabularyKind};

/// One text with its expected ids.
struct Case {
    text: Vec<u8>,
    specials: Specials,
    with_bos: bool,
    ids: Vec<TokenId>,
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tokenizers")
}

fn read_json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| {
        panic!("{}: {error}; run scripts/golden_tokenizers.py", path.display());
    });
    serde_json::from_slice(&bytes).unwrap()
}

/// All golden files of a folder that carry their vocabulary, by name.
fn golden_files(folder: &Path) -> Vec<(PathBuf, Value)> {
    let mut files = json_files(folder);
    files.retain(|(_, json)| json["vocabulary"].is_object());
    files
}

fn json_files(folder: &Path) -> Vec<(PathBuf, Value)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths.into_iter().map(|path| (read_json(&path), path)).map(|(json, path)| (path, json)).collect()
}

/// More than the metadata of either model, and far less than its tensors.
const MAX_METADATA: u64 = 32 << 20;

/// The beginning of a model that `make test-setup` puts on this disk.
fn model_file(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("DAYBREAK_TEST_MODELS").map(PathBuf::from).unwrap_or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        cache.unwrap_or_else(home).join("daybreak/models")
    });
    let path = folder.join(name);
    let file = std::fs::File::open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make test-setup`", path.display()));
    let mut bytes = Vec::new();
    file.take(MAX_METADATA).read_to_end(&mut bytes).unwrap();
    bytes
}

fn numbers(json: &Value) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|n| u32::try_from(n.as_u64().unwrap()).unwrap()).collect()
}

fn bytes(json: &Value) -> Vec<u8> {
    match json.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => numbers(json).into_iter().map(|byte| u8::try_from(byte).unwrap()).collect(),
    }
}

fn vocabulary(json: &Value) -> Vocabulary<'_> {
    let list = |key: &str| json[key].as_array().into_iter().flatten();
    let texts = |key: &str| list(key).map(|text| text.as_str().unwrap().as_bytes()).collect();
    let id = |key: &str| json[key].as_u64().map(|id| u32::try_from(id).unwrap());
    let kind = if json["kind"] == "spm" { VocabularyKind::Spm } else { VocabularyKind::Bpe };
    let mut vocabulary = Vocabulary::new(kind, texts("tokens"));
    vocabulary.pre = json["pre"].as_str().map(str::to_owned);
    vocabulary.merges = texts("merges");
    vocabulary.kinds = list("kinds")
        .map(|id| TokenKind::from_ggml_id(i32::try_from(id.as_i64().unwrap()).unwrap()))
        .collect();
    vocabulary.scores = list("scores").map(|score| score.as_f64().unwrap() as f32).collect();
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

/// The cases of a file: a list of ids for each of the shared texts (null: not asked), or a text of its own each.
fn cases(json: &Value, texts: &Value) -> Vec<Case> {
    let mut cases = Vec::new();
    for group in json["cases"].as_array().unwrap() {
        let specials = if group["specials"] == "parse" { Specials::Parse } else { Specials::AsText };
        let with_bos = group["with_bos"] == true;
        let mut add = |text: &Value, ids: &Value| {
            if !ids.is_null() {
                cases.push(Case { text: bytes(text), specials, with_bos, ids: numbers(ids) });
            }
        };
        match group.get("text") {
            Some(text) => add(text, &group["ids"]),
            None => {
                let shared = if group["bad_bytes"] == true { &texts["bad_bytes"] } else { &texts["texts"] };
                shared
                    .as_array()
                    .unwrap()
                    .iter()
                    .zip(group["ids"].as_array().unwrap())
                    .for_each(|(text, ids)| add(text, ids));
            }
        }
    }
    cases
}

/// What differs, told with the first difference.
fn difference(tokenizer: &Tokenizer, case: &Case) -> Option<String> {
    let ids = if case.with_bos {
        tokenizer.encode_with_bos(&case.text, case.specials)
    } else {
        tokenizer.encode(&case.text, case.specials)
    };
    (ids != case.ids).then(|| {
        let at = ids.iter().zip(&case.ids).take_while(|(a, b)| a == b).count();
        let around = |ids: &[u32]| ids[at.saturating_sub(1).min(ids.len())..(at + 6).min(ids.len())].to_vec();
        let text: String = String::from_utf8_lossy(&case.text).chars().take(80).collect();
        let (expected, found) = (around(&case.ids), around(&ids));
        format!("{text:?} ({:?}): from id {at} on expected {expected:?}, found {found:?}", case.specials)
    })
}

#[test]
fn ids_equal_the_references() {
    let texts = read_json(&committed().join("texts.json"));
    let mut folders = vec![committed()];
    // More goldens, too large for the tree: `DAYBREAK_TOKENIZERS=folder cargo test`.
    folders.extend(std::env::var_os("DAYBREAK_TOKENIZERS").map(Into::into));
    let mut told = Vec::new();
    let mut n_cases = 0;
    for (path, json) in folders.iter().flat_map(|folder| golden_files(folder)) {
        let name = path.file_stem().unwrap().to_string_lossy();
        let tokenizer = Tokenizer::new(&vocabulary(&json["vocabulary"])).unwrap();
        let cases = cases(&json, &texts);
        n_cases += cases.len();
        let different: Vec<String> = cases.iter().filter_map(|case| difference(&tokenizer, case)).collect();
        eprintln!("{name}: {} of {} cases differ", different.len(), cases.len());
        told.extend(different.into_iter().map(|text| format!("{name}: {text}")));
    }
    assert!(n_cases > 0, "no goldens found; run scripts/golden_tokenizers.py");
    assert!(told.is_empty(), "{} of {n_cases} cases differ:\n{}", told.len(), told.join("\n"));
}

#[test]
fn ids_equal_the_reference_on_the_vocabularies_of_real_models() {
    let texts = read_json(&committed().join("texts.json"));
    let mut told = Vec::new();
    let mut names = Vec::new();
    for (_, json) in json_files(&committed()) {
        let Some(name) = json["gguf"].as_str() else { continue };
        let file = model_file(name);
        let tokenizer = Tokenizer::new(&gguf_file::vocabulary(&file)).unwrap();
        let cases = cases(&json, &texts);
        assert!(cases.len() > texts["texts"].as_array().unwrap().len(), "{name}: {} cases", cases.len());
        let different = cases.iter().filter_map(|case| difference(&tokenizer, case));
        told.extend(different.map(|text| format!("{name}: {text}")));
        names.push(name.to_owned());
    }
    assert_eq!(names, ["qwen2.5-coder-0.5b.gguf", "smollm2-135m.gguf"], "run scripts/golden_tokenizers.py");
    assert!(told.is_empty(), "{} cases differ:\n{}", told.len(), told.join("\n"));
}

#[test]
fn byte_level_ids_give_back_any_bytes() {
    let texts = read_json(&committed().join("texts.json"));
    for (path, json) in golden_files(&committed()) {
        if json["vocabulary"]["kind"] != "bpe" {
            continue;
        }
        let tokenizer = Tokenizer::new(&vocabulary(&json["vocabulary"])).unwrap();
        for text in texts["bad_bytes"].as_array().unwrap() {
            let text = bytes(text);
            let ids = tokenizer.encode(&text, Specials::AsText);
            assert_eq!(tokenizer.decode(&ids), text, "{}", path.display());
        }
    }
}
