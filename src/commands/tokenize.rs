//! `daybreak tokenize`: the ids of a text, each with the bytes it stands for.

use std::io::Write;

use anyhow::{Result, bail};
use tokenizer::Specials;

use crate::cli;
use crate::config::ModelSettings;
use crate::terminal::{piped_stdin, printable};

pub(crate) fn tokenize(args: cli::Tokenize) -> Result<()> {
    let text = match args.text {
        Some(text) => text.into_bytes(),
        None => match piped_stdin()? {
            Some(bytes) => bytes,
            None => bail!("no text; give one, as in: daybreak tokenize {} \"some text\"", args.model),
        },
    };
    let tokenizer =
        models::open_tokenizer(ModelSettings::new(&args.data)?.library.resolve(&args.model)?.path())?;
    let specials = if args.special { Specials::Parse } else { Specials::AsText };
    let ids = match args.bos {
        true => tokenizer.encode_with_bos(&text, specials),
        false => tokenizer.encode(&text, specials),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.ids {
        let ids: Vec<String> = ids.iter().map(u32::to_string).collect();
        writeln!(out, "{}", ids.join(" "))?;
    } else {
        for &id in &ids {
            writeln!(out, "{id:>7}  {}", printable(tokenizer.piece(id)))?;
        }
        writeln!(out, "{} tokens, {} bytes", ids.len(), text.len())?;
    }
    out.flush()?;
    Ok(())
}
