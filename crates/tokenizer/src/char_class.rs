//! Which class a character belongs to, as pre-tokenizers ask: letter, number, mark, space, punctuation, symbol.
//!
//! Text is bytes: a byte that is no part of a valid character counts as U+FFFD (a symbol) and keeps its own byte.

use std::sync::OnceLock;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// A set of classes, one bit each.
pub(crate) type Classes = u16;

/// Uppercase letter, `\p{Lu}`.
pub(crate) const UPPER: Classes = 1;
/// Titlecase letter, `\p{Lt}`.
pub(crate) const TITLE: Classes = 1 << 1;
/// Lowercase letter, `\p{Ll}`.
pub(crate) const LOWER: Classes = 1 << 2;
/// Modifier letter, `\p{Lm}`.
pub(crate) const MODIFIER: Classes = 1 << 3;
/// Other letter, `\p{Lo}`.
pub(crate) const OTHER_LETTER: Classes = 1 << 4;
/// Any mark, `\p{M}`.
pub(crate) const MARK: Classes = 1 << 5;
/// Any number, `\p{N}`.
pub(crate) const NUMBER: Classes = 1 << 6;
/// Any punctuation, `\p{P}`.
pub(crate) const PUNCTUATION: Classes = 1 << 7;
/// Any symbol, `\p{S}`.
pub(crate) const SYMBOL: Classes = 1 << 8;
/// White space, `\s`.
pub(crate) const SPACE: Classes = 1 << 9;
/// Carriage return or line feed.
pub(crate) const NEWLINE: Classes = 1 << 10;

/// Any letter, `\p{L}`.
pub(crate) const LETTER: Classes = UPPER | TITLE | LOWER | MODIFIER | OTHER_LETTER;

/// One character of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Char {
    /// Its code; U+FFFD for a stray byte.
    pub(crate) code: u32,
    /// Its classes.
    pub(crate) classes: Classes,
    /// How many bytes it takes here.
    pub(crate) len: usize,
}

impl Char {
    /// Whether it belongs to one of these classes.
    #[inline]
    pub(crate) fn is(self, classes: Classes) -> bool {
        self.classes & classes != 0
    }
}

/// The character that begins at `at`; `None` at the end.
#[inline(always)] // measured: without it the ASCII path is a call
pub(crate) fn char_at(text: &[u8], at: usize) -> Option<Char> {
    let &first = text.get(at)?;
    if first < 0x80 {
        return Some(Char { code: u32::from(first), classes: ASCII[usize::from(first)], len: 1 });
    }
    Some(beyond_ascii(&text[at..]))
}

/// The first character of `bytes`, which is not ASCII.
#[inline(never)]
fn beyond_ascii(bytes: &[u8]) -> Char {
    let (code, len) = decode(bytes);
    Char { code, classes: classes_of(code), len }
}

/// Classes of an ASCII character; none for a byte that is none.
#[inline]
pub(crate) fn ascii_classes_of(byte: u8) -> Classes {
    ASCII.get(usize::from(byte)).copied().unwrap_or(0)
}

/// The first character of `bytes` (which begin with a byte above 0x7F) and its length; (U+FFFD, 1) if it is none.
#[inline]
pub(crate) fn decode(bytes: &[u8]) -> (u32, usize) {
    const STRAY: (u32, usize) = (0xFFFD, 1);
    // Most scripts without spaces: no code of these lengths is overlong, and none a surrogate's.
    if let [first @ (0xE1..=0xEC | 0xEE | 0xEF), second, third, ..] = *bytes
        && (second & 0xC0, third & 0xC0) == (0x80, 0x80)
    {
        return (u32::from(first & 0x0F) << 12 | u32::from(second & 0x3F) << 6 | u32::from(third & 0x3F), 3);
    }
    let (len, least, mut code) = match bytes[0] {
        0xC2..=0xDF => (2, 0x80, u32::from(bytes[0] & 0x1F)),
        0xE0..=0xEF => (3, 0x800, u32::from(bytes[0] & 0x0F)),
        0xF0..=0xF4 => (4, 0x1_0000, u32::from(bytes[0] & 0x07)),
        _ => return STRAY,
    };
    if bytes.len() < len {
        return STRAY;
    }
    for &byte in &bytes[1..len] {
        if byte & 0xC0 != 0x80 {
            return STRAY;
        }
        code = (code << 6) | u32::from(byte & 0x3F);
    }
    let valid = code >= least && code <= 0x10_FFFF && !(0xD800..=0xDFFF).contains(&code);
    if valid { (code, len) } else { STRAY }
}

/// Classes of the ASCII characters.
static ASCII: [Classes; 128] = ascii_classes();

const fn ascii_classes() -> [Classes; 128] {
    let mut table = [0; 128];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'\n' | b'\r' => SPACE | NEWLINE,
            b'\t' | 0x0B | 0x0C | b' ' => SPACE,
            b'0'..=b'9' => NUMBER,
            b'A'..=b'Z' => UPPER,
            b'a'..=b'z' => LOWER,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => SYMBOL,
            0x21..=0x7E => PUNCTUATION,
            _ => 0,
        };
        byte += 1;
    }
    table
}

