//! Conversations are trees: answer again, say it differently, look at another branch, delete and bring back.

use serde_json::json;

use crate::api::{ask, conversation, expect, finished, load, message, say, send, text, words};
use crate::world::shared;

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_message_and_a_new_answer_are_siblings() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 6})).await;
    let (one, first) = ask(address, &id, &words(None, "My name is Ada.")).await;
    let first_id = text(&first["id"]);
    let (two, second) = ask(address, &id, &words(Some(&first_id), "What is my name?")).await;
    let (edited, other) = ask(address, &id, &words(Some(&first_id), "Who am I?")).await;
    let again = format!("/api/messages/{first_id}/regenerate");
    let again = expect(send(address, "POST", &again, &json!({"overflow": "refuse"})).await, 201);
    let again = finished(address, &text(&again["answer"]["id"])).await;

    let loaded = load(address, &id).await;
    let parent = |id: &str| message(&loaded, id)["parent_id"].clone();
    assert_eq!(loaded["messages"].as_array().unwrap().len(), 7);
    assert_eq!(parent(&one), json!(null));
    assert_eq!((parent(&two), parent(&edited)), (json!(first_id), json!(first_id)));
    assert_eq!((&again["parent_id"], &first["parent_id"]), (&json!(one), &json!(one)));
    assert_eq!(loaded["active_leaf_id"], again["id"]);
    // Each answer saw its own branch only.
    let kept = |answer: &serde_json::Value| answer["receipt"]["kept"]["n_messages"].as_u64().unwrap();
    assert_eq!([kept(&first), kept(&second), kept(&other), kept(&again)], [1, 3, 3, 1]);

    let change = json!({"active_leaf_id": second["id"]});
    let changed = expect(send(address, "PATCH", &format!("/api/conversations/{id}"), &change).await, 200);
    assert_eq!(changed["active_leaf_id"], second["id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_follows_only_an_answer_that_has_ended() {
    let address = shared().await;
    let id = conversation(address, crate::api::endless()).await;
    let path = format!("/api/conversations/{id}/messages");
    let (user, answer) = say(address, &id, &words(None, "Write a long story.")).await;
    let early = expect(send(address, "POST", &path, &words(Some(&answer), "and then?")).await, 409);
    assert_eq!(early["error"]["code"], "answer_running");
    let on_user = expect(send(address, "POST", &path, &words(Some(&user), "and then?")).await, 400);
    assert_eq!(on_user["error"]["param"], "parent_id");
    let other = conversation(address, json!({})).await;
    let elsewhere = format!("/api/conversations/{other}/messages");
    let foreign = expect(send(address, "POST", &elsewhere, &words(Some(&answer), "hm")).await, 400);
    assert_eq!(foreign["error"]["param"], "parent_id");
    expect(send(address, "POST", &format!("/api/messages/{answer}/stop"), &json!({})).await, 204);
    assert_eq!(load(address, &id).await["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_and_conversations_come_back() {
    let address = shared().await;
    let id = conversation(address, json!({"max_tokens": 4})).await;
    let (_, first) = ask(address, &id, &words(None, "one")).await;
    let first_id = text(&first["id"]);
    let (two, _) = ask(address, &id, &words(Some(&first_id), "two")).await;
    let before = load(address, &id).await;
    expect(send(address, "DELETE", &format!("/api/messages/{two}"), &json!({})).await, 204);
    let without = load(address, &id).await;
    assert_eq!(without["messages"].as_array().unwrap().len(), 2);
    assert_eq!(without["active_leaf_id"], first["id"]);
    let back = expect(send(address, "POST", &format!("/api/messages/{two}/restore"), &json!({})).await, 200);
    assert_eq!(back["messages"], before["messages"]);

    let path = format!("/api/conversations/{id}");
    expect(send(address, "DELETE", &path, &json!({})).await, 204);
    for (method, path) in [("GET", &path), ("DELETE", &path), ("PATCH", &path)] {
        assert_eq!(expect(send(address, method, path, &json!({})).await, 404)["error"]["code"], "not_found");
    }
    expect(send(address, "POST", &format!("{path}/restore"), &json!({})).await, 200);
    assert_eq!(load(address, &id).await["messages"], before["messages"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_stops_its_answer() {
    let address = shared().await;
    let id = conversation(address, crate::api::endless()).await;
    let (user, answer) = say(address, &id, &words(None, "Write a very long story.")).await;
    expect(send(address, "DELETE", &format!("/api/messages/{user}"), &json!({})).await, 204);
    assert_eq!(finished(address, &answer).await["status"], "stopped");
    assert_eq!(load(address, &id).await["messages"], json!([]));
}
