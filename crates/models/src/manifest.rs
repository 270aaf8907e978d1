//! The small file beside a downloaded model that says what it is: `<stem>.json`.
//!
//! A model counts as here when its manifest is; the manifest is written last, after the files it names are
//! complete, checked and on disk. Files are named relative to the folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weights::AtomicFile;

/// Version of the manifest's form.
const VERSION: u32 = 1;

/// Longest manifest we read; a split model of a hundred files needs 20 kB.
const MAX_LEN: u64 = 1 << 20;

/// What was downloaded, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) version: u32,
    /// Name by which it is asked for.
    pub(crate) name: String,
    /// The files in order; the first one is opened.
    pub(crate) files: Vec<ManifestFile>,
    /// Where it came from, for people.
    pub(crate) source: String,
}

/// One file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestFile {
    pub(crate) file: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl Manifest {
    pub(crate) fn new(name: &str, files: Vec<ManifestFile>, source: &str) -> Manifest {
        Manifest { version: VERSION, name: name.to_string(), files, source: source.to_string() }
    }

    /// The manifest of `stem` in `folder`, if there is one that we understand and whose files are all there.
    pub(crate) fn read(folder: &Path, stem: &str) -> Option<Manifest> {
        let manifest: Manifest = read_json(&path(folder, stem)).ok()?;
        let usable = manifest.version == VERSION
            && !manifest.files.is_empty()
            && manifest.files.iter().all(|file| {
                let plain = Path::new(&file.file).file_name().is_some_and(|name| name == file.file.as_str());
                plain && std::fs::metadata(folder.join(&file.file)).is_ok_and(|meta| meta.len() == file.size)
            });
        usable.then_some(manifest)
    }

    /// Writes it, whole or not at all.
    pub(crate) fn write(&self, folder: &Path, stem: &str) -> io::Result<()> {
        write_json(&path(folder, stem), self)
    }
}

/// Where the manifest of `stem` lies.
pub(crate) fn path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.json"))
}

/// Reads a small JSON file of ours.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let len = std::fs::metadata(path)?.len();
    if len > MAX_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("expected at most {MAX_LEN} bytes")));
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Writes a small JSON file so that it appears whole or not at all, also after a power cut.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    file.finish()
}
