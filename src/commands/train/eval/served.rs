//! The engine as what is asked: it scores tokens and goes on with them, for many questions at once.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use engine::{
    ContextPlan, ContextWish, Engine, EngineConfig, EngineError, Event, FinishReason, Generate, Isa,
    PromptLookup, TokenId,
};
use models::OpenModel;
use tokenizer::{StopStrings, TokenStream, Tokenizer};
use trainer::eval::{EvalError, EvalModel, Written};

use crate::cli;
use crate::config::{default_threads, isa};

/// Longer contexts take more memory than questions need.
const DEFAULT_CTX: usize = 2048;
/// Questions of full length that have room at once; most are short.
const N_FULL: u64 = 4;

/// A loaded model.
pub(super) struct Served {
    engine: Engine,
    tokenizer: Arc<Tokenizer>,
    isa: Isa,
    stop: Arc<AtomicBool>,
}

impl Served {
    /// Loads the model.
    pub(super) fn start(
        model: &OpenModel,
        args: &cli::TrainEval,
        n_parallel: NonZeroUsize,
        stop: Arc<AtomicBool>,
    ) -> Result<Served> {
        let trained = model.config.max_seq_len;
        let ctx = args.ctx.map_or(trained.min(DEFAULT_CTX), |ctx| ctx as usize);
        let wish = ContextWish { ctx: Some(ctx), kv_memory_bytes: None, n_conversations: N_FULL };
        let per_token = engine::kv_bytes_per_token(&model.config);
        let total_bytes = models::MachineMemory::read().total_bytes;
        let ContextPlan { max_seq_len, kv_memory_bytes } =
            ContextPlan::new(wish, trained, per_token, total_bytes);
        let isa = isa()?;
        let config = EngineConfig {
            n_threads: args.threads.map_or_else(default_threads, usize::from),
            isa,
            max_seq_len,
            kv_memory_bytes,
            max_batch_tokens: 512,
            max_running: n_parallel.get(),
            max_queue: n_parallel.get(),
            prompt_lookup: PromptLookup::Auto,
        };
        let gguf = Arc::clone(&model.gguf);
        let engine = Engine::start_adapted(gguf, &model.config, &model.adapters, config, &mut |_| {})
            .with_context(|| format!("{} cannot be loaded", model.name))?;
        Ok(Served { engine, tokenizer: Arc::clone(&model.tokenizer), isa, stop })
    }

    /// Tokens that it reads at once at most.
    pub(super) fn max_len(&self) -> usize {
        self.engine.max_seq_len()
    }

    /// Lets go of the model.
    pub(super) fn shutdown(self) {
        self.engine.shutdown();
    }

    fn check_stop(&self) -> Result<(), EvalError> {
        if self.stop.load(Ordering::Relaxed) { Err(EvalError::Stopped) } else { Ok(()) }
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> EvalError {
    EvalError::Model(Box::new(error))
}

impl EvalModel for Served {
    fn log_likelihood(&self, tokens: &[TokenId], first: usize) -> Result<f64, EvalError> {
        self.check_stop()?;
        let Some((_, read)) = tokens.split_last().filter(|(_, read)| read.len() >= first) else {
            return Ok(0.0);
        };
        let sum = Arc::new(Mutex::new(0.0));
        let (sum_there, next, isa) = (Arc::clone(&sum), tokens.to_vec(), self.isa);
        let on_row = move |position: usize, logits: &[f32]| {
            let id = next[position + 1] as usize;
            let log_prob = f64::from(logits[id] - kernels::log_sum_exp(isa, logits, 1.0));
            *sum_there.lock().unwrap_or_else(PoisonError::into_inner) += log_prob;
        };
        self.engine.score_from(read, first - 1, Box::new(on_row)).map_err(failed)?;
        let sum = *sum.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sum)
    }

    fn generate(
        &self,
        prompt: &[TokenId],
        max_tokens: usize,
        until: &[String],
    ) -> Result<Written, EvalError> {
        self.check_stop()?;
        let request = Generate {
            stop_ids: self.tokenizer.end_of_generation_ids().to_vec(),
            ..Generate::greedy(prompt.to_vec(), max_tokens)
        };
        let mut generation = self.engine.submit(request).map_err(failed)?;
        let mut stream = TokenStream::new(Arc::clone(&self.tokenizer));
        let mut stops = StopStrings::new(until);
        let mut text = String::new();
        while let Some(event) = generation.blocking_next() {
            self.check_stop()?;
            match event {
                Event::Token { id, .. } => text.push_str(&stops.push(&stream.push(id))),
                Event::Done { reason, .. } => {
                    text.push_str(&stops.push(&stream.finish()));
                    text.push_str(&stops.finish());
                    return Ok(Written { text, has_ended: reason == FinishReason::Stop });
                }
                Event::Failed(error) => return Err(failed(error)),
                Event::Queued { .. } | Event::Prefill { .. } => {}
            }
            if stops.stopped().is_some() {
                return Ok(Written { text, has_ended: true });
            }
        }
        Err(failed(EngineError::Stopped))
    }
}
