//! Finds the spelling of special and user-defined tokens in text: the leftmost, and of those the longest.
//!
//! The texts are kept sorted; at each position the range of texts that still agree is narrowed byte by byte, so a
//! search costs no more than the longest text for each position, whatever the vocabulary holds.

use std::ops::Range;

use memchr::memchr3;

use crate::TokenId;

/// One token that is looked for.
#[derive(Debug, Clone)]
struct Entry {
    text: Box<[u8]>,
    id: TokenId,
    /// Structure: read only where the text is trusted. Otherwise an added word, found everywhere.
    control: bool,
}

/// What [`SpecialTokens::find`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) id: TokenId,
}

/// Whether a token may stand in this range; the second argument tells whether it is a control token.
pub(crate) type Admits<'a> = &'a dyn Fn(Range<usize>, bool) -> bool;

/// All tokens that are looked for before anything else is.
#[derive(Debug, Default)]
pub(crate) struct SpecialTokens {
    entries: Vec<Entry>,
    /// The bytes that texts begin with.
    begins: Begins,
}

/// A set of bytes to look for.
#[derive(Debug)]
enum Begins {
    /// Up to three, the first of them in the empty places.
    Few([u8; 3]),
    /// Whether each byte is one.
    Many(Box<[bool; 256]>),
}

impl Default for Begins {
    fn default() -> Begins {
        Begins::Many(Box::new([false; 256]))
    }
}

impl Begins {
    fn new(bytes: &[u8]) -> Begins {
        match bytes {
            &[first, ..] if bytes.len() <= 3 => {
                Begins::Few(std::array::from_fn(|idx| *bytes.get(idx).unwrap_or(&first)))
            }
            _ => Begins::Many(Box::new(std::array::from_fn(|byte| bytes.contains(&(byte as u8))))),
        }
    }

    /// The first of them in `text` at or after `from`.
    fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        match self {
            Begins::Few([a, b, c]) => memchr3(*a, *b, *c, &text[from..]).map(|at| from + at),
            Begins::Many(is_one) => (from..text.len()).find(|&at| is_one[usize::from(text[at])]),
        }
    }
}

impl SpecialTokens {
    /// From (text, id, is control); of equal texts the first stays.
    pub(crate) fn new<'a>(tokens: impl Iterator<Item = (&'a [u8], TokenId, bool)>) -> SpecialTokens {
        let mut entries: Vec<Entry> = tokens
            .filter(|(text, ..)| !text.is_empty())
            .map(|(text, id, control)| Entry { text: text.into(), id, control })
            .collect();
        entries.sort_by(|a, b| a.text.cmp(&b.text).then(a.id.cmp(&b.id)));
        entries.dedup_by(|later, earlier| later.text == earlier.text);
        let mut begins: Vec<u8> = entries.iter().map(|entry| entry.text[0]).collect();
        begins.dedup();
        SpecialTokens { begins: Begins::new(&begins), entries }
    }

    /// The first token at or after `from` that `admits` admits.
    pub(crate) fn find(&self, text: &[u8], from: usize, admits: Admits<'_>) -> Option<Found> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = from;
        while let Some(start) = self.begins.next(text, at) {
            if let Some(found) = self.longest_at(text, start, admits) {
                return Some(found);
            }
            at = start + 1;
        }
        None
    }

    fn longest_at(&self, text: &[u8], start: usize, admits: Admits<'_>) -> Option<Found> {
        let mut longest = None;
        let mut agree = &self.entries[..];
        for (depth, &byte) in text[start..].iter().enumerate() {
            let from = agree.partition_point(|entry| entry.text[depth] < byte);
            let to = agree.partition_point(|entry| entry.text[depth] <= byte);
            agree = &agree[from..to];
            // The one text that ends here sorts before all that go on.
            if let Some(entry) = agree.first()
                && entry.text.len() == depth + 1
            {
                let end = start + depth + 1;
                if admits(start..end, entry.control) {
                    longest = Some(Found { start, end, id: entry.id });
                }
                agree = &agree[1..];
            }
            if agree.is_empty() {
                break;
            }
        }
        longest
    }

    /// The id of the token with exactly this text.
    pub(crate) fn get(&self, text: &[u8]) -> Option<TokenId> {
        let at = self.entries.binary_search_by(|entry| entry.text.as_ref().cmp(text)).ok()?;
        Some(self.entries[at].id)
    }

    /// All texts, in order, and whether each is that of a control token.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.entries.iter().map(|entry| (entry.text.as_ref(), entry.control))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tokens: &SpecialTokens, text: &str, trusted: bool) -> Vec<(usize, usize, TokenId)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(hit) = tokens.find(text.as_bytes(), from, &|_, control| trusted || !control) {
            found.push((hit.start, hit.end, hit.id));
            from = hit.end;
        }
        found
    }

    fn tokens() -> SpecialTokens {
        let list: [(&[u8], TokenId, bool); 6] = [
            (b"<|a|>", 1, true),
            (b"<|a|>b", 2, true),
            (b"  ", 3, false),
            (b"    ", 4, false),
            (b"<|a|>", 9, true),
            (b"", 5, true),
        ];
        SpecialTokens::new(list.into_iter())
    }

    #[test]
    fn the_leftmost_and_longest_is_found() {
        assert_eq!(all(&tokens(), "x<|a|>b<|a|>c", true), [(1, 7, 2), (7, 12, 1)]);
        assert_eq!(all(&tokens(), "<|a|", true), []);
        assert_eq!(all(&tokens(), "       x", true), [(0, 4, 4), (4, 6, 3)]);
    }

    #[test]
    fn control_tokens_need_trust_and_user_defined_ones_do_not() {
        assert_eq!(all(&tokens(), "<|a|>  <|a|>b", false), [(5, 7, 3)]);
        let tokens = tokens();
        let shorter = tokens.find(b"<|a|>b", 0, &|range, _| range.end <= 5);
        assert_eq!(shorter, Some(Found { start: 0, end: 5, id: 1 }));
    }

    #[test]
    fn exact_texts_are_looked_up() {
        let tokens = tokens();
        assert_eq!(tokens.get(b"<|a|>b"), Some(2));
        assert_eq!(tokens.get(b"<|a|"), None);
        assert_eq!(tokens.texts().filter(|(_, control)| *control).count(), 2);
    }
}
