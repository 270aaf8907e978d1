//! Blocks of 32 weights under one scale: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0.

use half::f16;

use super::scale_search::{Affine, Levels, Minimum, affine, as_f16, inverse, symmetric};
use crate::WeightType;
use crate::blocks::{BLOCK_LEN, Block, BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ5_1, BlockQ8_0};

type Row = [f32; BLOCK_LEN];

/// One block of `ty` into `out`. w: what each squared error counts.
#[inline(always)]
pub(super) fn quantize(ty: WeightType, x: &Row, w: &Row, out: &mut [u8]) {
    match ty {
        WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => symmetric_block(ty, x, w, out),
        WeightType::Q4_1 | WeightType::Q5_1 => affine_block(ty, x, w, out),
        _ => unreachable!("{} has no blocks of {BLOCK_LEN}", ty.name()),
    }
}

/// w = d · q
#[inline(always)]
fn symmetric_block(ty: WeightType, x: &Row, w: &Row, out: &mut [u8]) {
    // Candidates on either side of the plain scale: of four or five bits the end of the range may well be
    // clipped or left empty, of eight it hardly matters.
    let (low, high, n_steps) = match ty {
        WeightType::Q4_0 => (-8.0, 7.0, 7),
        WeightType::Q5_0 => (-16.0, 15.0, 7),
        // −128 stays unused, as in ggml: some kernels negate levels.
        _ => (-127.0, 127.0, 2),
    };
    let levels = Levels { low, high };
    let d = as_f16(symmetric(x, w, levels, n_steps));
    let inv = inverse(d);
    let q = x.map(|x| levels.nearest(x * inv));
    let from_lowest = q.map(|q| (q - low) as u8);
    let qs = nibbles(&from_lowest);
    match ty {
        WeightType::Q4_0 => BlockQ4_0 { d: bytes(d), qs }.write(out),
        WeightType::Q5_0 => BlockQ5_0 { d: bytes(d), qh: fifth_bits(&from_lowest), qs }.write(out),
        _ => BlockQ8_0 { d: bytes(d), qs: q.map(|q| q as i8 as u8) }.write(out),
    }
}

/// w = d · q + m
#[inline(always)]
fn affine_block(ty: WeightType, x: &Row, w: &Row, out: &mut [u8]) {
    let levels = Levels { low: 0.0, high: if ty == WeightType::Q4_1 { 15.0 } else { 31.0 } };
    let found = affine(x, w, levels, Minimum::Free);
    let by = Affine { scale: as_f16(found.scale), min: as_f16(found.min) };
    let inv = inverse(by.scale);
    let q = x.map(|x| by.nearest(x, inv, levels) as u8);
    let (d, m, qs) = (bytes(by.scale), bytes(by.min), nibbles(&q));
    match ty {
        WeightType::Q4_1 => BlockQ4_1 { d, m, qs }.write(out),
        _ => BlockQ5_1 { d, m, qh: fifth_bits(&q), qs }.write(out),
    }
}

fn bytes(x: f32) -> [u8; 2] {
    f16::from_f32(x).to_le_bytes()
}

/// Columns 0..16 low, 16..32 high.
#[inline(always)]
fn nibbles(q: &[u8; BLOCK_LEN]) -> [u8; 16] {
    std::array::from_fn(|i| (q[i] & 15) | q[i + 16] << 4)
}

/// Bit c is the fifth bit of column c.
#[inline(always)]
fn fifth_bits(q: &[u8; BLOCK_LEN]) -> [u8; 4] {
    std::array::from_fn(|i| (0..8).fold(0, |bits, j| bits | (q[8 * i + j] >> 4 & 1) << j))
}
