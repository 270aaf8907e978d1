//! Attention's two products in the tiles of AMX, of bf16.
//!
//! `tdpbf16ps` adds to a sum what 32 products give: those of even columns in a chain, those of odd ones in another, then
//! both. That is the same for any number of rows, so a row's result does not depend on what else is in its tile, and one
//! token uses tiles like a prompt does.
//!
//! **Scores** would suffer from bf16's eight bits, so numbers are taken in two parts. A key has the eleven bits of f16:
//! its upper bits and the rest are both bf16, without any error. A query is the nearest bf16 and the nearest to what
//! remains, 17 bits. Of the four products of parts the smallest, rest times rest, is left out: 2^−16 of the score or less.
//!
//! **Values** are bf16 already, and so are the weights. Keys without weight add zero.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::*;
use std::cell::Cell;
use std::ops::Range;

use super::block::{Ahead, PageRun, STEPS_PER_BURST};
use super::segment::SEGMENT_LEN;
use crate::aligned::AlignedVec;
use crate::amx::{ROW_BYTES, Shapes, TILE_LEN, Tiles};
use crate::kv::{BLOCK_LEN, PAGE_LEN};

/// Columns that a tile instruction goes through: dimensions of keys, or keys.
const STEP: usize = 32;
/// Bytes, and words, of a full tile.
const TILE_BYTES: usize = TILE_LEN * ROW_BYTES;
const TILE_WORDS: usize = TILE_BYTES / size_of::<u32>();
/// Bytes of a page's values of 16 columns: two tiles, `[16 pairs][16][2]` each.
const BLOCK_BYTES: usize = PAGE_LEN / STEP * TILE_BYTES;
/// Blocks of columns whose sums are in tiles beside each other.
const MAX_BLOCKS: usize = 4;
/// The parts that a number is taken in.
const PARTS: usize = 2;

/// sum = 0
macro_rules! zero {
    ($sum:literal) => {
        asm!(concat!("tilezero tmm", $sum), options(nostack, nomem, preserves_flags))
    };
}

/// Loads what is multiplied with, rows so many bytes apart.
macro_rules! left {
    ($left:literal, $from:expr, $row_bytes:expr) => {
        asm!(
            concat!("tileloadd tmm", $left, ", [{from} + {row} * 1]"),
            from = in(reg) $from,
            row = in(reg) $row_bytes,
            options(nostack, readonly, preserves_flags),
        )
    };
}

/// sum += left · the full tile at `$from`, which stays in `$right`
macro_rules! add {
    ($sum:literal, $left:literal, $right:literal, $from:expr) => {
        asm!(
            concat!("tileloadd tmm", $right, ", [{from} + {row} * 1]"),
            concat!("tdpbf16ps tmm", $sum, ", tmm", $left, ", tmm", $right),
            from = in(reg) $from,
            row = in(reg) ROW_BYTES,
            options(nostack, readonly, preserves_flags),
        )
    };
}

/// sum += left · right
macro_rules! again {
    ($sum:literal, $left:literal, $right:literal) => {
        asm!(
            concat!("tdpbf16ps tmm", $sum, ", tmm", $left, ", tmm", $right),
            options(nostack, nomem, preserves_flags),
        )
    };
}

/// Writes a sum, rows so many bytes apart.
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

/// Tiles for so many rows. 0 to 3: sums; 4 and 7: what is multiplied with; 5 and 6: keys or values.
///
/// # Safety
/// [`crate::Isa::Amx`] must be available.
pub(super) unsafe fn shaped(n_rows: usize) -> Tiles {
    let (rows, full) = ((n_rows as u8, ROW_BYTES as u16), (TILE_LEN as u8, ROW_BYTES as u16));
    // SAFETY: as the caller promises.
    unsafe { Tiles::shaped(&Shapes::new([rows, rows, rows, rows, rows, full, full, rows])) }
}

thread_local! {
    static ROOM: Cell<AlignedVec<u32>> = const { Cell::new(AlignedVec::new()) };
}

/// The queries of a task and the keys of a segment, in parts.
pub(super) struct Operands {
    /// Queries `[2 parts][n_rows][n_steps][16]`, then keys `[blocks][2 parts][n_steps]` tiles of `[16 pairs][16]`: those of
    /// a segment, or of one page if one tile has all rows, which then are in the first cache.
    words: AlignedVec<u32>,
    n_rows: usize,
    n_dims: usize,
}

