//! `daybreak rm`: deletes a downloaded model.

use anyhow::Result;

use crate::cli;
use crate::config::ModelSettings;
use crate::terminal::human_bytes;

pub(crate) fn rm(args: cli::Rm) -> Result<()> {
    let bytes = ModelSettings::new(&args.data)?.library.remove(&args.model)?;
    println!("deleted {} ({} freed)", args.model, human_bytes(bytes));
    Ok(())
}
