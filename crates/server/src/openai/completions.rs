//! `POST /v1/completions`: raw prompts, continued as they are.
//!
//! Special tokens in a text are read as such, and the model's rule decides whether a BOS stands before it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use tokenizer::Specials;

use super::answers::{Answers, Told, event_stream, finish_reason, line};
use super::chat::finite;
use super::prompt_scores;
use super::wire::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, ErrorAnswer, SharedFields,
    WirePrompt, WireUsage,
};
use super::{Head, RawRequest, constraint};
use crate::error::ApiError;
use crate::generation::{
    Params, PreparedPrompt, TextEvent, TokenLogprob, compile, on_blocking_thread, prepare_tokens,
};
use crate::json_body::parse;
use crate::model_host::LoadedModel;
use crate::params;
use crate::state::AppState;

/// OpenAI's default of `max_tokens` for raw completions.
const DEFAULT_MAX_TOKENS: usize = 16;

impl CompletionRequest {
    pub(crate) fn parse(bytes: &[u8]) -> Result<CompletionRequest, ApiError> {
        Ok(CompletionRequest {
            completion: parse(bytes)?,
            shared: parse(bytes)?,
            constraint: parse(bytes)?,
            refused: parse(bytes)?,
        })
    }

    pub(crate) fn params(&self, n: usize, vocab_size: usize) -> Result<Params, ApiError> {
        let mut params = params::check(&self.shared, vocab_size)?;
        params.parse_reasoning = false;
        params.max_tokens = match self.shared.max_tokens {
            None => Some(DEFAULT_MAX_TOKENS),
            some => params::check_max_tokens("max_tokens", some, 0)?,
        };
        params.logprobs =
            self.completion.logprobs.map(|n| params::check_logprobs("logprobs", n)).transpose()?;
        match self.completion.best_of {
            Some(best_of) if best_of != n as i64 && best_of != 1 => Err(ApiError::unsupported(
                "best_of",
                "choosing the best answer is not supported; leave the field out",
            )),
            _ => Ok(params),
        }
    }
}

/// Continues raw prompts.
#[utoipa::path(
    post,
    path = "/v1/completions",
    tag = "openai",
    request_body = CompletionRequest,
    responses(
        (status = 200, description = "The completions; with `stream`, events of the same type and a last `[DONE]`",
            content((Completion = "application/json"), (Completion = "text/event-stream"))),
        (status = "4XX", description = "The request is wrong or cannot be taken now (429)", body = ErrorAnswer),
        (status = "5XX", description = "The model or the server failed", body = ErrorAnswer),
    )
)]
pub(super) async fn create(State(state): State<AppState>, raw: RawRequest) -> Result<Response, ApiError> {
    let request = CompletionRequest::parse(&raw.body)?;
    drop(raw.body);
    params::check_refused(&request.refused)?;
    let n = params::check_n(request.shared.n)?;
    let streams = request.shared.stream.unwrap_or(false);
    let include_usage = check_stream_options(&request.shared)?;
    let asked = constraint::check(&request.constraint)?;
    let model = state.models.get_or_default(request.shared.model.as_deref()).await?;
    let mut params = request.params(n, model.open.tokenizer.vocab_size())?;
    params.cache_scope = raw.sender;
    params.fair_key = raw.sender;
    params.grammar = compile(&model, asked).await?;
    let echo = request.completion.echo.unwrap_or(false);
    let given = request.completion.prompt.texts(echo);
    let prompts = prepare(&model, request.completion.prompt, n).await?;
    let openings = if echo { echoes(&model, &prompts, given, params.logprobs).await? } else { Vec::new() };
    let head = Head::new(&state, "cmpl", &model.name);
    let progress = match params.max_tokens {
        Some(0) => Progress::NothingWanted { usage: WireUsage::of_prompts(&prompts) },
        _ => Progress::Answers(Answers::start(&state, &model, &prompts, n, &params)?),
    };
    let choices = prompts.len() * n;
    let openings = (0..choices).map(|index| openings.get(index / n).cloned().unwrap_or_default()).collect();
    let told = Completions { head, progress, openings, include_usage, logprobs: params.logprobs.is_some() };
    if streams {
        return Ok(event_stream(CompletionStream::new(told)));
    }
    Ok(Json(told.collect().await?).into_response())
}

