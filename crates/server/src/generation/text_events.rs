//! The engine's token ids → text events: whole characters, no stop strings, reasoning apart from the answer.
//!
//! A token becomes text (`TokenStream`), the text passes the stop strings (which hold back what may become
//! one), then the reasoning parser. Log-probabilities wait until the text they belong to is let through, so
//! that a stop string takes its tokens along.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use engine::{Event, Generate, Generation, SamplingParams, SubmitError, Timings, TokenId};
use futures::Stream;
use tokenizer::{Delta, GrammarAnswer, ReasoningParser, StopStrings, TokenStream, Tokenizer};

use super::{Dropped, Params, PreparedPrompt};
use crate::constrained::Constrained;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::model_host::LoadedModel;
use crate::state::{AppState, Phase, Shutdown};

/// What happens to an answer, in order. After `Done` or `Failed` nothing follows.
#[derive(Debug)]
pub(crate) enum TextEvent {
    /// It waits; this many stand before it.
    Queued {
        /// How many.
        position: usize,
    },
    /// Part of the prompt has been read.
    Prefill {
        /// Tokens read so far, cached ones included.
        done: usize,
        /// Tokens in all.
        total: usize,
    },
    /// The tokens of the text that follows; only when log-probabilities were asked for.
    Tokens(Vec<TokenLogprob>),
    /// More of the answer.
    Text(String),
    /// More of the reasoning.
    Reasoning(String),
    /// The end.
    Done(Finished),
    /// It failed.
    Failed(ApiError),
}

/// A token with its log-probability and the likeliest alternatives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenLogprob {
    /// Its id.
    pub(crate) id: TokenId,
    /// Its bytes, which may be half a character.
    pub(crate) bytes: Vec<u8>,
    /// Under the model's own distribution.
    pub(crate) logprob: f32,
    /// Best first.
    pub(crate) top: Vec<(Vec<u8>, f32)>,
    /// Where its text begins in the answer, in characters.
    pub(crate) char_offset: usize,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FinishReason {
    /// The model ended it, or a stop string was met.
    Stop,
    /// `max_tokens` or the end of the context.
    Length,
    /// [`TextGeneration::cancel`].
    Cancelled,
}

/// How an answer ended and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Finished {
    /// Why.
    pub(crate) reason: FinishReason,
    /// The stop string, if one was met.
    pub(crate) stop_string: Option<String>,
    /// Tokens.
    pub(crate) usage: Usage,
    /// Seconds in the queue, in the prompt, in the answer.
    pub(crate) timings: Timings,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of the prompt.
    pub(crate) prompt_tokens: usize,
    /// Of the answer, reasoning included.
    pub(crate) completion_tokens: usize,
    /// Of the prompt, from the cache.
    pub(crate) cached_tokens: usize,
    /// Of the answer, those that are reasoning.
    pub(crate) reasoning_tokens: usize,
}

/// An answer in progress. Dropping it cancels it within one step of the engine.
pub(crate) struct TextGeneration {
    /// The seed in use, given or drawn.
    pub(crate) seed: u64,
    /// Tokens of the prompt.
    pub(crate) n_prompt: usize,
    /// Messages that went into the prompt.
    pub(crate) n_kept_messages: usize,
    /// What was left out of it.
    pub(crate) dropped: Dropped,
    engine: Generation,
    decoder: Decoder,
    pending: VecDeque<TextEvent>,
    ended: bool,
    clock: Clock,
    shutdown: Shutdown,
    /// Held so that the model stays loaded.
    _model: Arc<LoadedModel>,
}

