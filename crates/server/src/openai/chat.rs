//! `POST /v1/chat/completions`

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};

use super::answers::{Answers, Told, event_stream, finish_reason, line};
use super::wire::{
    AnswerMessage, ChatAlternative, ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta,
    ChatLogprobs, ChatRequest, ChatToken, ErrorAnswer, WireUsage,
};
use super::{Head, RawRequest, constraint, messages};
use crate::error::ApiError;
use crate::generation::{Params, TextEvent, TokenLogprob, compile, prepare_chat};
use crate::json_body::parse;
use crate::params;
use crate::state::AppState;

impl ChatRequest {
    /// Reads the groups of fields one by one, so that a wrong type is told with its path.
    pub(crate) fn parse(bytes: &[u8]) -> Result<ChatRequest, ApiError> {
        Ok(ChatRequest {
            chat: parse(bytes)?,
            shared: parse(bytes)?,
            constraint: parse(bytes)?,
            refused: parse(bytes)?,
        })
    }

    /// The checked settings.
    pub(crate) fn params(&self, vocab_size: usize) -> Result<Params, ApiError> {
        let mut params = params::check(&self.shared, vocab_size)?;
        params.max_tokens = match self.chat.max_completion_tokens {
            Some(_) => params::check_max_tokens("max_completion_tokens", self.chat.max_completion_tokens, 1)?,
            None => params::check_max_tokens("max_tokens", self.shared.max_tokens, 1)?,
        };
        let wants_logprobs = self.chat.logprobs.unwrap_or(false);
        params.logprobs = match self.chat.top_logprobs {
            Some(n) if wants_logprobs => Some(params::check_logprobs("top_logprobs", n)?),
            None if wants_logprobs => Some(0),
            Some(n) if n != 0 => {
                return Err(ApiError::bad_value("top_logprobs", "expected \"logprobs\": true beside it"));
            }
            _ => None,
        };
        Ok(params)
    }
}

/// Answers a conversation.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    tag = "openai",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The answer; with `stream`, events of type `ChatChunk` and a last `[DONE]`",
            content((ChatCompletion = "application/json"), (ChatChunk = "text/event-stream"))),
        (status = "4XX", description = "The request is wrong or cannot be taken now (429)", body = ErrorAnswer),
        (status = "5XX", description = "The model or the server failed", body = ErrorAnswer),
    )
)]
pub(super) async fn create(State(state): State<AppState>, raw: RawRequest) -> Result<Response, ApiError> {
    let request = ChatRequest::parse(&raw.body)?;
    drop(raw.body);
    params::check_refused(&request.refused)?;
    let n = params::check_n(request.shared.n)?;
    let streams = request.shared.stream.unwrap_or(false);
    let include_usage = super::completions::check_stream_options(&request.shared)?;
    let asked = constraint::check(&request.constraint)?;
    let model = state.models.get_or_default(request.shared.model.as_deref()).await?;
    let mut params = request.params(model.open.tokenizer.vocab_size())?;
    params.cache_scope = raw.sender;
    params.fair_key = raw.sender;
    params.grammar = compile(&model, asked).await?;
    let input = messages::check(&request.chat, model.open.template.reasoning())?;
    let prompt = prepare_chat(&model, input).await?;
    let answers = Answers::start(&state, &model, &[prompt], n, &params)?;
    let head = Head::new(&state, "chatcmpl", &model.name);
    if streams {
        return Ok(event_stream(ChatStream::new(head, answers, n, include_usage, params.logprobs.is_some())));
    }
    let completion = collect(head, answers, n, params.logprobs.is_some()).await?;
    Ok(Json(completion).into_response())
}

