//! Instructions that can be verified, in the manner of IFEval (Zhou et al. 2023): a program reads the answer and says
//! whether it keeps to them.

use serde::Deserialize;
use serde_json::Value;

/// What an answer must keep to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// No upper case letter.
    Lowercase,
    /// No lower case letter.
    Uppercase,
    /// So many words, separated by white space.
    Words {
        /// How many.
        exactly: usize,
    },
    /// So many Chinese characters.
    Characters {
        /// How many.
        exactly: usize,
    },
    /// So many lines that are not blank.
    Lines {
        /// How many.
        exactly: usize,
    },
    /// This text occurs, in any case.
    Contains {
        /// The text.
        text: String,
    },
    /// This text does not occur, in any case.
    Lacks {
        /// The text.
        text: String,
    },
    /// The answer begins with this text.
    StartsWith {
        /// The text.
        text: String,
    },
    /// The answer ends with this text.
    EndsWith {
        /// The text.
        text: String,
    },
    /// The answer is a JSON object with these keys; it may stand in a code block.
    Json {
        /// The keys.
        keys: Vec<String>,
    },
    /// Most of the letters are Chinese characters.
    Chinese,
    /// There is a letter, and none is a Chinese character.
    English,
    /// The whole answer stands in quotation marks.
    Quoted,
}

/// Whether an answer keeps to all of them; an empty one to none.
pub(crate) fn follows(answer: &str, checks: &[Check]) -> bool {
    let answer = answer.trim();
    !answer.is_empty() && checks.iter().all(|check| check.holds(answer))
}

impl Check {
    fn holds(&self, answer: &str) -> bool {
        // With blanks around it, so that a text that begins and ends with one is found as a word.
        let has = |text: &str| format!(" {answer} ").to_lowercase().contains(&text.to_lowercase());
        match self {
            Check::Lowercase => has_letter(answer) && !answer.chars().any(char::is_uppercase),
            Check::Uppercase => has_letter(answer) && !answer.chars().any(char::is_lowercase),
            Check::Words { exactly } => answer.split_whitespace().count() == *exactly,
            Check::Characters { exactly } => answer.chars().filter(|&c| is_han(c)).count() == *exactly,
            Check::Lines { exactly } => {
                answer.lines().filter(|line| !line.trim().is_empty()).count() == *exactly
            }
            Check::Contains { text } => has(text),
            Check::Lacks { text } => !has(text),
            Check::StartsWith { text } => answer.starts_with(text.as_str()),
            Check::EndsWith { text } => answer.ends_with(text.as_str()),
            Check::Json { keys } => match serde_json::from_str(without_fence(answer)) {
                Ok(Value::Object(fields)) => keys.iter().all(|key| fields.contains_key(key)),
                _ => false,
            },
            Check::Chinese => {
                let n_han = answer.chars().filter(|&c| is_han(c)).count();
                n_han > 0 && 2 * n_han > answer.chars().filter(|c| c.is_alphabetic()).count()
            }
            Check::English => has_letter(answer) && !answer.chars().any(is_han),
            Check::Quoted => [('"', '"'), ('“', '”'), ('「', '」')].into_iter().any(|(open, close)| {
                answer.chars().count() > 2 && answer.starts_with(open) && answer.ends_with(close)
            }),
        }
    }
}

fn has_letter(text: &str) -> bool {
    text.chars().any(char::is_alphabetic)
}

/// A Chinese character: the unified ideographs and their first extension.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{20000}'..='\u{2FA1F}')
}

/// What stands in a code block, where the answer is one.
fn without_fence(answer: &str) -> &str {
    let inner = answer.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((_, body)) => body,
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn each_check_takes_what_keeps_to_it_and_nothing_else() {
        let cases = [
            (Check::Lowercase, "the sea, 3 times", "The sea"),
            (Check::Uppercase, "THE SEA!", "THE SEa"),
            (Check::Words { exactly: 3 }, " deep and blue. ", "deep blue"),
            (Check::Characters { exactly: 4 }, "大海很蓝。", "大海蓝。"),
            (Check::Lines { exactly: 2 }, "one\n\ntwo\n", "one"),
            (Check::Contains { text: text("Salt") }, "it is salty", "it is wet"),
            (Check::Lacks { text: text(" water ") }, "it is watery", "Water is wet"),
            (Check::StartsWith { text: text("Well,") }, "Well, yes", "yes"),
            (Check::EndsWith { text: text("完毕。") }, "好，完毕。", "完毕。好"),
            (Check::Json { keys: vec![text("name")] }, "```json\n{\"name\": 1}\n```", "{\"title\": 1}"),
            (Check::Json { keys: vec![] }, "{}", "[]"),
            (Check::Chinese, "大海是 blue 蓝色的海", "the sea 海"),
            (Check::English, "the sea", "the sea 海"),
            (Check::Quoted, "“大海”", "\"the sea"),
        ];
        for (check, good, bad) in cases {
            assert!(follows(good, std::slice::from_ref(&check)), "{check:?}: {good:?}");
            assert!(!follows(bad, std::slice::from_ref(&check)), "{check:?}: {bad:?}");
            assert!(!follows(" \n", std::slice::from_ref(&check)), "{check:?}: nothing");
        }
        let both = [Check::Lowercase, Check::Words { exactly: 2 }];
        assert!(follows("blue sea", &both) && !follows("Blue sea", &both) && !follows("sea", &both));
    }
}
