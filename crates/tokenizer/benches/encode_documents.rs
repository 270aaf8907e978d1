//! How fast are many texts encoded, as those of a data set are: by threads that each keep an encoder, seen for the first
//! time?
//!
//!     cargo bench -p tokenizer --bench encode_documents -- MODEL.gguf DOCUMENTS.jsonl N_THREADS [N_PASSES] [IDS]
//!
//! Prints the seconds of each pass (the encoders of a pass know nothing of the one before), the ids and the bytes as one
//! JSON object. With IDS the ids are written there, four bytes each, for comparing with another encoder's.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokenizer::{Specials, TokenId, Tokenizer};

#[path = "../tests/support/gguf_file.rs"]
mod gguf_file;

/// Bytes that a thread takes at a time.
const BATCH_LEN: usize = 1 << 18;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let [model, documents, n_threads, more @ ..] = &args[..] else {
        println!(
            "usage: … --bench encode_documents -- MODEL.gguf DOCUMENTS.jsonl N_THREADS [N_PASSES] [IDS]"
        );
        return;
    };
    let file = std::fs::read(model).unwrap();
    let tokenizer = Tokenizer::new(&gguf_file::vocabulary(&file)).unwrap();
    let lines = std::fs::read_to_string(documents).unwrap();
    let texts: Vec<String> = lines
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["text"].as_str().unwrap().to_owned()
        })
        .collect();
    let batches = batches(&texts);
    let n_threads: usize = n_threads.parse().unwrap();
    let n_passes = more.first().map_or(1, |n| n.parse().unwrap());
    let mut seconds = Vec::new();
    let mut ids = Vec::new();
    for _ in 0..n_passes {
        let start = Instant::now();
        ids = encode(&tokenizer, &batches, n_threads);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let n_ids: usize = ids.iter().map(Vec::len).sum();
    let n_bytes: usize = texts.iter().map(String::len).sum();
    println!("{}", serde_json::json!({ "seconds": seconds, "n_ids": n_ids, "n_bytes": n_bytes }));
    if let Some(path) = more.get(1) {
        let bytes: Vec<u8> = ids.iter().flatten().flat_map(|id| id.to_le_bytes()).collect();
        std::fs::write(path, bytes).unwrap();
    }
}

fn batches(texts: &[String]) -> Vec<&[String]> {
    let mut batches = Vec::new();
    let (mut start, mut n_bytes) = (0, 0);
    for (idx, text) in texts.iter().enumerate() {
        n_bytes += text.len();
        if n_bytes >= BATCH_LEN || idx + 1 == texts.len() {
            batches.push(&texts[start..=idx]);
            (start, n_bytes) = (idx + 1, 0);
        }
    }
    batches
}

/// The ids of each batch.
fn encode(tokenizer: &Tokenizer, batches: &[&[String]], n_threads: usize) -> Vec<Vec<TokenId>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![Vec::new(); batches.len()]);
    let work = || {
        let mut encoder = tokenizer.encoder();
        loop {
            let idx = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(idx) else { break };
            let mut ids = Vec::with_capacity(batch.iter().map(|text| text.len() / 3).sum());
            for text in *batch {
                encoder.append(text.as_bytes(), Specials::AsText, &mut ids);
            }
            done.lock().unwrap()[idx] = ids;
        }
    };
    std::thread::scope(|scope| (0..n_threads).for_each(|_| _ = scope.spawn(work)));
    done.into_inner().unwrap()
}
