//! Words letter by letter, and backwards.

use super::draw::Draw;
use super::task::Document;

fn document(question: String, answer: String) -> Document {
    Document::Generation { question, answers: vec![answer], checks: vec![] }
}

/// The letters of a word, or the characters, with blanks between them.
fn apart(word: &str) -> String {
    word.chars().map(String::from).collect::<Vec<_>>().join(" ")
}

/// `n` different words to spell.
pub(crate) fn english(draw: &mut Draw, words: &[&str], n: usize) -> Vec<Document> {
    let ask = |word: &&&str| {
        document(format!("Spell the word \"{word}\" with a space between the letters."), apart(word))
    };
    draw.sample(words, n).iter().map(ask).collect()
}

/// `n` different words, by turns to take apart and to turn round.
pub(crate) fn chinese(draw: &mut Draw, words: &[&str], n: usize) -> Vec<Document> {
    let ask = |(idx, word): (usize, &&str)| match idx % 2 {
        0 => document(format!("把“{word}”这个词的每个字用空格隔开。"), apart(word)),
        _ => document(format!("把“{word}”这个词倒着写一遍。"), word.chars().rev().collect()),
    };
    draw.sample(words, n).into_iter().enumerate().map(ask).collect()
}
