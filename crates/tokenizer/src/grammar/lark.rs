//! Regular expressions, choices and Lark grammars, checked and put into llguidance's Lark.
//!
//! llguidance's notation can do more than an answer may: name special tokens, lift its own rules, take text back. One
//! scan over the source refuses that and bounds the nesting, which llguidance's parser follows by recursion.

use llguidance::regex_to_lark;
use regex_syntax::ast::parse::Parser;

use super::{GrammarError, MAX_CHOICES, MAX_GRAMMAR_BYTES, first_line};

/// Brackets inside each other.
const MAX_DEPTH: usize = 64;
/// Rules and terminals.
const MAX_RULES: usize = 4096;

/// Attributes of rules that are refused: the first takes text back that was already sent, the others ask for another
/// way of drawing.
const ATTRIBUTES: [&str; 3] = ["stop", "temperature", "max_tokens"];
/// Settings that would lift a rule.
const SETTINGS: [&str; 2] = ["x-guidance", "allow_invalid_utf8"];

/// Whether a grammar is written in llama.cpp's notation: some line begins with `name ::=`.
pub(super) fn is_gbnf(text: &str) -> bool {
    let names = text.lines().filter_map(|line| line.split_once("::=")).map(|(name, _)| name.trim());
    names.into_iter().any(|name| !name.is_empty() && name.chars().all(is_word))
}

/// A Lark grammar that asks for nothing that an answer may not do.
pub(super) fn check(text: &str) -> Result<String, GrammarError> {
    let mut scanner = Scanner::new(text);
    let mut depth = 0usize;
    let mut n_rules = 0;
    let mut before: Option<Token<'_>> = None;
    while let Some(token) = scanner.next() {
        let refuse = |reason: &str| Err(syntax(text, token.start, reason));
        match token.kind {
            Kind::Sign('(' | '[' | '{') => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return refuse("brackets are nested too deeply, expected at most 64 levels");
                }
            }
            Kind::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            Kind::Sign('<') => return refuse("special tokens cannot stand in an answer; leave <…> out"),
            Kind::Sign('~') if !scanner.rest().trim_start().starts_with(|c: char| c.is_ascii_digit()) => {
                return refuse("negation (~) is not supported: it admits what is no text");
            }
            Kind::Sign(':') if depth == 0 => {
                n_rules += 1;
                if n_rules > MAX_RULES {
                    let what = "the number of rules";
                    return Err(GrammarError::TooLarge { what, found: n_rules, limit: MAX_RULES });
                }
            }
            Kind::Sign('=') => {
                if let Some(Token { kind: Kind::Word(word), start }) = before
                    && ATTRIBUTES.contains(&word)
                {
                    return Err(syntax(text, start, &format!("the attribute {word:?} is not supported")));
                }
            }
            Kind::Text(content) if SETTINGS.contains(&content) => {
                return refuse(&format!("the setting {content:?} is not supported"));
            }
            _ => {}
        }
        before = Some(token);
    }
    Ok(text.to_owned())
}

/// llguidance's error, its `12(3): …` read as a position.
pub(super) fn explain(error: &str) -> GrammarError {
    let position = |line: &str| -> Option<GrammarError> {
        let (place, reason) = line.split_once("): ")?;
        let (line, column) = place.trim_start_matches("at ").split_once('(')?;
        let (line, column) = (line.trim().parse().ok()?, column.parse().ok()?);
        Some(GrammarError::Syntax { line, column, reason: first_line(reason) })
    };
    error.lines().find_map(position).unwrap_or_else(|| GrammarError::Invalid { reason: first_line(error) })
}

/// A grammar of the texts that a regular expression matches as a whole.
pub(super) fn of_regex(pattern: &str) -> Result<String, GrammarError> {
    check_regex(pattern)?;
    // The whole text must match anyhow: the outermost anchors say nothing more.
    let inner = pattern.strip_prefix('^').unwrap_or(pattern);
    let inner = match inner.strip_suffix('$') {
        Some(rest) if rest.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 0 => rest,
        _ => inner,
    };
    Ok(of_pattern(inner))
}

/// A grammar of these texts.
pub(super) fn of_choice(texts: &[String]) -> Result<String, GrammarError> {
    if texts.is_empty() || texts.len() > MAX_CHOICES {
        let reason = format!("expected 1 to {MAX_CHOICES} choices, found {}", texts.len());
        return Err(GrammarError::Invalid { reason });
    }
    let n_bytes = texts.iter().map(String::len).sum();
    if n_bytes > MAX_GRAMMAR_BYTES {
        let what = "the choices' length in bytes";
        return Err(GrammarError::TooLarge { what, found: n_bytes, limit: MAX_GRAMMAR_BYTES });
    }
    let escaped: Vec<String> = texts.iter().map(|text| regex_syntax::escape(text)).collect();
    Ok(of_pattern(&escaped.join("|")))
}

/// A grammar of one pattern. What is empty would be read as a comment.
fn of_pattern(pattern: &str) -> String {
    match pattern {
        "" => "start: \"\"".to_owned(),
        // \d and \w are ASCII's, as in JSON Schema and in JavaScript.
        _ => format!("start: /(?:{})/", regex_to_lark(pattern, "dw")),
    }
}

/// Refuses a regular expression that is broken or looks around, with the place.
pub(super) fn check_regex(pattern: &str) -> Result<(), GrammarError> {
    Parser::new().parse(pattern).map(|_| ()).map_err(|error| {
        let start = error.span().start;
        GrammarError::Syntax { line: start.line, column: start.column, reason: error.kind().to_string() }
    })
}

/// An error at a byte of the source.
pub(super) fn syntax(text: &str, at: usize, reason: &str) -> GrammarError {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    GrammarError::Syntax {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        reason: reason.to_owned(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind<'a> {
    Word(&'a str),
    /// Between quotation marks.
    Text(&'a str),
    Regex,
    Sign(char),
}

#[derive(Debug, Clone, Copy)]
struct Token<'a> {
    kind: Kind<'a>,
    start: usize,
}

/// The parts of a grammar, comments and white space left out. It may misread what is no grammar; llguidance's own
/// parser has the last word.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let rest = self.rest().trim_start();
            self.at = self.text.len() - rest.len();
            if !rest.starts_with('#') && !rest.starts_with("//") {
                break;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
        let (rest, start) = (self.rest(), self.at);
        let first = rest.chars().next()?;
        let (kind, len) = match first {
            '"' => {
                let len = quoted_len(rest, '"');
                (Kind::Text(rest[1..len].trim_end_matches('"')), len)
            }
            '/' => (Kind::Regex, quoted_len(rest, '/')),
            c if is_word(c) => {
                let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                (Kind::Word(&rest[..len]), len)
            }
            c => (Kind::Sign(c), c.len_utf8()),
        };
        self.at += len;
        Some(Token { kind, start })
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '-'
}

/// Bytes of what begins with `mark`, up to the next one that no backslash stands before.
fn quoted_len(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == mark => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
