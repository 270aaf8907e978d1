//! The answers to one request, in progress together: `n` to each prompt, told apart by their index.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use serde::Serialize;
use serde_json::json;

use super::wire::{CompletionTokensDetails, PromptTokensDetails, WireUsage};
use crate::error::ApiError;
use crate::generation::{self, FinishReason, Finished, Params, PreparedPrompt, TextEvent};
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// How often a stream that has nothing to say shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Answers in progress. Dropping them cancels all.
pub(super) struct Answers {
    events: SelectAll<BoxStream<'static, (usize, TextEvent)>>,
    /// Answers to each prompt.
    n: usize,
    usage: WireUsage,
}

impl Answers {
    /// Submits every prompt `n` times, all or none. The seeds of one prompt's answers follow one another.
    pub(super) fn start(
        state: &AppState,
        model: &Arc<LoadedModel>,
        prompts: &[PreparedPrompt],
        n: usize,
        params: &Params,
    ) -> Result<Answers, ApiError> {
        let mut events = SelectAll::new();
        let mut seed = params.seed;
        for (prompt_idx, prompt) in prompts.iter().enumerate() {
            for answer_idx in 0..n {
                let params =
                    Params { seed: seed.map(|seed| seed.wrapping_add(answer_idx as u64)), ..params.clone() };
                let generation = generation::generate(state, model, prompt, params)?;
                seed = seed.or(Some(generation.seed));
                let index = prompt_idx * n + answer_idx;
                events.push(generation.into_stream().map(move |event| (index, event)).boxed());
            }
        }
        Ok(Answers { events, n, usage: WireUsage::default() })
    }

    /// The next event of any answer, with the answer's index; none after the last of all.
    pub(super) async fn next(&mut self) -> Option<(usize, TextEvent)> {
        let (index, event) = self.events.next().await?;
        if let TextEvent::Done(Finished { usage, .. }) = &event {
            // A prompt counts once, however many answers it gets.
            if index.is_multiple_of(self.n) {
                self.usage.prompt_tokens += usage.prompt_tokens;
                self.usage.prompt_tokens_details.cached_tokens += usage.cached_tokens;
            }
            self.usage.completion_tokens += usage.completion_tokens;
            self.usage.completion_tokens_details.reasoning_tokens += usage.reasoning_tokens;
            self.usage.total_tokens = self.usage.prompt_tokens + self.usage.completion_tokens;
        }
        Some((index, event))
    }

    /// Of all answers that have ended.
    pub(super) fn usage(&self) -> WireUsage {
        self.usage
    }
}

impl WireUsage {
    /// Of prompts that were only read.
    pub(super) fn of_prompts(prompts: &[PreparedPrompt]) -> WireUsage {
        let prompt_tokens = prompts.iter().map(|prompt| prompt.ids.len()).sum();
        WireUsage {
            prompt_tokens,
            completion_tokens: 0,
            total_tokens: prompt_tokens,
            prompt_tokens_details: PromptTokensDetails::default(),
            completion_tokens_details: CompletionTokensDetails::default(),
        }
    }
}

/// OpenAI's word for an end.
pub(super) fn finish_reason(reason: FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Cancelled => "stop",
        FinishReason::Length => "length",
    }
}

/// What a streamed answer sends, one line of JSON an event.
pub(super) trait Told: Send + 'static {
    /// The next lines; empty when there is nothing to say, none at the end.
    fn next_lines(&mut self) -> impl Future<Output = Option<Vec<String>>> + Send;
}

/// The response that sends them.
pub(super) fn event_stream(told: impl Told) -> Response {
    let events = futures::stream::unfold(Some(told), |told| async {
        let mut told = told?;
        match told.next_lines().await {
            Some(lines) => Some((lines, Some(told))),
            None => Some((vec!["[DONE]".to_string()], None)),
        }
    });
    let events = events.flat_map(futures::stream::iter);
    let events = events.map(|line| Ok::<_, Infallible>(Event::default().data(line)));
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that buffer would undo the streaming.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    response
}

/// One line of JSON.
pub(super) fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| {
        let reason =
            json!({"error": {"message": error.to_string(), "type": "server_error", "code": "internal"}});
        reason.to_string()
    })
}
