//! Jobs with real processes: their ends, their pauses, and what is known of them after a restart.
#![allow(clippy::unwrap_used)]

mod ends;
mod restarts;
mod waiting;
mod world;

use std::ffi::OsString;
use std::path::Path;

/// How much of the processors the jobs of these tests leave to others.
const NICENESS: i32 = 5;

/// The wrapper of the jobs of these tests is this program, told to run this "test" alone.
#[test]
#[ignore = "no test: the process between the other tests and their commands"]
fn as_wrapper() {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some(at) = args.iter().position(|arg| arg == "--") else { return };
    let code = jobs::wrapper::run(Path::new(&args[at - 1]), NICENESS, &args[at + 1..]);
    std::process::exit(code.unwrap().into());
}
