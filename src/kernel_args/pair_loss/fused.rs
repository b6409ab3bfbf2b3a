//! Host side of `kernels/pair_loss/fused.cu`.

use super::{PairRows, PairTiles};
use crate::device::cuda::kernel::{Format, LaunchShape};
use crate::kernel_args::pair_loss::tiling::{Splits, Tiling};
use bytemuck::{Pod, Zeroable};

/// Argument of `pair_loss_<epilogue>_<format>_<tiling>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PairLossParams {
    /// Anchors and memory.
    pub tiles: PairTiles,
    /// `(splits, anchors, dim)` f32, written.
    pub gradients: u64,
    /// `(splits, anchors)` f32, written.
    pub losses: u64,
    /// `(splits, anchors, 2)` i32, written.
    pub kept: u64,
}

/// How similarities become weights: the kinds of `kernels/pair_loss/epilogue.cuh`, and of `pair_weights`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Constant curves behind gates, neither normalizers of rows nor soft labels: without a branch for each pair.
    Constant,
    /// All others.
    Curve,
}

impl Epilogue {
    /// The quickest that weighs these pairs.
    pub fn of(rows: &PairRows) -> Self {
        let constant = rows.positive.is_constant() && rows.negative.is_constant();
        if constant && rows.row_normalizers == 0 && rows.soft_labels == 0 { Self::Constant } else { Self::Curve }
    }

    /// As in the names of kernels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Constant => "constant",
            Self::Curve => "curve",
        }
    }

    /// How the kernel of that kind divides the work, where the others divide it so: the twin of `CurveTiling`.
    pub fn tiling(self, others: &Tiling) -> Tiling {
        let half = self == Self::Curve && (others.length == 128 || (others.length == 512 && others.large));
        Tiling { rows: if half { others.rows / 2 } else { others.rows }, ..*others }
    }

    /// The fused kernel of that kind.
    pub fn kernel(self, format: Format, tiling: &Tiling) -> String {
        format!("pair_loss_{}_{}_{}", self.name(), format.suffix(), tiling.suffix())
    }
}

/// Dynamic shared memory of a block of the kernel of this name, in bytes; `None` for one of another source.
pub fn shared_bytes_of(name: &str) -> Option<u32> {
    let tiling = Tiling::of_kernel(name)?;
    let is_of = |epilogue: &Epilogue| [Format::F16, Format::Bf16].iter().any(|&format| epilogue.kernel(format, &tiling) == name);
    let epilogue = [Epilogue::Constant, Epilogue::Curve].into_iter().find(is_of)?;
    Some(shared_bytes(&epilogue.tiling(&tiling)))
}

/// Shared memory of a block: beside the tiles, the weights that slices exchange.
pub fn shared_bytes(tiling: &Tiling) -> u32 {
    let pitch = tiling.rows * 2 + 16;
    tiling.shared_bytes() + if tiling.slices() > 1 { (tiling.anchors * pitch) as u32 } else { 0 }
}

/// Launch of the kernel.
pub fn shape(tiling: &Tiling, anchors: usize, splits: Splits) -> LaunchShape {
    tiling.shape(anchors, splits).with_shared(shared_bytes(tiling))
}
