//! Scanners for the expressions in use. Each stands beside the expression it equals.

use std::fmt;

use crate::char_class::{
    Char, Classes, LETTER, LOWER, MARK, MODIFIER, NEWLINE, NUMBER, OTHER_LETTER, PUNCTUATION, SPACE, SYMBOL,
    TITLE, UPPER, ascii_classes_of, char_at,
};

/// Uppercase and caseless: what may stand before the small letters of a word.
const HEAD: Classes = UPPER | TITLE | MODIFIER | OTHER_LETTER | MARK;
/// Lowercase and caseless.
const TAIL: Classes = LOWER | MODIFIER | OTHER_LETTER | MARK;

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Pattern {
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// The family of tiktoken's cl100k.
    Words(Words),
    /// The family of tiktoken's o200k, which also cuts between small and capital letters:
    /// `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+C?`
    /// `|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*C?`
    /// `|\p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    /// with C = `(?i:'s|'t|'re|'ve|'m|'ll|'d)` where `contractions`, else nothing.
    CasedWords { contractions: bool, max_digits: usize },
    /// ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*``
    /// `|\s*[\r\n]+|\s+(?!\S)|\s+`
    DeepSeekV3,
    /// `\s?[class]+`
    SpacedRun(CharSet),
    /// `[class]{1,max}`
    Run { set: CharSet, max: usize },
    /// `[0-9][0-9][0-9]`
    ThreeDigits,
    /// `\s+$`
    TrailingSpace,
    /// ` ?[^(\s|.,!?…。，、।۔،)]+`
    NotSentenceMarks,
}

/// `C|[^\r\n\p{L}\p{N}]?[letters]+|\p{N}{1,max_digits}| ?[^\s\p{L}\p{N}]+[tail]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// with C = `(?i:'s|'t|'re|'ve|'m|'ll|'d)` where `contractions`, else nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Words {
    pub(crate) contractions: bool,
    pub(crate) max_digits: usize,
    /// `\p{L}`, or `\p{L}\p{M}`, which then leave the punctuation as well.
    pub(crate) letters: Classes,
    /// Whether line ends directly after punctuation belong to it.
    pub(crate) newline_tail: bool,
}

/// A set of characters: classes, or listed ranges.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CharSet {
    pub(crate) classes: Classes,
    pub(crate) ranges: &'static [(u32, u32)],
}

const CONTRACTIONS: &str = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";

impl fmt::Display for Pattern {
    /// The expression, as the crate `tokenizers` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = |max: usize| match max {
            1 => r"\p{N}".to_owned(),
            usize::MAX => r"\p{N}+".to_owned(),
            max => format!(r"\p{{N}}{{1,{max}}}"),
        };
        match self {
            Pattern::Gpt2 => {
                f.write_str(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
            }
            Pattern::Words(Words { contractions, max_digits, letters, newline_tail }) => {
                if *contractions {
                    write!(f, "{CONTRACTIONS}|")?;
                }
                let (word, others) = if *letters == LETTER {
                    (r"\p{L}", r"[^\s\p{L}\p{N}]")
                } else {
                    (r"[\p{L}\p{M}]", r"[^\s\p{L}\p{M}\p{N}]")
                };
                let tail = if *newline_tail { r"[\r\n]*" } else { "" };
                let digits = digits(*max_digits);
                write!(f, r"[^\r\n\p{{L}}\p{{N}}]?{word}+|{digits}| ?{others}+{tail}|\s*[\r\n]+|\s+(?!\S)|\s+")
            }
            Pattern::CasedWords { contractions, max_digits } => {
                let (head, tail) = (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]");
                let end = if *contractions { format!("{CONTRACTIONS}?") } else { String::new() };
                let digits = digits(*max_digits);
                write!(
                    f,
                    r"[^\r\n\p{{L}}\p{{N}}]?{head}*{tail}+{end}|[^\r\n\p{{L}}\p{{N}}]?{head}+{tail}*{end}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                )
            }
            Pattern::DeepSeekV3 => f.write_str(
                r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
            ),
            Pattern::SpacedRun(set) => write!(f, r"\s?{set}+"),
            Pattern::Run { set, max: 1 } => write!(f, "{set}"),
            Pattern::Run { set, max: usize::MAX } => write!(f, "{set}+"),
            Pattern::Run { set, max } => write!(f, "{set}{{1,{max}}}"),
            Pattern::ThreeDigits => f.write_str("[0-9][0-9][0-9]"),
            Pattern::TrailingSpace => f.write_str(r"\s+$"),
            Pattern::NotSentenceMarks => f.write_str(r" ?[^(\s|.,!?…。，、।۔،)]+"),
        }
    }
}

