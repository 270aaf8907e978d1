//! How fast is a real vocabulary loaded, and text encoded and decoded?
//!
//!     cargo bench -p tokenizer --bench encode -- MODEL.gguf [TEXT.txt]
//!
//! Prints the load time, then MB/s for the text (default: this repository's own Markdown and Rust), and the time for
//! 10 MB of one character, which must stay bounded.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::time::{Duration, Instant};

use std::sync::LazyLock;

use tokenizer::{Specials, Tokenizer};

#[path = "../tests/support/gguf_file.rs"]
mod gguf_file;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(model) = args.first() else {
        println!("usage: cargo bench -p tokenizer --bench encode -- MODEL.gguf [TEXT.txt]");
        return;
    };
    let file = std::fs::read(model).unwrap();
    let vocabulary = gguf_file::vocabulary(&file);
    let (load, tokenizer) = best_of(5, || Tokenizer::new(&vocabulary).unwrap());
    println!(
        "{} tokens, {} merges: loaded in {:.1} ms",
        tokenizer.vocab_size(),
        vocabulary.merges.len(),
        ms(load)
    );

    let text = match args.get(1) {
        Some(path) => std::fs::read(path).unwrap(),
        None => own_text(),
    };
    let (encode, ids) = best_of(5, || tokenizer.encode(&text, Specials::AsText));
    let (decode, bytes) = best_of(5, || tokenizer.decode(&ids));
    println!(
        "{} bytes, {} ids: encoded at {:.1} MB/s, decoded at {:.1} MB/s, {}",
        text.len(),
        ids.len(),
        rate(text.len(), encode),
        rate(text.len(), decode),
        if bytes == text { "equal again" } else { "NOT equal again (normalised)" },
    );
    for (name, unit) in [
        ("spaces", " "),
        ("letters a", "a"),
        ("line ends", "\n"),
        ("中", "中"),
        ("marks !", "!"),
        ("ab ", "ab "),
    ] {
        let text = unit.repeat(10_000_000 / unit.len());
        let (time, ids) = best_of(1, || tokenizer.encode(text.as_bytes(), Specials::Parse));
        println!("10 MB of {name}: {:.0} ms, {} ids", ms(time), ids.len());
    }
}

/// Time that this thread was on a processor (Linux: other work on the machine does not count), else wall time.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let on_processor = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    on_processor
        .and_then(|stat| stat.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn best_of<T>(n: usize, mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..n {
        let start = now();
        let result = run();
        let time = now() - start;
        if best.as_ref().is_none_or(|(fastest, _)| time < *fastest) {
            best = Some((time, result));
        }
    }
    best.unwrap()
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn rate(n_bytes: usize, time: Duration) -> f64 {
    n_bytes as f64 / 1e6 / time.as_secs_f64()
}

/// Markdown and Rust of this repository.
fn own_text() -> Vec<u8> {
    let mut text = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "md") {
                text.extend(std::fs::read(path).unwrap());
            }
        }
    }
    text
}
