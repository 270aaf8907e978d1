//! Sums of two numbers below a hundred.

use super::{Language, Lesson, is_test};

const ENGLISH: [&str; 9] = [
    "What is {a} + {b}?",
    "How much is {a} plus {b}?",
    "Add {a} and {b}.",
    "{a} + {b} = ?",
    "Please add {a} to {b}.",
    "What do {a} and {b} make?",
    "What is {a}+{b}?",
    "{a}+{b}=?",
    "{a}+{b}",
];
const CHINESE: [&str; 9] = [
    "{a} + {b} 等于多少？",
    "{a} 加 {b} 是多少？",
    "请计算 {a} + {b}。",
    "{a} + {b} = ？",
    "把 {a} 和 {b} 加起来是多少？",
    "{a} 与 {b} 的和是多少？",
    "{a}加{b}等于几？",
    "{a}+{b}=？",
    "{a}+{b}等于多少",
];

/// Whether a pair is asked for in tests only, in whatever words and order.
pub(super) fn is_kept(a: u32, b: u32) -> bool {
    is_test(&format!("{} + {}", a.min(b), a.max(b)), 10)
}

pub(super) fn question(language: Language, a: u32, b: u32, way: usize) -> Lesson {
    let ways = match language {
        Language::English => &ENGLISH,
        Language::Chinese => &CHINESE,
    };
    let question = ways[way % ways.len()].replace("{a}", &a.to_string()).replace("{b}", &b.to_string());
    Lesson::new(question, text(a, b))
}

/// As a text would say it.
pub(super) fn text(a: u32, b: u32) -> String {
    format!("{a} + {b} = {}", a + b)
}
