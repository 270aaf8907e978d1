//! Asks a model everything that a task holds, many documents at once, and counts.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokenizer::{
    ChatMessage, ChatTemplate, Delta, ReasoningParser, RenderInput, TokenId, Tokenizer, lessons,
};

use super::checks::follows;
use super::error::EvalError;
use super::prompts::{Wording, chat_messages, examples_for, plain_context};
use super::results::{MetricResult, TaskResult};
use super::rolling::{Scored, encode, encode_pair, fitted, prefix_token, windows};
use super::samples::{Count, Sample};
use super::task::{Document, Task, digest};

/// What computes; the caller joins it with an engine.
pub trait EvalModel: Sync {
    /// The sum of the log-probabilities of the tokens from `first`, at least 1, on, each given all before it. All but the
    /// last of `tokens` are read.
    ///
    /// # Errors
    /// Where it fails or is to stop.
    fn log_likelihood(&self, tokens: &[TokenId], first: usize) -> Result<f64, EvalError>;

    /// What most likely follows the prompt, up to the model's own end, one of `until` (not part of it) or `max_tokens`.
    ///
    /// # Errors
    /// Where it fails or is to stop.
    fn generate(&self, prompt: &[TokenId], max_tokens: usize, until: &[String])
    -> Result<Written, EvalError>;
}

/// What a model has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// Whether it came to an end before `max_tokens`.
    pub has_ended: bool,
}

/// A model with what text it reads and writes.
#[derive(Clone, Copy)]
pub struct Examinee<'a> {
    /// What computes.
    pub model: &'a dyn EvalModel,
    /// Its tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Its chat template.
    pub template: &'a ChatTemplate,
    /// Tokens that it reads at once at most, e.g. 2048.
    pub max_len: usize,
}

/// How a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct EvalSettings {
    /// Examples before each question, where the caller wants another number than the task.
    pub n_few_shot: Option<usize>,
    /// Only the first so many documents of each task.
    pub limit: Option<usize>,
    /// Decides which examples stand before a question.
    pub seed: u64,
    /// How questions are put.
    pub wording: Wording,
    /// Documents that are asked at once, e.g. 16.
    pub n_parallel: NonZeroUsize,
}

/// Asks everything that a task holds. `told` hears, from any thread, how many documents are done.
///
/// # Errors
/// Where a question cannot be put, or the model fails or is to stop.
pub fn evaluate(
    task: &Task,
    examinee: Examinee<'_>,
    settings: &EvalSettings,
    told: &(dyn Fn(usize) + Sync),
) -> Result<(TaskResult, Vec<Sample>), EvalError> {
    let asked = task.asked(settings.limit);
    let is_compared = asked.iter().any(|document| !document.target().is_empty());
    let asking = Asking {
        task,
        examinee,
        is_chat: settings.wording.is_chat(task.kind),
        n_few_shot: settings.n_few_shot.unwrap_or(task.options.n_few_shot),
        seed: settings.seed,
        prefix: prefix_token(examinee.tokenizer).ok_or_else(|| EvalError::NoFirstToken(task.name.clone()))?,
        written: if is_compared { "exact_match" } else { "prompt_level_strict_acc" },
    };
    let samples = asking.all(asked.len(), settings.n_parallel, told)?;
    let first = samples.first().map_or(&[][..], |sample| &sample.counts);
    let metrics = first.iter().enumerate().map(|(idx, count)| {
        let counts = samples.iter().map(|sample| [sample.counts[idx].value, sample.counts[idx].weight]);
        MetricResult::new(count.metric, counts.collect())
    });
    let result = TaskResult {
        task: task.name.clone(),
        kind: task.kind.name().to_owned(),
        n: asked.len(),
        num_fewshot: asking.n_few_shot(),
        template: if asking.is_chat { "chat" } else { "plain" }.to_owned(),
        seed: settings.seed,
        documents: digest(asked),
        n_cut: samples.iter().filter(|sample| sample.n_cut > 0).count(),
        metrics: metrics.collect(),
    };
    Ok((result, samples))
}

struct Asking<'a> {
    task: &'a Task,
    examinee: Examinee<'a>,
    is_chat: bool,
    n_few_shot: usize,
    seed: u64,
    prefix: TokenId,
    /// The figure of what the model writes.
    written: &'static str,
}

