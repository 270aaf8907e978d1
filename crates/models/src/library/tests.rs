//! Names to files, in our folder and in other programs' caches.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::symlink;

use super::*;
use crate::manifest::ManifestFile;

const DIGEST: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

struct Disk {
    root: tempfile::TempDir,
}

impl Disk {
    fn new() -> Disk {
        Disk { root: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A model that we downloaded.
    fn pulled(&self, name: &str, content: &str) {
        let stem = stem_of(name);
        self.write(&format!("models/{stem}.gguf"), content);
        let file = ManifestFile {
            file: format!("{stem}.gguf"),
            size: content.len() as u64,
            sha256: "11".repeat(32),
        };
        Manifest::new(name, vec![file], "test").write(&self.path("models"), &stem).unwrap();
    }

    fn library(&self) -> Library {
        Library::new(LibraryConfig {
            models_dir: self.path("models"),
            shared_dir: Some(self.path("shared")),
            caches: CacheFolders {
                hugging_face: vec![self.path("hub")],
                ollama: vec![self.path("ollama")],
                lm_studio: vec![self.path("lmstudio")],
            },
            catalog: Catalog::builtin(),
        })
    }
}

fn names(library: &Library) -> Vec<String> {
    library.list().into_iter().map(|model| model.name).collect()
}

#[test]
fn an_empty_disk_is_an_empty_library() {
    let disk = Disk::new();
    assert!(disk.library().list().is_empty());
    assert!(!disk.path("models").exists(), "looking creates nothing");
}

#[test]
fn the_hugging_face_cache_is_used_in_place_with_its_digests() {
    let disk = Disk::new();
    let blob = disk.write(&format!("hub/models--Qwen--Qwen3-0.6B-GGUF/blobs/{DIGEST}"), "GGUF");
    let snapshot = disk.path("hub/models--Qwen--Qwen3-0.6B-GGUF/snapshots/abc");
    std::fs::create_dir_all(&snapshot).unwrap();
    symlink(&blob, snapshot.join("Qwen3-0.6B-Q8_0.gguf")).unwrap();
    disk.write("hub/models--Qwen--Qwen3-0.6B-GGUF/snapshots/abc/mmproj-F16.gguf", "GGUF");
    disk.write("hub/models--Qwen--Qwen3-0.6B-GGUF/snapshots/abc/config.json", "{}");
    disk.write("hub/models--gone--Gone-GGUF/snapshots/abc/empty-Q8_0.gguf", "");
    symlink(disk.path("nowhere"), disk.path("hub/models--gone--Gone-GGUF/snapshots/abc/Gone-Q4_0.gguf"))
        .unwrap();
    let library = disk.library();
    let model = library.resolve("hf:Qwen/Qwen3-0.6B-GGUF").unwrap();
    assert_eq!(names(&library), ["hf:Qwen/Qwen3-0.6B-GGUF:Q8_0"]);
    assert_eq!(model.path(), snapshot.join("Qwen3-0.6B-Q8_0.gguf"));
    assert_eq!((model.origin, model.sha256.as_deref()), (Origin::HuggingFace, Some(DIGEST)));
    // The catalog knows that digest: no download is needed.
    assert_eq!(library.resolve("smollm2").unwrap().path(), model.path());
    // It is not ours to remove.
    let error = library.remove("hf:Qwen/Qwen3-0.6B-GGUF").unwrap_err();
    assert!(error.to_string().contains("Qwen3-0.6B-Q8_0.gguf"), "{error}");
    assert!(model.path().exists());
}

#[test]
fn ollamas_manifests_lead_to_its_blobs() {
    let disk = Disk::new();
    disk.write(&format!("ollama/blobs/sha256-{DIGEST}"), "GGUF");
    let layer = |kind: &str, digest: &str| {
        format!(
            "{{\"mediaType\":\"application/vnd.ollama.image.{kind}\",\"digest\":\"sha256:{digest}\",\"size\":4}}"
        )
    };
    let manifest = |digest: &str| {
        format!("{{\"layers\":[{},{}]}}", layer("projector", &"22".repeat(32)), layer("model", digest))
    };
    disk.write("ollama/manifests/registry.ollama.ai/library/smollm2/135m", &manifest(DIGEST));
    disk.write("ollama/manifests/registry.ollama.ai/someone/other/latest", &manifest(DIGEST));
    disk.write("ollama/manifests/registry.ollama.ai/library/gone/latest", &manifest(&"33".repeat(32)));
    disk.write("ollama/manifests/registry.ollama.ai/library/evil/latest", &manifest("../../../etc/passwd"));
    disk.write("ollama/manifests/registry.ollama.ai/library/broken/latest", "{");
    let library = disk.library();
    // One file under two names is told once.
    assert_eq!(names(&library), ["ollama:smollm2:135m"]);
    let model = library.resolve("ollama:smollm2").unwrap();
    assert_eq!((model.origin, model.size), (Origin::Ollama, 4));
}

#[test]
fn lm_studios_folders_name_owner_and_repository() {
    let disk = Disk::new();
    disk.write("lmstudio/maker/Big-GGUF/Big-Q4_K_M-00001-of-00002.gguf", "GGUF1");
    disk.write("lmstudio/maker/Big-GGUF/Big-Q4_K_M-00002-of-00002.gguf", "GGUF22");
    disk.write("lmstudio/maker/Half-GGUF/Half-Q4_K_M-00001-of-00002.gguf", "GGUF");
    let library = disk.library();
    let models = library.list();
    assert_eq!(names(&library), ["lmstudio:maker/Big-GGUF:Q4_K_M"], "half a split model is none");
    assert_eq!((models[0].paths.len(), models[0].size), (2, 11));
}

#[test]
fn links_in_a_circle_end() {
    let disk = Disk::new();
    disk.write("lmstudio/maker/repo/x-Q8_0.gguf", "GGUF");
    symlink(disk.path("lmstudio"), disk.path("lmstudio/maker/loop")).unwrap();
    assert_eq!(names(&disk.library()), ["lmstudio:maker/repo:Q8_0"]);
}

#[test]
fn the_shared_folder_serves_catalog_names_when_the_length_is_right() {
    let disk = Disk::new();
    let path = disk.write("shared/smollm2-135m.gguf", "GGUF");
    let library = disk.library();
    assert!(matches!(library.resolve("smollm2"), Err(ResolveError::NotHere { .. })));
    assert_eq!(names(&library), ["smollm2-135m"], "another file of that name is listed as itself");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(98_362_432).unwrap();
    let model = library.resolve("smollm2").unwrap();
    assert_eq!((model.name.as_str(), model.origin), ("smollm2:135m", Origin::Shared));
    assert!(matches!(library.remove("smollm2"), Err(RemoveError::NotOurs { .. })));
}

#[test]
fn a_pulled_model_is_found_by_name_and_removed_whole() {
    let disk = Disk::new();
    disk.pulled("qwen3:0.6b", "GGUF model");
    disk.pulled("hf:maker/Model-GGUF:Q8_0", "GGUF other");
    let library = disk.library();
    assert_eq!(library.resolve("qwen3").unwrap().name, "qwen3:0.6b");
    assert_eq!(library.resolve("hf:maker/model-gguf").unwrap().name, "hf:maker/Model-GGUF:Q8_0");
    assert!(library.remove("qwen3").unwrap() > 10);
    assert!(matches!(library.resolve("qwen3"), Err(ResolveError::NotHere { file_size: Some(_), .. })));
    assert_eq!(names(&library), ["hf:maker/Model-GGUF:Q8_0"]);
}

#[test]
fn a_manifest_whose_file_is_missing_or_another_does_not_count() {
    let disk = Disk::new();
    disk.pulled("qwen3:0.6b", "GGUF model");
    disk.write("models/qwen3-0.6b.gguf", "GGUF mod");
    assert!(disk.library().list().is_empty());
    disk.pulled("qwen3:1.7b", "GGUF model");
    std::fs::remove_file(disk.path("models/qwen3-1.7b.gguf")).unwrap();
    let outside = ManifestFile { file: "../secret".to_string(), size: 6, sha256: "11".repeat(32) };
    disk.write("secret", "secret");
    Manifest::new("evil", vec![outside], "test").write(&disk.path("models"), "evil").unwrap();
    assert!(disk.library().list().is_empty());
}

#[test]
fn a_path_is_taken_as_it_is_and_a_wrong_one_says_what_is_there() {
    let disk = Disk::new();
    let path = disk.write("anywhere/x.bin", "GGUF");
    let library = disk.library();
    let model = library.resolve(path.to_str().unwrap()).unwrap();
    assert_eq!((model.path(), model.origin), (path.as_path(), Origin::File));
    for (name, expected) in [
        (disk.path("anywhere").to_str().unwrap(), "found a directory"),
        ("/no/such/file.gguf", "no such file"),
        ("relative.gguf", "no such file"),
    ] {
        let error = library.resolve(name).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn unknown_names_are_answered_with_the_nearest_and_what_to_do() {
    let disk = Disk::new();
    let library = disk.library();
    let error = library.resolve("smolm2").unwrap_err().to_string();
    assert!(error.contains("did you mean smollm2:135m"), "{error}");
    let error = library.resolve("smollm2").unwrap_err().to_string();
    assert!(error.contains("`daybreak pull smollm2:135m` (98.4 MB)"), "{error}");
    let error = library.resolve("hf:a/B:Q4_0").unwrap_err().to_string();
    assert!(error.contains("daybreak pull hf:a/B:Q4_0"), "{error}");
    let error = library.resolve("maker/Model-GGUF").unwrap_err().to_string();
    assert!(error.contains("did you mean hf:maker/Model-GGUF?"), "{error}");
    assert!(library.resolve("").is_err());
}

#[test]
fn a_digest_is_computed_once_and_forgotten_when_the_file_changes() {
    let disk = Disk::new();
    let path = disk.write("anywhere/x.gguf", "GGUF one");
    let library = disk.library();
    let model = library.resolve(path.to_str().unwrap()).unwrap();
    assert_eq!(library.known_sha256(&model), None);
    let digest = library.sha256(&model).unwrap();
    assert_eq!(digest, crate::digest::of_file(&path).unwrap());
    // Another process knows it too.
    let again = disk.library();
    assert_eq!(again.resolve(path.to_str().unwrap()).unwrap().sha256, Some(digest.clone()));
    std::fs::write(&path, "GGUF two").unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(2)).unwrap();
    assert_eq!(again.resolve(path.to_str().unwrap()).unwrap().sha256, None);
    assert_ne!(again.sha256(&again.resolve(path.to_str().unwrap()).unwrap()).unwrap(), digest);
}

#[test]
fn caches_are_found_where_the_environment_says() {
    let vars = [("HOME", "/home/me"), ("HF_HOME", "/big/hf"), ("XDG_CACHE_HOME", "/cache")];
    let lookup =
        |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
    let folders = CacheFolders::from_vars(lookup);
    assert_eq!(folders.hugging_face, [PathBuf::from("/big/hf/hub")]);
    assert_eq!(
        folders.ollama,
        [PathBuf::from("/home/me/.ollama/models"), PathBuf::from("/usr/share/ollama/.ollama/models")]
    );
    assert_eq!(
        folders.lm_studio,
        [PathBuf::from("/home/me/.lmstudio/models"), PathBuf::from("/cache/lm-studio/models")]
    );
}
