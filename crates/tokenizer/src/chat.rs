//! A conversation as it goes into a template, and as it comes out: text that remembers which bytes are data.

use std::ops::Range;

use serde_json::{Map, Value};

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatMessage {
    /// `system`, `user`, `assistant` or `tool`. The template's word, not data: the caller admits known roles only.
    pub role: String,
    /// What was said; `None` where an assistant only called tools.
    pub content: Option<String>,
    /// What the assistant thought, given to the template as `reasoning_content`. Past thoughts are not sent back:
    /// fill it only inside one turn (between a tool call and its answer).
    pub reasoning: Option<String>,
    /// Tools that the assistant called.
    pub tool_calls: Vec<ToolCall>,
    /// In a `tool` message: which call it answers.
    pub tool_call_id: Option<String>,
    /// Name of the speaker or of the tool.
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message of plain text.
    #[must_use]
    pub fn new(role: &str, content: &str) -> ChatMessage {
        ChatMessage { role: role.to_owned(), content: Some(content.to_owned()), ..ChatMessage::default() }
    }
}

/// One call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The call's own name, for the answer to point at.
    pub id: Option<String>,
    /// Which function.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: Value,
}

/// What a template is rendered with.
#[derive(Debug, Clone, Copy)]
pub struct RenderInput<'a> {
    /// The conversation, oldest first.
    pub messages: &'a [ChatMessage],
    /// Tools in OpenAI's shape (`{"type": "function", "function": {…}}`); empty: the template sees none.
    pub tools: &'a [Value],
    /// End with the words that open the assistant's answer.
    pub add_generation_prompt: bool,
    /// Further template variables (`chat_template_kwargs`, for example `{"enable_thinking": false}`).
    pub extra: Option<&'a Map<String, Value>>,
    /// What `strftime_now` tells: seconds since 1970, already shifted to the reader's time zone.
    pub now: i64,
}

impl<'a> RenderInput<'a> {
    /// These messages, followed by the opening of the assistant's answer.
    #[must_use]
    pub fn prompt(messages: &'a [ChatMessage], now: i64) -> RenderInput<'a> {
        RenderInput { messages, tools: &[], add_generation_prompt: true, extra: None, now }
    }
}

/// Text from a template, byte for byte what `transformers` renders, with the origin of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    pub(crate) text: String,
    pub(crate) data: Vec<Range<usize>>,
    pub(crate) contents: Vec<(usize, Range<usize>)>,
    /// Where data spells a token of the template's own: inside `data`, ascending.
    pub(crate) spelled: Vec<usize>,
}

impl Rendered {
    /// The text alone.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges that hold words of people, assistants and tools, ascending: no special token is read where one of
    /// them is touched. Words that the template rewrote (JSON, pieces of a split) may lie outside, except for those
    /// that spell a special token.
    #[must_use]
    pub fn data(&self) -> &[Range<usize>] {
        &self.data
    }

    /// Where the content of each message stands, white space around it aside: (index of the message, byte range).
    /// A message that the template leaves out or rewrites is missing; one that it repeats stands here twice.
    #[must_use]
    pub fn contents(&self) -> &[(usize, Range<usize>)] {
        &self.contents
    }
}

/// The texts of a vocabulary's special tokens, as templates need them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTexts {
    /// `bos_token`; empty where the model has none.
    pub bos: String,
    /// `eos_token`.
    pub eos: String,
    /// `unk_token`.
    pub unk: String,
    /// `pad_token`.
    pub pad: String,
    /// All texts that are structure in this vocabulary.
    pub control: Vec<String>,
    /// The texts of added words: structure where the template itself writes them (`<tool_call>`).
    pub added: Vec<String>,
}
