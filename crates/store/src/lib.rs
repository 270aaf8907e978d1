//! store: what must survive? Conversations, their trees of messages, running answers, jobs and a few small values, in
//! one embedded SQLite file or in PostgreSQL.
//!
//! Reading order: [`data_dir`] (the folder and its lock) → `database` (connections, one writer, several readers) →
//! `migrations` → [`record`] (what a conversation, a message, a part and an event are) → the queries, one file a
//! subject, all methods of [`Store`]: `conversations`, `messages`, `answers` (events of running answers, recovery),
//! `search`, `transfer` (export and import), `jobs`, `values`.
//!
//! Every query names an owner; another owner's object is [`StoreError::NotFound`]. Nothing here knows HTTP.

#![forbid(unsafe_code)]

mod answers;
mod conversations;
pub mod data_dir;
mod database;
mod deletion;
mod entities;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod grams;
mod ids;
mod jobs;
mod messages;
mod migrations;
pub mod record;
mod search;
mod transfer;
mod values;

pub use answers::FinishedAnswer;
pub use conversations::{
    ConversationChange, ConversationPage, ListQuery, ListedConversation, NewConversation,
};
pub use database::{Store, StoreConfig};
pub use error::StoreError;
pub use ids::{ConversationId, JobId, MessageId, OwnerId};
pub use jobs::{Job, JobMove, JobStatus, JobWish, NewJob};
pub use messages::{NewAnswer, NewTurn, SavedTurn};
pub use record::{Conversation, Event, EventBody, Message, Part, Role, Status};
pub use transfer::{EXPORT_FORMAT, EXPORT_VERSION};