impl TextGeneration {
    /// Submits a prepared prompt.
    pub(super) fn start(
        state: &AppState,
        model: &Arc<LoadedModel>,
        prompt: &PreparedPrompt,
        params: Params,
    ) -> Result<TextGeneration, ApiError> {
        if state.shutdown.is_draining() {
            return Err(ApiError::ShuttingDown);
        }
        let seed = params.seed.unwrap_or_else(draw_seed);
        let tokenizer = &model.open.tokenizer;
        let reasoning = params
            .parse_reasoning
            .then(|| ReasoningParser::new(model.open.template.reasoning(), &prompt.tail));
        let decoder = Decoder {
            tokenizer: Arc::clone(tokenizer),
            tokens: TokenStream::new(Arc::clone(tokenizer)),
            stops: StopStrings::new(&params.stop),
            min_tokens: params.min_tokens,
            reasoning,
            held: VecDeque::new(),
            n_decoded: 0,
            n_released: 0,
            n_chars: 0,
            n_tokens: 0,
            n_reasoning_tokens: 0,
            in_reasoning: false,
            wants_logprobs: params.logprobs.is_some(),
        };
        let constraint = params.grammar.as_deref().map(|grammar| {
            let answer = match params.parse_reasoning {
                true => {
                    let reasoning = model.open.template.reasoning();
                    GrammarAnswer::after_reasoning(grammar, reasoning, &prompt.tail, prompt.thinks)
                }
                false => GrammarAnswer::new(grammar),
            };
            Box::new(Constrained(answer)) as Box<dyn engine::Constraint>
        });
        let request = Generate {
            prompt: prompt.ids.clone(),
            sampling: SamplingParams {
                temperature: params.temperature,
                top_k: params.top_k,
                top_p: params.top_p,
                min_p: params.min_p,
                typical_p: params.typical_p,
                repetition_penalty: params.repeat_penalty,
                presence_penalty: params.presence_penalty,
                frequency_penalty: params.frequency_penalty,
                repeat_last_n: params.repeat_last_n,
                logit_bias: params.logit_bias,
                seed,
            },
            max_tokens: params.max_tokens.unwrap_or(usize::MAX),
            min_tokens: params.min_tokens,
            stop_ids: tokenizer.end_of_generation_ids().to_vec(),
            ignore_eos: params.ignore_eos,
            logprobs: params.logprobs,
            cache_scope: params.cache_scope,
            fair_key: params.fair_key,
            priority: params.priority,
            keep: params.keep,
            constraint,
        };
        let engine = model.engine.submit(request).map_err(|error| {
            if matches!(error, SubmitError::QueueFull { .. }) {
                state.metrics.refused.fetch_add(1, Ordering::Relaxed);
            }
            from_submit(error)
        })?;
        Ok(TextGeneration {
            seed,
            n_prompt: prompt.ids.len(),
            n_kept_messages: prompt.n_kept_messages,
            dropped: prompt.dropped,
            engine,
            decoder,
            pending: VecDeque::new(),
            ended: false,
            clock: Clock {
                metrics: Arc::clone(&state.metrics),
                since: Instant::now(),
                n_tokens: 0,
                counted: false,
            },
            shutdown: state.shutdown.clone(),
            _model: Arc::clone(model),
        })
    }

    /// The next event; none after the last.
    pub(crate) async fn next(&mut self) -> Option<TextEvent> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            if self.ended {
                return None;
            }
            let event = tokio::select! {
                biased;
                event = self.engine.next() => event,
                () = self.shutdown.reached(Phase::Aborting) => {
                    self.end(TextEvent::Failed(ApiError::ShuttingDown));
                    continue;
                }
            };
            match event {
                Some(event) => self.take(event),
                None => {
                    let reason = "the engine went away in the middle of an answer".to_string();
                    self.end(TextEvent::Failed(ApiError::EngineFailed { reason }));
                }
            }
        }
    }

    /// Ends the answer at the next step, with `Done` (unlike dropping, which ends it in silence).
    pub(crate) fn cancel(&self) {
        self.engine.cancel();
    }

    /// The events as a stream.
    pub(crate) fn into_stream(self) -> impl Stream<Item = TextEvent> + Send {
        futures::stream::unfold(self, |mut generation| async {
            generation.next().await.map(|event| (event, generation))
        })
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Queued { position } => self.pending.push_back(TextEvent::Queued { position }),
            Event::Prefill { done, total, .. } => self.pending.push_back(TextEvent::Prefill { done, total }),
            Event::Token { id, logprob, top } => {
                // After a stop string the engine may be one step ahead.
                if self.decoder.stops.stopped().is_some() {
                    return;
                }
                self.clock.token();
                self.decoder.push(id, logprob, top, &mut self.pending);
                if self.decoder.stops.stopped().is_some() {
                    self.engine.cancel();
                }
            }
            Event::Done { reason, timings } => {
                self.decoder.finish(&mut self.pending);
                let stop_string = self.decoder.stops.stopped().map(str::to_string);
                let reason = match reason {
                    _ if stop_string.is_some() => FinishReason::Stop,
                    engine::FinishReason::Stop => FinishReason::Stop,
                    engine::FinishReason::Length => FinishReason::Length,
                    engine::FinishReason::Cancelled => FinishReason::Cancelled,
                };
                let usage = Usage {
                    prompt_tokens: self.n_prompt,
                    completion_tokens: self.decoder.n_tokens,
                    cached_tokens: timings.n_cached,
                    reasoning_tokens: self.decoder.n_reasoning_tokens,
                };
                self.end(TextEvent::Done(Finished { reason, stop_string, usage, timings }));
            }
            Event::Failed(error) => self.end(TextEvent::Failed(from_engine(error))),
        }
    }

    fn end(&mut self, event: TextEvent) {
        self.clock.end(&event);
        self.pending.push_back(event);
        self.ended = true;
    }
}

/// Measures an answer for the metrics; one that is dropped before its end counts as cancelled.
struct Clock {
    metrics: Arc<Metrics>,
    since: Instant,
    n_tokens: usize,
    counted: bool,
}

impl Clock {
    fn token(&mut self) {
        let now = Instant::now();
        let duration = now - self.since;
        match self.n_tokens {
            0 => self.metrics.first_token.observe(duration),
            _ => self.metrics.per_token.observe(duration),
        }
        self.n_tokens += 1;
        self.since = now;
    }

