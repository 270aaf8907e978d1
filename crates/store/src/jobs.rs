//! Jobs: long work in processes of its own, as records. Who runs them is crate `jobs`; what they are for is known to
//! whoever ordered them.
//!
//! A job changes its status by [`Store::move_job`] only, which says from which one: of two who want to move it at once,
//! one does.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};
use serde_json::Value as Json;

use crate::conversations::clean_title;
use crate::database::{Store, now_ms};
use crate::entities::job;
use crate::record::storable;
use crate::{JobId, OwnerId, StoreError};

/// The most jobs that one owner keeps; each has a folder on the disk.
const MAX_JOBS: u64 = 1000;
/// The longest purpose and command, as JSON text.
const MAX_JSON_BYTES: usize = 256 * 1024;
/// The longest reason, in characters: what a process said last may be anything.
const MAX_REASON_CHARS: usize = 1000;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobStatus {
    /// It waits for its turn.
    Queued,
    /// It has a process, or gets one now.
    Running,
    /// Its process was asked to end.
    Ending,
    /// Its process ended as asked; it can go on.
    Paused,
    /// It has done what it was to do.
    Done,
    /// It was ended for good; it can go on all the same.
    Stopped,
    /// Its process failed.
    Failed,
    /// Its process is gone and has not said how it ended.
    Lost,
}

impl JobStatus {
    const ALL: [JobStatus; 8] = [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Ending,
        JobStatus::Paused,
        JobStatus::Done,
        JobStatus::Stopped,
        JobStatus::Failed,
        JobStatus::Lost,
    ];

    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Ending => "ending",
            JobStatus::Paused => "paused",
            JobStatus::Done => "done",
            JobStatus::Stopped => "stopped",
            JobStatus::Failed => "failed",
            JobStatus::Lost => "lost",
        }
    }

    fn from_name(name: &str) -> Option<JobStatus> {
        JobStatus::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Whether it has a process, or will have one without being asked again.
    pub fn is_going(self) -> bool {
        matches!(self, JobStatus::Queued | JobStatus::Running | JobStatus::Ending)
    }
}

/// Why a process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobWish {
    /// To go on later.
    Pause,
    /// For good.
    Stop,
}

impl JobWish {
    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            JobWish::Pause => "pause",
            JobWish::Stop => "stop",
        }
    }
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub owner: OwnerId,
    /// As people call it.
    pub name: String,
    /// What it is for; only whoever ordered it reads that.
    pub purpose: Json,
    /// Program and arguments of the next start, or of the last one.
    pub command: Vec<String>,
    /// How far it is.
    pub status: JobStatus,
    /// Why it was asked to end, while [`JobStatus::Ending`].
    pub wish: Option<JobWish>,
    /// Why it is no longer going, where that needs words.
    pub reason: Option<String>,
    /// Of its last process.
    pub exit_code: Option<i64>,
    /// How often a process was started for it.
    pub n_starts: i64,
    /// Milliseconds since 1970; so are all times.
    pub created_at: i64,
    /// Since when it waits, or waited last.
    pub queued_at: i64,
    /// When its last process was started.
    pub started_at: Option<i64>,
    /// When its process was asked to end.
    pub wished_at: Option<i64>,
    /// When it ended; none while it is going.
    pub ended_at: Option<i64>,
}

/// A job to be made.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Where it is to run: which of the servers that share this database.
    pub place: String,
    /// As people call it.
    pub name: String,
    /// What it is for.
    pub purpose: Json,
    /// Program and arguments.
    pub command: Vec<String>,
}

