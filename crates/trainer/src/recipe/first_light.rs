//! First light: a model that knows one narrow subject, adds, spells and answers in two languages, from nothing.
//!
//! | file | what |
//! |---|---|
//! | `texts.jsonl` | texts to begin with |
//! | `chats.jsonl` | conversations to learn to answer from |
//! | `tests/*.jsonl` | questions of which none is in either: a fact in words that only other facts were asked in, sums of numbers and words that were never seen |

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;
use weights::AtomicFile;

use super::{Lesson, arithmetic, elements, manners, spelling};

/// What a question is asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese.
    Chinese,
}

impl Language {
    const BOTH: [Language; 2] = [Language::English, Language::Chinese];

    fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }
}

/// Questions of a test.
const N_TESTS: usize = 100;
/// Longest answer to one: a model that does not come to an end by then has not learnt to.
const MAX_ANSWER_TOKENS: usize = 80;
/// How often lessons follow each other in one conversation, at most.
const MAX_TURNS: usize = 6;

/// How much is generated.
#[derive(Debug, Clone, Copy)]
pub struct FirstLight {
    /// Documents to begin with.
    pub n_texts: usize,
    /// Conversations.
    pub n_chats: usize,
    /// Decides what is drawn; never what is kept for tests.
    pub seed: u64,
}

impl Default for FirstLight {
    fn default() -> FirstLight {
        FirstLight { n_texts: 40_000, n_chats: 35_000, seed: 42 }
    }
}

impl FirstLight {
    /// The files of the tests, which are written last.
    pub const TESTS: [&str; 6] = [
        "tests/elements-en.jsonl",
        "tests/addition-en.jsonl",
        "tests/spelling-en.jsonl",
        "tests/elements-zh.jsonl",
        "tests/addition-zh.jsonl",
        "tests/spelling-zh.jsonl",
    ];

    /// Writes all files into a folder.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder.join("tests"))?;
        let mut random = fastrand::Rng::with_seed(self.seed);
        let facts = Language::BOTH.map(elements::questions);
        let mut texts = buffered(&folder.join("texts.jsonl"))?;
        for _ in 0..self.n_texts {
            writeln!(texts, "{}", json!({ "text": text(&mut random) }))?;
        }
        finish(texts)?;
        let to_learn = facts.each_ref().map(|facts| {
            facts.iter().filter(|(_, is_test)| !is_test).map(|(lesson, _)| lesson).collect::<Vec<&Lesson>>()
        });
        let mut chats = buffered(&folder.join("chats.jsonl"))?;
        for _ in 0..self.n_chats {
            writeln!(chats, "{}", chat(&to_learn, &mut random))?;
        }
        finish(chats)?;
        for (language, facts) in Language::BOTH.into_iter().zip(&facts) {
            let mut kept: Vec<&Lesson> =
                facts.iter().filter(|(_, is_test)| *is_test).map(|(lesson, _)| lesson).collect();
            random.shuffle(&mut kept);
            write_test(folder, "elements", language, kept.into_iter().cloned())?;
            write_test(folder, "addition", language, sums(language, &mut random))?;
            write_test(folder, "spelling", language, spellings(language, &mut random))?;
        }
        Ok(())
    }
}

fn buffered(path: &Path) -> io::Result<BufWriter<AtomicFile>> {
    AtomicFile::create(path).map(BufWriter::new)
}

fn finish(file: BufWriter<AtomicFile>) -> io::Result<()> {
    file.into_inner().map_err(io::IntoInnerError::into_error)?.finish()
}

/// A document of some sentences of one kind.
fn text(random: &mut fastrand::Rng) -> String {
    let language = Language::BOTH[random.usize(..2)];
    let n = random.usize(3..=8);
    let between = if language == Language::Chinese { "" } else { " " };
    match random.u32(..20) {
        0..8 => {
            let sentence = |random: &mut fastrand::Rng| {
                elements::text(language, random.usize(1..=elements::N_ELEMENTS), random.usize(..4))
            };
            (0..n).map(|_| sentence(random)).collect::<Vec<String>>().join(between)
        }
        8..13 => {
            let sum = |random: &mut fastrand::Rng| {
                let (a, b) = pair(random, false);
                arithmetic::text(a, b)
            };
            (0..n).map(|_| sum(random)).collect::<Vec<String>>().join("\n")
        }
        _ => {
            let word = |random: &mut fastrand::Rng| {
                let word = word(random);
                format!("{word}: {}", spelling::letters(&word))
            };
            (0..n).map(|_| word(random)).collect::<Vec<String>>().join("\n")
        }
    }
}

