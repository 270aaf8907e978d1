//! Running answers, and what is left of them after a crash.

use serde_json::json;
use store::{Event, EventBody, FinishedAnswer, Part, Status, Store, StoreError};

use crate::databases::{finished, on_both};

fn events(first_seq: u64, bodies: Vec<EventBody>) -> Vec<Event> {
    bodies.into_iter().zip(first_seq..).map(|(body, seq)| Event { seq, body }).collect()
}

fn said() -> Vec<EventBody> {
    vec![
        EventBody::Other {
            kind: "notice".into(),
            payload: json!({"code": "dropped_turns", "n_messages": 2}),
        },
        EventBody::Reasoning("let me ".into()),
        EventBody::Reasoning("think".into()),
        EventBody::Text("你".into()),
        EventBody::Text("好\n".into()),
    ]
}

on_both! {
    async fn a_running_answer_shows_what_was_saved_of_it(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let answer = fresh.say(id, None, "hello").await.answer.id;
        store.append_events(owner, answer, events(1, said())).await.unwrap();
        store.append_events(owner, answer, events(9, vec![EventBody::Text("!".into())])).await.unwrap();
        let message = store.message(owner, answer).await.unwrap();
        let parts = [
            Part::Reasoning { text: "let me think".into(), seconds: None },
            Part::Text { text: "你好\n!".into() },
        ];
        assert_eq!((message.parts.as_slice(), message.last_seq, message.status), (parts.as_slice(), 9, Status::Running));
        let (_, messages) = store.conversation_with_messages(owner, id).await.unwrap();
        assert_eq!(messages[1], message);
        let after = store.events_after(owner, answer, 3).await.unwrap();
        assert_eq!(after.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5, 9]);
        assert_eq!(store.events_after(owner, answer, 0).await.unwrap()[..5], events(1, said()));
        assert_eq!(store.events_after(owner, answer, u64::MAX).await.unwrap(), []);
    }
}

on_both! {
    async fn an_answer_that_ended_has_its_parts_and_no_events_and_ends_once(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let answer = fresh.say(id, None, "hello").await.answer.id;
        store.append_events(owner, answer, events(1, said())).await.unwrap();
        let message = store.finish_answer(owner, answer, finished("done")).await.unwrap();
        assert_eq!(store.message(owner, answer).await.unwrap(), message);
        assert_eq!((message.status, message.last_seq), (Status::Complete, 3));
        assert_eq!(message.receipt, Some(json!({"seed": 7})));
        assert_eq!(store.events_after(owner, answer, 0).await.unwrap(), []);
        let late = store.append_events(owner, answer, events(7, said())).await;
        assert!(matches!(late, Err(StoreError::Conflict { code: "answer_ended", .. })), "{late:?}");
        let twice = store.finish_answer(owner, answer, finished("other")).await;
        assert!(matches!(twice, Err(StoreError::Conflict { code: "answer_ended", .. })), "{twice:?}");
    }
}

on_both! {
    async fn what_a_crash_left_running_is_stopped_with_what_was_saved(fresh: Fresh) {
        let owner = fresh.store.local_owner();
        let id = fresh.conversation().await;
        let empty = fresh.say(id, None, "nothing came").await.answer.id;
        let half = fresh.say(id, None, "half came").await.answer.id;
        let whole = fresh.say_and_hear(id, None, "all came", "all").await.answer;
        fresh.store.append_events(owner, half, events(1, said())).await.unwrap();
        let config = fresh.config.clone();
        fresh.store.close().await.unwrap();
        let crate::databases::Fresh { store, dir: _dir, .. } = fresh;
        drop(store);

        let store = Store::open(config).await.unwrap();
        assert_eq!(store.local_owner(), owner);
        assert_eq!(store.recover().await.unwrap(), 2);
        assert_eq!(store.recover().await.unwrap(), 0);
        let message = store.message(owner, half).await.unwrap();
        assert_eq!((message.status, message.last_seq, message.parts.len()), (Status::Stopped, 5, 2));
        assert_eq!(message.error.unwrap()["code"], "interrupted");
        let message = store.message(owner, empty).await.unwrap();
        assert_eq!((message.status, message.parts.len()), (Status::Stopped, 0));
        assert_eq!(store.message(owner, whole.id).await.unwrap(), whole);
    }
}

on_both! {
    async fn a_failed_answer_keeps_its_error(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let answer = fresh.say(id, None, "hello").await.answer.id;
        let end = FinishedAnswer {
            status: Status::Failed, parts: vec![], receipt: None,
            error: Some(json!({"code": "engine_failed", "message": "no\0"})), last_seq: 1,
        };
        let message = store.finish_answer(owner, answer, end).await.unwrap();
        assert_eq!(store.message(owner, answer).await.unwrap(), message);
        assert_eq!(message.error.unwrap()["message"], "no\0");
    }
}

on_both! {
    async fn a_continued_answer_goes_on_behind_what_it_had_said(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let turn = fresh.say_and_hear(id, None, "count", "one two").await;
        let answer = turn.answer.id;
        let running = store.continue_answer(owner, answer).await.unwrap();
        assert_eq!((running.status, running.last_seq, running.parts[0].text()), (Status::Running, 3, "one two"));
        assert!(matches!(store.continue_answer(owner, answer).await, Err(StoreError::Conflict { .. })));
        assert!(matches!(store.continue_answer(owner, turn.user.id).await, Err(StoreError::Invalid { .. })));
        store.append_events(owner, answer, events(4, vec![EventBody::Text(" three".into())])).await.unwrap();
        let message = store.message(owner, answer).await.unwrap();
        assert_eq!((message.parts.len(), message.parts[0].text(), message.last_seq), (1, "one two three", 4));
        assert_eq!(store.recover().await.unwrap(), 1);
        let message = store.message(owner, answer).await.unwrap();
        assert_eq!((message.parts[0].text(), message.status), ("one two three", Status::Stopped));
        store.continue_answer(owner, answer).await.unwrap();
        store.finish_answer(owner, answer, finished("one two three four")).await.unwrap();
        let message = store.message(owner, answer).await.unwrap();
        assert_eq!((message.parts.len(), message.parts[0].text()), (1, "one two three four"));
    }
}

on_both! {
    async fn an_answer_may_end_after_it_was_deleted(fresh: Fresh) {
        let (store, owner) = (&fresh.store, fresh.store.local_owner());
        let id = fresh.conversation().await;
        let (one, two) = (fresh.say(id, None, "one").await, fresh.say(id, None, "two").await);
        store.delete_message(owner, one.user.id).await.unwrap();
        store.delete_conversation(owner, id).await.unwrap();
        store.append_events(owner, one.answer.id, events(1, said())).await.unwrap();
        store.finish_answer(owner, one.answer.id, finished("1")).await.unwrap();
        assert_eq!(store.recover().await.unwrap(), 1);
        store.restore_conversation(owner, id).await.unwrap();
        assert_eq!(store.message(owner, two.answer.id).await.unwrap().status, Status::Stopped);
    }
}
