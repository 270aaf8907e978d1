//! Raw completions, tokens and models.

use serde_json::{Value, json};

use crate::client::{get, post, stream};
use crate::world::shared;

const PATH: &str = "/v1/completions";

fn text(answer: &Value, index: usize) -> &str {
    answer["choices"][index]["text"].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_is_the_same_as_text_and_as_token_ids() {
    let address = shared().await;
    let prompt = "The capital of France is";
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 8});
    let by_text = post(address, PATH, &body).await.ok();
    assert_eq!(by_text["object"], "text_completion");
    assert!(text(&by_text, 0).contains("Paris"), "{by_text}");
    let body = json!({"content": prompt, "add_special": true, "parse_special": true});
    let ids = post(address, "/tokenize", &body).await.ok()["tokens"].clone();
    let by_ids = post(address, PATH, &json!({"prompt": ids, "temperature": 0, "max_tokens": 8})).await.ok();
    assert_eq!(text(&by_text, 0), text(&by_ids, 0));
    assert_eq!(by_text["usage"]["prompt_tokens"], ids.as_array().unwrap().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_prompts_are_answered_in_their_order() {
    let address = shared().await;
    let prompts = ["The capital of France is", "Two plus two is", "The sky is"];
    let mut alone = Vec::new();
    for prompt in prompts {
        let body = json!({"prompt": prompt, "temperature": 0.8, "seed": 3, "max_tokens": 6});
        alone.push(text(&post(address, PATH, &body).await.ok(), 0).to_string());
    }
    let body = json!({"prompt": prompts, "temperature": 0.8, "seed": 3, "max_tokens": 6, "n": 2});
    let answer = post(address, PATH, &body).await.ok();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 6);
    for (idx, alone) in alone.iter().enumerate() {
        assert_eq!(choices[2 * idx]["index"], 2 * idx);
        assert_eq!(text(&answer, 2 * idx), alone, "prompt {idx} in company and alone");
    }
    let ids = json!([[504, 253], [504]]);
    let answer = post(address, PATH, &json!({"prompt": ids, "max_tokens": 2})).await.ok();
    assert_eq!(answer["choices"].as_array().unwrap().len(), 2);
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_tokens_of_a_raw_prompt_are_read_as_such() {
    let address = shared().await;
    let raw = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let answer = post(address, PATH, &json!({"prompt": raw, "max_tokens": 1})).await.ok();
    let body = json!({"content": raw, "parse_special": true, "add_special": true});
    let tokens = post(address, "/tokenize", &body).await.ok();
    assert_eq!(answer["usage"]["prompt_tokens"], tokens["tokens"].as_array().unwrap().len());
    let as_text = post(address, "/tokenize", &json!({"content": raw})).await.ok();
    assert!(as_text["tokens"].as_array().unwrap().len() > tokens["tokens"].as_array().unwrap().len() + 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_come_in_four_lists_of_one_length() {
    let address = shared().await;
    let body =
        json!({"prompt": "The capital of France is", "temperature": 0, "max_tokens": 6, "logprobs": 3});
    let answer = post(address, PATH, &body).await.ok();
    let logprobs = answer["choices"][0]["logprobs"].clone();
    let list = |name: &str| logprobs[name].as_array().unwrap().clone();
    for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
        assert_eq!(list(name).len(), 6, "{name}");
    }
    let joined: String = list("tokens").iter().map(|token| token.as_str().unwrap().to_string()).collect();
    assert_eq!(joined, text(&answer, 0));
    let mut offset = 0;
    for (idx, token) in list("tokens").iter().enumerate() {
        assert_eq!(list("text_offset")[idx], offset);
        offset += token.as_str().unwrap().chars().count();
        let top = list("top_logprobs")[idx].as_object().unwrap().clone();
        assert_eq!(top.len(), 3);
        assert_eq!(top[token.as_str().unwrap()], list("token_logprobs")[idx]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_echo_scores_the_prompt_as_its_continuation_was_scored() {
    let address = shared().await;
    let prompt = "The capital of France is";
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 2, "logprobs": 2});
    let answer = post(address, PATH, &body).await.ok();
    let longer = format!("{prompt}{}", text(&answer, 0));
    let body = json!({"prompt": longer, "max_tokens": 0, "echo": true, "logprobs": 2});
    let echoed = post(address, PATH, &body).await.ok();
    assert_eq!(text(&echoed, 0), longer);
    assert_eq!(echoed["usage"]["completion_tokens"], 0);
    let list =
        |answer: &Value, name: &str| answer["choices"][0]["logprobs"][name].as_array().unwrap().clone();
    assert!(list(&echoed, "token_logprobs")[0].is_null());
    let (tokens, logprobs) = (list(&echoed, "tokens"), list(&echoed, "token_logprobs"));
    let n = tokens.len();
    assert_eq!(tokens[n - 2..], list(&answer, "tokens"));
    for (scored, generated) in logprobs[n - 2..].iter().zip(list(&answer, "token_logprobs")) {
        let (scored, generated) = (scored.as_f64().unwrap(), generated.as_f64().unwrap());
        assert!((scored - generated).abs() < 1e-3, "{scored} {generated}");
    }
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 2, "echo": true, "stream": true});
    let events = stream(address, PATH, &body).await.all().await;
    let streamed: String = events.iter().map(|event| text(event, 0).to_string()).collect();
    assert_eq!(streamed, longer);
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_completions_are_sixteen_tokens_long_when_nobody_says() {
    let address = shared().await;
    let answer = post(address, PATH, &json!({"prompt": "Once upon a time", "ignore_eos": true})).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_go_to_ids_and_back() {
    let address = shared().await;
    let content = "Grüße, 你好 👩‍🚀!\n\tx";
    let tokens = post(address, "/tokenize", &json!({"content": content})).await.ok();
    let back = post(address, "/detokenize", &tokens).await.ok();
    assert_eq!(back["content"], content);
    let pieces = post(address, "/tokenize", &json!({"content": content, "with_pieces": true})).await.ok();
    let ids: Vec<&Value> = pieces["tokens"].as_array().unwrap().iter().map(|token| &token["id"]).collect();
    assert_eq!(ids, tokens["tokens"].as_array().unwrap().iter().collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_models_of_this_machine_are_listed() {
    let address = shared().await;
    let list = get(address, "/v1/models").await.ok();
    assert_eq!(list["object"], "list");
    let model = &list["data"][0];
    assert_eq!(model["id"], "smollm2-135m");
    assert_eq!(model["loaded"], true);
    assert_eq!(model["max_model_len"], 1024);
    let one = get(address, "/v1/models/smollm2-135m").await.ok();
    assert_eq!(&one, model);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_every_route() {
    let address = shared().await;
    let document = get(address, "/openapi.json").await.ok();
    let mut paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "/detokenize",
            "/health",
            "/metrics",
            "/tokenize",
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/models",
            "/v1/models/{id}"
        ]
    );
    // What the document calls a field is what the server takes.
    let request = document["components"]["schemas"]["ChatFields"]["properties"].as_object().unwrap();
    for field in ["messages", "logprobs", "reasoning_effort", "chat_template_kwargs"] {
        assert!(request.contains_key(field), "{field}");
    }
}
