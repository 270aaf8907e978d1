//! Vectors of 16 floats: AVX-512 F, BW, VL (with AVX2, FMA and F16C below them).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Kernel, Lanes};

/// Proof that AVX-512 F, BW and VL, and `BF16` if so, are there: made only in [`enter`] and [`enter_with_bf16`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(());

/// Runs a kernel compiled for AVX-512.
///
/// # Safety
/// The processor must have AVX-512 F, BW, VL and AVX2, FMA, F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
pub(crate) unsafe fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512::<false>(()))
}

/// Runs a kernel compiled for AVX-512 with products of bf16.
///
/// # Safety
/// As [`enter`], and it must have AVX-512 BF16.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16,avx2,fma,f16c")]
pub(crate) unsafe fn enter_with_bf16<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512::<true>(()))
}

// SAFETY of every block below: an `Avx512` value exists only inside an `enter`, whose caller has checked the
// processor; pointers are as each method's `# Safety` section asks of its caller.
#[allow(clippy::undocumented_unsafe_blocks)] // one reason for all of them, above
impl<const BF16: bool> Lanes for Avx512<BF16> {
    const N: usize = 16;
    type V = __m512;
    // Below the smallest denormal number, 2^−149.
    const VANISHING: f32 = -200.0;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        unsafe { _mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, x: __m512) {
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: __m512) {
        unsafe {
            let halves: __m256i = if BF16 {
                std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x))
            } else {
                let bits = _mm512_castps_si512(x);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
                // Rounding could carry a NaN's bits into its sign.
                let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
                _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_mask_add_epi32(bits, number, bits, up)))
            };
            _mm256_storeu_si256(to.cast(), halves);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, a: __m512, b: __m512) -> __m512 {
        unsafe {
            if BF16 {
                let pairs = std::mem::transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(b, a));
                _mm512_storeu_ps(to.cast(), pairs);
                return pairs;
            }
            self.store_bf16(to, a);
            self.store_bf16(to.add(Self::N), b);
            _mm512_loadu_ps(to.cast())
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_zipped(self, to: *mut u32, a: __m512, b: __m512) {
        const ORDER: [u16; 32] = {
            let mut order = [0; 32];
            let mut i = 0;
            while i < 16 {
                order[2 * i] = i as u16;
                order[2 * i + 1] = 16 + i as u16;
                i += 1;
            }
            order
        };
        unsafe {
            if !BF16 {
                return super::zip_one_by_one(self, to, a, b);
            }
            // All of `a`, then all of `b`: neighbours are brought together.
            let both = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(b, a));
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            _mm512_storeu_si512(to.cast(), _mm512_permutexvar_epi16(order, both));
        }
    }
    #[inline(always)]
    unsafe fn zip_halves(self, to: *mut u32, a: *const u32, b: *const u32) {
        unsafe {
            let a = _mm512_cvtepu16_epi32(_mm256_loadu_si256(a.cast()));
            let b = _mm512_cvtepu16_epi32(_mm256_loadu_si256(b.cast()));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(a, _mm512_slli_epi32::<16>(b)));
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const u32, to: *mut u32, stride: usize) {
        // Pairs of rows, fours of rows, then quarters of vectors: each step brings together twice as many rows.
        unsafe {
            let mut rows = [_mm512_setzero_ps(); 16];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm512_loadu_ps(from.cast::<f32>().add(16 * i));
            }
            let mut twos = [_mm512_setzero_pd(); 16];
            for i in 0..8 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                twos[2 * i] = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
                twos[2 * i + 1] = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
            }
            // Of rows 4 i .. 4 i + 4 the columns c, 4 + c, 8 + c and 12 + c.
            let mut fours = [_mm512_setzero_ps(); 16];
            for i in 0..4 {
                for half in 0..2 {
                    let (a, b) = (twos[4 * i + half], twos[4 * i + 2 + half]);
                    fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
                    fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
                }
            }
            for c in 0..4 {
                let even = _mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
                let odd = _mm512_shuffle_f32x4::<0xdd>(fours[c], fours[4 + c]);
                let more_even = _mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
                let more_odd = _mm512_shuffle_f32x4::<0xdd>(fours[8 + c], fours[12 + c]);
                let to = to.cast::<f32>();
                _mm512_storeu_ps(to.add(c * stride), _mm512_shuffle_f32x4::<0x88>(even, more_even));
                _mm512_storeu_ps(to.add((4 + c) * stride), _mm512_shuffle_f32x4::<0x88>(odd, more_odd));
                _mm512_storeu_ps(to.add((8 + c) * stride), _mm512_shuffle_f32x4::<0xdd>(even, more_even));
                _mm512_storeu_ps(to.add((12 + c) * stride), _mm512_shuffle_f32x4::<0xdd>(odd, more_odd));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, x: __m512) {
        unsafe { _mm_storeu_si128(to.cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))) }
    }
    #[inline(always)]
    fn sum_bytes(self, bytes: &[i8; 16]) -> i16 {
        super::sum_bytes_sse2(bytes)
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fma_pairs(self, a: u32, b: __m512, c: __m512) -> __m512 {
        unsafe {
            let a = _mm512_set1_epi32(a as i32);
            let b = _mm512_castps_si512(b);
            if BF16 {
                let bf16 = |x: __m512i| std::mem::transmute::<__m512i, __m512bh>(x);
                return _mm512_dpbf16_ps(c, bf16(a), bf16(b));
            }
            let first = |x: __m512i| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x));
            let high = _mm512_set1_epi32(!0xffff);
            let second = |x: __m512i| _mm512_castsi512_ps(_mm512_and_si512(x, high));
            _mm512_fmadd_ps(first(a), first(b), _mm512_fmadd_ps(second(a), second(b), c))
        }
    }
    #[inline(always)]
    fn and_bits(self, a: __m512, mask: u32) -> __m512 {
        unsafe {
            let bits = _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(mask as i32));
            _mm512_castsi512_ps(bits)
        }
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(a) }
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_whole(self, a: __m512) -> __m512 {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn times_exp2(self, a: __m512, n: __m512) -> __m512 {
        unsafe { _mm512_scalef_ps(a, n) }
    }
    #[inline(always)]
    fn first(self, n: usize, yes: __m512, no: __m512) -> __m512 {
        let mask = ((1u32 << n.min(16)) - 1) as __mmask16;
        unsafe { _mm512_mask_blend_ps(mask, no, yes) }
    }
    #[inline(always)]
    fn select_ge(self, a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    fn sum(self, a: __m512) -> f32 {
        unsafe {
            let low = _mm512_castps512_ps256(a);
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(a)));
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m512) -> f32 {
        unsafe { _mm512_reduce_max_ps(a) }
    }
}
