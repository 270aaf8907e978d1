//! `--show`: what would be learnt from, record by record, with what is learnt marked.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use models::OpenModel;
use serde_json::{Value, json};
use tokenizer::{Lesson, Tokenizer};
use trainer::{Corpus, CorpusError, LessonKind, OnBroken};

use crate::cli::ShowArgs;
use crate::terminal::without_control_characters;

/// Tokens of one sample that are told as JSON.
const MAX_TOKENS: usize = 4096;
/// Characters of a document that are shown.
const MAX_CHARS: usize = 1000;

/// Shows conversations, or pairs of answers, as the tokens of a model.
pub(super) fn records(
    args: &ShowArgs,
    json: bool,
    corpus: &Corpus,
    model: &OpenModel,
    kind: LessonKind,
) -> Result<()> {
    let mut window = Window::new(args);
    let mut out = std::io::stdout().lock();
    let marks = if out.is_terminal() { ("\x1b[30;43m", "\x1b[0m") } else { ("[[", "]]") };
    let mut failure = Ok(());
    let read = corpus.read_records(OnBroken::Stop, &mut |record| {
        let number = window.next();
        if window.is_past() {
            return Err("enough was shown".to_owned());
        }
        if !window.has(number) {
            return Ok(());
        }
        for lessons in trainer::lessons_of_record(&model.tokenizer, &model.template, kind, record)? {
            for (idx, lesson) in lessons.iter().enumerate() {
                let line = match json {
                    true => lesson_json(&model.tokenizer, lesson, number, title(kind, idx)).to_string(),
                    false => {
                        let n_learnt = lesson.is_answer.iter().filter(|&&is_answer| is_answer).count();
                        let text = marked(&model.tokenizer, lesson, marks);
                        format!("── {n_learnt} of {} tokens are learnt ──\n{text}", lesson.tokens.len())
                    }
                };
                if failure.is_ok() {
                    failure = writeln!(out, "{line}");
                }
            }
        }
        Ok(())
    });
    if !window.is_past() {
        read?;
    }
    Ok(failure?)
}

/// Shows how documents begin, of which everything is learnt. There is no vocabulary yet, so a text is one piece.
pub(super) fn documents(args: &ShowArgs, json: bool, corpora: &[&Corpus]) -> Result<()> {
    let mut window = Window::new(args);
    let mut out = std::io::stdout().lock();
    let mut failure = Ok(());
    for corpus in corpora {
        let read = corpus.read(OnBroken::Stop, &mut |piece, _| {
            if !piece.is_start {
                return Ok(());
            }
            let number = window.next();
            if window.is_past() {
                return Err(CorpusError::Stopped);
            }
            if window.has(number) && failure.is_ok() {
                let text: String = piece.text.chars().take(MAX_CHARS).collect();
                failure = match json {
                    true => writeln!(out, "{}", document_json(number, &text)),
                    false => {
                        writeln!(out, "── document {} ──\n{}", number + 1, without_control_characters(&text))
                    }
                };
            }
            Ok(())
        });
        if window.is_past() {
            break;
        }
        read?;
    }
    Ok(failure?)
}

/// Which records are shown.
struct Window {
    from: u64,
    end: u64,
    next: u64,
}

impl Window {
    fn new(args: &ShowArgs) -> Window {
        let from = args.show_from;
        Window { from, end: from.saturating_add(args.show.map_or(0, u64::from)), next: 0 }
    }

    /// The number of the next record, from 0.
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn has(&self, number: u64) -> bool {
        (self.from..self.end).contains(&number)
    }

    /// Whether the last record was behind the last that is shown.
    fn is_past(&self) -> bool {
        self.next > self.end
    }
}

fn title(kind: LessonKind, idx: usize) -> Option<&'static str> {
    match (kind, idx) {
        (LessonKind::Chats, _) => None,
        (LessonKind::Pairs, 0) => Some("chosen"),
        (LessonKind::Pairs, _) => Some("rejected"),
    }
}

fn lesson_json(tokenizer: &Tokenizer, lesson: &Lesson, number: u64, title: Option<&str>) -> Value {
    let shown = lesson.tokens.iter().zip(&lesson.is_answer).take(MAX_TOKENS);
    let tokens: Vec<Value> = shown
        .map(|(&token, &trained)| {
            let text = tokenizer.decode_with_specials(&[token]);
            json!({"text": String::from_utf8_lossy(&text), "trained": trained})
        })
        .collect();
    let n_tokens = lesson.tokens.len();
    let mut json = json!({"record": number, "source": (number + 1).to_string(), "n_tokens": n_tokens});
    if let Some(title) = title {
        json["title"] = title.into();
    }
    json["tokens"] = tokens.into();
    json
}

fn document_json(number: u64, text: &str) -> Value {
    let tokens = json!([{"text": text, "trained": true}]);
    json!({"record": number, "source": (number + 1).to_string(), "tokens": tokens})
}

fn marked(tokenizer: &Tokenizer, lesson: &Lesson, (begin, end): (&str, &str)) -> String {
    let mut text = String::new();
    let mut from = 0;
    while from < lesson.tokens.len() {
        let is_answer = lesson.is_answer[from];
        let n = lesson.is_answer[from..].iter().take_while(|&&of| of == is_answer).count();
        let part = tokenizer.decode_with_specials(&lesson.tokens[from..from + n]);
        let part = without_control_characters(&String::from_utf8_lossy(&part));
        text.push_str(&if is_answer { format!("{begin}{part}{end}") } else { part });
        from += n;
    }
    text
}
