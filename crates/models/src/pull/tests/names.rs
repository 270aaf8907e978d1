//! `hf:OWNER/REPO[:QUANT]` and entries whose digest the hub states.

use super::*;
use crate::pull::SourceError;

/// A repository as they are: several quantisations, one split, and files that are no models.
fn repository() -> (HubServer, Vec<(&'static str, Vec<u8>)>) {
    let server = HubServer::start();
    let files = vec![
        ("Model-Q4_K_M.gguf", model_bytes(41)),
        ("Model-Q8_0.gguf", model_bytes(42)),
        ("BF16/Model-BF16-00001-of-00002.gguf", model_bytes(43)),
        ("BF16/Model-BF16-00002-of-00002.gguf", model_bytes(44)),
        ("mmproj-Model-f16.gguf", model_bytes(45)),
        ("README.md", b"# Model".to_vec()),
    ];
    for (name, bytes) in &files {
        server.put(REPO, name, bytes);
    }
    (server, files)
}

#[tokio::test]
async fn the_usual_quantisation_is_chosen_with_the_hubs_own_digest() {
    let (server, files) = repository();
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), Vec::new());
    let name = format!("hf:{REPO}");
    let model = pull_quietly(&library, &name, &settings(&server)).await.0.unwrap();
    assert_eq!(model.name, format!("hf:{REPO}:Q4_K_M"));
    assert_eq!(model.sha256, Some(sha256(&files[0].1)));
    assert_eq!(std::fs::read(model.path()).unwrap(), files[0].1);
    // Found again with and without the quantisation, in any letter case; removed by the short name.
    assert_eq!(library.resolve(&name).unwrap(), model);
    assert_eq!(library.resolve(&format!("hf:{}:q4_k_m", REPO.to_lowercase())).unwrap(), model);
    library.remove(&name).unwrap();
    assert!(left_behind(&library).is_empty());
}

#[tokio::test]
async fn a_wrong_hash_against_the_hubs_digest_is_refused() {
    let (server, _) = repository();
    server.faults(Faults { corrupt: true, ..Faults::default() });
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), Vec::new());
    let error = pull_quietly(&library, &format!("hf:{REPO}:Q8_0"), &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "wrong_content");
    assert!(left_behind(&library).is_empty());
}

#[tokio::test]
async fn a_split_model_comes_in_order_and_goes_on_with_the_part_that_is_missing() {
    let (server, files) = repository();
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), Vec::new());
    let name = format!("hf:{REPO}:BF16");
    let settings = Settings { max_retries: 0, ..settings(&server) };
    // The second file breaks off.
    server.faults(Faults { cut: (0, 0), ..Faults::default() });
    let first = pull_until_second_file_fails(&library, &name, &settings, &server).await;
    assert!(first.is_err());
    assert!(library.resolve(&name).is_err(), "half a model is none");
    server.faults(Faults::default());
    let before = server.requests("cdn").len();
    let (result, told) = pull_quietly(&library, &name, &settings).await;
    let model = result.unwrap();
    assert_eq!(server.requests("cdn").len(), before + 1, "the first file is not fetched again");
    let names: Vec<_> = model.paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    let stem = "hf--maker--Model-GGUF--BF16";
    assert_eq!(names, [format!("{stem}-00001-of-00002.gguf"), format!("{stem}-00002-of-00002.gguf")]);
    assert_eq!(std::fs::read(&model.paths[0]).unwrap(), files[2].1);
    assert_eq!(std::fs::read(&model.paths[1]).unwrap(), files[3].1);
    assert_eq!(model.size, (files[2].1.len() + files[3].1.len()) as u64);
    assert_eq!(told.last().unwrap().done, model.size);
    library.remove(&name).unwrap();
    assert!(left_behind(&library).is_empty());
}

/// Runs a pull and lets the answers break off from the second file on.
async fn pull_until_second_file_fails(
    library: &Library,
    name: &str,
    settings: &Settings,
    server: &HubServer,
) -> Result<LocalModel, PullError> {
    let watch = |_: Progress| {
        if library.models_dir().join("hf--maker--Model-GGUF--BF16-00001-of-00002.gguf").exists() {
            server.faults(Faults { cut: (9, 1000), ..Faults::default() });
        }
    };
    pull(library, name, settings, &watch, &Cancel::new()).await
}

#[tokio::test]
async fn a_quantisation_that_is_not_there_lists_those_that_are() {
    let (server, _) = repository();
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), Vec::new());
    let error = pull_quietly(&library, &format!("hf:{REPO}:Q6_K"), &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "choose_quant");
    let text = error.to_string();
    for part in ["no single Q6_K", "Q4_K_M (500.0 kB)", "Q8_0 (500.0 kB)", "BF16 (1.0 MB)"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains("mmproj"), "{text}");
}

#[tokio::test]
async fn a_repository_that_is_not_there_or_holds_no_model_says_so() {
    let (server, _) = repository();
    server.put("maker/Text", "README.md", b"# none");
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), Vec::new());
    let failure =
        async |name: &str| match pull_quietly(&library, name, &settings(&server)).await.0.unwrap_err() {
            PullError::AllSourcesFailed { mut failures, .. } => failures.remove(0).error,
            other => panic!("{other}"),
        };
    assert!(matches!(failure("hf:maker/Nothing").await, SourceError::NotFound { .. }));
    assert!(matches!(failure("hf:maker/Text").await, SourceError::NoGguf { .. }));
    let hidden = failure("hf:maker/Hidden").await.to_string();
    assert!(hidden.starts_with("there is no such repository, or access is restricted"), "{hidden}");
    assert!(hidden.contains("set HF_TOKEN"), "{hidden}");
}

#[tokio::test]
async fn an_unknown_name_is_told_with_its_neighbours() {
    let (server, bytes) = (HubServer::start(), model_bytes(46));
    let folder = tempfile::tempdir().unwrap();
    let library = library(folder.path(), vec![entry("tiny:1", &bytes, vec![hub_source()])]);
    let error = pull_quietly(&library, "tinny:1", &settings(&server)).await.0.unwrap_err();
    assert_eq!(error.code(), "model_not_found");
    assert!(error.to_string().contains("did you mean tiny:1?"), "{error}");
}

#[tokio::test]
async fn an_unverified_entry_is_pinned_at_its_first_download() {
    let (server, files) = repository();
    let folder = tempfile::tempdir().unwrap();
    let unverified = CatalogEntry {
        sha256: None,
        unverified: true,
        ..entry(
            "tiny:1",
            &files[1].1,
            vec![Source::HuggingFace {
                repo: REPO.to_string(),
                file: None,
                quant: Some("Q8_0".to_string()),
                revision: "main".to_string(),
            }],
        )
    };
    let library = library(folder.path(), vec![unverified]);
    let model = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    assert_eq!(model.sha256, Some(sha256(&files[1].1)));
    library.remove("tiny:1").unwrap();
    // The same bytes come again; others are refused, although the hub states their digest.
    pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap();
    library.remove("tiny:1").unwrap();
    server.put(REPO, "Model-Q8_0.gguf", &model_bytes(47));
    let error = pull_quietly(&library, "tiny:1", &settings(&server)).await.0.unwrap_err();
    assert!(error.to_string().contains("the digest has changed since the first download"), "{error}");
    assert_eq!(left_behind(&library), ["pins.json"]);
}