impl Asking<'_> {
    /// A text has nothing before it.
    fn n_few_shot(&self) -> usize {
        if self.task.kind == super::TaskKind::Text { 0 } else { self.n_few_shot }
    }

    /// The samples of the first `n` documents, in their order.
    fn all(
        &self,
        n: usize,
        n_parallel: NonZeroUsize,
        told: &(dyn Fn(usize) + Sync),
    ) -> Result<Vec<Sample>, EvalError> {
        let (next, n_done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let samples: Mutex<Vec<Option<Sample>>> = Mutex::new(vec![None; n]);
        let failed: Mutex<Option<EvalError>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..n_parallel.get().min(n) {
                scope.spawn(|| {
                    loop {
                        let doc_idx = next.fetch_add(1, Ordering::Relaxed);
                        if doc_idx >= n || lock(&failed).is_some() {
                            return;
                        }
                        match self.one(doc_idx) {
                            Ok(sample) => lock(&samples)[doc_idx] = Some(sample),
                            Err(error) => drop(lock(&failed).get_or_insert(error)),
                        }
                        told(n_done.fetch_add(1, Ordering::Relaxed) + 1);
                    }
                });
            }
        });
        if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let samples = samples.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(samples.into_iter().flatten().collect())
    }

    fn one(&self, doc_idx: usize) -> Result<Sample, EvalError> {
        let document = &self.task.documents[doc_idx];
        let examples = examples_for(self.task, doc_idx, self.n_few_shot(), self.seed)?;
        let mut sample = Sample {
            task: self.task.name.clone(),
            doc_idx,
            prompt: String::new(),
            choices: Vec::new(),
            log_likelihoods: Vec::new(),
            output: None,
            answers: Vec::new(),
            counts: Vec::new(),
            n_cut: 0,
        };
        match document {
            Document::Choice { choices, answer_idx, .. } => {
                self.choose(&examples, document, choices, &mut sample)?;
                sample.counts = choice_counts(choices, &sample.log_likelihoods, *answer_idx);
                sample.answers = vec![choices[*answer_idx].clone()];
            }
            Document::Generation { answers, checks, .. } => {
                let Written { text: output, has_ended } = self.generate(&examples, document, &mut sample)?;
                let is_match = answers.is_empty() || self.task.options.matching.is_match(&output, answers);
                let is_right = is_match && (checks.is_empty() || follows(&output, checks));
                sample.counts = vec![share(self.written, is_right)];
                if self.is_chat {
                    sample.counts.push(share("ended", has_ended));
                }
                sample.output = Some(output);
                sample.answers.clone_from(answers);
            }
            Document::Text { text } => {
                let tokens = self.examinee.tokenizer.encode(text.as_bytes(), tokenizer::Specials::AsText);
                let mut sum = 0.0;
                for window in windows(&tokens, self.prefix, self.examinee.max_len) {
                    sum += self.examinee.model.log_likelihood(&window.tokens, window.first)?;
                }
                sample.counts = text_counts(text, sum);
                sample.log_likelihoods = vec![sum];
            }
        }
        Ok(sample)
    }

    /// The log-likelihood of each choice.
    fn choose(
        &self,
        examples: &[&Document],
        document: &Document,
        choices: &[String],
        sample: &mut Sample,
    ) -> Result<(), EvalError> {
        let context = plain_context(self.task, examples, document);
        let messages = chat_messages(examples, document);
        for choice in choices {
            let pair = match self.is_chat {
                true => self.chat_pair(&messages, choice, sample.doc_idx)?,
                false => {
                    let continuation = format!("{}{choice}", self.task.options.target_delimiter);
                    encode_pair(self.examinee.tokenizer, &context, &continuation, self.prefix)
                }
            };
            let Scored { tokens, first, n_cut } = fitted(pair, self.examinee.max_len);
            sample.log_likelihoods.push(self.examinee.model.log_likelihood(&tokens, first)?);
            sample.n_cut = sample.n_cut.max(n_cut);
        }
        sample.prompt =
            if self.is_chat { self.rendered(&messages, sample.doc_idx)?.text().to_owned() } else { context };
        sample.choices = choices.to_vec();
        Ok(())
    }

    /// A chat that ends with `answer`, and where that begins; without what ends the turn.
    fn chat_pair(
        &self,
        before: &[ChatMessage],
        answer: &str,
        doc_idx: usize,
    ) -> Result<(Vec<TokenId>, usize), EvalError> {
        let Examinee { tokenizer, template, .. } = self.examinee;
        let messages = [before, &[ChatMessage::new("assistant", answer)]].concat();
        let fail = |source| EvalError::Answer { task: self.task.name.clone(), number: doc_idx + 1, source };
        let mut lesson = lessons(tokenizer, template, &messages).map_err(fail)?;
        let mut lesson = lesson.pop().ok_or_else(|| fail(tokenizer::LessonError::NoAnswer))?;
        let end = lesson.is_answer.iter().rposition(|is| *is).map_or(0, |last| last + 1);
        lesson.tokens.truncate(end);
        let n_answer = lesson.is_answer[..end].iter().rev().take_while(|is| **is).count();
        let first = end - n_answer;
        if n_answer > 1 && lesson.tokens.last().is_some_and(|&token| tokenizer.is_end_of_generation(token)) {
            lesson.tokens.pop();
        }
        Ok((lesson.tokens, first))
    }

    /// What the model writes.
    fn generate(
        &self,
        examples: &[&Document],
        document: &Document,
        sample: &mut Sample,
    ) -> Result<Written, EvalError> {
        let Examinee { model, tokenizer, template, max_len } = self.examinee;
        let max_tokens = self.task.options.max_tokens;
        let room = max_len.checked_sub(max_tokens).filter(|room| *room > 0);
        let room =
            room.ok_or_else(|| EvalError::NoRoom { task: self.task.name.clone(), max_tokens, max_len })?;
        let mut parser = None;
        let (mut ids, until) = if self.is_chat {
            let rendered = self.rendered(&chat_messages(examples, document), sample.doc_idx)?;
            parser = Some(ReasoningParser::new(template.reasoning(), rendered.text()));
            let ids = tokenizer.encode_rendered(&rendered);
            sample.prompt = rendered.text().to_owned();
            (ids, &[][..])
        } else {
            sample.prompt = plain_context(self.task, examples, document);
            (encode(tokenizer, &sample.prompt), &self.task.options.until[..])
        };
        if ids.is_empty() {
            ids.push(self.prefix);
        }
        sample.n_cut = ids.len().saturating_sub(room);
        ids.drain(..sample.n_cut);
        let output = model.generate(&ids, max_tokens, until)?;
        let Some(mut parser) = parser else { return Ok(output) };
        let mut deltas = parser.push(&output.text);
        deltas.extend(parser.finish());
        let said = deltas.into_iter().filter_map(|delta| match delta {
            Delta::Text(text) => Some(text),
            Delta::Reasoning(_) => None,
        });
        Ok(Written { text: said.collect(), has_ended: output.has_ended })
    }

    /// A chat as the model reads it, up to where its answer begins; a model that can do without its reasoning is asked to.
    fn rendered(&self, messages: &[ChatMessage], doc_idx: usize) -> Result<tokenizer::Rendered, EvalError> {
        let template = self.examinee.template;
        let extra: serde_json::Map<_, _> = template.reasoning().off_kwargs().into_iter().collect();
        let extra = (!extra.is_empty()).then_some(&extra);
        let input = RenderInput { extra, ..RenderInput::prompt(messages, 0) };
        template.render(&input).map_err(|source| EvalError::Template {
            task: self.task.name.clone(),
            number: doc_idx + 1,
            source,
        })
    }
}

