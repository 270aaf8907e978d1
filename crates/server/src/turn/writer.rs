//! From what a model says to the screens and the disk.
//!
//! Pieces that come close together are shown as one event. What was shown is saved in batches, one at a time, while the
//! answer goes on. The disk is never more than a second behind the screens: when it is slow, the screens wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use store::{Event, Part, Store, StoreError};
use tokio::task::JoinHandle;

use super::events::TurnEvent;
use super::run::Run;

/// Pieces closer together than this are one event; 40 a second look smooth.
const SHOW_EVERY: Duration = Duration::from_millis(25);
/// The oldest event that is not saved begins a batch at this age.
const SAVE_AFTER: Duration = Duration::from_millis(300);
/// Nothing more is shown while an event older than this is not on disk, which leaves room for a slow commit within the
/// promised second.
const MAX_BEHIND: Duration = Duration::from_millis(700);

/// Which part of an answer a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Reasoning,
}

/// Writes one answer.
pub(crate) struct Writer {
    store: Store,
    run: Arc<Run>,
    /// All that was said so far.
    parts: Vec<Part>,
    /// When the reasoning that is going on began.
    reasoning_since: Option<Instant>,
    /// Said, but not shown yet.
    buffer: Option<(Kind, String)>,
    shown_at: Option<Instant>,
    /// Shown, but not saved yet, and since when.
    unsaved: Vec<Event>,
    unsaved_since: Option<Instant>,
    /// The batch on its way to the disk, and when its oldest event was shown.
    saving: Option<(JoinHandle<Result<(), StoreError>>, Instant)>,
}

impl Writer {
    /// A writer that goes on behind these parts.
    pub(crate) fn new(store: Store, run: Arc<Run>, parts: Vec<Part>) -> Writer {
        Writer {
            store,
            run,
            parts,
            reasoning_since: None,
            buffer: None,
            shown_at: None,
            unsaved: Vec::new(),
            unsaved_since: None,
            saving: None,
        }
    }

    /// Shows an event that is not text.
    pub(crate) fn tell(&mut self, event: &TurnEvent) {
        self.show_buffer();
        self.show(event);
    }

    /// Takes the next piece of the answer; the first is shown at once.
    pub(crate) fn say(&mut self, kind: Kind, text: &str) {
        if text.is_empty() {
            return;
        }
        self.add_to_parts(kind, text);
        match &mut self.buffer {
            Some((buffered, so_far)) if *buffered == kind => so_far.push_str(text),
            _ => {
                self.show_buffer();
                self.buffer = Some((kind, text.to_owned()));
            }
        }
        self.tick();
    }

