//! Quantised weights times int8 activations with AVX2: eight rows in the lanes, up to six tokens.
//!
//! `maddubs` multiplies unsigned weights with signed activations and adds pairs into 16 bits. Weights of 4 bits
//! let the pairs of all 32 columns be added there before they are widened (15 · 127 · 16 = 30,480), 5 bits
//! of 16 columns (31 · 127 · 8 = 31,496), 6 bits of 8 (63 · 127 · 4 = 32,004). Signed bytes go in as magnitudes,
//! with their signs moved to the activations (128 · 127 · 2 = 32,512).
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use std::arch::x86_64::*;

use super::{Kernels, Output, TileKernel, fetch};
use crate::WeightType;
use crate::activations::{BLOCK_WORDS, MAX_WIDTH};
use crate::packed::{Layout, offset};

/// Rows in a register.
const ROWS: usize = 8;

pub(super) fn kernels(ty: WeightType) -> Kernels {
    macro_rules! widths {
        ($ty:ident) => {
            [
                tile::<{ WeightType::$ty as u8 }, 1>,
                tile::<{ WeightType::$ty as u8 }, 2>,
                tile::<{ WeightType::$ty as u8 }, 3>,
                tile::<{ WeightType::$ty as u8 }, 4>,
                tile::<{ WeightType::$ty as u8 }, 5>,
                tile::<{ WeightType::$ty as u8 }, 6>,
                // Panels of this instruction set are not wider.
                tile::<{ WeightType::$ty as u8 }, 6>,
                tile::<{ WeightType::$ty as u8 }, 6>,
            ]
        };
    }
    let one: [TileKernel; MAX_WIDTH] = super::for_quantised!(ty, widths);
    Kernels { n_groups: 1, one, several: one }
}

/// One group of eight rows times T tokens.
///
/// # Safety
/// As [`TileKernel`]; the processor must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<const TY: u8, const T: usize>(
    weights: *const u8,
    _group_bytes: usize,
    n_supers: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    let is_k = const { layout_has_header(TY) };
    let mut acc = [_mm256_setzero_ps(); T];
    let (mut w, mut a) = (weights, activations);
    for t in 0..T {
        // The lines that will be written come while the products are computed.
        output.prefetch(t);
    }
    for _ in 0..n_supers {
        let (mut d, mut dmin) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        if is_k {
            // SAFETY: a group is `n_supers` headers, each with its blocks, as `layout` says.
            unsafe {
                d = load_f16(w);
                if !matches!(const { WeightType::ALL[TY as usize] }, WeightType::Q6K) {
                    dmin = load_f16(w.add(2 * ROWS));
                }
                w = w.add(layout.header);
            }
        }
        for _ in 0..layout.n_blocks {
            if output.fetch_ahead > 0 {
                fetch(w.wrapping_add(output.fetch_ahead), layout.block);
            }
            // SAFETY: as above; the panel has a block of T tokens for each block of the group.
            unsafe {
                block::<TY, T>(w, a, d, dmin, &mut acc);
                w = w.add(layout.block);
                a = a.add(BLOCK_WORDS * T);
            }
        }
    }
    for (t, acc) in acc.into_iter().enumerate() {
        let (at, n_rows) = output.place(t, 0);
        let mut buffer = [0.0; ROWS];
        // SAFETY: the buffer holds eight floats; the caller owns the rows of the output.
        unsafe {
            if n_rows < ROWS {
                _mm256_storeu_ps(buffer.as_mut_ptr(), acc);
                output.put(t, 0, &buffer);
                continue;
            }
            let out = output.out.range(at, ROWS).as_mut_ptr();
            let value = match output.add {
                Some(scale) => _mm256_add_ps(_mm256_mul_ps(_mm256_set1_ps(scale), acc), _mm256_loadu_ps(out)),
                None => acc,
            };
            _mm256_storeu_ps(out, value);
        }
    }
}

const fn layout_has_header(ty: u8) -> bool {
    Layout::new(WeightType::ALL[ty as usize], ROWS).header > 0
}

/// Eight f16 at `from`.
///
/// # Safety
/// 16 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_f16(from: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(from.cast()) })
}

/// Eight bytes at `from` as floats.
///
/// # Safety
/// 8 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_u8(from: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(from.cast()) }))
}

/// Eight signed bytes at `from` as floats.
///
/// # Safety
/// 8 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn load_i8(from: *const u8) -> __m256 {
    // SAFETY: as the caller promises.
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(from.cast()) }))
}

