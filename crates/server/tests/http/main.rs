//! The server over real sockets with the real default model.
#![allow(clippy::unwrap_used)]

mod chat;
mod client;
mod completions;
mod constrained;
mod errors;
mod life;
mod load;
mod security;
mod world;
