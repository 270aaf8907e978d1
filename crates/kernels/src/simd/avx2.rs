//! Vectors of 8 floats: AVX2, FMA and F16C.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{Kernel, Lanes};

/// Proof that AVX2, FMA and F16C are there: made only in [`enter`].
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs a kernel compiled for AVX2.
///
/// # Safety
/// The processor must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn enter<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

/// Lane masks: reading 8 from element 8 − n gives n times −1, then zeros.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

// SAFETY of every block below: an `Avx2` value exists only inside `enter`, whose caller has checked the
// processor; pointers are as each method's `# Safety` section asks of its caller.
#[allow(clippy::undocumented_unsafe_blocks)] // one reason for all of them, above
impl Lanes for Avx2 {
    const N: usize = 8;
    type V = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m256) {
        unsafe { _mm256_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut u16, x: __m256) {
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, x: __m256) {
        unsafe {
            let bits = _mm256_castps_si256(x);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            // Rounding could carry a NaN's bits into its sign.
            let number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(x, x));
            let rounded = _mm256_add_epi32(bits, _mm256_and_si256(up, number));
            let wide = _mm256_srli_epi32::<16>(rounded);
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            _mm_storeu_si128(to.cast(), halves);
        }
    }
    #[inline(always)]
    unsafe fn transpose(self, from: *const u32, to: *mut u32, stride: usize) {
        // Pairs of rows, fours of rows, then halves of vectors: each step brings together twice as many rows.
        unsafe {
            let mut rows = [_mm256_setzero_ps(); 8];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = _mm256_loadu_ps(from.cast::<f32>().add(8 * i));
            }
            let mut twos = [_mm256_setzero_pd(); 8];
            for i in 0..4 {
                let (a, b) = (rows[2 * i], rows[2 * i + 1]);
                twos[2 * i] = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
                twos[2 * i + 1] = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
            }
            // Of rows 4 i .. 4 i + 4 the columns c and 4 + c.
            let mut fours = [_mm256_setzero_ps(); 8];
            for i in 0..2 {
                for half in 0..2 {
                    let (a, b) = (twos[4 * i + half], twos[4 * i + 2 + half]);
                    fours[4 * i + 2 * half] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, b));
                    fours[4 * i + 2 * half + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, b));
                }
            }
            for c in 0..4 {
                let to = to.cast::<f32>().add(c * stride);
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(fours[c], fours[4 + c]));
                _mm256_storeu_ps(to.add(4 * stride), _mm256_permute2f128_ps::<0x31>(fours[c], fours[4 + c]));
            }
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, to: *mut i8, x: __m256) {
        unsafe {
            let wide = _mm256_cvtps_epi32(x);
            let half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide));
            _mm_storel_epi64(to.cast(), _mm_packs_epi16(half, half));
        }
    }
    #[inline(always)]
    fn sum_bytes(self, bytes: &[i8; 16]) -> i16 {
        super::sum_bytes_sse2(bytes)
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn fma_pairs(self, a: u32, b: __m256, c: __m256) -> __m256 {
        unsafe {
            let b = _mm256_castps_si256(b);
            let first = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(b));
            let second = _mm256_castsi256_ps(_mm256_and_si256(b, _mm256_set1_epi32(!0xffff)));
            let (a_first, a_second) = (f32::from_bits(a << 16), f32::from_bits(a & !0xffff));
            let sum = _mm256_fmadd_ps(_mm256_set1_ps(a_second), second, c);
            _mm256_fmadd_ps(_mm256_set1_ps(a_first), first, sum)
        }
    }
    #[inline(always)]
    fn and_bits(self, a: __m256, mask: u32) -> __m256 {
        unsafe { _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(mask as i32))) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        unsafe { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    fn exp2_whole(self, a: __m256) -> __m256 {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    fn first(self, n: usize, yes: __m256, no: __m256) -> __m256 {
        let n = n.min(8);
        // The 8 elements from 8 − n on lie inside of MASK, which has 16.
        let mask = unsafe { _mm256_loadu_ps(MASK.as_ptr().add(8 - n).cast()) };
        unsafe { _mm256_blendv_ps(no, yes, mask) }
    }
    #[inline(always)]
    fn select_ge(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
    }
    #[inline(always)]
    fn sum(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn largest(self, a: __m256) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
