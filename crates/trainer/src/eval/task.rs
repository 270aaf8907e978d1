//! What is asked: documents of one kind, and how they are put.

use xxhash_rust::xxh3::Xxh3;

use super::checks::Check;
use super::matching::Matching;

/// What is asked and how its answers are judged.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Its name on the command line and in tables.
    pub name: String,
    /// One line that says what it is.
    pub about: String,
    /// What its documents are.
    pub kind: TaskKind,
    /// The documents that are asked, in order; at least one.
    pub documents: Vec<Document>,
    /// Documents that serve as examples. Where there are none, the others of `documents` do.
    pub examples: Vec<Document>,
    /// How they are put.
    pub options: TaskOptions,
}

/// What the documents of a task are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// One of several answers is right: the likeliest one counts.
    Choice,
    /// The model writes its answer.
    Generation,
    /// A text whose every byte is to be predicted.
    Text,
}

/// One thing to ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A question with answers to choose from.
    Choice {
        /// The question.
        question: String,
        /// At least two.
        choices: Vec<String>,
        /// Which of them is right.
        answer_idx: usize,
    },
    /// A question to be answered in words.
    Generation {
        /// The question.
        question: String,
        /// Answers that are right; the first is shown where this is an example. Empty where checks decide.
        answers: Vec<String>,
        /// What the answer must keep to.
        checks: Vec<Check>,
    },
    /// A text.
    Text {
        /// The text; not empty.
        text: String,
    },
}

/// How documents are put to a model.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOptions {
    /// Examples before each question, unless the caller wants another number.
    pub n_few_shot: usize,
    /// Around a question in plain text; in a chat it stands alone.
    pub before_question: String,
    /// See `before_question`.
    pub after_question: String,
    /// Between question and answer in plain text.
    pub target_delimiter: String,
    /// Between examples in plain text.
    pub few_shot_delimiter: String,
    /// What ends an answer in plain text; in a chat the model's own token does.
    pub until: Vec<String>,
    /// Tokens of an answer at most.
    pub max_tokens: usize,
    /// When two texts are the same answer.
    pub matching: Matching,
}

/// lm-evaluation-harness's delimiters, stops and length.
impl Default for TaskOptions {
    fn default() -> TaskOptions {
        TaskOptions {
            n_few_shot: 0,
            before_question: String::new(),
            after_question: String::new(),
            target_delimiter: " ".to_owned(),
            few_shot_delimiter: "\n\n".to_owned(),
            until: vec!["\n\n".to_owned()],
            max_tokens: 256,
            matching: Matching::default(),
        }
    }
}

impl TaskKind {
    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TaskKind::Choice => "multiple choice",
            TaskKind::Generation => "generation",
            TaskKind::Text => "text",
        }
    }
}

impl Document {
    pub(crate) fn kind(&self) -> TaskKind {
        match self {
            Document::Choice { .. } => TaskKind::Choice,
            Document::Generation { .. } => TaskKind::Generation,
            Document::Text { .. } => TaskKind::Text,
        }
    }

    /// The question, or the text.
    pub(crate) fn question(&self) -> &str {
        match self {
            Document::Choice { question, .. } | Document::Generation { question, .. } => question,
            Document::Text { text } => text,
        }
    }

    /// The answer that an example shows.
    pub(crate) fn target(&self) -> &str {
        match self {
            Document::Choice { choices, answer_idx, .. } => &choices[*answer_idx],
            Document::Generation { answers, .. } => answers.first().map_or("", String::as_str),
            Document::Text { .. } => "",
        }
    }
}

impl Task {
    /// The first `limit` documents.
    pub(crate) fn asked(&self, limit: Option<usize>) -> &[Document] {
        &self.documents[..limit.unwrap_or(usize::MAX).min(self.documents.len())]
    }
}

/// Tells lists of documents apart.
pub(crate) fn digest(documents: &[Document]) -> String {
    let mut hasher = Xxh3::new();
    let mut add = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for document in documents {
        add(document.kind().name());
        add(document.question());
        add(document.target());
        let more: Vec<String> = match document {
            Document::Choice { choices, .. } => choices.clone(),
            Document::Generation { answers, checks, .. } => {
                let checks = checks.iter().map(|check| format!("{check:?}"));
                answers.iter().skip(1).cloned().chain(checks).collect()
            }
            Document::Text { .. } => Vec::new(),
        };
        for text in more {
            add(&text);
        }
    }
    format!("{:016x}", hasher.digest())
}