/// `stream_options` is for streams; whether the usage is wanted.
pub(crate) fn check_stream_options(fields: &SharedFields) -> Result<bool, ApiError> {
    match &fields.stream_options {
        Some(_) if fields.stream != Some(true) => {
            Err(ApiError::bad_value("stream_options", "only allowed with \"stream\": true"))
        }
        Some(options) => Ok(options.include_usage.unwrap_or(false)),
        None => Ok(false),
    }
}

/// Token ids of every prompt, each checked against the context.
async fn prepare(
    model: &Arc<LoadedModel>,
    prompt: WirePrompt,
    n: usize,
) -> Result<Vec<PreparedPrompt>, ApiError> {
    let n_prompts = match &prompt {
        WirePrompt::Text(_) | WirePrompt::Ids(_) => 1,
        WirePrompt::Texts(texts) => texts.len(),
        WirePrompt::ManyIds(prompts) => prompts.len(),
    };
    let most = params::MAX_ANSWERS / n;
    if n_prompts == 0 || n_prompts > most {
        let reason = format!("expected 1 to {most} prompts with n = {n}, found {n_prompts}");
        return Err(ApiError::bad_value("prompt", reason));
    }
    let model = Arc::clone(model);
    let work = move || {
        let encode = |text: String| model.open.tokenizer.encode_with_bos(text.as_bytes(), Specials::Parse);
        let prompts = match prompt {
            WirePrompt::Text(text) => vec![encode(text)],
            WirePrompt::Texts(texts) => texts.into_iter().map(encode).collect(),
            WirePrompt::Ids(ids) => vec![ids],
            WirePrompt::ManyIds(prompts) => prompts,
        };
        prompts.into_iter().map(|ids| prepare_tokens(&model, ids, "prompt")).collect()
    };
    on_blocking_thread(work).await?
}

/// What stands before an answer when the prompt is echoed.
#[derive(Debug, Clone, Default)]
struct Opening {
    text: String,
    logprobs: CompletionLogprobs,
}

impl WirePrompt {
    /// The prompts that were sent as text, when they are wanted.
    fn texts(&self, wanted: bool) -> Vec<String> {
        match self {
            WirePrompt::Text(text) if wanted => vec![text.clone()],
            WirePrompt::Texts(texts) if wanted => texts.clone(),
            _ => Vec::new(),
        }
    }
}

/// Every prompt as it is echoed: the text that was sent, or the text of the ids.
async fn echoes(
    model: &Arc<LoadedModel>,
    prompts: &[PreparedPrompt],
    given: Vec<String>,
    logprobs: Option<u8>,
) -> Result<Vec<Opening>, ApiError> {
    let mut openings = Vec::with_capacity(prompts.len());
    for (idx, prompt) in prompts.iter().enumerate() {
        let (model, ids, given) = (Arc::clone(model), prompt.ids.clone(), given.get(idx).cloned());
        openings.push(on_blocking_thread(move || echo(&model, &ids, given, logprobs)).await??);
    }
    Ok(openings)
}

