//! Free space: is there room for what is to come?

use std::io;
use std::path::Path;

use super::error::PullError;

/// Room that is left to others (a database, logs) on the same disk.
const RESERVE: u64 = 16 << 20;

/// Bytes that an ordinary user may still write below this folder.
pub(super) fn free(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses when `needed` more bytes do not fit.
pub(super) fn check(folder: &Path, needed: u64) -> Result<(), PullError> {
    match free(folder) {
        Ok(free) if needed.saturating_add(RESERVE) > free => {
            Err(PullError::DiskFull { folder: folder.to_path_buf(), needed: Some(needed), free })
        }
        // A file system that does not tell: the write itself will.
        _ => Ok(()),
    }
}

/// What an error while writing means.
pub(super) fn write_error(path: &Path, error: io::Error) -> PullError {
    let folder = path.parent().unwrap_or(path).to_path_buf();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            let free = free(&folder).unwrap_or(0);
            PullError::DiskFull { folder, needed: None, free }
        }
        _ => PullError::Io { path: path.to_path_buf(), source: error },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_write_that_finds_the_disk_full_is_told_as_such() {
        let path = Path::new("/dev/full");
        let error =
            std::fs::File::options().write(true).open(path).and_then(|mut file| file.write_all(b"GGUF"));
        let told = write_error(path, error.expect_err("/dev/full is full"));
        assert_eq!(told.code(), "disk_full", "{told}");
        assert!(told.to_string().starts_with("the disk is full: /dev needs more"), "{told}");
    }

    #[test]
    fn some_room_is_left_to_others() {
        let folder = std::env::temp_dir();
        let free = free(&folder).expect("a temporary folder tells its free space");
        assert!(check(&folder, 0).is_ok());
        assert!(check(&folder, free).is_err());
    }
}
