//! What is done with every fuzzed request body, shared by the fuzz target (`fuzz/`) and by the test that replays its
//! corpus; in no other build.

#![allow(clippy::unwrap_used)] // a broken promise is to panic

use serde_json::Value as Json;
use tokenizer::Reasoning;

use crate::app::wire::{
    AgainRequest, ChangeRequest, CountRequest, NewConversationRequest, SayRequest, client_id, message_id,
    message_parts, said_parts,
};
use crate::error::ApiError;
use crate::generation::Params;
use crate::json_body::parse;
use crate::openai::completions::check_stream_options;
use crate::openai::wire::{ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest};
use crate::openai::{constraint, messages};
use crate::params::{self, MAX_ANSWERS};
use crate::turn::settings::Settings;

/// Tokens of the model that is asked.
const VOCAB_SIZE: usize = 1000;

/// Reads and checks the bytes as the body of every request, as far as that goes without a model.
///
/// Returns what a chat request is told where it is refused. Panics only if a promise is broken.
pub fn request(bytes: &[u8]) -> Option<String> {
    let told = |checked: Result<(), ApiError>| checked.err().map(|error| tell(&error));
    let _ = told(completion(bytes));
    let _ = told(parse::<TokenizeRequest>(bytes).map(drop));
    let _ = told(parse::<DetokenizeRequest>(bytes).map(drop));
    let _ = told(page(bytes));
    told(chat(bytes))
}

/// As `openai::chat::create` does it.
fn chat(bytes: &[u8]) -> Result<(), ApiError> {
    let request = ChatRequest::parse(bytes)?;
    params::check_refused(&request.refused)?;
    let n = params::check_n(request.shared.n)?;
    check_stream_options(&request.shared)?;
    let params = request.params(VOCAB_SIZE)?;
    assert_within_limits(&params, n);
    constraint::check(&request.constraint)?;
    let reasoning = Reasoning {
        supported: true,
        can_disable: true,
        kwarg: Some("enable_thinking"),
        ..Reasoning::default()
    };
    let input = messages::check(&request.chat, &reasoning)?;
    assert_eq!(input.messages.len(), request.chat.messages.len());
    for message in &input.messages {
        assert!(["system", "user", "assistant", "tool"].contains(&message.role.as_str()), "{message:?}");
        assert!(message.content.is_some() || !message.tool_calls.is_empty(), "{message:?}");
    }
    Ok(())
}

/// As `openai::completions::create` does it.
fn completion(bytes: &[u8]) -> Result<(), ApiError> {
    let request = CompletionRequest::parse(bytes)?;
    params::check_refused(&request.refused)?;
    let n = params::check_n(request.shared.n)?;
    check_stream_options(&request.shared)?;
    assert_within_limits(&request.params(n, VOCAB_SIZE)?, n);
    constraint::check(&request.constraint)?;
    Ok(())
}

/// What the page sends.
fn page(bytes: &[u8]) -> Result<(), ApiError> {
    let said: Result<SayRequest, ApiError> = parse(bytes);
    if let Ok(said) = &said {
        client_id(said.id.as_deref())?;
        message_id("parent_id", said.parent_id.as_deref())?;
        assert!(!message_parts(&said.parts)?.is_empty());
    }
    if let Ok(count) = parse::<CountRequest>(bytes) {
        said_parts(&count.parts)?;
    }
    let new: NewConversationRequest = parse(bytes)?;
    let settings = Settings::from_client(&new.settings)?;
    assert_eq!(Settings::from_client(&settings.to_json()).unwrap(), settings, "settings came back changed");
    parse::<ChangeRequest>(bytes)?;
    parse::<AgainRequest>(bytes)?;
    said.map(drop)
}

/// What the engine may rely on.
fn assert_within_limits(params: &Params, n: usize) {
    assert!((1..=MAX_ANSWERS).contains(&n));
    let range = |value: f32, min: f32, max: f32| assert!((min..=max).contains(&value), "{params:?}");
    range(params.temperature, 0.0, 2.0);
    range(params.top_p, 0.0, 1.0);
    range(params.min_p, 0.0, 1.0);
    range(params.typical_p, 0.0, 1.0);
    range(params.repeat_penalty, f32::MIN_POSITIVE, 10.0);
    range(params.presence_penalty, -2.0, 2.0);
    range(params.frequency_penalty, -2.0, 2.0);
    for (id, bias) in &params.logit_bias {
        assert!((*id as usize) < VOCAB_SIZE);
        range(*bias, -100.0, 100.0);
    }
    assert!(params.stop.len() <= 32 && params.stop.iter().all(|stop| !stop.is_empty()));
    assert!(params.logprobs.is_none_or(|n| n <= 20));
}

/// The error's words as a client gets them: a refusal of the request, in one line of bounded length.
fn tell(error: &ApiError) -> String {
    assert!(error.status().is_client_error(), "{error:?}");
    let json = error.to_json();
    for words in [&json["error"]["message"], &json["error"]["param"]] {
        let Json::String(words) = words else { continue };
        assert!(!words.chars().any(char::is_control), "control characters in {words:?}");
        assert!(words.len() < 1200, "{} bytes of text: {words}", words.len());
    }
    json["error"]["message"].as_str().unwrap().to_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    #[test]
    fn every_body_of_the_corpus_is_taken_or_refused_as_its_name_says() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/requests/corpus");
        let mut n_files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let error = super::request(&std::fs::read(&path).unwrap());
            match name.split('-').next() {
                Some("chat") => assert_eq!(error, None, "{name}"),
                Some("bad") => assert!(error.is_some(), "{name} was taken"),
                // Bodies of the other requests are no chat.
                _ => {}
            }
            n_files += 1;
        }
        assert!(n_files > 10, "found {n_files} files in {folder:?}");
    }
}
