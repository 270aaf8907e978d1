//! Opening a store: its lock, versions newer than this build, damaged files.

use sea_orm::ConnectionTrait;
use store::{Store, StoreConfig, StoreError};

use crate::databases::{fresh_schema, on_both};

fn config(dir: &std::path::Path) -> StoreConfig {
    StoreConfig { data_dir: dir.to_owned(), database_url: None }
}

on_both! {
    async fn a_second_store_on_the_directory_names_the_first_ones_pid(fresh: Fresh) {
        let second = Store::open(fresh.config.clone()).await;
        match second {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("expected Locked, found {other:?}"),
        }
    }
}

#[tokio::test]
async fn the_directory_is_free_again_when_the_store_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a folder with spaces, ? and # and %41");
    let store = Store::open(config(&data)).await.unwrap();
    let owner = store.local_owner();
    store.close().await.unwrap();
    drop(store);
    assert!(data.join("daybreak.db").is_file());
    assert_eq!(Store::open(config(&data)).await.unwrap().local_owner(), owner);
}

async fn newer_version_is_refused(config: StoreConfig, raw_url: String) {
    let store = Store::open(config.clone()).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let raw = sea_orm::Database::connect(&raw_url).await.unwrap();
    raw.execute_unprepared("INSERT INTO schema_versions VALUES (999, 0)").await.unwrap();
    raw.close().await.unwrap();
    let line = Store::open(config).await.unwrap_err().to_string();
    assert!(line.contains("999") && line.contains("newer build") && !line.contains('\n'), "{line}");
    let raw = sea_orm::Database::connect(&raw_url).await.unwrap();
    let kept = raw.execute_unprepared("DELETE FROM schema_versions WHERE version = 999").await.unwrap();
    assert_eq!(kept.rows_affected(), 1, "a refused database stays as it is");
    raw.close().await.unwrap();
}

#[tokio::test]
async fn a_database_newer_than_this_build_is_refused_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}/daybreak.db", dir.path().display());
    newer_version_is_refused(config(dir.path()), file).await;
}

#[tokio::test]
async fn a_database_newer_than_this_build_is_refused_on_postgres() {
    let Some(url) = fresh_schema().await else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: Some(url.clone()) };
    newer_version_is_refused(config, url).await;
}

#[tokio::test]
async fn a_postgres_that_is_not_there_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("postgres://me@localhost/none?host={}", dir.path().display());
    let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: Some(url) };
    let line = Store::open(config).await.unwrap_err().to_string();
    assert!(line.starts_with("database:") && !line.contains('\n'), "{line}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_one_clear_line_and_stays_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daybreak.db");
    let rubbish = b"this is not a database at all, but long enough to look like one. ".repeat(100);
    std::fs::write(&file, &rubbish).unwrap();
    let error = Store::open(config(dir.path())).await.unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
    let line = error.to_string();
    assert!(line.contains(&dir.path().display().to_string()) && !line.contains('\n'), "{line}");
    assert_eq!(std::fs::read(&file).unwrap(), rubbish);
}
