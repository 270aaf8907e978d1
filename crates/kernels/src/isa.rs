//! Which instruction set the kernels use: a value chosen at run time, never at compile time.

use crate::KernelError;

/// An instruction set that the kernels are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust, on every processor: the reference, slow.
    Scalar,
    /// AVX2 with FMA and F16C, 256-bit registers (Haswell, Zen and later).
    Avx2,
    /// AVX-512 F, BW, VL and VNNI, 512-bit registers (Ice Lake, Zen 4 and later).
    Avx512,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Isa; 3] = [Isa::Scalar, Isa::Avx2, Isa::Avx512];

    /// The fastest instruction set that this processor has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// The instruction set of that name, as in `DAYBREAK_ISA`: `scalar`, `avx2` or `avx512`.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// `scalar`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                has_avx2()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether this processor multiplies pairs of bf16 into f32 sums in it (AVX512_BF16: Zen 4, Cooper Lake and
    /// later; Ice Lake has not).
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Isa::Avx512 && self.is_available() && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Itself, or the error that names it when this processor cannot run it. Every value that carries an
    /// [`Isa`] into a kernel went through here, which is what makes the calls of those kernels sound.
    pub(crate) fn checked(self) -> Result<Isa, KernelError> {
        if self.is_available() { Ok(self) } else { Err(KernelError::IsaUnavailable { isa: self.name() }) }
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detected_set_is_available_and_named() {
        let isa = Isa::detect();
        assert!(isa.is_available());
        assert_eq!(Isa::from_name(isa.name()), Some(isa));
        assert_eq!(Isa::from_name("AVX2"), Some(Isa::Avx2));
        assert_eq!(Isa::from_name("sse9"), None);
    }
}
