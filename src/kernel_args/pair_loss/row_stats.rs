//! Host side of `kernels/pair_loss/row_stats.cu`, launched as [`Tiling::shape`] says.

use super::PairTiles;
use crate::device::cuda::kernel::Format;
use crate::kernel_args::pair_loss::tiling::Tiling;
use bytemuck::{Pod, Zeroable};

/// Argument of `pair_row_stats_<format>_<tiling>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RowStatsParams {
    /// Anchors and memory, with row normalizers.
    pub tiles: PairTiles,
    /// `(splits, anchors, 2)` [`crate::loss::SideStatistics`], written.
    pub statistics: u64,
}

/// The kernel of a format.
pub fn kernel(format: Format, tiling: &Tiling) -> String {
    format!("pair_row_stats_{}_{}", format.suffix(), tiling.suffix())
}
