//! The store's promises, each held on SQLite and on a real PostgreSQL (`tests/postgres.sh` starts one; `make test` sets
//! DAYBREAK_TEST_POSTGRES).
#![allow(clippy::unwrap_used, clippy::print_stdout)] // measured times are printed

mod answers;
mod conversations;
mod crash;
mod databases;
mod jobs;
mod old_versions;
mod opening;
mod searching;
mod transfer;
