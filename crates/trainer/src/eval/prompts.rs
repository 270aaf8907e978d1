//! How a question is put: examples before it, as plain text or as a chat.

use tokenizer::ChatMessage;

use super::draw::Draw;
use super::error::EvalError;
use super::task::{Document, Task, TaskKind};

/// How questions are put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// As text that the model goes on with: lm-evaluation-harness's way unless it is told otherwise.
    Plain,
    /// As a chat in the model's own template, examples as earlier turns.
    Chat,
    /// What the model writes itself as a chat where it has a template, all else as text.
    ByKind {
        /// Whether the model's file has a chat template.
        has_template: bool,
    },
}

impl Wording {
    /// Whether a task's questions are put as a chat. A text never is.
    pub(crate) fn is_chat(self, kind: TaskKind) -> bool {
        match self {
            Wording::Plain => false,
            Wording::Chat => kind != TaskKind::Text,
            Wording::ByKind { has_template } => kind == TaskKind::Generation && has_template,
        }
    }
}

/// The examples before a question: drawn by the seed and the question's number, never the question itself.
pub(crate) fn examples_for(
    task: &Task,
    doc_idx: usize,
    n_few_shot: usize,
    seed: u64,
) -> Result<Vec<&Document>, EvalError> {
    if n_few_shot == 0 {
        return Ok(Vec::new());
    }
    let asked = &task.documents[doc_idx];
    let pool = if task.examples.is_empty() { &task.documents } else { &task.examples };
    // A question may stand in the file twice, and one that only checks judge shows no answer.
    let is_other =
        |document: &&Document| document.question() != asked.question() && !document.target().is_empty();
    let others: Vec<&Document> = pool.iter().filter(is_other).collect();
    if others.len() < n_few_shot {
        let (wanted, found) = (n_few_shot, others.len());
        return Err(EvalError::TooFewExamples { task: task.name.clone(), wanted, found });
    }
    let mut draw = Draw::new(seed.wrapping_add(doc_idx as u64), "few-shot");
    Ok(draw.sample(&others, n_few_shot).into_iter().copied().collect())
}

/// Examples and question as one text, up to where the answer begins.
pub(crate) fn plain_context(task: &Task, examples: &[&Document], asked: &Document) -> String {
    let options = &task.options;
    let question = |document: &Document| {
        format!("{}{}{}", options.before_question, document.question(), options.after_question)
    };
    let mut context = String::new();
    for example in examples {
        context.push_str(&question(example));
        context.push_str(&options.target_delimiter);
        context.push_str(example.target());
        context.push_str(&options.few_shot_delimiter);
    }
    context.push_str(&question(asked));
    context
}

/// Examples and question as the turns of a chat.
pub(crate) fn chat_messages(examples: &[&Document], asked: &Document) -> Vec<ChatMessage> {
    let turns = examples.iter().flat_map(|example| {
        [ChatMessage::new("user", example.question()), ChatMessage::new("assistant", example.target())]
    });
    turns.chain([ChatMessage::new("user", asked.question())]).collect()
}
