//! All running answers of the server, and those that ended a short while ago, so that a screen which comes a moment too
//! late still finds every event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use store::{ConversationId, MessageId, OwnerId};
use tokio::sync::watch;

use super::run::{Run, Stop};
use crate::error::ApiError;

/// Answers that one owner may have running: a few conversations side by side.
const MAX_RUNNING_PER_OWNER: usize = 8;
/// How long the events of an answer that ended can be replayed one by one.
const KEEP_ENDED: Duration = Duration::from_secs(120);
/// How many ended answers are kept at most.
const MAX_ENDED: usize = 64;
/// How long a stopped answer has to be saved when the server ends.
const SAVE_LIMIT: Duration = Duration::from_secs(5);

/// The running answers.
#[derive(Debug)]
pub(crate) struct Runs {
    state: Mutex<State>,
    n_running: watch::Sender<usize>,
    closing: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    runs: HashMap<MessageId, Arc<Run>>,
    n_by_owner: HashMap<OwnerId, usize>,
    closed: bool,
}

/// The right to run one answer; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    runs: Arc<Runs>,
    owner: OwnerId,
}

impl Slot {
    /// Whose it is.
    pub(crate) fn owner(&self) -> OwnerId {
        self.owner
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.runs.state();
        if let Some(n) = state.n_by_owner.get_mut(&self.owner) {
            *n -= 1;
            if *n == 0 {
                state.n_by_owner.remove(&self.owner);
            }
        }
        drop(state);
        self.runs.n_running.send_modify(|n| *n -= 1);
    }
}

impl Runs {
    /// None run yet.
    pub(crate) fn new() -> Arc<Runs> {
        Arc::new(Runs {
            state: Mutex::default(),
            n_running: watch::Sender::new(0),
            closing: watch::Sender::new(false),
        })
    }

    /// How many answers run.
    pub(crate) fn n_running(&self) -> usize {
        *self.n_running.borrow()
    }

    /// The right to run one more answer for this owner.
    pub(crate) fn reserve(self: &Arc<Runs>, owner: OwnerId) -> Result<Slot, ApiError> {
        let mut state = self.state();
        if state.closed {
            return Err(ApiError::ShuttingDown);
        }
        let n = state.n_by_owner.entry(owner).or_default();
        if *n >= MAX_RUNNING_PER_OWNER {
            return Err(ApiError::TooManyAnswers { limit: MAX_RUNNING_PER_OWNER });
        }
        *n += 1;
        drop(state);
        self.n_running.send_modify(|n| *n += 1);
        Ok(Slot { runs: Arc::clone(self), owner })
    }

    /// Makes an answer known to the screens.
    pub(crate) fn add(&self, run: Run) -> Arc<Run> {
        let run = Arc::new(run);
        let mut state = self.state();
        forget_ended(&mut state.runs);
        state.runs.insert(run.id, Arc::clone(&run));
        run
    }

    /// A running answer, or one that ended a short while ago.
    pub(crate) fn get(&self, owner: OwnerId, id: MessageId) -> Option<Arc<Run>> {
        self.state().runs.get(&id).filter(|run| run.owner == owner).cloned()
    }

    /// The answers of a conversation that run.
    pub(crate) fn of_conversation(&self, owner: OwnerId, id: ConversationId) -> Vec<Arc<Run>> {
        let state = self.state();
        let runs = state.runs.values().filter(|run| run.owner == owner && run.conversation_id == id);
        runs.filter(|run| run.ended_at().is_none()).cloned().collect()
    }

    /// Stops the running answers of a conversation.
    pub(crate) fn stop_conversation(&self, owner: OwnerId, id: ConversationId) {
        for run in self.of_conversation(owner, id) {
            run.stop(Stop::Asked);
        }
    }

    /// Lets no new answer begin, waits up to `grace` for those that run, then stops the rest and waits until what they
    /// have said is saved.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.state().closed = true;
        self.closing.send_replace(true);
        if self.idle_within(grace).await {
            return;
        }
        for run in self.state().runs.values() {
            run.stop(Stop::Shutdown);
        }
        if !self.idle_within(SAVE_LIMIT).await {
            tracing::warn!(
                n = self.n_running(),
                "answers could not be saved in time; the next start recovers them"
            );
        }
    }

    /// Returns once the server is ending; what nobody waits for stops then.
    pub(crate) async fn closing(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Whether nothing runs any more, at the latest after `limit`.
    async fn idle_within(&self, limit: Duration) -> bool {
        let mut n_running = self.n_running.subscribe();
        tokio::time::timeout(limit, n_running.wait_for(|n| *n == 0)).await.is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn forget_ended(runs: &mut HashMap<MessageId, Arc<Run>>) {
    runs.retain(|_, run| run.ended_at().is_none_or(|at| at.elapsed() < KEEP_ENDED));
    let mut ended: Vec<_> = runs.values().filter_map(|run| Some((run.ended_at()?, run.id))).collect();
    if ended.len() > MAX_ENDED {
        ended.sort_unstable_by_key(|(at, _)| *at);
        for (_, id) in &ended[..ended.len() - MAX_ENDED] {
            runs.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::turn::events::TurnEvent;

    #[tokio::test]
    async fn an_owner_has_a_limit_and_the_right_comes_back() {
        let (runs, owner) = (Runs::new(), OwnerId::new());
        let mut slots: Vec<_> = (0..MAX_RUNNING_PER_OWNER).map(|_| runs.reserve(owner).unwrap()).collect();
        assert!(matches!(runs.reserve(owner), Err(ApiError::TooManyAnswers { .. })));
        assert!(runs.reserve(OwnerId::new()).is_ok());
        slots.pop();
        assert!(runs.reserve(owner).is_ok());
        drop(slots);
        assert_eq!(runs.n_running(), 0);
    }

    #[tokio::test]
    async fn shutdown_waits_then_stops_what_is_left() {
        let (runs, owner) = (Runs::new(), OwnerId::new());
        let slot = runs.reserve(owner).unwrap();
        let run = runs.add(Run::new(owner, ConversationId::new(), MessageId::new(), 0));
        let answer = tokio::spawn({
            let run = Arc::clone(&run);
            async move {
                let why = run.stopped().await;
                run.publish(&TurnEvent::Text("saved".into()));
                drop(slot);
                why
            }
        });
        runs.shutdown(Duration::from_millis(10)).await;
        assert_eq!(answer.await.unwrap(), Stop::Shutdown);
        assert!(matches!(runs.reserve(owner), Err(ApiError::ShuttingDown)));
    }

    #[tokio::test]
    async fn nobody_finds_the_run_of_somebody_else() {
        let (runs, owner, id) = (Runs::new(), OwnerId::new(), MessageId::new());
        runs.add(Run::new(owner, ConversationId::new(), id, 0));
        assert!(runs.get(owner, id).is_some());
        assert!(runs.get(OwnerId::new(), id).is_none());
    }
}
