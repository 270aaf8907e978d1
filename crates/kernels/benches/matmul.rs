//! Dense products: operations per second of the three products of a linear layer, as training needs them.
//!
//! `cargo bench -p kernels --bench matmul -- [scalar|avx2|avx512|amx]`; prints the best of several runs.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use kernels::{Isa, MachinePeaks, Matrix, Pool, Precision, Store, matmul};

/// (tokens, inputs, outputs): a depth of 4, 6 and 12, with their vocabularies.
const SHAPES: [(usize, usize, usize); 7] = [
    (4096, 256, 256),
    (4096, 256, 1024),
    (4096, 384, 1024),
    (4096, 384, 8192),
    (4096, 768, 768),
    (4096, 2048, 768),
    (1024, 768, 32768),
];

fn main() {
    let isa = std::env::args().skip(1).find_map(|arg| Isa::from_name(&arg)).unwrap_or(Isa::detect());
    for n_threads in [1, 2] {
        let pool = Pool::new(n_threads, isa).unwrap();
        let peaks = MachinePeaks::measure(&pool);
        println!("{} with {n_threads} threads: {peaks:?}", isa.name());
        for (tokens, inputs, outputs) in SHAPES {
            for precision in [Precision::F32, Precision::Bf16] {
                report(&pool, precision, tokens, inputs, outputs);
            }
        }
    }
}

fn report(pool: &Pool, precision: Precision, tokens: usize, inputs: usize, outputs: usize) {
    let wave = |len: usize| -> Vec<f32> { (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect() };
    let (x, w, dy) = (wave(tokens * inputs), wave(outputs * inputs), wave(tokens * outputs));
    let (x, w, dy) = (
        Matrix::new(&x, tokens, inputs),
        Matrix::new(&w, outputs, inputs),
        Matrix::new(&dy, tokens, outputs),
    );
    let ops = 2.0 * (tokens * inputs * outputs) as f64;
    print!("  {precision:?} {tokens} tokens, {inputs} → {outputs}: ");
    for (name, left, right, into) in [
        ("y = x·wᵀ", x, w.transposed(), Store::Replace),
        ("dx = dy·w", dy, w, Store::Replace),
        ("dw += dyᵀ·x", dy.transposed(), x, Store::Add),
    ] {
        let n = match name {
            "y = x·wᵀ" => tokens * outputs,
            "dx = dy·w" => tokens * inputs,
            _ => outputs * inputs,
        };
        let mut out = vec![0.0; n];
        let seconds = (0..8)
            .map(|_| {
                let start = Instant::now();
                matmul(pool, precision, left, right, &mut out, into);
                start.elapsed().as_secs_f64()
            })
            .fold(f64::INFINITY, f64::min);
        print!(" {name} {:6.1} GFLOP/s", ops / seconds / 1e9);
    }
    println!();
}
