//! Host side of `kernels/pair_loss/materialized.cu`: weights of similarities that a matrix product has stored.

use super::PairRows;
use super::fused::Epilogue;
use crate::device::cuda::kernel::{Format, LaunchShape, WARP_SIZE};
use crate::loss::SideStatistics;
use bytemuck::{Pod, Zeroable};

/// Argument of `pair_weights_<epilogue>_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PairWeightsParams {
    /// Labels, curves and their like.
    pub rows: PairRows,
    /// `(anchors of the launch, columns)` f32.
    pub similarities: u64,
    /// `(anchors of the launch, columns)`, in the format of the kernel's name, written.
    pub weights: u64,
    /// `(parts, anchors)` f32, written from `first_part` on: see [`weights_parts`].
    pub losses: u64,
    /// `(parts, anchors, 2)` i32, the same.
    pub kept: u64,
    /// Memory row of the first column.
    pub first_row: u32,
    /// Memory rows of this chunk, a multiple of 4.
    pub columns: u32,
    /// First part that this launch writes.
    pub first_part: u32,
    /// Anchor of the first row of similarities.
    pub first_anchor: u32,
}

/// Similarities of some anchors with all memory rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MaterializedRows {
    /// Labels, curves and their like.
    pub rows: PairRows,
    /// `(anchors of the group, pitch)` f32.
    pub similarities: u64,
    /// First anchor of the group.
    pub first_anchor: u32,
    /// Numbers from one row of similarities to the next.
    pub pitch: u32,
}

/// Argument of `materialized_row_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MaterializedStatsParams {
    /// The rows.
    pub stored: MaterializedRows,
    /// `(anchors, 2)` [`SideStatistics`], written.
    pub statistics: u64,
}

/// Argument of `materialized_hardest`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MaterializedHardestParams {
    /// The rows.
    pub stored: MaterializedRows,
    /// `(anchors, 2)` f32, written: the last positive and negative that are kept.
    pub last: u64,
    /// Positives to keep; 0 where they are not selected.
    pub positives_wanted: u32,
    /// Negatives to keep, likewise.
    pub negatives_wanted: u32,
}

/// Argument of `materialized_triplets_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MaterializedTripletsParams {
    /// The rows.
    pub stored: MaterializedRows,
    /// `(anchors of the group, pitch)`, in the format of the kernel's name, written.
    pub weights: u64,
    /// `(anchors of the group, pitch)` u32: scratch.
    pub places: u64,
    /// `(anchors)` f32, written.
    pub row_losses: u64,
    /// `(anchors, 2)` i32, written.
    pub kept: u64,
    /// Of the triplets.
    pub margin: f32,
    /// Factor on the weights that are written, so that every count is a number of the format.
    pub scale: f32,
}

/// Argument of `materialized_symmetric_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SymmetricParams {
    /// `(anchors, pitch)` f32.
    pub weights: u64,
    /// `(anchors, pitch)`, in the format of the kernel's name, written: weights plus their transpose.
    pub symmetric: u64,
    /// `(anchors)` i32.
    pub labels: u64,
    /// `(anchors, 2)` i32, written.
    pub kept: u64,
    /// Number of anchors, which are the rows too.
    pub anchors: u32,
    /// Numbers from one row of weights to the next.
    pub pitch: u32,
}

const THREADS: u32 = 128;

/// Columns of a block of `pair_weights`.
const PART_COLUMNS: usize = 2048;

/// Parts in which `pair_weights` leaves the sums of rows of that many columns.
pub fn weights_parts(columns: usize) -> usize {
    columns.div_ceil(PART_COLUMNS).max(1)
}

/// A block for each anchor and part: `pair_weights`.
pub fn weights_shape(anchors: usize, columns: usize) -> LaunchShape {
    LaunchShape { grid: (anchors as u32, weights_parts(columns) as u32), ..row_shape(anchors) }
}

/// The kernel that weighs as the epilogue of that kind does, and writes weights of that format.
pub fn weights_kernel(rows: &PairRows, format: Format) -> String {
    format!("pair_weights_{}_{}", Epilogue::of(rows).name(), format.suffix())
}

/// A block for each anchor: the other kernels of this file but `materialized_row_stats`.
pub fn row_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors, THREADS).with_shared(THREADS / WARP_SIZE * 4)
}

/// A block for each anchor, with the statistics of every thread: `materialized_row_stats`.
pub fn stats_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors, THREADS).with_shared(THREADS * 2 * size_of::<SideStatistics>() as u32)
}
