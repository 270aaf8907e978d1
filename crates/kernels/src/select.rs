//! What sampling asks of a row of logits.
#![allow(unsafe_code)]

use crate::Isa;
use crate::simd::{Kernel, Lanes, run_on};

/// The index of the largest logit, the lowest of equals; `None` for an empty row or one of NaN alone.
pub fn argmax(isa: Isa, logits: &[f32]) -> Option<usize> {
    let max = max(isa, logits)?;
    logits.iter().position(|&x| x == max)
}

/// The largest logit, NaN set aside; `None` for an empty row or one of NaN alone.
pub fn max(isa: Isa, logits: &[f32]) -> Option<f32> {
    let isa = usable(isa);
    let max = run_on(isa, Max(logits));
    // Nothing compared above −infinity: it is there itself, or there is nothing.
    if max > f32::NEG_INFINITY || logits.contains(&max) { Some(max) } else { None }
}

/// ln Σ e^(logit / temperature); −infinity for an empty row.
pub fn log_sum_exp(isa: Isa, logits: &[f32], temperature: f32) -> f32 {
    let Some(max) = max(isa, logits) else { return f32::NEG_INFINITY };
    if max == f32::NEG_INFINITY {
        return max;
    }
    let inverse = 1.0 / temperature;
    let sum = run_on(usable(isa), SumExp { logits, max, inverse });
    max * inverse + sum.ln()
}

/// logits = ln softmax(logits)
pub fn log_softmax(isa: Isa, logits: &mut [f32]) {
    let total = log_sum_exp(isa, logits, 1.0);
    logits.iter_mut().for_each(|x| *x -= total);
}

/// Whether every number is finite.
pub fn finite(isa: Isa, x: &[f32]) -> bool {
    run_on(usable(isa), Finite(x))
}

/// The `k` largest logits with their indices, largest first, the lower index first among equals; NaN is left
/// out. `top` is cleared and filled.
pub fn top_k(logits: &[f32], k: usize, top: &mut Vec<(u32, f32)>) {
    top.clear();
    if k == 0 {
        return;
    }
    // Candidates gather until there are twice as many as asked for; then the better half stays, and only
    // what beats its worst gets in. On a real row few do after the first thousands.
    let room = (2 * k).max(64);
    let mut worst = f32::NEG_INFINITY;
    let mut is_full = false;
    for (i, &x) in logits.iter().enumerate() {
        if x.is_nan() || (is_full && x <= worst) {
            continue;
        }
        top.push((i as u32, x));
        if top.len() == room {
            top.select_nth_unstable_by(k - 1, better);
            top.truncate(k);
            worst = top[k - 1].1;
            is_full = true;
        }
    }
    top.sort_unstable_by(better);
    top.truncate(k);
}

fn better(a: &(u32, f32), b: &(u32, f32)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// These functions take an instruction set without a pool that has checked it.
fn usable(isa: Isa) -> Isa {
    if isa.is_available() { isa } else { Isa::Scalar }
}

struct Max<'a>(&'a [f32]);

impl Kernel for Max<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let mut largest = [l.splat(f32::NEG_INFINITY); 4];
        let n_whole = self.0.len() / L::N;
        for i in 0..n_whole {
            // SAFETY: whole vectors of the row.
            let x = unsafe { l.load(self.0.as_ptr().add(i * L::N)) };
            largest[i % 4] = l.max(x, largest[i % 4]);
        }
        let largest = l.max(l.max(largest[0], largest[1]), l.max(largest[2], largest[3]));
        let rest = &self.0[n_whole * L::N..];
        rest.iter().fold(l.largest(largest), |max, &x| if x > max { x } else { max })
    }
}

struct SumExp<'a> {
    logits: &'a [f32],
    max: f32,
    inverse: f32,
}

impl Kernel for SumExp<'_> {
    type Out = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (max, inverse) = (l.splat(self.max), l.splat(self.inverse));
        // Each lane of four vectors adds up a share, so that rounding stays small over large vocabularies.
        let mut sums = [l.splat(0.0); 4];
        let n_whole = self.logits.len() / L::N;
        for i in 0..n_whole {
            // SAFETY: whole vectors of the row.
            let x = unsafe { l.load(self.logits.as_ptr().add(i * L::N)) };
            sums[i % 4] = l.add(sums[i % 4], l.exp(l.mul(l.sub(x, max), inverse)));
        }
        let rest = &self.logits[n_whole * L::N..];
        let mut padded = [f32::NEG_INFINITY; 16];
        padded[..rest.len()].copy_from_slice(rest);
        // SAFETY: the buffer holds the widest vector.
        let x = unsafe { l.load(padded.as_ptr()) };
        sums[0] = l.add(sums[0], l.exp(l.mul(l.sub(x, max), inverse)));
        l.sum(l.add(l.add(sums[0], sums[1]), l.add(sums[2], sums[3])))
    }
}

