//! What this machine can give at most: integer and float operations and bytes read per second, by all workers of
//! a pool. A benchmark's figures mean something beside these only, and only from the same run: machines are
//! shared, and the same one was seen to change within minutes.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::aligned::Arena;
use crate::simd::{Kernel, Lanes, run_on};
use crate::{Isa, Pool};

/// The bounds of a machine, best of a few short runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachinePeaks {
    /// Multiplications and additions of bytes into 32-bit sums, per second: `tdpbssd` with AMX, `vpdpbusd` with AVX-512 VNNI,
    /// `vpmaddubsw` + `vpmaddwd` + `vpaddd` with AVX2.
    pub int8_ops: f64,
    /// Multiplications and additions of f32 per second, fused.
    pub f32_ops: f64,
    /// Multiplications and additions of bf16 into f32 sums per second, where the processor has them.
    pub bf16_ops: Option<f64>,
    /// Bytes per second read from main memory, from far more than the caches hold.
    pub read_bytes: f64,
}

/// Work between two looks at the clock: the tiles of one run.
const TILES: usize = 64;
/// Steps of the operation loops in a tile.
const STEPS: usize = 200_000;
/// Independent sums: more than an operation's latency times its ports, fewer than the registers.
const CHAINS: usize = 12;
/// Runs of each measurement; the best counts.
const ROUNDS: usize = 5;
/// Bytes that are read: many times the largest caches of one processor's share.
const READ_BYTES: usize = 512 << 20;

impl MachinePeaks {
    /// Measures for about a second.
    pub fn measure(pool: &Pool) -> MachinePeaks {
        let isa = pool.isa();
        // As weights lie: on huge pages where the system has them. Written to, so that the pages exist.
        let mut memory = Arena::default().zeroed(READ_BYTES);
        memory.fill(1);
        let part = READ_BYTES / TILES;
        MachinePeaks {
            int8_ops: rate(pool, |_| int8(isa)),
            f32_ops: rate(pool, |_| run_on(isa, Multiply)),
            bf16_ops: (isa.has_bf16() || isa == Isa::Amx).then(|| rate(pool, |_| bf16(isa))),
            read_bytes: rate(pool, |tile| run_on(isa, Read(&memory[tile * part..(tile + 1) * part]))),
        }
    }
}

/// What all tiles do in a second, in the unit that `work` gives back.
fn rate(pool: &Pool, work: impl Fn(usize) -> usize + Sync) -> f64 {
    let run = || {
        let done = AtomicUsize::new(0);
        let start = Instant::now();
        pool.run(TILES, &|tile, _| {
            done.fetch_add(work(tile), Ordering::Relaxed);
        });
        done.into_inner() as f64 / start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| run()).fold(0.0, f64::max)
}

/// Fused multiplications and additions of f32; gives the number of operations.
struct Multiply;

impl Kernel for Multiply {
    type Out = usize;

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        let (a, b) = (lanes.splat(black_box(0.5)), lanes.splat(black_box(1.0)));
        let mut sums: [L::V; CHAINS] = std::array::from_fn(|i| lanes.splat(i as f32));
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = lanes.fma(*sum, a, b);
            }
        }
        black_box(lanes.sum(sums.into_iter().fold(lanes.splat(0.0), |t, sum| lanes.add(t, sum))));
        STEPS * CHAINS * 2 * L::N
    }
}

/// Reads bytes, as floats of which the largest is kept; gives their number.
struct Read<'a>(&'a [u8]);

impl Kernel for Read<'_> {
    type Out = usize;

    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<L: Lanes>(self, lanes: L) -> usize {
        const VECTORS: usize = 4;
        let mut largest = [lanes.splat(0.0); VECTORS];
        let blocks = self.0.chunks_exact(VECTORS * L::N * size_of::<f32>());
        for block in blocks.clone() {
            for (i, largest) in largest.iter_mut().enumerate() {
                // SAFETY: a block holds VECTORS · N floats; i < VECTORS.
                let x = unsafe { lanes.load(block.as_ptr().cast::<f32>().add(i * L::N)) };
                *largest = lanes.max(*largest, x);
            }
        }
        black_box(lanes.largest(largest.into_iter().fold(lanes.splat(0.0), |t, x| lanes.max(t, x))));
        self.0.len() - blocks.remainder().len()
    }
}

/// Products of bytes into 32-bit sums; gives the number of operations.
fn int8(isa: Isa) -> usize {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool carries an `Isa` only after checking that the processor has it.
        #[allow(unsafe_code)]
        Isa::Avx512 => unsafe { x86::int8_avx512() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        #[allow(unsafe_code)]
        Isa::Amx => unsafe { crate::amx::peak(STEPS, false) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        #[allow(unsafe_code)]
        Isa::Avx2 => unsafe { x86::int8_avx2() },
        _ => int8_scalar(),
    }
}

fn int8_scalar() -> usize {
    const LANES: usize = 16;
    let (a, b) = black_box(([3i8; LANES], [5i8; LANES]));
    let mut sums = [0i32; LANES];
    for _ in 0..STEPS {
        for i in 0..LANES {
            sums[i] = sums[i].wrapping_add(i32::from(a[i]) * i32::from(b[i]));
        }
        sums = black_box(sums);
    }
    STEPS * 2 * LANES
}

/// Products of bf16 into f32 sums, where there are some; gives the number of operations.
fn bf16(isa: Isa) -> usize {
    assert!(isa.has_bf16() || isa == Isa::Amx);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: asked just now.
    #[allow(unsafe_code)]
    return unsafe { if isa == Isa::Amx { crate::amx::peak(STEPS, true) } else { x86::bf16_avx512() } };
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::{CHAINS, STEPS};

    #[target_feature(enable = "avx2")]
    pub(super) fn int8_avx2() -> usize {
        let ones = _mm256_set1_epi16(black_box(1));
        let (a, b) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(5)));
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                let pairs = _mm256_maddubs_epi16(hide(a), b);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        black_box(sums);
        STEPS * CHAINS * 2 * 32
    }

    /// Hides that equal operands give equal products, so that each chain computes its own; not `pure`, or equal
    /// calls would be joined.
    #[target_feature(enable = "avx2")]
    fn hide(mut x: __m256i) -> __m256i {
        // SAFETY: the assembly is empty: it reads and writes nothing but the register that it names.
        unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
        x
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn int8_avx512() -> usize {
        let (a, b) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(5)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        STEPS * CHAINS * 2 * 64
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_avx512() -> usize {
        let a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
            }
        }
        black_box(sums);
        STEPS * CHAINS * 2 * 32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Isa;

    #[test]
    fn every_instruction_set_of_this_machine_has_its_peaks() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let peaks = MachinePeaks::measure(&Pool::new(1, isa).unwrap());
            assert!(peaks.int8_ops > 1e8 && peaks.f32_ops > 1e8 && peaks.read_bytes > 1e8, "{peaks:?}");
        }
    }
}
