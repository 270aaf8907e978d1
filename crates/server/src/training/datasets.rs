//! `/api/training/datasets`: what there is to learn from, as folders of files in the data directory.
//!
//! The folders are the truth, so a person may also copy files into them. They are the local person's; when accounts
//! come, each gets a folder beside.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json as Body;
use axum::extract::{Path as InPath, Request, State};
use axum::http::StatusCode;
use futures::StreamExt;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::run::Run;
use super::{Training, of};
use crate::app::owner;
use crate::error::ApiError;
use crate::generation::on_blocking_thread;
use crate::state::AppState;

/// The longest name of a dataset or file, in bytes: file systems take 255.
const MAX_NAME_BYTES: usize = 200;
/// How files begin whose upload is not complete; nobody else's name may begin so.
const INCOMPLETE: &str = ".upload-";

/// Removes what uploads have left that were cut off with the server.
pub(super) fn clear(datasets: &Path) {
    let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
    for dataset in entries(datasets) {
        for file in entries(&dataset.path()) {
            if file.file_name().to_string_lossy().starts_with(INCOMPLETE) {
                // Tried again at the next start.
                let _ = fs::remove_file(file.path());
            }
        }
    }
}

/// A dataset.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) path: PathBuf,
    created_at: i64,
    /// Names and bytes, by name.
    pub(super) files: Vec<(String, u64)>,
}

impl Dataset {
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes)| bytes).sum()
    }

    fn to_json(&self) -> Json {
        let files: Vec<Json> =
            self.files.iter().map(|(name, bytes)| json!({"name": name, "bytes": bytes})).collect();
        json!({
            "name": self.name,
            "n_files": self.files.len(),
            "bytes": self.bytes(),
            "created_at": self.created_at,
            "files": files,
        })
    }
}

pub(super) async fn list(State(state): State<AppState>) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let datasets = on_blocking_thread(move || training.datasets()).await??;
    let items: Vec<Json> = datasets.iter().map(Dataset::to_json).collect();
    Ok(Body(json!({ "items": items })))
}

pub(super) async fn upload(
    State(state): State<AppState>,
    InPath((name, file)): InPath<(String, String)>,
    request: Request,
) -> Result<(StatusCode, Body<Json>), ApiError> {
    let training = of(&state)?;
    check_name("name", &name)?;
    check_name("file", &file)?;
    let room = training.room_for(&name, &file)?;
    let folder = training.datasets.join(&name);
    let incomplete = Incomplete::create(&folder)?;
    let stall = training.config.limits.upload_stall;
    let mut chunks = request.into_body().into_data_stream();
    let mut n_bytes = 0;
    let mut writer = incomplete.file.try_clone().map_err(|error| disk_error(&folder, error))?;
    loop {
        let chunk = tokio::time::timeout(stall, chunks.next()).await;
        let Some(chunk) = chunk.map_err(|_| ApiError::BodyTimeout { seconds: stall.as_secs() })? else {
            break;
        };
        let chunk = chunk.map_err(|error| ApiError::BodyBroken { reason: error.to_string() })?;
        n_bytes += chunk.len() as u64;
        if n_bytes > room {
            return Err(ApiError::Conflict { code: "no_room", reason: no_room(&training, room) });
        }
        let written;
        (writer, written) = on_blocking_thread(move || {
            let written = writer.write_all(&chunk);
            (writer, written)
        })
        .await?;
        written.map_err(|error| disk_error(&folder, error))?;
    }
    let dataset = on_blocking_thread(move || {
        incomplete.finish(&folder.join(&file)).map_err(|error| disk_error(&folder, error))?;
        training.dataset(&name)
    });
    Ok((StatusCode::CREATED, Body(dataset.await??.to_json())))
}

