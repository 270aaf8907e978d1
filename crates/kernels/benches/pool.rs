//! Microseconds of a run of the thread pool, by number and length of its tiles.
//!
//! `cargo bench -p kernels --bench pool`; beside two threads stands what one takes alone.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use kernels::{Isa, Pool};

const RUNS: u32 = 10_000;
/// (tiles, steps of a tile)
const SHAPES: [(usize, u32); 7] = [(2, 1), (8, 1), (8, 100), (8, 300), (8, 1000), (100, 100), (100, 1000)];

fn main() {
    let pools = [1, 2].map(|n_threads| Pool::new(n_threads, Isa::detect()).unwrap());
    for (n_tiles, n_steps) in SHAPES {
        let [alone, together] = pools.each_ref().map(|pool| {
            let start = Instant::now();
            for _ in 0..RUNS {
                pool.run(n_tiles, &|_, _| steps(n_steps));
            }
            start.elapsed().as_secs_f64() / f64::from(RUNS) * 1e6
        });
        println!(
            "{n_tiles:4} tiles of {n_steps:4} steps: {together:7.2} us with two threads, {alone:7.2} us with one"
        );
    }
}

/// About a third of a nanosecond each.
fn steps(n: u32) {
    let mut x = 1u32;
    for _ in 0..n {
        x = black_box(x.wrapping_mul(3));
    }
}