fn echo(
    model: &LoadedModel,
    ids: &[u32],
    given: Option<String>,
    logprobs: Option<u8>,
) -> Result<Opening, ApiError> {
    let tokenizer = &model.open.tokenizer;
    let decode = || String::from_utf8_lossy(&tokenizer.decode_with_specials(ids)).into_owned();
    let text = given.unwrap_or_else(decode);
    let mut opening = Opening { text, logprobs: CompletionLogprobs::default() };
    let Some(n_top) = logprobs else { return Ok(opening) };
    let mut char_offset = 0;
    for token in prompt_scores::score(model, ids, n_top)? {
        let n_chars = String::from_utf8_lossy(&token.bytes).chars().count();
        push_token(&mut opening.logprobs, TokenLogprob { char_offset, ..token }, 0);
        char_offset += n_chars;
    }
    // The first token follows nothing.
    if let (Some(logprob), Some(top)) =
        (opening.logprobs.token_logprobs.first_mut(), opening.logprobs.top_logprobs.first_mut())
    {
        *logprob = None;
        *top = None;
    }
    Ok(opening)
}

/// Where the answers come from.
enum Progress {
    Answers(Answers),
    /// `max_tokens` is 0.
    NothingWanted {
        usage: WireUsage,
    },
}

impl Progress {
    async fn next(&mut self) -> Option<(usize, TextEvent)> {
        match self {
            Progress::Answers(answers) => answers.next().await,
            Progress::NothingWanted { .. } => None,
        }
    }

    fn usage(&self) -> WireUsage {
        match self {
            Progress::Answers(answers) => answers.usage(),
            Progress::NothingWanted { usage } => *usage,
        }
    }
}

/// Everything that both forms of the answer need.
struct Completions {
    head: Head,
    progress: Progress,
    /// One for each choice.
    openings: Vec<Opening>,
    include_usage: bool,
    logprobs: bool,
}

impl Completions {
    fn completion(&self, choices: Vec<CompletionChoice>, usage: Option<Option<WireUsage>>) -> Completion {
        Completion {
            id: self.head.id.clone(),
            object: "text_completion",
            created: self.head.created,
            model: self.head.model.clone(),
            system_fingerprint: self.head.system_fingerprint.clone(),
            choices,
            usage,
        }
    }

    async fn collect(mut self) -> Result<Completion, ApiError> {
        let offsets: Vec<usize> = self.openings.iter().map(|opening| opening.text.chars().count()).collect();
        let openings = std::mem::take(&mut self.openings).into_iter().enumerate();
        let mut choices: Vec<CompletionChoice> = openings
            .map(|(index, opening)| CompletionChoice {
                index,
                text: opening.text,
                logprobs: self.logprobs.then_some(opening.logprobs),
                finish_reason: Some("length"),
            })
            .collect();
        while let Some((index, event)) = self.progress.next().await {
            let choice = &mut choices[index];
            match event {
                TextEvent::Queued { .. } | TextEvent::Prefill { .. } => {}
                TextEvent::Tokens(tokens) => {
                    let logprobs = choice.logprobs.get_or_insert_default();
                    tokens.into_iter().for_each(|token| push_token(logprobs, token, offsets[index]));
                }
                TextEvent::Text(text) | TextEvent::Reasoning(text) => choice.text.push_str(&text),
                TextEvent::Done(finished) => choice.finish_reason = Some(finish_reason(finished.reason)),
                TextEvent::Failed(error) => return Err(error),
            }
        }
        let usage = self.progress.usage();
        Ok(self.completion(choices, Some(Some(usage))))
    }
}

/// The answer, piece by piece.
struct CompletionStream {
    told: Completions,
    offsets: Vec<usize>,
    logprobs: Vec<CompletionLogprobs>,
    opened: bool,
    ended: bool,
}

impl CompletionStream {
    fn new(told: Completions) -> CompletionStream {
        let offsets = told.openings.iter().map(|opening| opening.text.chars().count()).collect();
        let logprobs = vec![CompletionLogprobs::default(); told.openings.len()];
        CompletionStream { told, offsets, logprobs, opened: false, ended: false }
    }

    fn line(&self, choices: Vec<CompletionChoice>, usage: Option<WireUsage>) -> String {
        line(&self.told.completion(choices, self.told.include_usage.then_some(usage)))
    }

