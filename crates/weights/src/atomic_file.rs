//! A file that appears whole or not at all, also after a power cut: written beside its place, synced, then renamed.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file on its way. Dropped before [`AtomicFile::finish`], it leaves nothing behind, and an old file at its place is as
/// it was.
#[derive(Debug)]
pub struct AtomicFile {
    path: PathBuf,
    beside: NamedTempFile,
}

impl AtomicFile {
    /// Begins the file that is to lie at `path`; until then it is `.NAME.….part` in the same folder.
    pub fn create(path: &Path) -> io::Result<AtomicFile> {
        let name = path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?;
        let mut prefix = std::ffi::OsString::from(".");
        prefix.push(name);
        prefix.push(".");
        // As any other file, not for its owner alone; the system takes away what its own mask says.
        let beside = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder_of(path))?;
        Ok(AtomicFile { path: path.to_owned(), beside })
    }

    /// Syncs the file, gives it its name, and makes the name survive a power cut, too.
    pub fn finish(self) -> io::Result<()> {
        self.beside.as_file().sync_all()?;
        self.beside.persist(&self.path)?;
        sync_folder_of(&self.path)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.beside.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.beside.as_file_mut().flush()
    }
}

/// Makes a rename in the folder of `path` survive a power cut.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_replaces_the_old_one_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()).len(), 2);
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_is_given_up_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        drop(AtomicFile::create(&folder.path().join("a")).unwrap());
        assert_eq!(names(folder.path()), [""; 0]);
        assert!(AtomicFile::create(&folder.path().join("missing/a")).is_err());
        assert!(AtomicFile::create(Path::new("/")).is_err());
    }

    #[test]
    fn it_can_be_read_by_whom_any_other_file_can() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        fs::write(folder.path().join("ordinary"), "").unwrap();
        AtomicFile::create(&folder.path().join("a")).unwrap().finish().unwrap();
        assert_eq!(mode("a"), mode("ordinary"));
    }
}
