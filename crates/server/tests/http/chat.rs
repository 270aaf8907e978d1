//! Chat completions: in one piece and in pieces, seeds, stops, log-probabilities.

use serde_json::{Value, json};

use crate::client::{post, stream};
use crate::world::shared;

const PATH: &str = "/v1/chat/completions";

fn question(more: Value) -> Value {
    let mut body = json!({
        "messages": [{"role": "user", "content": "Name three colours of the rainbow."}],
        "temperature": 0,
        "max_tokens": 40,
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_of_a_stream_join_to_the_answer_in_one_piece() {
    let address = shared().await;
    let whole = post(address, PATH, &question(json!({}))).await.ok();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["role"], "assistant");
    assert!(!content(&whole).is_empty());
    let usage = &whole["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );

    let body = question(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let events = stream(address, PATH, &body).await.all().await;
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    let text: String =
        events.iter().filter_map(|event| event["choices"].get(0)?["delta"]["content"].as_str()).collect();
    assert_eq!(text, content(&whole));
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    for field in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][field], usage[field], "{field}");
    }
    let reasons: Vec<&Value> = events
        .iter()
        .filter_map(|event| event["choices"].get(0))
        .map(|choice| &choice["finish_reason"])
        .filter(|reason| !reason.is_null())
        .collect();
    assert_eq!(reasons, [&whole["choices"][0]["finish_reason"]]);
    assert!(events[..events.len() - 1].iter().all(|event| event["usage"].is_null()));
    let ids: std::collections::HashSet<&str> =
        events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 1, "one id for all pieces");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_repeats_and_n_answers_take_the_seeds_that_follow() {
    let address = shared().await;
    let asked = |seed: i64| question(json!({"temperature": 1.2, "seed": seed}));
    let first = post(address, PATH, &asked(7)).await.ok();
    let again = post(address, PATH, &asked(7)).await.ok();
    assert_eq!(content(&first), content(&again));
    let next = post(address, PATH, &asked(8)).await.ok();
    assert_ne!(content(&first), content(&next));

    let both = post(address, PATH, &question(json!({"temperature": 1.2, "seed": 7, "n": 2}))).await.ok();
    let texts: Vec<&str> =
        (0..2).map(|index| both["choices"][index]["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(texts, [content(&first), content(&next)]);
    assert_eq!(both["usage"]["prompt_tokens"], first["usage"]["prompt_tokens"], "the prompt counts once");

    let body = question(json!({"temperature": 1.2, "seed": 7, "n": 2, "stream": true}));
    let mut streamed = [String::new(), String::new()];
    for event in stream(address, PATH, &body).await.all().await {
        let choice = &event["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        streamed[index].push_str(choice["delta"]["content"].as_str().unwrap_or(""));
    }
    assert_eq!(streamed[..], texts[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_ends_the_answer_wherever_tokens_begin() {
    let address = shared().await;
    let whole = post(address, PATH, &question(json!({}))).await.ok();
    let text = content(&whole).to_string();
    let characters: Vec<char> = text.chars().collect();
    // Strings from inside the answer, whose ends fall between and inside tokens.
    for from in [3, 8, 13] {
        let stop: String = characters[from..from + 6].iter().collect();
        let expected = text.split(&stop).next().unwrap();
        let stopped = post(address, PATH, &question(json!({"stop": ["never this", stop]}))).await.ok();
        assert_eq!(content(&stopped), expected, "{stop:?} of {text:?}");
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        let events =
            stream(address, PATH, &question(json!({"stop": stop, "stream": true}))).await.all().await;
        let streamed: String =
            events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(streamed, expected, "streamed, {stop:?} of {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_belong_to_the_answers_tokens() {
    let address = shared().await;
    let body = question(json!({"logprobs": true, "top_logprobs": 5, "max_tokens": 12}));
    let answer = post(address, PATH, &body).await.ok();
    let tokens = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8))
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), content(&answer));
    for token in &tokens {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 5);
        let logprobs: Vec<f64> = top.iter().map(|other| other["logprob"].as_f64().unwrap()).collect();
        assert!(logprobs.is_sorted_by(|a, b| a >= b), "{logprobs:?}");
        assert!(logprobs[0] <= 0.0 && logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>() < 1.0001);
        assert_eq!(token["logprob"], top[0]["logprob"], "at temperature 0 the likeliest is taken");
        assert_eq!(token["token"], top[0]["token"]);
    }
    let body = question(json!({"logprobs": true, "top_logprobs": 5, "max_tokens": 12, "stream": true}));
    let events = stream(address, PATH, &body).await.all().await;
    let streamed: Vec<Value> = events
        .iter()
        .filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .cloned()
        .collect();
    assert_eq!(streamed, tokens);
    let none = post(address, PATH, &question(json!({"logprobs": true, "max_tokens": 2}))).await.ok();
    assert_eq!(none["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_string_takes_its_tokens_along() {
    let address = shared().await;
    let whole = post(address, PATH, &question(json!({"logprobs": true}))).await.ok();
    let text = content(&whole).to_string();
    let stop: String = text.chars().skip(8).take(6).collect();
    let answer = post(address, PATH, &question(json!({"logprobs": true, "stop": stop}))).await.ok();
    let kept = answer["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    let all = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert!(kept.len() < all.len());
    assert_eq!(kept, all[..kept.len()]);
    let joined: String = kept.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert!(joined.starts_with(content(&answer)), "{joined:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_ends_by_length_and_never_beyond_the_context() {
    let address = shared().await;
    let body = question(json!({"max_tokens": 5, "ignore_eos": true}));
    let answer = post(address, PATH, &body).await.ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    let body = question(json!({"max_tokens": 100_000, "ignore_eos": true}));
    let answer = post(address, PATH, &body).await.ok();
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["total_tokens"], 1024);
    let newer = question(json!({"max_tokens": 1, "max_completion_tokens": 3, "ignore_eos": true}));
    assert_eq!(post(address, PATH, &newer).await.ok()["usage"]["completion_tokens"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_writes_never_becomes_a_special_token() {
    let address = shared().await;
    let n_prompt = |content: Value| async move {
        let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 1});
        post(address, PATH, &body).await.ok()["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let text = "<|im_end|>";
    let tokens = post(address, "/tokenize", &json!({"content": text})).await.ok();
    let as_text = tokens["tokens"].as_array().unwrap().len() as u64;
    assert!(as_text > 1);
    let parsed = post(address, "/tokenize", &json!({"content": text, "parse_special": true})).await.ok();
    assert_eq!(parsed["tokens"].as_array().unwrap().len(), 1);
    let (with, without) = (n_prompt(json!("a <|im_end|>")).await, n_prompt(json!("a ")).await);
    assert!(with >= without + as_text - 1, "{with} {without} {as_text}");
    let parts = json!([{"type": "text", "text": "a "}, {"type": "text", "text": "<|im_end|>"}]);
    assert_eq!(n_prompt(parts).await, with);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bias_decides_and_a_minimum_holds() {
    let address = shared().await;
    let tokens = post(address, "/tokenize", &json!({"content": " blue"})).await.ok();
    let id = tokens["tokens"][0].to_string();
    let answer = post(address, PATH, &question(json!({"logit_bias": {id: 100}, "max_tokens": 3}))).await.ok();
    assert_eq!(content(&answer), " blue blue blue");
    let body = json!({"messages": [{"role": "user", "content": "Say only: yes"}], "temperature": 0,
        "min_tokens": 60, "max_tokens": 80});
    let answer = post(address, PATH, &body).await.ok();
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() >= 60, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_was_read_before_is_told_as_cached() {
    let address = shared().await;
    let long = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let body = json!({"messages": [{"role": "system", "content": long}, {"role": "user", "content": "hi"}],
        "temperature": 0, "max_tokens": 8});
    let first = post(address, PATH, &body).await.ok();
    let second = post(address, PATH, &body).await.ok();
    let cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached >= 64, "{second}");
    assert_eq!(content(&first), content(&second), "the cache changes nothing");
}
