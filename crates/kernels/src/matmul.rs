//! Matrices times matrices, as training needs them: in f32, or with both sides rounded to bf16 and sums in f32.
//!
//! The right side is packed once, in panels as wide as a tile of registers; the left side is read as it lies, or packed
//! block by block by whoever multiplies it where it has to be rounded or transposed. Every sum runs over K in
//! order, in steps of [`DEPTH`] words that are added to the result one after the other: a number of the result depends
//! on neither the tile it is in nor the number of threads.
#![allow(unsafe_code)]

mod factors;
mod pack;
mod right;
mod tile;

use std::cell::RefCell;
use std::ops::Range;

use crate::aligned::{AlignedWords, LINE};
use crate::disjoint::Disjoint;
use crate::simd::{Cache, Kernel, Lanes, prefetch, run_on, run_on_with_bf16};
use crate::{Isa, Pool};

pub(crate) use factors::{DisjointFactors, get, halves_of, put};
pub use factors::{FactorRoom, Factors, FactorsMut, copy};
pub(crate) use pack::LeftBlock;
use pack::{pack_left, pack_right};
pub use right::{RightSide, StoredMatrix};
use tile::{TILE_ROWS, Tile};

/// Words of K in a block: floats, or pairs of bf16.
const DEPTH: usize = 256;
/// Rows of the left side that are packed at a time: with [`DEPTH`] words each they fit the second cache.
const BLOCK_ROWS: usize = 96;
/// Numbers of the right side that are packed at a time.
const MAX_PACKED: usize = 2 << 20;
/// Rows of the left side that are worth a task of their own.
const LEAST_ROWS: usize = 48;
/// Panels that a task takes at most, about.
const PART_PANELS: usize = 16;
/// Fewer tasks than these for each worker are cut by columns too.
const TASKS_PER_WORKER: usize = 2;

/// In what the factors of a product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Single precision.
    F32,
    /// Both factors rounded to bf16 (nearest even), their products and sums in single precision. Where the processor
    /// has no such products this is [`Precision::F32`].
    Bf16,
}

/// Numbers in rows, or what they are when rows and columns change places.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: Factors<'a>,
    n_rows: usize,
    n_cols: usize,
    /// From one row as it is stored to the next.
    stride: usize,
    is_transposed: bool,
}

