//! Damaged files, wrong names, wrong flags: one clear line each, exit code 1 (2 for the command line itself).

use std::io::Write;
use std::time::{Duration, Instant};

use crate::{assert_one_line_error, daybreak, model, run, stderr};

/// The first `len` bytes of the real model, as a file.
fn head_of_model(dir: &std::path::Path, name: &str, len: usize) -> std::path::PathBuf {
    use std::io::Read;
    let mut bytes = vec![0; len];
    std::fs::File::open(model())
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("the model is longer");
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("a file in the temporary folder");
    path
}

#[test]
fn damaged_model_files_are_refused_in_one_line_and_at_once() {
    let home = tempfile::tempdir().expect("a folder");
    let dir = home.path();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let header = |tensors: u64, keys: u64| {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(keys.to_le_bytes());
        bytes
    };
    let cases = [
        (write("empty.gguf", b""), "empty"),
        (write("text.gguf", b"<!DOCTYPE html><html>not a model</html>"), "GGUF"),
        (write("counts.gguf", &header(u64::MAX, u64::MAX)), "18446744073709551615"),
        (write("many-keys.gguf", &header(0, 1 << 40)), "1099511627776"),
        (head_of_model(dir, "header-cut.gguf", 20), ""),
        (head_of_model(dir, "metadata-cut.gguf", 100_000), ""),
        (head_of_model(dir, "tensors-cut.gguf", 50_000_000), ""),
        (dir.to_path_buf(), "directory"),
    ];
    for (path, part) in cases {
        for command in [&["inspect"][..], &["tokenize", "--ids"], &["run"]] {
            let started = Instant::now();
            let mut child = daybreak(dir);
            child.arg(command[0]).arg(&path).args(&command[1..]);
            if command[0] != "inspect" {
                child.arg("hello");
            }
            let output = child.output().expect("the binary starts");
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert_one_line_error(&output, &[&name, part]);
            assert!(started.elapsed() < Duration::from_secs(20), "{command:?} {name} took too long");
        }
    }
}

#[test]
fn an_unknown_name_says_what_is_near_and_how_to_get_it() {
    let home = tempfile::tempdir().expect("a folder");
    assert_one_line_error(&run(home.path(), &["run", "smolm2", "hello"]), &["smolm2", "smollm2:135m"]);
    assert_one_line_error(&run(home.path(), &["run", "smollm2", "hello"]), &["daybreak pull smollm2"]);
    assert_one_line_error(&run(home.path(), &["inspect", "./nothing-here.gguf"]), &["nothing-here.gguf"]);
    assert_one_line_error(&run(home.path(), &["rm", "smollm2"]), &["smollm2"]);
}

#[test]
fn a_wrong_command_line_ends_with_2_and_shows_the_way() {
    let home = tempfile::tempdir().expect("a folder");
    for args in [&["fly"][..], &["run"], &["serve", "--port", "99999"], &["serve", "--kv-memory", "much"]] {
        let output = run(home.path(), args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("--help"), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn settings_from_the_environment_are_checked() {
    let home = tempfile::tempdir().expect("a folder");
    let output = daybreak(home.path())
        .env("DAYBREAK_ISA", "mmx")
        .arg("run")
        .arg(model())
        .arg("hello")
        .output()
        .expect("starts");
    assert_one_line_error(&output, &["DAYBREAK_ISA", "mmx", "scalar, avx2, avx512 or amx"]);
}

#[test]
fn a_broken_catalog_or_template_is_named_with_its_line() {
    let home = tempfile::tempdir().expect("a folder");
    let catalog = home.path().join("broken.toml");
    std::fs::write(&catalog, "[[model]]\nname = 7\n").expect("a file");
    let output = daybreak(home.path()).arg("models").arg("--catalog").arg(&catalog).output().expect("starts");
    assert_one_line_error(&output, &["broken.toml"]);

    let template = home.path().join("broken.jinja");
    std::fs::File::create(&template)
        .and_then(|mut f| f.write_all(b"{% for m in messages %}"))
        .expect("a file");
    let output = daybreak(home.path())
        .arg("run")
        .arg(model())
        .arg("hello")
        .arg("--chat-template")
        .arg(&template)
        .output()
        .expect("starts");
    assert_one_line_error(&output, &["template"]);
}

#[test]
fn a_prompt_of_nothing_and_one_longer_than_the_context_are_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let output = daybreak(home.path()).arg("run").arg(model()).arg("").output().expect("starts");
    assert_one_line_error(&output, &["empty"]);
    let long = "word ".repeat(400);
    let output = daybreak(home.path())
        .arg("run")
        .arg(model())
        .arg(&long)
        .args(["--ctx", "128"])
        .output()
        .expect("starts");
    assert_one_line_error(&output, &["128"]);
}
