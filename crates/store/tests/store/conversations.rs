//! Conversations and the trees of messages in them.

use std::time::{Duration, Instant};

use serde_json::json;
use store::{
    ConversationChange, ConversationId, ListQuery, MessageId, NewAnswer, NewConversation, OwnerId, Part,
    Role, Status, StoreError,
};
use uuid::Uuid;

use crate::databases::{on_both, turn};

fn all() -> ListQuery {
    ListQuery { search: None, limit: 50, before: None }
}

on_both! {
    async fn a_turn_reads_back_as_it_was_said(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let id = fresh.conversation().await;
        let parts = vec![
            Part::File {
                name: "notes.md".into(), media_type: "text/markdown".into(), text: "# 笔记\n\u{1f469}\u{200d}\u{1f680}".into(),
                tokens: Some(9), size: 20,
            },
            Part::Text { text: "what does 'this' \"mean\"? \\ \u{7} %".into() },
        ];
        let saved = fresh.store
            .begin_turn(owner, id, store::NewTurn { parts: parts.clone(), ..turn(None, "x") })
            .await.unwrap();
        assert_eq!(saved.answer.parent_id, Some(saved.user.id));
        let (conversation, messages) = fresh.store.conversation_with_messages(owner, id).await.unwrap();
        assert_eq!(conversation.active_leaf_id, Some(saved.answer.id));
        assert_eq!(conversation.model.as_deref(), Some("smollm2:135m"));
        assert_eq!(messages, [saved.user.clone(), saved.answer.clone()]);
        assert_eq!(messages[0].parts, parts);
        assert_eq!((messages[1].role, messages[1].status), (Role::Assistant, Status::Running));
        assert_eq!(fresh.store.message(owner, saved.user.id).await.unwrap(), saved.user);
    }
}

on_both! {
    async fn a_character_that_postgres_cannot_hold_is_replaced_in_both(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let id = fresh.conversation().await;
        let saved = fresh.say(id, None, "a\0b").await;
        assert_eq!(saved.user.parts[0].text(), "a\u{fffd}b");
        assert_eq!(fresh.store.message(owner, saved.user.id).await.unwrap(), saved.user);
    }
}

on_both! {
    async fn the_same_client_id_gives_the_turn_that_was_saved_first(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let id = fresh.conversation().await;
        let client_id = Uuid::now_v7();
        let first = store::NewTurn { client_id: Some(client_id), ..turn(None, "once") };
        // Ten at once: one is saved, nine are told about it.
        let tasks: Vec<_> = (0..10)
            .map(|_| {
                let (store, turn) = (fresh.store.clone(), first.clone());
                tokio::spawn(async move { store.begin_turn(owner, id, turn).await.unwrap() })
            })
            .collect();
        let mut saved = Vec::new();
        for task in tasks {
            saved.push(task.await.unwrap());
        }
        assert_eq!(saved.iter().filter(|turn| !turn.repeated).count(), 1);
        assert!(saved.iter().all(|turn| turn.user.id == saved[0].user.id && turn.answer.id == saved[0].answer.id));
        let (_, messages) = fresh.store.conversation_with_messages(owner, id).await.unwrap();
        assert_eq!(messages.len(), 2);
        let found = fresh.store.turn_of_client_id(owner, id, client_id).await.unwrap().unwrap();
        assert_eq!(found.user, saved[0].user);

        let elsewhere = fresh.conversation().await;
        let again = fresh.store.begin_turn(owner, elsewhere, first).await;
        assert!(matches!(again, Err(StoreError::Conflict { code: "id_reused", .. })), "{again:?}");
    }
}

