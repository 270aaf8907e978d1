//! Both sides of a product as the tiles read them: words that are floats, or pairs of bf16 of two neighbours in K.

#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::{BLOCK_ROWS, DEPTH, Factors, Matrix};
use crate::aligned::LINE;
use crate::simd::{Cache, Lanes, prefetch};

/// Words of K that are fetched ahead of those being packed.
const AHEAD: usize = 8;
/// Lanes of the widest vector.
const MAX_LANES: usize = 16;

/// How a packed block of the left side lies in memory: `[BLOCK_ROWS, DEPTH]` with a gap behind each row, so that rows do
/// not fall onto each other in the first cache, or, if the matrix was transposed, `[DEPTH, BLOCK_ROWS]`.
pub(crate) struct LeftBlock;

impl LeftBlock {
    const ROW_LEN: usize = DEPTH + LINE / size_of::<u32>();
    /// Room for it.
    pub(crate) const WORDS: usize = BLOCK_ROWS * LeftBlock::ROW_LEN;

    /// Words between two rows.
    pub(super) const fn row_stride(is_transposed: bool) -> usize {
        if is_transposed { 1 } else { LeftBlock::ROW_LEN }
    }

    /// Words between two columns.
    pub(super) const fn col_stride(is_transposed: bool) -> usize {
        if is_transposed { BLOCK_ROWS } else { 1 }
    }
}

/// Two numbers as bf16, rounded to nearest even, the first in the lower half. A NaN stays one.
#[inline(always)]
fn pair(a: f32, b: f32) -> u32 {
    u32::from(bf16::from_f32(a).to_bits()) | u32::from(bf16::from_f32(b).to_bits()) << 16
}

/// Words of two rows side by side; where the second is missing its numbers are 0.
#[inline(always)]
fn zip<L: Lanes>(l: L, to: &mut [u32], first: Factors<'_>, second: Option<Factors<'_>>) {
    match (first, second) {
        (Factors::Floats(first), None) => {
            to.iter_mut().zip(first).for_each(|(to, &a)| *to = pair(a, 0.0));
        }
        (Factors::Halves(first), None) => zip_words(to, first, std::iter::repeat(&0)),
        (Factors::Floats(first), Some(Factors::Floats(second))) => {
            let n_whole = to.len() / L::N * L::N;
            for at in (0..n_whole).step_by(L::N) {
                let (a, b) = (&first[at..at + L::N], &second[at..at + L::N]);
                let to = &mut to[at..at + L::N];
                // SAFETY: whole vectors of each.
                unsafe { l.store_bf16_zipped(to.as_mut_ptr(), l.load(a.as_ptr()), l.load(b.as_ptr())) };
            }
            let rest = to[n_whole..].iter_mut().zip(&first[n_whole..]).zip(&second[n_whole..]);
            rest.for_each(|((to, &a), &b)| *to = pair(a, b));
        }
        (Factors::Halves(first), Some(Factors::Halves(second))) => {
            let n_whole = to.len() / L::N * L::N;
            for at in (0..n_whole).step_by(L::N) {
                let (a, b) = (&first[at / 2..(at + L::N) / 2], &second[at / 2..(at + L::N) / 2]);
                let to = &mut to[at..at + L::N];
                // SAFETY: as many pairs as a vector has lanes, and half as many words of each.
                unsafe { l.zip_halves(to.as_mut_ptr(), a.as_ptr(), b.as_ptr()) };
            }
            zip_words(&mut to[n_whole..], &first[n_whole / 2..], &second[n_whole / 2..]);
        }
        _ => unreachable!("two rows of one matrix"),
    }
}

/// Halves of two rows side by side.
#[inline(always)]
fn zip_words<'a>(to: &mut [u32], first: &[u32], second: impl IntoIterator<Item = &'a u32>) {
    for ((to, a), b) in to.as_chunks_mut().0.iter_mut().zip(first).zip(second) {
        *to = [a & 0xffff | b << 16, a >> 16 | b & 0xffff_0000];
    }
}

/// Words of a row's neighbours, two by two; the last may be alone.
#[inline(always)]
fn pairs<L: Lanes>(l: L, to: &mut [u32], row: &[f32]) {
    let n_whole = row.len() / 2 / L::N * L::N;
    for at in (0..n_whole).step_by(L::N) {
        let from = &row[2 * at..2 * (at + L::N)];
        let to = &mut to[at..at + L::N];
        // SAFETY: two whole vectors, and room for as many halves.
        unsafe {
            let (a, b) = (l.load(from.as_ptr()), l.load(from.as_ptr().add(L::N)));
            l.store_bf16_pairs(to.as_mut_ptr().cast(), a, b);
        }
    }
    let rest = to[n_whole..].iter_mut().zip(row[2 * n_whole..].chunks(2));
    rest.for_each(|(to, ab)| *to = pair(ab[0], ab.get(1).copied().unwrap_or(0.0)));
}

