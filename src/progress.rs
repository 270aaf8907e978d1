//! A progress bar for downloads and loading; without a terminal, a line now and then.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use models::{Phase, Progress};

use crate::terminal::human_bytes;

/// Seconds between two lines where there is no terminal to draw a bar in.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows one download.
pub(crate) struct PullBar {
    bar: ProgressBar,
    is_terminal: bool,
    last_line: Mutex<Instant>,
}

impl PullBar {
    /// A bar for the model of this name.
    pub(crate) fn new(name: &str) -> PullBar {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::no_length() } else { ProgressBar::hidden() };
        bar.set_style(spinner());
        bar.set_prefix(name.to_owned());
        PullBar { bar, is_terminal, last_line: Mutex::new(Instant::now()) }
    }

    /// Takes what `models::pull` tells.
    pub(crate) fn show(&self, progress: &Progress) {
        let what = match progress.phase {
            Phase::Waiting => "waiting for another download",
            Phase::Connecting => "connecting",
            Phase::Checking => "checking",
            Phase::Downloading => "downloading",
            Phase::Unpacking => "unpacking",
        };
        match progress.total {
            Some(total) if self.bar.length() != Some(total) => {
                self.bar.set_style(bytes());
                self.bar.set_length(total);
            }
            None if self.bar.length().is_some() => {
                self.bar.unset_length();
                self.bar.set_style(spinner());
            }
            _ => {}
        }
        self.bar.set_position(progress.done);
        self.bar.set_message(format!("{what} ({})", progress.source));
        self.bar.tick();
        if !self.is_terminal
            && let Ok(mut last) = self.last_line.lock()
            && last.elapsed() >= LINE_EVERY
        {
            *last = Instant::now();
            let of = progress.total.map_or(String::new(), |total| format!(" of {}", human_bytes(total)));
            eprintln!("{what} {}: {}{of}", self.bar.prefix(), human_bytes(progress.done));
        }
    }

    /// Removes the bar.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {spinner} {msg}").expect("the template is well-formed")
}

fn bytes() -> ProgressStyle {
    let template = "{prefix} {bar:30} {percent:>3}% {bytes}/{total_bytes} {bytes_per_sec} {eta} {msg}";
    ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("━╸─")
}
