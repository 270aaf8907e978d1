//! `daybreak chat`: a conversation in the terminal, with history, several lines, and Ctrl-C for the answer only.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Completer, Editor, Helper, Highlighter, Hinter};
use tokenizer::ChatMessage;

use crate::cli;
use crate::commands::pull::download;
use crate::config::{ModelSettings, data_dir, engine_config};
use crate::conversation::{Conversation, Piece};
use crate::terminal::{stop_on_ctrl_c, without_control_characters};

/// The model when none is named.
pub(crate) const DEFAULT_MODEL: &str = "smollm2:135m";

const HELP: &str = "\
Enter sends. A line that ends in \\ goes on; \"\"\" begins and ends a text of several lines.
Ctrl-C stops an answer, Ctrl-D leaves.

  /new            forget the conversation
  /system TEXT    instructions for the model, from here on
  /retry          another answer to the last question
  /stats          speed after each answer, on and off
  /help           this
  /bye            leave";

pub(crate) fn chat(args: cli::Chat) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("chat needs a terminal; from a pipe use: daybreak run MODEL");
    }
    let settings = ModelSettings::new(&args.data)?;
    let name = args.model.as_deref().unwrap_or(DEFAULT_MODEL);
    if settings.library.resolve(name).is_err() && settings.library.catalog().find(name).is_some() {
        download(&settings, name)?;
    }
    let model = settings.open_adapted(name, args.engine.chat_template.as_deref(), &args.engine.adapter)?;
    let config = engine_config(&args.engine, &model)?;
    let mut conversation = Conversation::start(model, config, &args.sampling)?;
    println!("{}  (/help for help, Ctrl-D to leave)", conversation.model.name);

    let mut editor: Editor<LineRules, FileHistory> = Editor::new()?;
    editor.set_helper(Some(LineRules));
    let history = data_dir(args.data.data.clone())?.join("chat-history");
    // No history yet, or none that can be read, is no reason not to talk.
    let _ = editor.load_history(&history);
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let mut shows_stats = false;
    loop {
        let line = match editor.readline("\n› ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                println!("Ctrl-D leaves");
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let text = unfold(&line);
        if text.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(&line);
        match text.trim().split_once(' ').unwrap_or((text.trim(), "")) {
            ("/bye" | "/exit" | "/quit", "") => break,
            ("/help" | "/?", _) => println!("{HELP}"),
            ("/new" | "/clear", "") => {
                conversation.messages.retain(|message| message.role == "system");
                println!("a new conversation");
            }
            ("/system", text) => {
                conversation.messages.retain(|message| message.role != "system");
                if !text.is_empty() {
                    conversation.messages.insert(0, ChatMessage::new("system", text));
                }
                println!("{}", if text.is_empty() { "no instructions" } else { "instructions set" });
            }
            ("/stats", "") => {
                shows_stats = !shows_stats;
                println!("speed is {}", if shows_stats { "shown" } else { "hidden" });
            }
            ("/retry", "") => {
                if conversation.messages.last().is_some_and(|message| message.role == "assistant") {
                    conversation.messages.pop();
                }
                match conversation.messages.last().is_some_and(|message| message.role == "user") {
                    true => answer(&mut conversation, &stop, shows_stats)?,
                    false => println!("there is no question yet"),
                }
            }
            (command, _) if command.starts_with('/') && !command[1..].contains('/') && command.len() > 1 => {
                println!("{command} is not a command; /help lists them");
            }
            _ => {
                conversation.messages.push(ChatMessage::new("user", &text));
                answer(&mut conversation, &stop, shows_stats)?;
            }
        }
    }
    if let Some(dir) = history.parent() {
        let _ = std::fs::create_dir_all(dir);
    }
    let _ = editor.save_history(&history);
    Ok(())
}

/// Prints the answer to the conversation as it stands. A failure is told, and the question taken back.
fn answer(conversation: &mut Conversation, stop: &AtomicBool, shows_stats: bool) -> Result<()> {
    stop.store(false, Ordering::Relaxed);
    let mut out = std::io::stdout().lock();
    let mut in_reasoning = false;
    let answered = conversation.answer(stop, |piece| {
        let (text, is_reasoning) = match piece {
            Piece::Text(text) => (text, false),
            Piece::Reasoning(text) => (text, true),
        };
        if is_reasoning != in_reasoning {
            in_reasoning = is_reasoning;
            write!(out, "{}", if is_reasoning { "\x1b[2m" } else { "\x1b[22m\n" })?;
        }
        write!(out, "{}", without_control_characters(text))?;
        Ok(out.flush()?)
    });
    if in_reasoning {
        write!(out, "\x1b[22m")?;
    }
    writeln!(out)?;
    match answered {
        Ok(answer) if shows_stats => {
            let timings = answer.timings;
            let speed = timings.n_generated.saturating_sub(1) as f64 / timings.decode_s.max(1e-9);
            let first = timings.queue_s + timings.prefill_s;
            writeln!(
                out,
                "\x1b[2m{} tokens at {speed:.0}/s, the first after {first:.2} s; {} in the prompt, {} of them cached\x1b[22m",
                timings.n_generated, timings.n_prompt, timings.n_cached
            )?;
        }
        Ok(_) => {}
        Err(error) => {
            conversation.messages.pop();
            eprintln!("daybreak: {error:#}; the question was not kept (/new begins a new conversation)");
        }
    }
    Ok(())
}

/// What was typed → what is meant: without the marks that joined its lines.
fn unfold(line: &str) -> String {
    match line.trim().strip_prefix("\"\"\"").and_then(|rest| rest.strip_suffix("\"\"\"")) {
        Some(inner) => inner.trim_matches('\n').to_owned(),
        None => line.replace("\\\n", "\n"),
    }
}

/// When a line is whole.
#[derive(Completer, Helper, Highlighter, Hinter)]
struct LineRules;

impl Validator for LineRules {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_whole(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

fn is_whole(input: &str) -> bool {
    let text = input.trim();
    match text.strip_prefix("\"\"\"") {
        Some(rest) => rest.ends_with("\"\"\""),
        None => !input.ends_with('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backslash_and_three_quotes_join_lines() {
        assert!(is_whole("hello"));
        assert!(!is_whole("hello \\"));
        assert!(!is_whole("\"\"\"one"));
        assert!(!is_whole("\"\"\""));
        assert!(is_whole("\"\"\"one\ntwo\"\"\""));
        assert_eq!(unfold("\"\"\"one\ntwo\"\"\""), "one\ntwo");
        assert_eq!(unfold("one \\\ntwo"), "one \ntwo");
    }
}
