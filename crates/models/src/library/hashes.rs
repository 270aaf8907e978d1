//! Digests that were computed once, remembered by path, size, time and inode (`hashes.json`).

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::manifest::{read_json, write_json};

/// Most files that are remembered; the oldest by name go first.
const MAX_REMEMBERED: usize = 1000;

/// What must be unchanged for a digest to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    size: u64,
    mtime_s: i64,
    mtime_ns: i64,
    inode: u64,
    device: u64,
    sha256: String,
}

impl Remembered {
    fn of(meta: &std::fs::Metadata, sha256: String) -> Remembered {
        Remembered {
            size: meta.size(),
            mtime_s: meta.mtime(),
            mtime_ns: meta.mtime_nsec(),
            inode: meta.ino(),
            device: meta.dev(),
            sha256,
        }
    }
}

/// The digests that are known, kept in a file.
#[derive(Debug)]
pub(super) struct HashMemory {
    file: PathBuf,
    known: Mutex<Option<BTreeMap<String, Remembered>>>,
}

impl HashMemory {
    pub(super) fn new(file: PathBuf) -> HashMemory {
        HashMemory { file, known: Mutex::new(None) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Remembered>) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        act(known.get_or_insert_with(|| read_json(&self.file).unwrap_or_default()))
    }

    /// The digest of this file, if it is unchanged since it was computed.
    pub(super) fn recall(&self, path: &Path) -> Option<String> {
        let path = std::fs::canonicalize(path).ok()?;
        let meta = std::fs::metadata(&path).ok()?;
        self.with(|known| {
            let old = known.get(path.to_str()?)?;
            (*old == Remembered::of(&meta, old.sha256.clone())).then(|| old.sha256.clone())
        })
    }

    /// Computes and remembers. A file that cannot be written (read-only data folder) costs only the memory.
    pub(super) fn compute(&self, path: &Path) -> io::Result<String> {
        let path = std::fs::canonicalize(path)?;
        let before = std::fs::metadata(&path)?;
        let sha256 = digest::of_file(&path)?;
        let after = std::fs::metadata(&path)?;
        let remembered = Remembered::of(&before, sha256.clone());
        if let (true, Some(key)) = (remembered == Remembered::of(&after, sha256.clone()), path.to_str()) {
            self.with(|known| {
                // Another process may have added to the file meanwhile.
                if let Ok(others) = read_json::<BTreeMap<String, Remembered>>(&self.file) {
                    known.extend(others);
                }
                known.insert(key.to_string(), remembered);
                while known.len() > MAX_REMEMBERED {
                    known.pop_first();
                }
                if let Some(folder) = self.file.parent() {
                    let _ = std::fs::create_dir_all(folder);
                }
                let _ = write_json(&self.file, known);
            });
        }
        Ok(sha256)
    }
}