impl Operands {
    /// Takes `q`, `[n_rows, n_dims]`.
    ///
    /// # Safety
    /// [`crate::Isa::Amx`] must be available.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
    pub(super) unsafe fn new(q: &[f32], n_rows: usize, n_dims: usize) -> Operands {
        let mut operands = Operands { words: ROOM.take(), n_rows, n_dims };
        let (row_words, q_words) = (operands.row_words(), operands.part_words());
        let n_keys = if operands.keeps_segment() { SEGMENT_LEN } else { PAGE_LEN };
        let key_words = n_keys / BLOCK_LEN * operands.block_words();
        operands.words.at_least(PARTS * q_words + key_words);
        let (upper, rest) = operands.words.as_mut_slice()[..PARTS * q_words].split_at_mut(q_words);
        for ((q, upper), rest) in
            q.chunks_exact(n_dims).zip(upper.chunks_exact_mut(row_words)).zip(rest.chunks_exact_mut(row_words))
        {
            for dim in (0..2 * row_words).step_by(16) {
                let mask = ((1u32 << n_dims.saturating_sub(dim).min(16)) - 1) as __mmask16;
                // SAFETY: so many dimensions of the row are left, and 8 words of room hold 16 halves.
                unsafe {
                    let x = _mm512_maskz_loadu_ps(mask, q.as_ptr().wrapping_add(dim));
                    let near = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
                    let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(near));
                    let left = _mm512_cvtneps_pbh(_mm512_sub_ps(x, _mm512_castsi512_ps(wide)));
                    let left = std::mem::transmute::<__m256bh, __m256i>(left);
                    _mm256_storeu_si256(upper[dim / 2..dim / 2 + 8].as_mut_ptr().cast(), near);
                    _mm256_storeu_si256(rest[dim / 2..dim / 2 + 8].as_mut_ptr().cast(), left);
                }
            }
        }
        operands
    }

    /// Leaves the memory to this thread's next task.
    pub(super) fn keep_room(self) {
        ROOM.set(self.words);
    }

    /// Whether the keys of a whole segment are kept, for several tiles; else those of the page that was set last.
    pub(super) fn keeps_segment(&self) -> bool {
        self.n_rows > TILE_LEN
    }

    fn n_steps(&self) -> usize {
        self.n_dims.div_ceil(STEP)
    }

    /// Words of a query's part: pairs of dimensions.
    fn row_words(&self) -> usize {
        self.n_steps() * STEP / 2
    }

    /// Words of one part of all queries, on cache lines.
    fn part_words(&self) -> usize {
        self.n_rows * self.row_words()
    }

    /// Words of 16 keys.
    fn block_words(&self) -> usize {
        PARTS * self.n_steps() * TILE_WORDS
    }

    /// Where block `block` of page `page` is.
    fn keys_at(&self, page: usize, block: usize) -> usize {
        let page = if self.keeps_segment() { page } else { 0 };
        PARTS * self.part_words() + (page * PAGE_LEN / BLOCK_LEN + block) * self.block_words()
    }

    /// Takes the keys of page `page` of the segment, `[4][n_dims][16]` f16. Meanwhile the bytes `ahead` are fetched.
    ///
    /// # Safety
    /// A whole page of keys, below the segment's fourth; [`crate::Isa::Amx`] must be available.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
    pub(super) unsafe fn set_keys(&mut self, page: usize, keys: &[u8], ahead: &[u8]) {
        let (n_dims, n_steps, n_blocks) = (self.n_dims, self.n_steps(), PAGE_LEN / BLOCK_LEN);
        let mut ahead = Ahead::new(ahead, n_blocks * n_steps, STEPS_PER_BURST);
        let upper_bits = _mm512_set1_epi32(!0xffff);
        // The upper halves of two numbers.
        let pair = |a: __m512i, b: __m512i| {
            _mm512_or_si512(_mm512_srli_epi32::<16>(a), _mm512_and_si512(b, upper_bits))
        };
        let rest = |x: __m512i| {
            let upper = _mm512_castsi512_ps(_mm512_and_si512(x, upper_bits));
            _mm512_castps_si512(_mm512_sub_ps(_mm512_castsi512_ps(x), upper))
        };
        for block in 0..n_blocks {
            let (at, len) = (self.keys_at(page, block), self.block_words());
            let (upper, lower) = self.words.as_mut_slice()[at..at + len].split_at_mut(len / PARTS);
            for step in 0..n_steps {
                ahead.fetch();
                for i in 0..STEP / 2 {
                    let dim = step * STEP + 2 * i;
                    let number = |dim: usize| {
                        if dim >= n_dims {
                            return _mm512_setzero_si512();
                        }
                        let at = (block * n_dims + dim) * BLOCK_LEN * size_of::<u16>();
                        // SAFETY: dimension `dim` of 16 keys.
                        let halves = unsafe { _mm256_loadu_si256(keys.as_ptr().add(at).cast()) };
                        _mm512_castps_si512(_mm512_cvtph_ps(halves))
                    };
                    let (a, b) = (number(dim), number(dim + 1));
                    let to = step * TILE_WORDS + i * TILE_LEN;
                    // SAFETY: 16 words of room each.
                    unsafe {
                        _mm512_store_si512(upper[to..to + 16].as_mut_ptr().cast(), pair(a, b));
                        _mm512_store_si512(lower[to..to + 16].as_mut_ptr().cast(), pair(rest(a), rest(b)));
                    }
                }
            }
        }
    }

    /// Scores of rows `first_row ..` and the keys of page `page`, to `scores + 64 page`, rows `row_len` apart.
    ///
    /// # Safety
    /// Tiles must be [`shaped`] for `n_rows` rows, of which scores have room; the page's keys must be set.
    pub(super) unsafe fn scores(
        &self,
        first_row: usize,
        n_rows: usize,
        page: usize,
        scores: *mut f32,
        row_len: usize,
    ) {
        assert!(first_row + n_rows <= self.n_rows && page < SEGMENT_LEN / PAGE_LEN);
        let words = self.words.as_slice().as_ptr();
        let row_bytes = self.row_words() * size_of::<u32>();
        // SAFETY: the layout above; the rest as the caller promises.
        unsafe {
            let keys = words.add(self.keys_at(page, 0));
            let (block, part) = (self.block_words(), self.block_words() / PARTS);
            zero!(0);
            zero!(1);
            zero!(2);
            zero!(3);
            for step in 0..self.n_steps() {
                let upper = words.add(first_row * self.row_words() + step * STEP / 2);
                left!(4, upper, row_bytes);
                left!(7, upper.add(self.part_words()), row_bytes);
                let keys = keys.add(step * TILE_WORDS);
                add!(0, 4, 5, keys);
                again!(0, 7, 5);
                add!(1, 4, 6, keys.add(block));
                again!(1, 7, 6);
                add!(2, 4, 5, keys.add(2 * block));
                again!(2, 7, 5);
                add!(3, 4, 6, keys.add(3 * block));
                again!(3, 7, 6);
                add!(0, 4, 5, keys.add(part));
                add!(1, 4, 6, keys.add(block + part));
                add!(2, 4, 5, keys.add(2 * block + part));
                add!(3, 4, 6, keys.add(3 * block + part));
            }
            let to = scores.add(page * PAGE_LEN);
            let row_bytes = row_len * size_of::<f32>();
            store!(0, to, row_bytes);
            store!(1, to.add(BLOCK_LEN), row_bytes);
            store!(2, to.add(2 * BLOCK_LEN), row_bytes);
            store!(3, to.add(3 * BLOCK_LEN), row_bytes);
        }
    }
}

