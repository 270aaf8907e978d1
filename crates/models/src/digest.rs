//! sha256 of files and streams, as lower-case hexadecimal text.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Read size: large enough that the hash, not the system call, sets the pace.
const CHUNK_LEN: usize = 1 << 20;

/// A running sha256.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> String {
        hex(&self.0.finalize())
    }

    /// Adds the next `len` bytes of `reader`; `go_on` is asked after every chunk with the bytes so far.
    /// Returns how many bytes there were (less than `len` at the end of the file, or when told to stop).
    pub(crate) fn read(
        &mut self,
        mut reader: impl Read,
        len: u64,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> io::Result<u64> {
        let mut buffer = vec![0; CHUNK_LEN];
        let mut done = 0;
        while done < len {
            let want = CHUNK_LEN.min(usize::try_from(len - done).unwrap_or(CHUNK_LEN));
            match reader.read(&mut buffer[..want]) {
                Ok(0) => break,
                Ok(n) => {
                    self.update(&buffer[..n]);
                    done += n as u64;
                    if !go_on(done) {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

/// Digest of a whole file.
pub(crate) fn of_file(path: &Path) -> io::Result<String> {
    let mut hasher = Hasher::default();
    hasher.read(File::open(path)?, u64::MAX, &mut |_| true)?;
    Ok(hasher.finish())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether this is a lower-case hexadecimal sha256.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
