//! The block formats of ggml files, and what a block's weights are: the scalar reference of every kernel.
//!
//! All are little-endian and without padding, so a block is described by a `repr(C)` struct of bytes. Columns
//! of a 4-bit block of 32 lie as low nibbles (0..16), then high nibbles (16..32) of its 16 bytes.

use half::{bf16, f16};

use crate::elementwise::for_each_row;
use crate::{KernelError, Pool};

/// Types of weights that matrices are made of, in ggml's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the formats
#[allow(non_camel_case_types)] // ggml's spelling
pub enum WeightType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl WeightType {
    /// Every type.
    pub const ALL: [WeightType; 11] = [
        WeightType::F32,
        WeightType::F16,
        WeightType::BF16,
        WeightType::Q4_0,
        WeightType::Q4_1,
        WeightType::Q5_0,
        WeightType::Q5_1,
        WeightType::Q8_0,
        WeightType::Q4K,
        WeightType::Q5K,
        WeightType::Q6K,
    ];

    /// Weights in a block.
    pub const fn block_len(self) -> usize {
        match self {
            WeightType::F32 | WeightType::F16 | WeightType::BF16 => 1,
            WeightType::Q4K | WeightType::Q5K | WeightType::Q6K => SUPER_LEN,
            _ => BLOCK_LEN,
        }
    }

    /// Bytes of a block in a file.
    pub const fn block_bytes(self) -> usize {
        match self {
            WeightType::F32 => 4,
            WeightType::F16 | WeightType::BF16 => 2,
            WeightType::Q4_0 => size_of::<BlockQ4_0>(),
            WeightType::Q4_1 => size_of::<BlockQ4_1>(),
            WeightType::Q5_0 => size_of::<BlockQ5_0>(),
            WeightType::Q5_1 => size_of::<BlockQ5_1>(),
            WeightType::Q8_0 => size_of::<BlockQ8_0>(),
            WeightType::Q4K => size_of::<BlockQ4K>(),
            WeightType::Q5K => size_of::<BlockQ5K>(),
            WeightType::Q6K => size_of::<BlockQ6K>(),
        }
    }

    /// The name in ggml's spelling.
    pub const fn name(self) -> &'static str {
        match self {
            WeightType::F32 => "F32",
            WeightType::F16 => "F16",
            WeightType::BF16 => "BF16",
            WeightType::Q4_0 => "Q4_0",
            WeightType::Q4_1 => "Q4_1",
            WeightType::Q5_0 => "Q5_0",
            WeightType::Q5_1 => "Q5_1",
            WeightType::Q8_0 => "Q8_0",
            WeightType::Q4K => "Q4_K",
            WeightType::Q5K => "Q5_K",
            WeightType::Q6K => "Q6_K",
        }
    }

    /// Bytes of `n` weights in a file; `n` must consist of whole blocks.
    pub const fn bytes_of(self, n: usize) -> usize {
        n / self.block_len() * self.block_bytes()
    }
}

/// Weights in a block of the plain quantised types.
pub(crate) const BLOCK_LEN: usize = 32;
/// Weights in a block of the K types: eight blocks of 32 under one scale.
pub(crate) const SUPER_LEN: usize = 256;

/// w = d · (q − 8)
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ4_0 {
    pub(crate) d: [u8; 2],
    pub(crate) qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ4_0>() == 18);

/// w = d · q + m
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ4_1 {
    pub(crate) d: [u8; 2],
    pub(crate) m: [u8; 2],
    pub(crate) qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ4_1>() == 20);

/// w = d · (q − 16); bit c of `qh` is the fifth bit of column c
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ5_0 {
    pub(crate) d: [u8; 2],
    pub(crate) qh: [u8; 4],
    pub(crate) qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_0>() == 22);

/// w = d · q + m; `qh` as in Q5_0
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ5_1 {
    pub(crate) d: [u8; 2],
    pub(crate) m: [u8; 2],
    pub(crate) qh: [u8; 4],
    pub(crate) qs: [u8; 16],
}
const _: () = assert!(size_of::<BlockQ5_1>() == 24);

/// w = d · q, q signed
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ8_0 {
    pub(crate) d: [u8; 2],
    pub(crate) qs: [u8; 32],
}
const _: () = assert!(size_of::<BlockQ8_0>() == 34);

