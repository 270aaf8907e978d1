//! Text → normalised text → grams, the keys of the full-text index, the same in both databases.
//!
//! A search means "this piece of text occurs", in any language. The index narrows the rows down, then the database
//! looks for the piece itself in the normalised text. So the grams may let too much through, but never too little:
//!
//! - scripts written without spaces (Chinese, Japanese, Korean, Thai …): each character and each pair of neighbours;
//! - other letters and digits: each three neighbours, and the first one and two of each word. A piece of one or two
//!   such letters is therefore found at the beginnings of words only;
//! - punctuation and symbols have no grams; a piece of nothing else is looked for in all rows.
//!
//! A gram is a 32-bit hash: small in an integer array (PostgreSQL) and free of tokenizer rules as hexadecimal digits
//! (SQLite's FTS5).

use std::collections::BTreeSet;

/// Lower case, full-width forms as their ASCII twins, each run of white space as one space.
pub(crate) fn normalise(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_normalised(&mut out, c);
    }
    out
}

/// Appends one character as [`normalise`] writes it; white space only after something else.
pub(crate) fn push_normalised(out: &mut String, c: char) {
    let c = match c {
        '\0' => '\u{fffd}',
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        _ => c,
    };
    if c.is_whitespace() {
        if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    } else {
        out.extend(c.to_lowercase());
    }
}

/// The grams of a normalised text that is to be found.
pub(crate) fn of_text(text: &str) -> BTreeSet<i32> {
    let mut grams = BTreeSet::new();
    for run in runs(text) {
        for i in 0..run.chars.len() {
            let rest = &run.chars[i..];
            if run.dense {
                grams.insert(hash(DENSE, &rest[..1]));
                if rest.len() >= 2 {
                    grams.insert(hash(DENSE, &rest[..2]));
                }
            } else {
                if i == 0 {
                    grams.insert(hash(START, &rest[..1]));
                    if rest.len() >= 2 {
                        grams.insert(hash(START, &rest[..2]));
                    }
                }
                if rest.len() >= 3 {
                    grams.insert(hash(INSIDE, &rest[..3]));
                }
            }
        }
    }
    grams
}

/// The grams that every text has in which this normalised piece occurs (at the beginning of a word, if it is no more
/// than one or two letters).
pub(crate) fn of_piece(piece: &str) -> BTreeSet<i32> {
    let mut grams = BTreeSet::new();
    let runs: Vec<Run> = runs(piece).collect();
    let several = runs.len() > 1;
    for (idx, run) in runs.into_iter().enumerate() {
        match (run.dense, run.chars.len()) {
            // The piece may begin in the middle of a word; its other runs say enough.
            (false, 1 | 2) if idx == 0 && several => {}
            (true, 1) => _ = grams.insert(hash(DENSE, &run.chars)),
            (true, _) => grams.extend(run.chars.windows(2).map(|pair| hash(DENSE, pair))),
            (false, 1 | 2) => _ = grams.insert(hash(START, &run.chars)),
            (false, _) => grams.extend(run.chars.windows(3).map(|three| hash(INSIDE, three))),
        }
    }
    grams
}

const DENSE: u8 = 0;
const START: u8 = 1;
const INSIDE: u8 = 2;

/// FNV-1a over the gram's kind and characters.
fn hash(kind: u8, chars: &[char]) -> i32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut add = |byte: u8| hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    add(kind);
    for c in chars {
        (*c as u32).to_le_bytes().into_iter().for_each(&mut add);
    }
    hash.cast_signed()
}

/// Neighbouring characters of one class.
struct Run {
    dense: bool,
    chars: Vec<char>,
}

fn runs(text: &str) -> impl Iterator<Item = Run> {
    let mut chars = text.chars().peekable();
    std::iter::from_fn(move || {
        while chars.peek().is_some_and(|c| !c.is_alphanumeric()) {
            chars.next();
        }
        let dense = is_dense(*chars.peek()?);
        let mut run = Run { dense, chars: Vec::new() };
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() && is_dense(*c) == dense) {
            run.chars.push(c);
        }
        Some(run)
    })
}

/// Scripts in which a word is a few characters and is not set off by spaces.
fn is_dense(c: char) -> bool {
    matches!(u32::from(c),
        0x0e00..=0x0eff // Thai, Lao
        | 0x1000..=0x109f // Myanmar
        | 0x1780..=0x17ff // Khmer
        | 0x1100..=0x11ff // Hangul Jamo
        | 0x2e80..=0x2fdf // radicals
        | 0x3005..=0x3007 | 0x3021..=0x3029
        | 0x3040..=0x31ff // kana, bopomofo, Hangul compatibility Jamo
        | 0x3400..=0x4dbf | 0x4e00..=0x9fff // Han
        | 0xa960..=0xa97f | 0xac00..=0xd7ff // Hangul
        | 0xf900..=0xfaff // Han compatibility
        | 0x20000..=0x3ffff // Han extensions
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the index lets this text through for this piece.
    fn passes(text: &str, piece: &str) -> bool {
        let text = normalise(text);
        let piece = normalise(piece);
        text.contains(&piece) && of_piece(&piece).is_subset(&of_text(&text))
    }

    #[test]
    fn every_piece_of_a_text_is_let_through() {
        let texts = [
            "今天天气很好，我们去公园。",
            "The quick brown fox, again!",
            "用Rust写的GPT-2模型 über naïve",
            "C++ 与 Ｆｕｌｌ　ｗｉｄｔｈ",
        ];
        for text in texts {
            let normal: Vec<char> = normalise(text).chars().collect();
            for start in 0..normal.len() {
                for end in start + 1..=normal.len() {
                    let piece: String = normal[start..end].iter().collect();
                    let piece = piece.trim();
                    let mut words = runs(piece);
                    let first = words.next();
                    let is_short_word =
                        first.is_some_and(|run| !run.dense && run.chars.len() < 3) && words.next().is_none();
                    if !piece.is_empty() && !is_short_word {
                        assert!(passes(text, piece), "{piece:?} in {text:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_or_two_letters_are_found_at_the_beginnings_of_words() {
        assert!(passes("go to the zoo", "zo"));
        assert!(passes("GPT-2模型ab", "ab"));
        assert!(passes("a plan B", "b"));
        assert!(!passes("go to the zoo", "oo"));
    }

    #[test]
    fn case_and_width_do_not_matter_and_white_space_is_one_space() {
        assert_eq!(normalise("  Ｈｅｌｌｏ\t\n WORLD　你好 "), "hello world 你好 ");
        assert!(passes("ÜBER", "über"));
    }

    #[test]
    fn a_piece_of_symbols_only_has_no_grams() {
        assert!(of_piece("++ 😀").is_empty());
    }
}
