//! Titles that the model writes: with a model that is large enough, by the real model itself.

use serde_json::{Value, json};

use crate::api::{conversation, expect, follow, load, say, send, words};
use crate::world::{self, model_path, shared};

fn titles(events: &[Value]) -> Vec<&str> {
    let titles = events.iter().filter(|event| event["type"] == "title");
    titles.map(|event| event["title"].as_str().unwrap()).collect()
}

fn asking(text: &str) -> Value {
    let mut body = words(None, text);
    body["write_title"] = true.into();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_writes_a_title_after_the_first_answer() {
    // Large enough to write titles.
    let model = model_path().with_file_name("qwen2.5-coder-0.5b.gguf");
    assert!(model.is_file(), "{} is missing: run `make test-setup`", model.display());
    let model = model.to_str().unwrap().to_owned();
    let server = world::start(|config| config.models = vec![model]).await;
    let address = server.address;
    let settings = json!({"max_tokens": 24, "temperature": 0});
    let questions = [
        "Can you please explain to me in simple words how bread dough rises and what yeast does?",
        "请问怎样在家里用面粉、酵母和水做出好吃的面包，需要多长时间？",
        "请介绍一下中国的茶文化，以及绿茶和红茶有什么不同。",
    ];
    for question in questions {
        let id = conversation(address, settings.clone()).await;
        let (_, answer) = say(address, &id, &asking(question)).await;
        let events = follow(address, &answer, 0).await.all().await;
        let told = titles(&events);
        assert_eq!(told.len(), 2, "first words, then the model's own: {told:?}");
        assert!(question.starts_with(told[0].trim_end_matches('…')), "{told:?}");
        let (first_words, written) = (told[0], told[1]);
        assert!(written.chars().count() <= 64 && written != first_words, "{written}");
        let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
        assert_eq!(is_chinese(written), is_chinese(question), "{written}");
        let done = events.iter().position(|event| event["type"] == "done").unwrap();
        let last = events.iter().rposition(|event| event["type"] == "title").unwrap();
        assert!(done < last, "nobody waits for a title");
        let loaded = load(address, &id).await;
        assert_eq!(loaded["title"], written);
        assert_eq!(loaded["title_is_auto"], true);

        // The second turn leaves it alone, and so does who does not ask for a title.
        let leaf = loaded["active_leaf_id"].as_str().unwrap();
        let (_, second) = say(address, &id, &words(Some(leaf), "Thank you.")).await;
        assert!(titles(&follow(address, &second, 0).await.all().await).is_empty());
        let silent = conversation(address, settings.clone()).await;
        let (_, answer) = say(address, &silent, &words(None, question)).await;
        assert_eq!(titles(&follow(address, &answer, 0).await.all().await), [first_words]);
    }

    // A title that a person gives while the answer is being written stays.
    let id = conversation(address, settings.clone()).await;
    let (_, answer) = say(address, &id, &asking(questions[0])).await;
    let change = json!({"title": "Mine"});
    expect(send(address, "PATCH", &format!("/api/conversations/{id}"), &change).await, 200);
    let events = follow(address, &answer, 0).await.all().await;
    assert_eq!(titles(&events).len(), 1, "{:?}", titles(&events));
    assert_eq!(load(address, &id).await["title"], "Mine");

    // Whoever ends the server does not wait for a title.
    let id = conversation(address, settings).await;
    let (_, answer) = say(address, &id, &asking(questions[1])).await;
    let mut stream = follow(address, &answer, 0).await;
    while stream.next().await.is_some_and(|event| event["type"] != "done") {}
    server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_model_keeps_the_first_words() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 8, "temperature": 0})).await;
    let (_, answer) = say(address, &id, &asking("Name three colours. Please.")).await;
    let events = follow(address, &answer, 0).await.all().await;
    assert_eq!(titles(&events), ["Name three colours"]);
    assert_eq!(events.last().unwrap()["type"], "done");
}
