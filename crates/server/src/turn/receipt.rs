//! The receipt of an answer: how it came to be, so that it can be judged and replayed.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::settings::Settings;
use crate::generation::{FinishReason, Finished, TextGeneration};
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// What is known when the generation begins.
pub(crate) struct ReceiptDraft {
    seed: u64,
    n_kept_messages: usize,
    n_dropped_messages: usize,
    n_dropped_tokens: usize,
}

impl ReceiptDraft {
    /// The facts of a generation that has begun.
    pub(crate) fn of(generation: &TextGeneration) -> ReceiptDraft {
        ReceiptDraft {
            seed: generation.seed,
            n_kept_messages: generation.n_kept_messages,
            n_dropped_messages: generation.dropped.n_messages,
            n_dropped_tokens: generation.dropped.n_tokens,
        }
    }

    /// The receipt of an answer that ended like this.
    pub(crate) fn finish(
        &self,
        state: &AppState,
        model: &LoadedModel,
        settings: &Settings,
        finished: &Finished,
        first_token: Option<Duration>,
        continued: bool,
    ) -> Json {
        let timings = &finished.timings;
        let n_read = finished.usage.prompt_tokens.saturating_sub(finished.usage.cached_tokens);
        let mut receipt = json!({
            "model": {
                "name": model.name,
                "sha256": model.sha256(),
                "template_hash": model.template_hash(),
            },
            "build": {"version": state.config.build.version, "commit": state.config.build.commit},
            "isa": state.config.isa.name(),
            "settings": settings.in_force(self.seed).to_json(),
            "prompt_tokens": finished.usage.prompt_tokens,
            "cached_tokens": finished.usage.cached_tokens,
            "completion_tokens": finished.usage.completion_tokens,
            "reasoning_tokens": finished.usage.reasoning_tokens,
            "kept": {"n_messages": self.n_kept_messages},
            "dropped": {"n_messages": self.n_dropped_messages, "n_tokens": self.n_dropped_tokens},
            "finish_reason": match finished.reason {
                FinishReason::Stop => "stop",
                FinishReason::Length => "length",
                FinishReason::Cancelled => "cancelled",
            },
            "time_to_first_token_ms": first_token.map(|after| round(after.as_secs_f64() * 1000.0)),
            // The first token belongs to the prompt: the time of the answer begins with it.
            "tokens_per_second": rate(finished.usage.completion_tokens.saturating_sub(1), timings.decode_s),
            "prefill_tokens_per_second": rate(n_read, timings.prefill_s),
            "queue_ms": round(timings.queue_s * 1000.0),
        });
        let adapters: Vec<Json> = (model.adapters())
            .map(|(name, sha256, scale)| json!({"name": name, "sha256": sha256, "scale": scale}))
            .collect();
        if !adapters.is_empty() {
            receipt["model"]["adapters"] = adapters.into();
        }
        if continued {
            receipt["continued"] = true.into();
        }
        receipt
    }
}

/// Per second, or null where there was nothing to measure.
fn rate(n: usize, seconds: f64) -> Option<f64> {
    (n > 0 && seconds > 0.0).then(|| round(n as f64 / seconds))
}

/// One decimal.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