pub(super) async fn delete(
    State(state): State<AppState>,
    InPath(name): InPath<String>,
) -> Result<StatusCode, ApiError> {
    let training = of(&state)?;
    let dataset = training.dataset(&name)?;
    check_unused(&state, &training, &name).await?;
    let removed = on_blocking_thread(move || {
        fs::remove_dir_all(&dataset.path).map_err(|error| disk_error(&dataset.path, error))
    });
    removed.await??;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn delete_file(
    State(state): State<AppState>,
    InPath((name, file)): InPath<(String, String)>,
) -> Result<Body<Json>, ApiError> {
    let training = of(&state)?;
    let dataset = training.dataset(&name)?;
    if !dataset.files.iter().any(|(known, _)| *known == file) {
        return Err(ApiError::NotFound { what: "file" });
    }
    check_unused(&state, &training, &name).await?;
    let path = dataset.path.join(&file);
    fs::remove_file(&path).map_err(|error| disk_error(&path, error))?;
    Ok(Body(training.dataset(&name)?.to_json()))
}

/// A run that may still have to read it keeps a dataset where it is.
async fn check_unused(state: &AppState, training: &Training, name: &str) -> Result<(), ApiError> {
    for job in training.jobs.list(owner(state)).await? {
        let is_open = job.status.is_going() || job.status == store::JobStatus::Paused;
        if is_open && Run::of(&job).is_some_and(|run| run.dataset.as_deref() == Some(name)) {
            let reason = format!("the run {:?} uses it; wait for its end, or stop it first", job.name);
            return Err(ApiError::Conflict { code: "dataset_in_use", reason });
        }
    }
    Ok(())
}

impl Training {
    pub(super) fn dataset(&self, name: &str) -> Result<Dataset, ApiError> {
        let not_found = ApiError::NotFound { what: "dataset" };
        if check_name("dataset", name).is_err() {
            return Err(not_found);
        }
        let path = self.datasets.join(name);
        let meta = fs::metadata(&path).ok().filter(fs::Metadata::is_dir).ok_or(not_found)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).map_err(|error| disk_error(&path, error))?.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
                && !name.starts_with('.')
            {
                files.push((name, meta.len()));
            }
        }
        files.sort();
        let created = meta.created().or_else(|_| meta.modified()).unwrap_or(UNIX_EPOCH);
        Ok(Dataset { name: name.to_owned(), path, created_at: ms(created), files })
    }

    fn datasets(&self) -> Result<Vec<Dataset>, ApiError> {
        let entries = match fs::read_dir(&self.datasets) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| disk_error(&self.datasets, error))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut datasets: Vec<Dataset> = names.filter_map(|name| self.dataset(&name).ok()).collect();
        datasets.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| a.name.cmp(&b.name)));
        Ok(datasets)
    }

    /// Bytes that a new file may have.
    fn room_for(&self, name: &str, file: &str) -> Result<u64, ApiError> {
        let limits = &self.config.limits;
        let all = self.datasets()?;
        let known = all.iter().find(|dataset| dataset.name == name);
        let too_many = |reason: String| ApiError::Conflict { code: "too_many_files", reason };
        match known {
            None if all.len() >= limits.max_datasets => {
                let most = limits.max_datasets;
                return Err(too_many(format!(
                    "there are {most} datasets, as many as may be; delete one first"
                )));
            }
            Some(dataset)
                if dataset.files.len() >= limits.max_files
                    && !dataset.files.iter().any(|(known, _)| known == file) =>
            {
                let most = limits.max_files;
                return Err(too_many(format!(
                    "the dataset has {most} files, as many as may be; put several into one archive (.zip)"
                )));
            }
            _ => {}
        }
        let taken: u64 = all.iter().map(Dataset::bytes).sum();
        let room = limits.max_bytes.saturating_sub(taken).min(self.free_bytes());
        if room == 0 {
            return Err(ApiError::Conflict { code: "no_room", reason: no_room(self, 0) });
        }
        Ok(room)
    }

    /// Bytes of the disk beyond those that stay free.
    fn free_bytes(&self) -> u64 {
        let folder = self.datasets.parent().unwrap_or(&self.datasets);
        jobs::free_bytes(folder)
            .map_or(u64::MAX, |free| free.saturating_sub(self.config.limits.min_free_bytes))
    }
}

fn no_room(training: &Training, room: u64) -> String {
    format!(
        "no room for the file: {} MB are left of the {} GB that datasets may take, and of the disk",
        room >> 20,
        training.config.limits.max_bytes >> 30
    )
}

/// A name that is one part of a path and nothing else.
fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '\u{fffd}');
    let reason = if name.is_empty() || name.len() > MAX_NAME_BYTES {
        format!("expected 1 to {MAX_NAME_BYTES} bytes, found {}", name.len())
    } else if name.starts_with('.') {
        "expected a name that does not begin with a dot".to_owned()
    } else if !name.chars().all(is_plain) || name.trim() != name {
        "expected a name without slashes, control characters, and blanks at its ends".to_owned()
    } else {
        return Ok(());
    };
    Err(ApiError::bad_value(field, reason))
}

pub(super) fn disk_error(path: &Path, error: io::Error) -> ApiError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            store::StoreError::Full { path: path.to_owned() }.into()
        }
        _ => ApiError::Disk { reason: format!("{}: {error}", path.display()) },
    }
}

fn ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A file whose upload is not complete; it goes again unless it is finished, and so does a folder made for it.
struct Incomplete {
    file: fs::File,
    path: PathBuf,
    folder: PathBuf,
}

impl Incomplete {
    fn create(folder: &Path) -> Result<Incomplete, ApiError> {
        fs::create_dir_all(folder).map_err(|error| disk_error(folder, error))?;
        let path = folder.join(format!("{INCOMPLETE}{}", Uuid::now_v7()));
        let file = fs::File::create_new(&path).map_err(|error| disk_error(folder, error))?;
        Ok(Incomplete { file, path, folder: folder.to_owned() })
    }

    /// The file appears whole, in place of an earlier one.
    fn finish(self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, name)?;
        fs::File::open(&self.folder)?.sync_all()
    }
}

impl Drop for Incomplete {
    fn drop(&mut self) {
        // Both fail where the file was finished.
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for name in ["books", "第一本书", "a b.txt", "x@3", "-rf", "a..b"] {
            assert!(check_name("name", name).is_ok(), "{name:?}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a\\b", "a\0", "a\nb", " a", "a ", &"x".repeat(201)] {
            assert!(check_name("name", name).is_err(), "{name:?}");
        }
    }
}