/// acc += the group's block at `w` times the panel's block at `a`.
///
/// # Safety
/// A block of the type's layout must be readable at `w`, one of T tokens at `a`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block<const TY: u8, const T: usize>(
    w: *const u8,
    a: *const u32,
    d: __m256,
    dmin: __m256,
    acc: &mut [__m256; T],
) {
    let ty = const { WeightType::ALL[TY as usize] };
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    // SAFETY (of all blocks below): offsets are those of the layout, inside the block; words of the panel's
    // block are numbered below 11 · T.
    match ty {
        WeightType::Q8_0 => {
            // SAFETY: see above.
            let (sums, scale) = unsafe { (dot_i8::<T>(w.add(layout.quants), a), load_f16(w)) };
            // SAFETY: see above.
            unsafe { add_scaled::<T>(acc, &sums, scale, a) };
        }
        WeightType::Q6K => {
            for half in 0..2 {
                // SAFETY: see above.
                unsafe {
                    let mut sums = dot_6::<T>(w.add(layout.quants), w.add(layout.high), a, half);
                    take_offset::<TY, T>(&mut sums, a, [half == 0, half == 1]);
                    let scale = _mm256_mul_ps(d, load_i8(w.add(half * layout.min)));
                    add_scaled::<T>(acc, &sums, scale, a);
                }
            }
        }
        _ => {
            // SAFETY: see above.
            unsafe {
                let mut sums = match ty {
                    WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q5K => {
                        dot_5::<T>(w.add(layout.quants), w.add(layout.high), a)
                    }
                    _ => dot_4::<T>(w.add(layout.quants), a),
                };
                take_offset::<TY, T>(&mut sums, a, [true, true]);
                let (scale, min) = match ty {
                    WeightType::Q4_1 | WeightType::Q5_1 => (load_f16(w), Some(load_f16(w.add(layout.min)))),
                    WeightType::Q4K | WeightType::Q5K => {
                        let min = _mm256_mul_ps(dmin, load_u8(w.add(layout.min)));
                        (_mm256_mul_ps(d, load_u8(w)), Some(_mm256_sub_ps(_mm256_setzero_ps(), min)))
                    }
                    _ => (load_f16(w), None),
                };
                add_scaled::<T>(acc, &sums, scale, a);
                if let Some(min) = min {
                    add_min::<T>(acc, min, a.add(9 * T));
                }
            }
        }
    }
}

/// acc[t] += sums[t] · scale · the panel's scale of token t
///
/// # Safety
/// `a` must be a block of T tokens.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_scaled<const T: usize>(
    acc: &mut [__m256; T],
    sums: &[__m256i; T],
    scale: __m256,
    a: *const u32,
) {
    for t in 0..T {
        // SAFETY: words 8T.. of the block are its scales.
        let token_scale = unsafe { _mm256_broadcast_ss(&*a.add(8 * T + t).cast()) };
        acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[t]), _mm256_mul_ps(scale, token_scale), acc[t]);
    }
}

/// acc[t] += min · sums[t]
///
/// # Safety
/// T floats must be readable at `sums`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_min<const T: usize>(acc: &mut [__m256; T], min: __m256, sums: *const u32) {
    for t in 0..T {
        // SAFETY: as the caller promises.
        acc[t] = _mm256_fmadd_ps(min, unsafe { _mm256_broadcast_ss(&*sums.add(t).cast()) }, acc[t]);
    }
}

/// Takes the type's offset times the activations from sums of products, over the halves of the block that they are of.
///
/// # Safety
/// `a` must be a block of T tokens.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn take_offset<const TY: u8, const T: usize>(
    sums: &mut [__m256i; T],
    a: *const u32,
    halves: [bool; 2],
) {
    let offset = const { offset(WeightType::ALL[TY as usize]) };
    if offset == 0 {
        return;
    }
    let [low, high] = halves.map(|is_in| if is_in { -offset } else { 0 });
    let factors = _mm256_set1_epi32(high << 16 | low & 0xffff);
    for t in 0..T {
        // SAFETY: words 10T.. of the block are its sums of halves.
        let pair = _mm256_set1_epi32(unsafe { *a.add(10 * T + t) } as i32);
        sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pair, factors));
    }
}

/// Four columns of token `t`, for every row.
///
/// # Safety
/// `a` must be a block of T tokens; `g` below 8, `t` below T.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn columns<const T: usize>(a: *const u32, g: usize, t: usize) -> __m256i {
    // SAFETY: as the caller promises.
    _mm256_set1_epi32(unsafe { *a.add(g * T + t) } as i32)
}

