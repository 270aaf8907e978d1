//! A conversation's automatic title: the first words that were said, cleaned.

use store::Part;

/// Columns of a title; a Chinese character takes two.
const MAX_COLUMNS: usize = 48;

/// A title from a first message; none if it has no words.
pub(crate) fn from_message(parts: &[Part]) -> Option<String> {
    let said = parts.iter().find_map(|part| match part {
        Part::Text { text } => from_text(text),
        Part::Reasoning { .. } | Part::File { .. } => None,
    });
    said.or_else(|| {
        parts.iter().find_map(|part| match part {
            Part::File { name, .. } => from_text(name),
            Part::Text { .. } | Part::Reasoning { .. } => None,
        })
    })
}

/// The first line with words, without Markdown's signs, up to the end of its first sentence or the limit.
fn from_text(text: &str) -> Option<String> {
    let line = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("```"))
        .map(|line| {
            let line = line.trim_start_matches(|c: char| c.is_whitespace() || "#>*-+`~|=_".contains(c));
            line.replace(['`', '*', '\t'], " ").split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .find(|line| line.chars().any(char::is_alphanumeric))?;
    let sentence = first_sentence(&line);
    Some(shorten(sentence))
}

/// Up to the first end of a sentence, if that is not right at the start.
fn first_sentence(line: &str) -> &str {
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        let ends = match c {
            '。' | '！' | '？' => true,
            '.' | '!' | '?' => next.is_none_or(char::is_whitespace),
            _ => false,
        };
        if ends && at >= 8 {
            // A question keeps its mark; a full stop does not belong to a title.
            let end = if matches!(c, '?' | '？' | '!' | '！') { at + c.len_utf8() } else { at };
            return &line[..end];
        }
    }
    line
}

fn shorten(sentence: &str) -> String {
    let mut columns = 0;
    let mut cut = sentence.len();
    for (at, c) in sentence.char_indices() {
        columns += if c >= '\u{1100}' { 2 } else { 1 };
        if columns > MAX_COLUMNS {
            cut = at;
            break;
        }
    }
    if cut == sentence.len() {
        return sentence.to_owned();
    }
    // Not in the middle of a word, where there are words.
    let head = &sentence[..cut];
    let whole_words = head.rfind(' ').filter(|at| *at >= cut / 2);
    format!("{}…", head[..whole_words.unwrap_or(cut)].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_the_first_words_cleaned() {
        let cases = [
            ("How tall is Mount Everest? I forgot.", Some("How tall is Mount Everest?")),
            ("今天天气怎么样？我想出门。", Some("今天天气怎么样？")),
            ("\n\n## **Hello** `world`\nmore", Some("Hello world")),
            ("```rust\nfn main() {}\n```", Some("fn main() {}")),
            ("Version 2.5 of e.g. this. Next", Some("Version 2.5 of e.g")),
            ("   \n --- \n", None),
            ("Hi. Can you help me?", Some("Hi. Can you help me?")),
        ];
        for (text, expected) in cases {
            assert_eq!(from_text(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn long_titles_end_between_words_and_count_wide_characters_twice() {
        let english = from_text(&"word ".repeat(40)).unwrap_or_default();
        assert!(english.ends_with("word…") && english.chars().count() <= 49, "{english}");
        let chinese = from_text(&"长".repeat(100)).unwrap_or_default();
        assert_eq!(chinese, format!("{}…", "长".repeat(24)));
    }

    #[test]
    fn a_file_without_words_gives_its_name() {
        let file = Part::File {
            name: "report.csv".into(),
            media_type: "text/csv".into(),
            text: "1".into(),
            tokens: None,
            size: 1,
        };
        assert_eq!(from_message(&[file]).as_deref(), Some("report.csv"));
        assert_eq!(from_message(&[]), None);
    }
}
