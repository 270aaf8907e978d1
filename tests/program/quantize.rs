//! `daybreak quantize` and `daybreak perplexity`: files that load, figures that agree with llama.cpp's, nothing left
//! behind when it does not work out.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{assert_one_line_error, daybreak, model, ok, run, stderr, str};

/// A small model of random weights without a tokenizer, F16.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/quantize/source-f16.gguf")
}

fn text() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/perplexity/text.txt")
}

fn files(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("a folder").flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn every_type_can_be_written_and_is_what_it_says() {
    let home = tempfile::tempdir().expect("a folder");
    for file_type in weights::FileType::ALL {
        let out = home.path().join(format!("{file_type}.gguf"));
        let summary = ok(run(home.path(), &["quantize", str(&source()), str(&out), file_type.name()]));
        assert!(summary.contains(file_type.name()), "{summary}");
        let (gguf, original) =
            (weights::Gguf::open(&out).expect("it opens"), weights::Gguf::open(&source()).expect("it opens"));
        assert_eq!(gguf.get_u32("general.file_type").expect("a number"), Some(file_type.id()));
        assert_eq!(gguf.get_u32("general.quantization_version").expect("a number"), Some(2));
        for (key, value) in original.metadata() {
            let key = key.as_str().expect("text");
            assert_eq!(gguf.get(key), Some(value), "{file_type}: {key}");
        }
        let config = weights::ModelConfig::from_gguf(&gguf).expect("it can be run");
        weights::check_tensors(&gguf, &config).expect("it can be run");
        let up = gguf.tensor("blk.0.ffn_up.weight").expect("it is there");
        assert_eq!(up.kind.loadable(), Some(file_type.main_type()));
        let norm = gguf.tensor("output_norm.weight").expect("it is there");
        assert_eq!(gguf.bytes(norm), original.bytes(original.tensor("output_norm.weight").expect("there")));
    }
}

#[test]
fn nothing_is_overwritten_without_being_asked() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out.gguf");
    std::fs::write(&out, b"precious").expect("a file");
    let refused = run(home.path(), &["quantize", str(&source()), str(&out), "Q4_0"]);
    assert_one_line_error(&refused, &["out.gguf exists", "--force"]);
    assert_eq!(std::fs::read(&out).expect("it is there"), b"precious");
    ok(run(home.path(), &["quantize", str(&source()), str(&out), "Q4_0", "--force"]));
    let itself =
        run(home.path(), &["quantize", str(&out), str(&out), "F16", "--force", "--allow-requantize"]);
    assert_one_line_error(&itself, &["is the model to read"]);
    let folder = run(home.path(), &["quantize", str(&source()), str(home.path()), "F16", "--force"]);
    assert_one_line_error(&folder, &["is a directory"]);
    let nowhere = home.path().join("no/such/folder.gguf");
    let nowhere = run(home.path(), &["quantize", str(&source()), str(&nowhere), "F16"]);
    assert_one_line_error(&nowhere, &["cannot write", "folder.gguf"]);
    assert_eq!(files(home.path()), ["out.gguf"]);
}

#[test]
fn quantised_models_are_quantised_again_only_when_asked() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out.gguf");
    let refused = run(home.path(), &["quantize", str(&model()), str(&out), "Q8_0"]);
    assert_one_line_error(&refused, &["blk.0.ffn_down.weight", "Q4_1", "--allow-requantize"]);
    let unknown = run(home.path(), &["quantize", str(&model()), str(&out), "Q3_K_M"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("expected one of F32, F16"), "{}", stderr(&unknown));
    assert!(files(home.path()).is_empty());
}

