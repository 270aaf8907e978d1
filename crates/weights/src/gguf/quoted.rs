//! Text for messages from bytes that nobody vouches for: one line, bounded, control characters escaped.

use std::fmt;

/// Longest excerpt of a file's own text in a message.
const MAX_QUOTED: usize = 80;

/// The bytes as quoted text of one line.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let cut = bytes.len() > MAX_QUOTED;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_QUOTED)]);
    let mut out = String::from("\"");
    out.extend(text.escape_debug());
    out.push('"');
    if cut {
        out.push('…');
    }
    out
}

/// A metadata key as it stands in the file: any bytes. Displays as text of one line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetadataKey<'a>(pub &'a [u8]);

impl<'a> MetadataKey<'a> {
    /// The key, if it is UTF-8.
    pub fn as_str(self) -> Option<&'a str> {
        std::str::from_utf8(self.0).ok()
    }
}

impl fmt::Display for MetadataKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = quote(self.0);
        f.write_str(quoted.trim_matches('"'))
    }
}

impl fmt::Debug for MetadataKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quote(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_one_bounded_line() {
        let quoted = quote(b"a\nb\x1b[31m\xff\"");
        assert!(!quoted.contains('\n') && !quoted.contains('\x1b'), "{quoted}");
        assert_eq!(quoted, "\"a\\nb\\u{1b}[31m\u{fffd}\\\"\"");
        assert!(quote(&[b'x'; 100_000]).len() < 100);
    }
}
