//! The scale, or scale and minimum, that a short run of weights is stored with least error under.
//!
//! A level is a whole number q; a weight is stored as scale · q, or scale · q + min. For fixed levels the best
//! scale (and minimum) is a least-squares solution; the levels in turn are the nearest ones under some scale.
//! The search tries scales that spread the run over a little more or less than all levels.

use half::f16;

/// The range of the levels of a type, as floats.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    pub(super) low: f32,
    pub(super) high: f32,
}

/// 1.5 · 2²³: added and taken away again, it leaves a float of less than 2²² rounded to a whole number.
const ROUNDER: f32 = 12_582_912.0;

impl Levels {
    /// The level next to `x`, a weight divided by the scale.
    #[inline(always)]
    pub(super) fn nearest(self, x: f32) -> f32 {
        let x = if x > self.low { x } else { self.low };
        let x = if x < self.high { x } else { self.high };
        (x + ROUNDER) - ROUNDER
    }
}

/// The nearest finite f16, as it will be read back.
#[inline(always)]
pub(super) fn as_f16(x: f32) -> f32 {
    f16::from_f32(x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32())).to_f32()
}

/// 1 / x, and 0 for a scale of 0: all weights then take the level 0.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Sums of `S` terms over a run, in an order that fills registers: eight partial sums, then these.
#[inline(always)]
pub(super) fn sums<const N: usize, const S: usize>(terms: impl Fn(usize) -> [f32; S]) -> [f32; S] {
    let mut lanes = [[0.0f32; 8]; S];
    for i in 0..N / 8 {
        let eight: [[f32; S]; 8] = std::array::from_fn(|l| terms(8 * i + l));
        for (s, lanes) in lanes.iter_mut().enumerate() {
            lanes.iter_mut().zip(&eight).for_each(|(lane, terms)| *lane += terms[s]);
        }
    }
    lanes.map(|p| ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7])))
}

/// Σ w · (x − scale · level)², with the nearest levels.
#[inline(always)]
pub(super) fn symmetric_error<const N: usize>(x: &[f32; N], w: &[f32; N], levels: Levels, scale: f32) -> f32 {
    let inv = inverse(scale);
    let [error] = sums::<N, 1>(|i| {
        let difference = x[i] - scale * levels.nearest(x[i] * inv);
        [w[i] * difference * difference]
    });
    error
}

/// The scale for weights stored as scale · level; 0 where all are 0. It may be negative: the levels reach
/// further down than up, and the larger half belongs there.
///
/// `n_steps` candidates on either side of the plain one.
#[inline(always)]
pub(super) fn symmetric<const N: usize>(x: &[f32; N], w: &[f32; N], levels: Levels, n_steps: i32) -> f32 {
    let largest = x.iter().fold(0.0f32, |max, &x| if x.abs() > max.abs() { x } else { max });
    if largest == 0.0 {
        return 0.0;
    }
    // The larger half on either side, where one side reaches noticeably further.
    let n_sides = if levels.low < -16.0 { 1 } else { 2 };
    let n_starts = n_sides * (2 * n_steps + 1);
    let (mut gain, mut best) = (0.0, largest / levels.low);
    for turn in 0..n_starts + MAX_REFINEMENTS {
        let is_start = turn < n_starts;
        let inv = if is_start {
            let reach = levels.low - STEP * (turn / n_sides - n_steps) as f32;
            if turn % n_sides == 0 { reach / largest } else { -reach / largest }
        } else {
            // From the best, nearest levels and least squares in turn, until nothing is gained.
            inverse(best)
        };
        let [wxq, wqq] = sums::<N, 2>(|i| {
            let q = levels.nearest(x[i] * inv);
            [w[i] * x[i] * q, w[i] * q * q]
        });
        // Under the least-squares scale Σwxq² / Σwq² of the squares is explained, the rest is the error. Not a
        // number where all levels are 0.
        let scale = wxq / wqq;
        if wxq * scale > gain {
            (gain, best) = (wxq * scale, scale);
        } else if !is_start {
            break;
        }
    }
    best
}

