//! The app API and the turn, over real sockets with the real default model and a real database.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // measured times are printed

mod api;
mod branches;
#[path = "../http/client.rs"]
#[allow(dead_code)]
mod client;
mod crash;
mod hostile;
mod overflow;
mod stopping;
mod streams;
mod talking;
mod titles;
mod transfer;
#[path = "../http/world.rs"]
#[allow(dead_code)]
mod world;
