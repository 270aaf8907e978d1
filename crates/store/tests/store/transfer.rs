//! Export and import.

use serde_json::{Value as Json, json};
use store::{ListQuery, NewAnswer, StoreError};

use crate::databases::{Fresh, on_both};

/// An export file with one conversation: one branch of so many messages, some of them long.
pub(crate) fn long_conversation(n_messages: usize) -> Json {
    let messages: Vec<_> = (0..n_messages)
        .map(|n| {
            let role = if n % 2 == 0 { "user" } else { "assistant" };
            let parent = (n > 0).then(|| (n - 1).to_string());
            let text = format!("message {n}: {}", "some words 一些文字 ".repeat(10 + n % 60));
            json!({"id": n.to_string(), "parent_id": parent, "role": role, "status": "complete",
                   "parts": [{"type": "text", "text": text}]})
        })
        .collect();
    file(json!([{"title": "long", "messages": messages}]))
}

fn file(conversations: Json) -> Json {
    json!({"format": "daybreak-conversations", "version": 1, "conversations": conversations})
}

/// The export without what must differ: ids become the order in which they first stand in the file.
fn without_ids(file: &Json) -> String {
    let mut text = file["conversations"].to_string();
    let mut ids: Vec<String> = Vec::new();
    for conversation in file["conversations"].as_array().unwrap() {
        ids.push(conversation["id"].as_str().unwrap().to_owned());
        for message in conversation["messages"].as_array().unwrap() {
            ids.push(message["id"].as_str().unwrap().to_owned());
        }
    }
    for (n, id) in ids.iter().enumerate() {
        text = text.replace(id, &format!("id-{n}"));
    }
    text
}

async fn n_conversations(fresh: &Fresh) -> usize {
    let query = ListQuery { search: None, limit: 500, before: None };
    fresh.store.list_conversations(fresh.store.local_owner(), query).await.unwrap().items.len()
}

on_both! {
    async fn what_was_exported_is_imported_unchanged_with_new_ids(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let one = fresh.say_and_hear(id, None, "一 \"one\"", "1").await;
        fresh.say_and_hear(id, Some(one.answer.id), "two", "2").await;
        let again = NewAnswer { parent_id: one.user.id, model: "other".into() };
        let answer = store.begin_answer(owner, again).await.unwrap();
        store.finish_answer(owner, answer.id, crate::databases::finished("1b")).await.unwrap();
        let mut first = store.export(owner, None).await.unwrap();
        assert_eq!(store.import(owner, &first).await.unwrap(), 1);
        let both = store.export(owner, None).await.unwrap();
        assert_eq!(both["conversations"].as_array().unwrap().len(), 2);
        let second = file(json!([both["conversations"][1]]));
        assert_eq!(without_ids(&first), without_ids(&second));
        assert_eq!(store.export(owner, Some(id)).await.unwrap()["conversations"], first["conversations"]);
        first["exported_at"].take();
        let found = ListQuery { search: Some("one".into()), limit: 10, before: None };
        assert_eq!(store.list_conversations(owner, found).await.unwrap().items.len(), 2, "imports are searchable");
    }
}

on_both! {
    async fn messages_may_stand_before_their_parents(fresh: Fresh) {
        let text = |text: &str| json!([{"type": "text", "text": text}]);
        let messages = json!([
            {"id": "c", "parent_id": "b", "role": "user", "parts": text("3")},
            {"id": "b", "parent_id": "a", "role": "assistant", "parts": text("2"), "status": "running"},
            {"id": "a", "role": "user", "parts": text("1")},
        ]);
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        store.import(owner, &file(json!([{"title": "t", "messages": messages}]))).await.unwrap();
        let export = store.export(owner, None).await.unwrap();
        let messages = export["conversations"][0]["messages"].as_array().unwrap();
        let said: Vec<_> = messages.iter().map(|m| m["parts"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(said, ["1", "2", "3"]);
        assert_eq!(messages[1]["status"], "stopped");
        assert_eq!(export["conversations"][0]["active_leaf_id"], messages[2]["id"]);
    }
}

on_both! {
    async fn a_file_with_anything_wrong_is_refused_as_a_whole(fresh: Fresh) {
        let good = json!({"title": "good", "messages": []});
        let message = |change: Json| {
            let mut message = json!({"id": "a", "role": "user", "parts": [{"type": "text", "text": "x"}]});
            for (key, value) in change.as_object().unwrap() {
                message[key] = value.clone();
            }
            json!({"messages": [message]})
        };
        let two = |a: Json, b: Json| {
            let mut pair = message(a);
            let second = message(b)["messages"][0].clone();
            pair["messages"].as_array_mut().unwrap().push(second);
            pair
        };
        let cases = [
            ("conversations[1].messages", json!({})),
            ("conversations[1].messages", json!(null)),
            ("conversations[1].title", json!({"title": "x".repeat(1000), "messages": []})),
            ("conversations[1].settings", json!({"settings": 3, "messages": []})),
            ("conversations[1].created_at", json!({"created_at": -5, "messages": []})),
            ("conversations[1].created_at", json!({"created_at": "now", "messages": []})),
            ("conversations[1].messages[0].id", message(json!({"id": 5}))),
            ("conversations[1].messages[0].role", message(json!({"role": "system"}))),
            ("conversations[1].messages[0].role", message(json!({"role": "assistant"}))),
            ("conversations[1].messages[0].status", message(json!({"status": "odd"}))),
            ("conversations[1].messages[0].parts", message(json!({"parts": "text"}))),
            ("conversations[1].messages[0].parts", message(json!({"parts": []}))),
            ("conversations[1].messages[0].parts[0].type", message(json!({"parts": [{"type": "x", "text": ""}]}))),
            ("conversations[1].messages[0].parts[0].text", message(json!({"parts": [{"type": "text"}]}))),
            ("conversations[1].messages[0].parts[0].text", message(json!({"parts": [7]}))),
            ("conversations[1].messages[0].receipt", message(json!({"receipt": "x"}))),
            ("conversations[1].messages[0].error", message(json!({"error": {"m": "x".repeat(300_000)}}))),
            ("conversations[1].messages[0].parent_id", message(json!({"parent_id": "a"}))),
            ("conversations[1].messages[0].parent_id", message(json!({"parent_id": "elsewhere"}))),
            ("conversations[1].messages[0].parent_id", message(json!({"parent_id": 1}))),
            ("conversations[1].messages[1].id", two(json!({}), json!({}))),
            ("conversations[1].messages[1].role", two(json!({}), json!({"id": "b", "parent_id": "a"}))),
            ("conversations[1].messages[0].parent_id",
             two(json!({"parent_id": "b"}), json!({"id": "b", "role": "assistant", "parent_id": "a"}))),
        ];
        let mut wrong = Vec::new();
        let check = async |expected: &str, file: Json| {
            match fresh.store.import(fresh.store.local_owner(), &file).await {
                Err(StoreError::Invalid { field, .. }) if field == expected => None,
                other => Some(format!("{expected}: {other:?} for {file}")),
            }
        };
        for (field, bad) in cases {
            wrong.extend(check(field, file(json!([good, bad]))).await);
        }
        wrong.extend(check("format", json!([1])).await);
        wrong.extend(check("format", json!({"format": "other", "version": 1})).await);
        wrong.extend(check("version", json!({"format": "daybreak-conversations", "version": 2})).await);
        wrong.extend(check("conversations", json!({"format": "daybreak-conversations", "version": 1})).await);
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(n_conversations(&fresh).await, 0);
    }
}