impl<'a> Matrix<'a> {
    /// `data: [n_rows, n_cols]`
    ///
    /// # Panics
    /// When there are fewer or more numbers.
    #[must_use]
    pub fn new(data: &'a [f32], n_rows: usize, n_cols: usize) -> Matrix<'a> {
        assert_eq!(data.len(), n_rows * n_cols, "the matrix must be [{n_rows}, {n_cols}]");
        Matrix { data: Factors::Floats(data), n_rows, n_cols, stride: n_cols, is_transposed: false }
    }

    /// `factors: [n_rows, n_cols]`
    ///
    /// # Panics
    /// When there are fewer or more numbers, or rows of halves are not whole words.
    #[must_use]
    pub fn of(factors: Factors<'a>, n_rows: usize, n_cols: usize) -> Matrix<'a> {
        assert_eq!(factors.len(), n_rows * n_cols, "the matrix must be [{n_rows}, {n_cols}]");
        assert!(
            matches!(factors, Factors::Floats(_)) || n_cols.is_multiple_of(2),
            "halves lie two in a word"
        );
        Matrix { data: factors, n_rows, n_cols, stride: n_cols, is_transposed: false }
    }

    /// The first `n_cols` of every `stride` numbers, as rows.
    ///
    /// # Panics
    /// When rows overlap or there are too few numbers.
    #[must_use]
    pub fn strided(data: Factors<'a>, n_rows: usize, n_cols: usize, stride: usize) -> Matrix<'a> {
        assert!(n_cols <= stride, "rows of {n_cols} numbers do not fit a stride of {stride}");
        assert!(n_rows == 0 || data.len() >= (n_rows - 1) * stride + n_cols, "too few numbers");
        Matrix { data, n_rows, n_cols, stride, is_transposed: false }
    }

    /// Rows of halves, each in the first half of a row of `n_cols` floats ([`halves_of`]).
    pub(crate) fn halves_in_floats(data: &'a [f32], n_rows: usize, n_cols: usize) -> Matrix<'a> {
        assert!(data.len() == n_rows * n_cols && n_cols.is_multiple_of(2), "rows of whole words");
        let data = Factors::Halves(as_words(data));
        Matrix { data, n_rows, n_cols, stride: 2 * n_cols, is_transposed: false }
    }

    /// Columns for rows; nothing is moved.
    #[must_use]
    pub fn transposed(self) -> Matrix<'a> {
        let Matrix { data, n_rows, n_cols, stride, is_transposed } = self;
        Matrix { data, n_rows: n_cols, n_cols: n_rows, stride, is_transposed: !is_transposed }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.n_rows
    }

    /// Some rows and columns.
    pub(crate) fn part(self, rows: Range<usize>, cols: Range<usize>) -> Matrix<'a> {
        let (row_stride, col_stride) = self.strides();
        let data = self.data.from(rows.start * row_stride + cols.start * col_stride);
        Matrix { data, n_rows: rows.len(), n_cols: cols.len(), ..self }
    }

    /// Whether its numbers are bf16 already.
    fn is_halves(&self) -> bool {
        self.data.is_halves()
    }

    /// Its rows from one on, if they can be read as they lie, as words like those of the right side: floats, or pairs of
    /// halves; and words from one row to the next.
    #[inline(always)]
    fn rows_as_words<const PAIRS: bool>(&self, first: usize) -> Option<(&'a [u32], usize)> {
        match self.data {
            _ if self.is_transposed => None,
            Factors::Floats(x) if !PAIRS => Some((as_words(&x[first * self.stride..]), self.stride)),
            Factors::Floats(_) => None,
            Factors::Halves(x) => Some((&x[first * self.stride / 2..], self.stride / 2)),
        }
    }

    /// How far apart two numbers of neighbouring rows, and of neighbouring columns, are.
    fn strides(&self) -> (usize, usize) {
        if self.is_transposed { (1, self.stride) } else { (self.stride, 1) }
    }
}

/// Whether products are computed in bf16.
pub(crate) fn is_bf16(precision: Precision, isa: Isa) -> bool {
    precision == Precision::Bf16 && isa.has_bf16()
}

fn as_words(floats: &[f32]) -> &[u32] {
    // SAFETY: a word is as large and as aligned as a float.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) }
}

/// What becomes of what was in the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// The product takes its place.
    Replace,
    /// The product is added to it.
    Add,
}

thread_local! {
    /// The packed right side, kept so that no call allocates.
    static RIGHT: RefCell<AlignedWords> = RefCell::default();
    /// A worker's packed block of the left side.
    static LEFT: RefCell<AlignedWords> = RefCell::default();
}

/// out = left · right, or out += left · right; left: `[m, k]`, right: `[k, n]`, out: `[m, n]`.
///
/// # Panics
/// When shapes do not fit.
pub fn matmul<'a>(
    pool: &Pool,
    precision: Precision,
    left: Matrix<'_>,
    right: impl Into<RightSide<'a>>,
    out: &mut [f32],
    into: Store,
) {
    matmul_each(pool, precision, &mut [(left, out)], right, into);
}

