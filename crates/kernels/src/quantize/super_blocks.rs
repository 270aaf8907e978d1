//! Super-blocks of 256 weights, whose short runs have small whole scales under common f16 ones: Q4_K, Q5_K, Q6_K.
//!
//! Each run's scale (and minimum) is searched as if it stood alone, then rounded to the small numbers. What the
//! rounding costs is won back in turns: every run tries the neighbours of its small numbers, then the common
//! scales are the least-squares solution for the levels that came out, as long as the whole block gains.

use half::f16;

use super::scale_search::{
    Affine, Levels, Minimum, affine, as_f16, inverse, sums, symmetric, symmetric_error,
};
use crate::WeightType;
use crate::blocks::{BLOCK_LEN, Block, BlockQ4K, BlockQ5K, BlockQ6K, SUPER_LEN, pack_scales_and_mins};

/// Turns of neighbours and common scales.
const MAX_TURNS: usize = 2;
/// Candidates on either side of the plain scale of a run of Q6_K.
const STEPS_6: i32 = 5;

/// One block of `ty` into `out`. w: what each squared error counts.
#[inline(always)]
pub(super) fn quantize(ty: WeightType, x: &[f32; SUPER_LEN], w: &[f32; SUPER_LEN], out: &mut [u8]) {
    match ty {
        WeightType::Q4K | WeightType::Q5K => affine_block(ty, x, w, out),
        WeightType::Q6K => q6k(x, w).write(out),
        _ => unreachable!("{} has no blocks of {SUPER_LEN}", ty.name()),
    }
}

type Row = [f32; SUPER_LEN];

/// The runs of `N` weights of a super-block, each with what its errors count.
#[inline(always)]
fn runs<'a, const N: usize>(
    x: &'a Row,
    w: &'a Row,
) -> impl ExactSizeIterator<Item = (&'a [f32; N], &'a [f32; N])> {
    x.as_chunks().0.iter().zip(w.as_chunks().0)
}

/// Scales and minimums of a Q4_K or Q5_K super-block.
#[derive(Clone, Copy)]
struct AffineScales {
    d: f32,
    dmin: f32,
    scales: [u8; 8],
    mins: [u8; 8],
}

impl AffineScales {
    #[inline(always)]
    fn run(&self, scale: u8, min: u8) -> Affine {
        Affine { scale: self.d * f32::from(scale), min: -(self.dmin * f32::from(min)) }
    }

    /// The error of the whole super-block.
    #[inline(always)]
    fn error(&self, x: &Row, w: &Row, levels: Levels) -> f32 {
        let runs = runs::<BLOCK_LEN>(x, w).enumerate();
        runs.map(|(b, (x, w))| self.run(self.scales[b], self.mins[b]).error(x, w, levels)).sum()
    }

    /// The levels of all weights.
    #[inline(always)]
    fn levels(&self, x: &Row, levels: Levels) -> [u8; SUPER_LEN] {
        let mut q = [0; SUPER_LEN];
        for (b, (q, x)) in
            q.as_chunks_mut::<BLOCK_LEN>().0.iter_mut().zip(x.as_chunks::<BLOCK_LEN>().0).enumerate()
        {
            let by = self.run(self.scales[b], self.mins[b]);
            let inv = inverse(by.scale);
            *q = x.map(|x| by.nearest(x, inv, levels) as u8);
        }
        q
    }

    /// Moves each run's scale and minimum to the best of their neighbours.
    #[inline(always)]
    fn step_to_neighbours(&mut self, x: &Row, w: &Row, levels: Levels) {
        for (b, (x, w)) in runs::<BLOCK_LEN>(x, w).enumerate() {
            let (scale, min) = (self.scales[b], self.mins[b]);
            let mut least = f32::INFINITY;
            for scale in scale.saturating_sub(1)..=(scale + 1).min(63) {
                for min in min.saturating_sub(1)..=(min + 1).min(63) {
                    let error = self.run(scale, min).error(x, w, levels);
                    if error < least {
                        least = error;
                        (self.scales[b], self.mins[b]) = (scale, min);
                    }
                }
            }
        }
    }

