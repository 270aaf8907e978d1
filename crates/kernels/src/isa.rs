//! Which instruction set the kernels use: a value chosen at run time, never at compile time.

#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

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
    /// AVX-512 as above, and the tiles of bytes of AMX for the prompts' products (Sapphire Rapids and later).
    Amx,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The fastest instruction set that this processor has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|isa| isa.is_available()).unwrap_or(Isa::Scalar)
    }

    /// The instruction set of that name, as in `DAYBREAK_ISA`: `scalar`, `avx2`, `avx512` or `amx`.
    pub fn from_name(name: &str) -> Option<Isa> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name))
    }

    /// `scalar`, `avx2`, `avx512` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }

    /// Whether this processor can run it.
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => has_avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => has_avx512(),
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => has_avx512() && has_amx() && may_use_amx(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Whether this processor multiplies pairs of bf16 into f32 sums in vectors of it, and faster than it multiplies f32
    /// (AVX512_BF16 of Zen 4 and later; Ice Lake has none, and those with AMX do it at half the speed of f32, measured).
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Isa::Avx512
            && self.is_available()
            && is_x86_feature_detected!("avx512bf16")
            && !has_amx();
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

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// Whether the processor has tiles and multiplies bf16 and bytes in them: CPUID leaf 7, EDX bits 24, 22 and 25 (the
/// standard library has no stable name for them yet).
#[cfg(target_arch = "x86_64")]
fn has_amx() -> bool {
    const ALL: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    // Asked once: in a virtual machine each question goes to the hypervisor, some microseconds.
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let (leaves, _) = std::arch::x86_64::__get_cpuid_max(0);
        leaves >= 7 && std::arch::x86_64::__cpuid_count(7, 0).edx & ALL == ALL
    })
}

/// Asks Linux, once, that the threads of this process may use the tiles: their registers need 8 KiB more room
/// wherever a thread's state is kept, which no program has without asking.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn may_use_amx() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        // SAFETY: this call of `arch_prctl` takes a number and writes nothing.
        #[allow(unsafe_code)]
        let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) };
        result == 0
    })
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn may_use_amx() -> bool {
    false
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
