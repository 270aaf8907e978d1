//! What a caller asks of the engine and what it hears back: `Generate` in, a stream of `Event`s out.
//!
//! Everything here is plain data about token ids. The engine knows no text and no users: whom a
//! request belongs to reaches it only as the opaque `cache_scope` (whose cached prefixes may be
//! used) and `fair_key` (who shares the machine with whom).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::EngineError;
use crate::saved::Keep;

/// A token id, an index into the model's vocabulary.
pub type TokenId = u32;

/// The most alternatives a token's log-probabilities may list, OpenAI's limit.
pub const MAX_LOGPROBS: u8 = 20;

/// How the next token is drawn from the logits.
///
/// The steps run in llama.cpp's order: logit bias, penalties, top-k, typical, top-p, min-p,
/// temperature, draw. A field's neutral value, which switches its step off, stands with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits; 0 takes the most likely token, the lowest id among equals.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens whose probabilities sum to this; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than this share of the most likely one; 0 drops none.
    pub min_p: f32,
    /// Keeps the tokens nearest the expected surprise, up to this mass; 1 keeps all.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen in the window; 1 is neutral.
    pub repetition_penalty: f32,
    /// Subtracted once from the logit of every token generated so far; 0 is neutral.
    pub presence_penalty: f32,
    /// Subtracted per occurrence from the logit of every token generated so far; 0 is neutral.
    pub frequency_penalty: f32,
    /// The window of the repetition penalty in tokens, prompt and answer alike;
    /// 0 switches it off, `usize::MAX` is the whole sequence.
    pub repeat_last_n: usize,
    /// Added to the logits of these tokens before anything else.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// With the token's position, this alone decides every draw.
    pub seed: u64,
}

impl SamplingParams {
    /// The most likely token, nothing else.
    pub fn greedy() -> SamplingParams {
        SamplingParams {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            logit_bias: Vec::new(),
            seed: 0,
        }
    }
}

/// One bit for each token of the vocabulary: set means allowed.
#[derive(Debug, Clone)]
pub struct BitMask {
    words: Vec<u64>,
    len: usize,
}

