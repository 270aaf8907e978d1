//! Replays the corpora of the fuzz targets: nothing may panic, and each file must be taken or refused as its name says.

use std::path::PathBuf;

fn replay(target: &str, exercise: fn(&[u8]) -> Option<String>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata").join(target).join("corpus");
    let mut n_files = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        match (name.starts_with("ok-"), exercise(&std::fs::read(&path).unwrap())) {
            (true, Some(error)) => wrong.push(format!("{name} was refused: {error}")),
            (false, None) => wrong.push(format!("{name} was taken")),
            _ => {}
        }
        n_files += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n_files > 5, "found {n_files} files in {folder:?}");
}

#[test]
fn catalogs_are_taken_or_refused() {
    replay("catalogs", super::catalog);
}

#[test]
fn manifests_are_taken_or_refused() {
    replay("manifests", super::manifest);
}

#[test]
fn wheels_are_taken_or_refused() {
    replay("wheels", super::wheel);
}