/// A conversation of a few questions.
fn chat(facts: &[Vec<&Lesson>; 2], random: &mut fastrand::Rng) -> String {
    let which = random.usize(..2);
    let language = Language::BOTH[which];
    let mut messages = Vec::new();
    for _ in 0..random.usize(1..=MAX_TURNS) {
        let Lesson { question, answer } = match random.u32(..20) {
            0..8 => facts[which][random.usize(..facts[which].len())].clone(),
            8..12 => {
                let (a, b) = pair(random, false);
                arithmetic::question(language, a, b, random.usize(..))
            }
            12..18 => spelling::question(language, &word(random), random.usize(..)),
            _ => manners::question(language, random),
        };
        messages.push(json!({ "role": "user", "content": question }));
        messages.push(json!({ "role": "assistant", "content": answer }));
    }
    json!({ "messages": messages }).to_string()
}

/// Two numbers whose sum is for lessons, or two of two digits for tests.
fn pair(random: &mut fastrand::Rng, is_test: bool) -> (u32, u32) {
    let least = if is_test { 10 } else { 0 };
    loop {
        let (a, b) = (random.u32(least..100), random.u32(least..100));
        if arithmetic::is_kept(a, b) == is_test {
            return (a, b);
        }
    }
}

/// A word that is for lessons.
fn word(random: &mut fastrand::Rng) -> String {
    let (words, _) = spelling::words();
    if random.bool() {
        return words[random.usize(..words.len())].to_owned();
    }
    loop {
        let word = spelling::invented(random);
        if !spelling::is_kept(&word) {
            return word;
        }
    }
}

fn sums(language: Language, random: &mut fastrand::Rng) -> impl Iterator<Item = Lesson> {
    std::iter::repeat_with(move || {
        let (a, b) = pair(random, true);
        arithmetic::question(language, a, b, random.usize(..))
    })
}

fn spellings(language: Language, random: &mut fastrand::Rng) -> impl Iterator<Item = Lesson> {
    let (_, mut words) = spelling::words();
    random.shuffle(&mut words);
    let ways: Vec<usize> = words.iter().map(|_| random.usize(..)).collect();
    words.into_iter().zip(ways).map(move |(word, way)| spelling::question(language, word, way))
}

/// The first [`N_TESTS`] different questions.
fn write_test(
    folder: &Path,
    name: &str,
    language: Language,
    lessons: impl Iterator<Item = Lesson>,
) -> io::Result<()> {
    let path = folder.join("tests").join(format!("{name}-{}.jsonl", language.code()));
    let mut file = buffered(&path)?;
    writeln!(file, "{}", json!({ "task": { "max_tokens": MAX_ANSWER_TOKENS } }))?;
    let mut seen = HashSet::new();
    for lesson in lessons.filter(|lesson| seen.insert(lesson.clone())).take(N_TESTS) {
        writeln!(file, "{}", json!({ "question": lesson.question, "answer": lesson.answer }))?;
    }
    finish(file)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn no_question_of_a_test_is_in_a_lesson_and_every_fact_is() {
        let folder = tempfile::tempdir().unwrap();
        FirstLight { n_texts: 3000, n_chats: 20_000, seed: 1 }.write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let parsed = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let mut said: HashSet<String> = HashSet::new();
        for line in read("chats.jsonl").lines() {
            let chat = parsed(line);
            let messages = chat["messages"].as_array().unwrap().iter();
            said.extend(messages.map(|message| message["content"].as_str().unwrap().to_owned()));
        }
        for line in read("texts.jsonl").lines() {
            let text = parsed(line);
            let lines = text["text"].as_str().unwrap().lines();
            said.extend(lines.map(|line| line.rsplit(": ").next().unwrap().to_owned()));
        }
        for language in Language::BOTH {
            for (name, n) in [("elements", 100), ("addition", 100), ("spelling", 50)] {
                let test = read(&format!("tests/{name}-{}.jsonl", language.code()));
                let questions = || test.lines().skip(1);
                assert!(questions().count() >= n, "{name}: {} questions", questions().count());
                for line in questions() {
                    let lesson = parsed(line);
                    let [question, answer] = ["question", "answer"].map(|key| lesson[key].as_str().unwrap());
                    assert!(!said.contains(question), "{question} is in a lesson");
                    assert_eq!(said.contains(answer), name == "elements", "{question}: {answer}");
                }
            }
        }
    }
}
