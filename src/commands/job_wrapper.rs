//! `daybreak job-wrapper`: what stands between the server and a run.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli;

pub(crate) fn run(args: &cli::JobWrapper) -> Result<ExitCode> {
    if let Some(folder) = &args.folder {
        let code = jobs::wrapper::run(folder, args.nice, &args.command);
        return Ok(code.with_context(|| folder.display().to_string())?.into());
    }
    let (program, rest) = args.command.split_first().context("no command was given")?;
    jobs::wrapper::lower_priority(args.nice);
    // Becomes the command, so that whoever ends this process ends the command.
    Err(Command::new(program).args(rest).exec()).with_context(|| format!("{program:?} cannot be run"))
}
