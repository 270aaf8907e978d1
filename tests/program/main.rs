//! The binary from outside: what a person at a terminal types, and what comes back.

mod adapters;
mod bad_input;
mod commands;
mod kept;
mod plan;
mod quantize;
mod serve;
mod serving;
mod train_dpo;
mod train_eval;
mod train_kills;
mod train_lora;
mod train_pretrain;
mod train_recipe;
mod train_sft;
mod train_tokenizer;
mod training;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The real small model that the tests talk with.
pub(crate) fn model() -> PathBuf {
    let path = match std::env::var_os("DAYBREAK_TEST_MODEL") {
        Some(path) => PathBuf::from(path),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
            cache.expect("a home directory").join("daybreak/models/smollm2-135m.gguf")
        }
    };
    assert!(path.is_file(), "{} is missing: run `make test-setup`", path.display());
    path
}

/// The binary, with a home and data directory of its own.
pub(crate) fn daybreak(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daybreak"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null());
    if let Some(isa) = std::env::var_os("DAYBREAK_ISA") {
        command.env("DAYBREAK_ISA", isa);
    }
    command
}

/// Runs to the end.
pub(crate) fn run(home: &Path, args: &[&str]) -> Output {
    daybreak(home).args(args).output().expect("the binary starts")
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it said, once it has ended well.
#[track_caller]
pub(crate) fn ok(output: Output) -> String {
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output)
}

pub(crate) fn str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// It ended with exit code 1 and one line on standard error (beside the server's log) that holds every one of
/// `parts`.
#[track_caller]
pub(crate) fn assert_one_line_error(output: &Output, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(1), "exit code of: {text}");
    let is_log = |line: &str| [" INFO ", " WARN ", "ERROR "].iter().any(|level| line.contains(level));
    let lines: Vec<&str> = text.trim_end().lines().filter(|line| !is_log(line)).collect();
    assert_eq!(lines.len(), 1, "one line, got: {text}");
    for part in parts {
        assert!(lines[0].contains(part), "expected {part:?} in: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}
