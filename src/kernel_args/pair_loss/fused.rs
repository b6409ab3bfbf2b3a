//! Host side of `kernels/pair_loss/fused.cu`, launched as [`Tiling::shape`](super::Tiling::shape) says.

use super::PairTiles;
use bytemuck::{Pod, Zeroable};

/// Argument of `pair_loss_<format>_<dim>`.
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
