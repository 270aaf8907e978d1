//! What this machine can give at most: integer and float operations and bytes read per second, by all workers of
//! a pool. A benchmark's figures mean something beside these only, and only from the same run: machines are
//! shared, and the same one was seen to change within minutes.

use std::time::Instant;

use crate::Pool;
use crate::aligned::Arena;

/// The bounds of a machine, best of a few short runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MachinePeaks {
    /// Multiplications and additions of bytes into 32-bit sums, per second: `vpdpbusd` with AVX-512 VNNI,
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
/// Runs of each measurement; the best counts.
const ROUNDS: usize = 5;
/// Bytes that are read: many times the largest caches of one processor's share.
const READ_BYTES: usize = 512 << 20;

impl MachinePeaks {
    /// Measures for about a second.
    pub fn measure(pool: &Pool) -> MachinePeaks {
        let kernels = Kernels::of(pool);
        let ops = |kernel: fn(usize) -> u64, per_step: usize| {
            let run = || {
                pool.run(TILES, &|_, _| {
                    std::hint::black_box(kernel(STEPS));
                })
            };
            (TILES * STEPS * per_step) as f64 / best_seconds(run)
        };
        // As weights lie: on huge pages where the system has them. Written to, so that the pages exist.
        let mut memory = Arena::default().zeroed(READ_BYTES);
        memory.fill(1);
        let part = READ_BYTES / TILES;
        let read = || {
            pool.run(TILES, &|tile, _| {
                std::hint::black_box((kernels.read)(&memory[tile * part..(tile + 1) * part]));
            })
        };
        MachinePeaks {
            int8_ops: ops(kernels.int8, kernels.int8_per_step),
            f32_ops: ops(kernels.float, kernels.float_per_step),
            bf16_ops: kernels.bf16.map(|(kernel, per_step)| ops(kernel, per_step)),
            read_bytes: (TILES * part) as f64 / best_seconds(read),
        }
    }
}

fn best_seconds(run: impl Fn()) -> f64 {
    let timed = || {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..ROUNDS).map(|_| timed()).fold(f64::INFINITY, f64::min)
}

/// The loops of one instruction set. Each takes a number of steps and returns something that depends on all.
struct Kernels {
    int8: fn(usize) -> u64,
    int8_per_step: usize,
    float: fn(usize) -> u64,
    float_per_step: usize,
    bf16: Option<(fn(usize) -> u64, usize)>,
    read: fn(&[u8]) -> u64,
}

impl Kernels {
    fn of(pool: &Pool) -> Kernels {
        match pool.isa() {
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx512 => x86::avx512(),
            #[cfg(target_arch = "x86_64")]
            crate::Isa::Avx2 => x86::avx2(),
            _ => Kernels {
                int8: scalar_int8,
                int8_per_step: 2 * LANES,
                float: scalar_float,
                float_per_step: 2 * LANES,
                bf16: None,
                read: scalar_read,
            },
        }
    }
}

/// Independent sums of the scalar loops.
const LANES: usize = 16;

fn scalar_int8(n_steps: usize) -> u64 {
    let (a, b) = std::hint::black_box(([3i8; LANES], [5i8; LANES]));
    let mut sums = [0i32; LANES];
    for _ in 0..n_steps {
        for i in 0..LANES {
            sums[i] = sums[i].wrapping_add(i32::from(a[i]) * i32::from(b[i]));
        }
        sums = std::hint::black_box(sums);
    }
    sums.iter().map(|x| u64::from(x.unsigned_abs())).sum()
}

fn scalar_float(n_steps: usize) -> u64 {
    let (a, b) = std::hint::black_box(([0.5f32; LANES], [1.0f32; LANES]));
    let mut sums = [0f32; LANES];
    for _ in 0..n_steps {
        for i in 0..LANES {
            sums[i] = sums[i] * a[i] + b[i];
        }
        sums = std::hint::black_box(sums);
    }
    sums.iter().sum::<f32>().to_bits().into()
}

