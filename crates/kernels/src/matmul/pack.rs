//! Both sides of a product as the tiles read them: words that are floats, or pairs of bf16 of two neighbours in K.

#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::{BLOCK_ROWS, DEPTH, Matrix};
use crate::aligned::LINE;
use crate::simd::{Cache, Lanes, prefetch};

/// Words of K that are fetched ahead of those being packed.
const AHEAD: usize = 8;

/// How a packed block of the left side lies in memory: `[BLOCK_ROWS, DEPTH]` with a gap behind each row, so that rows do
/// not fall onto each other in the first cache, or, if the matrix was transposed, `[DEPTH, BLOCK_ROWS]`.
pub(crate) struct LeftBlock;

impl LeftBlock {
    const ROW_LEN: usize = DEPTH + LINE / size_of::<u32>();
    /// Room for it.
    pub(crate) const WORDS: usize = BLOCK_ROWS * LeftBlock::ROW_LEN;

    /// Words between two rows and between two columns.
    pub(super) const fn strides(is_transposed: bool) -> (usize, usize) {
        if is_transposed { (1, BLOCK_ROWS) } else { (LeftBlock::ROW_LEN, 1) }
    }

    /// Where a row begins.
    pub(super) const fn at<const TRANSPOSED: bool>(row: usize) -> usize {
        row * LeftBlock::strides(TRANSPOSED).0
    }
}

/// Two numbers as bf16, rounded to nearest even, the first in the lower half. A NaN stays one.
#[inline(always)]
fn pair(a: f32, b: f32) -> u32 {
    u32::from(bf16::from_f32(a).to_bits()) | u32::from(bf16::from_f32(b).to_bits()) << 16
}

/// Words of two rows side by side; where the second is missing its numbers are 0.
#[inline(always)]
fn zip<L: Lanes>(l: L, to: &mut [u32], first: &[f32], second: Option<&[f32]>) {
    let Some(second) = second else {
        to.iter_mut().zip(first).for_each(|(to, &a)| *to = pair(a, 0.0));
        return;
    };
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

/// Packs rows `rows` of the left side, words `from .. from + depth` of each.
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
        for word in 0..depth {
            for col in (from + word + AHEAD) * n_numbers..(from + word + AHEAD + 1) * n_numbers {
                let at = left.data.as_ptr().wrapping_add(col * col_stride + rows.start);
                for line in (0..rows.len()).step_by(LINE / size_of::<f32>()) {
                    prefetch(at.wrapping_add(line).cast(), Cache::First);
                }
            }
            let to = &mut to[word * BLOCK_ROWS..][..rows.len()];
            let column = |col: usize| &left.data[col * col_stride + rows.start..][..rows.len()];
            if PAIRS {
                let col = 2 * (from + word);
                zip(l, to, column(col), (col + 1 < left.n_cols).then(|| column(col + 1)));
            } else {
                to.iter_mut().zip(column(from + word)).for_each(|(to, x)| *to = x.to_bits());
            }
        }
        return;
    }
    for (i, row) in rows.enumerate() {
        let to = &mut to[i * LeftBlock::ROW_LEN..][..depth];
        let row = &left.data[row * row_stride..][..left.n_cols];
        if PAIRS {
            pairs(l, to, &row[2 * from..row.len().min(2 * (from + depth))]);
        } else {
            to.iter_mut().zip(&row[from..]).for_each(|(to, x)| *to = x.to_bits());
        }
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
        let row = |row: usize| &right.data[row * row_stride + first..][..n_cols];
        for (word, to) in to.chunks_exact_mut(width).enumerate() {
            if PAIRS {
                zip(
                    l,
                    &mut to[..n_cols],
                    row(2 * word),
                    (2 * word + 1 < right.n_rows).then(|| row(2 * word + 1)),
                );
            } else {
                to.iter_mut().zip(row(word)).for_each(|(to, x)| *to = x.to_bits());
            }
        }
        return;
    }
    // The numbers of one column lie side by side: sixteen words of each at a time, so that the panel's lines are
    // written while they are in the cache.
    const RUN: usize = 16;
    let n_words = to.len() / width;
    for from in (0..n_words).step_by(RUN) {
        let end = n_words.min(from + RUN);
        for col in 0..n_cols {
            let column = &right.data[(first + col) * col_stride..][..right.n_rows];
            let mut words = [0; RUN];
            let words = &mut words[..end - from];
            if PAIRS {
                pairs(l, words, &column[2 * from..right.n_rows.min(2 * end)]);
            } else {
                words.iter_mut().zip(&column[from..end]).for_each(|(to, x)| *to = x.to_bits());
            }
            for (i, &word) in words.iter().enumerate() {
                to[(from + i) * width + col] = word;
            }
        }
    }
}