/// As [`super::block::values`] with PAIRS.
///
/// # Safety
/// As there, with weights of 0 for keys of tiles of 32 that are not used, and with tiles [`shaped`] for the rows.
pub(super) unsafe fn values<const P: usize>(
    stride: usize,
    weights: *const u32,
    pages: &PageRun<'_, P>,
    keys_used: Range<usize>,
    sums: *mut f32,
) {
    // SAFETY: as the caller promises.
    unsafe {
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

/// # Safety
/// As [`values`], for N blocks of 16 columns.
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
        let mut part = Part([0; TILE_WORDS]);
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
                left!(4, weights.add(first_key / 2), P * PAGE_LEN * size_of::<f32>());
                let is_whole = used.len() == STEP;
                let used = used.start - first_key..used.end - first_key;
                for i in 0..N {
                    ahead.fetch();
                    let at = (blocks.start + i) * BLOCK_BYTES + step * TILE_BYTES;
                    let tile = values[at..at + TILE_BYTES].as_ptr();
                    let tile = if is_whole { tile } else { part.keep(tile.cast(), &used) };
                    match i {
                        0 => add!(0, 4, 5, tile),
                        1 => add!(1, 4, 6, tile),
                        2 => add!(2, 4, 5, tile),
                        _ => add!(3, 4, 6, tile),
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
struct Part([u32; TILE_WORDS]);

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
