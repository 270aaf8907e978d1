//! Vectors as plain arrays: the reference, for every processor.
#![allow(unsafe_code)]

use half::{bf16, f16};

use super::Lanes;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// As wide as AVX2, so that both add in the same order.
const N: usize = 8;
type V = [f32; N];

#[inline(always)]
fn each(f: impl Fn(usize) -> f32) -> V {
    std::array::from_fn(f)
}

impl Lanes for Portable {
    const N: usize = N;
    type V = V;

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> V {
        // SAFETY: the caller has N readable floats there.
        unsafe { from.cast::<V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: V) {
        // SAFETY: the caller has N writable floats there.
        unsafe { to.cast::<V>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> V {
        // SAFETY: the caller has N readable halves there.
        let bits = unsafe { from.cast::<[u16; N]>().read_unaligned() };
        each(|i| f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> V {
        // SAFETY: the caller has N readable halves there.
        let bits = unsafe { from.cast::<[u16; N]>().read_unaligned() };
        each(|i| bf16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, x: V) {
        let bits: [u16; N] = std::array::from_fn(|i| f16::from_f32(x[i]).to_bits());
        // SAFETY: the caller has N writable halves there.
        unsafe { to.cast::<[u16; N]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: V) {
        let bits: [u16; N] = std::array::from_fn(|i| bf16::from_f32(x[i]).to_bits());
        // SAFETY: the caller has N writable halves there.
        unsafe { to.cast::<[u16; N]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, x: V) {
        let bytes: [i8; N] = std::array::from_fn(|i| x[i].round_ties_even() as i8);
        // SAFETY: the caller has N writable bytes there.
        unsafe { to.cast::<[i8; N]>().write_unaligned(bytes) }
    }
    #[inline(always)]
    fn sum_bytes(self, bytes: &[i8; 16]) -> i16 {
        bytes.iter().map(|&b| i16::from(b)).sum()
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        each(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        each(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        each(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        each(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        // Rounded twice: without the instruction a fused one would be a library call.
        each(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn fma_pairs(self, a: u32, b: V, c: V) -> V {
        let first = |bits: u32| f32::from_bits(bits << 16);
        let second = |bits: u32| f32::from_bits(bits & !0xffff);
        each(|i| {
            let b = b[i].to_bits();
            first(a) * first(b) + (second(a) * second(b) + c[i])
        })
    }
    #[inline(always)]
    fn and_bits(self, a: V, mask: u32) -> V {
        each(|i| f32::from_bits(a[i].to_bits() & mask))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        each(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        each(|i| a[i].abs())
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        each(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    fn exp2_whole(self, a: V) -> V {
        each(|i| f32::from_bits(((a[i] as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    fn first(self, n: usize, yes: V, no: V) -> V {
        each(|i| if i < n { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn select_ge(self, a: V, b: V, yes: V, no: V) -> V {
        each(|i| if a[i] >= b[i] { yes[i] } else { no[i] })
    }
    #[inline(always)]
    fn sum(self, a: V) -> f32 {
        let four: [f32; 4] = std::array::from_fn(|i| a[i] + a[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    fn largest(self, a: V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |a, b| if a > b { a } else { b })
    }
}
