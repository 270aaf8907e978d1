//! Documents come out as they stand in files; what is no text is named.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;

use super::*;

/// All documents, pieces joined.
fn read(paths: &[&Path], on_broken: OnBroken) -> Result<(Vec<String>, CorpusSummary), CorpusError> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    let corpus = Corpus::find(&paths)?;
    let mut documents: Vec<String> = Vec::new();
    let summary = corpus.read(on_broken, &mut |piece, done| {
        assert!(done > 0 && done <= corpus.bytes_on_disk());
        assert!(!piece.text.is_empty() && piece.text.len() <= 1 << 20);
        if piece.is_start {
            documents.push(String::new());
        }
        documents.last_mut().unwrap().push_str(piece.text);
        Ok(())
    })?;
    assert_eq!(summary.n_documents as usize, documents.len());
    assert_eq!(summary.n_bytes as usize, documents.iter().map(String::len).sum::<usize>());
    Ok((documents, summary))
}

fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn every_kind_of_file_gives_its_documents_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    write(at, "a.txt", "plain text\n");
    write(at, "b/c.md", "\u{feff}# Markdown\n\n中文");
    write(
        at,
        "b/d.html",
        "<html><head><title>T</title><style>p{}</style></head><body><p>a &amp; b</p><script>x()</script></body>",
    );
    write(at, "b/e.bin", [0u8, 1, 2]);
    write(at, ".hidden.txt", "not read");
    write(at, ".git/f.txt", "not read");
    write(
        at,
        "g.jsonl",
        "{\"text\": \"one\"}\n\n{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"你好\"}]}\n{\"instruction\": \"add\", \"input\": \"\", \"output\": \"2\"}\n{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}, {\"from\": \"gpt\", \"value\": \"b\"}]}",
    );
    write(at, "h.txt.gz", gzip(b"packed"));
    let mut zip = zip::ZipWriter::new(std::fs::File::create(at.join("i.zip")).unwrap());
    let options = zip::write::SimpleFileOptions::default();
    for (name, bytes) in
        [("x/j.txt", b"in zip".to_vec()), ("k.png", vec![0]), ("l.jsonl.gz", gzip(b"{\"text\":\"both\"}"))]
    {
        zip.start_file(name, options).unwrap();
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
    let (documents, summary) = read(&[at], OnBroken::Stop).unwrap();
    assert_eq!(
        documents,
        [
            "plain text\n",
            "# Markdown\n\n中文",
            "a & b\n",
            "one",
            "hi\n\n你好",
            "add\n\n2",
            "a\n\nb",
            "packed",
            "in zip",
            "both"
        ]
    );
    assert_eq!((summary.n_files, summary.n_empty, summary.n_broken), (7, 0, 0));
}

#[test]
fn a_file_that_is_named_is_text_whatever_its_ending() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "notes.tex", "text");
    assert_eq!(read(&[&path], OnBroken::Stop).unwrap().0, ["text"]);
    assert!(matches!(read(&[folder.path()], OnBroken::Stop), Err(CorpusError::NoText(_))));
    let absent = folder.path().join("absent.txt");
    assert!(matches!(read(&[&absent], OnBroken::Stop), Err(CorpusError::Io { .. })));
}

#[test]
fn long_documents_come_in_pieces_of_whole_characters() {
    let folder = tempfile::tempdir().unwrap();
    let words = "中文 and words\n".repeat(200_000);
    let one_word = "汉".repeat(1_200_000);
    let record = serde_json::json!({ "text": one_word }).to_string();
    let paths = [
        write(folder.path(), "words.txt", &words),
        write(folder.path(), "one.txt", &one_word),
        write(folder.path(), "record.jsonl", record),
    ];
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    assert!(read(&paths, OnBroken::Stop).unwrap().0 == [words, one_word.clone(), one_word]);
}

#[test]
fn what_cannot_be_read_is_named_and_left_out_only_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut damaged = gzip(&b"line\n".repeat(1000));
    damaged.truncate(damaged.len() / 2);
    let long =
        [b"{\"text\": \"".to_vec(), vec![b'x'; 65 << 20], b"\"}\n{\"text\": \"next\"}".to_vec()].concat();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        (
            "latin.txt",
            b"one\ntwo\ncaf\xE9".to_vec(),
            "latin.txt, line 3: not UTF-8 (byte 0xE9): convert it, for instance with iconv",
        ),
        ("binary.txt", b"a\n\0b".to_vec(), "binary.txt, line 2: a zero byte: this is no text"),
        (
            "a.jsonl",
            b"{\"text\": \"ok\"}\n{\"text\": ".to_vec(),
            "a.jsonl, line 2: not JSON: EOF while parsing a value at line 1 column 9",
        ),
        ("b.jsonl", b"[1]".to_vec(), "b.jsonl, line 1: expected a JSON object"),
        ("c.jsonl", b"{\"text\": 5}".to_vec(), "c.jsonl, line 1: \"text\" is no text"),
        (
            "d.jsonl",
            b"{\"titel\": \"x\"}".to_vec(),
            "d.jsonl, line 1: no text: expected the field \"text\" or a chat's \"messages\", found titel",
        ),
        ("e.jsonl", long, "e.jsonl, line 1: longer than 64 MB"),
        ("f.txt.gz", damaged, "f.txt.gz, line 1: cannot be read"),
        ("g.zip", b"PK no archive".to_vec(), "g.zip: the archive is damaged"),
    ];
    let all = folder.path().join("all");
    for (name, bytes, expected) in &cases {
        let path = write(&all, name, bytes);
        let error = read(&[&path], OnBroken::Stop).unwrap_err().to_string();
        let expected = format!("{}/{expected}", all.display());
        assert!(error.starts_with(&expected), "{error}\n{expected}");
        assert!(error.ends_with("; leave such records out with --skip-broken"), "{error}");
    }
    let (documents, summary) = read(&[&all], OnBroken::Skip).unwrap();
    assert_eq!(documents, ["ok", "next"]);
    assert_eq!((summary.n_broken, summary.broken.len()), (9, 9));
}

#[test]
fn blank_documents_are_counted_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let blank = write(folder.path(), "blank.txt", "  \n\n");
    let empty = write(folder.path(), "empty.txt", "");
    let records = write(folder.path(), "records.jsonl", "{\"text\": \"\"}\n{\"text\": \" \"}\n");
    let (documents, summary) = read(&[&blank, &empty, &records], OnBroken::Stop).unwrap();
    assert_eq!((documents.len(), summary.n_empty), (0, 4));
}