    /// The common scales with the least squared error for the levels of now.
    #[inline(always)]
    fn fit(&self, x: &Row, w: &Row, levels: Levels) -> AffineScales {
        // x ≈ d · a − dmin · b, with a = scale · level and b = min
        let mut total = [0.0f32; 5];
        for (b, (x, w)) in runs::<BLOCK_LEN>(x, w).enumerate() {
            let by = self.run(self.scales[b], self.mins[b]);
            let inv = inverse(by.scale);
            let (scale, min) = (f32::from(self.scales[b]), f32::from(self.mins[b]));
            let run = sums::<BLOCK_LEN, 5>(|i| {
                let a = scale * by.nearest(x[i], inv, levels);
                [w[i] * a * a, w[i] * a * min, w[i] * min * min, w[i] * a * x[i], w[i] * min * x[i]]
            });
            total.iter_mut().zip(run).for_each(|(total, run)| *total += run);
        }
        let [aa, ab, bb, ax, bx] = total;
        let determinant = aa * bb - ab * ab;
        let (d, dmin) = match determinant > 0.0 {
            true => ((ax * bb - bx * ab) / determinant, (ax * ab - bx * aa) / determinant),
            // No minimums at all.
            false => (ax / aa, self.dmin),
        };
        // A negative scale would be one of the other solutions' business; it is then not taken.
        AffineScales { d: as_f16(d), dmin: as_f16(dmin), ..*self }
    }
}

/// Scales for x of a type with these levels.
#[inline(always)]
fn affine_scales(x: &Row, w: &Row, levels: Levels) -> AffineScales {
    let mut found = [Affine { scale: 0.0, min: 0.0 }; 8];
    for (b, (x, w)) in runs::<BLOCK_LEN>(x, w).enumerate() {
        found[b] = affine(x, w, levels, Minimum::AtMostZero);
    }
    let d = as_f16(found.iter().fold(0.0f32, |max, by| max.max(by.scale)) / 63.0);
    let dmin = as_f16(found.iter().fold(0.0f32, |max, by| max.max(-by.min)) / 63.0);
    let small = |x: f32, d: f32| (x * inverse(d)).round().clamp(0.0, 63.0) as u8;
    let mut best = AffineScales {
        d,
        dmin,
        scales: found.map(|by| small(by.scale, d)),
        mins: found.map(|by| small(-by.min, dmin)),
    };
    let mut least = f32::INFINITY;
    let mut next = best;
    for _ in 0..MAX_TURNS {
        next.step_to_neighbours(x, w, levels);
        let stepped = next.error(x, w, levels);
        if stepped < least {
            (best, least) = (next, stepped);
        }
        next = next.fit(x, w, levels);
        let fitted = next.error(x, w, levels);
        // Not so where a scale became negative, infinite or not a number.
        let is_valid = next.d >= 0.0 && next.dmin >= 0.0 && fitted < least;
        if !is_valid {
            break;
        }
        (best, least) = (next, fitted);
    }
    best
}

/// Blocks 2i and 2i + 1 in the low and high nibbles of bytes 32i..
#[inline(always)]
fn nibble_pairs(q: &[u8; SUPER_LEN]) -> [u8; 128] {
    std::array::from_fn(|i| (q[i / 32 * 64 + i % 32] & 15) | q[i / 32 * 64 + 32 + i % 32] << 4)
}

fn bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// Q4_K and Q5_K: w = d · scale · q − dmin · min
#[inline(always)]
fn affine_block(ty: WeightType, x: &Row, w: &Row, out: &mut [u8]) {
    let levels = Levels { low: 0.0, high: if ty == WeightType::Q4K { 15.0 } else { 31.0 } };
    let by = affine_scales(x, w, levels);
    let q = by.levels(x, levels);
    let (d, dmin, qs) = (bytes(by.d), bytes(by.dmin), nibble_pairs(&q));
    let scales = pack_scales_and_mins(&by.scales, &by.mins);
    match ty {
        WeightType::Q4K => BlockQ4K { d, dmin, scales, qs }.write(out),
        _ => BlockQ5K { d, dmin, scales, qh: fifth_bits(&q), qs }.write(out),
    }
}

/// Bit b of byte l is the fifth bit of column l of block b.
#[inline(always)]
fn fifth_bits(q: &[u8; SUPER_LEN]) -> [u8; 32] {
    std::array::from_fn(|l| (0..8).fold(0, |bits, b| bits | (q[32 * b + l] >> 4 & 1) << b))
}

