//! Words of others (templates, catalogs, hubs, requests) as they go into an error: one line of bounded length.

/// Longest text of others in an error, in characters.
const MAX_CHARS: usize = 300;

/// The text on one line, control characters escaped, cut where it is too long.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(4 * MAX_CHARS));
    for (n, c) in text.trim().chars().enumerate() {
        if n == MAX_CHARS {
            line.push('…');
            break;
        }
        if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_one_bounded_line() {
        assert_eq!(one_line(" a\nb\u{1b}[31m\u{85}好 "), "a\\nb\\u{1b}[31m\\u{85}好");
        assert_eq!(one_line(&"x".repeat(100_000)).chars().count(), MAX_CHARS + 1);
    }
}