impl fmt::Display for CharSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (classes, name) in [(LETTER, "L"), (NUMBER, "N"), (PUNCTUATION, "P")] {
            if self.classes & classes == classes {
                write!(f, r"\p{{{name}}}")?;
            }
        }
        for &(first, last) in self.ranges {
            write!(f, r"\x{{{first:X}}}")?;
            if last > first {
                write!(f, r"-\x{{{last:X}}}")?;
            }
        }
        f.write_str("]")
    }
}

impl CharSet {
    /// All characters of these classes.
    pub(crate) const fn classes(classes: Classes) -> CharSet {
        CharSet { classes, ranges: &[] }
    }

    /// The characters in these ranges, both ends included, in ascending order.
    pub(crate) const fn ranges(ranges: &'static [(u32, u32)]) -> CharSet {
        CharSet { classes: 0, ranges }
    }

    fn has(&self, c: Char) -> bool {
        c.is(self.classes) || {
            let after = self.ranges.partition_point(|range| range.0 <= c.code);
            after > 0 && c.code <= self.ranges[after - 1].1
        }
    }
}

impl Pattern {
    /// Where the piece that begins at `at` ends: a match, or the text up to the next match.
    pub(crate) fn next_piece(&self, text: &[u8], at: usize) -> usize {
        if let Some(end) = self.match_at(text, at) {
            return end;
        }
        if matches!(self, Pattern::TrailingSpace) {
            return trailing_space(text);
        }
        let mut end = at;
        while let Some(c) = char_at(text, end) {
            if end > at && self.match_at(text, end).is_some() {
                break;
            }
            end += c.len;
        }
        end
    }

    /// The end of the match that begins at `at`.
    fn match_at(&self, text: &[u8], at: usize) -> Option<usize> {
        match self {
            Pattern::Gpt2 => match_gpt2(text, at),
            Pattern::Words(words) => match_words(words, text, at),
            Pattern::CasedWords { contractions, max_digits } => {
                match_cased_words(*contractions, *max_digits, text, at)
            }
            Pattern::DeepSeekV3 => match_deepseek_v3(text, at),
            Pattern::SpacedRun(set) => {
                let c = char_at(text, at)?;
                // A space that is itself in the set begins a run when nothing of the set follows it.
                let start = if c.is(SPACE) { at + c.len } else { at };
                let end = run_end(text, start, |c| set.has(c));
                if end > start {
                    return Some(end);
                }
                (start > at && set.has(c)).then_some(start)
            }
            Pattern::Run { set, max } => {
                let mut end = at;
                let mut n = 0;
                while let Some(c) = char_at(text, end)
                    && n < *max
                    && set.has(c)
                {
                    end += c.len;
                    n += 1;
                }
                (n > 0).then_some(end)
            }
            Pattern::ThreeDigits => {
                let end = at + 3;
                (end <= text.len() && text[at..end].iter().all(u8::is_ascii_digit)).then_some(end)
            }
            Pattern::TrailingSpace => {
                let start = trailing_space(text);
                (at == start && at < text.len()).then_some(text.len())
            }
            Pattern::NotSentenceMarks => {
                let start = if text[at] == b' ' { at + 1 } else { at };
                let end = run_end(text, start, |c| !c.is(SPACE) && !is_sentence_mark(c.code));
                (end > start).then_some(end)
            }
        }
    }
}

fn is_sentence_mark(code: u32) -> bool {
    char::from_u32(code).is_some_and(|c| "(|.,!?…。，、।۔،)".contains(c))
}

/// Where the white space at the end of `text` begins.
fn trailing_space(text: &[u8]) -> usize {
    let mut start = text.len();
    while start > 0 {
        let mut from = start - 1;
        while from > 0 && start - from < 4 && text[from] & 0xC0 == 0x80 {
            from -= 1;
        }
        match char_at(text, from) {
            Some(c) if c.is(SPACE) && from + c.len == start => start = from,
            _ => break,
        }
    }
    start
}

