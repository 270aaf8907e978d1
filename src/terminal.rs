//! What the commands share about the terminal they run in.

use std::io::{IsTerminal, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// The person pressed Ctrl-C; the process ends with 130.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Ctrl-C sets `stop` from now on and does not end the process.
pub(crate) fn stop_on_ctrl_c(stop: &Arc<AtomicBool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Asked for here, not by the thread: until the system knows, Ctrl-C would end the process.
    let mut interrupts = {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())?
    };
    let stop = Arc::clone(stop);
    std::thread::Builder::new().name("ctrl-c".to_owned()).spawn(move || {
        runtime.block_on(async {
            while interrupts.recv().await.is_some() {
                // The second Ctrl-C before the first took effect means it.
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    })?;
    Ok(())
}

/// Whether the reader of our output has gone away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Longest text read from a pipe: more than any context holds, less than what fills a small memory.
const MAX_STDIN_BYTES: u64 = 64 << 20;

/// Standard input, whole, when it is a pipe or a file.
pub(crate) fn piped_stdin() -> Result<Option<Vec<u8>>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.lock().take(MAX_STDIN_BYTES + 1).read_to_end(&mut bytes).context("cannot read standard input")?;
    if bytes.len() as u64 > MAX_STDIN_BYTES {
        bail!("standard input is longer than {} MB; give a shorter text", MAX_STDIN_BYTES >> 20);
    }
    Ok(Some(bytes))
}

/// `1234567` → `1.2 MB`.
pub(crate) fn human_bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// `12345678` → `12.3 million`.
pub(crate) fn human_count(x: f64) -> String {
    let (unit, name) = match x {
        x if x >= 1e12 => (1e12, " trillion"),
        x if x >= 1e9 => (1e9, " billion"),
        x if x >= 1e6 => (1e6, " million"),
        _ => return format!("{x:.0}"),
    };
    format!("{:.1}{name}", x / unit)
}

/// `3700` → `61.7 minutes`.
pub(crate) fn human_duration(seconds: f64) -> String {
    let (unit, name) = match seconds {
        s if s < 90.0 => (1.0, "seconds"),
        s if s < 5400.0 => (60.0, "minutes"),
        s if s < 172_800.0 => (3600.0, "hours"),
        s if s < 63_115_200.0 => (86_400.0, "days"),
        _ => (31_557_600.0, "years"),
    };
    format!("{:.1} {name}", seconds / unit)
}

/// Bytes of a file, as text that a terminal may show: control characters are escaped, so that a model file
/// cannot drive the terminal.
pub(crate) fn printable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .flat_map(|c| {
            let escape = c.is_control();
            c.escape_default().filter(move |_| escape).chain((!escape).then_some(c))
        })
        .collect()
}

/// Model output for a terminal: newlines and tabs stay, other control characters do not.
pub(crate) fn without_control_characters(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// Columns as wide as their widest cell, two blanks apart; those of `right` are numbers.
pub(crate) fn table<const N: usize>(
    out: &mut impl Write,
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    right: &[usize],
) -> Result<()> {
    let rows: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:width$}") }
        });
        writeln!(out, "{}", cells.collect::<Vec<String>>().join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(without_control_characters("a\x1b[31mb\n\tc"), "a[31mb\n\tc");
    }

    #[test]
    fn sizes_read_like_a_file_manager() {
        assert_eq!(human_bytes(98_362_432), "98 MB");
        assert_eq!(human_bytes(1_500_000_000), "1.5 GB");
    }
}
