//! Requests as they are sent and answers as they are told: OpenAI's shapes, with the fields that peers add.
//!
//! Nothing here is checked beyond its type; `params.rs` and `messages.rs` turn it into checked values. The
//! OpenAPI document is derived from these types, so their comments are its text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Fields that both endpoints take.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct SharedFields {
    /// Name of the model; without it the default model answers.
    #[schema(example = "smollm2:135m")]
    pub(crate) model: Option<String>,
    /// Send the answer in pieces, as server-sent events.
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    /// The most tokens of an answer. What does not fit into the context ends with `length`, too; -1 is no limit.
    pub(crate) max_tokens: Option<i64>,
    /// Answers to each prompt, 1 to 128.
    pub(crate) n: Option<i64>,
    /// 0 to 2; 0 takes the likeliest token. Default 1.
    pub(crate) temperature: Option<f64>,
    /// 0 to 1: keeps the likeliest tokens up to this mass. Default 1.
    pub(crate) top_p: Option<f64>,
    /// Keeps the k likeliest tokens; 0 or -1 keeps all, the default.
    pub(crate) top_k: Option<i64>,
    /// 0 to 1: drops tokens less likely than this share of the likeliest. Default 0.
    pub(crate) min_p: Option<f64>,
    /// 0 to 1: locally typical sampling; 1 keeps all, the default.
    pub(crate) typical_p: Option<f64>,
    /// 0.01 to 10: on tokens of the last `repeat_last_n`; 1 is neutral, the default.
    #[serde(alias = "repetition_penalty")]
    pub(crate) repeat_penalty: Option<f64>,
    /// The window of `repeat_penalty`, in tokens; -1 is the whole sequence. Default 64.
    pub(crate) repeat_last_n: Option<i64>,
    /// -2 to 2. Default 0.
    pub(crate) presence_penalty: Option<f64>,
    /// -2 to 2. Default 0.
    pub(crate) frequency_penalty: Option<f64>,
    /// Token id (as text) to a number from -100 to 100, which is added to its logit.
    pub(crate) logit_bias: Option<BTreeMap<String, f64>>,
    /// The same seed, model, prompt and settings give the same answer; drawn when absent.
    pub(crate) seed: Option<i64>,
    /// Texts that end the answer: one, or up to 32.
    pub(crate) stop: Option<OneOrMany>,
    /// Go on until `max_tokens` or a stop string.
    pub(crate) ignore_eos: Option<bool>,
    /// The answer does not end before this many tokens.
    pub(crate) min_tokens: Option<i64>,
}

/// The form that the answer must have, at most one of these. Every answer that ends with `stop` has it, at any
/// temperature; one that ends with `length` is the beginning of such an answer. A model that reasons does so first.
/// What cannot be enforced is an error that names it.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(crate) struct ConstraintFields {
    pub(crate) response_format: Option<ResponseFormat>,
    /// A JSON Schema, as llama-server takes it.
    pub(crate) json_schema: Option<Value>,
    /// A regular expression that the whole answer matches.
    #[schema(example = "[a-z]+@[a-z]+\\.com")]
    pub(crate) regex: Option<String>,
    /// Texts of which the answer is one.
    #[schema(example = json!(["yes", "no"]))]
    pub(crate) choice: Option<Vec<String>>,
    /// A grammar in Lark's notation, or in llama.cpp's GBNF.
    #[schema(example = "root ::= \"yes\" | \"no\"")]
    pub(crate) grammar: Option<String>,
    /// vLLM's name of `grammar`, `regex`, `choice` and `json_schema`, in one object.
    pub(crate) structured_outputs: Option<StructuredOutputs>,
    /// vLLM's older name of `json_schema`.
    pub(crate) guided_json: Option<Value>,
    /// As `{"type": "json_object"}`.
    pub(crate) guided_json_object: Option<bool>,
    /// vLLM's older name of `regex`.
    pub(crate) guided_regex: Option<String>,
    /// vLLM's older name of `choice`.
    pub(crate) guided_choice: Option<Vec<String>>,
    /// vLLM's older name of `grammar`.
    pub(crate) guided_grammar: Option<String>,
    /// SGLang's name of `grammar`.
    pub(crate) ebnf: Option<String>,
}

