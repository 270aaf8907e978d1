//! Projections: operations and bytes per second by type, shape, number of tokens, threads and instruction set.
//!
//! `cargo bench -p kernels --bench projection -- [scalar|avx2|avx512|amx] [memory] [TYPE…]`; prints the best of several runs,
//! with `memory` only of the single token that reads weights from memory.
//! Activations are quantised inside the timing. One token reads as many matrices as do not fit the caches, as decoding does.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant;

use kernels::{Activations, Isa, PackedMatrix, Pool, WeightType, project};

/// [n_rows, n_cols]: SmolLM2's projections, Qwen 0.5B's feed-forward network and its way back.
const SHAPES: [(usize, usize); 4] = [(960, 576), (3072, 576), (9728, 896), (896, 4864)];
const K_SHAPES: [(usize, usize); 3] = [(2048, 2048), (8192, 2048), (2048, 8192)];
/// Bytes of all matrices that one token goes through, beyond the last cache.
const STREAM_BYTES: usize = 96 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let memory_only = args.iter().any(|arg| arg == "memory");
    let isa = args.iter().find_map(|arg| Isa::from_name(arg)).unwrap_or(Isa::detect());
    let types: Vec<WeightType> = WeightType::ALL
        .into_iter()
        .filter(|ty| args.iter().any(|arg| arg.eq_ignore_ascii_case(ty.name())))
        .collect();
    let types = if types.is_empty() { WeightType::ALL.to_vec() } else { types };
    for n_threads in [1, 2] {
        let pool = Pool::new(n_threads, isa).unwrap();
        println!("{} with {n_threads} threads: read {:.1} GB/s", isa.name(), read_bandwidth(&pool));
        for &ty in &types {
            let shapes: &[(usize, usize)] = if ty.block_len() == 256 { &K_SHAPES } else { &SHAPES };
            for &(n_rows, n_cols) in shapes {
                stream(&pool, ty, n_rows, n_cols);
            }
            if memory_only {
                continue;
            }
            for &(n_rows, n_cols) in shapes {
                tokens(&pool, ty, n_rows, n_cols);
            }
        }
    }
}

/// Random bytes with the scales set to something small; the speed does not depend on them.
fn matrix(pool: &Pool, ty: WeightType, n_rows: usize, n_cols: usize) -> PackedMatrix {
    let mut state = 1u64;
    let mut data = vec![0u8; ty.bytes_of(n_rows * n_cols)];
    for byte in &mut data {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        // Below 0x3c, so that no two bytes make an infinite number of any type.
        *byte = (state >> 56) as u8 & 0x3b;
    }
    PackedMatrix::pack(pool, ty, n_rows, n_cols, &data).unwrap()
}

fn best_of(n: usize, mut f: impl FnMut()) -> f64 {
    (0..n)
        .map(|_| {
            let start = Instant::now();
            f();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min)
}

/// One token through many matrices of a shape, as through the layers of a model.
fn stream(pool: &Pool, ty: WeightType, n_rows: usize, n_cols: usize) {
    let n_mats = STREAM_BYTES.div_ceil(ty.bytes_of(n_rows * n_cols));
    let mats: Vec<PackedMatrix> = (0..n_mats).map(|_| matrix(pool, ty, n_rows, n_cols)).collect();
    let x = vec![0.5; n_cols];
    let mut activations = Activations::new();
    let mut out = vec![0.0; n_rows];
    let seconds = best_of(5, || {
        for mat in &mats {
            activations.set(pool, &x, 1, n_cols);
            project(pool, &activations, &[mat], &mut [&mut out]);
        }
    });
    let bytes: usize = mats.iter().map(PackedMatrix::bytes).sum();
    let shape = format!("{n_rows}x{n_cols}");
    println!("  {:5} {shape:12} 1 token, from memory: {:6.1} GB/s", ty.name(), bytes as f64 / seconds / 1e9);
}

fn tokens(pool: &Pool, ty: WeightType, n_rows: usize, n_cols: usize) {
    let mat = matrix(pool, ty, n_rows, n_cols);
    print!("  {:5} {:12}", ty.name(), format!("{n_rows}x{n_cols}"));
    for n_tokens in [1, 2, 4, 8, 16, 32, 128, 512] {
        let x: Vec<f32> = (0..n_tokens * n_cols).map(|i| (i % 113) as f32 - 56.0).collect();
        let mut activations = Activations::keeping(|operand| operand == mat.needs());
        let mut out = vec![0.0; n_tokens * n_rows];
        let repeats = (60_000_000 / (n_tokens * n_rows * n_cols)).clamp(1, 40);
        let seconds = best_of(20, || {
            for _ in 0..repeats {
                activations.set(pool, &x, n_tokens, n_cols);
                project(pool, &activations, &[&mat], &mut [&mut out]);
            }
        });
        let ops = 2 * n_tokens * n_rows * n_cols * repeats;
        print!("  {n_tokens}: {:5.0}", ops as f64 / seconds / 1e9);
    }
    println!("  GOP/s");
}

/// What the machine reads from memory with these threads: a sum over more than the caches hold.
fn read_bandwidth(pool: &Pool) -> f64 {
    let data = vec![1u64; 24 << 20];
    let chunk = 1 << 16;
    let seconds = best_of(5, || {
        let total = std::sync::atomic::AtomicU64::new(0);
        pool.run(data.len() / chunk, &|tile, _| {
            // Eight sums, so that the compiler reads with vectors.
            let mut sums = [0u64; 8];
            for part in data[tile * chunk..(tile + 1) * chunk].as_chunks::<8>().0 {
                sums.iter_mut().zip(part).for_each(|(sum, x)| *sum = sum.wrapping_add(*x));
            }
            total.fetch_add(sums.iter().sum(), std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), data.len() as u64);
    });
    (data.len() * 8) as f64 / seconds / 1e9
}
