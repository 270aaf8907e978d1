//! Tasks out of files of records: JSONL (also in gzip), or JSON with an array. A file of plain text, Markdown or HTML is a
//! text to predict.
//!
//! A record with `choices` is a question to choose an answer of, one with `text` alone a text to predict, any other a
//! question that is answered in words. The first record may be `{"task": {…}}` and say how the rest is put.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::checks::Check;
use super::error::EvalError;
use super::matching::Matching;
use super::task::{Document, Task, TaskKind, TaskOptions};
use crate::corpus::{Corpus, CorpusSummary, OnBroken};

/// Bytes of a question, an answer or a text at most.
const MAX_TEXT: usize = 16 << 20;
/// Answers of a question at most.
const MAX_ANSWERS: usize = 256;
/// Tokens of an answer at most.
const MAX_ANSWER_TOKENS: usize = 1 << 16;

/// Reads a task; its name is that of the file unless the file says another.
///
/// # Errors
/// Where the file cannot be read, or a record is broken and is not to be skipped.
pub fn read_task(path: &Path, on_broken: OnBroken) -> Result<(Task, CorpusSummary), EvalError> {
    let corpus = Corpus::find(&[path.to_owned()])?;
    let mut records = Records::default();
    let summary = match is_text(path) {
        true => corpus.read(on_broken, &mut |piece, _| {
            records.add_text(piece.text, piece.is_start);
            Ok(())
        })?,
        false => corpus.read_records(on_broken, &mut |record| records.add(record))?,
    };
    let stem = |path: PathBuf| path.file_stem().map(PathBuf::from).unwrap_or_default();
    let mut name = path.to_owned();
    while name.extension().is_some() {
        name = stem(name);
    }
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let task = records.finish(&tokenizer::one_line(&name));
    Ok((task.ok_or_else(|| EvalError::NothingToAsk(path.display().to_string()))?, summary))
}

fn is_text(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".txt", ".text", ".md", ".markdown", ".html", ".htm"].iter().any(|ending| name.ends_with(ending))
}

/// What was read so far.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: Header,
    has_begun: bool,
    kind: Option<TaskKind>,
    documents: Vec<Document>,
    examples: Vec<Document>,
}

/// The first record, which says how the others are put.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: Option<String>,
    about: Option<String>,
    /// The question's place is `{question}`.
    prompt: Option<String>,
    num_fewshot: Option<usize>,
    target_delimiter: Option<String>,
    fewshot_delimiter: Option<String>,
    until: Option<Vec<String>>,
    max_tokens: Option<usize>,
    trim: Option<bool>,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    ignore_punctuation: bool,
    #[serde(default)]
    ignore_numbers: bool,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default)]
    last_number: bool,
}

impl Records {
    /// Takes the next record.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn add(&mut self, record: &Value) -> Result<(), String> {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let Value::Object(fields) = record else { return Err("expected a JSON object".to_owned()) };
        if let Some(header) = fields.get("task").filter(|task| task.is_object()) {
            if !is_first {
                return Err("\"task\" says how all records are put, so it stands first".to_owned());
            }
            self.header = header_of(header)?;
            return Ok(());
        }
        let document = document_of(fields)?;
        let kind = *self.kind.get_or_insert(document.kind());
        if document.kind() != kind {
            let (found, expected) = (document.kind().name(), kind.name());
            return Err(format!(
                "a record for {found} among those for {expected}; give each a file of its own"
            ));
        }
        match fields.get("split").map(|split| split.as_str().unwrap_or_default()) {
            None | Some("test") => self.documents.push(document),
            Some("train" | "validation" | "dev" | "fewshot") if kind != TaskKind::Text => {
                self.examples.push(document);
            }
            Some(_) if kind == TaskKind::Text => return Err("a text has no \"split\" but test".to_owned()),
            Some(other) => {
                let other = tokenizer::one_line(other);
                return Err(format!(
                    "\"split\" is {other:?}, expected test, train, validation, dev or fewshot"
                ));
            }
        }
        Ok(())
    }

    /// Takes the next piece of a text; one of more than [`MAX_TEXT`] bytes becomes several.
    fn add_text(&mut self, piece: &str, is_start: bool) {
        match self.documents.last_mut() {
            Some(Document::Text { text }) if !is_start && text.len() + piece.len() <= MAX_TEXT => {
                text.push_str(piece);
            }
            _ => self.documents.push(Document::Text { text: piece.to_owned() }),
        }
    }

    /// The task, if it asks anything.
    pub(super) fn finish(self, name: &str) -> Option<Task> {
        let Records { header, documents, examples, .. } = self;
        let kind = documents.first()?.kind();
        let usual = TaskOptions::default();
        let (before, after) = match &header.prompt {
            Some(prompt) => prompt.split_once("{question}")?,
            None => ("", ""),
        };
        let about = header.about.unwrap_or_else(|| format!("{}, {} records", kind.name(), documents.len()));
        Some(Task {
            name: header.name.unwrap_or_else(|| name.to_owned()),
            about,
            kind,
            examples,
            options: TaskOptions {
                n_few_shot: header.num_fewshot.unwrap_or(0),
                before_question: before.to_owned(),
                after_question: after.to_owned(),
                target_delimiter: header.target_delimiter.unwrap_or(usual.target_delimiter),
                few_shot_delimiter: header.fewshot_delimiter.unwrap_or(usual.few_shot_delimiter),
                until: header.until.unwrap_or(usual.until),
                max_tokens: header.max_tokens.unwrap_or(usual.max_tokens),
                matching: Matching {
                    trim: header.trim.unwrap_or(true),
                    ignore_case: header.ignore_case,
                    ignore_punctuation: header.ignore_punctuation,
                    ignore_numbers: header.ignore_numbers,
                    ignore: header.ignore,
                    last_number: header.last_number,
                },
            },
            documents,
        })
    }
}

