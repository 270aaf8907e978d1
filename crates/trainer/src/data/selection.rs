//! Which documents are taken, and which of them are held out.

use std::collections::HashSet;

use whatlang::Lang;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes of a document that tell its language.
const LANGUAGE_LEN: usize = 600;

/// A name that no language has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "no language named {0:?}: expected a name such as English, or a code such as eng; en and zh are known, too"
)]
pub struct UnknownLanguage(String);

/// The language of an English name or a code of three letters.
///
/// # Errors
/// Where there is none.
pub fn language_by_name(name: &str) -> Result<Lang, UnknownLanguage> {
    let code = match name.to_ascii_lowercase().as_str() {
        "en" => "eng".to_owned(),
        "zh" | "chinese" => "cmn".to_owned(),
        other => other.to_owned(),
    };
    let by_name = || Lang::all().iter().copied().find(|lang| lang.eng_name().eq_ignore_ascii_case(name));
    Lang::from_code(&code).or_else(by_name).ok_or_else(|| UnknownLanguage(name.to_owned()))
}

/// Where a document goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    HeldOut,
}

/// What has been seen so far.
pub(super) struct Selection<'a> {
    languages: &'a [Lang],
    held_out_share: f64,
    /// Digests of all documents.
    seen: HashSet<u128>,
    hasher: Xxh3,
}

impl<'a> Selection<'a> {
    pub(super) fn new(languages: &'a [Lang], held_out_share: f64) -> Selection<'a> {
        Selection { languages, held_out_share, seen: HashSet::new(), hasher: Xxh3::new() }
    }

    /// Whether a document that begins like this is in a language that was asked for.
    pub(super) fn wants_language(&self, beginning: &str) -> bool {
        if self.languages.is_empty() {
            return true;
        }
        let mut len = beginning.len().min(LANGUAGE_LEN);
        while !beginning.is_char_boundary(len) {
            len -= 1;
        }
        whatlang::detect_lang(&beginning[..len]).is_some_and(|lang| self.languages.contains(&lang))
    }

    /// Where a document that begins like this goes: a question of its content alone, so that it stays where it is
    /// when others come and go.
    pub(super) fn part(&self, beginning: &str) -> Part {
        let draw = xxh3_64(beginning.as_bytes()) as f64 / u64::MAX as f64;
        if draw < self.held_out_share { Part::HeldOut } else { Part::Train }
    }

    /// The next piece of a document.
    pub(super) fn see(&mut self, piece: &str) {
        self.hasher.update(piece.as_bytes());
    }

    /// The document is whole: whether it is new.
    pub(super) fn is_new(&mut self) -> bool {
        let digest = self.hasher.digest128();
        self.hasher.reset();
        self.seen.insert(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_have_names_and_codes() {
        for name in ["en", "eng", "English", "ENGLISH"] {
            assert_eq!(language_by_name(name), Ok(Lang::Eng));
        }
        for name in ["zh", "cmn", "Mandarin", "Chinese"] {
            assert_eq!(language_by_name(name), Ok(Lang::Cmn));
        }
        assert_eq!(language_by_name("elvish"), Err(UnknownLanguage("elvish".to_owned())));
    }

    #[test]
    fn what_is_held_out_follows_from_the_text() {
        let selection = Selection::new(&[], 0.25);
        let held_out =
            |n: usize| (0..n).filter(|i| selection.part(&format!("document {i}")) == Part::HeldOut).count();
        // 1,000 expected, standard deviation 27.
        assert!((840..1160).contains(&held_out(4000)), "{}", held_out(4000));
        assert_eq!(selection.part("a"), Selection::new(&[], 0.25).part("a"));
    }

    #[test]
    fn a_text_is_new_once_however_it_is_cut() {
        let mut selection = Selection::new(&[], 0.0);
        selection.see("one text");
        assert!(selection.is_new());
        selection.see("one ");
        selection.see("text");
        assert!(!selection.is_new());
        selection.see("one text ");
        assert!(selection.is_new());
    }
}