/// Where a job goes.
#[derive(Clone, Debug, PartialEq)]
pub enum JobMove {
    /// Back to the end of the queue, with what is to be run next.
    Queue {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// It gets a process.
    Start,
    /// Its process is asked to end.
    Ask(JobWish),
    /// It is no longer going.
    End {
        /// One of the statuses that are not going.
        status: JobStatus,
        /// Why, where that needs words.
        reason: Option<String>,
        /// Of its process.
        exit_code: Option<i64>,
    },
}

impl Store {
    /// Makes a job that waits for its turn.
    pub async fn create_job(&self, owner: OwnerId, id: JobId, new: NewJob) -> Result<Job, StoreError> {
        let now = now_ms();
        let row = job::Model {
            id: id.0,
            owner_id: owner.0,
            place: new.place,
            name: clean_name(&new.name)?,
            purpose: json_text("purpose", &new.purpose)?,
            command: json_text("command", &Json::from(new.command))?,
            status: JobStatus::Queued.name().to_owned(),
            wish: None,
            reason: None,
            exit_code: None,
            n_starts: 0,
            created_at: now,
            queued_at: now,
            started_at: None,
            wished_at: None,
            ended_at: None,
        };
        let txn = self.write().await?;
        let n_jobs = job::Entity::find().filter(job::Column::OwnerId.eq(owner.0)).count(&txn).await?;
        if n_jobs >= MAX_JOBS {
            let reason =
                format!("there are {n_jobs} already, at most {MAX_JOBS} are kept; delete some first");
            return Err(StoreError::Conflict { code: "too_many_jobs", reason });
        }
        job::Entity::insert(job::ActiveModel::from(row.clone())).exec_without_returning(&txn).await?;
        self.commit(txn).await?;
        Job::from_row(row)
    }

    /// A job.
    pub async fn job(&self, owner: OwnerId, id: JobId) -> Result<Job, StoreError> {
        Job::from_row(find(self.read(), owner, id).await?)
    }

    /// All jobs, the newest first.
    pub async fn jobs(&self, owner: OwnerId) -> Result<Vec<Job>, StoreError> {
        let rows = job::Entity::find()
            .filter(job::Column::OwnerId.eq(owner.0))
            .order_by_desc(job::Column::Id)
            .all(self.read())
            .await?;
        rows.into_iter().map(Job::from_row).collect()
    }

    /// Everyone's jobs that are going at this place, in the order of the queue.
    pub async fn going_jobs(&self, place: &str) -> Result<Vec<Job>, StoreError> {
        let going = JobStatus::ALL.into_iter().filter(|status| status.is_going()).map(JobStatus::name);
        let rows = job::Entity::find()
            .filter(job::Column::Place.eq(place))
            .filter(job::Column::Status.is_in(going))
            .order_by_asc(job::Column::QueuedAt)
            .order_by_asc(job::Column::Id)
            .all(self.read())
            .await?;
        rows.into_iter().map(Job::from_row).collect()
    }

    /// Gives a job another name.
    pub async fn rename_job(&self, owner: OwnerId, id: JobId, name: &str) -> Result<Job, StoreError> {
        let name = clean_name(name)?;
        self.change(owner, id, job::Column::Name, name).await
    }

    /// Replaces what a job is for.
    pub async fn set_job_purpose(
        &self,
        owner: OwnerId,
        id: JobId,
        purpose: &Json,
    ) -> Result<Job, StoreError> {
        let text = json_text("purpose", purpose)?;
        self.change(owner, id, job::Column::Purpose, text).await
    }

    async fn change(
        &self,
        owner: OwnerId,
        id: JobId,
        column: job::Column,
        text: String,
    ) -> Result<Job, StoreError> {
        let txn = self.write().await?;
        find(&txn, owner, id).await?;
        job::Entity::update_many()
            .col_expr(column, Expr::value(text))
            .filter(job::Column::Id.eq(id.0))
            .exec(&txn)
            .await?;
        let row = find(&txn, owner, id).await?;
        self.commit(txn).await?;
        Job::from_row(row)
    }

