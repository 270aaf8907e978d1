//! Databases of earlier versions, kept in `testdata/databases`: opened, brought up to date, and nothing is missing.

use std::path::PathBuf;

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::json;
use store::{
    Conversation, Event, EventBody, FinishedAnswer, JobId, JobMove, JobStatus, ListQuery, Message, NewAnswer,
    NewConversation, NewJob, NewTurn, Part, Status, Store, StoreConfig,
};

use crate::databases::turn;

const THOUGHT: &str = "Short wavelengths are scattered more.";
const FILE: &str = "# 笔记\n\n瑞利散射 ∝ λ⁻⁴\n";

/// Versions that have a fixture; from the second on it holds jobs.
const VERSIONS: [i64; 2] = [1, 2];

fn fixture(version: i64) -> PathBuf {
    let name = format!("../../testdata/databases/version-{version}.db");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

async fn open(folder: &std::path::Path) -> Store {
    Store::open(StoreConfig { data_dir: folder.to_owned(), database_url: None }).await.unwrap()
}

fn text(text: &str) -> Part {
    Part::Text { text: text.to_owned() }
}

async fn search(store: &Store, words: &str) -> Vec<Conversation> {
    let query = ListQuery { search: Some(words.to_owned()), limit: 10, before: None };
    let page = store.list_conversations(store.local_owner(), query).await.unwrap();
    page.items.into_iter().map(|item| item.conversation).collect()
}

/// Makes the fixture anew with the build at hand. A released version's fixture never changes: run it for a version that
/// has none yet, under that version's name.
///
///     cargo test --release -p store --test store -- --ignored write_a_fixture
#[tokio::test]
#[ignore = "writes testdata/databases/version-2.db"]
async fn write_a_fixture_with_this_build() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).await;
    let owner = store.local_owner();
    let conversation = async |title: &str, settings| {
        let new = NewConversation { title: Some(title.to_owned()), settings, ..Default::default() };
        store.create_conversation(owner, new).await.unwrap().id
    };
    let end = |parts, status, error| FinishedAnswer {
        status,
        parts,
        receipt: Some(json!({"seed": 7, "model": {"name": "qwen2.5-coder:0.5b"}})),
        error,
        last_seq: 5,
    };

    // Chinese, with settings, a file, thoughts, and two versions of one answer.
    let sky =
        conversation("天空为什么是蓝的", json!({"system_prompt": "回答要简短。", "temperature": 0.2})).await;
    let file = Part::File {
        name: "笔记.md".to_owned(),
        media_type: "text/markdown".to_owned(),
        text: FILE.to_owned(),
        tokens: Some(12),
        size: FILE.len() as u64,
    };
    let asked = NewTurn { parts: vec![text("天空为什么是蓝的？"), file], ..turn(None, "") };
    let first = store.begin_turn(owner, sky, NewTurn { title: None, ..asked }).await.unwrap();
    let thought = Part::Reasoning { text: THOUGHT.to_owned(), seconds: Some(1.5) };
    let answer = end(vec![thought, text("因为瑞利散射。")], Status::Complete, None);
    store.finish_answer(owner, first.answer.id, answer).await.unwrap();
    let again = NewAnswer { parent_id: first.user.id, model: "smollm2:135m".to_owned() };
    let again = store.begin_answer(owner, again).await.unwrap();
    store
        .finish_answer(owner, again.id, end(vec![text("大气散射蓝光。")], Status::Stopped, None))
        .await
        .unwrap();

    // English, whose last answer failed.
    let rust = conversation("Ownership in Rust", json!({})).await;
    let one = store.begin_turn(owner, rust, turn(None, "What is ownership?")).await.unwrap();
    let answer = end(vec![text("Each value has one owner. 👩‍🚀")], Status::Complete, None);
    store.finish_answer(owner, one.answer.id, answer).await.unwrap();
    let two = store.begin_turn(owner, rust, turn(Some(one.answer.id), "And borrowing?")).await.unwrap();
    let error = json!({"code": "engine_failed", "message": "the model gave no finite logits"});
    store.finish_answer(owner, two.answer.id, end(vec![], Status::Failed, Some(error))).await.unwrap();

    // One whose answer was running when the power went, and one that was deleted.
    let cut = conversation("Cut off", json!({})).await;
    let said = store.begin_turn(owner, cut, turn(None, "Count to ten.")).await.unwrap();
    let events = ["one ", "two "].into_iter().zip(1..);
    let events = events.map(|(text, seq)| Event { seq, body: EventBody::Text(text.to_owned()) });
    store.append_events(owner, said.answer.id, events.collect()).await.unwrap();
    let gone = conversation("Deleted", json!({})).await;
    store.begin_turn(owner, gone, turn(None, "Forget this.")).await.unwrap();
    store.delete_conversation(owner, gone).await.unwrap();
    store.set_value("session_key", b"\x00\xff").await.unwrap();

    // A job that failed, and one that waits.
    for name in ["第一个模型", "second"] {
        let purpose = json!({"kind": "training", "dataset": "书"});
        let command = vec!["daybreak".to_owned(), "train".to_owned()];
        let new = NewJob { place: "here".to_owned(), name: name.to_owned(), purpose, command };
        store.create_job(owner, JobId::new(), new).await.unwrap();
    }
    let failed = store.jobs(owner).await.unwrap().remove(1).id;
    store.move_job(owner, failed, &[JobStatus::Queued], JobMove::Start).await.unwrap();
    let reason = Some("no space left".to_owned());
    let end = JobMove::End { status: JobStatus::Failed, reason, exit_code: Some(1) };
    store.move_job(owner, failed, &[JobStatus::Running], end).await.unwrap();

    store.close().await.unwrap();
    std::fs::copy(dir.path().join("daybreak.db"), fixture(2)).unwrap();
}