/// Between two candidates, in levels at the end of the range.
const STEP: f32 = 0.2;
/// Rounds of refinement at most; each costs as much as a candidate.
const MAX_REFINEMENTS: i32 = 4;

/// Scale and minimum of weights stored as scale · level + min, levels from 0.
#[derive(Clone, Copy)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) min: f32,
}

impl Affine {
    /// The level next to `x`; `inv` is the inverse of the scale.
    #[inline(always)]
    pub(super) fn nearest(self, x: f32, inv: f32, levels: Levels) -> f32 {
        levels.nearest((x - self.min) * inv)
    }

    /// Σ w · (x − scale · level − min)², with the nearest levels.
    #[inline(always)]
    pub(super) fn error<const N: usize>(self, x: &[f32; N], w: &[f32; N], levels: Levels) -> f32 {
        let inv = inverse(self.scale);
        let [error] = sums::<N, 1>(|i| {
            let difference = x[i] - self.scale * self.nearest(x[i], inv, levels) - self.min;
            [w[i] * difference * difference]
        });
        error
    }
}

/// Which minimums a type can store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Minimum {
    /// Any.
    Free,
    /// None above 0: the K types subtract a minimum that has no sign.
    AtMostZero,
}

/// Scale (not negative) and minimum for weights stored as scale · level + min.
#[inline(always)]
pub(super) fn affine<const N: usize>(x: &[f32; N], w: &[f32; N], levels: Levels, minimum: Minimum) -> Affine {
    /// Candidates on either side of the plain scale.
    const N_STEPS: i32 = 5;
    let low = x.iter().copied().fold(f32::INFINITY, f32::min);
    let high = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let low = if minimum == Minimum::AtMostZero { low.min(0.0) } else { low };
    let range = high - low;
    if range <= 0.0 {
        return Affine { scale: 0.0, min: low };
    }
    // Relative to the lowest, so that a minimum far from 0 does not drown the rest.
    let x = x.map(|x| x - low);
    let highest_min = if minimum == Minimum::AtMostZero { -low } else { f32::INFINITY };
    let [sw, swx] = sums::<N, 2>(|i| [w[i], w[i] * x[i]]);
    let mut best = Affine { scale: range / levels.high, min: 0.0 };
    let mut most = f32::NEG_INFINITY;
    // Each start is fitted twice: the second fit lets both ends of the range move. Then from the best, until
    // nothing is gained.
    let n_starts = 2 * (2 * N_STEPS + 1);
    let mut from = best;
    for turn in 0..n_starts + MAX_REFINEMENTS {
        let is_start = turn < n_starts;
        if !is_start {
            from = best;
        } else if turn % 2 == 0 {
            let reach = levels.high + STEP * (turn / 2 - N_STEPS) as f32;
            from = Affine { scale: range / reach, min: 0.0 };
        }
        let inv = inverse(from.scale);
        let [swq, swqq, swxq] = sums::<N, 3>(|i| {
            let q = from.nearest(x[i], inv, levels);
            let wq = w[i] * q;
            [wq, wq * q, wq * x[i]]
        });
        // The least squared error for these levels; all of one level tell nothing.
        let determinant = sw * swqq - swq * swq;
        if determinant.is_nan() || determinant <= 0.0 {
            continue;
        }
        let free = Affine {
            scale: (sw * swxq - swx * swq) / determinant,
            min: (swqq * swx - swq * swxq) / determinant,
        };
        from = match free.min > highest_min {
            true => Affine { scale: (swxq - highest_min * swq) / swqq, min: highest_min },
            false => free,
        };
        // What it explains of the squares; the rest is the error.
        let Affine { scale: s, min: m } = from;
        let gain = s * (2.0 * swxq - s * swqq - 2.0 * m * swq) + m * (2.0 * swx - m * sw);
        if gain > most {
            (best, most) = (from, gain);
        } else if !is_start {
            break;
        }
    }
    Affine { scale: best.scale, min: low + best.min }
}
