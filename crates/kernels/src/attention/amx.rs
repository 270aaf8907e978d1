//! The second product of attention in the tiles of AMX: weights times values, both bf16.
//!
//! `tdpbf16ps` adds to a sum what 32 keys give: the products of the even ones in a chain, those of the odd ones in
//! another, then both. That is the same for any number of rows, and keys without weight add zero, so a row's result does
//! not depend on what else is in its tile; one token uses tiles like a prompt does.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ops::Range;

use super::block::{Ahead, PageRun, STEPS_PER_BURST};
use crate::amx::{ROW_BYTES, Shapes, TILE_LEN, Tiles};
use crate::kv::PAGE_LEN;

/// Keys of a tile.
const STEP: usize = 32;
/// Bytes of 32 keys' values of 16 columns: `[16 pairs][16][2]`, a tile.
const STEP_BYTES: usize = TILE_LEN * ROW_BYTES;
/// Bytes of a page's values of 16 columns.
const BLOCK_BYTES: usize = PAGE_LEN / STEP * STEP_BYTES;
/// Blocks of columns whose sums are in tiles beside each other.
const MAX_BLOCKS: usize = 4;

/// As [`super::block::values`] with PAIRS.
///
/// # Safety
/// As there, with weights of 0 for keys of tiles of 32 that are not used; [`crate::Isa::Amx`] must be available.
pub(super) unsafe fn values<const P: usize>(
    n_rows: usize,
    stride: usize,
    weights: *const u32,
    pages: &PageRun<'_, P>,
    keys_used: Range<usize>,
    sums: *mut f32,
) {
    let n_rows = n_rows as u8;
    // 0 to 3: sums; 4: weights; 5 to 7: values.
    let shapes = Shapes::new(std::array::from_fn(|tile| {
        if tile <= 4 { (n_rows, ROW_BYTES as u16) } else { (TILE_LEN as u8, ROW_BYTES as u16) }
    }));
    // SAFETY: as the caller promises.
    unsafe {
        let _tiles = Tiles::shaped(&shapes);
        let n_blocks = stride / TILE_LEN;
        for first in (0..n_blocks).step_by(MAX_BLOCKS) {
            let blocks = first..n_blocks.min(first + MAX_BLOCKS);
            match blocks.len() {
                1 => columns::<1, P>(blocks, stride, weights, pages, &keys_used, sums),
                2 => columns::<2, P>(blocks, stride, weights, pages, &keys_used, sums),
                3 => columns::<3, P>(blocks, stride, weights, pages, &keys_used, sums),
                _ => columns::<4, P>(blocks, stride, weights, pages, &keys_used, sums),
            }
        }
    }
}

/// sum = 0
macro_rules! zero {
    ($sum:literal) => {
        asm!(concat!("tilezero tmm", $sum), options(nostack, nomem, preserves_flags))
    };
}

/// sum += weights · the values at `$from`
macro_rules! add {
    ($sum:literal, $values:literal, $from:expr) => {
        asm!(
            concat!("tileloadd tmm", $values, ", [{from} + {row} * 1]"),
            concat!("tdpbf16ps tmm", $sum, ", tmm4, tmm", $values),
            from = in(reg) $from,
            row = in(reg) ROW_BYTES,
            options(nostack, readonly, preserves_flags),
        )
    };
}

macro_rules! store {
    ($sum:literal, $to:expr, $row_bytes:expr) => {
        asm!(
            concat!("tilestored [{to} + {row} * 1], tmm", $sum),
            to = in(reg) $to,
            row = in(reg) $row_bytes,
            options(nostack, preserves_flags),
        )
    };
}

/// # Safety
/// As [`values`], for N blocks of 16 columns; tiles must be shaped.
unsafe fn columns<const N: usize, const P: usize>(
    blocks: Range<usize>,
    stride: usize,
    weights: *const u32,
    pages: &PageRun<'_, P>,
    keys_used: &Range<usize>,
    sums: *mut f32,
) {
    // SAFETY: as the caller promises; weights of a row lie P pages of f32 apart, of which pairs fill the first half.
    unsafe {
        for i in 0..N {
            match i {
                0 => zero!(0),
                1 => zero!(1),
                2 => zero!(2),
                _ => zero!(3),
            }
        }
        // Unused keys may hold anything, a NaN too, which a weight of 0 would not silence.
        let mut part = Part([0; STEP_BYTES / size_of::<u32>()]);
        for page in keys_used.start / PAGE_LEN..keys_used.end.div_ceil(PAGE_LEN) {
            let (values, ahead) = pages[page];
            let upto = |block: usize| ahead.len() * block * TILE_LEN / stride;
            let ahead = &ahead[upto(blocks.start)..upto(blocks.end)];
            let mut ahead = Ahead::new(ahead, PAGE_LEN / STEP * N, STEPS_PER_BURST);
            for step in 0..PAGE_LEN / STEP {
                let first_key = page * PAGE_LEN + step * STEP;
                let used = keys_used.start.max(first_key)..keys_used.end.min(first_key + STEP);
                if used.is_empty() {
                    continue;
                }
                asm!(
                    "tileloadd tmm4, [{from} + {row} * 1]",
                    from = in(reg) weights.add(first_key / 2),
                    row = in(reg) P * PAGE_LEN * size_of::<f32>(),
                    options(nostack, readonly, preserves_flags),
                );
                let is_whole = used.len() == STEP;
                let used = used.start - first_key..used.end - first_key;
                for i in 0..N {
                    ahead.fetch();
                    let at = (blocks.start + i) * BLOCK_BYTES + step * STEP_BYTES;
                    let tile = values[at..at + STEP_BYTES].as_ptr();
                    let tile = if is_whole { tile } else { part.keep(tile.cast(), &used) };
                    match i {
                        0 => add!(0, 5, tile),
                        1 => add!(1, 6, tile),
                        2 => add!(2, 7, tile),
                        _ => add!(3, 5, tile),
                    }
                }
            }
        }
        for i in 0..N {
            let to = sums.add((blocks.start + i) * TILE_LEN);
            let row_bytes = stride * size_of::<f32>();
            match i {
                0 => store!(0, to, row_bytes),
                1 => store!(1, to, row_bytes),
                2 => store!(2, to, row_bytes),
                _ => store!(3, to, row_bytes),
            }
        }
    }
}

/// A tile of values of which only some keys count.
#[repr(C, align(64))]
struct Part([u32; STEP_BYTES / size_of::<u32>()]);

impl Part {
    /// The tile at `from` with zeros for all other keys than these.
    ///
    /// # Safety
    /// A tile must be readable there.
    unsafe fn keep(&mut self, from: *const u32, keys: &Range<usize>) -> *const u8 {
        for (pair, to) in self.0.chunks_exact_mut(TILE_LEN).enumerate() {
            let keep = |key: usize| if keys.contains(&key) { 0xffff } else { 0 };
            let mask = keep(2 * pair) | keep(2 * pair + 1) << 16;
            for (i, to) in to.iter_mut().enumerate() {
                // SAFETY: as the caller promises.
                *to = unsafe { from.add(pair * TILE_LEN + i).read_unaligned() } & mask;
            }
        }
        self.0.as_ptr().cast()
    }
}
