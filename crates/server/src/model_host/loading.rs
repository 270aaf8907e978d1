//! From a file to a model in memory: how long its conversations may be, whether there is room, who must go.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use engine::{ContextPlan, ContextWish, Engine, EngineConfig, EngineError, kv_bytes_per_token};
use models::{LocalModel, MachineMemory, OpenModel, OpenOptions};
use tokenizer::GrammarCompiler;
use tokio::sync::watch;

use super::{Failure, FileStamp, HostConfig, LoadStatus, LoadedModel, ModelHost, Slot};
use crate::error::ApiError;

/// Tokens of one step, prompts and answers together: large enough for full speed, small enough that a long
/// prompt does not hold the other answers up.
const MAX_BATCH_TOKENS: usize = 512;
/// A digest that nobody needs yet is computed once the first questions are over.
const HASH_DELAY: Duration = Duration::from_secs(20);

impl ModelHost {
    /// Finds the model's file and begins to load it, or joins a load in progress. With `again`, an earlier
    /// failure does not count.
    pub(super) async fn begin_load(
        &self,
        name: &str,
        again: bool,
    ) -> Result<watch::Receiver<LoadStatus>, ApiError> {
        if let Some(Slot::Loading(status)) = self.state().slots.get(name) {
            return Ok(status.clone());
        }
        let local = self.find(name).await?;
        let name = local.name.clone();
        let stamp = FileStamp::of(&local);
        let (sender, receiver) = watch::channel(LoadStatus::Loading(0.0));
        {
            let mut state = self.state();
            match state.slots.get(&name) {
                // Somebody was faster.
                Some(Slot::Loading(status)) => return Ok(status.clone()),
                Some(Slot::Loaded { model, .. }) => {
                    let done = LoadStatus::Done(Ok(Arc::clone(model)));
                    return Ok(watch::channel(done).1);
                }
                Some(Slot::Failed { failure: failure @ Failure::Broken { .. }, stamp: known })
                    if !again && *known == stamp =>
                {
                    return Err(failure.to_error(&name));
                }
                _ => state.slots.insert(name.clone(), Slot::Loading(receiver.clone())),
            };
        }
        tokio::spawn(self.clone().load_now(local, stamp, sender));
        Ok(receiver)
    }

    async fn load_now(self, local: LocalModel, stamp: Option<FileStamp>, status: watch::Sender<LoadStatus>) {
        let started = Instant::now();
        let name = local.name.clone();
        let _gate = self.inner.load_gate.lock().await;
        let status = Arc::new(status);
        let outcome = self.open_and_start(&local, &status).await;
        let slot = match &outcome {
            Ok(model) => {
                let seconds = started.elapsed().as_secs_f32();
                tracing::info!(model = name, seconds, ctx = model.max_seq_len(), "loaded");
                for warning in &model.open.warnings {
                    tracing::warn!(model = name, code = warning.code, "{}", warning.message);
                }
                Slot::Loaded { model: Arc::clone(model), used_at: Instant::now() }
            }
            Err(failure) => {
                tracing::error!("{}", failure.to_error(&name));
                Slot::Failed { failure: failure.clone(), stamp }
            }
        };
        if let Ok(model) = &outcome {
            self.find_digests(&local, model);
        }
        self.state().slots.insert(name, slot);
        status.send_replace(LoadStatus::Done(outcome));
    }

    async fn open_and_start(
        &self,
        local: &LocalModel,
        status: &Arc<watch::Sender<LoadStatus>>,
    ) -> Result<Arc<LoadedModel>, Failure> {
        let (config, file) = (self.inner.config.clone(), local.clone());
        let adapters = self.adapters_of(&local.name);
        let open = on_thread(move || {
            let options = OpenOptions { chat_template: config.chat_template.clone(), adapters };
            OpenModel::open(&file, config.library.catalog(), &options)
                .map_err(|error| Failure::Broken { code: error.problem.code(), reason: error.to_string() })
        });
        let open = open.await?;
        let plan = Plan::of(&self.inner.config, &open)?;
        self.make_room(plan.memory_bytes).await?;
        let status = Arc::clone(status);
        let engine = move || {
            let mut progress = |loaded: engine::LoadProgress| {
                let share = loaded.done_bytes as f32 / loaded.total_bytes.max(1) as f32;
                status.send_replace(LoadStatus::Loading(share.clamp(0.0, 1.0)));
            };
            let gguf = Arc::clone(&open.gguf);
            let engine =
                Engine::start_adapted(gguf, &open.config, &open.adapters, plan.engine, &mut progress)
                    .map_err(|error| Failure::Broken {
                        code: engine_code(&error),
                        reason: error.to_string(),
                    })?;
            Ok(Arc::new(LoadedModel {
                name: open.name.clone(),
                digests: std::iter::repeat_with(OnceLock::new).take(1 + open.adapters.len()).collect(),
                grammars: GrammarCompiler::new(Arc::clone(&open.tokenizer)),
                open,
                engine,
                memory_bytes: plan.memory_bytes,
            }))
        };
        on_thread(engine).await
    }

