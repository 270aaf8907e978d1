//! From an empty or older database to the schema of this build, forward only, one transaction a version.
//!
//! The table `schema_versions` says which versions have been applied. A database newer than this build is refused with
//! a line that says so; nothing is ever patched up or guessed. A released version's files never change: a change is a
//! new version with its own two files.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use crate::StoreError;
use crate::database::Store;

struct Migration {
    version: i64,
    sqlite: &'static str,
    postgres: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        sqlite: include_str!("migrations/0001_first.sqlite.sql"),
        postgres: include_str!("migrations/0001_first.postgres.sql"),
    },
    Migration {
        version: 2,
        sqlite: include_str!("migrations/0002_jobs.sqlite.sql"),
        postgres: include_str!("migrations/0002_jobs.postgres.sql"),
    },
];

/// The schema version of this build.
const SUPPORTED: i64 = MIGRATIONS[MIGRATIONS.len() - 1].version;

/// Any number will do, as long as every server that shares a PostgreSQL database uses the same: it is the lock under
/// which one of them migrates.
const ADVISORY_LOCK: i64 = 0x6461_7962_7265_616b; // "daybreak"

pub(crate) async fn migrate(store: &Store) -> Result<(), StoreError> {
    let txn = store.write().await?;
    let backend = txn.get_database_backend();
    if backend == DbBackend::Postgres {
        txn.execute_unprepared(&format!("SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")).await?;
    }
    txn.execute_unprepared(
        "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)",
    )
    .await?;
    let found = txn
        .query_one_raw(Statement::from_string(
            backend,
            "SELECT CAST(COALESCE(MAX(version), 0) AS BIGINT) AS version FROM schema_versions",
        ))
        .await?
        .map_or(Ok(0), |row| row.try_get::<i64>("", "version"))?;
    if found > SUPPORTED {
        return Err(StoreError::NewerDatabase { found, supported: SUPPORTED });
    }
    for migration in MIGRATIONS.iter().filter(|m| m.version > found) {
        let sql = if backend == DbBackend::Postgres { migration.postgres } else { migration.sqlite };
        txn.execute_unprepared(sql).await?;
        txn.execute_unprepared(&format!(
            "INSERT INTO schema_versions (version, applied_at) VALUES ({}, {})",
            migration.version,
            crate::database::now_ms()
        ))
        .await?;
    }
    txn.commit().await?;
    Ok(())
}