/// Sums over 32 columns of 4-bit weights.
///
/// # Safety
/// 128 bytes at `nibbles`, a block of T tokens at `a`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_4<const T: usize>(nibbles: *const u8, a: *const u32) -> [__m256i; T] {
    let mask = _mm256_set1_epi8(15);
    let mut pairs = [_mm256_setzero_si256(); T];
    for j in 0..4 {
        // SAFETY: four registers of nibbles; dwords j and j + 4 of the panel's block.
        unsafe {
            let raw = _mm256_loadu_si256(nibbles.add(32 * j).cast());
            let low = _mm256_and_si256(raw, mask);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(raw), mask);
            for t in 0..T {
                pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(low, columns::<T>(a, j, t)));
            }
            for t in 0..T {
                pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(high, columns::<T>(a, j + 4, t)));
            }
        }
    }
    pairs.map(|pairs| _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Bit g of every byte, moved to bit 4.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn fifth_bit(high: __m256i, g: usize) -> __m256i {
    let moved = match g {
        0 => _mm256_slli_epi16::<4>(high),
        1 => _mm256_slli_epi16::<3>(high),
        2 => _mm256_slli_epi16::<2>(high),
        3 => _mm256_slli_epi16::<1>(high),
        4 => high,
        5 => _mm256_srli_epi16::<1>(high),
        6 => _mm256_srli_epi16::<2>(high),
        _ => _mm256_srli_epi16::<3>(high),
    };
    _mm256_and_si256(moved, _mm256_set1_epi8(16))
}

/// Sums over 32 columns of 5-bit weights.
///
/// # Safety
/// 128 bytes at `nibbles`, 32 at `high`, a block of T tokens at `a`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_5<const T: usize>(nibbles: *const u8, high: *const u8, a: *const u32) -> [__m256i; T] {
    let mask = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    // SAFETY: as the caller promises.
    let bits = unsafe { _mm256_loadu_si256(high.cast()) };
    let mut sums = [_mm256_setzero_si256(); T];
    for half in 0..2 {
        let mut pairs = [_mm256_setzero_si256(); T];
        for j in [2 * half, 2 * half + 1] {
            // SAFETY: four registers of nibbles; dwords j and j + 4 of the panel's block.
            unsafe {
                let raw = _mm256_loadu_si256(nibbles.add(32 * j).cast());
                let low = _mm256_or_si256(_mm256_and_si256(raw, mask), fifth_bit(bits, j));
                let top = _mm256_and_si256(_mm256_srli_epi16::<4>(raw), mask);
                let top = _mm256_or_si256(top, fifth_bit(bits, j + 4));
                for t in 0..T {
                    pairs[t] = _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(low, columns::<T>(a, j, t)));
                }
                for t in 0..T {
                    pairs[t] =
                        _mm256_add_epi16(pairs[t], _mm256_maddubs_epi16(top, columns::<T>(a, j + 4, t)));
                }
            }
        }
        for t in 0..T {
            sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs[t], ones));
        }
    }
    sums
}

/// Sums over columns 0..16 or 16..32 (`half`) of 6-bit weights.
///
/// # Safety
/// 128 bytes at `nibbles`, 64 at `high`, a block of T tokens at `a`; `half` below 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_6<const T: usize>(
    nibbles: *const u8,
    high: *const u8,
    a: *const u32,
    half: usize,
) -> [__m256i; T] {
    let mask = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    // SAFETY: as the caller promises.
    let bits = unsafe { _mm256_loadu_si256(high.add(32 * half).cast()) };
    let mut sums = [_mm256_setzero_si256(); T];
    for pair in 0..2 {
        let mut pairs = [_mm256_setzero_si256(); T];
        for j in [2 * pair, 2 * pair + 1] {
            // SAFETY: four registers of nibbles; dwords 0..8 of the panel's block.
            unsafe {
                let raw = _mm256_loadu_si256(nibbles.add(32 * j).cast());
                let four = if half == 0 { raw } else { _mm256_srli_epi16::<4>(raw) };
                let two = match j {
                    0 => _mm256_slli_epi16::<4>(bits),
                    1 => _mm256_slli_epi16::<2>(bits),
                    2 => bits,
                    _ => _mm256_srli_epi16::<2>(bits),
                };
                let two = _mm256_and_si256(two, _mm256_set1_epi8(0x30));
                let weights = _mm256_or_si256(_mm256_and_si256(four, mask), two);
                for t in 0..T {
                    let product = _mm256_maddubs_epi16(weights, columns::<T>(a, 4 * half + j, t));
                    pairs[t] = _mm256_add_epi16(pairs[t], product);
                }
            }
        }
        for t in 0..T {
            sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs[t], ones));
        }
    }
    sums
}

/// Sums over 32 columns of signed bytes.
///
/// # Safety
/// 256 bytes at `quants`, a block of T tokens at `a`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_i8<const T: usize>(quants: *const u8, a: *const u32) -> [__m256i; T] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); T];
    for g in 0..8 {
        // SAFETY: eight registers of bytes; dword g of the panel's block.
        unsafe {
            let weights = _mm256_loadu_si256(quants.add(32 * g).cast());
            let magnitudes = _mm256_abs_epi8(weights);
            for t in 0..T {
                let signed = _mm256_sign_epi8(columns::<T>(a, g, t), weights);
                let pairs = _mm256_maddubs_epi16(magnitudes, signed);
                sums[t] = _mm256_add_epi32(sums[t], _mm256_madd_epi16(pairs, ones));
            }
        }
    }
    sums
}
