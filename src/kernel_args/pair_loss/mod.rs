//! Host side of `kernels/pair_loss/`, a module for each of its sources: [`fused`] and [`row_stats`] go through tiles of the memory,
//! [`materialized`] through stored similarities, [`normalize`] makes the normalizers of rows, [`combine`] adds the splits. Here: what
//! more than one of them takes, the twins of `row.cuh` and `tile.cuh`; [`tiling`] is that of `similarity.cuh`.

pub mod combine;
pub mod fused;
pub mod materialized;
pub mod normalize;
pub mod row_stats;
pub mod tiling;
pub mod warpgroup;
pub mod weighting;

use bytemuck::{Pod, Zeroable};
use weighting::CurveParams;

/// What is read of each anchor and memory row beside the embeddings. Addresses are of device memory; those that may be 0 say so.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PairRows {
    /// `(anchors)` i32.
    pub anchor_labels: u64,
    /// `(rows)` i32.
    pub memory_labels: u64,
    /// 0, or `(anchors)` i32: the memory row that is the anchor itself, or -1.
    pub own_slots: u64,
    /// 0, or `(anchors)` i32.
    pub anchor_instances: u64,
    /// 0, or `(rows)` i32.
    pub memory_instances: u64,
    /// 0, or `(soft_count)` f32.
    pub soft_labels: u64,
    /// `(anchors)` i32, read with `soft_labels`: index of each anchor's soft label.
    pub anchor_soft: u64,
    /// `(rows)` i32, the same.
    pub memory_soft: u64,
    /// 0, or one u32: memory rows in use.
    pub count: u64,
    /// 0 where a weight depends on its similarity alone, or `(anchors)` [`crate::loss::RowNormalizer`].
    pub row_normalizers: u64,
    /// Number of anchors.
    pub anchor_count: u32,
    /// Memory rows, or slots of the ring where `count` is given.
    pub rows: u32,
    /// 1 where the loss of positives is the tail of a sigmoid.
    pub positive_tails: u32,
    /// 1 where that of negatives is.
    pub negative_tails: u32,
    /// Difference of soft labels at which a negative has its whole weight.
    pub soft_width: f32,
    /// Share of its weight at equal soft labels.
    pub soft_least: f32,
    /// Number of soft labels.
    pub soft_count: u32,
    /// Zero.
    pub padding: u32,
    /// Weight of positive pairs.
    pub positive: CurveParams,
    /// Weight of negative pairs.
    pub negative: CurveParams,
}

impl PairRows {
    /// Nothing but the curves: addresses and counts are for the caller to fill in.
    pub fn new(positive: CurveParams, negative: CurveParams) -> Self {
        Self { positive, negative, soft_width: 1.0, ..Self::zeroed() }
    }
}

/// What a block goes through, for `pair_loss` and `pair_row_stats`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PairTiles {
    /// Labels, curves and their like.
    pub rows: PairRows,
    /// `(anchors, dim)`, 16 bit.
    pub anchors: u64,
    /// `(rows, dim)`, 16 bit.
    pub memory: u64,
    /// Tiles of memory rows a block goes through.
    pub tiles_per_split: u32,
    /// Length of a row, a multiple of [`DIM_MULTIPLE`](tiling::DIM_MULTIPLE).
    pub dim: u32,
}