fn share(metric: &'static str, is_right: bool) -> Count {
    Count { metric, value: f64::from(u8::from(is_right)), weight: 1.0 }
}

/// Whether the likeliest choice is right: by the sum of its log-probabilities, for each character and for each byte.
pub(super) fn choice_counts(choices: &[String], log_likelihoods: &[f64], answer_idx: usize) -> Vec<Count> {
    let best = |length: &dyn Fn(&str) -> usize| {
        let each = choices.iter().zip(log_likelihoods).map(|(choice, sum)| sum / length(choice) as f64);
        // The first of equals, as numpy's argmax.
        let first_best =
            |best: (usize, f64), (idx, x): (usize, f64)| if x > best.1 { (idx, x) } else { best };
        each.enumerate().fold((0, f64::NEG_INFINITY), first_best).0
    };
    vec![
        share("acc", best(&|_| 1) == answer_idx),
        share("acc_norm", best(&|choice| choice.chars().count()) == answer_idx),
        share("acc_bytes", best(&str::len) == answer_idx),
    ]
}

fn text_counts(text: &str, log_likelihood: f64) -> Vec<Count> {
    let (n_bytes, n_words) = (text.len() as f64, n_words(text) as f64);
    vec![
        Count { metric: "bits_per_byte", value: -log_likelihood / std::f64::consts::LN_2, weight: n_bytes },
        Count { metric: "byte_perplexity", value: -log_likelihood, weight: n_bytes },
        Count { metric: "word_perplexity", value: -log_likelihood, weight: n_words },
    ]
}

/// Words as the harness counts them: pieces between runs of white space, empty ones at the ends as well.
pub(super) fn n_words(text: &str) -> usize {
    let is_space = |c: char| c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}');
    let mut was_space = false;
    let mut n_runs = 0;
    for c in text.chars() {
        n_runs += usize::from(is_space(c) && !was_space);
        was_space = is_space(c);
    }
    n_runs + 1
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
