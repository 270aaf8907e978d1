//! Quantised weights times int8 activations with AVX-512 VNNI: sixteen rows in the lanes, one group times up to
//! eight tokens or two groups times up to six.
//!
//! `vpdpbusd` multiplies unsigned weights with signed activations and adds four products into 32 bits, so all
//! types are alike. Signed bytes are made unsigned by adding 128, which is taken back like the other offsets: sums begin
//! with minus the offset times the sum of the activations.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use std::arch::x86_64::*;

use super::{Kernels, Output, TileKernel, fetch};
use crate::WeightType;
use crate::activations::{BLOCK_WORDS, MAX_WIDTH};
use crate::packed::{Layout, offset};

/// What is added to signed bytes.
const SIGNED_OFFSET: i32 = 128;
/// Rows in a register.
pub(super) const ROWS: usize = 16;

pub(super) fn kernels(ty: WeightType) -> Kernels {
    macro_rules! one {
        ($ty:ident) => {
            [
                tile::<{ WeightType::$ty as u8 }, 1, 1>,
                tile::<{ WeightType::$ty as u8 }, 2, 1>,
                tile::<{ WeightType::$ty as u8 }, 3, 1>,
                tile::<{ WeightType::$ty as u8 }, 4, 1>,
                tile::<{ WeightType::$ty as u8 }, 5, 1>,
                tile::<{ WeightType::$ty as u8 }, 6, 1>,
                tile::<{ WeightType::$ty as u8 }, 7, 1>,
                tile::<{ WeightType::$ty as u8 }, MAX_WIDTH, 1>,
            ]
        };
    }
    macro_rules! two {
        ($ty:ident) => {
            [
                tile_twice::<{ WeightType::$ty as u8 }, 1>,
                tile::<{ WeightType::$ty as u8 }, 2, 2>,
                tile::<{ WeightType::$ty as u8 }, 3, 2>,
                tile::<{ WeightType::$ty as u8 }, 4, 2>,
                tile::<{ WeightType::$ty as u8 }, 5, 2>,
                tile::<{ WeightType::$ty as u8 }, 6, 2>,
                tile_twice::<{ WeightType::$ty as u8 }, 7>,
                tile_twice::<{ WeightType::$ty as u8 }, MAX_WIDTH>,
            ]
        };
    }
    let one: [TileKernel; MAX_WIDTH] = super::for_quantised!(ty, one);
    let two: [TileKernel; MAX_WIDTH] = super::for_quantised!(ty, two);
    Kernels { n_groups: 2, one, several: two }
}

/// Two groups of rows one after the other, for panels whose sums fill the registers with one.
///
/// # Safety
/// As [`TileKernel`]; the processor must have AVX-512 F, BW, VL, VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile_twice<const TY: u8, const T: usize>(
    weights: *const u8,
    group_bytes: usize,
    n_supers: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let second = Output { first: output.first + ROWS, n_rows: output.n_rows.saturating_sub(ROWS), ..*output };
    // SAFETY: as the caller promises, for each of the two groups.
    unsafe {
        tile::<TY, T, 1>(weights, group_bytes, n_supers, activations, output);
        tile::<TY, T, 1>(weights.add(group_bytes), group_bytes, n_supers, activations, &second);
    }
}

/// G groups of sixteen rows times T tokens.
///
/// # Safety
/// As [`TileKernel`]; the processor must have AVX-512 F, BW, VL, VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<const TY: u8, const T: usize, const G: usize>(
    weights: *const u8,
    group_bytes: usize,
    n_supers: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    let mut acc = [[_mm512_setzero_ps(); T]; G];
    let (mut w, mut a) = (weights, activations);
    for t in 0..T {
        // The lines that will be written come while the products are computed.
        output.prefetch(t);
    }
    for _ in 0..n_supers {
        let mut d = [_mm512_setzero_ps(); G];
        let mut dmin = [_mm512_setzero_ps(); G];
        if const { Layout::new(WeightType::ALL[TY as usize], ROWS).header > 0 } {
            for g in 0..G {
                // SAFETY: a group is `n_supers` headers, each with its blocks, as `layout` says.
                unsafe {
                    d[g] = load_f16(w.add(g * group_bytes));
                    if !matches!(const { WeightType::ALL[TY as usize] }, WeightType::Q6K) {
                        dmin[g] = load_f16(w.add(g * group_bytes + 2 * ROWS));
                    }
                }
            }
            // SAFETY: as above.
            w = unsafe { w.add(layout.header) };
        }
        for _ in 0..layout.n_blocks {
            if output.fetch_ahead > 0 {
                for g in 0..G {
                    fetch(w.wrapping_add(g * group_bytes + output.fetch_ahead), layout.block);
                }
            }
            // SAFETY: as above; the panel has a block of T tokens for each block of the group.
            unsafe {
                block::<TY, T, G>(w, group_bytes, a, &d, &dmin, &mut acc);
                w = w.add(layout.block);
                a = a.add(BLOCK_WORDS * T);
            }
        }
    }
    for (g, acc) in acc.into_iter().enumerate() {
        for (t, acc) in acc.into_iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { store(acc, t, g * ROWS, output) };
        }
    }
}

