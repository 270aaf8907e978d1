//! From a checked chat or raw prompt to a stream of text events: the one way to the engine, which the OpenAI
//! API and the page's turns share.
//!
//! chat → template → token ids (`generation/prompt.rs`; here the context is checked, or the oldest turns are
//! dropped) → engine → token ids → text, stop strings, reasoning (`generation/text_events.rs`) → [`TextEvent`]s.

mod prompt;
mod text_events;

use std::sync::Arc;

use engine::{Keep, TokenId};
use serde_json::{Map, Value};
use tokenizer::{ChatMessage, Grammar, GrammarError, GrammarSource, Reasoning};

pub(crate) use prompt::on_blocking_thread;
pub(crate) use prompt::{Dropped, PreparedPrompt, count_chat, count_text, prepare_chat, prepare_tokens};
pub(crate) use text_events::from_submit;
pub(crate) use text_events::{FinishReason, Finished, TextEvent, TextGeneration, TokenLogprob};

use crate::error::ApiError;
use crate::model_host::LoadedModel;
use crate::state::AppState;

/// What happens when a conversation does not fit into the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// [`ApiError::ContextLength`].
    Refuse,
    /// The oldest turns are left out, as many as needed; system messages and the last turn stay.
    DropOldest,
}

/// A conversation to be answered.
#[derive(Debug, Clone)]
pub(crate) struct ChatInput {
    /// The messages, oldest first.
    pub(crate) messages: Vec<ChatMessage>,
    /// Tool descriptions for the template, in OpenAI's form.
    pub(crate) tools: Option<Value>,
    /// More variables for the template (`chat_template_kwargs`), such as `enable_thinking`.
    pub(crate) kwargs: Map<String, Value>,
    /// What happens when it does not fit.
    pub(crate) overflow: Overflow,
    /// Tokens that must stay free for the answer; at least 1.
    pub(crate) reserve: usize,
    /// The beginning of the answer, when one that was stopped goes on.
    pub(crate) answer_so_far: Option<String>,
}

impl ChatInput {
    /// These messages, refused when they do not fit, with nothing special.
    pub(crate) fn new(messages: Vec<ChatMessage>) -> ChatInput {
        ChatInput {
            messages,
            tools: None,
            kwargs: Map::new(),
            overflow: Overflow::Refuse,
            reserve: 1,
            answer_so_far: None,
        }
    }

    /// Switches the model's reasoning on or off, where its template has a switch for that.
    pub(crate) fn set_reasoning(&mut self, reasoning: &Reasoning, on: bool) {
        if let Some(kwarg) = reasoning.kwarg {
            self.kwargs.insert(kwarg.to_string(), Value::Bool(on));
        } else if let (Some(flag), false) = (reasoning.system_flag, on) {
            match self.messages.first_mut().filter(|message| message.role == "system") {
                Some(system) => {
                    let content = system.content.get_or_insert_default();
                    content.push(' ');
                    content.push_str(flag);
                }
                None => self.messages.insert(0, ChatMessage::new("system", flag)),
            }
        }
    }
}

/// How an answer is drawn and when it ends. All values are checked; see [`crate::params`] for the limits.
#[derive(Debug, Clone)]
pub(crate) struct Params {
    /// 0 takes the likeliest token.
    pub(crate) temperature: f32,
    /// Keeps the k likeliest tokens; 0 keeps all.
    pub(crate) top_k: usize,
    /// Keeps the likeliest tokens up to this mass; 1 keeps all.
    pub(crate) top_p: f32,
    /// Drops tokens less likely than this share of the likeliest; 0 drops none.
    pub(crate) min_p: f32,
    /// Locally typical sampling; 1 keeps all.
    pub(crate) typical_p: f32,
    /// On tokens of the last [`Params::repeat_last_n`]; 1 is neutral.
    pub(crate) repeat_penalty: f32,
    /// On tokens that were generated at all; 0 is neutral.
    pub(crate) presence_penalty: f32,
    /// On tokens, by how often they were generated; 0 is neutral.
    pub(crate) frequency_penalty: f32,
    /// Window of the repetition penalty, in tokens.
    pub(crate) repeat_last_n: usize,
    /// Added to the logits of these tokens.
    pub(crate) logit_bias: Vec<(TokenId, f32)>,
    /// None: drawn, and told in [`TextGeneration::seed`].
    pub(crate) seed: Option<u64>,
    /// None: as many as fit.
    pub(crate) max_tokens: Option<usize>,
    /// The answer does not end before this many tokens.
    pub(crate) min_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub(crate) stop: Vec<String>,
    /// The answer ends by length or stop string only.
    pub(crate) ignore_eos: bool,
    /// Log-probabilities of the tokens and of this many alternatives.
    pub(crate) logprobs: Option<u8>,
    /// Tell reasoning (`<think>` …) apart from the answer; raw completions do not.
    pub(crate) parse_reasoning: bool,
    /// Requests share cached prefixes within one scope: the owner.
    pub(crate) cache_scope: u64,
    /// Who asks, for sharing the machine fairly.
    pub(crate) fair_key: u64,
    /// Higher goes first.
    pub(crate) priority: i8,
    /// The conversation whose keys and values are kept on disk.
    pub(crate) keep: Option<Keep>,
    /// The form that the answer must have.
    pub(crate) grammar: Option<Arc<Grammar>>,
}

impl Params {
    /// OpenAI's defaults: temperature 1, nothing else.
    pub(crate) fn openai() -> Params {
        Params {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_last_n: 64,
            logit_bias: Vec::new(),
            seed: None,
            max_tokens: None,
            min_tokens: 0,
            stop: Vec::new(),
            ignore_eos: false,
            logprobs: None,
            parse_reasoning: true,
            cache_scope: 0,
            fair_key: 0,
            priority: 0,
            keep: None,
            grammar: None,
        }
    }
}

/// Compiles what a request asks for; `param` is the field that asks, which errors name.
pub(crate) async fn compile(
    model: &Arc<LoadedModel>,
    asked: Option<(&'static str, GrammarSource)>,
) -> Result<Option<Arc<Grammar>>, ApiError> {
    let Some((param, source)) = asked else { return Ok(None) };
    let model = Arc::clone(model);
    let compiled = on_blocking_thread(move || model.grammars.compile(&source)).await?;
    compiled.map(Some).map_err(|error| match error {
        GrammarError::Schema { .. } | GrammarError::Vocabulary { .. } => {
            ApiError::unsupported(param, error.to_string())
        }
        _ => ApiError::bad_value(param, error.to_string()),
    })
}

/// Continues a prompt that is ready. With `n` answers wanted, one prepared prompt serves them all.
pub(crate) fn generate(
    state: &AppState,
    model: &Arc<LoadedModel>,
    prompt: &PreparedPrompt,
    params: Params,
) -> Result<TextGeneration, ApiError> {
    TextGeneration::start(state, model, prompt, params)
}
