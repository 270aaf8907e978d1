//! Idioms to complete: `idioms_en.jsonl` and `idioms_zh.jsonl`, written for this task.

use super::records::Records;
use super::task::Document;

const ENGLISH: &str = include_str!("idioms_en.jsonl");
const CHINESE: &str = include_str!("idioms_zh.jsonl");

pub(crate) fn english() -> Vec<Document> {
    read(ENGLISH, |begun| format!("Complete the saying: {begun}"))
}

pub(crate) fn chinese() -> Vec<Document> {
    read(CHINESE, |begun| format!("补全成语：{begun}"))
}

fn read(lines: &str, ask: impl Fn(&str) -> String) -> Vec<Document> {
    let mut records = Records::default();
    for line in lines.lines() {
        let record = serde_json::from_str(line).expect("the file is ours, and a test reads it");
        records.add(&record).expect("the file is ours, and a test reads it");
    }
    let task = records.finish("idioms").expect("the file is not empty");
    task.documents
        .into_iter()
        .map(|document| match document {
            Document::Choice { question, choices, answer_idx } => {
                Document::Choice { question: ask(&question), choices, answer_idx }
            }
            other => other,
        })
        .collect()
}
