//! The different words of a corpus and how often each occurs.

use hashbrown::HashMap;

use super::{TrainingError, recipe};
use crate::pre_tokenizer::PreTokenizer;
use crate::tokenizer::compose;

/// Counts words. Several count parts of a corpus side by side; [`WordCounts::add_all`] joins them.
#[derive(Debug)]
pub struct WordCounts {
    pre: String,
    pre_tokenizer: PreTokenizer,
    nfc: bool,
    counts: HashMap<Box<[u8]>, u64>,
    n_bytes: u64,
}

impl WordCounts {
    /// None yet, cut by the pre-tokenizer of this name (as in `tokenizer.ggml.pre`).
    ///
    /// # Errors
    /// Where there is none of that name, or it does not work on bytes.
    pub fn new(pre: &str) -> Result<WordCounts, TrainingError> {
        let recipe = recipe(pre)
            .filter(|recipe| !recipe.plain_utf8)
            .ok_or_else(|| TrainingError::UnknownPreTokenizer(pre.to_owned()))?;
        Ok(WordCounts {
            pre: pre.to_owned(),
            pre_tokenizer: PreTokenizer::new(recipe.stages()),
            nfc: recipe.nfc,
            counts: HashMap::new(),
            n_bytes: 0,
        })
    }

    /// Counts the words of a text, which no word of another text continues.
    pub fn add(&mut self, text: &[u8]) {
        let WordCounts { pre_tokenizer, nfc, counts, n_bytes, .. } = self;
        *n_bytes += text.len() as u64;
        let composed = if *nfc { compose(text) } else { None };
        let text = composed.as_deref().unwrap_or(text);
        pre_tokenizer.for_each(text, |word| {
            let word = &text[word];
            // A word of one byte has no pair.
            if word.len() < 2 {
                return;
            }
            match counts.get_mut(word) {
                Some(n) => *n += 1,
                None => _ = counts.insert(word.into(), 1),
            }
        });
    }

    /// Takes over what another counted.
    pub fn add_all(&mut self, other: WordCounts) {
        if self.counts.is_empty() {
            self.counts = other.counts;
        } else {
            for (word, n) in other.counts {
                *self.counts.entry(word).or_insert(0) += n;
            }
        }
        self.n_bytes += other.n_bytes;
    }

    /// The name of the pre-tokenizer.
    #[must_use]
    pub fn pre(&self) -> &str {
        &self.pre
    }

    /// Bytes of all texts.
    #[must_use]
    pub fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// Number of different words of two bytes and more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Whether no text of any length was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_bytes == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.counts.iter().map(|(word, &n)| (&**word, n))
    }
}
