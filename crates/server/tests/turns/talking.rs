//! A conversation from its first word: what is saved, what is told, what the receipt says.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::api::{
    ask, conversation, expect, finished, follow, load, message, said, say, send, text, told, words,
};
use crate::client::get;
use crate::world::{self, shared};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_is_what_is_saved() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 40, "temperature": 0})).await;
    let (user, answer) = say(address, &id, &words(None, "Name three colours. Please.")).await;
    let events = follow(address, &answer, 0).await.all().await;
    let done = &events.last().unwrap()["message"];
    assert_eq!(done["status"], "complete");
    assert!(!said(done).is_empty());
    assert_eq!(told(&events), said(done));

    let loaded = load(address, &id).await;
    assert_eq!(message(&loaded, &answer), done);
    assert_eq!(
        message(&loaded, &user)["parts"],
        json!([{"type": "text", "text": "Name three colours. Please."}])
    );
    assert_eq!(loaded["active_leaf_id"], answer);
    assert_eq!(loaded["title"], "Name three colours");
    let title = events.iter().find(|event| event["type"] == "title").unwrap();
    assert_eq!(title["title"], "Name three colours");
    assert_eq!(events.last().unwrap()["seq"], done["last_seq"]);

    let listed = expect(get(address, "/api/conversations?limit=500").await, 200);
    let items = listed["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["id"] == id).unwrap();
    assert_eq!(item["title"], "Name three colours");
    let word = said(done).split_whitespace().find(|word| word.len() > 3).unwrap_or("colours").to_owned();
    let word: String = word.chars().filter(char::is_ascii_alphanumeric).collect();
    let found = expect(get(address, &format!("/api/conversations?q={word}&limit=500")).await, 200);
    assert!(found["items"].as_array().unwrap().iter().any(|item| item["id"] == id), "{word}: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_how_the_answer_came_to_be() {
    let address = shared().await;
    let settings = json!({"system_prompt": "You are brief.", "max_tokens": 12});
    let id = conversation(address, settings).await;
    let (_, answer) = ask(address, &id, &words(None, "Hello")).await;
    let receipt = &answer["receipt"];
    assert_eq!(receipt["model"]["name"], answer["model"]);
    assert_eq!(receipt["model"]["template_hash"].as_str().unwrap().len(), 64);
    assert_eq!(receipt["build"]["version"], "0.0.0-test");
    assert!(receipt["isa"].is_string());
    assert_eq!(receipt["settings"]["system_prompt"], "You are brief.");
    assert_eq!(receipt["settings"]["temperature"], 0.7);
    assert!(receipt["settings"]["seed"].is_u64(), "the seed that was drawn: {receipt}");
    assert_eq!(receipt["kept"]["n_messages"], 2);
    assert_eq!(receipt["dropped"], json!({"n_messages": 0, "n_tokens": 0}));
    assert!(receipt["completion_tokens"].as_u64().unwrap() <= 12);
    assert!(receipt["prompt_tokens"].as_u64().unwrap() > 5);
    assert!(receipt["time_to_first_token_ms"].as_f64().unwrap() > 0.0);
    assert!(receipt["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(receipt["queue_ms"].is_number() && receipt["prefill_tokens_per_second"].is_number());
    let reason = receipt["finish_reason"].as_str().unwrap();
    assert!(["stop", "length"].contains(&reason), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_of_a_receipt_gives_the_same_answer_again() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 30, "temperature": 1})).await;
    let (_, first) = ask(address, &id, &words(None, "Tell me a story about a fox.")).await;
    let seed = &first["receipt"]["settings"]["seed"];
    let settings = json!({"settings": {"max_tokens": 30, "temperature": 1, "seed": seed}});
    expect(send(address, "PATCH", &format!("/api/conversations/{id}"), &settings).await, 200);
    let again = format!("/api/messages/{}/regenerate", text(&first["id"]));
    let again = expect(send(address, "POST", &again, &json!({})).await, 201);
    let second = finished(address, &text(&again["answer"]["id"])).await;
    assert_eq!(said(&second), said(&first));
    assert_eq!(second["parent_id"], first["parent_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_counted_and_sent_along() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 4})).await;
    let file = json!({"type": "file", "name": "notes.md", "media_type": "text/markdown",
                      "text": "alpha beta gamma ".repeat(20), "size": 340});
    let count = |body| async move { expect(send(address, "POST", "/api/count", &body).await, 200) };
    assert_eq!(count(json!({"parts": []})).await["tokens"], 0, "nothing said yet");
    let bare = count(json!({"parts": [{"type": "text", "text": "hi"}]})).await["tokens"].as_u64().unwrap();
    let with =
        count(json!({"parts": [file, {"type": "text", "text": "hi"}]})).await["tokens"].as_u64().unwrap();
    let alone = count(json!({"text": "alpha beta gamma ".repeat(20)})).await;
    let n_file = alone["tokens"].as_u64().unwrap();
    assert_eq!(alone["max_tokens"], 1024);
    assert!(n_file >= 40 && with >= bare + n_file - 2, "{bare} {with} {n_file}");
    let body = json!({"parts": [{"type": "text", "text": "hi"}, file]});
    let (user, answer) = ask(address, &id, &body).await;
    assert_eq!(answer["receipt"]["prompt_tokens"], with, "what was counted is what is sent");
    let loaded = load(address, &id).await;
    assert_eq!(message(&loaded, &user)["parts"][1]["name"], "notes.md");
    // The meter of the page: the conversation so far with an empty draft.
    let leaf =
        count(json!({"conversation_id": id, "leaf_id": answer["id"]})).await["tokens"].as_u64().unwrap();
    assert!(leaf > with, "{leaf} {with}");
}

#[tokio::test(flavor = "multi_thread")]
async fn saying_it_again_under_the_same_id_changes_nothing() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 200})).await;
    let mut body = words(None, "Count to one hundred.");
    body["id"] = "6b1f7c1e-0d52-4f4e-9b9c-0a5d9e7a1c11".into();
    let path = format!("/api/conversations/{id}/messages");
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (path, body) = (path.clone(), body.clone());
            tokio::spawn(async move { send(address, "POST", &path, &body).await })
        })
        .collect();
    let mut statuses = Vec::new();
    let mut answers = std::collections::HashSet::new();
    for task in tasks {
        let answer = task.await.unwrap();
        statuses.push(answer.status.as_u16());
        answers.insert(text(&answer.json()["answer"]["id"]));
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 201]);
    assert_eq!(answers.len(), 1);
    let answer = answers.into_iter().next().unwrap();
    finished(address, &answer).await;
    let later = expect(send(address, "POST", &path, &body).await, 200);
    assert_eq!((&later["answer"]["id"], &later["answer"]["status"]), (&json!(answer), &json!("complete")));
    assert_eq!(load(address, &id).await["messages"].as_array().unwrap().len(), 2);
    let other = conversation(address, json!({})).await;
    let elsewhere = send(address, "POST", &format!("/api/conversations/{other}/messages"), &body).await;
    assert_eq!(expect(elsewhere, 409)["error"]["code"], "id_reused");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_is_not_in_memory_is_loaded_while_the_answer_waits() {
    let running = world::start(|config| {
        // The same file once more, under the name of the catalog.
        let shelf = config.data_dir.join("shelf");
        std::fs::create_dir_all(&shelf).unwrap();
        std::fs::copy(world::model_path(), shelf.join("smollm2-135m.gguf")).unwrap();
        config.library = models::Library::new(models::LibraryConfig {
            models_dir: config.data_dir.join("models"),
            shared_dir: Some(shelf),
            caches: models::CacheFolders::from_vars(|_: &str| None),
            catalog: models::Catalog::builtin(),
        });
    })
    .await;
    let address = running.address;
    let id = conversation(address, json!({"max_tokens": 5})).await;
    let mut body = words(None, "Hello");
    body["model"] = "smollm2:135m".into();
    let not_counted =
        send(address, "POST", "/api/count", &json!({"model": "smollm2:135m", "text": "a"})).await;
    assert_eq!(expect(not_counted, 409)["error"]["code"], "model_not_loaded");
    let begin = Instant::now();
    let (_, answer) = say(address, &id, &body).await;
    println!("saved after {:?}", begin.elapsed());
    let events = follow(address, &answer, 0).await.all().await;
    assert!(events.iter().any(|event| event["type"] == "loading"), "{events:?}");
    let done = &events.last().unwrap()["message"];
    assert_eq!((&done["status"], &done["model"]), (&json!("complete"), &json!("smollm2:135m")));
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_may_have_eight_answers_running() {
    let running = world::start(|_| {}).await;
    let address = running.address;
    let id = conversation(address, crate::api::endless()).await;
    let long = words(None, "Write a very long story about the sea.");
    let mut answers = Vec::new();
    for _ in 0..8 {
        answers.push(say(address, &id, &long).await.1);
    }
    let ninth = send(address, "POST", &format!("/api/conversations/{id}/messages"), &long).await;
    assert_eq!(expect(ninth, 429)["error"]["code"], "too_many_answers");
    expect(send(address, "POST", &format!("/api/messages/{}/stop", answers[0]), &json!({})).await, 204);
    assert_eq!(finished(address, &answers[0]).await["status"], "stopped");
    say(address, &id, &long).await;
    expect(send(address, "DELETE", &format!("/api/conversations/{id}"), &json!({})).await, 204);
    let since = Instant::now();
    let other = conversation(address, json!({"max_tokens": 3})).await;
    let path = format!("/api/conversations/{other}/messages");
    // The answers of the deleted conversation end soon, not at once.
    while send(address, "POST", &path, &words(None, "hi")).await.status == 429 {
        assert!(since.elapsed() < Duration::from_secs(20), "deleting a conversation stops its answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await.unwrap();
}