/// OpenAI's way to ask for JSON.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct ResponseFormat {
    /// `text`, `json_object` or `json_schema`.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// With `json_schema`.
    pub(crate) json_schema: Option<NamedSchema>,
    /// With `json_object`: a schema, as llama-server takes it.
    pub(crate) schema: Option<Value>,
    /// Anything else is an error.
    #[serde(flatten)]
    #[schema(ignore)]
    pub(crate) unknown: Map<String, Value>,
}

/// A schema with a name.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct NamedSchema {
    /// A JSON Schema, as an object or as text.
    pub(crate) schema: Option<Value>,
}

/// vLLM's way to ask for a form; one of them.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct StructuredOutputs {
    /// A JSON Schema, as an object or as text.
    pub(crate) json: Option<Value>,
    /// A regular expression.
    pub(crate) regex: Option<String>,
    /// Texts of which the answer is one.
    pub(crate) choice: Option<Vec<String>>,
    /// A grammar in Lark's notation, or in GBNF.
    pub(crate) grammar: Option<String>,
    /// Any JSON object.
    pub(crate) json_object: Option<bool>,
    /// Anything else is an error.
    #[serde(flatten)]
    #[schema(ignore)]
    pub(crate) unknown: Map<String, Value>,
}

/// Fields of OpenAI and of peers that would change the answer and are not supported yet: sent with a value that
/// means something, they are an error; they are never ignored.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RefusedFields {
    pub(crate) guided_whitespace_pattern: Option<Value>,
    pub(crate) use_beam_search: Option<Value>,
    pub(crate) lora: Option<Value>,
    // of chat
    pub(crate) audio: Option<Value>,
    pub(crate) web_search_options: Option<Value>,
    pub(crate) continue_final_message: Option<Value>,
    pub(crate) chat_template: Option<Value>,
    // of completions
    pub(crate) suffix: Option<Value>,
}

/// What a stream says besides the answer.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// End with an event that tells the usage.
    pub(crate) include_usage: Option<bool>,
}

/// One text or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// Fields of `POST /v1/chat/completions` alone.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct ChatFields {
    /// The conversation, oldest first; at least one message.
    pub(crate) messages: Vec<WireMessage>,
    /// Newer name of `max_tokens`, and goes before it.
    pub(crate) max_completion_tokens: Option<i64>,
    /// Tell log-probabilities.
    pub(crate) logprobs: Option<bool>,
    /// Alternatives of each token, 0 to 20; needs `logprobs`.
    pub(crate) top_logprobs: Option<i64>,
    /// Tools the model may be told of, in OpenAI's form; the template shows them to the model.
    pub(crate) tools: Option<Vec<Value>>,
    /// `auto` or `none`; a demanded call is not supported yet.
    pub(crate) tool_choice: Option<Value>,
    /// Old form of `tools`: not supported.
    pub(crate) functions: Option<Value>,
    /// Old form of `tool_choice`: not supported.
    pub(crate) function_call: Option<Value>,
    /// Only `["text"]`.
    pub(crate) modalities: Option<Vec<String>>,
    /// `none` switches reasoning off where the template can; other values are given to the template.
    pub(crate) reasoning_effort: Option<String>,
    /// More variables for the chat template, such as `{"enable_thinking": false}`.
    pub(crate) chat_template_kwargs: Option<Map<String, Value>>,
}

/// One message of a conversation.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct WireMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    pub(crate) role: String,
    /// The text, or a list of text parts.
    pub(crate) content: Option<Content>,
    /// Name of the speaker or tool.
    pub(crate) name: Option<String>,
    /// Calls that the assistant made.
    pub(crate) tool_calls: Option<Vec<WireToolCall>>,
    /// The call that a `tool` message answers.
    pub(crate) tool_call_id: Option<String>,
}

/// A message's content.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string or a list of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a message's content; only `text` for now.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct ContentPart {
    /// `text`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The text.
    #[serde(alias = "refusal")]
    pub(crate) text: Option<String>,
}

