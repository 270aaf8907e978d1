//! The spelling of bytes as printable characters that byte-level BPE files use (GPT-2's `bytes_to_unicode`).
//!
//! Printable Latin-1 bytes stand for themselves; the other 68 are U+0100 and up in order, so a space is `Ġ`.

/// Appends the bytes that `text` spells. Text with a character outside the alphabet stands for itself (added tokens
/// are written so), as in the reference's decoder; then the result is false.
pub(crate) fn decode_into(text: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let byte = match first {
            0x21..=0x7E => Some((first, 1)),
            // Two-byte characters are U+0080 to U+07FF; the alphabet ends at U+0143.
            0xC2..=0xC5 if rest.len() > 1 && rest[1] & 0xC0 == 0x80 => {
                let code = (u32::from(first & 0x1F) << 6) | u32::from(rest[1] & 0x3F);
                byte_of_char(code).map(|byte| (byte, 2))
            }
            _ => None,
        };
        let Some((byte, n)) = byte else {
            out.truncate(start);
            out.extend_from_slice(text);
            return false;
        };
        out.push(byte);
        rest = &rest[n..];
    }
    true
}

/// The bytes in the order of the characters that spell them, which is that of the ids in GPT-2's vocabulary.
pub(crate) fn alphabet() -> [u8; 256] {
    let mut bytes: [u8; 256] = std::array::from_fn(|byte| byte as u8);
    bytes.sort_by_key(|&byte| char_of_byte(byte));
    bytes
}

/// Spells bytes in the alphabet.
pub(crate) fn encode(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|&byte| char_of_byte(byte)).collect::<String>().into_bytes()
}

fn char_of_byte(byte: u8) -> char {
    let code = match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0x00..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte - 0x7F),
        0xAD => 0x143,
    };
    char::from_u32(code).expect("every code here is below the surrogates")
}

/// The byte that the non-ASCII character with this code spells.
fn byte_of_char(code: u32) -> Option<u8> {
    match code {
        0xA1..=0xAC | 0xAE..=0xFF => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{decode_into, encode};

    /// GPT-2's own construction of the alphabet.
    fn alphabet() -> Vec<char> {
        let printable =
            |b: u32| (0x21..=0x7E).contains(&b) || (0xA1..=0xAC).contains(&b) || (0xAE..=0xFF).contains(&b);
        let mut next = 256;
        (0..256u32)
            .map(|b| {
                let code = if printable(b) {
                    b
                } else {
                    next += 1;
                    next - 1
                };
                char::from_u32(code).unwrap()
            })
            .collect()
    }

    #[test]
    fn every_byte_is_read_back_from_its_character() {
        for (byte, c) in alphabet().into_iter().enumerate() {
            let mut out = Vec::new();
            assert!(decode_into(c.to_string().as_bytes(), &mut out));
            assert_eq!(out, [u8::try_from(byte).unwrap()], "{c:?}");
        }
    }

    #[test]
    fn every_byte_is_spelled_by_its_character() {
        for (byte, c) in alphabet().into_iter().enumerate() {
            assert_eq!(encode(&[u8::try_from(byte).unwrap()]), c.to_string().as_bytes());
        }
        let mut chars = alphabet();
        chars.sort_unstable();
        let spelled: Vec<u8> = super::alphabet().iter().flat_map(|&byte| encode(&[byte])).collect();
        assert_eq!(spelled, chars.into_iter().collect::<String>().into_bytes());
    }

    #[test]
    fn text_outside_the_alphabet_stands_for_itself() {
        for text in ["<｜end▁of▁sentence｜>", "a b", "\u{144}", "Ġ中"] {
            let mut out = b"x".to_vec();
            assert!(!decode_into(text.as_bytes(), &mut out));
            assert_eq!(out, [b"x", text.as_bytes()].concat());
        }
        let mut out = Vec::new();
        assert!(!decode_into(b"\xC4", &mut out));
        assert_eq!(out, b"\xC4");
    }
}