/// w = d · scale[b] · q − dmin · min[b] for each block b of 32; scales and mins have 6 bits, packed in 12
/// bytes. Bytes 32i..32i+32 of `qs` hold block 2i in the low nibbles, block 2i + 1 in the high ones.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ4K {
    pub(crate) d: [u8; 2],
    pub(crate) dmin: [u8; 2],
    pub(crate) scales: [u8; 12],
    pub(crate) qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ4K>() == 144);

/// As Q4_K, with a fifth bit: bit b of `qh[l]` belongs to column l of block b.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ5K {
    pub(crate) d: [u8; 2],
    pub(crate) dmin: [u8; 2],
    pub(crate) scales: [u8; 12],
    pub(crate) qh: [u8; 32],
    pub(crate) qs: [u8; 128],
}
const _: () = assert!(size_of::<BlockQ5K>() == 176);

/// w = d · scale[c / 16] · (q − 32), scales signed. Columns come in halves of 128; in a half, block b (of
/// 32) takes nibble b / 2 of `ql[32·(b % 2) ..]` and bits 2b of `qh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct BlockQ6K {
    pub(crate) ql: [u8; 128],
    pub(crate) qh: [u8; 64],
    pub(crate) scales: [u8; 16],
    pub(crate) d: [u8; 2],
}
const _: () = assert!(size_of::<BlockQ6K>() == 210);

/// A struct that is nothing but bytes: any bytes make a valid value, and it has no alignment.
pub(crate) trait Block: Copy {
    /// The block in the first bytes of `bytes`, which must hold one.
    fn read(bytes: &[u8]) -> Self;
    /// Puts the block into the first bytes of `bytes`, which must have room for one.
    fn write(&self, bytes: &mut [u8]);
}

/// Splits the bytes of a block into its fields, in order, and joins them again.
macro_rules! block {
    ($ty:ident { $($field:ident),+ }) => {
        impl Block for $ty {
            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                let rest = &bytes[..size_of::<Self>()];
                $(
                    let (first, rest) = rest.split_first_chunk().expect("the sizes of the fields add up");
                    let $field = *first;
                )+
                let [] = rest else { unreachable!("the sizes of the fields add up") };
                $ty { $($field),+ }
            }

            #[inline(always)]
            fn write(&self, bytes: &mut [u8]) {
                let rest = &mut bytes[..size_of::<Self>()];
                $(
                    let (first, rest) = rest.split_at_mut(self.$field.len());
                    first.copy_from_slice(&self.$field);
                )+
                let [] = rest else { unreachable!("the sizes of the fields add up") };
            }
        }
    };
}
block!(BlockQ4_0 { d, qs });
block!(BlockQ4_1 { d, m, qs });
block!(BlockQ5_0 { d, qh, qs });
block!(BlockQ5_1 { d, m, qh, qs });
block!(BlockQ8_0 { d, qs });
block!(BlockQ4K { d, dmin, scales, qs });
block!(BlockQ5K { d, dmin, scales, qh, qs });
block!(BlockQ6K { ql, qh, scales, d });

/// The value of a half float stored in two bytes.
#[inline(always)]
pub(crate) fn f16_value(bytes: [u8; 2]) -> f32 {
    f16::from_le_bytes(bytes).to_f32()
}

/// Scale and minimum of block `b` of a Q4_K or Q5_K super-block.
#[inline(always)]
pub(crate) fn scale_and_min(scales: &[u8; 12], b: usize) -> (u8, u8) {
    if b < 4 {
        (scales[b] & 63, scales[b + 4] & 63)
    } else {
        ((scales[b + 4] & 15) | ((scales[b - 4] >> 6) << 4), (scales[b + 4] >> 4) | ((scales[b] >> 6) << 4))
    }
}

/// The 12 bytes that [`scale_and_min`] reads.
#[inline(always)]
pub(crate) fn pack_scales_and_mins(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | (scales[i + 4] >> 4) << 6,
        4..8 => mins[i - 4] | (mins[i] >> 4) << 6,
        _ => (scales[i - 4] & 15) | (mins[i - 4] & 15) << 4,
    })
}