/// A call that an assistant made earlier.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct WireToolCall {
    /// Its id.
    pub(crate) id: Option<String>,
    /// What was called.
    pub(crate) function: WireFunction,
}

/// A called function.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct WireFunction {
    /// Its name.
    pub(crate) name: String,
    /// Its arguments: an object, or JSON in a string.
    #[serde(default)]
    pub(crate) arguments: Value,
}

/// Fields of `POST /v1/completions` alone.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct CompletionFields {
    /// A text, token ids, or a list of either. Special tokens in a text are read as such.
    pub(crate) prompt: WirePrompt,
    /// Log-probabilities of each token and of this many alternatives, 0 to 20.
    pub(crate) logprobs: Option<i64>,
    /// Begin the answer with the prompt.
    pub(crate) echo: Option<bool>,
    /// Not supported beyond `n`.
    pub(crate) best_of: Option<i64>,
}

/// Prompts of a raw completion.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, token ids, or a list of lists of token ids"
)]
pub(crate) enum WirePrompt {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    ManyIds(Vec<Vec<u32>>),
}

/// `POST /v1/chat/completions`
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct ChatRequest {
    #[serde(flatten)]
    pub(crate) chat: ChatFields,
    #[serde(flatten)]
    pub(crate) shared: SharedFields,
    #[serde(flatten)]
    pub(crate) constraint: ConstraintFields,
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) refused: RefusedFields,
}

/// `POST /v1/completions`
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct CompletionRequest {
    #[serde(flatten)]
    pub(crate) completion: CompletionFields,
    #[serde(flatten)]
    pub(crate) shared: SharedFields,
    #[serde(flatten)]
    pub(crate) constraint: ConstraintFields,
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) refused: RefusedFields,
}

/// An answer to `POST /v1/chat/completions`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    pub(crate) id: String,
    /// `chat.completion`
    pub(crate) object: &'static str,
    /// Seconds since 1970.
    pub(crate) created: i64,
    pub(crate) model: String,
    /// Which build answered, on which instruction set: the same seed repeats on the same one.
    pub(crate) system_fingerprint: String,
    pub(crate) choices: Vec<ChatChoice>,
    pub(crate) usage: WireUsage,
}

/// One answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatChoice {
    pub(crate) index: usize,
    pub(crate) message: AnswerMessage,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// `stop` or `length`
    pub(crate) finish_reason: &'static str,
}

/// The answer's message.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AnswerMessage {
    /// `assistant`
    pub(crate) role: &'static str,
    pub(crate) content: String,
    /// What the model thought before it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
    /// Always null.
    #[schema(value_type = Option<String>)]
    pub(crate) refusal: Option<&'static str>,
}

/// Log-probabilities of a chat answer.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct ChatLogprobs {
    /// Of each token of the answer, reasoning included.
    pub(crate) content: Vec<ChatToken>,
}

/// A token of a chat answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatToken {
    /// Its text; half a character is shown as `\u{fffd}`.
    pub(crate) token: String,
    pub(crate) logprob: f32,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The likeliest alternatives, best first.
    pub(crate) top_logprobs: Vec<ChatAlternative>,
}

/// An alternative to a token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatAlternative {
    pub(crate) token: String,
    pub(crate) logprob: f32,
    pub(crate) bytes: Vec<u8>,
}

/// A piece of a streamed chat answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    pub(crate) id: String,
    /// `chat.completion.chunk`
    pub(crate) object: &'static str,
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: String,
    pub(crate) choices: Vec<ChatChunkChoice>,
    /// In the last event, when asked for; null before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WireUsage>)]
    pub(crate) usage: Option<Option<WireUsage>>,
}

/// A piece of one answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ChatChunkChoice {
    pub(crate) index: usize,
    pub(crate) delta: ChatDelta,
    pub(crate) logprobs: Option<ChatLogprobs>,
    /// In the last piece.
    #[schema(value_type = Option<String>)]
    pub(crate) finish_reason: Option<&'static str>,
}

/// What is new.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct ChatDelta {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(crate) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning_content: Option<String>,
}

