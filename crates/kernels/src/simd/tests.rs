//! Every instruction set's vectors against plain arithmetic.
#![allow(clippy::unwrap_used, unsafe_code)]

use super::*;

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

struct Map<'a, F>(&'a [f32], F);

/// A function of one vector, named so that it can be generic over the lanes.
trait OfOne {
    fn of<L: Lanes>(&self, l: L, x: L::V) -> L::V;
}

impl<F: OfOne> Kernel for Map<'_, F> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<f32> {
        let mut out = vec![0.0; self.0.len().next_multiple_of(L::N)];
        let mut padded = self.0.to_vec();
        padded.resize(out.len(), 0.0);
        for (x, y) in padded.chunks_exact(L::N).zip(out.chunks_exact_mut(L::N)) {
            // SAFETY: both chunks have N floats.
            unsafe { l.store(y.as_mut_ptr(), self.1.of(l, l.load(x.as_ptr()))) };
        }
        out.truncate(self.0.len());
        out
    }
}

struct Exp;
impl OfOne for Exp {
    #[inline(always)]
    fn of<L: Lanes>(&self, l: L, x: L::V) -> L::V {
        l.exp(x)
    }
}
struct Tanh;
impl OfOne for Tanh {
    #[inline(always)]
    fn of<L: Lanes>(&self, l: L, x: L::V) -> L::V {
        l.tanh(x)
    }
}

fn inputs() -> Vec<f32> {
    let mut xs: Vec<f32> = (-9000..9000).map(|i| i as f32 * 0.0101).collect();
    xs.extend([0.0, -0.0, 1e-30, -1e-30, 1e-4, 0.0599, 0.0601, -0.06, 88.3, -87.2]);
    xs
}

#[test]
fn exponentials_are_exact_to_three_units_in_the_last_place() {
    let xs: Vec<f32> = inputs().into_iter().filter(|x| (-87.0..88.0).contains(x)).collect();
    for isa in available() {
        for (x, y) in xs.iter().zip(run_on(isa, Map(&xs, Exp))) {
            let exact = f64::from(*x).exp();
            let error = (f64::from(y) - exact).abs() / exact;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "{isa:?}: exp({x}) = {y}, expected {exact}");
        }
    }
}

#[test]
fn exponentials_of_extremes_are_zero_large_or_not_a_number() {
    for isa in available() {
        let y = run_on(isa, Map(&[f32::NEG_INFINITY, -1e30, -100.0, 1e30, f32::INFINITY, f32::NAN], Exp));
        assert_eq!(y[..3], [0.0; 3], "{isa:?}");
        assert!(y[3] > 1e38 && y[4] > 1e38 && y[3].is_finite(), "{isa:?}: {y:?}");
        assert!(y[5].is_nan(), "{isa:?}");
    }
}

#[test]
fn hyperbolic_tangents_are_close_everywhere() {
    let xs = inputs();
    for isa in available() {
        for (x, y) in xs.iter().zip(run_on(isa, Map(&xs, Tanh))) {
            let exact = f64::from(*x).tanh();
            // The subtraction from one loses four bits where tanh is 0.06.
            let error = (f64::from(y) - exact).abs();
            assert!(error <= 2e-6 * exact.abs(), "{isa:?}: tanh({x}) = {y}, expected {exact}");
        }
    }
}

struct Reduce<'a>(&'a [f32; 16]);
impl Kernel for Reduce<'_> {
    type Out = (f32, f32, [f32; 16], usize);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Self::Out {
        // SAFETY: 16 floats hold a vector of every set.
        let x = unsafe { l.load(self.0.as_ptr()) };
        let mut first = [0.0; 16];
        // SAFETY: as above.
        unsafe { l.store(first.as_mut_ptr(), l.first(3, x, l.splat(-1.0))) };
        (l.sum(x), l.largest(x), first, L::N)
    }
}

#[test]
fn reductions_and_lane_masks_cover_all_lanes() {
    let xs: [f32; 16] = std::array::from_fn(|i| ((i * 7) % 16) as f32);
    for isa in available() {
        let (sum, largest, first, n) = run_on(isa, Reduce(&xs));
        assert_eq!(sum, xs[..n].iter().sum::<f32>(), "{isa:?}");
        assert_eq!(largest, xs[..n].iter().copied().fold(0.0, f32::max), "{isa:?}");
        assert_eq!(first[..3], xs[..3], "{isa:?}");
        assert_eq!(first[3..n], vec![-1.0; n - 3], "{isa:?}");
    }
}

/// Both ways of a set that has products of bf16.
fn with_and_without_bf16<K: Kernel>(isa: Isa, kernel: impl Fn() -> K) -> [K::Out; 2] {
    [run_on(isa, kernel()), run_on_with_bf16(isa, kernel())]
}

struct Pairs<'a> {
    a: [f32; 2],
    b: &'a [[f32; 2]; 16],
    c: f32,
    mask: u32,
}
impl Kernel for Pairs<'_> {
    type Out = Vec<f32>;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<f32> {
        let pair = |x: [f32; 2]| {
            let [first, second] = x.map(|x| u32::from(half::bf16::from_f32(x).to_bits()));
            first | second << 16
        };
        let b = self.b.map(|b| f32::from_bits(pair(b)));
        let mut out = vec![0.0; L::N];
        // SAFETY: 16 pairs hold a vector of every set, and the output has N floats.
        unsafe {
            let b = l.and_bits(l.load(b.as_ptr()), self.mask);
            l.store(out.as_mut_ptr(), l.fma_pairs(pair(self.a), b, l.splat(self.c)));
        }
        out
    }
}