/// The weights of `src`, whole blocks of `ty` as in a file.
///
/// dst: as many floats as `src` holds weights.
///
/// # Panics
/// When `src` does not consist of whole blocks or `dst` has another length.
pub fn dequantize(ty: WeightType, src: &[u8], dst: &mut [f32]) {
    unpack(ty, src, dst);
}

/// As [`dequantize`], compiled for the vectors of whoever calls it.
#[inline(always)]
pub(crate) fn unpack(ty: WeightType, src: &[u8], dst: &mut [f32]) {
    assert!(src.len().is_multiple_of(ty.block_bytes()), "{} data must consist of whole blocks", ty.name());
    let n = src.len() / ty.block_bytes() * ty.block_len();
    assert_eq!(dst.len(), n, "{} weights need as many floats", ty.name());
    let blocks = src.chunks_exact(ty.block_bytes()).zip(dst.chunks_exact_mut(ty.block_len()));
    // A closure would be compiled without the caller's vectors.
    macro_rules! each {
        ($block:ident, $weights:ident => $unpacked:expr) => {
            for ($block, $weights) in blocks {
                $unpacked;
            }
        };
    }
    match ty {
        WeightType::F32 => each!(b, w => w[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
        WeightType::F16 => each!(b, w => w[0] = f16_value([b[0], b[1]])),
        WeightType::BF16 => each!(b, w => w[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32()),
        WeightType::Q4_0 => each!(b, w => dequantize_q4_0(&Block::read(b), w)),
        WeightType::Q4_1 => each!(b, w => dequantize_q4_1(&Block::read(b), w)),
        WeightType::Q5_0 => each!(b, w => dequantize_q5_0(&Block::read(b), w)),
        WeightType::Q5_1 => each!(b, w => dequantize_q5_1(&Block::read(b), w)),
        WeightType::Q8_0 => each!(b, w => dequantize_q8_0(&Block::read(b), w)),
        WeightType::Q4K => each!(b, w => dequantize_q4k(&Block::read(b), w)),
        WeightType::Q5K => each!(b, w => dequantize_q5k(&Block::read(b), w)),
        WeightType::Q6K => each!(b, w => dequantize_q6k(&Block::read(b), w)),
    }
}

/// The rows of a matrix as in a file, by number; out: `[rows.len(), n_cols]`.
///
/// # Panics
/// When a row does not exist, or `n_cols` are not whole blocks or do not divide `out`.
pub fn dequantize_rows(
    pool: &Pool,
    ty: WeightType,
    data: &[u8],
    n_cols: usize,
    rows: &[u32],
    out: &mut [f32],
) {
    assert_eq!(out.len(), rows.len() * n_cols, "out must be [rows, n_cols]");
    let row_bytes = ty.bytes_of(n_cols);
    for_each_row(pool, out, n_cols, |i, out| {
        dequantize(ty, &data[rows[i] as usize * row_bytes..][..row_bytes], out);
    });
}

#[inline(always)]
fn dequantize_q4_0(block: &BlockQ4_0, w: &mut [f32]) {
    let d = f16_value(block.d);
    for (i, &q) in block.qs.iter().enumerate() {
        w[i] = d * (i32::from(q & 15) - 8) as f32;
        w[i + 16] = d * (i32::from(q >> 4) - 8) as f32;
    }
}

#[inline(always)]
fn dequantize_q4_1(block: &BlockQ4_1, w: &mut [f32]) {
    let (d, m) = (f16_value(block.d), f16_value(block.m));
    for (i, &q) in block.qs.iter().enumerate() {
        w[i] = d * f32::from(q & 15) + m;
        w[i + 16] = d * f32::from(q >> 4) + m;
    }
}

/// The five-bit values of a block.
#[inline(always)]
fn fives(qs: &[u8; 16], qh: [u8; 4]) -> [u8; 32] {
    let qh = u32::from_le_bytes(qh);
    let mut fives = [0; 32];
    for (i, &q) in qs.iter().enumerate() {
        fives[i] = (q & 15) | (((qh >> i) & 1) as u8) << 4;
        fives[i + 16] = (q >> 4) | (((qh >> (i + 16)) & 1) as u8) << 4;
    }
    fives
}

#[inline(always)]
fn dequantize_q5_0(block: &BlockQ5_0, w: &mut [f32]) {
    let d = f16_value(block.d);
    for (w, q) in w.iter_mut().zip(fives(&block.qs, block.qh)) {
        *w = d * (i32::from(q) - 16) as f32;
    }
}

#[inline(always)]
fn dequantize_q5_1(block: &BlockQ5_1, w: &mut [f32]) {
    let (d, m) = (f16_value(block.d), f16_value(block.m));
    for (w, q) in w.iter_mut().zip(fives(&block.qs, block.qh)) {
        *w = d * f32::from(q) + m;
    }
}

#[inline(always)]
fn dequantize_q8_0(block: &BlockQ8_0, w: &mut [f32]) {
    let d = f16_value(block.d);
    for (w, &q) in w.iter_mut().zip(&block.qs) {
        *w = d * f32::from(q as i8);
    }
}

#[inline(always)]
fn dequantize_q4k(block: &BlockQ4K, w: &mut [f32]) {
    let (d, dmin) = (f16_value(block.d), f16_value(block.dmin));
    for (b, w) in w.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (scale, min) = scale_and_min(&block.scales, b);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        for (l, w) in w.iter_mut().enumerate() {
            let q = block.qs[b / 2 * 32 + l] >> (b % 2 * 4) & 15;
            *w = d * f32::from(q) - m;
        }
    }
}

#[inline(always)]
fn dequantize_q5k(block: &BlockQ5K, w: &mut [f32]) {
    let (d, dmin) = (f16_value(block.d), f16_value(block.dmin));
    for (b, w) in w.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (scale, min) = scale_and_min(&block.scales, b);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        for (l, w) in w.iter_mut().enumerate() {
            let q = (block.qs[b / 2 * 32 + l] >> (b % 2 * 4) & 15) | ((block.qh[l] >> b & 1) << 4);
            *w = d * f32::from(q) - m;
        }
    }
}

#[inline(always)]
fn dequantize_q6k(block: &BlockQ6K, w: &mut [f32]) {
    let d = f16_value(block.d);
    for (b, w) in w.chunks_exact_mut(BLOCK_LEN).enumerate() {
        let (half, b) = (b / 4, b % 4);
        for (l, w) in w.iter_mut().enumerate() {
            let low = block.ql[half * 64 + b % 2 * 32 + l] >> (b / 2 * 4) & 15;
            let high = block.qh[half * 32 + l] >> (2 * b) & 3;
            let scale = block.scales[half * 8 + b * 2 + l / 16] as i8;
            *w = d * f32::from(scale) * (i32::from(low | high << 4) - 32) as f32;
        }
    }
}

/// Whether every weight of `data`, whole blocks of `ty`, is a finite number; the error counts `row` in blocks.
pub fn check_finite(pool: &Pool, ty: WeightType, data: &[u8]) -> Result<(), KernelError> {
    /// Blocks that one tile looks at.
    const CHUNK: usize = 16 * 1024;
    let first_bad = std::sync::atomic::AtomicUsize::new(usize::MAX);
    let n_blocks = data.len() / ty.block_bytes();
    pool.run(n_blocks.div_ceil(CHUNK), &|tile, _| {
        let (first, end) = (tile * CHUNK, n_blocks.min((tile + 1) * CHUNK));
        let data = &data[first * ty.block_bytes()..end * ty.block_bytes()];
        if blocks_are_finite(ty, data) {
            return;
        }
        let blocks = data.chunks_exact(ty.block_bytes());
        if let Some(bad) = blocks.enumerate().find_map(|(i, b)| (!block_is_finite(ty, b)).then_some(i)) {
            first_bad.fetch_min(tile * CHUNK + bad, std::sync::atomic::Ordering::Relaxed);
        }
    });
    match first_bad.into_inner() {
        usize::MAX => Ok(()),
        row => Err(KernelError::NonFinite { row }),
    }
}

/// Whether all of some blocks are finite; of floats, many at once.
pub(crate) fn blocks_are_finite(ty: WeightType, data: &[u8]) -> bool {
    // Without a way out in the middle, so that it is done in whole registers. An exponent of all ones is infinity
    // or not a number.
    let halves = |exponent: u16| {
        let halves = data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b));
        halves.fold(true, |all, h| all & (h & exponent != exponent))
    };
    match ty {
        WeightType::F16 => halves(0x7c00),
        WeightType::BF16 => halves(0x7f80),
        WeightType::F32 => {
            let floats = data.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
            floats.fold(true, |all, x| all & (x & 0x7f80_0000 != 0x7f80_0000))
        }
        _ => data.chunks_exact(ty.block_bytes()).all(|block| block_is_finite(ty, block)),
    }
}

