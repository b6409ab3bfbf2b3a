//! How the GPU backend computes: its precision, and which implementation where there are several.

use crate::device::cuda::kernel::Format;
use crate::settings::choice;

/// How the GPU backend computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    /// What activations and memory rows are held and multiplied in.
    pub precision: Precision,
    /// Which implementation of the pair loss runs.
    pub pair_loss: PairLossPath,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self { precision: Precision::Fp16, pair_loss: PairLossPath::Auto }
    }
}

choice! {
    /// What activations are held and multiplied in.
    pub enum Precision {
        /// 32 bit: for comparisons with the CPU.
        Fp32 = "fp32",
        /// 32 bit, factors of products rounded to TF32 for the tensor cores.
        Tf32 = "tf32",
        /// 16 bit with 10 bits of mantissa, with loss scaling.
        Fp16 = "fp16",
        /// 16 bit with 7 bits of mantissa and the range of 32 bit.
        Bf16 = "bf16",
    }
}

impl Precision {
    /// How buffers hold them.
    pub fn format(self) -> Format {
        match self {
            Self::Fp32 | Self::Tf32 => Format::F32,
            Self::Fp16 => Format::F16,
            Self::Bf16 => Format::Bf16,
        }
    }
}

choice! {
    /// Implementations of the pair loss.
    pub enum PairLossPath {
        /// By device and sizes: [`PairLossPath::chosen`].
        Auto = "auto",
        /// One kernel that never stores a similarity: 16 bit, rows of a multiple of 8 numbers, up to 512, on devices of compute
        /// capability 8.0 and 10.x up to 1,024, on 9.0 up to 2,048.
        Fused = "fused",
        /// Matrix product, weights, matrix product over chunks of the memory: everything.
        Unfused = "unfused",
    }
}