/// As [`matmul`], of several left sides, each with its own result: the right side is packed once for all of them.
///
/// # Panics
/// When shapes do not fit.
pub fn matmul_each<'a>(
    pool: &Pool,
    precision: Precision,
    products: &mut [(Matrix<'_>, &mut [f32])],
    right: impl Into<RightSide<'a>>,
    into: Store,
) {
    let right = right.into();
    let (k, n) = right.shape();
    let isa = pool.isa();
    let is_bf16 = is_bf16(precision, isa);
    let mut is_empty = true;
    for (left, out) in &mut *products {
        assert_eq!(left.n_cols, k, "the left side's columns must be the right side's rows");
        assert_eq!(out.len(), left.n_rows * n, "the result must be [{}, {n}]", left.n_rows);
        assert!(
            is_bf16 || !(left.is_halves() || right.is_halves()),
            "halves are factors of products in bf16"
        );
        if k == 0 && into == Store::Replace {
            out.fill(0.0);
        }
        is_empty &= out.is_empty();
    }
    if is_empty || k == 0 {
        return;
    }
    let width = tile::width(isa);
    let (row_step, col_step) = steps(k, n);
    RIGHT.with_borrow_mut(|room| {
        for cols in ranges(n, col_step) {
            for rows in ranges(k, row_step) {
                let into = if rows.start > 0 { Store::Add } else { into };
                let n_words = if is_bf16 { rows.len().div_ceil(2) } else { rows.len() };
                let n_panels = cols.len().div_ceil(width);
                room.at_least(n_panels * n_words * width);
                let words = &mut room.as_mut_slice()[..n_panels * n_words * width];
                right.part(rows.clone(), cols.clone()).pack(pool, isa, is_bf16, width, words);
                let right = PackedRight { words, n_words, n_cols: cols.len() };
                for (left, out) in products.iter_mut().filter(|(left, _)| left.n_rows > 0) {
                    let left = left.part(0..left.n_rows, rows.clone());
                    let out = Rows { data: &Disjoint::new(out), first: cols.start, stride: n };
                    multiply(pool, isa, is_bf16, left, right, into, out);
                }
            }
        }
    });
}

/// Rows and columns of the right side that are packed at a time, whole blocks of K and whole panels: more of them would
/// neither stay in a cache nor in bounds. The longer side is cut, so that the other side's sums or the left side are not
/// gone through more often than needed.
fn steps(k: usize, n: usize) -> (usize, usize) {
    let most = MAX_PACKED.div_ceil(k.min(n)).next_multiple_of(2 * DEPTH);
    if n > k { (k, most) } else { (most, n) }
}

fn ranges(len: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(step).map(move |from| from..len.min(from + step))
}

/// All rows of the left side by all panels.
fn multiply(
    pool: &Pool,
    isa: Isa,
    is_bf16: bool,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    into: Store,
    out: Rows<'_>,
) {
    let m = left.n_rows;
    let n_panels = right.n_cols.div_ceil(tile::width(isa));
    let block_rows = block_rows(m, pool.n_threads());
    let n_blocks = m.div_ceil(block_rows);
    // Every part packs its rows of the left side anew; but with large ones a worker would wait long for the last.
    let enough = (TASKS_PER_WORKER * pool.n_threads()).div_ceil(n_blocks);
    let n_parts = enough.max(n_panels / PART_PANELS).min(n_panels);
    pool.run(n_blocks * n_parts, &|task, _| {
        let (block, part) = (task / n_parts, task % n_parts);
        let panels = n_panels * part / n_parts..n_panels * (part + 1) / n_parts;
        let rows = block * block_rows..m.min((block + 1) * block_rows);
        LEFT.with_borrow_mut(|room| {
            room.at_least(LeftBlock::WORDS);
            let room = room.as_mut_slice();
            dispatch(isa, is_bf16, Block { left, right, rows, panels, is_bf16, into, out, room });
        });
    });
}

/// Rows of a task: a block, or fewer where there would be less than enough tasks, whole tiles.
fn block_rows(m: usize, n_threads: usize) -> usize {
    let even = m.div_ceil(TASKS_PER_WORKER * n_threads).next_multiple_of(TILE_ROWS);
    even.clamp(LEAST_ROWS, BLOCK_ROWS)
}

/// Runs a kernel with the processor's own products of bf16, if they are asked for.
pub(crate) fn dispatch<K: Kernel>(isa: Isa, is_bf16: bool, kernel: K) -> K::Out {
    if is_bf16 { run_on_with_bf16(isa, kernel) } else { run_on(isa, kernel) }
}

/// Some rows of the result by some panels of its columns.
struct Block<'a> {
    left: Matrix<'a>,
    right: PackedRight<'a>,
    rows: Range<usize>,
    panels: Range<usize>,
    is_bf16: bool,
    into: Store,
    out: Rows<'a>,
    room: &'a mut [u32],
}

impl Kernel for Block<'_> {
    type Out = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Block { left, right, rows, panels, is_bf16, into, out, room } = self;
        let all = |_| Needed { cols: 0..usize::MAX, depth: 0..usize::MAX };
        if is_bf16 {
            product::<L, true>(l, left, right, rows, panels, into, &out, all, room);
        } else {
            product::<L, false>(l, left, right, rows, panels, into, &out, all, room);
        }
    }
}

/// A right side, packed.
#[derive(Clone, Copy)]
pub(crate) struct PackedRight<'a> {
    pub(crate) words: &'a [u32],
    /// Words of K in a panel.
    pub(crate) n_words: usize,
    pub(crate) n_cols: usize,
}

/// The result, rows of which several may write at once.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a Disjoint<'a, f32>,
    /// Where the first row begins.
    pub(crate) first: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
}

impl PackedRight<'_> {
    /// Panels of its first columns.
    #[inline(always)]
    pub(crate) fn panels<L: Lanes>(&self) -> Range<usize> {
        0..self.n_cols.div_ceil(tile::width_of::<L>())
    }
}

/// Packs a right side whole.
#[inline(always)]
pub(crate) fn pack<'a, L: Lanes, const PAIRS: bool>(
    l: L,
    right: Matrix<'_>,
    room: &'a mut AlignedWords,
) -> PackedRight<'a> {
    let n_words = if PAIRS { right.n_rows.div_ceil(2) } else { right.n_rows };
    let panel_len = n_words * tile::width_of::<L>();
    let n_panels = right.n_cols.div_ceil(tile::width_of::<L>());
    room.at_least(n_panels * panel_len);
    let room = room.as_mut_slice();
    for panel in 0..n_panels {
        pack_right::<L, PAIRS>(l, right, panel, &mut room[panel * panel_len..][..panel_len]);
    }
    PackedRight { words: &room[..n_panels * panel_len], n_words, n_cols: right.n_cols }
}

