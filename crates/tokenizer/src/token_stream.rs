//! Ids, one by one, to text that never holds half a character.
//!
//! A token may end inside a character (byte-level pieces, `<0xE4>` bytes). Such bytes wait until the character is
//! whole; bytes that can no longer become one turn into U+FFFD, as `String::from_utf8_lossy` does it.

use std::sync::Arc;

use crate::{TokenId, Tokenizer};

/// Streaming detokenisation of one answer.
#[derive(Debug, Clone)]
pub struct TokenStream {
    tokenizer: Arc<Tokenizer>,
    /// Bytes of a character that is not whole yet: at most three.
    pending: Vec<u8>,
}

impl TokenStream {
    /// A stream that has seen nothing. Control tokens give no text, but for the tags around reasoning.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> TokenStream {
        TokenStream { tokenizer, pending: Vec::new() }
    }

    /// The text that this token completes; empty while a character is open.
    pub fn push(&mut self, id: TokenId) -> String {
        if self.tokenizer.is_hidden(id) {
            return String::new();
        }
        self.pending.extend_from_slice(self.tokenizer.piece(id));
        let mut text = String::new();
        let keep = whole_characters(&self.pending, &mut text);
        self.pending.drain(..keep);
        text
    }

    /// What is left when the answer ends inside a character: U+FFFD, or nothing.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }
}

/// Appends every whole character of `bytes` to `text` and returns how many bytes they took; what is left may still
/// become a character.
fn whole_characters(bytes: &[u8], text: &mut String) -> usize {
    let mut from = 0;
    loop {
        match std::str::from_utf8(&bytes[from..]) {
            Ok(valid) => {
                text.push_str(valid);
                return bytes.len();
            }
            Err(error) => {
                let valid_to = from + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[from..valid_to]));
                match error.error_len() {
                    Some(n_bad) => {
                        text.push('\u{FFFD}');
                        from = valid_to + n_bad;
                    }
                    None => return valid_to,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_characters;

    fn stream(chunks: &[&[u8]]) -> (String, Vec<u8>) {
        let (mut text, mut pending) = (String::new(), Vec::new());
        for chunk in chunks {
            pending.extend_from_slice(chunk);
            let before = text.len();
            let n = whole_characters(&pending, &mut text);
            pending.drain(..n);
            assert!(text.is_char_boundary(before));
        }
        (text, pending)
    }

    #[test]
    fn a_character_split_over_tokens_comes_out_whole() {
        let emoji = "👩‍🚀".as_bytes();
        let bytes: Vec<&[u8]> = emoji.chunks(1).collect();
        assert_eq!(stream(&bytes), ("👩‍🚀".to_owned(), vec![]));
        assert_eq!(stream(&[b"a\xE4", b"\xB8", b"\xADb"]), ("a中b".to_owned(), vec![]));
    }

    #[test]
    fn half_a_character_is_held_back() {
        assert_eq!(stream(&[b"ok \xF0\x9F\x91"]), ("ok ".to_owned(), vec![0xF0, 0x9F, 0x91]));
    }

    #[test]
    fn bytes_that_can_never_be_a_character_do_not_block_the_stream() {
        let (text, pending) = stream(&[b"\xFF", b"a\xE4", b"b\xC3"]);
        assert_eq!(text, "\u{FFFD}a\u{FFFD}b");
        assert_eq!(pending, vec![0xC3]);
        assert_eq!(stream(&[b"\xE4\xB8", b"\xE4\xB8\xAD"]).0, "\u{FFFD}中");
    }
}