struct Finite<'a>(&'a [f32]);

impl Kernel for Finite<'_> {
    type Out = bool;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> bool {
        let mut sum = l.splat(0.0);
        let n_whole = self.0.len() / L::N;
        for i in 0..n_whole {
            // SAFETY: whole vectors of x.
            let x = unsafe { l.load(self.0.as_ptr().add(i * L::N)) };
            // 0 for a finite number, NaN for the others, and that stays.
            sum = l.fma(x, l.splat(0.0), sum);
        }
        l.sum(sum) == 0.0 && self.0[n_whole * L::N..].iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::random_floats;

    fn sets() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    #[test]
    fn top_k_equals_sorting_everything() {
        for (n, k) in [(0, 3), (1, 0), (1, 1), (5, 9), (1000, 1), (1000, 40), (50_000, 40), (50_000, 5000)] {
            let mut logits = random_floats(n as u64, n);
            // Equal values, to see the order among them.
            logits.iter_mut().for_each(|x| *x = (*x * 1000.0).round());
            if n > 10 {
                logits[7] = f32::NAN;
                logits[8] = f32::NEG_INFINITY;
            }
            let mut expected: Vec<(u32, f32)> =
                (0..).zip(logits.iter().copied()).filter(|(_, x)| !x.is_nan()).collect();
            expected.sort_by(better);
            expected.truncate(k);
            let mut found = vec![(1, 1.0)];
            top_k(&logits, k, &mut found);
            assert_eq!(found, expected, "{n} {k}");
        }
    }

    #[test]
    fn maxima_and_their_places_are_found_at_every_length() {
        for isa in sets() {
            assert_eq!((argmax(isa, &[]), argmax(isa, &[f32::NAN])), (None, None));
            assert_eq!(argmax(isa, &[f32::NEG_INFINITY; 40]), Some(0));
            for n in [1, 2, 7, 8, 9, 63, 64, 65, 1000] {
                let mut x = random_floats(n as u64, n);
                x[n / 3] = 2.0;
                x[n - 1] = 2.0;
                x[0] = if n > 3 { f32::NAN } else { x[0] };
                let expected = x.iter().position(|&x| x == 2.0);
                assert_eq!((argmax(isa, &x), max(isa, &x)), (expected, Some(2.0)), "{isa:?} {n}");
            }
        }
    }

    #[test]
    fn log_sums_of_exponentials_are_exact_in_the_sixth_digit() {
        for isa in sets() {
            for n in [1, 7, 8, 9, 64, 1001, 150_000] {
                let x: Vec<f32> = random_floats(n as u64, n).iter().map(|x| x * 20.0).collect();
                for temperature in [1.0, 0.3, 1.7] {
                    let sum: f64 = x.iter().map(|&x| (f64::from(x) / f64::from(temperature)).exp()).sum();
                    let found = f64::from(log_sum_exp(isa, &x, temperature));
                    assert!((found - sum.ln()).abs() < 1e-5 * (1.0 + sum.ln().abs()), "{isa:?} {n}");
                }
                let mut probabilities = x.clone();
                log_softmax(isa, &mut probabilities);
                let total: f64 = probabilities.iter().map(|&x| f64::from(x).exp()).sum();
                assert!((total - 1.0).abs() < 1e-4, "{isa:?} {n}: {total}");
            }
            assert_eq!(log_sum_exp(isa, &[], 1.0), f32::NEG_INFINITY);
        }
    }

    #[test]
    fn one_number_that_is_not_finite_is_seen_wherever_it_is() {
        for isa in sets() {
            for n in [1, 8, 31, 64] {
                for i in 0..n {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut x = random_floats(1, n);
                        assert!(finite(isa, &x));
                        x[i] = bad;
                        assert!(!finite(isa, &x), "{isa:?} {n} {i}");
                    }
                }
            }
        }
    }
}