/// Of some rows of a product the columns that somebody will read, and the part of K where the left side is not zero.
pub(crate) struct Needed {
    pub(crate) cols: Range<usize>,
    pub(crate) depth: Range<usize>,
}

/// Rows of `left`, which may be less deep than `right`, by panels of `right`; of each tile's rows only what is needed.
/// `room`: [`LeftBlock::WORDS`].
#[inline(always)]
#[allow(clippy::too_many_arguments)] // a product, its part and where it goes
pub(crate) fn product<L: Lanes, const PAIRS: bool>(
    l: L,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    into: Store,
    out: &Rows<'_>,
    needed: impl Fn(Range<usize>) -> Needed,
    room: &mut [u32],
) {
    if left.is_transposed {
        blocks::<L, PAIRS, true>(l, left, right, rows, panels, into, out, needed, room);
    } else {
        blocks::<L, PAIRS, false>(l, left, right, rows, panels, into, out, needed, room);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)] // as above
fn blocks<L: Lanes, const PAIRS: bool, const TRANSPOSED: bool>(
    l: L,
    left: Matrix<'_>,
    right: PackedRight<'_>,
    rows: Range<usize>,
    panels: Range<usize>,
    into: Store,
    out: &Rows<'_>,
    needed: impl Fn(Range<usize>) -> Needed,
    room: &mut [u32],
) {
    let numbers_of_word = if PAIRS { 2 } else { 1 };
    let width = tile::width_of::<L>();
    let n_words = if PAIRS { left.n_cols.div_ceil(2) } else { left.n_cols };
    assert!(
        n_words <= right.n_words,
        "the left side is {n_words} words deep, the right side {}",
        right.n_words
    );
    for first in rows.clone().step_by(BLOCK_ROWS) {
        let n_rows = BLOCK_ROWS.min(rows.end - first);
        for from in (0..n_words).step_by(DEPTH) {
            let depth = DEPTH.min(n_words - from);
            let as_they_lie = if TRANSPOSED { None } else { left.rows_as_words::<PAIRS>(first) };
            let is_direct = as_they_lie.is_some();
            let (left_words, left_stride) = match as_they_lie {
                Some((rows, stride)) => (&rows[from..], stride),
                None => {
                    let rows = first..first + n_rows;
                    pack_left::<L, PAIRS, TRANSPOSED>(l, left, rows, from, depth, room);
                    (&*room, LeftBlock::row_stride(TRANSPOSED))
                }
            };
            let col_stride = LeftBlock::col_stride(TRANSPOSED);
            let adds = from > 0 || into == Store::Add;
            for panel in panels.clone() {
                let first_col = panel * width;
                for row in (0..n_rows).step_by(TILE_ROWS) {
                    let tile_rows = TILE_ROWS.min(n_rows - row);
                    let Needed { cols, depth: of } = needed(first + row..first + row + tile_rows);
                    let begin = (of.start / numbers_of_word).clamp(from, from + depth);
                    let end = of.end.div_ceil(numbers_of_word).clamp(begin, from + depth);
                    let is_needed = cols.start < first_col + width && first_col < cols.end;
                    if !is_needed || adds && begin == end {
                        continue;
                    }
                    let words =
                        &right.words[(panel * right.n_words + begin) * width..][..(end - begin) * width];
                    if is_direct && panel == panels.start && row + TILE_ROWS < n_rows {
                        let next = &left_words[(row + TILE_ROWS) * left_stride..];
                        fetch_rows(next, TILE_ROWS.min(n_rows - row - TILE_ROWS), left_stride, depth);
                    }
                    let tile = Tile {
                        n_rows: tile_rows,
                        n_cols: width.min(right.n_cols - first_col),
                        depth: end - begin,
                        left: left_words[row * left_stride + (begin - from) * col_stride..].as_ptr(),
                        left_stride,
                        right: words.as_ptr(),
                        first: out.first + (first + row) * out.stride + first_col,
                        row_len: out.stride,
                        adds,
                    };
                    // SAFETY: a task alone writes its rows and columns; both sides are as deep as said.
                    unsafe { tile::multiply::<L, PAIRS, TRANSPOSED>(l, &tile, out.data) };
                }
            }
        }
    }
}

/// Asks for the words of some rows, which no processor would look for at the stride of a row.
#[inline(always)]
fn fetch_rows(words: &[u32], n_rows: usize, stride: usize, depth: usize) {
    for row in 0..n_rows {
        for word in (0..depth).step_by(LINE / size_of::<u32>()) {
            prefetch(words.as_ptr().wrapping_add(row * stride + word).cast(), Cache::First);
        }
    }
}

#[cfg(test)]
mod tests;
