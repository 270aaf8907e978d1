//! Guesses from its first bytes what a file is that was taken for a model.

use std::fmt;

use super::quoted::quote;

/// What a file that is not GGUF seems to be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LooksLike {
    /// Hugging Face's tensor format.
    Safetensors,
    /// Zip archive: a PyTorch checkpoint, a Python wheel …
    Zip,
    /// gzip stream.
    Gzip,
    /// zstd stream.
    Zstd,
    /// xz stream.
    Xz,
    /// tar archive.
    Tar,
    /// A web page: an error page saved under the model's name.
    Html,
    /// JSON text.
    Json,
    /// A git-lfs pointer instead of the file.
    GitLfsPointer,
    /// llama.cpp's formats before GGUF.
    OldGgml,
    /// Python pickle: an old PyTorch checkpoint.
    Pickle,
    /// Executable or library.
    Elf,
    /// PDF document.
    Pdf,
    /// SQLite database.
    Sqlite,
    /// A GGUF stored with its bytes swapped by groups of four.
    SwappedGguf,
    /// Only zeros: a download that reserved its space and never filled it.
    Zeros,
    /// Plain text, with its beginning quoted.
    Text(String),
    /// Something else, with its first bytes in hexadecimal.
    Unknown(String),
}

impl LooksLike {
    /// Guesses from the beginning of the file.
    pub(super) fn guess(bytes: &[u8]) -> LooksLike {
        let start = &bytes[..bytes.len().min(512)];
        const MAGICS: [(&[u8], LooksLike); 16] = [
            (b"FUGG", LooksLike::SwappedGguf),
            (b"PK\x03\x04", LooksLike::Zip),
            (b"PK\x05\x06", LooksLike::Zip),
            (b"\x1f\x8b", LooksLike::Gzip),
            (b"\x28\xb5\x2f\xfd", LooksLike::Zstd),
            (b"\xfd7zXZ\x00", LooksLike::Xz),
            (b"version https://git-lfs", LooksLike::GitLfsPointer),
            (b"lmgg", LooksLike::OldGgml),
            (b"fmgg", LooksLike::OldGgml),
            (b"tjgg", LooksLike::OldGgml),
            (b"algg", LooksLike::OldGgml),
            (b"\x80\x02", LooksLike::Pickle),
            (b"\x80\x04", LooksLike::Pickle),
            (b"\x7fELF", LooksLike::Elf),
            (b"%PDF-", LooksLike::Pdf),
            (b"SQLite format 3\x00", LooksLike::Sqlite),
        ];
        if let Some((_, looks_like)) = MAGICS.iter().find(|(magic, _)| start.starts_with(magic)) {
            return looks_like.clone();
        }
        // safetensors: the length of a JSON header in 8 bytes, then the header
        if start.len() > 9 && start[8] == b'{' && start[6..8] == [0, 0] {
            return LooksLike::Safetensors;
        }
        if start.len() >= 262 && &start[257..262] == b"ustar" {
            return LooksLike::Tar;
        }
        if start.iter().all(|&byte| byte == 0) {
            return LooksLike::Zeros;
        }
        let text = String::from_utf8_lossy(start);
        let trimmed = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        let lower = trimmed.to_ascii_lowercase();
        if lower.starts_with("<!doctype") || lower.starts_with("<html") || lower.starts_with("<head") {
            return LooksLike::Html;
        }
        if trimmed.starts_with('{') || trimmed.starts_with('[') {
            return LooksLike::Json;
        }
        let is_text = start.iter().all(|&byte| byte >= 0x20 || matches!(byte, b'\t' | b'\r' | b'\n'));
        if is_text {
            return LooksLike::Text(quote(&start[..start.len().min(40)]));
        }
        let hex = start.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        LooksLike::Unknown(hex)
    }
}

impl fmt::Display for LooksLike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LooksLike::Safetensors => "what looks like a safetensors file (convert it to GGUF first)",
            LooksLike::Zip => "a zip archive (a PyTorch checkpoint or a wheel; unpack or convert it first)",
            LooksLike::Gzip => "a gzip archive (unpack it first)",
            LooksLike::Zstd => "a zstd archive (unpack it first)",
            LooksLike::Xz => "an xz archive (unpack it first)",
            LooksLike::Tar => "a tar archive (unpack it first)",
            LooksLike::Html => "an HTML page (the download gave a web page instead of the file)",
            LooksLike::Json => "JSON text (the download gave a message instead of the file)",
            LooksLike::GitLfsPointer => "a git-lfs pointer (fetch the file itself with `git lfs pull`)",
            LooksLike::OldGgml => "a GGML file from before GGUF (get or convert a newer one)",
            LooksLike::Pickle => "a Python pickle (a PyTorch checkpoint; convert it to GGUF first)",
            LooksLike::Elf => "an ELF program or library",
            LooksLike::Pdf => "a PDF document",
            LooksLike::Sqlite => "an SQLite database",
            LooksLike::SwappedGguf => "a byte-swapped GGUF (\"FUGG\"), which is not supported",
            LooksLike::Zeros => "zeros only (an unfinished download?)",
            LooksLike::Text(start) => return write!(f, "text that begins {start}"),
            LooksLike::Unknown(hex) => return write!(f, "bytes {hex}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_mistakes_are_named() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: [(&[u8], LooksLike); 9] = [
            (b"\x40\x00\x00\x00\x00\x00\x00\x00{\"a\":{\"dtype\"", LooksLike::Safetensors),
            (b"PK\x03\x04rest", LooksLike::Zip),
            (b"\n<!DOCTYPE html><html>", LooksLike::Html),
            (b"<html lang=en>", LooksLike::Html),
            (b"{\"error\":\"gated\"}", LooksLike::Json),
            (b"version https://git-lfs.github.com/spec/v1\noid", LooksLike::GitLfsPointer),
            (b"tjgg\x01\x00", LooksLike::OldGgml),
            (&[0; 64], LooksLike::Zeros),
            (&tar, LooksLike::Tar),
        ];
        for (bytes, expected) in cases {
            assert_eq!(LooksLike::guess(bytes), expected);
        }
        assert_eq!(LooksLike::guess(b"Access denied\n"), LooksLike::Text("\"Access denied\\n\"".into()));
        assert_eq!(LooksLike::guess(b"\x01\x02\xff"), LooksLike::Unknown("01 02 ff".into()));
        assert_eq!(LooksLike::guess(b"G"), LooksLike::Text("\"G\"".into()));
    }
}