on_both! {
    async fn branches_are_read_from_the_root_to_their_leaf(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let id = fresh.conversation().await;
        let one = fresh.say_and_hear(id, None, "one", "1").await;
        let two = fresh.say_and_hear(id, Some(one.answer.id), "two", "2").await;
        let edited = fresh.say_and_hear(id, Some(one.answer.id), "two, edited", "2e").await;
        let again = fresh.store
            .begin_answer(owner, NewAnswer { parent_id: edited.user.id, model: "other".into() })
            .await.unwrap();
        let branch = async |leaf: MessageId| -> Vec<MessageId> {
            fresh.store.branch(owner, leaf).await.unwrap().1.iter().map(|m| m.id).collect()
        };
        assert_eq!(branch(two.answer.id).await, [one.user.id, one.answer.id, two.user.id, two.answer.id]);
        assert_eq!(branch(again.id).await, [one.user.id, one.answer.id, edited.user.id, again.id]);
        assert_eq!(branch(one.user.id).await, [one.user.id]);
        let conversation = fresh.store.conversation(owner, id).await.unwrap();
        assert_eq!((conversation.active_leaf_id, conversation.model.as_deref()), (Some(again.id), Some("other")));
    }
}

on_both! {
    async fn a_message_follows_only_what_it_may(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let (id, other) = (fresh.conversation().await, fresh.conversation().await);
        let elsewhere = fresh.say_and_hear(other, None, "x", "y").await;
        let running = fresh.say(id, None, "one").await;
        let attempts = [elsewhere.answer.id, MessageId::new(), running.user.id, running.answer.id];
        let mut codes = Vec::new();
        for parent in attempts {
            codes.push(match fresh.store.begin_turn(owner, id, turn(Some(parent), "two")).await {
                Err(StoreError::Invalid { field, .. }) => field,
                Err(StoreError::Conflict { code, .. }) => code.to_owned(),
                other => format!("{other:?}"),
            });
        }
        assert_eq!(codes, ["parent_id", "parent_id", "parent_id", "answer_running"]);
        let answer = NewAnswer { parent_id: elsewhere.answer.id, model: "m".into() };
        assert!(matches!(fresh.store.begin_answer(owner, answer).await, Err(StoreError::Invalid { .. })));
        let (_, messages) = fresh.store.conversation_with_messages(owner, id).await.unwrap();
        assert_eq!(messages.len(), 2, "a refused message leaves nothing behind");
    }
}

on_both! {
    async fn nobody_finds_what_belongs_to_somebody_else(fresh: Fresh) {
        let id = fresh.conversation().await;
        let turn = fresh.say_and_hear(id, None, "my secret", "is safe").await;
        let other = fresh.store.owner_named("somebody else").await.unwrap();
        let store = &fresh.store;
        let not_found = |result: Result<(), StoreError>| matches!(result, Err(StoreError::NotFound { .. }));
        for owner in [other, OwnerId::new()] {
            assert!(not_found(store.conversation(owner, id).await.map(drop)));
            assert!(not_found(store.conversation_with_messages(owner, id).await.map(drop)));
            assert!(not_found(store.update_conversation(owner, id, ConversationChange::default()).await.map(drop)));
            assert!(not_found(store.delete_conversation(owner, id).await));
            assert!(not_found(store.restore_conversation(owner, id).await.map(drop)));
            assert!(not_found(store.message(owner, turn.user.id).await.map(drop)));
            assert!(not_found(store.branch(owner, turn.user.id).await.map(drop)));
            assert!(not_found(store.events_after(owner, turn.answer.id, 0).await.map(drop)));
            assert!(not_found(store.begin_turn(owner, id, crate::databases::turn(None, "x")).await.map(drop)));
            let answer = NewAnswer { parent_id: turn.user.id, model: "m".into() };
            assert!(not_found(store.begin_answer(owner, answer).await.map(drop)));
            let end = crate::databases::finished("x");
            assert!(not_found(store.finish_answer(owner, turn.answer.id, end).await.map(drop)));
            assert!(not_found(store.export(owner, Some(id)).await.map(drop)));
            assert_eq!(store.export(owner, None).await.unwrap()["conversations"], json!([]));
            assert!(!store.set_automatic_title(owner, id, "stolen").await.unwrap());
            for search in [None, Some("secret".to_owned())] {
                let page = store.list_conversations(owner, ListQuery { search, ..all() }).await.unwrap();
                assert!(page.items.is_empty());
            }
        }
        assert!(not_found(store.conversation(store.local_owner(), ConversationId::new()).await.map(drop)));
    }
}

