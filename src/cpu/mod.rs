//! The micro-kernels of the CPU.

pub(crate) mod dot;
pub mod gemm;
// Where there is no kernel for codes, nothing is encoded.
#[cfg_attr(not(target_arch = "x86_64"), allow(unreachable_code, unused))]
pub(crate) mod int8_prune;
pub(crate) mod simd;
