//! jobs: what is running, for whom, and why not yet?
//!
//! A job is a command that takes long. Its record (`store`) is written before its process starts. The process is the
//! child of a wrapper ([`wrapper`]) in a session of its own, so that it outlives the server; both are named in the job's
//! folder by pid and start time, and the wrapper writes there how the command ended. So a server that starts anew finds
//! its jobs again (`supervisor`), and what is gone without a word is marked as lost, to be resumed.
//!
//! Reading order: [`process`] (is it still that process?) → `folder` (what lies in a job's folder) → [`wrapper`] (the
//! process between) → `supervisor` (from the queue to the end) → [`Jobs`].
//!
//! What a command means is not known here. One that is interrupted by SIGINT and could go on ends with
//! [`INTERRUPTED`].

#![forbid(unsafe_code)]

mod disk;
mod error;
mod folder;
mod handle;
pub mod process;
mod supervisor;
pub mod wrapper;

pub use disk::free_bytes;
pub use error::JobsError;
pub use folder::Exit;
pub use handle::{JobOrder, Jobs, JobsConfig};
pub use process::Usage;

/// The exit code of a command that was interrupted, as shells have it: 128 and the number of SIGINT.
pub const INTERRUPTED: i32 = 130;