#[test]
fn pairs_of_bf16_are_multiplied_and_masked() {
    // Numbers of few bits, so that all sums are exact.
    let b: [[f32; 2]; 16] = std::array::from_fn(|i| [i as f32 - 7.5, 0.25 * i as f32]);
    for isa in available() {
        for (mask, first, second) in [(u32::MAX, 1.0, 1.0), (0xffff, 1.0, 0.0), (!0xffff, 0.0, 1.0)] {
            let found = with_and_without_bf16(isa, || Pairs { a: [3.0, -0.5], b: &b, c: 1.25, mask });
            for found in found {
                let expected: Vec<f32> =
                    b.iter().map(|b| 1.25 + first * 3.0 * b[0] - second * 0.5 * b[1]).collect();
                assert_eq!(found, expected[..found.len()], "{isa:?} {mask:x}");
            }
        }
        let b = [[f32::NAN, 1.0]; 16];
        for found in with_and_without_bf16(isa, || Pairs { a: [0.0, 2.0], b: &b, c: 0.0, mask: !0xffff }) {
            assert_eq!(found, vec![2.0; found.len()], "{isa:?}");
        }
    }
}

struct ToBf16<'a>(&'a [f32]);
impl Kernel for ToBf16<'_> {
    type Out = Vec<u16>;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<u16> {
        let mut out = vec![0; self.0.len()];
        for (x, to) in self.0.chunks_exact(L::N).zip(out.chunks_exact_mut(L::N)) {
            // SAFETY: both chunks have N numbers.
            unsafe { l.store_bf16(to.as_mut_ptr(), l.load(x.as_ptr())) };
        }
        out
    }
}

#[test]
fn bf16_is_rounded_to_nearest_even_and_keeps_what_is_no_number() {
    let ties =
        [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0xbf81_8000, 0x7f7f_ffff].map(f32::from_bits);
    let mut xs: Vec<f32> =
        inputs().into_iter().chain(ties).chain([f32::INFINITY, f32::NEG_INFINITY]).collect();
    xs.resize(xs.len().next_multiple_of(16), 0.0);
    let expected: Vec<u16> = xs.iter().map(|&x| half::bf16::from_f32(x).to_bits()).collect();
    let nans = [0x7fff_ffff, 0xffff_ffff, 0x7fc0_0000, 0x7fa0_0000].map(f32::from_bits).repeat(4);
    for isa in available() {
        for found in with_and_without_bf16(isa, || ToBf16(&xs)) {
            assert!(found == expected, "{isa:?}");
        }
        for found in with_and_without_bf16(isa, || ToBf16(&nans)) {
            assert!(found.iter().all(|&bits| half::bf16::from_bits(bits).is_nan()), "{isa:?}");
        }
    }
}

struct Exp2;
impl OfOne for Exp2 {
    #[inline(always)]
    fn of<L: Lanes>(&self, l: L, x: L::V) -> L::V {
        l.exp2(x)
    }
}

#[test]
fn powers_of_two_are_exact_to_three_units_and_vanish_at_the_end() {
    let mut xs: Vec<f32> = (-126_000..=0).map(|i| i as f32 * 1e-3).collect();
    xs.extend([-0.0, -1e-30, -0.5, -0.500_001]);
    for isa in available() {
        for (x, y) in xs.iter().zip(run_on(isa, Map(&xs, Exp2))) {
            let exact = f64::from(*x).exp2();
            let error = (f64::from(y) - exact).abs() / exact;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "{isa:?}: 2^{x} = {y}, {error:e}");
        }
        let ends = [0.0, -250.0, -1e30, f32::NEG_INFINITY, f32::NAN];
        let found = run_on(isa, Map(&ends, Exp2));
        assert_eq!(found[..4], [1.0, 0.0, 0.0, 0.0], "{isa:?}");
        assert!(found[4].is_nan(), "{isa:?}");
    }
}

struct Transpose<'a>(&'a [u32]);
impl Kernel for Transpose<'_> {
    type Out = (usize, Vec<u32>);
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> (usize, Vec<u32>) {
        let mut out = vec![0; L::N * STRIDE];
        // SAFETY: 256 words hold the block of every set, and there are N rows of STRIDE words.
        unsafe { l.transpose(self.0.as_ptr(), out.as_mut_ptr(), STRIDE) };
        (L::N, out)
    }
}
const STRIDE: usize = 19;

#[test]
fn rows_become_columns_whatever_their_bits() {
    // Many of these are no number, of which no bit may change.
    let words: Vec<u32> = (0..256u32).map(|i| i.wrapping_mul(0x9E37_79B9) | 0x7f80_0000).collect();
    for isa in available() {
        let (n, out) = run_on(isa, Transpose(&words));
        for (at, &word) in out.iter().enumerate() {
            let (row, col) = (at / STRIDE, at % STRIDE);
            assert_eq!(
                word,
                if col < n { words[col * n + row] } else { 0 },
                "{isa:?}: row {row}, column {col}"
            );
        }
    }
}
