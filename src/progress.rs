//! Progress bars for downloads and long computations; without a terminal, a line now and then.

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

/// Shows how many of a known number of things are done.
pub(crate) struct CountBar {
    bar: ProgressBar,
    unit: &'static str,
    total: u64,
    is_terminal: bool,
    last_line: Mutex<Instant>,
}

impl CountBar {
    /// A bar up to `total` things, named `unit` in the plural.
    pub(crate) fn new(unit: &'static str, total: u64) -> CountBar {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = if is_terminal { ProgressBar::new(total) } else { ProgressBar::hidden() };
        let template = "{bar:30} {percent:>3}% {eta} {msg}";
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        bar.set_style(style.progress_chars("━╸─"));
        CountBar { bar, unit, total, is_terminal, last_line: Mutex::new(Instant::now()) }
    }

    /// So many are done; what is at hand or has come out so far.
    pub(crate) fn show(&self, done: u64, message: &str) {
        self.bar.set_message(message.to_owned());
        self.bar.set_position(done);
        if !self.is_terminal
            && let Ok(mut last) = self.last_line.lock()
            && last.elapsed() >= LINE_EVERY
        {
            *last = Instant::now();
            eprintln!("{done} of {} {}: {message}", self.total, self.unit);
        }
    }

    /// Prints lines above the bar.
    pub(crate) fn above(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }

    /// So many are done; the message stays.
    pub(crate) fn advance_to(&self, done: u64) {
        self.bar.set_position(done);
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
