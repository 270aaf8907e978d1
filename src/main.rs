//! The binary: reads the command line, calls one function per command, turns an error into one line.

mod cli;
mod commands;
mod config;
mod conversation;
mod progress;
mod terminal;
mod training_desk;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging(cli.verbose, matches!(cli.command, Command::Serve(_)));
    let done = match cli.command {
        Command::Serve(args) => commands::serve::serve(args),
        Command::Chat(args) => commands::chat::chat(args),
        Command::Run(args) => commands::run::run(args),
        Command::Pull(args) => commands::pull::pull(args),
        Command::Models(args) => commands::models::models(args),
        Command::Rm(args) => commands::rm::rm(args),
        Command::Inspect(args) => commands::inspect::inspect(args),
        Command::Tokenize(args) => commands::tokenize::tokenize(args),
        Command::Bench(args) => commands::bench::bench(args),
        Command::Quantize(args) => commands::quantize::quantize(args),
        Command::Perplexity(args) => commands::perplexity::perplexity(args),
        Command::Train(args) => commands::train::train(args),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::JobWrapper(args) => match commands::job_wrapper::run(&args) {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "daybreak", &mut std::io::stdout());
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<terminal::Interrupted>() => ExitCode::from(130),
        // A reader that has seen enough (`daybreak models | head -1`) is no failure.
        Err(error) if terminal::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("daybreak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The server says what it does; the other commands only what goes wrong.
fn start_logging(verbose: u8, is_server: bool) {
    let level = match (verbose, is_server) {
        (0, false) => "warn",
        (0, true) => "info",
        (1, _) => "info,daybreak=debug,server=debug,engine=debug,models=debug,store=debug",
        _ => "debug",
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .with_target(verbose > 0)
        .init();
}
