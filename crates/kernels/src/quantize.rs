//! Weights → blocks of another type: what a model file is made smaller with.
//!
//! A block's scale (and minimum) is searched, not computed from its extremes: of a grid of candidates, each
//! with the least-squares scale for the levels it gives, the one with the smallest squared error is kept.
//! Where an importance of the columns is known, errors count by it. Every block is a matter of its own, so that
//! the result is the same for any number of threads, and on any instruction set: the arithmetic is plain f32
//! in one order, only compiled for wider registers.

mod plain;
mod scale_search;
mod super_blocks;

use std::sync::atomic::{AtomicUsize, Ordering};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::blocks::{BLOCK_LEN, SUPER_LEN, dequantize};
use crate::disjoint::Disjoint;
use crate::simd::{Kernel, Lanes, run_on};
use crate::{KernelError, Pool, WeightType};

/// Weights that one tile takes: 64 kB of floats, which stay in the cache.
const TILE_LEN: usize = 64 * SUPER_LEN;

/// `src`, whole rows of `n_cols` weights in blocks of `from`, as blocks of `to`.
///
/// importance: `[n_cols]`, how much a column's squared error counts; not negative, any scale.
/// dst: as many weights in blocks of `to`.
///
/// # Errors
/// When a row does not consist of whole blocks of both types, and when it holds a number that is not finite or
/// that `to` cannot hold. `dst` is then of no use.
///
/// # Panics
/// When the lengths of `src`, `dst` and `importance` do not belong together.
pub fn requantize(
    pool: &Pool,
    from: WeightType,
    src: &[u8],
    to: WeightType,
    n_cols: usize,
    importance: Option<&[f32]>,
    dst: &mut [u8],
) -> Result<(), KernelError> {
    for ty in [from, to] {
        let block_len = ty.block_len();
        if n_cols == 0 || !n_cols.is_multiple_of(block_len) {
            return Err(KernelError::BadColumns { ty: ty.name(), n_cols, block_len });
        }
    }
    let row_bytes = from.bytes_of(n_cols);
    assert!(src.len().is_multiple_of(row_bytes), "src must consist of whole rows");
    let n = src.len() / row_bytes * n_cols;
    assert_eq!(dst.len(), to.bytes_of(n), "dst must hold as many weights as src");
    assert!(importance.is_none_or(|w| w.len() == n_cols), "importance must have one number for each column");

    let first_not_finite = AtomicUsize::new(usize::MAX);
    let first_too_large = AtomicUsize::new(usize::MAX);
    let shared = Disjoint::new(dst);
    // Blocks have 1, 32 or 256 weights, so a tile's ends are ends of blocks of both types.
    pool.run(n.div_ceil(TILE_LEN), &|tile, _| {
        let first = tile * TILE_LEN;
        let len = TILE_LEN.min(n - first);
        let mut weights = [0.0; TILE_LEN];
        let weights = &mut weights[..len];
        dequantize(from, &src[from.bytes_of(first)..from.bytes_of(first + len)], weights);
        if let Some(bad) = weights.iter().position(|x| !x.is_finite()) {
            first_not_finite.fetch_min((first + bad) / n_cols, Ordering::Relaxed);
            return;
        }
        let mut wanted = [1.0; TILE_LEN];
        if let Some(importance) = importance {
            fill_repeating(&mut wanted[..len], importance, first % n_cols);
        }
        let dst = tile_of(&shared, to.bytes_of(first), to.bytes_of(len));
        let wanted = importance.map(|_| &wanted[..len]);
        if let Err(bad) = run_on(pool.isa(), Blocks { ty: to, weights, importance: wanted, dst }) {
            first_too_large.fetch_min((first + bad) / n_cols, Ordering::Relaxed);
        }
    });
    match (first_not_finite.into_inner(), first_too_large.into_inner()) {
        (usize::MAX, usize::MAX) => Ok(()),
        (usize::MAX, row) => Err(KernelError::TooLarge { row, ty: to.name() }),
        (row, _) => Err(KernelError::NonFinite { row }),
    }
}

#[allow(unsafe_code)]
#[allow(clippy::mut_from_ref)] // as `Disjoint::range`
fn tile_of<'a>(shared: &'a Disjoint<'_, u8>, first: usize, len: usize) -> &'a mut [u8] {
    // SAFETY: a tile writes the blocks of its own weights, and tiles do not overlap.
    unsafe { shared.range(first, len) }
}