/// The end of the run of characters from `at` on for which `belongs` holds.
#[inline]
fn run_end(text: &[u8], mut at: usize, belongs: impl Fn(Char) -> bool) -> usize {
    while let Some(c) = char_at(text, at) {
        if !belongs(c) {
            break;
        }
        at += c.len;
    }
    at
}

/// The end of the run of letters from `at` on; `letters` holds all of them, and what else counts as one beyond ASCII.
#[inline(always)]
fn letters_end(text: &[u8], mut at: usize, letters: Classes) -> usize {
    loop {
        at = ascii_letters_end(text, at);
        if text.get(at).is_none_or(u8::is_ascii) {
            return at;
        }
        let from = at;
        while let Some(c) = char_at(text, at)
            && c.len > 1
            && c.is(letters)
        {
            at += c.len;
        }
        if at == from {
            return at;
        }
    }
}

/// The end of the run of ASCII letters from `at` on, eight bytes at a time: most words end within eight, and a loop by
/// bytes would end each with a jump that the processor cannot foresee.
#[inline]
fn ascii_letters_end(text: &[u8], mut at: usize) -> usize {
    const fn each(byte: u64) -> u64 {
        byte * 0x0101_0101_0101_0101
    }
    while let Some(bytes) = text.get(at..at + 8) {
        let bytes = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        // Of each byte the upper bit tells: in small letters and without it, whether it is at least `a`, above `z`.
        let small = (bytes | each(0x20)) & each(0x7F);
        let (from_a, above_z) = (small + each(0x80 - 0x61), small + each(0x80 - 0x7B));
        let others = !(from_a & !above_z & !bytes) & each(0x80);
        if others != 0 {
            return at + others.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + text[at.min(text.len())..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count()
}

#[inline]
fn class_run_end(text: &[u8], at: usize, classes: Classes) -> usize {
    run_end(text, at, |c| c.is(classes))
}

/// `\s+(?!\S)|\s+`: all white space at the end of the text, all but its last character before a word.
fn match_space(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    let mut last_len = 0;
    while let Some(c) = char_at(text, end) {
        if !c.is(SPACE) {
            let but_last = end - last_len;
            return if but_last > at { Some(but_last) } else { (end > at).then_some(end) };
        }
        end += c.len;
        last_len = c.len;
    }
    (end > at).then_some(end)
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`: white space up to its last line end, or else as [`match_space`].
fn match_lines_or_space(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    let mut last_len = 0;
    let mut after_newline = None;
    while let Some(c) = char_at(text, end)
        && c.is(SPACE)
    {
        end += c.len;
        last_len = c.len;
        if c.is(NEWLINE) {
            after_newline = Some(end);
        }
    }
    after_newline.or(match end - last_len {
        but_last if but_last > at && end < text.len() => Some(but_last),
        _ => (end > at).then_some(end),
    })
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, and with `any_case` also in capitals (and with the long s, which folds to s).
fn match_contraction(text: &[u8], at: usize, any_case: bool) -> Option<usize> {
    if text.get(at) != Some(&b'\'') {
        return None;
    }
    let letter =
        |at: usize| text.get(at).map_or(0, |&byte| if any_case { byte.to_ascii_lowercase() } else { byte });
    match (letter(at + 1), letter(at + 2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(at + 2),
        (b'r', b'e') | (b'v', b'e') | (b'l', b'l') => Some(at + 3),
        (0xC5, 0xBF) if any_case => Some(at + 3),
        _ => None,
    }
}

fn match_gpt2(text: &[u8], at: usize) -> Option<usize> {
    if let Some(end) = match_contraction(text, at, false) {
        return Some(end);
    }
    let start = if text[at] == b' ' { at + 1 } else { at };
    match char_at(text, start) {
        Some(c) if c.is(LETTER) => Some(letters_end(text, start, LETTER)),
        Some(c) if c.is(NUMBER) => Some(class_run_end(text, start, NUMBER)),
        Some(c) if !c.is(SPACE) => Some(run_end(text, start, |c| !c.is(SPACE | LETTER | NUMBER))),
        _ => match_space(text, at),
    }
}

#[inline]
fn match_words(words: &Words, text: &[u8], at: usize) -> Option<usize> {
    // Most words: ASCII letters, with one other character before them that may stand there; and single digits.
    let first = ascii_classes_of(text[at]);
    if first & NUMBER != 0 && words.max_digits == 1 {
        return Some(at + 1);
    }
    if first != 0 && text[at] != b'\'' {
        let start = at + usize::from(first & (NEWLINE | LETTER | NUMBER) == 0);
        let end = letters_end(text, start, words.letters);
        if end > start {
            return Some(end);
        }
    }
    if words.contractions
        && let Some(end) = match_contraction(text, at, true)
    {
        return Some(end);
    }
    let c = char_at(text, at)?;
    if !c.is(NEWLINE | LETTER | NUMBER) {
        let end = letters_end(text, at + c.len, words.letters);
        if end > at + c.len {
            return Some(end);
        }
    }
    if c.is(words.letters) {
        return Some(letters_end(text, at, words.letters));
    }
    if c.is(NUMBER) {
        return Some(digits_end(text, at, words.max_digits));
    }
    let start = if c.code == u32::from(b' ') { at + 1 } else { at };
    let end = run_end(text, start, |c| !c.is(SPACE | NUMBER | words.letters));
    if end > start {
        return Some(if words.newline_tail { class_run_end(text, end, NEWLINE) } else { end });
    }
    match_lines_or_space(text, at)
}

fn match_cased_words(contractions: bool, max_digits: usize, text: &[u8], at: usize) -> Option<usize> {
    let c = char_at(text, at)?;
    let after_prefix = (!c.is(NEWLINE | LETTER | NUMBER)).then_some(at + c.len);
    let word = after_prefix
        .and_then(|start| match_small_word(text, start))
        .or_else(|| match_small_word(text, at))
        .or_else(|| after_prefix.and_then(|start| match_capital_word(text, start)))
        .or_else(|| match_capital_word(text, at));
    if let Some(end) = word {
        let suffix = if contractions { match_contraction(text, end, true) } else { None };
        return Some(suffix.unwrap_or(end));
    }
    if c.is(NUMBER) {
        return Some(digits_end(text, at, max_digits));
    }
    let start = if c.code == u32::from(b' ') { at + 1 } else { at };
    let end = run_end(text, start, |c| !c.is(SPACE | LETTER | NUMBER));
    if end > start {
        return Some(run_end(text, end, |c| c.is(NEWLINE) || c.code == u32::from(b'/')));
    }
    match_lines_or_space(text, at)
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`: the first class takes all it can and then gives
/// back only as much as the second needs, which is down to the last caseless character.
fn match_small_word(text: &[u8], at: usize) -> Option<usize> {
    let mut end = at;
    let mut after_caseless = None;
    while let Some(c) = char_at(text, end)
        && c.is(HEAD)
    {
        end += c.len;
        if c.is(TAIL) {
            after_caseless = Some(end);
        }
    }
    match char_at(text, end) {
        Some(c) if c.is(TAIL) => Some(class_run_end(text, end, TAIL)),
        _ => after_caseless,
    }
}

/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
fn match_capital_word(text: &[u8], at: usize) -> Option<usize> {
    let head_end = class_run_end(text, at, HEAD);
    (head_end > at).then(|| class_run_end(text, head_end, TAIL))
}

fn digits_end(text: &[u8], at: usize, max_digits: usize) -> usize {
    let mut end = at;
    let mut n = 0;
    while let Some(c) = char_at(text, end)
        && n < max_digits
        && c.is(NUMBER)
    {
        end += c.len;
        n += 1;
    }
    end
}

fn match_deepseek_v3(text: &[u8], at: usize) -> Option<usize> {
    if text[at].is_ascii_punctuation() {
        let end = at + 1 + text[at + 1..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        if end > at + 1 {
            return Some(end);
        }
    }
    let c = char_at(text, at)?;
    if !c.is(NEWLINE | LETTER | PUNCTUATION | SYMBOL) {
        let end = class_run_end(text, at + c.len, LETTER | MARK);
        if end > at + c.len {
            return Some(end);
        }
    }
    if c.is(LETTER | MARK) {
        return Some(class_run_end(text, at, LETTER | MARK));
    }
    let start = if c.code == u32::from(b' ') { at + 1 } else { at };
    let end = class_run_end(text, start, PUNCTUATION | SYMBOL);
    if end > start {
        return Some(class_run_end(text, end, NEWLINE));
    }
    match_lines_or_space(text, at)
}
