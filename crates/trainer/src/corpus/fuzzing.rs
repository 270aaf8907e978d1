//! What is done with every fuzzed file of a corpus, shared by the fuzz target (`fuzz/`) and by the test that replays its
//! corpus; in no other build.

use std::io::{BufReader, Cursor};

use flate2::bufread::MultiGzDecoder;

use super::files::Kind;
use super::{CorpusError, CorpusSummary, OnBroken, Reader};

/// Reads the bytes behind the first line as a file of the kind that this line names (`text`, `html`, `jsonl`, `json`, `zip`, or
/// the first four with `.gz`), once stopping at what is broken and once leaving it out.
///
/// Returns the first error's text, or `None` where all could be read. Panics only if a promise is broken.
pub fn corpora(bytes: &[u8]) -> Option<String> {
    let (kind, body) = bytes.split_at(bytes.iter().position(|&byte| byte == b'\n')?);
    let body = &body[1..];
    let skipping = read(kind, body, OnBroken::Skip)?;
    let summary = skipping.expect("what is broken is left out");
    let error = match read(kind, body, OnBroken::Stop)? {
        Ok(whole) => {
            assert_eq!(whole, summary, "nothing was broken, so nothing was left out");
            return None;
        }
        Err(error) => error.to_string(),
    };
    assert!(summary.n_broken > 0);
    for text in summary.broken.iter().map(ToString::to_string).chain([error.clone()]) {
        assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
        assert!(text.len() < 2400, "{} bytes of text: {text}", text.len());
    }
    Some(error)
}

fn read(kind: &[u8], body: &[u8], on_broken: OnBroken) -> Option<Result<CorpusSummary, CorpusError>> {
    let mut sink = |piece: super::Piece<'_>, _| {
        assert!(!piece.text.is_empty() && piece.text.len() <= 1 << 20);
        Ok(())
    };
    let mut reader = Reader::new(on_broken, super::Take::Texts(&mut sink));
    let (kind, is_gzip) = match kind.strip_suffix(b".gz") {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let kind = match kind {
        b"text" => Kind::Text,
        b"html" => Kind::Html,
        b"jsonl" => Kind::Jsonl,
        b"json" => Kind::Json,
        b"zip" => return Some(reader.zip(Cursor::new(body), "corpus.zip").map(|()| reader.summary)),
        _ => return None,
    };
    let done = if is_gzip {
        reader.stream(&mut BufReader::new(MultiGzDecoder::new(body)), "corpus", kind)
    } else {
        reader.stream(&mut BufReader::new(body), "corpus", kind)
    };
    Some(done.map(|()| reader.summary))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;

    #[test]
    fn every_file_of_the_corpus_is_taken_or_refused_as_its_name_says() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/corpora/corpus");
        let mut n_files = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let error = super::corpora(&std::fs::read(&path).unwrap());
            assert_eq!(error.is_none(), name.starts_with("ok-"), "{name}: {error:?}");
            n_files += 1;
        }
        assert!(n_files > 5, "found {n_files} files in {folder:?}");
    }
}