/// A copy of the fixture in a folder of its own, opened by this build.
async fn opened_copy(expected: i64) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daybreak.db");
    std::fs::copy(fixture(expected), &file).unwrap();
    let raw = sea_orm::Database::connect(format!("sqlite:{}", file.display())).await.unwrap();
    let statement = Statement::from_string(DbBackend::Sqlite, "SELECT MAX(version) FROM schema_versions");
    let version: i64 = raw.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap();
    assert_eq!(version, expected, "the fixture is a database of that version");
    raw.close().await.unwrap();
    let store = open(dir.path()).await;
    (dir, store)
}

fn said(messages: &[Message]) -> Vec<(&'static str, Status, Vec<Part>)> {
    messages.iter().map(|message| (message.role.name(), message.status, message.parts.clone())).collect()
}

#[tokio::test]
async fn everything_in_a_database_of_an_earlier_version_is_found() {
    for version in VERSIONS {
        let (_dir, store) = opened_copy(version).await;
        conversations_are_found(&store).await;
        jobs_are_found(&store, version).await;
    }
}

async fn jobs_are_found(store: &Store, version: i64) {
    let jobs = store.jobs(store.local_owner()).await.unwrap();
    let told: Vec<_> = jobs.iter().map(|job| (job.name.as_str(), job.status, job.n_starts)).collect();
    match version {
        1 => assert_eq!(told, []),
        _ => {
            let expected = [("second", JobStatus::Queued, 0), ("第一个模型", JobStatus::Failed, 1)];
            assert_eq!(told, expected);
            assert_eq!((jobs[1].reason.as_deref(), jobs[1].exit_code), (Some("no space left"), Some(1)));
            assert_eq!(
                (&jobs[1].purpose["dataset"], &jobs[1].command[1]),
                (&json!("书"), &"train".to_owned())
            );
            assert_eq!(store.going_jobs("here").await.unwrap(), jobs[..1]);
        }
    }
}

