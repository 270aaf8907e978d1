//! The turn: what a person says → prompt → engine → numbered events → disk and screens.
//!
//! `settings` (what a conversation may choose) and `history` (its branch as the model sees it) make the prompt;
//! `start` checks that it fits, saves the message and the answer that is going to run, and only then tells anybody;
//! `drive` runs the answer and saves what it says (`writer`), never more than a second behind the screens. A running
//! answer is a [`run::Run`]: a log of events that any number of screens read from any place (`run`). It belongs to the
//! server and goes on when they leave. [`Runs`] knows them all. A conversation's title is its first words (`title`),
//! until the model has written a better one (`written_title`).

mod drive;
pub(crate) mod events;
pub(crate) mod history;
mod receipt;
pub(crate) mod run;
mod runs;
pub(crate) mod settings;
pub(crate) mod start;
mod title;
mod writer;
mod written_title;

pub(crate) use runs::Runs;