fn header_of(header: &Value) -> Result<Header, String> {
    let mut read = Header::deserialize(header)
        .map_err(|error| format!("\"task\": {}", tokenizer::one_line(&error.to_string())))?;
    if read.prompt.as_ref().is_some_and(|prompt| prompt.matches("{question}").count() != 1) {
        return Err("\"task\": \"prompt\" must hold {question} once".to_owned());
    }
    if read.max_tokens.is_some_and(|n| n == 0 || n > MAX_ANSWER_TOKENS) {
        return Err(format!("\"task\": \"max_tokens\" must lie between 1 and {MAX_ANSWER_TOKENS}"));
    }
    read.name = read.name.map(|name| tokenizer::one_line(&name)).filter(|name| !name.is_empty());
    read.about = read.about.map(|about| tokenizer::one_line(&about));
    Ok(read)
}

fn document_of(fields: &Map<String, Value>) -> Result<Document, String> {
    let question =
        ["question", "context", "query", "prompt"].into_iter().find(|name| fields.contains_key(*name));
    if let Some(text) = fields.get("text").filter(|_| question.is_none()) {
        let text = text_of(text, "text")?;
        return Ok(Document::Text { text });
    }
    let Some(question) = question else {
        let names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
        let found = if names.is_empty() { "none".to_owned() } else { tokenizer::one_line(&names.join(", ")) };
        return Err(format!("nothing to ask: expected the field \"question\" or \"text\", found {found}"));
    };
    let question = text_of(&fields[question], question)?;
    let answer = ["answer", "answers", "answerKey", "gold", "label", "target"]
        .into_iter()
        .find_map(|name| fields.get(name).map(|value| (name, value)));
    match fields.get("choices") {
        Some(choices) => choice_of(question, choices, answer),
        None => generation_of(question, answer, fields.get("checks")),
    }
}

/// Choices as a list, or as ARC has them: lists of labels and texts.
fn choice_of(question: String, choices: &Value, answer: Option<(&str, &Value)>) -> Result<Document, String> {
    let lists = |name: &str| choices.get(name).and_then(Value::as_array);
    let (texts, labels) = match (choices.as_array(), lists("text"), lists("label")) {
        (Some(texts), ..) => (texts, None),
        (None, Some(texts), Some(labels)) if labels.len() == texts.len() => (texts, Some(labels)),
        _ => {
            return Err(
                "\"choices\" is neither a list of texts nor one of \"text\" and one of \"label\"".to_owned()
            );
        }
    };
    if !(2..=MAX_ANSWERS).contains(&texts.len()) {
        return Err(format!("{} choices, expected 2 to {MAX_ANSWERS}", texts.len()));
    }
    let choices: Vec<String> = texts.iter().map(|text| text_of(text, "choices")).collect::<Result<_, _>>()?;
    let Some((name, answer)) = answer else {
        return Err("no \"answer\" that says which of the choices is right".to_owned());
    };
    let found = match answer {
        Value::Number(idx) => idx.as_u64().and_then(|idx| usize::try_from(idx).ok()),
        Value::String(said) => {
            let is_label = |label: &Value| label.as_str() == Some(said);
            labels
                .and_then(|labels| labels.iter().position(is_label))
                .or_else(|| choices.iter().position(|choice| choice == said))
                .or_else(|| letter(said))
                .or_else(|| said.parse().ok())
        }
        _ => None,
    };
    match found.filter(|idx| *idx < choices.len()) {
        Some(answer_idx) => Ok(Document::Choice { question, choices, answer_idx }),
        None => {
            let (said, n) = (tokenizer::one_line(&answer.to_string()), choices.len());
            Err(format!(
                "{name:?} is {said}, expected a number from 0 to {}, a letter from A on or one of the choices",
                n - 1
            ))
        }
    }
}

