//! Runs one answer from its begin to its end, whoever looks on or goes away.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use serde_json::{Value as Json, json};
use store::{FinishedAnswer, Message, Part, Status, StoreError};

use super::events::TurnEvent;
use super::history::words_of;
use super::receipt::ReceiptDraft;
use super::run::{Run, Stop};
use super::runs::Slot;
use super::settings::Settings;
use super::start::{Plan, begin_generation};
use super::writer::{Kind, Writer};
use super::written_title::NewTitle;
use crate::app::wire::message_json;
use crate::error::ApiError;
use crate::generation::{FinishReason, Finished, TextEvent, TextGeneration};
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// How often the end of an answer is tried to be saved, with a second more before each try: a disk that is full may be
/// freed.
const SAVE_TRIES: u32 = 6;

/// How far an answer is when it begins to run.
pub(crate) enum Begun {
    /// The engine has its prompt.
    Generation(Arc<LoadedModel>, Box<TextGeneration>),
    /// Its model must be loaded first.
    Waiting(Box<Plan>),
}

/// One answer that runs.
pub(crate) struct Job {
    pub(crate) state: AppState,
    pub(crate) run: Arc<Run>,
    /// Given back when the answer has ended.
    pub(crate) slot: Slot,
    pub(crate) model: String,
    pub(crate) begun: Begun,
    pub(crate) settings: Settings,
    /// The conversation's new title.
    pub(crate) title: Option<String>,
    /// The words of a first question, when the model may write a better title.
    pub(crate) question: Option<String>,
    /// What the answer said before, when it goes on.
    pub(crate) parts: Vec<Part>,
    /// When the person asked.
    pub(crate) since: Instant,
    pub(crate) continued: bool,
}

/// How an answer came to its end.
enum End {
    /// The engine said so.
    Finished { finished: Finished, receipt: Json },
    /// It was stopped before the engine began.
    Stopped,
    /// It failed.
    Failed(ApiError),
}

impl Job {
    /// Runs the answer. Whatever happens, its end is saved and told.
    pub(crate) async fn drive(self) {
        let (state, run, slot) = (self.state.clone(), Arc::clone(&self.run), self.slot);
        let (model, first_words, question) = (self.model.clone(), self.title.clone(), self.question);
        let job = Answer {
            state: self.state,
            run: self.run,
            model: self.model,
            settings: self.settings,
            since: self.since,
            continued: self.continued,
            stop: None,
        };
        let outcome = AssertUnwindSafe(job.run(self.begun, self.title, self.parts)).catch_unwind().await;
        let mut complete = None;
        if let Ok(parts) = outcome {
            complete = parts;
        } else {
            tracing::error!(answer = %run.id, "an answer panicked");
            let error = ApiError::Internal { reason: "an answer was being written" };
            match state.store.interrupt(run.owner, run.id).await {
                Ok(message) => tell_error(&run, &error, &message),
                Err(e) => tracing::error!(answer = %run.id, "its end could not be saved: {e}"),
            }
        }
        // Who waits for the end may begin the next answer.
        drop(slot);
        if let (Some(answer), Some(question)) = (complete, question) {
            let title = NewTitle { model, question, answer, first_words: first_words.unwrap_or_default() };
            title.write(&state, &run).await;
        }
        run.end();
    }
}

struct Answer {
    state: AppState,
    run: Arc<Run>,
    model: String,
    settings: Settings,
    since: Instant,
    continued: bool,
    /// Why it was told to stop, if it was.
    stop: Option<Stop>,
}

impl Answer {
    /// The words of the answer, if it came to its own end.
    async fn run(mut self, begun: Begun, title: Option<String>, parts: Vec<Part>) -> Option<String> {
        let mut writer = Writer::new(self.state.store.clone(), Arc::clone(&self.run), parts);
        if let Some(title) = title {
            writer.tell(&TurnEvent::Title(title));
        }
        let end = match self.begin(begun, &mut writer).await {
            Ok(Some((model, generation))) => self.generate(&model, *generation, &mut writer).await,
            Ok(None) => End::Stopped,
            Err(error) => End::Failed(error),
        };
        let parts = writer.finish().await;
        let words = words_of(&parts);
        self.finish(end, parts).await.then_some(words)
    }

    /// The model in memory and the prompt in the engine; none if it was stopped before that.
    async fn begin(
        &mut self,
        begun: Begun,
        writer: &mut Writer,
    ) -> Result<Option<(Arc<LoadedModel>, Box<TextGeneration>)>, ApiError> {
        let plan = match begun {
            Begun::Generation(model, generation) => return Ok(Some((model, generation))),
            Begun::Waiting(plan) => plan,
        };
        let run = Arc::clone(&self.run);
        writer.tell(&TurnEvent::Loading { progress: 0.0 });
        let mut shown = 0.0;
        let on_progress = |progress: f32| {
            // One event a hundredth at most.
            if progress >= shown + 0.01 {
                shown = progress;
                run.publish(&TurnEvent::Loading { progress });
            }
        };
        let (state, model_name) = (self.state.clone(), self.model.clone());
        let started = async {
            let model = state.models.get_watching(&model_name, on_progress).await?;
            let generation = begin_generation(&state, &model, &plan).await?;
            Ok::<_, ApiError>((model, Box::new(generation)))
        };
        tokio::select! {
            biased;
            why = self.run.stopped() => {
                self.stop = Some(why);
                Ok(None)
            }
            started = started => started.map(Some),
        }
    }

