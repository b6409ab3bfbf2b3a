//! Host side of `kernels/pair_loss/row_stats.cu`, launched as [`Tiling::shape`](super::Tiling::shape) says.

use super::PairTiles;
use bytemuck::{Pod, Zeroable};

/// Argument of `pair_row_stats_<format>_<dim>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RowStatsParams {
    /// Anchors and memory, with row normalizers.
    pub tiles: PairTiles,
    /// `(splits, anchors, 2)` [`crate::loss::SideStatistics`], written.
    pub statistics: u64,
}
