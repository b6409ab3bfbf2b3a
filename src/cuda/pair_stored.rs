//! Host side of `kernels/pair_stored.cu`: rows whose similarities with the whole memory are stored.

use super::pair_loss::PairRows;
use crate::device::cuda::kernel::{LaunchShape, WARP_SIZE};
use crate::loss::SideStatistics;
use bytemuck::{Pod, Zeroable};

/// Similarities of some anchors with all memory rows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StoredRows {
    /// Labels, curves and their like.
    pub rows: PairRows,
    /// `(anchors of the group, pitch)` f32.
    pub similarities: u64,
    /// First anchor of the group.
    pub first_anchor: u32,
    /// Numbers from one row of similarities to the next.
    pub pitch: u32,
}

/// Argument of `stored_statistics`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StoredStatisticsParams {
    /// The rows.
    pub stored: StoredRows,
    /// `(anchors, 2)` [`SideStatistics`], written.
    pub statistics: u64,
}

/// Argument of `stored_hardest`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StoredHardestParams {
    /// The rows.
    pub stored: StoredRows,
    /// `(anchors, 2)` f32, written: the last positive and negative that are kept.
    pub last: u64,
    /// Positives to keep; 0 where they are not selected.
    pub positives_wanted: u32,
    /// Negatives to keep, likewise.
    pub negatives_wanted: u32,
}

/// Argument of `stored_triplets_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StoredTripletsParams {
    /// The rows.
    pub stored: StoredRows,
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

/// Argument of `stored_mirror_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct StoredMirrorParams {
    /// `(anchors, pitch)` f32.
    pub weights: u64,
    /// `(anchors, pitch)`, in the format of the kernel's name, written.
    pub both: u64,
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

/// A block for each anchor: all kernels of this file but `stored_statistics`.
pub fn stored_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors, THREADS).with_shared(THREADS / WARP_SIZE * 4)
}

/// A block for each anchor, with the statistics of every thread: `stored_statistics`.
pub fn stored_statistics_shape(anchors: usize) -> LaunchShape {
    LaunchShape::linear(anchors, THREADS).with_shared(THREADS * 2 * size_of::<SideStatistics>() as u32)
}