/// Weights of a run of Q6_K.
const RUN_6: usize = 16;
const LEVELS_6: Levels = Levels { low: -32.0, high: 31.0 };

/// Scales of a Q6_K super-block.
#[derive(Clone, Copy)]
struct SymmetricScales {
    d: f32,
    scales: [i8; 16],
}

impl SymmetricScales {
    #[inline(always)]
    fn run(&self, scale: i8) -> f32 {
        self.d * f32::from(scale)
    }

    #[inline(always)]
    fn error(&self, x: &Row, w: &Row) -> f32 {
        let runs = runs::<RUN_6>(x, w).zip(self.scales);
        runs.map(|((x, w), scale)| symmetric_error(x, w, LEVELS_6, self.run(scale))).sum()
    }

    #[inline(always)]
    fn step_to_neighbours(&mut self, x: &Row, w: &Row) {
        for (b, (x, w)) in runs::<RUN_6>(x, w).enumerate() {
            let scale = self.scales[b];
            let mut least = f32::INFINITY;
            for scale in scale.saturating_sub(1)..=scale.saturating_add(1) {
                let error = symmetric_error(x, w, LEVELS_6, self.run(scale));
                if error < least {
                    (least, self.scales[b]) = (error, scale);
                }
            }
        }
    }

    #[inline(always)]
    fn fit(&self, x: &Row, w: &Row) -> SymmetricScales {
        let mut total = [0.0f32; 2];
        for ((x, w), scale) in runs::<RUN_6>(x, w).zip(self.scales) {
            let inv = inverse(self.run(scale));
            let run = sums::<RUN_6, 2>(|i| {
                let a = f32::from(scale) * LEVELS_6.nearest(x[i] * inv);
                [w[i] * a * a, w[i] * a * x[i]]
            });
            total.iter_mut().zip(run).for_each(|(total, run)| *total += run);
        }
        SymmetricScales { d: as_f16(total[1] / total[0]), ..*self }
    }
}

#[inline(always)]
fn symmetric_scales(x: &Row, w: &Row) -> SymmetricScales {
    let mut found = [0.0f32; 16];
    for (b, (x, w)) in runs::<RUN_6>(x, w).enumerate() {
        found[b] = symmetric(x, w, LEVELS_6, STEPS_6);
    }
    let largest = found.iter().fold(0.0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
    // The largest becomes −128, the one that reaches furthest.
    let d = as_f16(largest / -128.0);
    let scales = found.map(|s| (s * inverse(d)).round().clamp(-128.0, 127.0) as i8);
    let mut best = SymmetricScales { d, scales };
    let mut least = f32::INFINITY;
    let mut next = best;
    for _ in 0..MAX_TURNS {
        next.step_to_neighbours(x, w);
        let stepped = next.error(x, w);
        if stepped < least {
            (best, least) = (next, stepped);
        }
        next = next.fit(x, w);
        let fitted = next.error(x, w);
        let is_valid = next.d.is_finite() && fitted < least;
        if !is_valid {
            break;
        }
        (best, least) = (next, fitted);
    }
    best
}

#[inline(always)]
fn q6k(x: &Row, w: &Row) -> BlockQ6K {
    let by = symmetric_scales(x, w);
    let mut q = [0u8; SUPER_LEN];
    for (b, (q, x)) in q.as_chunks_mut::<RUN_6>().0.iter_mut().zip(x.as_chunks::<RUN_6>().0).enumerate() {
        let inv = inverse(by.run(by.scales[b]));
        *q = x.map(|x| (LEVELS_6.nearest(x * inv) + 32.0) as u8);
    }
    // A half of 128: four blocks of 32, the first two in low nibbles, the others in high ones.
    let ql = std::array::from_fn(|i| {
        let at = i / 64 * 128 + i % 64;
        (q[at] & 15) | q[at + 64] << 4
    });
    let qh = std::array::from_fn(|i| {
        let at = i / 32 * 128 + i % 32;
        (0..4).fold(0, |bits, b| bits | (q[at + 32 * b] >> 4) << (2 * b))
    });
    BlockQ6K { ql, qh, scales: by.scales.map(|s| s as u8), d: bytes(by.d) }
}