    /// Unloads idle models, the least recently used first, until `needed` bytes are free.
    async fn make_room(&self, needed: u64) -> Result<(), Failure> {
        loop {
            let planned: u64 = self.all_loaded().iter().map(|model| model.memory_bytes).sum();
            let limit = self.inner.config.max_model_bytes;
            let available = room(MachineMemory::read(), limit, planned);
            if needed <= available {
                return Ok(());
            }
            match self.take_idle() {
                Some(idle) => {
                    tracing::info!(model = idle.name, "unloaded: another model needs the memory");
                    // Ends the engine's thread and gives its memory back before the next look.
                    let _ = tokio::task::spawn_blocking(move || drop(idle)).await;
                }
                None => return Err(Failure::NoMemory { needed, available }),
            }
        }
    }

    /// Takes out the model that nobody holds and that was used least recently.
    fn take_idle(&self) -> Option<Arc<LoadedModel>> {
        let mut state = self.state();
        let idle = state.slots.iter().filter_map(|(name, slot)| match slot {
            Slot::Loaded { model, used_at } if Arc::strong_count(model) == 1 => {
                Some((*used_at, name.clone()))
            }
            _ => None,
        });
        let (_, name) = idle.min()?;
        match state.slots.remove(&name) {
            Some(Slot::Loaded { model, .. }) => Some(model),
            _ => None,
        }
    }

    /// Looks up the digests of files that came without one, or computes them when things are calm.
    fn find_digests(&self, local: &LocalModel, model: &Arc<LoadedModel>) {
        let library = &self.inner.config.library;
        let base = LocalModel { sha256: model.open.sha256.clone(), ..local.clone() };
        let adapters = model.open.adapter_files().map(|(file, _)| file);
        for (i, local) in std::iter::once(base).chain(adapters).enumerate() {
            if let Some(known) = library.known_sha256(&local) {
                let _ = model.digests[i].set(known);
                continue;
            }
            let (library, model) = (library.clone(), Arc::downgrade(model));
            tokio::spawn(async move {
                tokio::time::sleep(HASH_DELAY).await;
                let digest = tokio::task::spawn_blocking(move || library.sha256(&local)).await;
                if let (Ok(Ok(digest)), Some(model)) = (digest, model.upgrade()) {
                    let _ = model.digests[i].set(digest);
                }
            });
        }
    }
}

/// Bytes for one more model beside those that are planned for already: what the machine has left, and the limit.
fn room(memory: MachineMemory, limit: Option<u64>, planned: u64) -> u64 {
    // A machine that does not tell its memory is trusted.
    let of_machine = match memory.total_bytes {
        0 => u64::MAX,
        total => memory.available_bytes.min((total - total / 10).saturating_sub(planned)),
    };
    of_machine.min(limit.map_or(u64::MAX, |limit| limit.saturating_sub(planned)))
}

/// How a model is going to run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    engine: EngineConfig,
    memory_bytes: u64,
}

impl Plan {
    fn of(config: &HostConfig, open: &OpenModel) -> Result<Plan, Failure> {
        let trained = open.config.max_seq_len;
        let wish = ContextWish {
            ctx: config.ctx.map(|ctx| ctx.min(trained)),
            kv_memory_bytes: config.kv_memory_bytes,
            n_conversations: 2,
        };
        let total_bytes = MachineMemory::read().total_bytes;
        let plan = ContextPlan::new(wish, trained, kv_bytes_per_token(&open.config), total_bytes);
        let ContextPlan { max_seq_len, kv_memory_bytes } = plan;
        if config.ctx.is_some_and(|asked| asked > trained) {
            tracing::warn!(
                model = open.name,
                "the context is {max_seq_len} tokens, what the model was trained for"
            );
        }
        if config.ctx.is_none() && max_seq_len < trained {
            tracing::warn!(
                model = open.name,
                "the context is {max_seq_len} of the {trained} tokens that the model was trained for, because keys \
                 and values get {} MB here; --kv-memory gives them more",
                kv_memory_bytes / 1_000_000
            );
        }
        let need = open.memory_need(max_seq_len);
        let engine = EngineConfig {
            n_threads: config.n_threads,
            isa: config.isa,
            max_seq_len,
            kv_memory_bytes,
            max_batch_tokens: MAX_BATCH_TOKENS,
            max_running: config.max_running,
            max_queue: config.max_queue,
            prompt_lookup: config.prompt_lookup,
        };
        let memory_bytes = need.weights.saturating_add(need.scratch).saturating_add(kv_memory_bytes);
        Ok(Plan { engine, memory_bytes })
    }
}

/// A word for programs.
fn engine_code(error: &EngineError) -> &'static str {
    match error {
        EngineError::KvMemoryTooSmall { .. } => "kv_memory_too_small",
        EngineError::ContextTooLong { .. } => "context_too_long",
        _ => "bad_model_file",
    }
}

/// Runs on a thread that may block; a panic there is a broken model, not the end of the server.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let panicked = |_| Failure::Broken {
        code: "load_panicked",
        reason: "loading it panicked; please report this with the model's name".to_string(),
    };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_one_more_model_is_the_least_that_anyone_grants() {
        let memory = |total_bytes, available_bytes| MachineMemory { total_bytes, available_bytes };
        assert_eq!(room(memory(100, 50), None, 0), 50, "what others have left");
        assert_eq!(room(memory(100, 80), None, 30), 60, "a tenth of the machine stays free");
        assert_eq!(room(memory(100, 80), Some(40), 30), 10);
        assert_eq!(room(memory(100, 80), Some(20), 30), 0);
        assert_eq!(room(memory(0, 0), Some(40), 30), 10, "a machine that does not tell");
        assert_eq!(room(memory(0, 0), None, 30), u64::MAX);
    }
}