    /// Takes what the engine says until it ends.
    async fn generate(
        &mut self,
        model: &LoadedModel,
        mut generation: TextGeneration,
        writer: &mut Writer,
    ) -> End {
        let draft = ReceiptDraft::of(&generation);
        if generation.dropped.n_messages > 0 {
            writer.tell(&TurnEvent::DroppedTurns {
                n_messages: generation.dropped.n_messages,
                n_tokens: generation.dropped.n_tokens,
            });
        }
        let run = Arc::clone(&self.run);
        let mut first_token = None;
        loop {
            let tick = writer.next_tick().map(tokio::time::Instant::from_std);
            let is_behind = writer.is_behind();
            let event = tokio::select! {
                biased;
                why = run.stopped(), if self.stop.is_none() => {
                    self.stop = Some(why);
                    generation.cancel();
                    continue;
                }
                saved = writer.saved() => match saved {
                    Ok(()) => continue,
                    // Going on would show what is not kept.
                    Err(error) => return End::Failed(error.into()),
                },
                () = sleep_until(tick) => {
                    writer.tick();
                    continue;
                }
                event = generation.next(), if !is_behind => event,
            };
            match event {
                Some(TextEvent::Queued { position }) => writer.tell(&TurnEvent::Queued { position }),
                Some(TextEvent::Prefill { done, total, .. }) => {
                    writer.tell(&TurnEvent::Prefill { done, total })
                }
                Some(TextEvent::Text(text)) => {
                    first_token.get_or_insert_with(|| self.since.elapsed());
                    writer.say(Kind::Text, &text);
                }
                Some(TextEvent::Reasoning(text)) => {
                    first_token.get_or_insert_with(|| self.since.elapsed());
                    writer.say(Kind::Reasoning, &text);
                }
                Some(TextEvent::Tokens(_)) => {}
                Some(TextEvent::Done(finished)) => {
                    let receipt = draft.finish(
                        &self.state,
                        model,
                        &self.settings,
                        &finished,
                        first_token,
                        self.continued,
                    );
                    return End::Finished { finished, receipt };
                }
                Some(TextEvent::Failed(error)) => return End::Failed(error),
                None => {
                    let reason = "the engine ended an answer without a word".to_owned();
                    return End::Failed(ApiError::EngineFailed { reason });
                }
            }
        }
    }

    /// Saves the end, then tells it. True if the answer is complete.
    async fn finish(&self, end: End, parts: Vec<Part>) -> bool {
        let interrupted = || {
            Some(json!({
                "code": "interrupted",
                "message": "the server ended while this answer was being written",
            }))
        };
        let by_shutdown = self.stop == Some(Stop::Shutdown);
        let mut failure = None;
        let (status, error, receipt) = match end {
            End::Finished { finished, receipt } => match finished.reason {
                FinishReason::Stop | FinishReason::Length => (Status::Complete, None, Some(receipt)),
                FinishReason::Cancelled => {
                    let error = if by_shutdown { interrupted() } else { None };
                    (Status::Stopped, error, Some(receipt))
                }
            },
            End::Stopped => (Status::Stopped, if by_shutdown { interrupted() } else { None }, None),
            End::Failed(ApiError::ShuttingDown) => (Status::Stopped, interrupted(), None),
            End::Failed(error) => {
                if error.status().is_server_error() {
                    tracing::warn!(answer = %self.run.id, code = error.code(), "an answer failed: {error}");
                }
                let told = error_json(&error);
                failure = Some(error);
                (Status::Failed, Some(told), None)
            }
        };
        let end = FinishedAnswer { status, parts, receipt, error, last_seq: self.run.next_seq() };
        let mut complete = status == Status::Complete;
        match self.save(end).await {
            Ok(message) => match &failure {
                Some(error) => tell_error(&self.run, error, &message),
                None => _ = self.run.publish(&TurnEvent::Done(message_json(&message))),
            },
            // Deleted for good while it ran: nobody asks for it any more.
            Err(StoreError::NotFound { .. }) => complete = false,
            Err(error) => {
                complete = false;
                tracing::error!(answer = %self.run.id, "the end of an answer could not be saved: {error}");
                let error = ApiError::from(error);
                let event = TurnEvent::Error { error: error_json(&error), message: Json::Null };
                self.run.publish(&event);
            }
        }
        complete
    }

    async fn save(&self, end: FinishedAnswer) -> Result<Message, StoreError> {
        let mut tries = 1;
        loop {
            let saved = self.state.store.finish_answer(self.run.owner, self.run.id, end.clone()).await;
            match saved {
                Err(StoreError::NotFound { .. } | StoreError::Conflict { .. }) => return saved,
                Err(error) if tries < SAVE_TRIES => {
                    tracing::warn!(answer = %self.run.id, "saving an answer failed, trying again: {error}");
                    tokio::time::sleep(Duration::from_secs(u64::from(tries))).await;
                    tries += 1;
                }
                other => return other,
            }
        }
    }
}

fn tell_error(run: &Run, error: &ApiError, message: &Message) {
    run.publish(&TurnEvent::Error { error: error_json(error), message: message_json(message) });
}

/// `{code, message, …}`, as a failed message keeps it.
fn error_json(error: &ApiError) -> Json {
    let mut told = error.to_json();
    told["error"].take()
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
