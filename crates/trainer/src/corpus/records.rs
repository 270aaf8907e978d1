//! Records on lines: JSON objects with a text, or with the messages of a chat.

use std::io::{BufRead, Read};

use serde_json::Value;

use super::error::BrokenRecord;
use super::files::read_at_most;
use super::pieces::BYTE_ORDER_MARK;
use super::{CorpusError, Reader, Take};

/// Bytes of a line at most.
const MAX_LINE: usize = 64 << 20;
/// Bytes of a file that is one piece of JSON.
const MAX_ARRAY: usize = 256 << 20;

impl Reader<'_> {
    /// Hands over the text of every line's record.
    pub(super) fn records(&mut self, from: &mut dyn BufRead, name: &str) -> Result<(), CorpusError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let broken = |what: String| BrokenRecord { file: name.to_owned(), line: Some(number), what };
            match from.take(MAX_LINE as u64 + 1).read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) if line.len() > MAX_LINE => {
                    self.broken(broken(format!("longer than {} MB", MAX_LINE >> 20)))?;
                    if let Err(error) = skip_line(from) {
                        return self.broken(broken(format!("cannot be read: {error}")));
                    }
                    continue;
                }
                Ok(_) => {}
                Err(error) => return self.broken(broken(format!("cannot be read: {error}"))),
            }
            let bytes = if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&line) } else { &line };
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(bytes) {
                Ok(record) => self.record(&record, &broken)?,
                Err(error) => self.broken(broken(format!("not JSON: {error}")))?,
            }
        }
        Ok(())
    }

    /// Hands over the records of an array, or the only record of a file.
    pub(super) fn array(&mut self, from: &mut dyn BufRead, name: &str) -> Result<(), CorpusError> {
        let broken = |what: String| BrokenRecord { file: name.to_owned(), line: None, what };
        let bytes = match read_at_most(from, MAX_ARRAY) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                let what = format!("more than {} MB in one piece of JSON: make it JSONL", MAX_ARRAY >> 20);
                return self.broken(broken(what));
            }
            Err(error) => return self.broken(broken(format!("cannot be read: {error}"))),
        };
        let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        match serde_json::from_slice(bytes) {
            Ok(Value::Array(records)) => {
                for (idx, record) in records.iter().enumerate() {
                    self.record(record, &|what| broken(format!("record {}: {what}", idx + 1)))?;
                }
                Ok(())
            }
            Ok(record) => self.record(&record, &broken),
            Err(error) => self.broken(broken(format!("not JSON: {error}"))),
        }
    }

    fn record(&mut self, record: &Value, broken: &dyn Fn(String) -> BrokenRecord) -> Result<(), CorpusError> {
        match &mut self.take {
            Take::Records(sink) => match sink(record) {
                Ok(()) => self.summary.n_documents += 1,
                Err(what) => self.broken(broken(what))?,
            },
            Take::Texts(_) => match text_of(record) {
                Ok(text) => self.document(&text)?,
                Err(what) => self.broken(broken(what))?,
            },
        }
        Ok(())
    }
}

/// Reads on to the end of a line without keeping it.
fn skip_line(from: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let held = from.fill_buf()?;
        if held.is_empty() {
            return Ok(());
        }
        match held.iter().position(|&byte| byte == b'\n') {
            Some(at) => {
                from.consume(at + 1);
                return Ok(());
            }
            None => {
                let n = held.len();
                from.consume(n);
            }
        }
    }
}

/// The text of a record: `text` or `content`, or what is said in `messages` (OpenAI) or `conversations` (ShareGPT), or
/// `instruction`, `input` and `output` (Alpaca).
fn text_of(record: &Value) -> Result<String, String> {
    let Value::Object(fields) = record else {
        return Err("expected a JSON object".to_owned());
    };
    for name in ["text", "content"] {
        if let Some(text) = fields.get(name) {
            return text.as_str().map(str::to_owned).ok_or_else(|| format!("{name:?} is no text"));
        }
    }
    for (list, said) in [("messages", "content"), ("conversations", "value")] {
        if let Some(turns) = fields.get(list) {
            let turns = turns.as_array().ok_or_else(|| format!("{list:?} is no list"))?;
            let texts: Vec<&str> = turns.iter().filter_map(|turn| turn.get(said)?.as_str()).collect();
            return Ok(texts.join("\n\n"));
        }
    }
    let alpaca = ["instruction", "input", "output"].map(|name| fields.get(name).and_then(Value::as_str));
    let texts: Vec<&str> = alpaca.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    if texts.is_empty() {
        let names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
        return Err(format!(
            "no text: expected the field \"text\" or a chat's \"messages\", found {}",
            tokenizer::one_line(&names.join(", "))
        ));
    }
    Ok(texts.join("\n\n"))
}
