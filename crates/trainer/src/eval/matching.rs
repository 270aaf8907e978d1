//! When is a text the right answer? Exact match, as in lm-evaluation-harness.

/// What does not count when two texts are compared. The switches are those of the harness's `exact_match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matching {
    /// White space around the answer (its filter `remove_whitespace`).
    pub trim: bool,
    /// Upper and lower case.
    pub ignore_case: bool,
    /// ASCII punctuation.
    pub ignore_punctuation: bool,
    /// ASCII digits.
    pub ignore_numbers: bool,
    /// These texts.
    pub ignore: Vec<String>,
    /// All but the last number of the answer (`flexible-extract` of its gsm8k); without commas.
    pub last_number: bool,
}

impl Default for Matching {
    fn default() -> Matching {
        Matching {
            trim: true,
            ignore_case: false,
            ignore_punctuation: false,
            ignore_numbers: false,
            ignore: Vec::new(),
            last_number: false,
        }
    }
}

impl Matching {
    /// Whether `output` is one of `answers`.
    pub(crate) fn is_match(&self, output: &str, answers: &[String]) -> bool {
        if !self.last_number {
            let output = self.normalised(output);
            return answers.iter().any(|answer| self.normalised(answer) == output);
        }
        let output = last_number(output);
        output.is_some() && answers.iter().any(|answer| last_number(answer) == output)
    }

    fn normalised(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for ignored in self.ignore.iter().filter(|ignored| !ignored.is_empty()) {
            text = text.replace(ignored.as_str(), "");
        }
        if self.ignore_case {
            text = text.to_lowercase();
        }
        if self.ignore_punctuation {
            text.retain(|c| !c.is_ascii_punctuation());
        }
        if self.ignore_numbers {
            text.retain(|c| !c.is_ascii_digit());
        }
        if self.trim { text.trim().to_owned() } else { text }
    }
}

/// The last number in a text: digits, with commas between thousands left out, a fraction and a sign if there are.
fn last_number(text: &str) -> Option<String> {
    let text: Vec<char> = text.chars().collect();
    let end = text.iter().rposition(char::is_ascii_digit)? + 1;
    let is_part = |c: &char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let mut start = end - text[..end].iter().rev().take_while(|c| is_part(c)).count();
    while matches!(text[start], '.' | ',') {
        start += 1;
    }
    let mut number: String = text[start..end].iter().filter(|c| **c != ',').collect();
    let before = &text[..start];
    // A sign, not the dash of a range or of `12-5`.
    if matches!(before.last(), Some('-' | '−'))
        && !before.get(before.len().wrapping_sub(2)).is_some_and(|c| c.is_alphanumeric())
    {
        number.insert(0, '-');
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_found() {
        for (text, expected) in [
            ("12", Some("12")),
            ("12 + 7 = 19.", Some("19")),
            ("It is -4", Some("-4")),
            ("12-5", Some("5")),
            ("−3 degrees", Some("-3")),
            ("$1,234.50 in all", Some("1234.50")),
            ("答案是十九，即19。", Some("19")),
            ("no number", None),
        ] {
            assert_eq!(last_number(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_empty_output_matches_no_number() {
        let matching = Matching { last_number: true, ..Matching::default() };
        assert!(!matching.is_match("none", &["7".to_owned()]));
        assert!(matching.is_match("so it is 7.", &["7".to_owned()]));
        assert!(matching.is_match("1000 or so", &["1,000".to_owned()]));
    }
}
