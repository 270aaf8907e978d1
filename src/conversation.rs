//! One person talking with one model in this process: messages → template → engine → text, piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use engine::{Constraint, Engine, EngineConfig, Event, FinishReason, Generate, SamplingParams, Timings};
use models::OpenModel;
use server::Constrained;
use tokenizer::{
    ChatMessage, Delta, Grammar, GrammarAnswer, ReasoningParser, RenderInput, TokenId, TokenStream,
};

use crate::cli::SamplingArgs;

/// A loaded model and how it is asked.
pub(crate) struct Conversation {
    pub(crate) model: OpenModel,
    engine: Engine,
    sampling: SamplingParams,
    max_tokens: usize,
    thinks: bool,
    /// The form that the answers must have.
    pub(crate) grammar: Option<Arc<Grammar>>,
    /// What was said so far, system message first.
    pub(crate) messages: Vec<ChatMessage>,
}

/// A piece of an answer, in order.
pub(crate) enum Piece<'a> {
    /// Part of the answer.
    Text(&'a str),
    /// Part of the thoughts before it.
    Reasoning(&'a str),
}

/// How an answer ended.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) reason: FinishReason,
    pub(crate) timings: Timings,
}

impl Conversation {
    /// Loads the model into an engine of its own.
    pub(crate) fn start(model: OpenModel, config: EngineConfig, args: &SamplingArgs) -> Result<Conversation> {
        for warning in &model.warnings {
            eprintln!("daybreak: {}: {}", model.name, warning.message);
        }
        let engine = start_engine(&model, config)?;
        let sampling = SamplingParams {
            temperature: args.temperature,
            top_k: args.top_k as usize,
            top_p: args.top_p,
            min_p: args.min_p,
            repetition_penalty: args.repeat_penalty,
            seed: args.seed.unwrap_or_else(seed_from_clock),
            ..SamplingParams::greedy()
        };
        let messages = args.system.iter().map(|text| ChatMessage::new("system", text)).collect();
        let max_tokens = args.max_tokens.map_or(usize::MAX, |n| n as usize);
        Ok(Conversation {
            model,
            engine,
            sampling,
            max_tokens,
            thinks: !args.no_think,
            grammar: None,
            messages,
        })
    }

    /// Answers the conversation as it stands and adds the answer to it. Setting `stop` ends the answer.
    pub(crate) fn answer(
        &mut self,
        stop: &AtomicBool,
        show: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Answer> {
        let mut extra = serde_json::Map::new();
        if !self.thinks {
            extra.extend(self.model.template.reasoning().off_kwargs());
        }
        let input = RenderInput {
            extra: (!extra.is_empty()).then_some(&extra),
            ..RenderInput::prompt(&self.messages, now())
        };
        let rendered = self.model.template.render(&input)?;
        let ids = self.model.tokenizer.encode_rendered(&rendered);
        let reasoning = self.model.template.reasoning();
        let parser = ReasoningParser::new(reasoning, rendered.text());
        let thinks = reasoning.on_by_default && (self.thinks || reasoning.kwarg.is_none());
        let constraint = self
            .grammar
            .as_deref()
            .map(|grammar| GrammarAnswer::after_reasoning(grammar, reasoning, rendered.text(), thinks));
        let answer = self.generate(ids, Some(parser), constraint, stop, show)?;
        self.messages.push(ChatMessage::new("assistant", &answer.text));
        Ok(answer)
    }

    /// Continues these ids as they are.
    pub(crate) fn complete(
        &self,
        ids: Vec<TokenId>,
        stop: &AtomicBool,
        show: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Answer> {
        let constraint = self.grammar.as_deref().map(GrammarAnswer::new);
        self.generate(ids, None, constraint, stop, show)
    }

    fn generate(
        &self,
        prompt: Vec<TokenId>,
        mut parser: Option<ReasoningParser>,
        constraint: Option<GrammarAnswer>,
        stop: &AtomicBool,
        mut show: impl FnMut(Piece<'_>) -> Result<()>,
    ) -> Result<Answer> {
        let tokenizer = &self.model.tokenizer;
        let mut generation = self.engine.submit(Generate {
            sampling: self.sampling.clone(),
            stop_ids: tokenizer.end_of_generation_ids().to_vec(),
            constraint: constraint.map(|answer| Box::new(Constrained(answer)) as Box<dyn Constraint>),
            ..Generate::greedy(prompt, self.max_tokens)
        })?;
        let mut text = String::new();
        let mut tell = |deltas: Vec<Delta>, text: &mut String| -> Result<()> {
            for delta in deltas {
                match delta {
                    Delta::Text(piece) => {
                        text.push_str(&piece);
                        show(Piece::Text(&piece))?;
                    }
                    Delta::Reasoning(piece) => show(Piece::Reasoning(&piece))?,
                }
            }
            Ok(())
        };
        let mut stream = TokenStream::new(Arc::clone(tokenizer));
        while let Some(event) = generation.blocking_next() {
            if stop.load(Ordering::Relaxed) {
                generation.cancel();
            }
            match event {
                Event::Token { id, .. } => {
                    let piece = stream.push(id);
                    let deltas = match &mut parser {
                        Some(parser) => parser.push(&piece),
                        None => vec![Delta::Text(piece)],
                    };
                    tell(deltas, &mut text)?;
                }
                Event::Done { reason, timings } => {
                    let rest = stream.finish();
                    let mut deltas = match &mut parser {
                        Some(parser) => parser.push(&rest),
                        None => vec![Delta::Text(rest)],
                    };
                    deltas.extend(parser.as_mut().map_or_else(Vec::new, ReasoningParser::finish));
                    tell(deltas, &mut text)?;
                    return Ok(Answer { text, reason, timings });
                }
                Event::Failed(error) => return Err(error.into()),
                Event::Queued { .. } | Event::Prefill { .. } => {}
            }
        }
        bail!("the engine ended in the middle of an answer")
    }
}

/// An engine for the model with its adapters.
pub(crate) fn start_engine(model: &OpenModel, config: EngineConfig) -> Result<Engine> {
    Engine::start_adapted(Arc::clone(&model.gguf), &model.config, &model.adapters, config, &mut |_| {})
        .with_context(|| format!("{} cannot be loaded", model.name))
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

/// Any seed will do when none was asked for, as long as it differs from run to run.
fn seed_from_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
