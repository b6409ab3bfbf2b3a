//! Host side of `kernels/pair_loss/combine.cu`.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 128;

/// Argument of `pair_loss_combine`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CombineParams {
    /// `(splits, anchors, dim)` f32.
    pub gradients: u64,
    /// `(splits, anchors)` f32.
    pub losses: u64,
    /// `(splits, anchors, 2)` i32.
    pub kept: u64,
    /// 0, or `(anchors)` [`crate::loss::RowNormalizer`], whose constants are part of the losses.
    pub row_normalizers: u64,
    /// `(anchors, dim)` f32, written or added to.
    pub gradient: u64,
    /// `(anchors)` f32, written.
    pub row_losses: u64,
    /// `(anchors, 2)` i32, written.
    pub row_kept: u64,
    /// Number of anchors.
    pub anchors: u32,
    /// Length of a row.
    pub dim: u32,
    /// Splits of the memory.
    pub splits: u32,
    /// 1 to add to `gradient`.
    pub accumulate: u32,
    /// Factor on the gradient.
    pub scale: f32,
    /// Zero.
    pub padding: u32,
}

/// A block for each anchor.
pub fn combine_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors, THREADS)
}
