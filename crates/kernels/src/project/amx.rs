//! Quantised weights times int8 activations in the tiles of AMX: sixteen rows times up to sixteen tokens.
//!
//! A tile instruction multiplies 16 tokens' bytes with 16 rows' and adds up to 64 products into each of 256 sums of 32
//! bits, eight times what `vpdpbusd` does in the same time. But sums have to leave the tile after each block of 32
//! columns, where the scales change: so a tile is stored, and the vectors of rows do what they do without AMX, in the
//! same order and to the same bit, while the next block is multiplied.
//!
//! Groups of rows are unpacked to signed bytes and f32 scales once for all tokens of a tile of work.
#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // tiles of registers are indexed alike everywhere

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::mem::MaybeUninit;

use super::avx512::{ROWS, load_f16, scales_of, store, weights_of};
use super::{Output, fetch, fetch_distance};
use crate::activations::{BLOCK_WORDS, MAX_PANEL, Panel};
use crate::aligned::AlignedBytes;
use crate::amx::{Shapes, Tiles};
use crate::blocks::BLOCK_LEN;
use crate::packed::{Layout, offset};
use crate::{Activations, PackedMatrix, WeightType};

/// Bytes of the weights of an unpacked block of sixteen rows: `[8][16][4]`.
const QUANTS_BYTES: usize = BLOCK_LEN * ROWS;
/// Bytes of a vector of f32.
const VECTOR_BYTES: usize = 64;
/// An unpacked block: weights, scales, and minimums or the scales of the second half.
const BLOCK_BYTES: usize = QUANTS_BYTES + 2 * VECTOR_BYTES;

/// What the second vector behind the weights is.
const SCALE: u8 = 0;
const SCALE_AND_MIN: u8 = 1;
const TWO_SCALES: u8 = 2;

const fn kind(ty: WeightType) -> u8 {
    match ty {
        WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => SCALE_AND_MIN,
        WeightType::Q6K => TWO_SCALES,
        _ => SCALE,
    }
}

/// Room for unpacked groups, kept by each thread.
pub(super) struct Room<'a> {
    bytes: &'a mut [u8],
    group_bytes: usize,
}

thread_local! {
    static ROOM: RefCell<AlignedBytes> = RefCell::new(AlignedBytes::zeroed(0));
}

/// Calls `work` with room for `n_groups` groups of rows of `n_cols` columns and with tiles that can be used.
///
/// # Safety
/// [`crate::Isa::Amx`] must be available.
pub(super) unsafe fn with_room<R>(
    n_groups: usize,
    n_cols: usize,
    work: impl FnOnce(&mut Room<'_>) -> R,
) -> R {
    let group_bytes = n_cols / BLOCK_LEN * BLOCK_BYTES;
    ROOM.with_borrow_mut(|bytes| {
        if bytes.len() < n_groups * group_bytes {
            *bytes = AlignedBytes::zeroed(n_groups * group_bytes);
        }
        // SAFETY: as the caller promises.
        let _tiles = unsafe { Tiles::shaped(&SHAPES) };
        work(&mut Room { bytes, group_bytes })
    })
}

/// 0 and 4: sums; 1 and 5: 32 columns of tokens, 2 and 6: of rows; 3 and 7: likewise 16 columns.
static SHAPES: Shapes =
    Shapes::new([(16, 64), (16, 32), (8, 64), (16, 16), (16, 64), (16, 32), (8, 64), (4, 64)]);

impl Room<'_> {
    /// Unpacks group `group_idx` of `mat` to place `at`.
    pub(super) fn unpack(&mut self, at: usize, mat: &PackedMatrix, group_idx: usize) {
        macro_rules! unpack_type {
            ($ty:ident) => {
                unpack::<{ WeightType::$ty as u8 }>
            };
        }
        let ty = mat.weight_type();
        let unpack: unsafe fn(&[u8], usize, *mut u8) = super::for_quantised!(ty, unpack_type);
        assert_eq!(self.group_bytes, mat.n_cols() / BLOCK_LEN * BLOCK_BYTES, "room was made for other rows");
        let to = self.bytes[at * self.group_bytes..][..self.group_bytes].as_mut_ptr();
        // SAFETY: a whole group of this type, and as many unpacked blocks of room as it has blocks; the matrix was
        // packed for a set that has AVX-512.
        unsafe { unpack(mat.group(group_idx), fetch_distance(mat.group_bytes()), to) }
    }

    /// The group at `at`, of the type of `mat`, times a panel.
    ///
    /// # Safety
    /// As [`super::multiply`], for one group.
    pub(super) unsafe fn multiply(
        &self,
        at: usize,
        mat: &PackedMatrix,
        x: &Activations,
        panel: Panel,
        output: &Output<'_>,
    ) {
        assert!(x.is_by_token(), "activations must be laid out for tiles");
        let weights = &self.bytes[at * self.group_bytes..][..self.group_bytes];
        let kernel = TILES[kind(mat.weight_type()) as usize][panel.width - 1];
        let n_blocks = self.group_bytes / BLOCK_BYTES;
        // SAFETY: so many unpacked blocks; the panel has as many of its width, and behind the last of all there are
        // words for the tokens that it lacks; the output is as the caller promises; shapes are set.
        unsafe { kernel(weights.as_ptr(), n_blocks, x.words_from(panel).as_ptr(), output) }
    }
}

