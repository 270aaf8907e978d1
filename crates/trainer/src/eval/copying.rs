//! Texts to repeat as they are.

use super::draw::Draw;
use super::task::Document;

/// `n` lists of three to six words and numbers that `join` puts behind each other.
pub(crate) fn lists(
    draw: &mut Draw,
    words: &[&str],
    n: usize,
    join: &str,
    ask: impl Fn(&str) -> String,
) -> Vec<Document> {
    let list = |_| {
        let n_words = draw.between(3, 6);
        let parts = (0..n_words).map(|_| match draw.below(4) {
            0 => draw.between(10, 999).to_string(),
            _ => (*draw.of(words)).to_owned(),
        });
        let text = parts.collect::<Vec<String>>().join(join);
        Document::Generation { question: ask(&text), answers: vec![text], checks: vec![] }
    };
    (0..n).map(list).collect()
}