    /// When [`Writer::tick`] has something to do.
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let show_at =
            self.buffer.as_ref().map(|_| self.shown_at.map_or_else(Instant::now, |at| at + SHOW_EVERY));
        let show_at = show_at.filter(|_| !self.is_behind());
        let save_at = self.unsaved_since.filter(|_| self.saving.is_none()).map(|since| since + SAVE_AFTER);
        [show_at, save_at].into_iter().flatten().min()
    }

    /// Shows and saves what is due.
    pub(crate) fn tick(&mut self) {
        if self.shown_at.is_none_or(|at| at.elapsed() >= SHOW_EVERY) && !self.is_behind() {
            self.show_buffer();
        }
        if self.saving.is_none()
            && let Some(since) = self.unsaved_since.take_if(|since| since.elapsed() >= SAVE_AFTER)
        {
            let (store, run) = (self.store.clone(), Arc::clone(&self.run));
            let events = std::mem::take(&mut self.unsaved);
            let task = tokio::spawn(async move { store.append_events(run.owner, run.id, events).await });
            self.saving = Some((task, since));
        }
    }

    /// Whether the disk is so far behind that the screens must wait.
    pub(crate) fn is_behind(&self) -> bool {
        let oldest = self.saving.as_ref().map(|(_, since)| *since).or(self.unsaved_since);
        oldest.is_some_and(|since| since.elapsed() >= MAX_BEHIND)
    }

    /// Returns once the batch on its way is on disk; for ever pending if there is none. May be dropped and called again.
    pub(crate) async fn saved(&mut self) -> Result<(), StoreError> {
        let Some((task, _)) = &mut self.saving else { return std::future::pending().await };
        let outcome = task.await;
        self.saving = None;
        // A task that panicked saved nothing that could be relied on.
        outcome.unwrap_or(Err(StoreError::Conflict {
            code: "save_failed",
            reason: "an answer could not be saved".to_owned(),
        }))
    }

    /// Shows what is left and gives back all that was said. The batch on its way is waited for, so that nothing is
    /// saved after the end.
    pub(crate) async fn finish(mut self) -> Vec<Part> {
        self.show_buffer();
        self.end_reasoning();
        if self.saving.is_some() {
            // The end itself saves everything, so an error here says nothing yet.
            let _ = self.saved().await;
        }
        self.parts
    }

    fn show_buffer(&mut self) {
        if let Some((kind, text)) = self.buffer.take() {
            self.shown_at = Some(Instant::now());
            self.show(&match kind {
                Kind::Text => TurnEvent::Text(text),
                Kind::Reasoning => TurnEvent::Reasoning(text),
            });
        }
    }

    fn show(&mut self, event: &TurnEvent) {
        let seq = self.run.publish(event);
        if let Some(body) = event.to_stored() {
            self.unsaved_since.get_or_insert_with(Instant::now);
            self.unsaved.push(Event { seq, body });
        }
    }

    fn add_to_parts(&mut self, kind: Kind, more: &str) {
        match (kind, self.parts.last_mut()) {
            (Kind::Text, Some(Part::Text { text }))
            | (Kind::Reasoning, Some(Part::Reasoning { text, .. })) => {
                text.push_str(more);
            }
            (Kind::Text, _) => {
                self.end_reasoning();
                self.parts.push(Part::Text { text: more.to_owned() });
            }
            (Kind::Reasoning, _) => {
                self.reasoning_since = Some(Instant::now());
                self.parts.push(Part::Reasoning { text: more.to_owned(), seconds: None });
            }
        }
    }

    /// Notes how long the reasoning took.
    fn end_reasoning(&mut self) {
        let took =
            self.reasoning_since.take().map(|since| (since.elapsed().as_secs_f64() * 10.0).round() / 10.0);
        if let (Some(took), Some(Part::Reasoning { seconds, .. })) = (took, self.parts.last_mut()) {
            *seconds = Some(seconds.unwrap_or(0.0) + took);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use store::{NewConversation, NewTurn, StoreConfig};

    use super::*;

    async fn running_answer(dir: &std::path::Path) -> (Store, Arc<Run>) {
        let config = StoreConfig { data_dir: dir.to_owned(), database_url: None };
        let store = Store::open(config).await.unwrap();
        let owner = store.local_owner();
        let id = store.create_conversation(owner, NewConversation::default()).await.unwrap().id;
        let turn = NewTurn {
            client_id: None,
            parent_id: None,
            parts: vec![Part::Text { text: "hi".into() }],
            model: "m".into(),
            title: None,
        };
        let saved = store.begin_turn(owner, id, turn).await.unwrap();
        (store, Arc::new(Run::new(owner, id, saved.answer.id, 0)))
    }

    #[tokio::test]
    async fn the_first_piece_is_shown_at_once_and_the_next_ones_together() {
        let dir = tempfile::tempdir().unwrap();
        let (store, run) = running_answer(dir.path()).await;
        let mut writer = Writer::new(store, Arc::clone(&run), Vec::new());
        writer.say(Kind::Text, "a");
        assert_eq!(run.next_seq(), 2, "the first piece has been shown");
        writer.say(Kind::Text, "b");
        writer.say(Kind::Text, "c");
        let parts = writer.finish().await;
        assert_eq!(parts, [Part::Text { text: "abc".into() }]);
        run.end();
        let mut follower = run.follow(1);
        let event = follower.next().await.unwrap();
        assert_eq!(&*event.json, r#"{"seq":2,"type":"text","text":"bc"}"#);
        assert!(follower.next().await.is_none());
    }

    #[tokio::test]
    async fn what_was_shown_is_on_disk_within_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let (store, run) = running_answer(dir.path()).await;
        let mut writer = Writer::new(store.clone(), Arc::clone(&run), Vec::new());
        let begin = Instant::now();
        writer.say(Kind::Reasoning, "hm ");
        writer.say(Kind::Text, "yes");
        while begin.elapsed() < Duration::from_millis(900) {
            let tick = writer.next_tick().map(tokio::time::Instant::from_std);
            tokio::select! {
                saved = writer.saved() => saved.unwrap(),
                () = async { tokio::time::sleep_until(tick.unwrap()).await }, if tick.is_some() => writer.tick(),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        let message = store.message(run.owner, run.id).await.unwrap();
        assert_eq!(message.parts.len(), 2);
        assert_eq!((message.parts[1].text(), message.last_seq), ("yes", 2));
        let parts = writer.finish().await;
        assert!(matches!(&parts[0], Part::Reasoning { seconds: Some(_), .. }), "{parts:?}");
    }

    #[tokio::test]
    async fn the_screens_wait_for_a_disk_that_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (store, run) = running_answer(dir.path()).await;
        let mut writer = Writer::new(store, Arc::clone(&run), Vec::new());
        writer.saving = Some((tokio::spawn(std::future::pending()), Instant::now()));
        writer.say(Kind::Text, "a");
        tokio::time::sleep(MAX_BEHIND).await;
        writer.say(Kind::Text, "b");
        assert!(writer.is_behind() && writer.next_tick().is_none());
        assert_eq!(run.next_seq(), 2, "only the first piece has been shown");
    }
}