/// Code points per block of the lazily filled table: looking one up in the crate's sorted ranges costs some 20 ns,
/// filling a whole table 20 ms, and a text touches a few blocks only.
const BLOCK_LEN: usize = 256;

type Block = Box<[Classes; BLOCK_LEN]>;

static BLOCKS: [OnceLock<Block>; 0x11_0000 / BLOCK_LEN] = [const { OnceLock::new() }; 0x11_0000 / BLOCK_LEN];

/// Classes of a code point.
#[inline]
pub(crate) fn classes_of(code: u32) -> Classes {
    // Ideographs, known without the table.
    if (0x4E00..0xA000).contains(&code) {
        return OTHER_LETTER;
    }
    let code = code as usize;
    BLOCKS[code / BLOCK_LEN].get_or_init(|| fill_block(code / BLOCK_LEN))[code % BLOCK_LEN]
}

#[cold]
fn fill_block(block_idx: usize) -> Block {
    let mut block = Box::new([0; BLOCK_LEN]);
    for (code, classes) in (block_idx * BLOCK_LEN..).zip(block.iter_mut()) {
        if let Some(c) = u32::try_from(code).ok().and_then(char::from_u32) {
            *classes = classes_by_category(c);
        }
    }
    block
}

fn classes_by_category(c: char) -> Classes {
    if c.is_ascii() {
        return ASCII[c as usize];
    }
    let space = if c.is_whitespace() { SPACE } else { 0 };
    space
        | match c.general_category() {
            GeneralCategory::UppercaseLetter => UPPER,
            GeneralCategory::TitlecaseLetter => TITLE,
            GeneralCategory::LowercaseLetter => LOWER,
            GeneralCategory::ModifierLetter => MODIFIER,
            GeneralCategory::OtherLetter => OTHER_LETTER,
            GeneralCategory::NonspacingMark
            | GeneralCategory::SpacingMark
            | GeneralCategory::EnclosingMark => MARK,
            GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber | GeneralCategory::OtherNumber => {
                NUMBER
            }
            GeneralCategory::ConnectorPunctuation
            | GeneralCategory::DashPunctuation
            | GeneralCategory::OpenPunctuation
            | GeneralCategory::ClosePunctuation
            | GeneralCategory::InitialPunctuation
            | GeneralCategory::FinalPunctuation
            | GeneralCategory::OtherPunctuation => PUNCTUATION,
            GeneralCategory::MathSymbol
            | GeneralCategory::CurrencySymbol
            | GeneralCategory::ModifierSymbol
            | GeneralCategory::OtherSymbol => SYMBOL,
            _ => 0,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_classes_are_those_of_unicode() {
        for code in 0..128u32 {
            let c = char::from_u32(code).expect("ascii");
            let category = c.general_category_group();
            let is = |class| ASCII[code as usize] & class != 0;
            use unicode_properties::GeneralCategoryGroup as Group;
            assert_eq!(is(LETTER), category == Group::Letter, "{c:?}");
            assert_eq!(is(NUMBER), category == Group::Number, "{c:?}");
            assert_eq!(is(PUNCTUATION), category == Group::Punctuation, "{c:?}");
            assert_eq!(is(SYMBOL), category == Group::Symbol, "{c:?}");
            assert_eq!(is(SPACE), c.is_whitespace(), "{c:?}");
        }
    }

    #[test]
    fn characters_beyond_ascii_have_their_classes() {
        let cases = [
            ('中', OTHER_LETTER),
            ('É', UPPER),
            ('ß', LOWER),
            ('ǅ', TITLE),
            ('ʰ', MODIFIER),
            ('\u{301}', MARK),
            ('٣', NUMBER),
            ('½', NUMBER),
            ('—', PUNCTUATION),
            ('€', SYMBOL),
            ('😀', SYMBOL),
            ('\u{3000}', SPACE),
            ('\u{85}', SPACE),
            ('\u{200D}', 0),
        ];
        for (c, classes) in cases {
            assert_eq!(classes_of(c as u32), classes, "{c:?}");
        }
    }

    #[test]
    fn a_stray_byte_is_one_symbol_and_valid_text_reads_as_utf8() {
        let bad: [&[u8]; 8] = [
            b"\x80",
            b"\xC0\x80",
            b"\xE4\xB8",
            b"\xED\xA0\x80",
            b"\xF4\x90\x80\x80",
            b"\xF5\x80\x80\x80",
            b"\xFF",
            b"\xE0\x80\x80",
        ];
        for bytes in bad {
            assert_eq!(char_at(bytes, 0), Some(Char { code: 0xFFFD, classes: SYMBOL, len: 1 }), "{bytes:?}");
        }
        let text = "aß中😀";
        let mut at = 0;
        for c in text.chars() {
            let found = char_at(text.as_bytes(), at).expect("inside the text");
            assert_eq!((found.code, found.len), (c as u32, c.len_utf8()));
            at += found.len;
        }
        assert_eq!(char_at(text.as_bytes(), at), None);
    }
}
