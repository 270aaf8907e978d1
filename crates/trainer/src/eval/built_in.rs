//! The tasks that come with the program, in English and Chinese. What is drawn comes from one seed, so everyone asks the
//! same.

use super::draw::Draw;
use super::matching::Matching;
use super::task::{Document, Task, TaskKind, TaskOptions};
use super::words::{CHINESE, ENGLISH};
use super::{arithmetic, copying, idioms, instructions, spelling};

/// Decides what is asked.
pub const BUILT_IN_SEED: u64 = 2026;

/// Documents of each drawn task, and examples beside them.
const N_ASKED: usize = 100;
const N_EXAMPLES: usize = 12;

/// All of them, English ones first.
#[must_use]
pub fn built_in_tasks() -> Vec<Task> {
    let n = N_ASKED + N_EXAMPLES;
    let draw = |name: &str| Draw::new(BUILT_IN_SEED, name);
    let number = |task: Task| Task { options: last_number(task.options), ..task };
    vec![
        number(generation(
            "arithmetic-en",
            "sums and differences of two digits, products of one",
            "Question: ",
            "\nAnswer:",
            arithmetic::problems(&mut draw("arithmetic-en"), n, |a, sign, b| {
                format!("What is {a} {sign} {b}?")
            }),
        )),
        generation(
            "spelling-en",
            "words letter by letter",
            "Question: ",
            "\nAnswer:",
            spelling::english(&mut draw("spelling-en"), &ENGLISH, n),
        ),
        generation(
            "copying-en",
            "lists of words and numbers, repeated as they are",
            "Question: ",
            "\nAnswer:",
            copying::lists(&mut draw("copying-en"), &ENGLISH, n, " ", |text| {
                format!("Repeat exactly: {text}")
            }),
        ),
        choice("idioms-en", "sayings to complete, one of four words", " ", idioms::english()),
        followed(
            "instructions-en",
            "instructions that a program verifies: case, length, words, JSON",
            instructions::english(&mut draw("instructions-en"), N_ASKED),
        ),
        number(generation(
            "arithmetic-zh",
            "两位数的加减法和一位数的乘法",
            "问题：",
            "\n答案：",
            arithmetic::problems(&mut draw("arithmetic-zh"), n, |a, sign, b| {
                format!("{a} {sign} {b} 等于多少？")
            }),
        )),
        generation(
            "spelling-zh",
            "把词拆成字，或倒着写",
            "问题：",
            "\n答案：",
            spelling::chinese(&mut draw("spelling-zh"), &CHINESE, n),
        ),
        generation(
            "copying-zh",
            "一字不差地重复词语和数字",
            "问题：",
            "\n答案：",
            copying::lists(&mut draw("copying-zh"), &CHINESE, n, "、", |text| format!("请原样重复：{text}")),
        ),
        choice("idioms-zh", "补全成语，四选一", "", idioms::chinese()),
        followed(
            "instructions-zh",
            "可以用程序检验的指令：语言、字数、用词、JSON",
            instructions::chinese(&mut draw("instructions-zh"), N_ASKED),
        ),
    ]
}

fn last_number(options: TaskOptions) -> TaskOptions {
    TaskOptions { matching: Matching { last_number: true, ..options.matching }, ..options }
}

/// Three examples before each question; the answer is one line.
fn generation(name: &str, about: &str, before: &str, after: &str, mut documents: Vec<Document>) -> Task {
    let examples = documents.split_off(N_ASKED.min(documents.len()));
    Task {
        name: name.to_owned(),
        about: about.to_owned(),
        kind: TaskKind::Generation,
        documents,
        examples,
        options: TaskOptions {
            n_few_shot: 3,
            before_question: before.to_owned(),
            after_question: after.to_owned(),
            target_delimiter: if name.ends_with("-zh") { "" } else { " " }.to_owned(),
            until: vec!["\n".to_owned()],
            max_tokens: 48,
            ..TaskOptions::default()
        },
    }
}

fn choice(name: &str, about: &str, target_delimiter: &str, documents: Vec<Document>) -> Task {
    Task {
        name: name.to_owned(),
        about: about.to_owned(),
        kind: TaskKind::Choice,
        documents,
        examples: Vec::new(),
        options: TaskOptions { target_delimiter: target_delimiter.to_owned(), ..TaskOptions::default() },
    }
}

/// No example shows an answer: the instruction alone must do.
fn followed(name: &str, about: &str, documents: Vec<Document>) -> Task {
    let (before, after) =
        if name.ends_with("-zh") { ("问题：", "\n答案：") } else { ("Question: ", "\nAnswer:") };
    Task {
        name: name.to_owned(),
        about: about.to_owned(),
        kind: TaskKind::Generation,
        documents,
        examples: Vec::new(),
        options: TaskOptions {
            before_question: before.to_owned(),
            after_question: after.to_owned(),
            until: vec![format!("\n\n{}", before.trim_end())],
            max_tokens: 96,
            ..TaskOptions::default()
        },
    }
}
