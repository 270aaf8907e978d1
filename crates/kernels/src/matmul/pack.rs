//! Both sides of a product as the tiles read them: words that are floats, or pairs of bf16 of two neighbours in K.

use std::ops::Range;

use super::{BLOCK_ROWS, DEPTH, Matrix};
use crate::aligned::LINE;
use crate::simd::Lanes;

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
    bf16_bits(a) >> 16 | bf16_bits(b) & 0xffff_0000
}

/// bf16 in the upper half.
#[inline(always)]
fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    if x.is_nan() { 0x7fc0_0000 } else { rounded }
}

/// Words of two rows side by side; where the second is missing its numbers are 0.
#[inline(always)]
fn zip(to: &mut [u32], first: &[f32], second: Option<&[f32]>) {
    match second {
        Some(second) => {
            for ((to, &a), &b) in to.iter_mut().zip(first).zip(second) {
                *to = pair(a, b);
            }
        }
        None => {
            for (to, &a) in to.iter_mut().zip(first) {
                *to = pair(a, 0.0);
            }
        }
    }
}

/// Packs rows `rows` of the left side, words `from .. from + depth` of each.
#[inline(always)]
pub(super) fn pack_left<L: Lanes, const PAIRS: bool, const TRANSPOSED: bool>(
    left: Matrix<'_>,
    rows: Range<usize>,
    from: usize,
    depth: usize,
    to: &mut [u32],
) {
    let (row_stride, col_stride) = left.strides();
    if TRANSPOSED {
        // The numbers of one column lie side by side.
        for word in 0..depth {
            let to = &mut to[word * BLOCK_ROWS..][..rows.len()];
            let column = |col: usize| &left.data[col * col_stride + rows.start..][..rows.len()];
            if PAIRS {
                let col = 2 * (from + word);
                zip(to, column(col), (col + 1 < left.n_cols).then(|| column(col + 1)));
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
            let (pairs, last) = row[2 * from..row.len().min(2 * (from + depth))].as_chunks::<2>();
            for (to, &[a, b]) in to.iter_mut().zip(pairs) {
                *to = pair(a, b);
            }
            if let (Some(to), [a]) = (to.last_mut(), last) {
                *to = pair(*a, 0.0);
            }
        } else {
            to.iter_mut().zip(&row[from..]).for_each(|(to, x)| *to = x.to_bits());
        }
    }
}

/// Packs a panel of the right side; columns that it lacks are 0.
#[inline(always)]
pub(super) fn pack_right<L: Lanes, const PAIRS: bool>(right: Matrix<'_>, panel: usize, to: &mut [u32]) {
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
            for word in from..end {
                to[word * width + col] = if PAIRS {
                    pair(column[2 * word], column.get(2 * word + 1).copied().unwrap_or(0.0))
                } else {
                    column[word].to_bits()
                };
            }
        }
    }
}