/// An answer to `POST /v1/completions`; also the shape of its streamed pieces.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Completion {
    pub(crate) id: String,
    /// `text_completion`
    pub(crate) object: &'static str,
    pub(crate) created: i64,
    pub(crate) model: String,
    pub(crate) system_fingerprint: String,
    pub(crate) choices: Vec<CompletionChoice>,
    /// Of a stream: in the last event, when asked for; null before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WireUsage>)]
    pub(crate) usage: Option<Option<WireUsage>>,
}

/// One completion: prompt i has the choices i × n to i × n + n - 1.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct CompletionChoice {
    pub(crate) index: usize,
    pub(crate) text: String,
    pub(crate) logprobs: Option<CompletionLogprobs>,
    /// `stop` or `length`; of a stream, in the last piece.
    #[schema(value_type = Option<String>)]
    pub(crate) finish_reason: Option<&'static str>,
}

/// Log-probabilities of a completion: four lists of the same length.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct CompletionLogprobs {
    /// Texts; a token that is no whole text is written `bytes:\xe4\xbd`.
    pub(crate) tokens: Vec<String>,
    /// Null for the first token of an echoed prompt.
    pub(crate) token_logprobs: Vec<Option<f32>>,
    /// Text to log-probability of the likeliest tokens.
    pub(crate) top_logprobs: Vec<Option<BTreeMap<String, f32>>>,
    /// Where each token begins in the text, in characters.
    pub(crate) text_offset: Vec<usize>,
}

/// Tokens of a request, over all its choices.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct WireUsage {
    pub(crate) prompt_tokens: usize,
    pub(crate) completion_tokens: usize,
    pub(crate) total_tokens: usize,
    pub(crate) prompt_tokens_details: PromptTokensDetails,
    pub(crate) completion_tokens_details: CompletionTokensDetails,
}

/// More on the prompt's tokens.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct PromptTokensDetails {
    /// Those that had been read before and were not computed again.
    pub(crate) cached_tokens: usize,
}

/// More on the answer's tokens.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct CompletionTokensDetails {
    /// Those that are reasoning.
    pub(crate) reasoning_tokens: usize,
}

/// `GET /v1/models`
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`
    pub(crate) object: &'static str,
    pub(crate) data: Vec<WireModel>,
}

/// A model on this machine; one that is not loaded is loaded when a request names it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct WireModel {
    pub(crate) id: String,
    /// `model`
    pub(crate) object: &'static str,
    /// When its file was made, seconds since 1970.
    pub(crate) created: i64,
    /// `daybreak`
    pub(crate) owned_by: &'static str,
    /// Whether it is in memory.
    pub(crate) loaded: bool,
    /// The longest conversation in tokens; null until it was loaded once.
    pub(crate) max_model_len: Option<usize>,
}

/// `POST /tokenize`
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct TokenizeRequest {
    /// The text.
    pub(crate) content: String,
    /// Begin with the tokens that the model begins with. Default false.
    pub(crate) add_special: Option<bool>,
    /// Read special tokens in the text as such. Default false.
    pub(crate) parse_special: Option<bool>,
    /// Tell each token's text, too. Default false.
    pub(crate) with_pieces: Option<bool>,
    /// Name of the model; without it the default model.
    pub(crate) model: Option<String>,
}

/// The answer to `POST /tokenize`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TokenizeAnswer {
    pub(crate) tokens: Vec<WireToken>,
}

/// A token id, or with `with_pieces` also its text.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum WireToken {
    Id(u32),
    Piece { id: u32, piece: Piece },
}

/// A token's text, or its bytes when they are no whole text.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

/// `POST /detokenize`
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(crate) struct DetokenizeRequest {
    /// Token ids.
    pub(crate) tokens: Vec<u32>,
    /// Name of the model; without it the default model.
    pub(crate) model: Option<String>,
}

/// The answer to `POST /detokenize`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DetokenizeAnswer {
    pub(crate) content: String,
}

/// Every error.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorObject,
}

/// What is wrong.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ErrorObject {
    /// For people.
    pub(crate) message: String,
    /// `invalid_request_error`, `rate_limit_error` or `server_error`
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The field to blame, if one is.
    pub(crate) param: Option<String>,
    /// For programs, for example `context_length_exceeded`.
    pub(crate) code: String,
}
