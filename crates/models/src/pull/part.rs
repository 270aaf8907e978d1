//! An unfinished file: `NAME.gguf.part`, and `NAME.gguf.part.json` that says which version of which file it is.
//!
//! A part is taken up again when it is certain that it belongs to what is being fetched: the same sha256, or,
//! where none is known, the same address with the same strong etag. Otherwise it is dropped. What is in it is
//! hashed again before the rest comes, so that the digest covers every byte that ends up in the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::digest::Hasher;
use crate::manifest::{read_json, write_json};
use crate::pull_lock::PullLock;

/// Version of the sidecar's form.
const VERSION: u32 = 1;

/// Which file a part belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartIdentity {
    version: u32,
    /// Digest of the whole file, when it is known beforehand.
    pub(super) sha256: Option<String>,
    /// Where it comes from (matters only without digest).
    pub(super) source: String,
    /// Strong etag of that version (matters only without digest).
    pub(super) etag: Option<String>,
    /// Wheels only: where the bytes of each finished wheel end.
    #[serde(default)]
    pub(super) wheel_ends: Vec<u64>,
}

impl PartIdentity {
    pub(super) fn new(sha256: Option<String>, source: &str) -> PartIdentity {
        PartIdentity {
            version: VERSION,
            sha256,
            source: source.to_string(),
            etag: None,
            wheel_ends: Vec::new(),
        }
    }

    /// Whether a part with the identity `old` can be taken up for this one.
    fn continues(&self, old: &PartIdentity) -> bool {
        if old.version != VERSION {
            return false;
        }
        match (&self.sha256, &old.sha256) {
            (Some(new), Some(old)) => new == old,
            (None, None) => self.source == old.source && old.etag.is_some(),
            _ => false,
        }
    }
}

/// Where a part lies.
#[derive(Debug, Clone)]
pub(crate) struct PartPaths {
    /// The finished file.
    pub(super) target: PathBuf,
    /// The part.
    pub(super) part: PathBuf,
    /// Its sidecar.
    pub(super) sidecar: PathBuf,
}

impl PartPaths {
    pub(crate) fn new(folder: &Path, file: &str) -> PartPaths {
        PartPaths {
            target: folder.join(file),
            part: folder.join(format!("{file}.part")),
            sidecar: folder.join(format!("{file}.part.json")),
        }
    }

    /// Removes the part and its sidecar.
    pub(super) fn drop_part(&self) -> io::Result<()> {
        for path in [&self.part, &self.sidecar] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// What the sidecar says, when it can be taken up for `wanted`; else the part is dropped.
    pub(super) fn identity_for(&self, wanted: PartIdentity) -> io::Result<PartIdentity> {
        match read_json::<PartIdentity>(&self.sidecar) {
            Ok(old) if self.part.exists() && wanted.continues(&old) => {
                Ok(PartIdentity { source: wanted.source, ..old })
            }
            _ => {
                self.drop_part()?;
                Ok(wanted)
            }
        }
    }

    pub(super) fn write_identity(&self, identity: &PartIdentity) -> io::Result<()> {
        write_json(&self.sidecar, identity)
    }

    /// Bytes that are here already.
    pub(super) fn len(&self) -> u64 {
        std::fs::metadata(&self.part).map_or(0, |meta| meta.len())
    }
}

/// An open part with the running digest of what is in it. Holds the lock of its model, because the thread that
/// writes may outlive a cancelled download by a moment.
pub(crate) struct PartFile {
    file: File,
    hasher: Hasher,
    len: u64,
    _lock: Arc<PullLock>,
}

impl PartFile {
    /// Opens the part and hashes what is in it (at most `max_len` bytes; the rest is cut off). Blocking;
    /// `checked` counts, `stop` ends it early with `Interrupted`.
    pub(crate) fn open(
        paths: &PartPaths,
        max_len: u64,
        lock: Arc<PullLock>,
        checked: &AtomicU64,
        stop: &AtomicBool,
    ) -> io::Result<PartFile> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&paths.part)?;
        let mut hasher = Hasher::default();
        let len = hasher.read(&mut file, max_len, &mut |done| {
            checked.store(done, Ordering::Relaxed);
            !stop.load(Ordering::Relaxed)
        })?;
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        file.set_len(len)?;
        file.seek(SeekFrom::Start(len))?;
        Ok(PartFile { file, hasher, len, _lock: lock })
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Appends.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Empties it.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hasher = Hasher::default();
        self.len = 0;
        Ok(())
    }

    /// The digest of all that is in it.
    pub(super) fn sha256(&self) -> String {
        self.hasher.clone().finish()
    }

    /// The first four bytes.
    pub(super) fn magic(&mut self) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let mut magic = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&mut self.file).take(4).read_to_end(&mut magic)?;
        self.file.seek(SeekFrom::Start(self.len))?;
        Ok(magic)
    }

    /// Makes it the finished file: on disk first, then under its name. Blocking.
    pub(super) fn publish(self, paths: &PartPaths) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&paths.part, &paths.target)?;
        weights::sync_folder_of(&paths.target)?;
        let _ = std::fs::remove_file(&paths.sidecar);
        Ok(())
    }
}
