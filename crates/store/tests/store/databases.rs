//! A fresh store for each test, on either database.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::ConnectionTrait;
use store::{ConversationId, MessageId, NewConversation, NewTurn, Part, SavedTurn, Store, StoreConfig};

/// A store that nothing else uses; its folder goes when it is dropped.
pub(crate) struct Fresh {
    pub(crate) store: Store,
    pub(crate) config: StoreConfig,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn sqlite() -> Option<Fresh> {
    open(None).await
}

/// `None`, with a line that is seen, where no PostgreSQL was given.
pub(crate) async fn postgres() -> Option<Fresh> {
    let url = fresh_schema().await?;
    open(Some(url)).await
}

/// The address of a new, empty schema, so that tests beside each other do not meet.
pub(crate) async fn fresh_schema() -> Option<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var("DAYBREAK_TEST_POSTGRES") else {
        // Past the test harness, which swallows what passing tests print.
        let line = b"SKIPPED on PostgreSQL: DAYBREAK_TEST_POSTGRES is not set; `make test` sets it\n";
        std::io::stderr().write_all(line).unwrap();
        return None;
    };
    let schema = format!("test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let db = sea_orm::Database::connect(&url).await.unwrap();
    db.execute_unprepared(&format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await.unwrap();
    db.execute_unprepared(&format!("CREATE SCHEMA {schema}")).await.unwrap();
    db.close().await.unwrap();
    let separator = if url.contains('?') { '&' } else { '?' };
    Some(format!("{url}{separator}options[search_path]={schema}"))
}

async fn open(database_url: Option<String>) -> Option<Fresh> {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: dir.path().join("data"), database_url };
    let store = Store::open(config.clone()).await.unwrap();
    Some(Fresh { store, config, dir })
}

impl Fresh {
    /// A conversation without a title.
    pub(crate) async fn conversation(&self) -> ConversationId {
        let new = NewConversation::default();
        self.store.create_conversation(self.store.local_owner(), new).await.unwrap().id
    }

    /// A turn that says this.
    pub(crate) async fn say(
        &self,
        id: ConversationId,
        parent_id: Option<MessageId>,
        text: &str,
    ) -> SavedTurn {
        self.store.begin_turn(self.store.local_owner(), id, turn(parent_id, text)).await.unwrap()
    }

    /// A turn with a complete answer.
    pub(crate) async fn say_and_hear(
        &self,
        id: ConversationId,
        parent_id: Option<MessageId>,
        text: &str,
        answer: &str,
    ) -> SavedTurn {
        let mut turn = self.say(id, parent_id, text).await;
        let end = finished(answer);
        turn.answer = self.store.finish_answer(self.store.local_owner(), turn.answer.id, end).await.unwrap();
        turn
    }
}

pub(crate) fn turn(parent_id: Option<MessageId>, text: &str) -> NewTurn {
    NewTurn {
        client_id: None,
        parent_id,
        parts: vec![Part::Text { text: text.to_owned() }],
        model: "smollm2:135m".to_owned(),
        title: Some(text.chars().take(40).collect()),
    }
}

pub(crate) fn finished(answer: &str) -> store::FinishedAnswer {
    store::FinishedAnswer {
        status: store::Status::Complete,
        parts: vec![Part::Text { text: answer.to_owned() }],
        receipt: Some(serde_json::json!({"seed": 7})),
        error: None,
        last_seq: 3,
    }
}

/// Makes two tests of a function that takes a [`Fresh`] store: one on each database.
macro_rules! on_both {
    ($(#[$doc:meta])* async fn $name:ident($fresh:ident: Fresh) $body:block) => {
        $(#[$doc])*
        mod $name {
            #[allow(unused_imports)] // not every test needs what stands around it
            use super::*;

            async fn check($fresh: $crate::databases::Fresh) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                if let Some(fresh) = $crate::databases::sqlite().await {
                    check(fresh).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                if let Some(fresh) = $crate::databases::postgres().await {
                    check(fresh).await;
                }
            }
        }
    };
}
pub(crate) use on_both;