/// `A` → 0.
fn letter(said: &str) -> Option<usize> {
    let mut chars = said.chars();
    match (chars.next(), chars.next()) {
        (Some(c @ 'A'..='Z'), None) => Some(c as usize - 'A' as usize),
        _ => None,
    }
}

fn generation_of(
    question: String,
    answer: Option<(&str, &Value)>,
    checks: Option<&Value>,
) -> Result<Document, String> {
    let checks: Vec<Check> = match checks {
        Some(checks) => Vec::deserialize(checks)
            .map_err(|error| format!("\"checks\": {}", tokenizer::one_line(&error.to_string())))?,
        None => Vec::new(),
    };
    let answers = match answer {
        None => Vec::new(),
        Some((name, Value::Array(answers))) => {
            answers.iter().map(|answer| text_of(answer, name)).collect::<Result<Vec<String>, String>>()?
        }
        Some((name, answer)) => vec![text_of(answer, name)?],
    };
    if answers.len() > MAX_ANSWERS || checks.len() > MAX_ANSWERS {
        return Err(format!("more than {MAX_ANSWERS} answers or checks"));
    }
    if answers.is_empty() && checks.is_empty() {
        return Err("neither \"answer\" nor \"checks\", so no answer could be judged".to_owned());
    }
    Ok(Document::Generation { question, answers, checks })
}

