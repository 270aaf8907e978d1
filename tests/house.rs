//! The house as drawn in `ARCHITECTURE.md` against the house as built: arrows, paths, `unsafe`, the
//! environment, and the licences and sources of every dependency.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is built on this machine: only that is sure to have been downloaded.
fn metadata() -> serde_json::Value {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("cargo metadata prints JSON")
}

/// Files with one of `extensions` under the given folders, without build outputs.
fn sources(folders: &[&str], extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if !matches!(
                    path.file_name().and_then(|n| n.to_str()),
                    Some("target" | "node_modules" | "dist")
                ) {
                    open.push(path);
                }
            } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e)) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no sources under {folders:?}");
    found
}

#[test]
fn the_arrows_are_those_of_the_drawing() {
    let text = read("ARCHITECTURE.md");
    let block =
        text.split("```arrows").nth(1).and_then(|rest| rest.split("```").next()).expect("an arrows block");
    let drawn: BTreeMap<String, BTreeSet<String>> = block
        .lines()
        .filter_map(|line| line.split_once('→'))
        .map(|(from, to)| {
            let targets = to.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect();
            (from.trim().to_owned(), targets)
        })
        .collect();

    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| package["name"].as_str().expect("a name"))
        .collect();
    let built: BTreeMap<String, BTreeSet<String>> = packages
        .iter()
        .filter(|package| package["source"].is_null())
        .map(|package| {
            let targets = package["dependencies"]
                .as_array()
                .expect("dependencies")
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().expect("a name"))
                .filter(|name| ours.contains(name))
                .map(str::to_owned)
                .collect();
            (package["name"].as_str().expect("a name").to_owned(), targets)
        })
        .collect();
    assert_eq!(drawn, built, "left: the arrows of ARCHITECTURE.md; right: the Cargo.toml files");
}

#[test]
fn every_path_of_the_architecture_page_exists_and_every_crate_has_its_paragraph() {
    let text = read("ARCHITECTURE.md");
    for path in text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains('/')) {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names `{path}`, which does not exist");
    }
    for entry in std::fs::read_dir(root().join("crates")).expect("crates/").flatten() {
        let heading = format!("### `crates/{}` — ", entry.file_name().to_string_lossy());
        assert!(text.contains(&heading), "ARCHITECTURE.md lacks the paragraph {heading:?}");
    }
}

#[test]
fn unsafe_code_stands_in_its_two_homes_only() {
    for path in sources(&["src", "crates"], &["rs"]) {
        let relative = path.strip_prefix(root()).expect("under the root").to_string_lossy().into_owned();
        if relative.starts_with("crates/kernels/") || relative == "crates/weights/src/mmap.rs" {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(
                !code.contains("unsafe {") && !code.contains("unsafe fn") && !code.contains("unsafe impl"),
                "{relative}:{}: unsafe outside its homes",
                number + 1
            );
        }
    }
}

#[test]
fn only_the_binary_reads_the_environment() {
    for path in sources(&["src", "crates"], &["rs"]) {
        let relative = path.strip_prefix(root()).expect("under the root").to_string_lossy().into_owned();
        let is_test =
            relative.contains("/tests") || relative.contains("/benches/") || relative.contains("/examples/");
        if relative == "src/config.rs" || relative.ends_with("build.rs") || is_test {
            continue;
        }
        let text = read(&path);
        for line in text.split("#[cfg(test)]").next().unwrap_or_default().lines() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(
                !code.contains("env::var"),
                "{relative} reads the environment; src/config.rs is the one place that may: {line}"
            );
        }
    }
}

/// Licences a dependency may have: permissive, and those of data or fonts that ask for no more.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unlicense",
    "CC0-1.0",
    "MIT-0",
    "BSL-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "MPL-2.0",
    "PSF-2.0",
];

#[test]
fn dependencies_come_from_the_registry_under_permissive_licences() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = format!("{} {}", package["name"], package["version"]);
        let Some(source) = package["source"].as_str() else { continue };
        assert!(source.starts_with("registry+"), "{name} comes from {source}, not from the registry");
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_permitted(licence), "{name}: licence {licence:?} is not in the list of tests/house.rs");
    }
}

#[test]
fn what_the_page_is_made_of_has_permissive_licences_too() {
    let lock: serde_json::Value = serde_json::from_str(&read("web/package-lock.json")).expect("JSON");
    let shipped: Vec<_> = lock["packages"]
        .as_object()
        .expect("packages")
        .iter()
        .filter(|(path, package)| !path.is_empty() && package["dev"] != true && package["peer"] != true)
        .collect();
    assert!(shipped.len() > 5, "the page's own packages stand under `dependencies`: {shipped:?}");
    for (path, package) in shipped {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(
            is_permitted(licence),
            "web: {path}: licence {licence:?} is not in the list of tests/house.rs"
        );
        assert!(
            package["resolved"].is_null(),
            "web: {path} comes from {}, not from the registry",
            package["resolved"]
        );
    }
}

/// `A AND (B OR C)`: every conjunct needs one permitted alternative.
fn is_permitted(licence: &str) -> bool {
    !licence.is_empty()
        && licence.replace('/', " OR ").split(" AND ").all(|conjunct| {
            conjunct
                .split(" OR ")
                .map(|part| part.trim_matches(|c| c == '(' || c == ')' || c == ' '))
                .any(|part| LICENCES.contains(&part.split(" WITH ").next().unwrap_or_default()))
        })
}
