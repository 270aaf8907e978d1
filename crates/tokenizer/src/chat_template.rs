//! A model's own Jinja template: a conversation becomes the text that the model was trained on.
//!
//! minijinja renders, set up as `transformers` sets up Jinja2 ([`python`] holds the differences). Each rendering is
//! done twice, once with the data's words marked and once plain, so that the text is the template's own whatever
//! the marks did, and its origin is known ([`provenance`]). Fuel bounds the time and memory of a hostile template.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind};
use serde_json::Value as Json;

use crate::chat::{ChatMessage, RenderInput, Rendered, SpecialTexts};
use crate::one_line::one_line;
use crate::reasoning::Reasoning;
use crate::stack::with_stack;

mod clock;
mod provenance;
mod python;

use provenance::{Detail, Marks, Structure};

/// Longest template source: the longest real ones have some 20 kB.
const MAX_SOURCE_LEN: usize = 128 << 10;

/// Fuel of a rendering whatever its input: an instruction or 64 bytes each, some 20 ms and 13 MB at the worst. Real
/// templates take some hundreds for each message.
const BASE_FUEL: u64 = 200_000;

/// Fuel for each message, tool and 64 bytes of input on top.
const FUEL_PER_ITEM: u64 = 2_000;
const FUEL_PER_64_BYTES: u64 = 256;

/// Stack of the thread on which templates are compiled and rendered.
///
/// minijinja descends into an expression such as `----1` without a limit, and drops a value such as `[[[[1]]]]` by
/// recursion. The length of a source and the fuel of a rendering bound how deep that goes, and this holds it: some
/// 1 kB for each byte of source, or instruction. What real templates touch of it is a few pages.
const STACK_BYTES: usize = 512 << 20;

/// For a model without a template.
const CHATML: &str = "{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}";

/// Why a template could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not parse.
    #[error("chat template does not parse, line {line}: {message}")]
    Syntax {
        /// Line of the source, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It failed on these messages.
    #[error("chat template failed, line {line}: {message}")]
    Render {
        /// Line of the source, from 1.
        line: usize,
        /// What went wrong.
        message: String,
    },
    /// It refused these messages in its own words (`raise_exception`).
    #[error("chat template refused the messages: {message}")]
    Refused {
        /// The template's words.
        message: String,
    },
    /// It used more time or memory than any real template needs.
    #[error("chat template exceeded its limit of {limit}")]
    TooCostly {
        /// Which limit.
        limit: &'static str,
    },
    /// Its source is too long to be one.
    #[error("chat template is {found} bytes long, more than the {limit} allowed")]
    TooLong {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// A compiled template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    is_fallback: bool,
    specials: SpecialTexts,
    structure: Structure,
    reasoning: Reasoning,
}

/// What is said where the system gives no thread with a large stack.
const NO_STACK: TemplateError = TemplateError::TooCostly { limit: "the memory that is left" };

/// The one template of an environment.
const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles `source` for a model with these special tokens.
    ///
    /// # Errors
    /// Where the source does not parse.
    pub fn new(source: &str, specials: SpecialTexts) -> Result<ChatTemplate, TemplateError> {
        if source.len() > MAX_SOURCE_LEN {
            return Err(TemplateError::TooLong { found: source.len(), limit: MAX_SOURCE_LEN });
        }
        let mut environment = environment();
        let compile = || environment.add_template_owned(NAME, python::without_generation_tags(source));
        with_stack(STACK_BYTES, compile).ok_or(NO_STACK)?.map_err(|error| TemplateError::Syntax {
            line: error.line().unwrap_or(0),
            message: told(&error),
        })?;
        let structure = Structure::new(&specials, source);
        let mut template = ChatTemplate {
            environment,
            structure,
            source: source.to_owned(),
            is_fallback: false,
            specials,
            reasoning: Reasoning::default(),
        };
        template.reasoning = Reasoning::of_template(&template);
        Ok(template)
    }

    /// ChatML, for a model without a template; the caller shows a warning.
    #[must_use]
    pub fn chatml(specials: SpecialTexts) -> ChatTemplate {
        let template = ChatTemplate::new(CHATML, specials).expect("ChatML parses, as a test sees");
        ChatTemplate { is_fallback: true, ..template }
    }

    /// The source as it was given.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether this is ChatML in place of a missing template.
    #[must_use]
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// What the template knows about reasoning.
    #[must_use]
    pub fn reasoning(&self) -> &Reasoning {
        &self.reasoning
    }

    /// The conversation as text.
    ///
    /// # Errors
    /// Where the template refuses the messages, fails on them or exceeds its limits.
    pub fn render(&self, input: &RenderInput<'_>) -> Result<Rendered, TemplateError> {
        with_stack(STACK_BYTES, || self.render_here(input)).ok_or(NO_STACK)?
    }

    fn render_here(&self, input: &RenderInput<'_>) -> Result<Rendered, TemplateError> {
        let text = self.render_marked(input, &mut Marks::none())?;
        // The ends of every content are marked; where the template looks at just these characters and so says
        // something else, only the words that spell special tokens are, and then only the most special of those.
        for detail in [Detail::EndsAndAll, Detail::AllSpecials, Detail::ControlOnly] {
            let mut marks = Marks::new(detail, &self.structure, &text);
            let Ok(marked) = self.render_marked(input, &mut marks) else { continue };
            let rendered = marks.restore(&marked);
            if rendered.text == text {
                return Ok(rendered);
            }
        }
        // Even that changed the template's mind: it gets the text in which no word of the data is a special token.
        let mut marks = Marks::new(Detail::ControlOnly, &self.structure, &text);
        let marked = self.render_marked(input, &mut marks)?;
        Ok(marks.restore(&marked))
    }

    fn render_marked(&self, input: &RenderInput<'_>, marks: &mut Marks<'_>) -> Result<String, TemplateError> {
        let mut pairs: Vec<(String, Value)> = vec![
            ("bos_token".to_owned(), Value::from(self.specials.bos.as_str())),
            ("eos_token".to_owned(), Value::from(self.specials.eos.as_str())),
            ("unk_token".to_owned(), Value::from(self.specials.unk.as_str())),
            ("pad_token".to_owned(), Value::from(self.specials.pad.as_str())),
            ("add_generation_prompt".to_owned(), Value::from(input.add_generation_prompt)),
            (python::NOW.to_owned(), Value::from(input.now)),
        ];
        let messages: Vec<Value> = input
            .messages
            .iter()
            .enumerate()
            .map(|(idx, message)| message_value(message, idx, marks))
            .collect();
        pairs.push(("messages".to_owned(), Value::from(messages)));
        let tools: Vec<Value> = input.tools.iter().map(|tool| json_value(tool, marks)).collect();
        let tools = if tools.is_empty() { Value::from(()) } else { Value::from(tools) };
        pairs.push(("tools".to_owned(), tools));
        pairs.push(("documents".to_owned(), Value::from(())));
        for (key, value) in input.extra.into_iter().flatten() {
            pairs.retain(|(known, _)| known != key);
            pairs.push((key.clone(), json_value(value, marks)));
        }
        self.run(Value::from_pairs(pairs), fuel(input))
    }

    fn run(&self, context: Value, fuel: u64) -> Result<String, TemplateError> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel));
        let template = environment.get_template(NAME).expect("the one template was added");
        template.render(context).map_err(|error| render_error(&error))
    }
}