/// The whole answer, once it is there.
async fn collect(
    head: Head,
    mut answers: Answers,
    n: usize,
    logprobs: bool,
) -> Result<ChatCompletion, ApiError> {
    let mut choices: Vec<ChatChoice> = (0..n)
        .map(|index| ChatChoice {
            index,
            message: AnswerMessage {
                role: "assistant",
                content: String::new(),
                reasoning_content: None,
                refusal: None,
            },
            logprobs: logprobs.then(ChatLogprobs::default),
            finish_reason: "stop",
        })
        .collect();
    while let Some((index, event)) = answers.next().await {
        let choice = &mut choices[index];
        match event {
            TextEvent::Queued { .. } | TextEvent::Prefill { .. } => {}
            TextEvent::Tokens(tokens) => {
                let content = tokens.into_iter().map(chat_token);
                choice.logprobs.get_or_insert_default().content.extend(content);
            }
            TextEvent::Text(text) => choice.message.content.push_str(&text),
            TextEvent::Reasoning(text) => {
                choice.message.reasoning_content.get_or_insert_default().push_str(&text);
            }
            TextEvent::Done(finished) => choice.finish_reason = finish_reason(finished.reason),
            TextEvent::Failed(error) => return Err(error),
        }
    }
    Ok(ChatCompletion {
        id: head.id,
        object: "chat.completion",
        created: head.created,
        model: head.model,
        system_fingerprint: head.system_fingerprint,
        choices,
        usage: answers.usage(),
    })
}

/// The answer, piece by piece.
struct ChatStream {
    head: Head,
    answers: Answers,
    include_usage: bool,
    /// Tokens of each answer whose text comes next.
    logprobs: Vec<Option<ChatLogprobs>>,
    /// Opens each answer before anything else.
    opening: Option<usize>,
    ended: bool,
}

impl ChatStream {
    fn new(head: Head, answers: Answers, n: usize, include_usage: bool, logprobs: bool) -> ChatStream {
        let logprobs = vec![logprobs.then(ChatLogprobs::default); n];
        ChatStream { head, answers, include_usage, logprobs, opening: Some(n), ended: false }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<WireUsage>) -> String {
        line(&ChatChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk",
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.system_fingerprint.clone(),
            choices,
            usage: self.include_usage.then_some(usage),
        })
    }

    /// A piece of one answer, with the log-probabilities that wait for it.
    fn piece(&mut self, index: usize, delta: ChatDelta, finish_reason: Option<&'static str>) -> String {
        let logprobs =
            self.logprobs[index].as_mut().map(std::mem::take).filter(|some| !some.content.is_empty());
        self.chunk(vec![ChatChunkChoice { index, delta, logprobs, finish_reason }], None)
    }
}

impl Told for ChatStream {
    async fn next_lines(&mut self) -> Option<Vec<String>> {
        if let Some(n) = self.opening.take() {
            let role = || ChatDelta {
                role: Some("assistant"),
                content: Some(String::new()),
                reasoning_content: None,
            };
            return Some((0..n).map(|index| self.piece(index, role(), None)).collect());
        }
        if self.ended {
            return None;
        }
        let Some((index, event)) = self.answers.next().await else {
            self.ended = true;
            let usage = self.answers.usage();
            return Some(if self.include_usage { vec![self.chunk(vec![], Some(usage))] } else { vec![] });
        };
        let lines = match event {
            TextEvent::Queued { .. } | TextEvent::Prefill { .. } => vec![],
            TextEvent::Tokens(tokens) => {
                let content = tokens.into_iter().map(chat_token);
                self.logprobs[index].get_or_insert_default().content.extend(content);
                vec![]
            }
            TextEvent::Text(text) => {
                let delta = ChatDelta { content: Some(text), ..ChatDelta::default() };
                vec![self.piece(index, delta, None)]
            }
            TextEvent::Reasoning(text) => {
                let delta = ChatDelta { reasoning_content: Some(text), ..ChatDelta::default() };
                vec![self.piece(index, delta, None)]
            }
            TextEvent::Done(finished) => {
                vec![self.piece(index, ChatDelta::default(), Some(finish_reason(finished.reason)))]
            }
            TextEvent::Failed(error) => {
                self.ended = true;
                vec![error.to_json().to_string()]
            }
        };
        Some(lines)
    }
}

fn chat_token(token: TokenLogprob) -> ChatToken {
    let top = token.top.into_iter().map(|(bytes, logprob)| ChatAlternative {
        token: String::from_utf8_lossy(&bytes).into_owned(),
        logprob: finite(logprob),
        bytes,
    });
    ChatToken {
        token: String::from_utf8_lossy(&token.bytes).into_owned(),
        logprob: finite(token.logprob),
        bytes: token.bytes,
        top_logprobs: top.collect(),
    }
}

/// JSON knows no infinity; OpenAI writes -9999.
pub(super) fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}
