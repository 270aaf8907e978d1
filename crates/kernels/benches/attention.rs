//! Attention: time per token and operations per second of prompts and of decoding over a long context.
//!
//! `cargo bench -p kernels --bench attention -- [scalar|avx2|avx512|amx] [token]`; prints the best of several runs,
//! with `token` only of single tokens. Those read keys and values twice: of one layer, from the caches, and of as many
//! layers as do not fit the caches, as decoding does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use kernels::{AttentionSpan, Isa, KvLayer, KvType, PAGE_LEN, Pool, attention};

/// (name, heads, key-value heads, head_dim)
const MODELS: [(&str, usize, usize, usize); 3] =
    [("SmolLM2-135M", 9, 3, 64), ("Qwen2.5-0.5B", 14, 2, 64), ("Llama-3.2-1B", 32, 8, 64)];

/// Bytes of all layers together where they come from memory, beyond the last cache.
const STREAM_BYTES: usize = 96 << 20;

fn main() {
    let isa = std::env::args().skip(1).find_map(|arg| Isa::from_name(&arg)).unwrap_or(Isa::detect());
    let token_only = std::env::args().any(|arg| arg == "token");
    for n_threads in [1, 2] {
        let pool = Pool::new(n_threads, isa).unwrap();
        println!("{} with {n_threads} threads", isa.name());
        let mut types = vec![KvType::F16, KvType::fastest(isa)];
        types.dedup();
        for (name, n_heads, n_kv_heads, head_dim) in MODELS {
            for (first_pos, n) in [(0, 512), (0, 2000), (100, 1), (1000, 1), (4000, 1)] {
                let bytes = (first_pos + n) * n_kv_heads * head_dim * 4;
                let many = STREAM_BYTES.div_ceil(bytes);
                let all_layers: &[usize] = if n == 1 { &[1, many] } else { &[1] };
                for &ty in types.iter().filter(|_| n == 1 || !token_only) {
                    for &n_layers in all_layers {
                        report(&pool, name, n_heads, n_kv_heads, head_dim, first_pos, n, ty, n_layers);
                    }
                }
            }
        }
    }
}

#[allow(clippy::too_many_arguments)] // a model's shape, a prompt's and a type
fn report(
    pool: &Pool,
    name: &str,
    n_heads: usize,
    n_kv_heads: usize,
    head_dim: usize,
    first_pos: usize,
    n: usize,
    ty: KvType,
    n_layers: usize,
) {
    let n_pages = (first_pos + n).div_ceil(PAGE_LEN);
    let pages: Vec<u32> = (0..n_pages as u32).collect();
    let wave = |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect() };
    let all = wave((first_pos + n) * n_kv_heads * head_dim);
    let layers: Vec<KvLayer> = (0..n_layers)
        .map(|_| {
            let mut kv = KvLayer::new(n_pages, n_kv_heads, head_dim, head_dim, ty);
            kv.write(pool, &pages, 0, &all, &all);
            kv
        })
        .collect();
    let q = wave(n * n_heads * head_dim);
    let mut out = vec![0.0; q.len()];
    let spans = [AttentionSpan { first_row: 0, n_rows: n, first_pos, pages: &pages }];
    let repeats = if n == 1 && n_layers == 1 { 10 } else { 1 };
    let seconds = (0..20)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeats {
                for kv in &layers {
                    attention(pool, &q, n_heads, &spans, kv, 0.125, None, None, &mut out);
                }
            }
            start.elapsed().as_secs_f64() / (repeats * n_layers) as f64
        })
        .fold(f64::INFINITY, f64::min);
    let pairs: usize = (0..n).map(|i| first_pos + i + 1).sum();
    let ops = 4 * pairs * n_heads * head_dim;
    let bytes = (first_pos + n) * n_kv_heads * head_dim * 4;
    println!(
        "  {name:13} {:7} {n:4} tokens from {first_pos:4}, {n_layers:3} layers: {:8.2} us per token and layer, {:6.1} GFLOP/s, \
         {:5.1} GB/s",
        format!("{ty:?}"),
        seconds / n as f64 * 1e6,
        ops as f64 / seconds / 1e9,
        bytes as f64 / seconds / 1e9
    );
}
