//! Reasoning: which part of an answer is the model thinking aloud, and whether it can be told not to.

use serde_json::{Map, Value};

use crate::chat::{ChatMessage, RenderInput};
use crate::chat_template::ChatTemplate;

/// Tags in use among models, opening and closing.
pub(crate) const TAGS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

/// Template variables that switch reasoning.
const SWITCHES: [&str; 2] = ["enable_thinking", "thinking"];

/// Words in the system prompt that switch it off.
const SYSTEM_FLAGS: [&str; 1] = ["/no_think"];

/// What a template knows about reasoning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reasoning {
    /// The model may think aloud before it answers.
    pub supported: bool,
    /// It does so unless it is told not to.
    pub on_by_default: bool,
    /// One of the switches below works.
    pub can_disable: bool,
    /// The template variable that is the switch (`chat_template_kwargs`: true or false), for example
    /// `enable_thinking`.
    pub kwarg: Option<&'static str>,
    /// Words in the system prompt that switch it off where no variable does, for example `/no_think`.
    pub system_flag: Option<&'static str>,
    /// The opening and the closing tag.
    pub tags: (&'static str, &'static str),
}

impl Default for Reasoning {
    /// A template that knows nothing about it.
    fn default() -> Reasoning {
        Reasoning {
            supported: false,
            on_by_default: false,
            can_disable: false,
            kwarg: None,
            system_flag: None,
            tags: TAGS[0],
        }
    }
}

impl Reasoning {
    /// What the template's source mentions, and what it does when it is asked.
    pub(crate) fn of_template(template: &ChatTemplate) -> Reasoning {
        let source = template.source();
        let Some(tags) =
            TAGS.into_iter().find(|(open, close)| source.contains(open) || source.contains(close))
        else {
            return Reasoning::default();
        };
        let prompt = |messages: &[ChatMessage], kwarg: Option<(&str, bool)>| -> Option<String> {
            let extra: Map<String, Value> =
                kwarg.map(|(name, on)| (name.to_owned(), Value::from(on))).into_iter().collect();
            let input = RenderInput { extra: Some(&extra), ..RenderInput::prompt(messages, 0) };
            template.render(&input).ok().map(|rendered| rendered.text().to_owned())
        };
        let user = [ChatMessage::new("user", "hi")];
        let plain = prompt(&user, None);
        let kwarg = SWITCHES.into_iter().filter(|name| source.contains(name)).find(|name| {
            let (on, off) = (prompt(&user, Some((name, true))), prompt(&user, Some((name, false))));
            on.is_some() && off.is_some() && on != off
        });
        let system_flag = SYSTEM_FLAGS.into_iter().find(|flag| kwarg.is_none() && source.contains(flag));
        let is_off = |kwarg| plain.is_some() && plain == prompt(&user, Some((kwarg, false)));
        Reasoning {
            supported: true,
            on_by_default: kwarg.is_none_or(|kwarg| !is_off(kwarg)),
            can_disable: kwarg.is_some() || system_flag.is_some(),
            kwarg,
            system_flag,
            tags,
        }
    }

    /// The template variables that switch reasoning off; empty where none does.
    #[must_use]
    pub fn off_kwargs(&self) -> Map<String, Value> {
        self.kwarg.map(|name| (name.to_owned(), Value::from(false))).into_iter().collect()
    }

    /// The answer in an assistant's message that may begin with its reasoning: past thoughts are not sent back.
    #[must_use]
    pub fn answer_in<'a>(&self, message: &'a str) -> &'a str {
        let (open, close) = self.tags;
        if !self.supported {
            return message;
        }
        // A prompt may have opened the tag, so that the message holds the closing one only.
        let thoughts_end = message.find(close);
        match thoughts_end {
            Some(at) if message.trim_start().starts_with(open) || !message[..at].contains(open) => {
                message[at + close.len()..].trim_start()
            }
            _ => message,
        }
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// The answer itself.
    Text(String),
    /// Thinking aloud.
    Reasoning(String),
}

