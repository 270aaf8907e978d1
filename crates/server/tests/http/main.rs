//! The server over real sockets with the real default model.
#![allow(clippy::unwrap_used)]

mod chat;
mod client;
mod completions;
mod constrained;
mod downloads;
mod errors;
mod life;
mod load;
mod memory;
mod security;
mod soak;
mod world;
