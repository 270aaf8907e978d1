//! A file on this machine as a source: copied, hashed on the way.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::error::{SourceError, Stop};
use super::job::{Fetched, Job};
use super::part::{PartIdentity, PartPaths};
use super::report::Phase;

/// Copied at once.
const CHUNK_LEN: usize = 1 << 20;

impl Job<'_> {
    /// Copies the file at `path` into its place.
    pub(super) async fn copy(
        &self,
        path: &Path,
        paths: &PartPaths,
        size: Option<u64>,
        sha256: Option<&str>,
    ) -> Result<Fetched, Stop> {
        let unreadable = |detail: String| SourceError::File { path: path.to_path_buf(), detail };
        let meta = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?;
        if !meta.is_file() {
            return Err(unreadable("expected a file".to_string()).into());
        }
        if let Some(expected) = size.filter(|size| *size != meta.len()) {
            return Err(SourceError::WrongSize { expected, found: meta.len() }.into());
        }
        // A copy is quick: it starts anew instead of being taken up.
        paths.drop_part().map_err(|error| self.io(&paths.part, error))?;
        self.report.set_total(Some(meta.len()));
        self.check_room(paths, meta.len())?;
        paths
            .write_identity(&PartIdentity::new(sha256.map(str::to_string), &path.display().to_string()))
            .map_err(|error| self.write_failed(paths, error))?;
        let part = self.open_part(paths, 0).await?;
        let from = path.to_path_buf();
        let copied = self.blocking(Phase::Downloading, 0, move |copied, stop| {
            let mut part = part;
            let mut file = File::open(from).map_err(|error| (true, error))?;
            let mut buffer = vec![0; CHUNK_LEN];
            loop {
                let n = file.read(&mut buffer).map_err(|error| (true, error))?;
                if n == 0 || stop.load(Ordering::Relaxed) {
                    return Ok(part);
                }
                part.write(&buffer[..n]).map_err(|error| (false, error))?;
                copied.store(part.len(), Ordering::Relaxed);
            }
        });
        match copied.await? {
            Ok(part) => self.finish(part, paths, sha256).await,
            Err((true, error)) => {
                paths.drop_part().map_err(|error| self.io(&paths.part, error))?;
                Err(unreadable(error.to_string()).into())
            }
            Err((false, error)) => Err(self.write_failed(paths, error)),
        }
    }
}