    fn piece(&mut self, index: usize, text: String, finish_reason: Option<&'static str>) -> String {
        let logprobs = std::mem::take(&mut self.logprobs[index]);
        let logprobs = (self.told.logprobs && !logprobs.tokens.is_empty()).then_some(logprobs);
        self.line(vec![CompletionChoice { index, text, logprobs, finish_reason }], None)
    }
}

impl Told for CompletionStream {
    async fn next_lines(&mut self) -> Option<Vec<String>> {
        if !self.opened {
            self.opened = true;
            let nothing_wanted = matches!(self.told.progress, Progress::NothingWanted { .. });
            let finish_reason = nothing_wanted.then_some("length");
            let openings = std::mem::take(&mut self.told.openings).into_iter().enumerate();
            let lines = openings.filter(|(_, opening)| nothing_wanted || !opening.text.is_empty());
            let lines: Vec<(usize, Opening)> = lines.collect();
            return Some(
                lines
                    .into_iter()
                    .map(|(index, opening)| {
                        self.logprobs[index] = opening.logprobs;
                        self.piece(index, opening.text, finish_reason)
                    })
                    .collect(),
            );
        }
        if self.ended {
            return None;
        }
        let Some((index, event)) = self.told.progress.next().await else {
            self.ended = true;
            let usage = self.told.progress.usage();
            return Some(if self.told.include_usage { vec![self.line(vec![], Some(usage))] } else { vec![] });
        };
        Some(match event {
            TextEvent::Queued { .. } | TextEvent::Prefill { .. } => vec![],
            TextEvent::Tokens(tokens) => {
                let offset = self.offsets[index];
                tokens.into_iter().for_each(|token| push_token(&mut self.logprobs[index], token, offset));
                vec![]
            }
            TextEvent::Text(text) | TextEvent::Reasoning(text) => vec![self.piece(index, text, None)],
            TextEvent::Done(finished) => {
                vec![self.piece(index, String::new(), Some(finish_reason(finished.reason)))]
            }
            TextEvent::Failed(error) => {
                self.ended = true;
                vec![error.to_json().to_string()]
            }
        })
    }
}

fn push_token(logprobs: &mut CompletionLogprobs, token: TokenLogprob, offset: usize) {
    let mut top: BTreeMap<String, f32> =
        token.top.iter().map(|(bytes, logprob)| (token_text(bytes), finite(*logprob))).collect();
    let text = token_text(&token.bytes);
    if !top.is_empty() {
        top.insert(text.clone(), finite(token.logprob));
    }
    logprobs.tokens.push(text);
    logprobs.token_logprobs.push(Some(finite(token.logprob)));
    logprobs.top_logprobs.push(Some(top));
    logprobs.text_offset.push(offset + token.char_offset);
}

/// A token's text; one that is no whole text in OpenAI's notation, `bytes:\xe4\xbd`.
fn token_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_string(),
        Err(_) => bytes.iter().fold("bytes:".to_string(), |mut text, byte| {
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prompts_are_taken_in_all_four_forms() {
        let read = |text: &str| serde_json::from_str::<WirePrompt>(text);
        assert!(matches!(read("\"a\"").unwrap(), WirePrompt::Text(_)));
        assert!(matches!(read("[\"a\", \"b\"]").unwrap(), WirePrompt::Texts(_)));
        assert!(matches!(read("[1, 2]").unwrap(), WirePrompt::Ids(_)));
        assert!(matches!(read("[[1], [2]]").unwrap(), WirePrompt::ManyIds(_)));
        let error = parse::<super::super::wire::CompletionFields>(b"{\"prompt\": [1, \"a\"]}").unwrap_err();
        assert_eq!(error.param(), Some("prompt"));
        assert!(error.to_string().contains("list of lists of token ids"), "{error}");
    }

    #[test]
    fn half_a_character_is_written_as_its_bytes() {
        assert_eq!(token_text("好".as_bytes()), "好");
        assert_eq!(token_text(&[0xe4, 0xbd]), "bytes:\\xe4\\xbd");
    }
}