/// Puts the sums of sixteen rows from `row` on to their place, as far as there are so many.
///
/// # Safety
/// The rows must belong to the calling tile.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn store(acc: __m512, token: usize, row: usize, output: &Output<'_>) {
    let (at, n_rows) = output.place(token, row);
    // SAFETY: the buffer holds sixteen floats; the caller owns the rows of the output.
    unsafe {
        if n_rows < ROWS {
            let mut buffer = [0.0; ROWS];
            _mm512_storeu_ps(buffer.as_mut_ptr(), acc);
            output.put(token, row, &buffer);
            return;
        }
        let out = output.out.range(at, ROWS).as_mut_ptr();
        let value = match output.add {
            Some(scale) => _mm512_add_ps(_mm512_mul_ps(_mm512_set1_ps(scale), acc), _mm512_loadu_ps(out)),
            None => acc,
        };
        _mm512_storeu_ps(out, value);
    }
}

/// Sixteen f16 at `from`.
///
/// # Safety
/// 32 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn load_f16(from: *const u8) -> __m512 {
    // SAFETY: as the caller promises.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(from.cast()) })
}

/// Sixteen bytes at `from` as floats.
///
/// # Safety
/// 16 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn load_u8(from: *const u8) -> __m512 {
    // SAFETY: as the caller promises.
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(from.cast()) }))
}

/// Sixteen signed bytes at `from` as floats.
///
/// # Safety
/// 16 bytes must be readable there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn load_i8(from: *const u8) -> __m512 {
    // SAFETY: as the caller promises.
    _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(from.cast()) }))
}

/// acc += the blocks of G groups at `w` times the panel's block at `a`.
///
/// # Safety
/// A block of the type's layout must be readable at `w` and at each further `group_bytes`, one of T tokens at
/// `a`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn block<const TY: u8, const T: usize, const G: usize>(
    w: *const u8,
    group_bytes: usize,
    a: *const u32,
    d: &[__m512; G],
    dmin: &[__m512; G],
    acc: &mut [[__m512; T]; G],
) {
    let ty = const { WeightType::ALL[TY as usize] };
    // Columns 0..32 at once, or 0..16 and 16..32 for the type with a scale for each 16.
    let n_parts = if matches!(ty, WeightType::Q6K) { 2 } else { 1 };
    for part in 0..n_parts {
        let mut sums = [[_mm512_setzero_si512(); T]; G];
        let offset = if matches!(ty, WeightType::Q8_0) { SIGNED_OFFSET } else { offset(ty) };
        if offset != 0 {
            let factor = |is_in: bool| if is_in { -offset } else { 0 };
            let factors = factor(n_parts == 1 || part == 1) << 16 | factor(part == 0) & 0xffff;
            for t in 0..T {
                // SAFETY: words 10T.. of the panel's block are its sums of halves.
                let pair = _mm512_set1_epi32(unsafe { *a.add(10 * T + t) } as i32);
                let begin = _mm512_madd_epi16(pair, _mm512_set1_epi32(factors));
                for g in 0..G {
                    sums[g][t] = begin;
                }
            }
        }
        for step in 0..8 / n_parts {
            // Low nibbles are dwords 0..4, high ones 4..8: in turn, so that a register is loaded once.
            let dword = match n_parts {
                1 => step % 2 * 4 + step / 2,
                _ => part * 4 + step,
            };
            // SAFETY: parts of the block as the layout says; dwords below 8, tokens below T.
            unsafe {
                let weights: [__m512i; G] =
                    std::array::from_fn(|g| weights_of::<TY>(w.add(g * group_bytes), dword));
                for t in 0..T {
                    let columns = _mm512_set1_epi32(*a.add(dword * T + t) as i32);
                    for g in 0..G {
                        sums[g][t] = _mm512_dpbusd_epi32(sums[g][t], weights[g], columns);
                    }
                }
            }
        }
        for g in 0..G {
            // SAFETY: as above; words 8T.. of the panel's block are scales, words 9T.. sums.
            unsafe {
                let (scale, min) = scales_of::<TY>(w.add(g * group_bytes), part, d[g], dmin[g]);
                for t in 0..T {
                    let token_scale = _mm512_set1_ps(f32::from_bits(*a.add(8 * T + t)));
                    let factor = _mm512_mul_ps(scale, token_scale);
                    acc[g][t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[g][t]), factor, acc[g][t]);
                    if let Some(min) = min {
                        let token_sum = _mm512_set1_ps(f32::from_bits(*a.add(9 * T + t)));
                        acc[g][t] = _mm512_fmadd_ps(min, token_sum, acc[g][t]);
                    }
                }
            }
        }
    }
}