/// Unpacks a group; meanwhile weights that lie so many bytes ahead are asked for.
///
/// # Safety
/// The group must be whole blocks of the type, `to` have room for as many unpacked ones, on cache lines; the
/// processor must have AVX-512 F, BW, VL, VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn unpack<const TY: u8>(group: &[u8], fetch_ahead: usize, mut to: *mut u8) {
    let ty = const { WeightType::ALL[TY as usize] };
    let layout = const { Layout::new(WeightType::ALL[TY as usize], ROWS) };
    let offset = _mm512_set1_epi8(offset(ty) as i8);
    for blocks in group.chunks_exact(layout.header + layout.n_blocks * layout.block) {
        let mut w = blocks.as_ptr();
        let (mut d, mut dmin) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        // SAFETY: a header and its blocks, as `layout` says; an unpacked block of room for each.
        unsafe {
            if layout.header > 0 {
                d = load_f16(w);
                if !matches!(ty, WeightType::Q6K) {
                    dmin = load_f16(w.add(2 * ROWS));
                }
                w = w.add(layout.header);
            }
            for _ in 0..layout.n_blocks {
                fetch(w.wrapping_add(fetch_ahead), layout.block);
                for dword in 0..8 {
                    let signed = if matches!(ty, WeightType::Q8_0) {
                        _mm512_loadu_si512(w.add(layout.quants + VECTOR_BYTES * dword).cast())
                    } else {
                        _mm512_sub_epi8(weights_of::<TY>(w, dword), offset)
                    };
                    _mm512_store_si512(to.add(VECTOR_BYTES * dword).cast(), signed);
                }
                let (scale, min) = scales_of::<TY>(w, 0, d, dmin);
                _mm512_store_ps(to.add(QUANTS_BYTES).cast(), scale);
                let second = match const { kind(WeightType::ALL[TY as usize]) } {
                    TWO_SCALES => Some(scales_of::<TY>(w, 1, d, dmin).0),
                    _ => min,
                };
                if let Some(second) = second {
                    _mm512_store_ps(to.add(QUANTS_BYTES + VECTOR_BYTES).cast(), second);
                }
                w = w.add(layout.block);
                to = to.add(BLOCK_BYTES);
            }
        }
    }
}