/// out = `period`, again and again, from element `at` of it.
fn fill_repeating(out: &mut [f32], period: &[f32], mut at: usize) {
    let mut rest = out;
    while !rest.is_empty() {
        let n = rest.len().min(period.len() - at);
        let (now, later) = rest.split_at_mut(n);
        now.copy_from_slice(&period[at..at + n]);
        (rest, at) = (later, 0);
    }
}

/// The blocks of one tile. Gives the index of the first weight that is too large for the type.
struct Blocks<'a> {
    ty: WeightType,
    weights: &'a [f32],
    importance: Option<&'a [f32]>,
    dst: &'a mut [u8],
}

impl Kernel for Blocks<'_> {
    type Out = Result<(), usize>;

    #[inline(always)]
    fn run<L: Lanes>(self, _: L) -> Result<(), usize> {
        let Blocks { ty, weights, importance, dst } = self;
        if let Some(limit) = largest(ty)
            && let Some(bad) = weights.iter().position(|x| x.abs() > limit)
        {
            return Err(bad);
        }
        let blocks = dst.chunks_exact_mut(ty.block_bytes());
        match ty.block_len() {
            BLOCK_LEN => {
                for (i, (out, x)) in blocks.zip(weights.as_chunks().0).enumerate() {
                    plain::quantize(ty, x, &error_weights(part(importance, i)), out);
                }
            }
            SUPER_LEN => {
                for (i, (out, x)) in blocks.zip(weights.as_chunks().0).enumerate() {
                    super_blocks::quantize(ty, x, &error_weights(part(importance, i)), out);
                }
            }
            _ => floats(ty, weights, dst),
        }
        Ok(())
    }
}

/// The `i`th part of `N` columns.
#[inline(always)]
fn part<const N: usize>(importance: Option<&[f32]>, i: usize) -> Option<&[f32; N]> {
    Some(&importance?.as_chunks().0[i])
}

/// How much the squared error of each weight of a block counts.
#[inline(always)]
fn error_weights<const N: usize>(importance: Option<&[f32; N]>) -> [f32; N] {
    let Some(importance) = importance else { return [1.0; N] };
    let max = importance.iter().copied().fold(0.0, f32::max);
    // Columns that never saw anything still get their nearest levels, and no block is left without a measure.
    let floor = 1e-6;
    match max > 0.0 && max.is_finite() {
        true => importance.map(|w| (w / max).max(floor)),
        false => [1.0; N],
    }
}

/// The largest magnitude that a block of the type can hold: an f16 scale times its largest multiple.
fn largest(ty: WeightType) -> Option<f32> {
    /// Below this, rounding to f16 does not reach infinity.
    const F16_MAX: f32 = 65_504.0;
    let multiple = match ty {
        WeightType::F32 => return None,
        // Half a unit below what rounds up to infinity.
        WeightType::BF16 => return Some(f32::from_bits(0x7f7f_7fff)),
        WeightType::F16 => return Some(65_519.99),
        WeightType::Q4_0 => 7.0,
        // A minimum is an f16, too.
        WeightType::Q4_1 | WeightType::Q5_1 => 1.0,
        WeightType::Q5_0 => 15.0,
        WeightType::Q8_0 => 127.0,
        // Scales and minimums are multiples of f16s.
        WeightType::Q4K | WeightType::Q5K => 63.0,
        WeightType::Q6K => 31.0 * 127.0,
    };
    Some(F16_MAX * multiple)
}

/// F32, F16 and BF16, rounded to the nearest even.
#[inline(always)]
fn floats(ty: WeightType, weights: &[f32], dst: &mut [u8]) {
    match ty {
        WeightType::F32 => {
            dst.as_chunks_mut().0.iter_mut().zip(weights).for_each(|(out, x)| *out = x.to_le_bytes());
        }
        WeightType::BF16 => {
            let out = dst.as_chunks_mut().0.iter_mut();
            out.zip(weights).for_each(|(out, &x)| *out = bf16::from_f32(x).to_le_bytes());
        }
        _ => {
            for (out, x) in dst.chunks_mut(2 * BLOCK_LEN).zip(weights.chunks(BLOCK_LEN)) {
                let mut halves = [f16::ZERO; BLOCK_LEN];
                halves[..x.len()].convert_from_f32_slice(x);
                out.as_chunks_mut().0.iter_mut().zip(halves).for_each(|(out, h)| *out = h.to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
