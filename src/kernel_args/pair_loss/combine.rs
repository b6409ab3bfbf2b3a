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
    /// `(loss_parts, anchors)` f32.
    pub losses: u64,
    /// `(kept_parts, anchors, 2)` i32.
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
    /// Parts of the losses.
    pub loss_parts: u32,
    /// Parts of the counts.
    pub kept_parts: u32,
    /// Zero.
    pub padding: u32,
}

/// A block for each anchor and range of columns.
pub fn combine_shape(anchors: usize, dim: usize) -> LaunchShape {
    LaunchShape::new((anchors as u32, dim.div_ceil(THREADS as usize).max(1) as u32), THREADS, 0)
}
