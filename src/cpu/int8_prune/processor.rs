//! The kernels that there are, and which of them a processor has.

use super::scalar::Scalar;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// A processor with the instructions that make pruning worth while, or none: plain loops gain nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pruner {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Scalar(Scalar),
}

impl Pruner {
    /// `None` on a processor that has nothing faster for codes than for 32-bit numbers.
    pub(crate) fn new() -> Option<Self> {
        Self::quick().next()
    }

    /// Those that this processor can be.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        Self::quick().chain([Self::Scalar(Scalar)])
    }

    /// Those whose products of codes are faster than of 32-bit numbers, the fastest first.
    fn quick() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let all = [Avx512::try_new().map(Self::Avx512), Avx2::try_new().map(Self::Avx2)];
        #[cfg(not(target_arch = "x86_64"))]
        let all: [Option<Self>; 0] = [];
        all.into_iter().flatten()
    }
}

/// Evaluates `$work` with the kernel of a pruner.
macro_rules! with_kernel {
    ($pruner:expr, $kernel:ident => $work:expr) => {
        match $pruner {
            #[cfg(target_arch = "x86_64")]
            Pruner::Avx512($kernel) => $work,
            #[cfg(target_arch = "x86_64")]
            Pruner::Avx2($kernel) => $work,
            Pruner::Scalar($kernel) => $work,
        }
    };
}
pub(super) use with_kernel;
