//! Stop strings, watched in text that arrives in pieces.
//!
//! A stop may span pieces, so an end of the text that could still become a stop is held back. The stop that begins
//! first wins; of two that begin together, the one that is complete first (the shorter one).

/// Watches one answer for its stops.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop.
    held: String,
    stopped: Option<usize>,
}

impl StopStrings {
    /// A watcher for these strings; empty ones are ignored.
    #[must_use]
    pub fn new(stops: &[String]) -> StopStrings {
        let stops = stops.iter().filter(|s| !s.is_empty()).cloned().collect();
        StopStrings { stops, held: String::new(), stopped: None }
    }

    /// Takes the next piece and returns the text that is safe to show. Once a stop was found, everything after it
    /// is swallowed.
    pub fn push(&mut self, text: &str) -> String {
        if self.stopped.is_some() {
            return String::new();
        }
        if self.stops.is_empty() {
            return text.to_owned();
        }
        self.held.push_str(text);
        // A complete stop may be shown to end here only if no stop that begins earlier is still open.
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(idx, stop)| self.held.find(stop.as_str()).map(|at| (at, stop.len(), idx)))
            .min();
        let open_from = self.first_open();
        match found {
            Some((at, _, idx)) if open_from.is_none_or(|open| at <= open) => {
                self.stopped = Some(idx);
                let shown = self.held[..at].to_owned();
                self.held.clear();
                shown
            }
            _ => {
                let keep_from = open_from.unwrap_or(self.held.len());
                let shown = self.held[..keep_from].to_owned();
                self.held.drain(..keep_from);
                shown
            }
        }
    }

    /// The stop that was met, if any.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.map(|idx| self.stops[idx].as_str())
    }

    /// The text that was held back, when the answer ends without having completed the stop it had begun. A complete
    /// stop inside it still counts.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if self.stopped.is_some() {
            return String::new();
        }
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter_map(|(idx, stop)| held.find(stop.as_str()).map(|at| (at, stop.len(), idx)))
            .min();
        match found {
            Some((at, _, idx)) => {
                self.stopped = Some(idx);
                held[..at].to_owned()
            }
            None => held,
        }
    }

    /// Where the first end of the held text begins that is a proper beginning of a stop.
    fn first_open(&self) -> Option<usize> {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        (from..self.held.len()).find(|&at| {
            self.held.is_char_boundary(at)
                && self
                    .stops
                    .iter()
                    .any(|stop| stop.len() > self.held.len() - at && stop.starts_with(&self.held[at..]))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::StopStrings;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
        let mut watch = StopStrings::new(&stops);
        let shown = pieces.iter().map(|piece| watch.push(piece)).collect();
        let rest = watch.finish();
        (shown, rest, watch.stopped().map(str::to_owned))
    }

    fn owned(pieces: &[&str]) -> Vec<String> {
        pieces.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn a_stop_that_spans_pieces_is_never_shown() {
        let (shown, rest, stop) = run(&["\nUser:"], &["Hello\n", "Us", "er", ": hi", "more"]);
        assert_eq!(shown, owned(&["Hello", "", "", "", ""]));
        assert_eq!((rest.as_str(), stop.as_deref()), ("", Some("\nUser:")));
    }

    #[test]
    fn text_that_only_began_like_a_stop_is_given_back() {
        let (shown, rest, stop) = run(&["STOP"], &["a ST", "AR", " ST"]);
        assert_eq!(shown, owned(&["a ", "STAR", " "]));
        assert_eq!((rest.as_str(), stop), ("ST", None));
    }

    #[test]
    fn the_stop_that_begins_first_wins() {
        let (shown, _, stop) = run(&["b", "abc"], &["xa", "b", "c"]);
        assert_eq!((shown.concat().as_str(), stop.as_deref()), ("x", Some("abc")));
        let (shown, rest, stop) = run(&["b", "abc"], &["xa", "b", "d"]);
        assert_eq!((shown.concat() + &rest, stop.as_deref()), ("xa".to_owned(), Some("b")));
        let (shown, rest, stop) = run(&["b", "abc"], &["xab"]);
        assert_eq!((shown.concat().as_str(), rest.as_str(), stop.as_deref()), ("x", "a", Some("b")));
    }

    #[test]
    fn stops_of_many_byte_characters_are_found() {
        let (shown, _, stop) = run(&["。"], &["你好", "。再见"]);
        assert_eq!((shown.concat().as_str(), stop.as_deref()), ("你好", Some("。")));
    }

    #[test]
    fn without_stops_everything_passes_at_once() {
        assert_eq!(run(&[""], &["a", "b"]), (owned(&["a", "b"]), String::new(), None));
    }
}
