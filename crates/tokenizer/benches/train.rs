//! How fast is a vocabulary learnt?
//!
//!     cargo bench -p tokenizer --bench train -- TEXT.txt [VOCAB_SIZE [PRE [THREADS]]]
//!
//! Prints the time for counting words and for merging, best of three, and the last merges.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::ops::ControlFlow;
use std::time::Instant;

use tokenizer::{BpeTraining, WordCounts};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let Some(path) = args.first() else {
        println!("usage: cargo bench -p tokenizer --bench train -- TEXT.txt [VOCAB_SIZE [PRE [THREADS]]]");
        return;
    };
    let text = std::fs::read(path).unwrap();
    let vocab_size = args.get(1).map_or(32_768, |n| n.parse().unwrap());
    let pre = args.get(2).map_or("qwen2", String::as_str);
    let n_threads = args.get(3).map_or(2, |n| n.parse().unwrap());
    let lines: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let mut best = (f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        let start = Instant::now();
        let counts = std::thread::scope(|scope| {
            let part = lines.len().div_ceil(n_threads);
            let count = |lines: &[&[u8]]| {
                let mut counts = WordCounts::new(pre).unwrap();
                lines.iter().for_each(|line| counts.add(line));
                counts
            };
            let parts: Vec<_> = lines.chunks(part).map(|lines| scope.spawn(move || count(lines))).collect();
            let mut all = WordCounts::new(pre).unwrap();
            parts.into_iter().for_each(|part| all.add_all(part.join().unwrap()));
            all
        });
        let counting = start.elapsed().as_secs_f64();
        let training = BpeTraining { vocab_size, special_tokens: Vec::new(), min_count: 2 };
        let trained = training.train(&counts, &mut |_, _| ControlFlow::Continue(())).unwrap();
        let merging = start.elapsed().as_secs_f64() - counting;
        println!(
            "{} words: counted in {counting:.2} s, {} merges in {merging:.2} s",
            counts.len(),
            trained.merges().len()
        );
        best = (best.0.min(counting), best.1.min(merging));
    }
    println!("best {:.2} + {:.2} s, {:.1} MB/s", best.0, best.1, text.len() as f64 / 1e6 / (best.0 + best.1));
}
