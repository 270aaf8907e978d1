//! One running answer as the screens see it: a log of numbered events that only grows, until it ends.
//!
//! Every screen reads the log at its own pace from the number it knows, so none can miss an event or hold up another,
//! and the answer itself waits for nobody.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use store::{ConversationId, MessageId, OwnerId};
use tokio::sync::watch;

use super::events::TurnEvent;

/// Why an answer is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The person wants it.
    Asked,
    /// The server ends.
    Shutdown,
}

/// A running answer, or one that ended a short while ago.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: MessageId,
    pub(crate) owner: OwnerId,
    pub(crate) conversation_id: ConversationId,
    log: Mutex<Log>,
    /// Changes whenever the log does.
    changed: watch::Sender<()>,
    stop: watch::Sender<Option<Stop>>,
}

#[derive(Debug)]
struct Log {
    /// The numbers are in order, but not without gaps.
    events: Vec<LoggedEvent>,
    next_seq: u64,
    ended_at: Option<Instant>,
}

/// An event in the log: its number and its JSON text, shared by all screens.
#[derive(Debug, Clone)]
pub(crate) struct LoggedEvent {
    pub(crate) seq: u64,
    pub(crate) json: Arc<str>,
}

impl Run {
    /// An empty log whose numbers go on after `last_seq`.
    pub(crate) fn new(owner: OwnerId, conversation_id: ConversationId, id: MessageId, last_seq: u64) -> Run {
        Run {
            id,
            owner,
            conversation_id,
            log: Mutex::new(Log { events: Vec::new(), next_seq: last_seq + 1, ended_at: None }),
            changed: watch::Sender::new(()),
            stop: watch::Sender::new(None),
        }
    }

    /// Shows an event to all screens. Returns its number.
    pub(crate) fn publish(&self, event: &TurnEvent) -> u64 {
        let mut log = self.log();
        let seq = log.next_seq;
        log.next_seq += 1;
        log.events.push(LoggedEvent { seq, json: event.to_json(seq).to_string().into() });
        drop(log);
        self.changed.send_replace(());
        seq
    }

    /// The number that the next event will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.log().next_seq
    }

    /// Nothing follows any more.
    pub(crate) fn end(&self) {
        self.log().ended_at.get_or_insert_with(Instant::now);
        self.changed.send_replace(());
    }

    /// When it ended.
    pub(crate) fn ended_at(&self) -> Option<Instant> {
        self.log().ended_at
    }

    /// Tells the answer to stop; it ends soon after, saved. The first reason counts.
    pub(crate) fn stop(&self, why: Stop) {
        self.stop.send_if_modified(|now| {
            let first = now.is_none();
            now.get_or_insert(why);
            first
        });
    }

    /// Returns once the answer has been told to stop.
    pub(crate) async fn stopped(&self) -> Stop {
        let mut stop = self.stop.subscribe();
        loop {
            if let Some(why) = *stop.borrow_and_update() {
                return why;
            }
            // The sender lives in `self`, so the wait cannot fail.
            let _ = stop.changed().await;
        }
    }

    /// The events after this number, first those that are there, then those that come.
    pub(crate) fn follow(self: &Arc<Run>, after: u64) -> Follower {
        let next_idx = self.log().events.partition_point(|event| event.seq <= after);
        Follower { changed: self.changed.subscribe(), run: Arc::clone(self), next_idx }
    }

    /// Returns once the answer has ended.
    pub(crate) async fn ended(self: &Arc<Run>) {
        let mut changed = self.changed.subscribe();
        while self.ended_at().is_none() {
            let _ = changed.changed().await;
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// One screen's place in the log.
#[derive(Debug)]
pub(crate) struct Follower {
    run: Arc<Run>,
    changed: watch::Receiver<()>,
    next_idx: usize,
}

impl Follower {
    /// The next event; none after the end.
    pub(crate) async fn next(&mut self) -> Option<LoggedEvent> {
        loop {
            self.changed.borrow_and_update();
            {
                let log = self.run.log();
                if let Some(event) = log.events.get(self.next_idx) {
                    self.next_idx += 1;
                    return Some(event.clone());
                }
                if log.ended_at.is_some() {
                    return None;
                }
            }
            self.changed.changed().await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(last_seq: u64) -> Arc<Run> {
        Arc::new(Run::new(OwnerId::new(), ConversationId::new(), MessageId::new(), last_seq))
    }

    async fn rest(mut follower: Follower) -> Vec<u64> {
        let mut seqs = Vec::new();
        while let Some(event) = follower.next().await {
            seqs.push(event.seq);
        }
        seqs
    }

    #[tokio::test]
    async fn a_screen_gets_what_was_said_before_and_after_it_came() {
        let run = run(0);
        run.publish(&TurnEvent::Text("a".into()));
        run.publish(&TurnEvent::Text("b".into()));
        let (all, late) = (tokio::spawn(rest(run.follow(0))), tokio::spawn(rest(run.follow(1))));
        tokio::task::yield_now().await;
        run.publish(&TurnEvent::Text("c".into()));
        tokio::task::yield_now().await;
        run.end();
        assert_eq!(all.await.unwrap_or_default(), [1, 2, 3]);
        assert_eq!(late.await.unwrap_or_default(), [2, 3]);
        assert_eq!(rest(run.follow(3)).await, [] as [u64; 0]);
        assert_eq!(rest(run.follow(u64::MAX)).await, [] as [u64; 0]);
    }

    #[tokio::test]
    async fn the_numbers_of_a_continued_answer_go_on() {
        let run = run(7);
        assert_eq!(run.publish(&TurnEvent::Text("a".into())), 8);
        run.end();
        assert_eq!(rest(run.follow(0)).await, [8]);
    }

    #[tokio::test]
    async fn the_first_reason_to_stop_counts() {
        let run = run(0);
        run.stop(Stop::Asked);
        run.stop(Stop::Shutdown);
        assert_eq!(run.stopped().await, Stop::Asked);
    }
}
