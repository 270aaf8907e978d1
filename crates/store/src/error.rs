//! What can go wrong in the store, in words that say what to do.

use std::path::PathBuf;

use sea_orm::{DbErr, RuntimeErr};

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The object does not exist, or belongs to somebody else, which is told in the same words.
    #[error("{what} not found")]
    NotFound {
        /// "conversation" or "message".
        what: &'static str,
    },
    /// The request contradicts what is stored.
    #[error("{reason}")]
    Conflict {
        /// A short name for programs, such as `id_reused`.
        code: &'static str,
        /// One line for people.
        reason: String,
    },
    /// A value outside of its limits, or a file to import that is not what it says.
    #[error("{field}: {reason}")]
    Invalid {
        /// Where, such as `conversations[3].messages[0].role`.
        field: String,
        /// Expected and found.
        reason: String,
    },
    /// Another server works on this data directory.
    #[error(
        "data directory {} is in use by the server with pid {pid}; stop it, or choose another directory with --data",
        path.display()
    )]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The process that holds it, or "unknown".
        pid: String,
    },
    /// The data directory cannot be made or written.
    #[error("data directory {} cannot be written: {reason}; choose another directory with --data", path.display())]
    NotWritable {
        /// The data directory.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// No space left.
    #[error("no space left for the database in {}; free some space and try again", path.display())]
    Full {
        /// The data directory.
        path: PathBuf,
    },
    /// The database was written by a newer build.
    #[error(
        "the database has schema version {found}, this build knows versions up to {supported}; \
         use the newer build of daybreak that wrote it"
    )]
    NewerDatabase {
        /// The version found.
        found: i64,
        /// The newest version this build knows.
        supported: i64,
    },
    /// The file is no database of ours, or is damaged.
    #[error("the database {} is damaged or not a database: {reason}; restore a backup or move it away", path.display())]
    Damaged {
        /// The database file (or the data directory, where the file is not known).
        path: PathBuf,
        /// The database's words.
        reason: String,
    },
    /// Something stored does not read back as what it should be.
    #[error("stored {what} of {id} is not valid: {reason}")]
    BadRecord {
        /// "settings", "receipt" …
        what: &'static str,
        /// The object.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// Any other failure of the database.
    #[error("database: {0}")]
    Database(#[source] DbErr),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match code(&error).as_deref() {
            // SQLite's primary result codes: 13 full, 8 read-only, 11 corrupt, 26 not a database. PostgreSQL: 53100.
            Some("13" | "53100") => StoreError::Full { path: PathBuf::from("the data directory") },
            Some("8" | "264" | "520" | "776" | "1032" | "1288" | "1544") => StoreError::NotWritable {
                path: PathBuf::from("of this server"),
                reason: "the database is read-only".to_owned(),
            },
            Some("11" | "26" | "267" | "523" | "779") => {
                StoreError::Damaged { path: PathBuf::from("of this server"), reason: error.to_string() }
            }
            _ => StoreError::Database(error),
        }
    }
}

impl StoreError {
    /// Puts the real place into errors that were made from a bare database error.
    pub(crate) fn at(self, place: &std::path::Path) -> Self {
        match self {
            StoreError::Full { .. } => StoreError::Full { path: place.to_owned() },
            StoreError::NotWritable { reason, .. } => {
                StoreError::NotWritable { path: place.to_owned(), reason }
            }
            StoreError::Damaged { reason, .. } => StoreError::Damaged { path: place.to_owned(), reason },
            other => other,
        }
    }

    /// A value outside of its limits.
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        StoreError::Invalid { field: field.into(), reason: reason.into() }
    }
}

/// The database's own error code.
fn code(error: &DbErr) -> Option<String> {
    let (DbErr::Conn(runtime) | DbErr::Exec(runtime) | DbErr::Query(runtime)) = error else { return None };
    let RuntimeErr::SqlxError(error) = runtime else { return None };
    Some(error.as_database_error()?.code()?.into_owned())
}
