//! The engine's handle: starts it, hands requests to its thread, tells how it is doing.
//!
//! One thread owns the model, the pages and all sequences (`worker.rs`). Callers share an inbox
//! with it and nothing else: a request goes in whole, its events come out of its own channel.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use kernels::Isa;
use tokio::sync::mpsc::unbounded_channel;
use weights::{Gguf, ModelConfig, ScaledAdapter};

use crate::drafting::{Drafter, PromptLookup};
use crate::error::{EngineError, SubmitError};
use crate::loading::{self, LoadProgress};
use crate::masking::Masked;
use crate::profile::Profile;
use crate::request::{Generate, Generation, MAX_LOGPROBS, OnRow, TokenId};
use crate::sampler::Sampler;
use crate::sequence::{Answer, Score, Sequence, Work};
use crate::stats::EngineStats;
use crate::worker::Worker;

/// How an engine is to run; the caller decides every field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineConfig {
    /// Threads that compute, the engine's own among them, e.g. 2.
    pub n_threads: usize,
    /// The instruction set of the kernels.
    pub isa: Isa,
    /// The longest sequence, prompt and answer together, in tokens, e.g. 2048.
    pub max_seq_len: usize,
    /// Bytes for the keys and values of all sequences, cached ones included, e.g. 64 MiB.
    pub kv_memory_bytes: u64,
    /// The most tokens that one step computes, e.g. 512.
    pub max_batch_tokens: usize,
    /// The most sequences that run at once, e.g. 16.
    pub max_running: usize,
    /// The most requests that wait beyond those.
    pub max_queue: usize,
    /// Whether tokens are guessed from what stands in prompt and answer.
    pub prompt_lookup: PromptLookup,
}

/// A loaded model that answers requests; clones are handles to the same one.
///
/// The thread ends with `shutdown` or with the last handle.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the handles and the engine's thread have in common.
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) vocab_size: usize,
    pub(crate) inbox: Mutex<Inbox>,
    /// Signalled when something was put into the inbox.
    pub(crate) wake: Condvar,
    pub(crate) stats: Mutex<EngineStats>,
    pub(crate) profile: Mutex<Profile>,
    pub(crate) profiling: AtomicBool,
}

/// Requests on their way to the engine's thread.
pub(crate) struct Inbox {
    pub(crate) requests: VecDeque<Sequence>,
    /// Why nothing is taken any more, once that is so.
    pub(crate) closed: Option<EngineError>,
    /// Sequences that the thread holds, told by it at each step.
    pub(crate) n_held: usize,
    /// Seconds that a request took on average, told by the thread.
    pub(crate) mean_request_s: f64,
    pub(crate) n_arrived: u64,
}

impl Engine {
    /// Loads a model: repacks its weights, proves that it computes finite values and starts its
    /// thread.
    pub fn start(
        gguf: Arc<Gguf>,
        model_config: &ModelConfig,
        config: EngineConfig,
    ) -> Result<Engine, EngineError> {
        Engine::start_adapted(gguf, model_config, &[], config, &mut |_| {})
    }