async fn conversations_are_found(store: &Store) {
    let owner = store.local_owner();
    assert_eq!(store.recover().await.unwrap(), 2, "one answer was running, and one in what was deleted");
    let all = ListQuery { search: None, limit: 10, before: None };
    let all = store.list_conversations(owner, all).await.unwrap().items;
    let titles: Vec<&str> = all.iter().map(|item| item.conversation.title.as_str()).collect();
    assert_eq!(titles, ["Cut off", "Ownership in Rust", "天空为什么是蓝的"]);

    let whole =
        async |idx: usize| store.conversation_with_messages(owner, all[idx].conversation.id).await.unwrap();
    let (sky, messages) = whole(2).await;
    assert_eq!(sky.settings, json!({"system_prompt": "回答要简短。", "temperature": 0.2}));
    let file = Part::File {
        name: "笔记.md".to_owned(),
        media_type: "text/markdown".to_owned(),
        text: FILE.to_owned(),
        tokens: Some(12),
        size: FILE.len() as u64,
    };
    assert_eq!(messages[0].parts, [text("天空为什么是蓝的？"), file]);
    let thought = Part::Reasoning { text: THOUGHT.to_owned(), seconds: Some(1.5) };
    assert_eq!(
        said(&messages[1..]),
        [
            ("assistant", Status::Complete, vec![thought, text("因为瑞利散射。")]),
            ("assistant", Status::Stopped, vec![text("大气散射蓝光。")]),
        ]
    );
    assert!(messages[1..].iter().all(|answer| answer.parent_id == Some(messages[0].id)));
    assert_eq!(sky.active_leaf_id, Some(messages[2].id));
    assert_eq!(messages[2].model.as_deref(), Some("smollm2:135m"));
    let receipt = json!({"seed": 7, "model": {"name": "qwen2.5-coder:0.5b"}});
    assert_eq!((&messages[1].receipt, messages[1].last_seq), (&Some(receipt), 5));

    let (_, messages) = whole(1).await;
    assert_eq!(
        said(&messages),
        [
            ("user", Status::Complete, vec![text("What is ownership?")]),
            ("assistant", Status::Complete, vec![text("Each value has one owner. 👩‍🚀")]),
            ("user", Status::Complete, vec![text("And borrowing?")]),
            ("assistant", Status::Failed, vec![]),
        ]
    );
    assert_eq!(messages[3].error.as_ref().unwrap()["code"], "engine_failed");
    let (_, messages) = whole(0).await;
    assert_eq!(messages[1].parts, [text("one two ")], "what was said until the power went");
    assert_eq!(messages[1].status, Status::Stopped);

    assert_eq!(search(store, "瑞利散射").await, std::slice::from_ref(&sky));
    assert_eq!(search(store, "BORROWING").await[0].title, "Ownership in Rust");
    assert_eq!(search(store, "forget").await, [], "what was deleted is not found");
    assert_eq!(store.value("session_key").await.unwrap().as_deref(), Some(b"\x00\xff".as_slice()));
}

#[tokio::test]
async fn a_database_of_an_earlier_version_is_written_on() {
    for version in VERSIONS {
        let (dir, store) = opened_copy(version).await;
        is_written_on(&dir, store).await;
    }
}

async fn is_written_on(dir: &tempfile::TempDir, store: Store) {
    let owner = store.local_owner();
    store.recover().await.unwrap();
    let rust = search(&store, "ownership").await.remove(0);
    let turn = store.begin_turn(owner, rust.id, turn(rust.active_leaf_id, "Lifetimes?")).await.unwrap();
    store.finish_answer(owner, turn.answer.id, crate::databases::finished("Yes.")).await.unwrap();
    let file = store.export(owner, None).await.unwrap();
    assert_eq!(store.import(owner, &file).await.unwrap(), 3);
    store.close().await.unwrap();
    drop(store);
    let store = open(dir.path()).await;
    assert_eq!(store.local_owner(), owner);
    assert_eq!(search(&store, "lifetimes").await.len(), 2, "the old one and its import");
}
