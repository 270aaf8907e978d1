//! Vectors of f32 as a value: the same kernel source runs on plain arrays, AVX2 and AVX-512.
//!
//! A kernel is a struct that implements [`Kernel`]; [`run_on`] hands it the [`Lanes`] of an instruction set
//! inside a function that is compiled for that set. `Lanes` values are the proof that the set is there: they
//! are made nowhere but here, after [`crate::Isa::checked`].
//!
//! Reductions and exponentials have one definition (`sum`, `exp`), so that every kernel rounds alike.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::Isa;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::enter_with_bf16 as with_bf16;
pub(crate) use portable::Portable;

/// Vectors of `N` floats.
pub(crate) trait Lanes: Copy {
    /// Lanes of a vector.
    const N: usize;
    /// A vector.
    type V: Copy;
    /// 2 to this power, by [`Lanes::times_exp2`], is 0: an exponent of zero bits.
    const VANISHING: f32 = -127.0;

    fn splat(self, x: f32) -> Self::V;
    /// # Safety
    /// `N` floats must be readable at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `N` floats must be writable at `to`.
    unsafe fn store(self, to: *mut f32, x: Self::V);
    /// # Safety
    /// `N` half floats must be readable at `from`.
    unsafe fn load_f16(self, from: *const u16) -> Self::V;
    /// # Safety
    /// `N` half floats must be readable at `from`.
    unsafe fn load_bf16(self, from: *const u16) -> Self::V;
    /// Rounds to nearest even; what is too large becomes infinite.
    /// # Safety
    /// `N` half floats must be writable at `to`.
    unsafe fn store_f16(self, to: *mut u16, x: Self::V);
    /// Rounds to nearest even; a NaN stays one.
    /// # Safety
    /// `N` half floats must be writable at `to`.
    unsafe fn store_bf16(self, to: *mut u16, x: Self::V);
    /// As [`Lanes::store_bf16`], of two vectors; returns what was stored, as pairs of neighbours.
    /// # Safety
    /// `2 N` half floats must be writable at `to`.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as the caller says; N pairs were just written.
        unsafe {
            self.store_bf16(to, a);
            self.store_bf16(to.add(Self::N), b);
            self.load(to.cast())
        }
    }
    /// Neighbours of `a` and `b` as pairs, `a` in the lower half: rounded to nearest even, a NaN stays one, numbers below
    /// the smallest normal one may become 0.
    /// # Safety
    /// `N` pairs must be writable at `to`.
    #[inline(always)]
    unsafe fn store_bf16_zipped(self, to: *mut u32, a: Self::V, b: Self::V) {
        // SAFETY: as the caller says.
        unsafe { zip_one_by_one(self, to, a, b) }
    }
    /// Halves of `a` and of `b` as pairs, those of `a` in the lower half.
    /// # Safety
    /// `N` pairs must be writable at `to`, and N / 2 words of halves readable at `a` and at `b`.
    #[inline(always)]
    unsafe fn zip_halves(self, to: *mut u32, a: *const u32, b: *const u32) {
        for i in 0..Self::N / 2 {
            // SAFETY: as the caller says.
            unsafe {
                let (a, b) = (*a.add(i), *b.add(i));
                *to.add(2 * i) = a & 0xffff | b << 16;
                *to.add(2 * i + 1) = a >> 16 | b & 0xffff_0000;
            }
        }
    }
    /// Rows for columns: `[N, N]` words to rows that are `stride` words apart.
    /// # Safety
    /// The words must be readable at `from`, and `N` words writable at `to` and at every further row.
    #[inline(always)]
    unsafe fn transpose(self, from: *const u32, to: *mut u32, stride: usize) {
        for row in 0..Self::N {
            for col in 0..Self::N {
                // SAFETY: as the caller says.
                unsafe { *to.add(col * stride + row) = *from.add(row * Self::N + col) };
            }
        }
    }
    /// Rounds to nearest even into i8; what |x| is rounded to must be at most 127.
    /// # Safety
    /// `N` bytes must be writable at `to`.
    unsafe fn store_i8(self, to: *mut i8, x: Self::V);
    /// The sum of some bytes.
    fn sum_bytes(self, bytes: &[i8; 16]) -> i16;
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b + c
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// a.0 · b.0 + a.1 · b.1 + c; `a` and the lanes of `b` are pairs of bf16, the first in the lower half. Numbers
    /// below the smallest normal one may count as 0.
    fn fma_pairs(self, a: u32, b: Self::V, c: Self::V) -> Self::V;
    /// The bits of `a` that are set in `mask`.
    fn and_bits(self, a: Self::V, mask: u32) -> Self::V;
    /// The larger; `b` where either is not a number.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where either is not a number.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    fn abs(self, a: Self::V) -> Self::V;
    fn round(self, a: Self::V) -> Self::V;
    /// 2^a for whole a in −126..=127, 0 for −127.
    fn exp2_whole(self, a: Self::V) -> Self::V;
    /// a · 2^n for whole n in `VANISHING ..= 0`, |a| in 0.5..=2.
    #[inline(always)]
    fn times_exp2(self, a: Self::V, n: Self::V) -> Self::V {
        self.mul(a, self.exp2_whole(n))
    }
    /// `yes` in the lanes below `n`, `no` in the others.
    fn first(self, n: usize, yes: Self::V, no: Self::V) -> Self::V;
    /// `yes` where a ≥ b, else (also where not a number) `no`.
    fn select_ge(self, a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// The sum of all lanes, halves added to halves.
    fn sum(self, a: Self::V) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::V) -> f32;

    /// e^x within two units in the last place; 0 below −87.3 (no denormals), capped at e^88.3.
    #[inline(always)]
    fn exp(self, x: Self::V) -> Self::V {
        // Cephes' expf: x = n ln 2 + r, a polynomial in r, exponent bits for 2^n.
        let low = self.splat(-87.3);
        // `max` and `min` return their second argument for a NaN, so a NaN stays one.
        let clamped = self.min(self.splat(88.3), self.max(low, x));
        let n = self.round(self.mul(clamped, self.splat(std::f32::consts::LOG2_E)));
        let r = self.fma(n, self.splat(-0.693_359_4), clamped);
        let r = self.fma(n, self.splat(2.121_944_4e-4), r);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.fma(p, r, self.splat(c));
        }
        let p = self.fma(self.mul(p, r), r, r);
        let e = self.mul(self.add(p, self.splat(1.0)), self.exp2_whole(n));
        // Below the range: exactly 0, also for −infinity.
        self.select_ge(low, x, self.splat(0.0), e)
    }

    /// 2^x for x at most 0, within three units in the last place; 0 for what is far below the smallest normal number.
    #[inline(always)]
    fn exp2(self, x: Self::V) -> Self::V {
        // `max` returns its second argument for a NaN, so a NaN stays one.
        let x = self.max(self.splat(Self::VANISHING), x);
        let n = self.round(x);
        let r = self.sub(x, n);
        // (2^r − 1) / r, interpolated at the Chebyshev points of −1/2 ..= 1/2.
        let mut p = self.splat(1.338_130_3e-3);
        for c in [9.666_368e-3, 5.550_381e-2, 2.402_235e-1, std::f32::consts::LN_2, 1.0] {
            p = self.fma(p, r, self.splat(c));
        }
        self.times_exp2(p, n)
    }

    /// tanh x = 1 − 2 / (e^2x + 1)
    #[inline(always)]
    fn tanh(self, x: Self::V) -> Self::V {
        let one = self.splat(1.0);
        let two = self.splat(2.0);
        // Near 0 the difference cancels; x·(1 − x²/3 + 2x⁴/15) is exact enough there.
        let x2 = self.mul(x, x);
        let small = self.fma(self.splat(2.0 / 15.0), x2, self.splat(-1.0 / 3.0));
        let small = self.fma(self.mul(small, x2), x, x);
        let large = self.sub(one, self.div(two, self.add(self.exp(self.mul(two, x)), one)));
        self.select_ge(self.splat(0.06), self.abs(x), small, large)
    }
}

