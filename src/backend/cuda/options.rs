//! How the GPU backend computes: numbers, and which implementation where there are several.

use crate::kernel::Format;
use serde::{Deserialize, Serialize};

/// How the GPU backend computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CudaOptions {
    /// Format of activations and memory rows.
    pub numbers: Numbers,
    /// Which implementation of the pair loss runs.
    pub pair_loss: PairLossPath,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self { numbers: Numbers::Fp16, pair_loss: PairLossPath::Auto }
    }
}

/// What activations are held and multiplied in.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// 32 bit: for comparisons with the CPU.
    Fp32,
    /// 32 bit, factors of products rounded to TF32 for the tensor cores.
    Tf32,
    /// 16 bit with 10 bits of mantissa, with loss scaling.
    Fp16,
    /// 16 bit with 7 bits of mantissa and the range of 32 bit.
    Bf16,
}

impl Numbers {
    /// How buffers hold them.
    pub fn format(self) -> Format {
        match self {
            Self::Fp32 | Self::Tf32 => Format::F32,
            Self::Fp16 => Format::F16,
            Self::Bf16 => Format::Bf16,
        }
    }

    /// As flags and logs name them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Fp16 => "fp16",
            Self::Bf16 => "bf16",
        }
    }
}

/// Implementations of the pair loss.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairLossPath {
    /// By device and sizes: [`PairLossPath::chosen`].
    Auto,
    /// One kernel that never stores a similarity: 16 bit, rows of 64, 128, 256 or 512.
    Fused,
    /// Matrix product, weights, matrix product over chunks of the memory: everything.
    Unfused,
}

/// Devices of this compute capability and newer multiply by instructions that the fused kernel does not use (`wgmma`, `tcgen05`), and
/// cuBLASLt does.
const NEWER_MULTIPLICATION: i32 = 90;
/// Anchors from which on such a device is bound by products rather than by bytes: 92 on an H200, from 790 TFLOP/s over 4.3 TB/s.
const PRODUCT_BOUND_ANCHORS: usize = 128;
/// Length from which the fused kernel splits a row over column groups that exchange their weights, which costs it a barrier each tile.
const SPLIT_ROWS: usize = 512;

impl PairLossPath {
    /// As flags name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fused => "fused",
            Self::Unfused => "unfused",
        }
    }

    /// Which way is taken on a device of compute capability `capability` for `anchors` rows of length `dim`, where both can.
    ///
    /// | capability | anchors | dim | way | reason |
    /// |---|---|---|---|---|
    /// | below 90 | any | any | fused | both multiply by `mma`; the unfused way writes and reads 6 bytes a pair besides |
    /// | 90, 100 | below 128 | any | fused | bound by the bytes of the memory, which both read once from device memory |
    /// | 90, 100 | 128 and more | below 512 | fused | its products run at half the rate, which the bytes of the pairs make up for |
    /// | 90, 100 | 128 and more | 512 | unfused | bound by products, and cuBLASLt's are twice as fast |
    /// | 120 | any | any | fused | multiplies by `mma` only, as below 90 |
    ///
    /// These are expectations from the instructions' published rates until a device has been measured.
    #[must_use]
    pub fn chosen(self, capability: i32, anchors: usize, dim: usize) -> Self {
        let newer = (NEWER_MULTIPLICATION..120).contains(&capability);
        match self {
            Self::Auto if newer && anchors >= PRODUCT_BOUND_ANCHORS && dim >= SPLIT_ROWS => Self::Unfused,
            Self::Auto => Self::Fused,
            wished => wished,
        }
    }
}