    fn end(&mut self, event: &TextEvent) {
        let counter = match event {
            TextEvent::Done(Finished { reason: FinishReason::Stop, .. }) => &self.metrics.finished_stop,
            TextEvent::Done(Finished { reason: FinishReason::Length, .. }) => &self.metrics.finished_length,
            TextEvent::Done(_) => &self.metrics.cancelled,
            _ => &self.metrics.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.counted = true;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if !self.counted {
            self.metrics.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// From ids to text events.
struct Decoder {
    tokenizer: Arc<Tokenizer>,
    tokens: TokenStream,
    stops: StopStrings,
    /// Stop strings count only after this many tokens.
    min_tokens: usize,
    reasoning: Option<ReasoningParser>,
    /// Tokens whose text is not let through yet, each with the byte at which it begins.
    held: VecDeque<(usize, TokenLogprob)>,
    /// Bytes of text so far, and of them those let through.
    n_decoded: usize,
    n_released: usize,
    /// Characters of text so far.
    n_chars: usize,
    n_tokens: usize,
    n_reasoning_tokens: usize,
    in_reasoning: bool,
    wants_logprobs: bool,
}

impl Decoder {
    fn push(&mut self, id: TokenId, logprob: f32, top: Vec<(TokenId, f32)>, out: &mut VecDeque<TextEvent>) {
        self.n_tokens += 1;
        if self.wants_logprobs {
            let piece = |id: TokenId| self.tokenizer.piece(id).to_vec();
            let top = top.into_iter().map(|(id, logprob)| (piece(id), logprob)).collect();
            let token = TokenLogprob { id, bytes: piece(id), logprob, top, char_offset: self.n_chars };
            self.held.push_back((self.n_decoded, token));
        }
        let text = self.tokens.push(id);
        self.n_decoded += text.len();
        self.n_chars += text.chars().count();
        let released = if self.n_tokens <= self.min_tokens { text } else { self.stops.push(&text) };
        self.release(&released, false, out);
        if self.in_reasoning {
            self.n_reasoning_tokens += 1;
        }
    }

    fn finish(&mut self, out: &mut VecDeque<TextEvent>) {
        let rest = self.tokens.finish();
        self.n_decoded += rest.len();
        let mut released = self.stops.push(&rest);
        released.push_str(&self.stops.finish());
        self.release(&released, true, out);
        let deltas = self.reasoning.as_mut().map_or_else(Vec::new, ReasoningParser::finish);
        self.tell(deltas, out);
    }

    /// Lets text through, with the tokens that it belongs to; at the end also those that have no text.
    fn release(&mut self, text: &str, at_end: bool, out: &mut VecDeque<TextEvent>) {
        self.n_released += text.len();
        let stopped = self.stops.stopped().is_some();
        let is_out = |start: usize| start < self.n_released || (at_end && !stopped);
        let n_out = self.held.iter().take_while(|(start, _)| is_out(*start)).count();
        if n_out > 0 {
            let tokens = self.held.drain(..n_out).map(|(_, token)| token).collect();
            out.push_back(TextEvent::Tokens(tokens));
        }
        if text.is_empty() {
            return;
        }
        match &mut self.reasoning {
            Some(parser) => {
                let deltas = parser.push(text);
                self.tell(deltas, out);
            }
            None => out.push_back(TextEvent::Text(text.to_string())),
        }
    }

    fn tell(&mut self, deltas: Vec<Delta>, out: &mut VecDeque<TextEvent>) {
        for delta in deltas {
            self.in_reasoning = matches!(delta, Delta::Reasoning(_));
            out.push_back(match delta {
                Delta::Text(text) => TextEvent::Text(text),
                Delta::Reasoning(text) => TextEvent::Reasoning(text),
            });
        }
    }
}

/// 53 random bits: a seed survives the trip through a JavaScript number.
fn draw_seed() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    u64::from_le_bytes(bytes) >> 11
}

/// What the engine refused, in the words of the API.
pub(crate) fn from_submit(error: SubmitError) -> ApiError {
    match error {
        SubmitError::QueueFull { retry_after_s } => ApiError::QueueFull { retry_after_s },
        SubmitError::PromptTooLong { n_prompt, max_seq_len } => {
            ApiError::ContextLength { param: "prompt", n_prompt, max_seq_len }
        }
        SubmitError::EmptyPrompt => {
            ApiError::bad_value("prompt", "the prompt has no tokens, expected at least one")
        }
        SubmitError::BadToken { place, .. } => ApiError::bad_value(place, error.to_string()),
        SubmitError::BadParams { field, .. } => ApiError::bad_value(field, error.to_string()),
        SubmitError::Stopped(error) => from_engine(error),
    }
}

/// An engine's failure in the words of the API.
pub(crate) fn from_engine(error: engine::EngineError) -> ApiError {
    ApiError::EngineFailed { reason: error.to_string() }
}