impl BitMask {
    /// A mask of `len` tokens, all allowed.
    pub fn all_set(len: usize) -> BitMask {
        BitMask { words: vec![u64::MAX; len.div_ceil(64)], len }
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the mask covers no token.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Allows every token (`true`) or none (`false`).
    pub fn fill(&mut self, allowed: bool) {
        self.words.fill(if allowed { u64::MAX } else { 0 });
    }

    /// Allows or forbids one token; ids beyond the vocabulary are ignored.
    pub fn set(&mut self, id: TokenId, allowed: bool) {
        let id = id as usize;
        if id >= self.len {
            return;
        }
        if allowed {
            self.words[id / 64] |= 1 << (id % 64);
        } else {
            self.words[id / 64] &= !(1 << (id % 64));
        }
    }

    /// Whether a token is allowed.
    pub fn get(&self, id: TokenId) -> bool {
        let id = id as usize;
        id < self.len && self.words[id / 64] >> (id % 64) & 1 == 1
    }

    /// Number of allowed tokens.
    pub fn n_set(&self) -> usize {
        let n_set: usize = self.words.iter().map(|word| word.count_ones() as usize).sum();
        let n_beyond = match (self.len % 64, self.words.last()) {
            (0, _) | (_, None) => 0,
            (n_last, Some(last)) => (last >> n_last).count_ones() as usize,
        };
        n_set - n_beyond
    }

    /// The bits, 64 tokens a word, lowest id in the lowest bit; those beyond `len` mean nothing.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// As `words`, to be set.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }
}

/// Which tokens may come next, decided outside the engine (a grammar, a schema).
///
/// An error of either function ends the answer with `ConstraintFailed` and these words.
pub trait Constraint: Send {
    /// Sets the bits of the tokens that may come next and clears the others. Called once for each
    /// token, on any thread, most often while the logits are computed.
    fn mask(&mut self, allowed: &mut BitMask) -> Result<(), String>;
    /// Tells which token was taken, never a stop id; `true` means that the answer is complete, and
    /// ends it with `Stop`.
    fn accept(&mut self, id: TokenId) -> Result<bool, String>;
}

/// Receives the logits behind each position: (position, [vocab_size]).
pub type OnRow = Box<dyn FnMut(usize, &[f32]) + Send>;

/// A request for tokens that continue a prompt.
pub struct Generate {
    /// The prompt; at least one token, fewer than the context holds.
    pub prompt: Vec<TokenId>,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// The most tokens to generate; what the context cannot hold ends with `Length`, too.
    pub max_tokens: usize,
    /// Stop ids are not drawn before this many tokens stand, unless the constraint allows nothing else.
    pub min_tokens: usize,
    /// Tokens that end the answer; they are not part of it.
    pub stop_ids: Vec<TokenId>,
    /// Stop ids are never drawn: the answer ends by length only, or where the constraint allows
    /// nothing else.
    pub ignore_eos: bool,
    /// Log-probabilities of each token and of this many alternatives (0 to 20).
    pub logprobs: Option<u8>,
    /// Whose cached prefixes may be used: requests share pages only within one scope.
    pub cache_scope: u64,
    /// Who asks, for sharing the machine fairly: keys with less service go first.
    pub fair_key: u64,
    /// Higher goes first, whatever the shares.
    pub priority: i8,
    /// Where its keys and values are kept for later runs of the program, if they are.
    pub keep: Option<Keep>,
    /// Which tokens are allowed at each step.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Generate {
    /// A request with everything neutral: greedy, no stop ids, scope and key 0.
    pub fn greedy(prompt: Vec<TokenId>, max_tokens: usize) -> Generate {
        Generate {
            prompt,
            sampling: SamplingParams::greedy(),
            max_tokens,
            min_tokens: 0,
            stop_ids: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            cache_scope: 0,
            fair_key: 0,
            priority: 0,
            keep: None,
            constraint: None,
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// A stop id was drawn.
    Stop,
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The caller cancelled.
    Cancelled,
}

/// Where a request's time and tokens went.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Timings {
    /// Seconds from submission until the engine began with it.
    pub queue_s: f64,
    /// Seconds from there to the first token.
    pub prefill_s: f64,
    /// Seconds from the first token to the last.
    pub decode_s: f64,
    /// Tokens of the prompt.
    pub n_prompt: usize,
    /// Tokens of the prompt whose keys and values came from cached pages.
    pub n_cached: usize,
    /// Tokens generated; a stop id that ended the answer is not counted.
    pub n_generated: usize,
}

/// What happens to a request, in order.
#[derive(Debug, Clone)]
pub enum Event {
    /// It waits; `position` requests stand before it.
    Queued {
        /// How many requests stand before it.
        position: usize,
    },
    /// Part of the prompt has been read.
    Prefill {
        /// Prompt tokens read so far, cached ones included.
        done: usize,
        /// Prompt tokens in all.
        total: usize,
        /// Prompt tokens that came from the cache.
        cached: usize,
    },
    /// One more token of the answer.
    Token {
        /// The token.
        id: TokenId,
        /// Its log-probability under the model's own distribution (before bias, penalties and
        /// temperature); NaN when no log-probabilities were asked for.
        logprob: f32,
        /// The most likely alternatives under the same distribution, best first.
        top: Vec<(TokenId, f32)>,
    },
    /// The answer is complete.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// Where time and tokens went.
        timings: Timings,
    },
    /// The request failed; nothing follows.
    Failed(EngineError),
}

/// A request in progress: receives its events. Dropping it cancels the request at the next step.
#[derive(Debug)]
pub struct Generation {
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Generation {
    /// The next event; `None` after `Done` or `Failed`.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, waiting on this thread; not to be called inside an async runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// An event that already waits, if any.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Ends the request at the next step with `Done { reason: Cancelled, .. }`, unlike dropping,
    /// which ends it in silence.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}