on_both! {
    async fn a_chosen_title_is_never_replaced_by_an_automatic_one(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        fresh.say(id, None, "how tall is  Everest?").await;
        let conversation = store.conversation(owner, id).await.unwrap();
        assert_eq!((conversation.title.as_str(), conversation.title_is_auto), ("how tall is Everest?", true));
        assert!(store.set_automatic_title(owner, id, "Everest").await.unwrap());
        let change = ConversationChange { title: Some(" My\nmountain ".into()), ..Default::default() };
        assert_eq!(store.update_conversation(owner, id, change).await.unwrap().title, "My mountain");
        assert!(!store.set_automatic_title(owner, id, "Everest again").await.unwrap());
        assert_eq!(store.conversation(owner, id).await.unwrap().title, "My mountain");
    }
}

on_both! {
    async fn changes_keep_to_their_limits(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let settings = json!({"system_prompt": "be brief\0", "temperature": 0.2, "z": [1], "a": null});
        let change = ConversationChange {
            model: Some("qwen2.5-coder:0.5b".into()), settings: Some(settings.clone()), ..Default::default()
        };
        store.update_conversation(owner, id, change).await.unwrap();
        let found = store.conversation(owner, id).await.unwrap();
        assert_eq!((found.settings, found.model.as_deref()), (settings, Some("qwen2.5-coder:0.5b")));
        let wrong = [
            ConversationChange { title: Some(String::new()), ..Default::default() },
            ConversationChange { title: Some("x".repeat(301)), ..Default::default() },
            ConversationChange { model: Some(String::new()), ..Default::default() },
            ConversationChange { settings: Some(json!([1])), ..Default::default() },
            ConversationChange { settings: Some(json!({"s": "x".repeat(300_000)})), ..Default::default() },
            ConversationChange { active_leaf_id: Some(MessageId::new()), ..Default::default() },
        ];
        for change in wrong {
            let found = store.update_conversation(owner, id, change.clone()).await;
            assert!(matches!(found, Err(StoreError::Invalid { .. })), "{change:?}: {found:?}");
        }
    }
}