fn scalar_read(memory: &[u8]) -> u64 {
    memory.as_chunks::<8>().0.iter().fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(unsafe_code)]
    use std::arch::x86_64::*;
    use std::hint::black_box;

    use super::Kernels;

    /// Independent sums: more than an operation's latency times its ports, fewer than the registers.
    const CHAINS: usize = 12;

    pub(super) fn avx2() -> Kernels {
        Kernels {
            // SAFETY: a pool carries an `Isa` only after checking that the processor has it.
            int8: |n| unsafe { int8_avx2(n) },
            int8_per_step: CHAINS * 2 * 32,
            // SAFETY: as above.
            float: |n| unsafe { float_avx2(n) },
            float_per_step: CHAINS * 2 * 8,
            bf16: None,
            // SAFETY: as above.
            read: |memory| unsafe { read_avx2(memory) },
        }
    }

    pub(super) fn avx512() -> Kernels {
        let has_bf16 = is_x86_feature_detected!("avx512bf16");
        // SAFETY: given out only where the processor has it.
        let bf16: fn(usize) -> u64 = |n| unsafe { bf16_avx512(n) };
        Kernels {
            // SAFETY: a pool carries an `Isa` only after checking that the processor has it.
            int8: |n| unsafe { int8_avx512(n) },
            int8_per_step: CHAINS * 2 * 64,
            // SAFETY: as above.
            float: |n| unsafe { float_avx512(n) },
            float_per_step: CHAINS * 2 * 16,
            bf16: has_bf16.then_some((bf16, CHAINS * 2 * 32)),
            // SAFETY: as above.
            read: |memory| unsafe { read_avx512(memory) },
        }
    }

    #[target_feature(enable = "avx2")]
    fn int8_avx2(n_steps: usize) -> u64 {
        let ones = _mm256_set1_epi16(black_box(1));
        let mut a = _mm256_set1_epi8(black_box(3));
        let b = _mm256_set1_epi8(black_box(5));
        let mut sums = [_mm256_setzero_si256(); CHAINS];
        for _ in 0..n_steps {
            // A fresh operand each step keeps the product inside the loop.
            a = _mm256_xor_si256(a, ones);
            for sum in &mut sums {
                let pairs = _mm256_maddubs_epi16(keep(a), b);
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
            }
        }
        let total = sums.into_iter().fold(_mm256_setzero_si256(), |t, sum| _mm256_add_epi32(t, sum));
        _mm256_extract_epi64::<0>(total) as u64
    }

    /// Hides that equal operands give equal products, so that each chain computes its own; not `pure`, or equal calls
    /// would be joined.
    #[target_feature(enable = "avx2")]
    fn keep(mut x: __m256i) -> __m256i {
        // SAFETY: the assembly is empty: it reads and writes nothing but the register that it names.
        unsafe { std::arch::asm!("/* {0} */", inout(ymm_reg) x, options(nomem, nostack, preserves_flags)) };
        x
    }

    #[target_feature(enable = "avx2,fma")]
    fn float_avx2(n_steps: usize) -> u64 {
        let (a, b) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [_mm256_setzero_ps(); CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_set1_ps(i as f32);
        }
        for _ in 0..n_steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(_mm256_setzero_ps(), |t, sum| _mm256_add_ps(t, sum));
        _mm256_cvtss_f32(total).to_bits().into()
    }

    #[target_feature(enable = "avx2")]
    fn read_avx2(memory: &[u8]) -> u64 {
        let (blocks, _) = memory.as_chunks::<128>();
        let mut sums = [_mm256_setzero_si256(); 4];
        for block in blocks {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: block holds 128 bytes; 32 * i + 31 < 128.
                *sum =
                    unsafe { _mm256_xor_si256(*sum, _mm256_loadu_si256(block.as_ptr().add(32 * i).cast())) };
            }
        }
        let total = sums.into_iter().fold(_mm256_setzero_si256(), |t, sum| _mm256_xor_si256(t, sum));
        _mm256_extract_epi64::<0>(total) as u64
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn int8_avx512(n_steps: usize) -> u64 {
        let mut a = _mm512_set1_epi8(black_box(3));
        let (b, ones) = (_mm512_set1_epi8(black_box(5)), _mm512_set1_epi8(black_box(1)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..n_steps {
            a = _mm512_xor_si512(a, ones);
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(_mm512_setzero_si512(), |t, sum| _mm512_add_epi32(t, sum));
        _mm512_reduce_add_epi64(total) as u64
    }

    #[target_feature(enable = "avx512f")]
    fn float_avx512(n_steps: usize) -> u64 {
        let (a, b) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(i as f32);
        }
        for _ in 0..n_steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(_mm512_setzero_ps(), |t, sum| _mm512_add_ps(t, sum));
        _mm512_reduce_add_ps(total).to_bits().into()
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_avx512(n_steps: usize) -> u64 {
        let a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_set1_ps(i as f32);
        }
        for _ in 0..n_steps {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, a, a);
            }
        }
        let total = sums.into_iter().fold(_mm512_setzero_ps(), |t, sum| _mm512_add_ps(t, sum));
        _mm512_reduce_add_ps(total).to_bits().into()
    }

    #[target_feature(enable = "avx512f")]
    fn read_avx512(memory: &[u8]) -> u64 {
        let (blocks, _) = memory.as_chunks::<256>();
        let mut sums = [_mm512_setzero_si512(); 4];
        for block in blocks {
            for (i, sum) in sums.iter_mut().enumerate() {
                // SAFETY: block holds 256 bytes; 64 * i + 63 < 256.
                *sum =
                    unsafe { _mm512_xor_si512(*sum, _mm512_loadu_si512(block.as_ptr().add(64 * i).cast())) };
            }
        }
        let total = sums.into_iter().fold(_mm512_setzero_si512(), |t, sum| _mm512_xor_si512(t, sum));
        _mm512_reduce_add_epi64(total) as u64
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