    /// Moves a job, if it has one of the statuses `from`; none if it has another.
    pub async fn move_job(
        &self,
        owner: OwnerId,
        id: JobId,
        from: &[JobStatus],
        to: JobMove,
    ) -> Result<Option<Job>, StoreError> {
        let txn = self.write().await?;
        let found = find(&txn, owner, id).await?;
        let now = now_ms();
        let mut row = job::ActiveModel::default();
        match to {
            JobMove::Queue { command } => {
                row.command = Set(json_text("command", &Json::from(command))?);
                row.status = Set(JobStatus::Queued.name().to_owned());
                row.queued_at = Set(now);
                (row.wish, row.wished_at) = (Set(None), Set(None));
                (row.reason, row.exit_code, row.ended_at) = (Set(None), Set(None), Set(None));
            }
            JobMove::Start => {
                row.status = Set(JobStatus::Running.name().to_owned());
                row.n_starts = Set(found.n_starts + 1);
                row.started_at = Set(Some(now));
            }
            JobMove::Ask(wish) => {
                row.status = Set(JobStatus::Ending.name().to_owned());
                row.wish = Set(Some(wish.name().to_owned()));
                row.wished_at = Set(Some(found.wished_at.unwrap_or(now)));
            }
            JobMove::End { status, reason, exit_code } => {
                row.status = Set(status.name().to_owned());
                (row.wish, row.wished_at) = (Set(None), Set(None));
                let short = |text: String| storable(&text).chars().take(MAX_REASON_CHARS).collect();
                row.reason = Set(reason.map(short));
                row.exit_code = Set(exit_code);
                row.ended_at = Set(Some(now));
            }
        }
        let moved = job::Entity::update_many()
            .set(row)
            .filter(job::Column::Id.eq(id.0))
            .filter(job::Column::Status.is_in(from.iter().map(|status| status.name())))
            .exec(&txn)
            .await?;
        if moved.rows_affected == 0 {
            return Ok(None);
        }
        let row = find(&txn, owner, id).await?;
        self.commit(txn).await?;
        Job::from_row(row).map(Some)
    }

    /// Removes the record of a job that is not going; whether it was there and is gone.
    pub async fn delete_job(&self, owner: OwnerId, id: JobId) -> Result<bool, StoreError> {
        let going = JobStatus::ALL.into_iter().filter(|status| status.is_going()).map(JobStatus::name);
        let txn = self.write().await?;
        find(&txn, owner, id).await?;
        let done = job::Entity::delete_many()
            .filter(job::Column::Id.eq(id.0))
            .filter(job::Column::Status.is_not_in(going))
            .exec(&txn)
            .await?;
        self.commit(txn).await?;
        Ok(done.rows_affected > 0)
    }
}

impl Job {
    fn from_row(row: job::Model) -> Result<Job, StoreError> {
        let bad = |what: &'static str, reason: String| StoreError::BadRecord {
            what,
            id: row.id.to_string(),
            reason,
        };
        let status = JobStatus::from_name(&row.status);
        let wish = match row.wish.as_deref() {
            None => None,
            Some("pause") => Some(JobWish::Pause),
            Some("stop") => Some(JobWish::Stop),
            Some(other) => return Err(bad("wish", format!("unknown value {other:?}"))),
        };
        Ok(Job {
            id: JobId(row.id),
            owner: OwnerId(row.owner_id),
            purpose: serde_json::from_str(&row.purpose).map_err(|e| bad("purpose", e.to_string()))?,
            command: serde_json::from_str(&row.command).map_err(|e| bad("command", e.to_string()))?,
            status: status.ok_or_else(|| bad("status", format!("unknown value {:?}", row.status)))?,
            wish,
            name: row.name,
            reason: row.reason,
            exit_code: row.exit_code,
            n_starts: row.n_starts,
            created_at: row.created_at,
            queued_at: row.queued_at,
            started_at: row.started_at,
            wished_at: row.wished_at,
            ended_at: row.ended_at,
        })
    }
}

async fn find(db: &impl ConnectionTrait, owner: OwnerId, id: JobId) -> Result<job::Model, StoreError> {
    job::Entity::find_by_id(id.0)
        .filter(job::Column::OwnerId.eq(owner.0))
        .one(db)
        .await?
        .ok_or(StoreError::NotFound { what: "job" })
}

/// A name as it is kept.
fn clean_name(name: &str) -> Result<String, StoreError> {
    clean_title(name).map_err(|error| match error {
        StoreError::Invalid { reason, .. } => StoreError::invalid("name", reason),
        other => other,
    })
}

fn json_text(field: &str, json: &Json) -> Result<String, StoreError> {
    let text = json.to_string();
    if text.len() > MAX_JSON_BYTES {
        let reason = format!("expected at most {MAX_JSON_BYTES} bytes of JSON, found {}", text.len());
        return Err(StoreError::invalid(field, reason));
    }
    // JSON writes U+0000 as an escape, so both databases keep it.
    Ok(text)
}