#[test]
fn a_tensor_that_is_not_finite_is_named_and_nothing_is_left() {
    let home = tempfile::tempdir().expect("a folder");
    let broken = home.path().join("broken.gguf");
    let gguf = weights::Gguf::open(&source()).expect("it opens");
    let at = gguf.tensor("blk.0.ffn_down.weight").expect("it is there").offset() as usize;
    let mut bytes = std::fs::read(source()).expect("it is there");
    bytes[at + 2 * 256 * 5..][..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    std::fs::write(&broken, bytes).expect("a file");
    let out = home.path().join("out.gguf");
    for file_type in ["Q4_K_M", "F32", "F16"] {
        let refused = run(home.path(), &["quantize", str(&broken), str(&out), file_type]);
        assert_one_line_error(&refused, &["blk.0.ffn_down.weight", "infinite or not a number"]);
        assert_eq!(files(home.path()), ["broken.gguf"]);
    }
}

#[test]
fn an_importance_matrix_is_used_or_refused() {
    let home = tempfile::tempdir().expect("a folder");
    let source = source();
    let dat = |name: &str, n: usize| {
        let mut bytes = 1i32.to_le_bytes().to_vec();
        bytes.extend((name.len() as i32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(1i32.to_le_bytes());
        bytes.extend((n as i32).to_le_bytes());
        (0..n).for_each(|i| bytes.extend((if i % 7 == 0 { 9f32 } else { 0.1 }).to_le_bytes()));
        let path = home.path().join(format!("{n}.dat"));
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let [plain, with, bad] = ["plain", "with", "bad"].map(|name| home.path().join(name));
    ok(run(home.path(), &["quantize", str(&source), str(&plain), "Q4_K_M"]));
    let matrix = dat("blk.0.ffn_up.weight", 256);
    let args = ["quantize", str(&source), str(&with), "Q4_K_M", "--imatrix", str(&matrix)];
    let output = run(home.path(), &args);
    assert!(stderr(&output).contains("says nothing of 7 of the quantised tensors"), "{}", stderr(&output));
    ok(output);
    let [plain, with] = [plain, with].map(|path| weights::Gguf::open(&path).expect("it opens"));
    assert_eq!(with.get_str("quantize.imatrix.file").expect("text"), Some("256.dat"));
    for info in plain.tensors() {
        let is_same = plain.bytes(info) == with.bytes(with.tensor(&info.name).expect("it is there"));
        assert_eq!(is_same, info.name != "blk.0.ffn_up.weight", "{}", info.name);
    }
    let matrix = dat("blk.0.ffn_up.weight", 128);
    let args = ["quantize", str(&source), str(&bad), "Q4_K_M", "--imatrix", str(&matrix)];
    assert_one_line_error(&run(home.path(), &args), &["128 numbers", "blk.0.ffn_up.weight", "another model"]);
}

/// Tells a process what Ctrl-C tells it.
fn interrupt(child: &std::process::Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let home = tempfile::tempdir().expect("a folder");
    let out = home.path().join("out.gguf");
    // A machine that is busy with other tests may let it come to its end first.
    let was_interrupted = (0..10).any(|_| {
        let mut child = daybreak(home.path())
            .args(["quantize", str(&model()), str(&out), "Q5_1", "--allow-requantize", "--threads", "1"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let deadline = Instant::now() + Duration::from_secs(60);
        while files(home.path()).is_empty() {
            assert!(Instant::now() < deadline, "it does not begin to write");
            std::thread::yield_now();
        }
        interrupt(&child);
        let code = child.wait().expect("it ends").code();
        if code == Some(0) {
            std::fs::remove_file(&out).expect("it was written");
            return false;
        }
        assert_eq!(code, Some(130));
        true
    });
    assert!(was_interrupted, "ten models were written before they could be interrupted");
    assert_eq!(files(home.path()), [""; 0]);
}

#[test]
fn perplexity_is_llama_cpps_and_eight_bits_are_close_to_the_original() {
    let home = tempfile::tempdir().expect("a folder");
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&ok(run(home.path(), args))).expect("JSON")
    };
    let base = home.path().join("base.bin");
    let (original, text) = (model(), text());
    let window = ["--ctx", "128", "--json"];
    let args = ["perplexity", str(&original), str(&text), "--save-logits", str(&base)];
    let found = json(&[&args[..], &window].concat());
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/perplexity/smollm2-135m.json");
    let fixture: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixture).expect("it is there")).expect("JSON");
    let theirs = &fixture["windows"];
    assert_eq!((&found["windows"], &found["ctx"]), (&theirs["n_windows"], &theirs["n_ctx"]));
    for (ours, theirs) in [
        (&found["perplexity"]["value"], &theirs["perplexity"]),
        (&found["perplexity"]["error"], &theirs["error"]),
    ] {
        let (ours, theirs) = (ours.as_f64().expect("a number"), theirs.as_f64().expect("a number"));
        assert!((ours / theirs - 1.0).abs() < 0.01, "{ours}, llama.cpp's is {theirs}");
    }

    let eight = home.path().join("eight.gguf");
    ok(run(home.path(), &["quantize", str(&original), str(&eight), "Q8_0", "--allow-requantize"]));
    let args = ["perplexity", str(&eight), str(&text), "--kl", str(&base), "--json", "--chunks", "6"];
    let found = json(&args);
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let mean = number(&found["kl_divergence"]["mean"]);
    assert!(mean > 0.0 && mean < 0.02, "{found}");
    assert!(number(&found["same_top_token"]["value"]) > 0.9, "{found}");
    assert_eq!(found["windows"], 6);

    // The comparison is with the same text, in the same windows, and with a whole file.
    let other = home.path().join("other.txt");
    std::fs::write(&other, "Something else entirely. ".repeat(400)).expect("a file");
    let args = ["perplexity", str(&eight), str(&other), "--kl", str(&base)];
    assert_one_line_error(&run(home.path(), &args), &["base.bin", "another text"]);
    let args = ["perplexity", str(&eight), str(&text), "--kl", str(&base), "--ctx", "64"];
    assert_one_line_error(&run(home.path(), &args), &["windows of 128"]);
    let args = ["perplexity", str(&eight), str(&text), "--kl", str(&original)];
    assert_one_line_error(&run(home.path(), &args), &["first bytes", "_logits_", "GGUF"]);
    let whole = std::fs::read(&base).expect("it is there");
    std::fs::write(&base, &whole[..whole.len() / 2]).expect("a file");
    let args = ["perplexity", str(&eight), str(&text), "--kl", str(&base)];
    let cut = run(home.path(), &args);
    assert_eq!(cut.status.code(), Some(1));
    // Lines of progress may stand before it.
    let said = stderr(&cut);
    let last = said.lines().last().unwrap_or_default();
    assert!(last.contains("cannot read the base's probabilities"), "{said}");
    let args = ["perplexity", str(&eight), str(&text), "--ctx", "4096"];
    assert_one_line_error(&run(home.path(), &args), &["expected at least two windows of 4096"]);
}