    /// As `start`, with adapters beside the weights, and telling after each tensor how far the loading is.
    pub fn start_adapted(
        gguf: Arc<Gguf>,
        model_config: &ModelConfig,
        adapters: &[ScaledAdapter],
        config: EngineConfig,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Engine, EngineError> {
        let model = loading::load(gguf, model_config, adapters, &config, progress)?;
        let shared = Arc::new(Shared {
            config,
            vocab_size: model_config.vocab_size,
            inbox: Mutex::new(Inbox {
                requests: VecDeque::new(),
                closed: None,
                n_held: 0,
                mean_request_s: 1.0,
                n_arrived: 0,
            }),
            wake: Condvar::new(),
            stats: Mutex::new(EngineStats::default()),
            profile: Mutex::new(Profile::default()),
            profiling: AtomicBool::new(false),
        });
        let mut worker = Worker::new(model, Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker.run())
            .map_err(|e| EngineError::NoThread { reason: e.to_string() })?;
        Ok(Engine { handle: Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) }) })
    }

    /// Hands over a request; its events come from the returned `Generation`.
    pub fn submit(&self, request: Generate) -> Result<Generation, SubmitError> {
        let shared = &self.handle.shared;
        check(&request, &shared.config, shared.vocab_size)?;
        let (sender, events) = unbounded_channel();
        let cancelled = Arc::new(AtomicBool::new(false));
        let answer = Answer {
            sampler: Sampler::new(request.sampling, request.logprobs, &request.prompt),
            max_tokens: request.max_tokens,
            min_tokens: request.min_tokens,
            stop_ids: request.stop_ids,
            ignore_eos: request.ignore_eos,
            constraint: request.constraint.map(|constraint| Masked::new(constraint, shared.vocab_size)),
            events: sender,
            cancelled: Arc::clone(&cancelled),
            drafter: (shared.config.prompt_lookup != PromptLookup::Off).then(Drafter::default),
            draft: Vec::new(),
            outcome: None,
        };
        let mut sequence = Sequence::new(request.prompt, Work::Answer(Box::new(answer)));
        sequence.cache_scope = request.cache_scope;
        sequence.fair_key = request.fair_key;
        sequence.priority = request.priority;
        if let Some(keep) = &request.keep {
            keep.saved.allow(&keep.name);
        }
        sequence.keep = request.keep;
        self.enqueue(sequence, true)?;
        Ok(Generation { events, cancelled })
    }

    /// The log-probability of each token given those before it; the first has none.
    ///
    /// Returns `tokens.len() - 1` values. Waits until they are computed.
    pub fn score(&self, tokens: &[TokenId]) -> Result<Vec<f32>, SubmitError> {
        let next: Vec<TokenId> = tokens.iter().skip(1).copied().collect();
        let (sender, receiver) = std::sync::mpsc::channel();
        let isa = self.handle.shared.config.isa;
        let on_row = move |position: usize, logits: &[f32]| {
            if let Some(&id) = next.get(position) {
                // The receiver lives until all rows are there.
                let _ = sender.send(logits[id as usize] - kernels::log_sum_exp(isa, logits, 1.0));
            }
        };
        self.score_with(tokens, Box::new(on_row))?;
        Ok(receiver.iter().collect())
    }

    /// Shows the logits behind each of `tokens`, in order, to `on_row(position, [vocab_size])`,
    /// which runs on the engine's thread. Waits until all are computed.
    pub fn score_with(&self, tokens: &[TokenId], on_row: OnRow) -> Result<(), SubmitError> {
        self.score_from(tokens, 0, on_row)
    }

    /// As `score_with`, for the tokens from the place `first` on only. What stands before them is shared with other
    /// requests, so that many continuations of one text cost little more than one.
    pub fn score_from(&self, tokens: &[TokenId], first: usize, on_row: OnRow) -> Result<(), SubmitError> {
        let shared = &self.handle.shared;
        if tokens.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        if tokens.len() > shared.config.max_seq_len {
            return Err(SubmitError::PromptTooLong {
                n_prompt: tokens.len(),
                max_seq_len: shared.config.max_seq_len,
            });
        }
        check_ids(tokens.iter(), "prompt", shared.vocab_size)?;
        let (done, finished) = sync_channel(1);
        let first = first.min(tokens.len() - 1);
        let work = Work::Score(Score { on_row, first, n_shown: first, done });
        self.enqueue(Sequence::new(tokens.to_vec(), work), false)?;
        match finished.recv() {
            Ok(result) => Ok(result?),
            Err(_) => Err(EngineError::Stopped.into()),
        }
    }

    /// How the engine is doing.
    pub fn stats(&self) -> EngineStats {
        let mut stats = lock(&self.handle.shared.stats).clone();
        stats.queued += lock(&self.handle.shared.inbox).requests.len();
        stats
    }

    /// Whether the engine answers; if not, why.
    pub fn health(&self) -> Result<(), EngineError> {
        match &lock(&self.handle.shared.inbox).closed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The longest sequence, prompt and answer together.
    pub fn max_seq_len(&self) -> usize {
        self.handle.shared.config.max_seq_len
    }

    /// How the engine was configured.
    pub fn config(&self) -> &EngineConfig {
        &self.handle.shared.config
    }

    /// Switches the timing of phases on or off; off by default.
    pub fn set_profiling(&self, on: bool) {
        self.handle.shared.profiling.store(on, Ordering::Relaxed);
    }

    /// Time, bytes and operations of each phase since profiling was switched on or last taken;
    /// starts over.
    pub fn profile(&self) -> Profile {
        std::mem::take(&mut *lock(&self.handle.shared.profile))
    }

    /// Ends the thread: requests in progress fail with `Stopped`. Waits until it has ended.
    pub fn shutdown(&self) {
        self.handle.stop();
    }

    fn enqueue(&self, mut sequence: Sequence, bounded: bool) -> Result<(), SubmitError> {
        let shared = &self.handle.shared;
        let mut inbox = lock(&shared.inbox);
        if let Some(error) = &inbox.closed {
            return Err(SubmitError::Stopped(error.clone()));
        }
        let n_present = inbox.n_held + inbox.requests.len();
        let room = shared.config.max_queue + shared.config.max_running;
        if bounded && n_present >= room {
            let waves = n_present as f64 / shared.config.max_running as f64;
            let retry_after_s = (waves * inbox.mean_request_s).ceil() as u64;
            return Err(SubmitError::QueueFull { retry_after_s: retry_after_s.clamp(1, 60) });
        }
        sequence.arrival = inbox.n_arrived;
        inbox.n_arrived += 1;
        inbox.requests.push_back(sequence);
        shared.wake.notify_one();
        Ok(())
    }
}

