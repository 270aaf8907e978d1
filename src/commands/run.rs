//! `daybreak run`: one prompt, one answer on standard output.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use engine::FinishReason;
use models::OpenModel;
use tokenizer::{ChatMessage, Grammar, GrammarCompiler, GrammarSource, Specials};

use crate::cli;
use crate::config::{ModelSettings, engine_config};
use crate::conversation::{Conversation, Piece};
use crate::terminal::{Interrupted, piped_stdin, stop_on_ctrl_c, without_control_characters};

pub(crate) fn run(args: cli::Run) -> Result<()> {
    let prompt = match (args.prompt, piped_text()?) {
        (Some(prompt), Some(text)) if !text.is_empty() => format!("{prompt}\n\n{text}"),
        (Some(prompt), _) => prompt,
        (None, Some(text)) => text,
        (None, None) => {
            bail!("no prompt; give one, as in: daybreak run {} \"why is the sky blue?\"", args.model)
        }
    };
    if prompt.is_empty() {
        bail!("the prompt is empty");
    }
    let settings = ModelSettings::new(&args.data)?;
    let model =
        settings.open_adapted(&args.model, args.engine.chat_template.as_deref(), &args.engine.adapter)?;
    let config = engine_config(&args.engine, &model)?;
    let grammar = grammar(&args.form, &model)?;
    let mut conversation = Conversation::start(model, config, &args.sampling)?;
    conversation.grammar = grammar;

    let stop = Arc::new(AtomicBool::new(false));
    stop_on_ctrl_c(&stop)?;
    let is_terminal = std::io::stdout().is_terminal();
    let mut out = std::io::stdout().lock();
    let show = |piece: Piece<'_>| {
        // Thoughts are for who watches; a program that reads us wants the answer.
        match piece {
            Piece::Text(text) if is_terminal => write!(out, "{}", without_control_characters(text))?,
            Piece::Text(text) => write!(out, "{text}")?,
            Piece::Reasoning(text) if is_terminal => {
                write!(out, "\x1b[2m{}\x1b[22m", without_control_characters(text))?
            }
            Piece::Reasoning(_) => {}
        }
        Ok(out.flush()?)
    };
    let answer = if args.raw {
        let ids = conversation.model.tokenizer.encode_with_bos(prompt.as_bytes(), Specials::Parse);
        conversation.complete(ids, &stop, show)?
    } else {
        conversation.messages.push(ChatMessage::new("user", &prompt));
        conversation.answer(&stop, show)?
    };
    if !answer.text.ends_with('\n') {
        println!();
    }
    if answer.reason == FinishReason::Cancelled || stop.load(Ordering::Relaxed) {
        return Err(Interrupted.into());
    }
    if answer.reason == FinishReason::Length && args.sampling.max_tokens.is_none() {
        eprintln!("daybreak: the answer was cut where the context ended; --ctx N makes it longer");
    }
    Ok(())
}

/// Text from a pipe, without the line ends that `echo` and editors put behind it: so that it is asked what is asked
/// when the same words stand on the command line.
fn piped_text() -> Result<Option<String>> {
    let Some(bytes) = piped_stdin()? else { return Ok(None) };
    let text = String::from_utf8(bytes).context("standard input is not UTF-8 text")?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The grammar of the form that was asked for, compiled before the model is loaded: an error is told at once.
fn grammar(form: &cli::FormArgs, model: &OpenModel) -> Result<Option<Arc<Grammar>>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
    };
    let (what, source) = if let Some(path) = &form.json_schema {
        let what = path.display().to_string();
        let schema = serde_json::from_str(&read(path)?).with_context(|| format!("{what} is not JSON"))?;
        (what, GrammarSource::JsonSchema(schema))
    } else if let Some(path) = &form.grammar {
        (path.display().to_string(), GrammarSource::Grammar(read(path)?))
    } else if let Some(pattern) = &form.regex {
        ("--regex".to_owned(), GrammarSource::Regex(pattern.clone()))
    } else {
        return Ok(None);
    };
    let compiler = GrammarCompiler::new(Arc::clone(&model.tokenizer));
    let grammar = compiler.compile(&source).map_err(|error| anyhow::anyhow!("{what}: {error}"))?;
    Ok(Some(grammar))
}