/// A text, or a number as text.
fn text_of(value: &Value, name: &str) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(format!("{name:?} is no text")),
    };
    match text.len() {
        0 => Err(format!("{name:?} is empty")),
        n if n > MAX_TEXT => Err(format!("{name:?} has {n} bytes, at most {MAX_TEXT} are read")),
        _ => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn read(record: &Value) -> Result<Document, String> {
        let mut records = Records::default();
        records.add(record)?;
        Ok(records.finish("test").unwrap().documents.remove(0))
    }

    #[test]
    fn every_way_to_name_the_right_choice_is_read() {
        let arc = json!({ "text": ["red", "blue"], "label": ["1", "2"] });
        for record in [
            json!({ "question": "sky?", "choices": ["red", "blue"], "answer": 1 }),
            json!({ "question": "sky?", "choices": ["red", "blue"], "answer": "B" }),
            json!({ "question": "sky?", "choices": ["red", "blue"], "answer": "blue" }),
            json!({ "context": "sky?", "choices": ["red", "blue"], "gold": 1 }),
            json!({ "query": "sky?", "choices": ["red", "blue"], "label": "1" }),
            json!({ "question": "sky?", "choices": arc, "answerKey": "2" }),
        ] {
            let choices = vec!["red".to_owned(), "blue".to_owned()];
            let expected = Document::Choice { question: "sky?".to_owned(), choices, answer_idx: 1 };
            assert_eq!(read(&record), Ok(expected), "{record}");
        }
        // A choice that looks like a letter is meant itself.
        let record = json!({ "question": "q", "choices": ["B", "A"], "answer": "A" });
        assert!(matches!(read(&record), Ok(Document::Choice { answer_idx: 1, .. })));
    }

    #[test]
    fn questions_and_texts_are_read() {
        let answers = |answers: &[&str]| Document::Generation {
            question: "2 + 2 =".to_owned(),
            answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
            checks: vec![],
        };
        for (record, expected) in [
            (json!({ "question": "2 + 2 =", "answer": 4 }), answers(&["4"])),
            (json!({ "prompt": "2 + 2 =", "answers": ["4", "four"] }), answers(&["4", "four"])),
            (json!({ "text": "long ago" }), Document::Text { text: "long ago".to_owned() }),
            (
                json!({ "prompt": "2 + 2 =", "checks": [{ "kind": "words", "exactly": 1 }] }),
                Document::Generation {
                    question: "2 + 2 =".to_owned(),
                    answers: vec![],
                    checks: vec![Check::Words { exactly: 1 }],
                },
            ),
        ] {
            assert_eq!(read(&record), Ok(expected), "{record}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        for (record, what) in [
            (json!([1]), "expected a JSON object"),
            (json!({}), "found none"),
            (json!({ "q": "a\nb" }), "expected the field \"question\" or \"text\", found q"),
            (json!({ "question": "a" }), "neither \"answer\" nor \"checks\""),
            (json!({ "question": "", "answer": "b" }), "\"question\" is empty"),
            (json!({ "question": "a", "answer": {} }), "\"answer\" is no text"),
            (json!({ "question": "a", "choices": ["b"], "answer": 0 }), "1 choices, expected 2 to"),
            (json!({ "question": "a", "choices": "bc", "answer": 0 }), "\"choices\" is neither a list"),
            (json!({ "question": "a", "choices": ["b", "c"] }), "no \"answer\""),
            (
                json!({ "question": "a", "choices": ["b", "c"], "answer": 2 }),
                "\"answer\" is 2, expected a number from 0 to 1",
            ),
            (json!({ "question": "a", "choices": ["b", "c"], "answer": "d" }), "\"answer\" is \"d\""),
            (json!({ "question": "a", "checks": [{ "kind": "shout" }] }), "\"checks\": unknown variant"),
            (json!({ "text": "a", "split": "train" }), "a text has no \"split\""),
            (json!({ "question": "a", "answer": "b", "split": "x" }), "\"split\" is \"x\""),
            (json!({ "task": { "promt": "a" } }), "\"task\": unknown field"),
            (json!({ "task": { "prompt": "a" } }), "must hold {question} once"),
            (json!({ "task": { "max_tokens": 0 } }), "\"max_tokens\" must lie"),
        ] {
            let error = read(&record).err().unwrap_or_default();
            assert!(error.contains(what), "{record}: {error:?}");
        }
        let mut records = Records::default();
        records.add(&json!({ "text": "a" })).unwrap();
        let error = records.add(&json!({ "question": "a", "answer": "b" })).unwrap_err();
        assert!(error.contains("generation among those for text"), "{error}");
        let error = records.add(&json!({ "task": {} })).unwrap_err();
        assert!(error.contains("stands first"), "{error}");
    }

    #[test]
    fn a_file_is_records_or_a_text_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read_task(&path, OnBroken::Stop).map(|(task, _)| task)
        };
        let long = "天空 ".repeat(300_000);
        let task = read("story.de.txt", &long).unwrap();
        assert_eq!((task.name.as_str(), task.kind), ("story", TaskKind::Text));
        assert_eq!(task.documents, [Document::Text { text: long }]);
        let task = read("sums.jsonl", "{\"question\": \"1 + 1\", \"answer\": 2}\n").unwrap();
        assert_eq!((task.name.as_str(), task.kind), ("sums", TaskKind::Generation));
        let error =
            read("sums.jsonl", "{\"question\": \"1 + 1\", \"answer\": 2}\n\n{}\n").unwrap_err().to_string();
        assert!(error.contains("sums.jsonl, line 3: nothing to ask"), "{error}");
        let error = read("none.txt", "\n").unwrap_err().to_string();
        assert!(error.contains("none.txt: no record that asks something"), "{error}");
    }

    #[test]
    fn a_header_says_how_the_rest_is_put() {
        let mut records = Records::default();
        records
            .add(&json!({ "task": { "name": "sums", "prompt": "Q: {question}\nA:", "num_fewshot": 2,
            "until": ["\n"], "max_tokens": 8, "ignore_case": true } }))
            .unwrap();
        records.add(&json!({ "question": "1+1", "answer": 2, "split": "dev" })).unwrap();
        assert!(records.add(&json!({ "question": "1+2", "answer": 3 })).is_ok());
        let task = records.finish("file").unwrap();
        assert_eq!((task.name.as_str(), task.documents.len(), task.examples.len()), ("sums", 1, 1));
        let options = task.options;
        assert_eq!((options.before_question.as_str(), options.after_question.as_str()), ("Q: ", "\nA:"));
        assert_eq!((options.n_few_shot, options.max_tokens, options.matching.ignore_case), (2, 8, true));
    }
}