/// Packs rows `rows` of the left side, words `from .. from + depth` of each, unless they are read as they lie
/// ([`Matrix::rows_as_words`]).
#[inline(always)]
pub(super) fn pack_left<L: Lanes, const PAIRS: bool, const TRANSPOSED: bool>(
    l: L,
    left: Matrix<'_>,
    rows: Range<usize>,
    from: usize,
    depth: usize,
    to: &mut [u32],
) {
    let (row_stride, col_stride) = left.strides();
    if TRANSPOSED {
        // The numbers of one column lie side by side; the next column lies where no processor would look for it.
        let n_numbers = if PAIRS { 2 } else { 1 };
        let (start, bytes) = left.data.start();
        for word in 0..depth {
            for col in (from + word + AHEAD) * n_numbers..(from + word + AHEAD + 1) * n_numbers {
                let at = start.wrapping_add((col * col_stride + rows.start) * bytes);
                for line in (0..rows.len() * bytes).step_by(LINE) {
                    prefetch(at.wrapping_add(line), Cache::First);
                }
            }
            // The last of an odd number of rows comes with a neighbour that is not looked at.
            let n_rows = if left.is_halves() { rows.len().next_multiple_of(2) } else { rows.len() };
            let to = &mut to[word * BLOCK_ROWS..][..n_rows];
            let column = |col: usize| {
                let at = col * col_stride + rows.start;
                left.data.part(at..at + n_rows)
            };
            if PAIRS {
                let col = 2 * (from + word);
                zip(l, to, column(col), (col + 1 < left.n_cols).then(|| column(col + 1)));
            } else if let Factors::Floats(column) = column(from + word) {
                to.iter_mut().zip(column).for_each(|(to, x)| *to = x.to_bits());
            }
        }
        return;
    }
    let Factors::Floats(data) = left.data else { unreachable!("rows of halves are read as they lie") };
    for (i, row) in rows.enumerate() {
        let to = &mut to[i * LeftBlock::ROW_LEN..][..depth];
        let row = &data[row * row_stride..][..left.n_cols];
        pairs(l, to, &row[2 * from..row.len().min(2 * (from + depth))]);
    }
}

/// Packs a panel of the right side; columns that it lacks are 0.
#[inline(always)]
pub(super) fn pack_right<L: Lanes, const PAIRS: bool>(l: L, right: Matrix<'_>, panel: usize, to: &mut [u32]) {
    let width = super::tile::width_of::<L>();
    let first = panel * width;
    let n_cols = width.min(right.n_cols - first);
    let (row_stride, col_stride) = right.strides();
    if n_cols < width {
        to.fill(0);
    }
    if !right.is_transposed {
        let row = |row: usize| {
            let at = row * row_stride + first;
            right.data.part(at..at + n_cols)
        };
        for (word, to) in to.chunks_exact_mut(width).enumerate() {
            if PAIRS {
                zip(
                    l,
                    &mut to[..n_cols],
                    row(2 * word),
                    (2 * word + 1 < right.n_rows).then(|| row(2 * word + 1)),
                );
            } else if let Factors::Floats(row) = row(word) {
                to.iter_mut().zip(row).for_each(|(to, x)| *to = x.to_bits());
            }
        }
        return;
    }
    // The numbers of one column lie side by side: as many words of as many columns as a vector has lanes at a time, so
    // that the panel's lines are written while they are in the cache.
    let n_words = to.len() / width;
    let (start, bytes) = right.data.start();
    let bytes_of_word = if PAIRS { 2 * bytes } else { bytes };
    for from in (0..n_words).step_by(L::N) {
        let end = n_words.min(from + L::N);
        for first_col in (0..n_cols).step_by(L::N) {
            let end_col = n_cols.min(first_col + L::N);
            let mut block = [0; MAX_LANES * MAX_LANES];
            for col in first_col..end_col {
                let at = (first + col) * col_stride;
                let column = right.data.part(at..at + right.n_rows);
                for line in (0..MAX_LANES * bytes_of_word).step_by(LINE) {
                    prefetch(start.wrapping_add(at * bytes + end * bytes_of_word + line), Cache::First);
                }
                let words = &mut block[(col - first_col) * L::N..][..end - from];
                match column {
                    Factors::Floats(column) if PAIRS => {
                        pairs(l, words, &column[2 * from..right.n_rows.min(2 * end)])
                    }
                    Factors::Floats(column) => {
                        words.iter_mut().zip(&column[from..end]).for_each(|(to, x)| *to = x.to_bits());
                    }
                    Factors::Halves(column) => words.copy_from_slice(&column[from..end]),
                }
            }
            let to = &mut to[from * width + first_col..];
            if end - from == L::N && end_col - first_col == L::N {
                assert!(to.len() >= (L::N - 1) * width + L::N, "whole rows of the panel");
                // SAFETY: the block is whole, and as many rows of the panel are there.
                unsafe { l.transpose(block.as_ptr(), to.as_mut_ptr(), width) };
                continue;
            }
            for (col, words) in block.chunks_exact(L::N).take(end_col - first_col).enumerate() {
                for (i, &word) in words[..end - from].iter().enumerate() {
                    to[i * width + col] = word;
                }
            }
        }
    }
}
