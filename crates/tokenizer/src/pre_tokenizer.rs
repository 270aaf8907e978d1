//! Cuts text into the words inside which BPE merges.
//!
//! A published pre-tokenizer is a list of regular expressions, each cutting the pieces of the one before: what it
//! matches stands alone, what lies between matches stands alone too, and no expression sees beyond its piece. Here
//! each expression is a hand-written scanner (see [`pattern`]): a regex engine backtracks for a quadratic time, or
//! gives up, on long runs of white space or of one character.

use std::ops::Range;

mod pattern;
mod table;

pub(crate) use pattern::Pattern;
pub(crate) use table::{DEFAULT, Recipe, recipe};

/// The cutting part of a vocabulary.
#[derive(Debug)]
pub(crate) struct PreTokenizer {
    stages: Vec<Pattern>,
}

impl PreTokenizer {
    /// One that applies these patterns in turn.
    pub(crate) fn new(stages: Vec<Pattern>) -> PreTokenizer {
        PreTokenizer { stages }
    }

    /// Calls `word` with where each word of `text` stands, in order; together they are the text.
    pub(crate) fn for_each(&self, text: &[u8], mut word: impl FnMut(Range<usize>)) {
        cut(&self.stages, text, 0..text.len(), &mut word);
    }
}

fn cut(stages: &[Pattern], text: &[u8], part: Range<usize>, word: &mut impl FnMut(Range<usize>)) {
    let Some((stage, later)) = stages.split_first() else {
        if !part.is_empty() {
            word(part);
        }
        return;
    };
    // No expression sees beyond its piece.
    let start = part.start;
    let piece = &text[part];
    let mut at = 0;
    while at < piece.len() {
        let end = stage.next_piece(piece, at);
        if later.is_empty() {
            word(start + at..start + end);
        } else {
            cut(later, text, start + at..start + end, word);
        }
        at = end;
    }
}

/// What a pre-tokenizer does, as other programs are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreTokenizerFacts {
    /// Regular expressions, each cutting the pieces of the one before into matches and what lies between.
    pub expressions: Vec<String>,
    /// Text is composed (NFC) first.
    pub nfc: bool,
    /// A whole word that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Words are merged in the alphabet of bytes; otherwise as they are, with `▁` for spaces.
    pub byte_level: bool,
}

/// The facts of the pre-tokenizer with this name of `tokenizer.ggml.pre`, if it is known.
#[must_use]
pub fn pre_tokenizer_facts(name: &str) -> Option<PreTokenizerFacts> {
    let recipe = recipe(name)?;
    let expressions = recipe.stages().iter().map(Pattern::to_string).collect();
    Some(PreTokenizerFacts {
        expressions,
        nfc: recipe.nfc,
        ignore_merges: recipe.ignore_merges,
        byte_level: !recipe.plain_utf8,
    })
}

/// Names of `tokenizer.ggml.pre` that are known; any other falls back to `default` with a warning.
pub fn known_pre_tokenizers() -> impl Iterator<Item = &'static str> {
    table::RECIPES.iter().flat_map(|recipe| recipe.names.iter().copied())
}

#[cfg(test)]
mod tests;