/// Unpacked weights, blocks, activations of the panel, output.
type Tile = unsafe fn(*const u8, usize, *const u32, &Output<'_>);

/// By kind and width.
static TILES: [[Tile; MAX_PANEL]; 3] = {
    macro_rules! widths {
        ($kind:ident: $($width:literal)*) => {
            [$(tile::<$kind, $width>),*]
        };
    }
    [
        widths!(SCALE: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        widths!(SCALE_AND_MIN: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
        widths!(TWO_SCALES: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16),
    ]
};

/// Sums of a block: `[16 tokens][16 rows]`.
#[repr(C, align(64))]
struct Sums([[i32; ROWS]; MAX_PANEL]);

/// sums = tokens · rowsᵀ over as many columns as the tiles named here hold.
macro_rules! product {
    ($sums:literal, $tokens:literal, $rows:literal, $a:expr, $w:expr) => {
        asm!(
            concat!("tilezero tmm", $sums),
            concat!("tileloadd tmm", $tokens, ", [{a} + {token} * 1]"),
            concat!("tileloadd tmm", $rows, ", [{w} + {vector} * 1]"),
            concat!("tdpbssd tmm", $sums, ", tmm", $tokens, ", tmm", $rows),
            a = in(reg) $a,
            w = in(reg) $w,
            token = in(reg) BLOCK_LEN,
            vector = in(reg) VECTOR_BYTES,
            options(nostack, readonly, preserves_flags),
        )
    };
}

macro_rules! store_sums {
    ($sums:literal, $to:expr) => {
        asm!(
            concat!("tilestored [{to} + {vector} * 1], tmm", $sums),
            to = in(reg) $to,
            vector = in(reg) VECTOR_BYTES,
            options(nostack, preserves_flags),
        )
    };
}

/// How many products later sums are scaled: a load waits for a store that is not done.
const DISTANCE: usize = 3;
/// Sums that are kept meanwhile.
const N_SUMS: usize = DISTANCE + 1;

/// Sixteen unpacked rows times T tokens.
///
/// # Safety
/// As stated in [`Room::multiply`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn tile<const KIND: u8, const T: usize>(
    weights: *const u8,
    n_blocks: usize,
    activations: *const u32,
    output: &Output<'_>,
) {
    let mut room: [MaybeUninit<Sums>; N_SUMS] = [const { MaybeUninit::uninit() }; N_SUMS];
    let room = room.as_mut_ptr().cast::<Sums>();
    let mut acc = [_mm512_setzero_ps(); T];
    for t in 0..T {
        output.prefetch(t);
    }
    // A product is of a block, or of half of one.
    let parts = if KIND == TWO_SCALES { 2 } else { 1 };
    let n_products = parts * n_blocks;
    // SAFETY: blocks, tokens and sums as the caller promises, see the layouts.
    unsafe {
        let weights_at = |block: usize| weights.add(block * BLOCK_BYTES);
        let tokens_at = |block: usize| activations.add(block * BLOCK_WORDS * T);
        for i in 0..n_products + DISTANCE {
            if i < n_products {
                let (part, block) = (i % parts, i / parts);
                let a = tokens_at(block).add(part * BLOCK_LEN / 2 / size_of::<u32>());
                let w = weights_at(block).add(part * QUANTS_BYTES / 2);
                match (KIND, i % 2) {
                    (TWO_SCALES, 0) => product!(0, 3, 7, a, w),
                    (TWO_SCALES, _) => product!(4, 3, 7, a, w),
                    (_, 0) => product!(0, 1, 2, a, w),
                    _ => product!(4, 5, 6, a, w),
                }
            }
            if i >= DISTANCE {
                let i = i - DISTANCE;
                let (part, block) = (i % parts, i / parts);
                let (w, a) = (weights_at(block).add(QUANTS_BYTES), tokens_at(block));
                let scale = _mm512_load_ps(w.add(part * VECTOR_BYTES).cast());
                let min = _mm512_load_ps(w.add(VECTOR_BYTES).cast());
                let sums = room.add(i % N_SUMS);
                for t in 0..T {
                    let token = |i: usize| _mm512_set1_ps(f32::from_bits(*a.add(i * T + t)));
                    let sums = _mm512_cvtepi32_ps(_mm512_load_si512((&raw const (*sums).0[t]).cast()));
                    acc[t] = _mm512_fmadd_ps(sums, _mm512_mul_ps(scale, token(8)), acc[t]);
                    if KIND == SCALE_AND_MIN {
                        acc[t] = _mm512_fmadd_ps(min, token(9), acc[t]);
                    }
                }
            }
            // The product before: a tile is stored once it is finished, and what comes after that waits.
            if i > 0 && i <= n_products {
                let to = room.add((i - 1) % N_SUMS);
                if (i - 1).is_multiple_of(2) { store_sums!(0, to) } else { store_sums!(4, to) }
            }
        }
        for t in 0..T {
            store(acc[t], t, 0, output);
        }
    }
}
