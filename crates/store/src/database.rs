//! The connections: one that writes, several that read.
//!
//! SQLite takes one writer at a time, so the write pool holds exactly one connection and its waiters are the queue (in
//! order, each for at most [`ACQUIRE_TIMEOUT`]); the readers see snapshots and never wait for it (WAL). A commit
//! returns after the log has reached the disk (`synchronous=FULL`). PostgreSQL queues its own writers, so there both
//! names mean one pool.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    AccessMode, ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbBackend, IsolationLevel,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::data_dir::DataDir;
use crate::{OwnerId, StoreError, migrations};

/// The embedded database's file name inside the data directory.
const DATABASE_FILE: &str = "daybreak.db";
/// How long a query waits for a free connection before it fails: nothing waits for ever.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long SQLite waits for another process's lock (a backup tool, for instance).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections of SQLite; each is a thread and a few hundred kB of cache.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL.
const POSTGRES_CONNECTIONS: u32 = 10;

/// Where the store keeps things.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory, such as `~/.local/share/daybreak`; made if missing and locked while the store is open.
    pub data_dir: PathBuf,
    /// `postgres://user:password@host/database`, or `None` for the embedded SQLite file in the data directory.
    pub database_url: Option<String>,
}

/// The open store: a cheap handle, cloned freely. The data directory stays locked until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    writer: DatabaseConnection,
    readers: DatabaseConnection,
    /// What to name in errors: the SQLite file's folder or "the PostgreSQL server".
    place: PathBuf,
    /// The single local person, until accounts come.
    local_owner: OwnerId,
    _data_dir: DataDir,
}

impl Store {
    /// Locks the data directory, opens (or makes) the database and brings its schema up to this build's version.
    pub async fn open(config: StoreConfig) -> Result<Store, StoreError> {
        let data_dir = DataDir::lock(&config.data_dir)?;
        let place = match config.database_url {
            Some(_) => PathBuf::from("the PostgreSQL server"),
            None => config.data_dir.clone(),
        };
        Self::open_locked(config.database_url, data_dir, &place).await.map_err(|e| e.at(&place))
    }

    async fn open_locked(url: Option<String>, data_dir: DataDir, place: &Path) -> Result<Store, StoreError> {
        let (writer, readers) = match url {
            Some(url) => {
                let pool = open_postgres(url).await?;
                (pool.clone(), pool)
            }
            None => open_sqlite(&data_dir.path().join(DATABASE_FILE)).await?,
        };
        let inner = Inner {
            writer,
            readers,
            place: place.to_owned(),
            local_owner: OwnerId::new(),
            _data_dir: data_dir,
        };
        let mut store = Store { inner: Arc::new(inner) };
        migrations::migrate(&store).await?;
        let owner = store.owner_named("local").await?;
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.local_owner = owner;
        }
        Ok(store)
    }

    /// The single local person, who owns everything until accounts come.
    pub fn local_owner(&self) -> OwnerId {
        self.inner.local_owner
    }

    /// Closes the connections (SQLite folds its log into the file). Later queries on any clone fail.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.inner.readers.close_by_ref().await?;
        self.inner.writer.close_by_ref().await?;
        Ok(())
    }

    /// A connection that only reads, for single queries.
    pub(crate) fn read(&self) -> &DatabaseConnection {
        &self.inner.readers
    }

    /// One unchanging view for several reads that must fit together.
    pub(crate) async fn snapshot(&self) -> Result<DatabaseTransaction, StoreError> {
        let postgres = self.backend() == DbBackend::Postgres;
        let options = TransactionOptions {
            isolation_level: postgres.then_some(IsolationLevel::RepeatableRead),
            access_mode: postgres.then_some(AccessMode::ReadOnly),
            sqlite_transaction_mode: None,
        };
        Ok(self.inner.readers.begin_with_options(options).await?)
    }

    /// The next place in the writer's queue. What is not committed is rolled back when the transaction is dropped.
    pub(crate) async fn write(&self) -> Result<DatabaseTransaction, StoreError> {
        let options = TransactionOptions {
            isolation_level: None,
            access_mode: None,
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        };
        self.inner
            .writer
            .begin_with_options(options)
            .await
            .map_err(|e| StoreError::from(e).at(&self.inner.place))
    }

    /// Commits; when this returns `Ok`, the change survives power loss.
    pub(crate) async fn commit(&self, txn: DatabaseTransaction) -> Result<(), StoreError> {
        txn.commit().await.map_err(|e| StoreError::from(e).at(&self.inner.place))
    }

    /// Which SQL the database speaks.
    pub(crate) fn backend(&self) -> DbBackend {
        self.inner.readers.get_database_backend()
    }
}

async fn open_sqlite(file: &Path) -> Result<(DatabaseConnection, DatabaseConnection), StoreError> {
    let writer = sqlite_pool(file, 1, false).await?;
    let readers = sqlite_pool(file, SQLITE_READERS, true).await?;
    Ok((writer, readers))
}

async fn sqlite_pool(file: &Path, n: u32, reads_only: bool) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new("sqlite::memory:"); // the real path goes in below, free of URL escaping
    let file = file.to_owned();
    options
        .max_connections(n)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |_| {
            let options = sea_orm::sqlx::sqlite::SqliteConnectOptions::new()
                .filename(&file)
                .create_if_missing(!reads_only)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .pragma("cache_size", "-8000"); // kB
            if reads_only { options.pragma("query_only", "on") } else { options }
        });
    Ok(Database::connect(options).await?)
}

async fn open_postgres(url: String) -> Result<DatabaseConnection, StoreError> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .set_application_name("daybreak")
        .sqlx_logging(false);
    Ok(Database::connect(options).await?)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sea_orm::ConnectionTrait;

    use super::*;
    use crate::NewConversation;

    #[tokio::test]
    async fn a_full_disk_is_said_and_nothing_that_was_saved_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: None };
        let store = Store::open(config).await.unwrap();
        let owner = store.local_owner();
        let kept = NewConversation { title: Some("kept".into()), ..Default::default() };
        let kept = store.create_conversation(owner, kept).await.unwrap().id;
        // A limit of pages makes SQLite meet the end of the disk where a test can reach it.
        store.inner.writer.execute_unprepared("PRAGMA max_page_count = 80").await.unwrap();
        let big = serde_json::json!({ "system_prompt": "x".repeat(100_000) });
        let mut refused = None;
        for _ in 0..20 {
            let new = NewConversation { settings: big.clone(), ..Default::default() };
            refused = refused.or(store.create_conversation(owner, new).await.err());
        }
        let error = refused.expect("eighty pages hold no twenty times 100 kB");
        assert!(matches!(&error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().starts_with("no space left"), "{error}");
        assert_eq!(store.conversation(owner, kept).await.unwrap().title, "kept");
    }

    #[tokio::test]
    async fn sqlite_runs_with_the_settings_that_the_promises_need() {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig { data_dir: dir.path().to_owned(), database_url: None };
        let store = Store::open(config).await.unwrap();
        for (name, expected) in [("synchronous", 2), ("foreign_keys", 1), ("busy_timeout", 5000)] {
            let statement = sea_orm::Statement::from_string(DbBackend::Sqlite, format!("PRAGMA {name}"));
            let row = store.inner.writer.query_one_raw(statement).await.unwrap().unwrap();
            assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), expected, "{name}");
        }
        let statement = sea_orm::Statement::from_string(DbBackend::Sqlite, "PRAGMA journal_mode");
        let row = store.inner.writer.query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), "wal");
        let written = store.read().execute_unprepared("DELETE FROM owners").await;
        assert!(written.is_err(), "a reading connection must not write");
    }
}