/// Whether the scales of a block (for float types: its one weight) are finite.
#[inline(always)]
fn block_is_finite(ty: WeightType, b: &[u8]) -> bool {
    let half = |at: usize| b[at + 1] & 0x7c != 0x7c;
    match ty {
        WeightType::F32 => f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite(),
        WeightType::BF16 => bf16::from_le_bytes([b[0], b[1]]).is_finite(),
        WeightType::F16 | WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => half(0),
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => half(0) && half(2),
        WeightType::Q6K => half(208),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: Σ w[i] · (i mod 7 + 1), and w[1], w[17] and the last weight, of two blocks of the bytes below,
    /// computed by `gguf.quants.dequantize` of the Python package gguf 0.19 (NumPy).
    const EXPECTED: [(WeightType, f64, [f32; 3]); 8] = [
        (WeightType::Q4_0, -0.35007476806640625, [-0.020004272, -0.05001068, -0.08001709]),
        (WeightType::Q4_1, 21.75464630126953, [0.13502884, 0.02500534, 0.29006195]),
        (WeightType::Q5_0, -4.691001892089844, [0.030006409, 0.040008545, 0.18003845]),
        (WeightType::Q5_1, 54.02153778076172, [0.2050438, 0.19504166, 0.35007477]),
        (WeightType::Q8_0, 10.662277221679688, [0.54011536, 0.34007263, 1.540329]),
        (WeightType::Q4K, 5426.373950958252, [4.2359047, 3.965847, 0.98020935]),
        (WeightType::Q5K, 12263.384181976318, [6.666424, 0.7251549, 0.93019867]),
        (WeightType::Q6K, 1939.7242813110352, [-3.750801, -11.162384, 3.8008118]),
    ];

    #[test]
    fn blocks_dequantise_as_the_reference_implementation_does() {
        for (ty, sum, expected) in EXPECTED {
            let n_bytes = ty.block_bytes();
            let mut data: Vec<u8> =
                (0..2 * n_bytes).map(|i| ((i * i * 31 + i * 7 + 5) % 251) as u8).collect();
            let scales: &[usize] = match ty {
                WeightType::Q6K => &[208],
                WeightType::Q4_0 | WeightType::Q5_0 | WeightType::Q8_0 => &[0],
                _ => &[0, 2],
            };
            for (k, block) in data.chunks_exact_mut(n_bytes).enumerate() {
                for (&at, factor) in scales.iter().zip([1.0, -0.5]) {
                    let scale = f16::from_f64(0.01 * (k + 1) as f64 * factor);
                    block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
            let mut w = vec![0.0; 2 * ty.block_len()];
            dequantize(ty, &data, &mut w);
            let found: f64 = w.iter().enumerate().map(|(i, &w)| f64::from(w) * (i % 7 + 1) as f64).sum();
            assert!((found - sum).abs() < 1e-6 * sum.abs(), "{ty:?}: {found}, expected {sum}");
            for (found, expected) in [w[1], w[17], w[w.len() - 1]].into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 1e-6 * expected.abs(),
                    "{ty:?}: {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn float_types_come_back_as_they_are() {
        let x = [0.0, -1.5, 65504.0, 0.25];
        let mut found = [0.0; 4];
        dequantize(WeightType::F32, &x.map(f32::to_le_bytes).concat(), &mut found);
        assert_eq!(found, x);
        dequantize(WeightType::F16, &x.map(|x| f16::from_f32(x).to_le_bytes()).concat(), &mut found);
        assert_eq!(found, x);
        dequantize(WeightType::BF16, &x.map(|x| bf16::from_f32(x).to_le_bytes()).concat(), &mut found);
        assert_eq!(found, [0.0, -1.5, 65536.0, 0.25]);
    }
}
