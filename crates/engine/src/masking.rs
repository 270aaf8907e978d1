//! The mask of a constrained answer's next token, computed while the forward pass runs.
//!
//! A mask depends on the tokens so far only, so it can be had before the logits are there: before each forward pass the
//! answers that will draw are handed to a helper thread. Whoever comes first computes a mask, the helper or the draw;
//! where the pool leaves no core free the helper may not come to it, and nothing is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::engine::lock;
use crate::request::{BitMask, Constraint, TokenId};

/// A constraint and the mask of its next token.
#[derive(Clone)]
pub(crate) struct Masked {
    slot: Arc<Mutex<Slot>>,
}

pub(crate) struct Slot {
    constraint: Box<dyn Constraint>,
    mask: BitMask,
    state: State,
}

enum State {
    /// The mask is of another token.
    Stale,
    Ready,
    Failed(String),
}

impl Masked {
    /// Nothing is computed yet.
    pub(crate) fn new(constraint: Box<dyn Constraint>, vocab_size: usize) -> Masked {
        let mask = BitMask::all_set(vocab_size);
        Masked { slot: Arc::new(Mutex::new(Slot { constraint, mask, state: State::Stale })) }
    }

    /// Waits for the helper, if it is at this mask.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }
}

impl Slot {
    /// The tokens that may come next, computed now unless that was done before; or why there are none.
    pub(crate) fn mask(&mut self) -> Result<&BitMask, String> {
        self.prepare();
        match &self.state {
            State::Failed(reason) => Err(reason.clone()),
            _ => Ok(&self.mask),
        }
    }

    /// Tells which token was taken; whether the answer is complete.
    pub(crate) fn accept(&mut self, id: TokenId) -> Result<bool, String> {
        let accepted = caught(|| self.constraint.accept(id));
        self.state = match &accepted {
            Ok(_) => State::Stale,
            Err(reason) => State::Failed(reason.clone()),
        };
        accepted
    }

    fn prepare(&mut self) {
        if !matches!(self.state, State::Stale) {
            return;
        }
        self.state = match caught(|| self.constraint.mask(&mut self.mask)) {
            Ok(()) => State::Ready,
            Err(reason) => State::Failed(reason),
        };
    }
}

/// A constraint comes from outside: its panic is this answer's, not the engine's.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("it panicked".to_string()))
}

/// The thread that computes masks beside the forward pass; started with the first constrained answer.
#[derive(Default)]
pub(crate) struct MaskHelper {
    running: Option<(Sender<Vec<Masked>>, JoinHandle<()>)>,
}

impl MaskHelper {
    /// Asks for the masks of these answers; without a thread they are computed when they are drawn from.
    pub(crate) fn begin(&mut self, masked: Vec<Masked>) {
        if masked.is_empty() {
            return;
        }
        if self.running.is_none() {
            let (sender, receiver) = channel::<Vec<Masked>>();
            let work = move || {
                for masked in receiver.iter().flatten() {
                    // A draw that holds it computes it itself.
                    if let Ok(mut slot) = masked.slot.try_lock() {
                        slot.prepare();
                    }
                }
            };
            let thread = std::thread::Builder::new().name("masks".into()).spawn(work);
            self.running = thread.ok().map(|thread| (sender, thread));
        }
        if let Some((sender, _)) = &self.running {
            // The thread lives as long as the sender.
            let _ = sender.send(masked);
        }
    }
}

impl Drop for MaskHelper {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.running.take() {
            drop(sender);
            // It catches the panics of constraints, so that joining cannot fail.
            let _ = thread.join();
        }
    }
}