/// Where the parser stands in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing but white space so far: the opening tag may come.
    Start,
    /// Inside the tags.
    Reasoning,
    /// After the closing tag: white space before the answer is dropped.
    BeforeText,
    /// In the answer: everything passes, tags too.
    Text,
}

/// Splits one streamed answer into reasoning and text. Tags may come in pieces; they and the white space around them
/// are not shown.
#[derive(Debug, Clone)]
pub struct ReasoningParser {
    tags: (&'static str, &'static str),
    place: Place,
    held: String,
    /// Whether any reasoning was given out, before which white space is dropped.
    has_reasoned: bool,
}

impl ReasoningParser {
    /// A parser for the answer to this prompt. Where the prompt ends with an opened tag, the answer begins as
    /// reasoning; where the template knows nothing of reasoning, everything is text.
    #[must_use]
    pub fn new(reasoning: &Reasoning, prompt: &str) -> ReasoningParser {
        let place = if !reasoning.supported {
            Place::Text
        } else if prompt.trim_end().ends_with(reasoning.tags.0) {
            Place::Reasoning
        } else {
            Place::Start
        };
        ReasoningParser { tags: reasoning.tags, place, held: String::new(), has_reasoned: false }
    }

    /// Takes the next piece of text and returns what is certain now.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        let mut deltas = Vec::new();
        self.held.push_str(text);
        loop {
            let place = self.place;
            match place {
                Place::Start => self.start(&mut deltas),
                Place::Reasoning => self.reason(&mut deltas),
                Place::BeforeText => self.before_text(),
                Place::Text => self.give(Delta::Text, self.held.len(), &mut deltas),
            }
            if self.place == place {
                return deltas;
            }
        }
    }

    /// What was held back when the answer ends.
    pub fn finish(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        match self.place {
            Place::Start | Place::Text => self.give(Delta::Text, self.held.len(), &mut deltas),
            Place::Reasoning => {
                let end = self.held.trim_end().len();
                self.give(Delta::Reasoning, end, &mut deltas);
            }
            Place::BeforeText => {}
        }
        self.held.clear();
        deltas
    }

    fn start(&mut self, deltas: &mut Vec<Delta>) {
        let begun = self.held.trim_start();
        let open = self.tags.0;
        if begun.starts_with(open) {
            let n_dropped = self.held.len() - begun.len() + open.len();
            self.held.drain(..n_dropped);
            self.place = Place::Reasoning;
        } else if !open.starts_with(begun) {
            self.place = Place::Text;
            self.give(Delta::Text, self.held.len(), deltas);
        }
    }

    fn reason(&mut self, deltas: &mut Vec<Delta>) {
        let close = self.tags.1;
        if !self.has_reasoned {
            // Some models open the tag again although the prompt did.
            let open = self.tags.0;
            let mut begun = self.held.trim_start();
            while let Some(after) = begun.strip_prefix(open) {
                begun = after.trim_start();
            }
            let n_dropped = self.held.len() - begun.len();
            self.held.drain(..n_dropped);
            if !self.held.is_empty() && open.starts_with(&self.held) {
                return;
            }
        }
        if let Some(at) = self.held.find(close) {
            let end = self.held[..at].trim_end().len();
            self.give(Delta::Reasoning, end, deltas);
            self.held.drain(..at - end + close.len());
            self.place = Place::BeforeText;
            return;
        }
        let open_from = (0..close.len().min(self.held.len() + 1))
            .rev()
            .find(|&n| self.held.ends_with(&close[..n]))
            .map_or(self.held.len(), |n| self.held.len() - n);
        let end = self.held[..open_from].trim_end().len();
        self.give(Delta::Reasoning, end, deltas);
    }

    fn before_text(&mut self) {
        let n_space = self.held.len() - self.held.trim_start().len();
        self.held.drain(..n_space);
        if !self.held.is_empty() {
            self.place = Place::Text;
        }
    }

    /// Gives out the first `n` bytes of what is held.
    fn give(&mut self, as_delta: fn(String) -> Delta, n: usize, deltas: &mut Vec<Delta>) {
        if n > 0 {
            self.has_reasoned |= self.place == Place::Reasoning;
            deltas.push(as_delta(self.held.drain(..n).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn think() -> Reasoning {
        Reasoning { supported: true, on_by_default: true, ..Reasoning::default() }
    }

    /// (reasoning, text) of an answer that comes in these pieces.
    fn parse(prompt: &str, pieces: &[&str]) -> (String, String) {
        let mut parser = ReasoningParser::new(&think(), prompt);
        let mut deltas: Vec<Delta> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
        deltas.extend(parser.finish());
        let (mut reasoning, mut text) = (String::new(), String::new());
        for delta in deltas {
            match delta {
                Delta::Reasoning(piece) => reasoning.push_str(&piece),
                Delta::Text(piece) => text.push_str(&piece),
            }
        }
        (reasoning, text)
    }

    fn both(reasoning: &str, text: &str) -> (String, String) {
        (reasoning.to_owned(), text.to_owned())
    }

    #[test]
    fn reasoning_is_split_off_however_the_answer_is_cut() {
        let answer = "<think>\nLet me see: 1 < 2 </thin k\n\n</think>\n\nYes, <think> stays </think>.";
        let expected = both("Let me see: 1 < 2 </thin k", "Yes, <think> stays </think>.");
        for n in 1..answer.len() {
            let pieces: Vec<String> =
                answer.chars().collect::<Vec<_>>().chunks(n).map(|chunk| chunk.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert_eq!(parse("", &pieces), expected, "in pieces of {n}");
        }
    }

    #[test]
    fn a_prompt_that_opens_the_tag_makes_the_answer_begin_as_reasoning() {
        let prompt = "<|im_start|>assistant\n<think>\n";
        assert_eq!(parse(prompt, &["hm", "m\n</think>", "\n\nok"]), both("hmm", "ok"));
        assert_eq!(parse(prompt, &["<think>", "\nhmm</think>ok"]), both("hmm", "ok"));
        assert_eq!(parse(prompt, &["<think> <think>hmm</think>ok"]), both("hmm", "ok"));
        assert_eq!(parse("assistant\n<think>\n\n</think>\n\n", &["o", "k"]), both("", "ok"));
    }

    #[test]
    fn an_answer_that_ends_while_reasoning_is_reasoning() {
        assert_eq!(parse("", &["<think>", "so", " long </th"]), both("so long </th", ""));
        assert_eq!(parse("", &["<thi"]), both("", "<thi"));
        assert_eq!(parse("", &["<think> \n <"]), both("<", ""));
    }

    #[test]
    fn text_without_tags_is_not_held_back() {
        let mut parser = ReasoningParser::new(&think(), "");
        assert_eq!(parser.push("Hello"), [Delta::Text("Hello".to_owned())]);
        assert_eq!(parser.push(" <think>"), [Delta::Text(" <think>".to_owned())]);
        let mut parser = ReasoningParser::new(&Reasoning::default(), "");
        assert_eq!(parser.push("<think>"), [Delta::Text("<think>".to_owned())]);
    }

    #[test]
    fn reasoning_streams_while_it_goes_on() {
        let mut parser = ReasoningParser::new(&think(), "");
        assert_eq!(parser.push("<think>a b"), [Delta::Reasoning("a b".to_owned())]);
        assert_eq!(parser.push(" c </t"), [Delta::Reasoning(" c".to_owned())]);
        assert_eq!(parser.push("d"), [Delta::Reasoning(" </td".to_owned())]);
    }

    #[test]
    fn past_thoughts_are_cut_from_a_message() {
        let reasoning = think();
        assert_eq!(reasoning.answer_in("<think>\nhm\n</think>\n\nYes"), "Yes");
        assert_eq!(reasoning.answer_in("hm\n</think>\n\nYes"), "Yes");
        assert_eq!(reasoning.answer_in("Write <think>x</think> so"), "Write <think>x</think> so");
        assert_eq!(Reasoning::default().answer_in("<think>a</think>b"), "<think>a</think>b");
    }
}