impl Handle {
    fn stop(&self) {
        let mut inbox = lock(&self.shared.inbox);
        if inbox.closed.is_none() {
            inbox.closed = Some(EngineError::Stopped);
        }
        drop(inbox);
        self.shared.wake.notify_one();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // The thread catches its own panics, so that joining cannot fail.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Locks, also after a panic elsewhere: what the locks guard is replaced whole, never half.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check(request: &Generate, config: &EngineConfig, vocab_size: usize) -> Result<(), SubmitError> {
    if request.prompt.is_empty() {
        return Err(SubmitError::EmptyPrompt);
    }
    if request.prompt.len() >= config.max_seq_len {
        return Err(SubmitError::PromptTooLong {
            n_prompt: request.prompt.len(),
            max_seq_len: config.max_seq_len,
        });
    }
    check_ids(request.prompt.iter(), "prompt", vocab_size)?;
    check_ids(request.stop_ids.iter(), "stop_ids", vocab_size)?;
    let s = &request.sampling;
    check_ids(s.logit_bias.iter().map(|(id, _)| id), "logit_bias", vocab_size)?;
    let at_least_0 = |x: f32| x.is_finite() && x >= 0.0;
    let share = |x: f32| (0.0..=1.0).contains(&x);
    let finite = f32::is_finite;
    let logprobs = request.logprobs.unwrap_or(0);
    let checks = [
        ("temperature", s.temperature, at_least_0(s.temperature), "a number of at least 0"),
        ("top_p", s.top_p, share(s.top_p), "a number from 0 to 1"),
        ("min_p", s.min_p, share(s.min_p), "a number from 0 to 1"),
        ("typical_p", s.typical_p, share(s.typical_p), "a number from 0 to 1"),
        (
            "repetition_penalty",
            s.repetition_penalty,
            finite(s.repetition_penalty) && s.repetition_penalty > 0.0,
            "a number above 0",
        ),
        ("presence_penalty", s.presence_penalty, finite(s.presence_penalty), "a finite number"),
        ("frequency_penalty", s.frequency_penalty, finite(s.frequency_penalty), "a finite number"),
        ("logprobs", f32::from(logprobs), logprobs <= MAX_LOGPROBS, "a number from 0 to 20"),
    ];
    let biases = s.logit_bias.iter().map(|&(_, b)| ("logit_bias", b, finite(b), "finite numbers"));
    for (field, found, is_valid, expected) in checks.into_iter().chain(biases) {
        if !is_valid {
            return Err(SubmitError::BadParams { field, found: f64::from(found), expected });
        }
    }
    Ok(())
}

fn check_ids<'a>(
    mut ids: impl Iterator<Item = &'a TokenId>,
    place: &'static str,
    vocab_size: usize,
) -> Result<(), SubmitError> {
    match ids.find(|id| **id as usize >= vocab_size) {
        Some(&id) => Err(SubmitError::BadToken { id, place, vocab_size }),
        None => Ok(()),
    }
}