on_both! {
    async fn deleting_can_be_undone_until_it_is_purged(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let turn = fresh.say_and_hear(id, None, "remember the milk", "I will").await;
        let other = fresh.conversation().await;
        assert_eq!(store.conversation_ids().await.unwrap().len(), 2);
        store.delete_conversation(owner, id).await.unwrap();
        assert_eq!(store.conversation_ids().await.unwrap(), [other]);
        assert!(matches!(store.conversation(owner, id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.message(owner, turn.user.id).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.delete_conversation(owner, id).await, Err(StoreError::NotFound { .. })));
        let search = ListQuery { search: Some("milk".into()), ..all() };
        assert!(store.list_conversations(owner, search.clone()).await.unwrap().items.is_empty());
        assert_eq!(store.purge_deleted(Duration::from_secs(3600)).await.unwrap(), 0);
        store.restore_conversation(owner, id).await.unwrap();
        assert_eq!(store.conversation_with_messages(owner, id).await.unwrap().1.len(), 2);
        assert_eq!(store.list_conversations(owner, search.clone()).await.unwrap().items.len(), 1);
        store.delete_conversation(owner, id).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(store.purge_deleted(Duration::ZERO).await.unwrap(), 1);
        assert!(matches!(store.restore_conversation(owner, id).await, Err(StoreError::NotFound { .. })));
    }
}

on_both! {
    async fn a_deleted_message_takes_what_is_below_it_along_and_brings_it_back(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let one = fresh.say_and_hear(id, None, "one", "1").await;
        let kept = fresh.say_and_hear(id, Some(one.answer.id), "kept question", "kept").await;
        let two = fresh.say_and_hear(id, Some(one.answer.id), "two", "2").await;
        let three = fresh.say_and_hear(id, Some(two.answer.id), "three", "a pelican").await;
        let ids = async || -> Vec<MessageId> {
            store.conversation_with_messages(owner, id).await.unwrap().1.iter().map(|m| m.id).collect()
        };
        let search = ListQuery { search: Some("pelican".into()), ..all() };
        let n_found = async || store.list_conversations(owner, search.clone()).await.unwrap().items.len();
        let before = ids().await;

        store.delete_message(owner, three.answer.id).await.unwrap();
        assert_eq!(n_found().await, 0);
        tokio::time::sleep(Duration::from_millis(3)).await; // the next deletion has its own moment
        let after = store.delete_message(owner, two.user.id).await.unwrap();
        assert_eq!(after.active_leaf_id, Some(kept.answer.id));
        assert_eq!(ids().await, [one.user.id, one.answer.id, kept.user.id, kept.answer.id]);
        assert!(matches!(store.message(owner, three.user.id).await, Err(StoreError::NotFound { .. })));
        let on_gone = store.begin_turn(owner, id, turn(Some(two.answer.id), "x")).await;
        assert!(matches!(on_gone, Err(StoreError::Invalid { .. })), "{on_gone:?}");
        assert!(matches!(store.restore_message(owner, three.answer.id).await, Err(StoreError::NotFound { .. })));

        let back = store.restore_message(owner, two.user.id).await.unwrap();
        assert_eq!(back.active_leaf_id, Some(three.user.id));
        assert_eq!(ids().await.len(), before.len() - 1, "what was deleted before stays deleted");
        store.restore_message(owner, three.answer.id).await.unwrap();
        assert_eq!(ids().await, before);
        assert_eq!(n_found().await, 1);

        store.delete_message(owner, one.user.id).await.unwrap();
        let empty = store.conversation(owner, id).await.unwrap();
        assert_eq!((ids().await.len(), empty.active_leaf_id), (0, None));
    }
}

on_both! {
    async fn pages_of_the_list_hold_each_conversation_once_newest_first(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let mut made = Vec::new();
        for n in 0..23 {
            let new = NewConversation { title: Some(format!("talk {n}")), ..Default::default() };
            made.push(store.create_conversation(owner, new).await.unwrap().id);
        }
        // Times are milliseconds: in a later one than the last of those it becomes the most recent.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        fresh.say(made[3], None, "talk again").await;
        for search in [None, Some("talk".to_owned())] {
            let mut seen = Vec::new();
            let mut before = None;
            loop {
                let query = ListQuery { search: search.clone(), limit: 5, before };
                let page = store.list_conversations(owner, query).await.unwrap();
                assert!(page.items.len() <= 5);
                seen.extend(page.items.iter().map(|item| item.conversation.id));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            let mut expected: Vec<_> = made.iter().copied().filter(|id| *id != made[3]).collect();
            expected.push(made[3]);
            expected.reverse();
            assert_eq!(seen, expected, "search: {search:?}");
        }
        for before in ["", "x", "1:2", "9999999999999999999999:0"] {
            let found = store.list_conversations(owner, ListQuery { before: Some(before.into()), ..all() }).await;
            assert!(matches!(found, Err(StoreError::Invalid { .. })), "{before}: {found:?}");
        }
    }
}

on_both! {
    async fn a_conversation_of_two_thousand_messages_loads_quickly(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let file = crate::transfer::long_conversation(2000);
        store.import(owner, &file).await.unwrap();
        let id = store.list_conversations(owner, all()).await.unwrap().items[0].conversation.id;
        let start = Instant::now();
        let (conversation, messages) = store.conversation_with_messages(owner, id).await.unwrap();
        let loading = start.elapsed();
        assert_eq!(messages.len(), 2000);
        let start = Instant::now();
        let branch = store.branch(owner, conversation.active_leaf_id.unwrap()).await.unwrap().1;
        let walking = start.elapsed();
        assert_eq!(branch.len(), 2000);
        println!("2000 messages: loaded in {loading:?}, branch in {walking:?}");
        // Measured 10 to 30 ms; the bound leaves room for a busy machine.
        assert!(loading < Duration::from_millis(500), "loading took {loading:?}");
    }
}

on_both! {
    async fn small_values_are_kept_by_name(fresh: Fresh) {
        assert_eq!(fresh.store.value("secret").await.unwrap(), None);
        fresh.store.set_value("secret", &[0, 255, 1]).await.unwrap();
        fresh.store.set_value("secret", &[2]).await.unwrap();
        fresh.store.set_value("other", b"").await.unwrap();
        assert_eq!(fresh.store.value("secret").await.unwrap(), Some(vec![2]));
        assert_eq!(fresh.store.value("other").await.unwrap(), Some(vec![]));
    }
}