/// [`Lanes::store_bf16_zipped`] where no instruction does it.
/// # Safety
/// As there.
#[inline(always)]
unsafe fn zip_one_by_one<L: Lanes>(l: L, to: *mut u32, a: L::V, b: L::V) {
    let (mut of_a, mut of_b) = ([0u16; 16], [0u16; 16]);
    // SAFETY: the buffers hold the widest vector, and N pairs can be written, as the caller says.
    unsafe {
        l.store_bf16(of_a.as_mut_ptr(), a);
        l.store_bf16(of_b.as_mut_ptr(), b);
        for i in 0..L::N {
            *to.add(i) = u32::from(of_a[i]) | u32::from(of_b[i]) << 16;
        }
    }
}

/// Where a line is fetched to.
#[derive(Clone, Copy)]
pub(crate) enum Cache {
    First,
    /// To be written.
    FirstToWrite,
    Second,
}

/// Asks for the cache line at an address, which need not exist.
#[inline(always)]
pub(crate) fn prefetch(at: *const u8, to: Cache) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and no address makes it fail.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match to {
            Cache::First => _mm_prefetch::<_MM_HINT_T0>(at.cast()),
            Cache::FirstToWrite => _mm_prefetch::<_MM_HINT_ET0>(at.cast()),
            Cache::Second => _mm_prefetch::<_MM_HINT_T1>(at.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, to);
}

/// The sum of some bytes, with what every x86-64 processor has.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sum_bytes_sse2(bytes: &[i8; 16]) -> i16 {
    use std::arch::x86_64::*;
    // SAFETY: 16 bytes are there, and SSE2 is part of x86-64.
    unsafe {
        // Sums of unsigned bytes: each is 128 too large.
        let unsigned = _mm_xor_si128(_mm_loadu_si128(bytes.as_ptr().cast()), _mm_set1_epi8(-128));
        let halves = _mm_sad_epu8(unsigned, _mm_setzero_si128());
        let sum = _mm_add_epi32(halves, _mm_unpackhi_epi64(halves, halves));
        (_mm_cvtsi128_si32(sum) - 16 * 128) as i16
    }
}

/// A computation written once over [`Lanes`].
pub(crate) trait Kernel {
    /// What it gives back.
    type Out;
    /// Must be `#[inline(always)]`, to be compiled inside the function of the instruction set.
    fn run<L: Lanes>(self, lanes: L) -> Self::Out;
}

/// Runs a kernel with the vectors of `isa`, which comes from a [`crate::Pool`] and is therefore available.
#[inline]
pub(crate) fn run_on<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    debug_assert!(isa.is_available());
    match isa {
        Isa::Scalar => kernel.run(Portable),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a pool was made with this set only after `Isa::checked` found it on this processor.
        Isa::Avx2 => unsafe { avx2::enter(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Amx => unsafe { avx512::enter(kernel) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => kernel.run(Portable),
    }
}

/// As [`run_on`], with the processor's own products of bf16 where it has them ([`Isa::has_bf16`]).
#[inline]
pub(crate) fn run_on_with_bf16<K: Kernel>(isa: Isa, kernel: K) -> K::Out {
    #[cfg(target_arch = "x86_64")]
    if isa.has_bf16() {
        // SAFETY: asked just now.
        return unsafe { with_bf16(kernel) };
    }
    run_on(isa, kernel)
}

#[cfg(test)]
mod tests;