/// A budget in proportion to the input.
fn fuel(input: &RenderInput<'_>) -> u64 {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let n_bytes: usize = input
        .messages
        .iter()
        .map(|message| {
            let calls: usize = message.tool_calls.iter().map(|call| json_len(&call.arguments)).sum();
            text(&message.content) + text(&message.reasoning) + calls
        })
        .sum::<usize>()
        + input.tools.iter().map(json_len).sum::<usize>();
    let n_items = (input.messages.len() + input.tools.len()) as u64;
    BASE_FUEL + n_items * FUEL_PER_ITEM + n_bytes as u64 / 64 * FUEL_PER_64_BYTES
}

fn json_len(json: &Json) -> usize {
    match json {
        Json::String(text) => text.len(),
        Json::Array(items) => items.iter().map(json_len).sum::<usize>() + 8 * items.len(),
        Json::Object(pairs) => pairs.iter().map(|(key, value)| key.len() + json_len(value) + 8).sum(),
        _ => 8,
    }
}

/// The message as the dictionary that `transformers` would be given.
fn message_value(message: &ChatMessage, idx: usize, marks: &mut Marks<'_>) -> Value {
    let text = |text: &str| Value::from(text);
    let mut pairs: Vec<(&str, Value)> = Vec::new();
    if let Some(reasoning) = &message.reasoning {
        // `transformers` gives it under both names, in this order.
        pairs.push(("thinking", text(&marks.words(reasoning))));
    }
    pairs.push(("role", text(&message.role)));
    let is_answer = message.role == "assistant";
    let content = message.content.as_deref().map(|content| text(&marks.content(content, idx, is_answer)));
    pairs.push(("content", content.unwrap_or_else(|| Value::from(()))));
    if let Some(reasoning) = &message.reasoning {
        pairs.push(("reasoning_content", text(&marks.words(reasoning))));
    }
    if !message.tool_calls.is_empty() {
        let calls: Vec<Value> = message
            .tool_calls
            .iter()
            .map(|call| {
                let function = Value::from_pairs([
                    ("name", text(&marks.words(&call.name))),
                    ("arguments", json_value(&call.arguments, marks)),
                ]);
                let id = call.id.as_ref().map(|id| ("id", text(&marks.words(id))));
                Value::from_pairs(id.into_iter().chain([("type", text("function")), ("function", function)]))
            })
            .collect();
        pairs.push(("tool_calls", Value::from(calls)));
    }
    if let Some(id) = &message.tool_call_id {
        pairs.push(("tool_call_id", text(&marks.words(id))));
    }
    if let Some(name) = &message.name {
        pairs.push(("name", text(&marks.words(name))));
    }
    Value::from_pairs(pairs)
}

fn json_value(json: &Json, marks: &mut Marks<'_>) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(value) => Value::from(*value),
        Json::Number(number) => number
            .as_i64()
            .map(Value::from)
            .or_else(|| number.as_u64().map(Value::from))
            .or_else(|| number.as_f64().map(Value::from))
            .unwrap_or_else(|| Value::from(())),
        Json::String(text) => Value::from(marks.words(text)),
        Json::Array(items) => {
            Value::from(items.iter().map(|item| json_value(item, marks)).collect::<Vec<_>>())
        }
        Json::Object(pairs) => Value::from_pairs(
            pairs.iter().map(|(key, value)| (marks.words(key), json_value(value, marks))).collect::<Vec<_>>(),
        ),
    }
}

/// Jinja as `transformers` sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the standard delimiters are valid"));
    environment.set_debug(false);
    environment.set_recursion_limit(200);
    python::install(&mut environment);
    environment
}

fn render_error(error: &minijinja::Error) -> TemplateError {
    if let Some(message) = python::refusal(error) {
        return TemplateError::Refused { message: one_line(&message) };
    }
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::TooCostly { limit: "instructions and bytes" };
    }
    TemplateError::Render { line: error.line().unwrap_or(0), message: told(error) }
}

/// The error and its causes on one line.
fn told(error: &minijinja::Error) -> String {
    let mut message = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    one_line(&message)
}

#[cfg(test)]
mod tests;