/// The scales of every row of a block (of its 16 columns number `part` for the type that has two), and its minimums;
/// `d` and `dmin` are what the header says.
///
/// # Safety
/// A block of the type's layout must be readable at `w`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn scales_of<const TY: u8>(
    w: *const u8,
    part: usize,
    d: __m512,
    dmin: __m512,
) -> (__m512, Option<__m512>) {
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    // SAFETY: parts of the block as the layout says.
    unsafe {
        match const { WeightType::ALL[TY as usize] } {
            WeightType::Q4_1 | WeightType::Q5_1 => (load_f16(w), Some(load_f16(w.add(layout.min)))),
            WeightType::Q4K | WeightType::Q5K => {
                let min = _mm512_mul_ps(dmin, load_u8(w.add(layout.min)));
                (_mm512_mul_ps(d, load_u8(w)), Some(_mm512_sub_ps(_mm512_setzero_ps(), min)))
            }
            WeightType::Q6K => (_mm512_mul_ps(d, load_i8(w.add(part * layout.min))), None),
            _ => (load_f16(w), None),
        }
    }
}

/// Four columns of every row of a block, as unsigned bytes.
///
/// # Safety
/// A block of the type's layout must be readable at `w`; `dword` below 8.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn weights_of<const TY: u8>(w: *const u8, dword: usize) -> __m512i {
    let ty = const { WeightType::ALL[TY as usize] };
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    // SAFETY: as the caller promises, at the offsets of the layout.
    unsafe {
        if matches!(ty, WeightType::Q8_0) {
            let signed = _mm512_loadu_si512(w.add(layout.quants + 64 * dword).cast());
            return _mm512_xor_si512(signed, _mm512_set1_epi8(-128));
        }
        let raw = _mm512_loadu_si512(w.add(layout.quants + 64 * (dword % 4)).cast());
        let four = if dword < 4 { raw } else { _mm512_srli_epi16::<4>(raw) };
        let four = _mm512_and_si512(four, _mm512_set1_epi8(15));
        match ty {
            WeightType::Q5_0 | WeightType::Q5_1 | WeightType::Q5K => {
                let bits = _mm512_loadu_si512(w.add(layout.high).cast());
                let moved = match dword {
                    0 => _mm512_slli_epi16::<4>(bits),
                    1 => _mm512_slli_epi16::<3>(bits),
                    2 => _mm512_slli_epi16::<2>(bits),
                    3 => _mm512_slli_epi16::<1>(bits),
                    4 => bits,
                    5 => _mm512_srli_epi16::<1>(bits),
                    6 => _mm512_srli_epi16::<2>(bits),
                    _ => _mm512_srli_epi16::<3>(bits),
                };
                _mm512_or_si512(four, _mm512_and_si512(moved, _mm512_set1_epi8(16)))
            }
            WeightType::Q6K => {
                let bits = _mm512_loadu_si512(w.add(layout.high + 64 * (dword / 4)).cast());
                let moved = match dword % 4 {
                    0 => _mm512_slli_epi16::<4>(bits),
                    1 => _mm512_slli_epi16::<2>(bits),
                    2 => bits,
                    _ => _mm512_srli_epi16::<2>(bits),
                };
                _mm512_or_si512(four, _mm512_and_si512(moved, _mm512_set1_epi8(0x30)))
            }
            _ => four,
        }
    }
}
