//! Host side of `kernels/pair_loss/`, a module for each of its sources: [`fused`] and [`row_stats`] go through tiles of the memory,
//! [`materialized`] through stored similarities, [`normalize`] makes the normalizers of rows, [`combine`] adds the splits. Here: what
//! more than one of them takes, the twins of `row.cuh`, `tile.cuh` and `kernels/similarity.cuh`.

pub mod combine;
pub mod fused;
pub mod materialized;
pub mod normalize;
pub mod row_stats;
pub mod weighting;

use crate::device::cuda::kernel::{LaunchShape, WARP_SIZE};
use bytemuck::{Pod, Zeroable};
use weighting::CurveParams;

/// Lengths of a row that the fused kernel exists for; shorter rows are padded with zeros, other lengths go the unfused way.
pub const DIMS: [usize; 4] = [64, 128, 256, 512];

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
    /// Zero.
    pub padding: u32,
}

/// How the fused kernel of one row length divides its work: the twin of `Tiling` in `kernels/similarity.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    dim: usize,
    /// Anchors of a block.
    pub anchors: usize,
    /// Memory rows of a tile.
    pub rows: usize,
    row_groups: usize,
    column_groups: usize,
}

/// Ranges of the memory that different blocks go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Splits {
    /// Number of ranges.
    pub count: usize,
    /// Tiles of a range.
    pub tiles: usize,
}

impl Tiling {
    /// For rows of one of [`DIMS`]; `None` for other lengths.
    pub fn new(dim: usize) -> Option<Self> {
        let row_groups = if dim <= 256 { 4 } else { 2 };
        let column_groups = if dim <= 128 { 1 } else { dim / 128 };
        let rows = if dim <= 128 { 64 } else { 32 };
        DIMS.contains(&dim).then_some(Self { dim, anchors: 16 * row_groups, rows, row_groups, column_groups })
    }

    /// Shared memory of a block in bytes.
    pub fn shared_bytes(&self) -> u32 {
        let (anchor_tile, row_tile, labels) = (self.anchors * self.dim * 2, self.rows * self.dim * 2, self.rows * 4);
        let weights = if self.column_groups > 1 { self.anchors * (self.rows * 2 + 16) } else { 0 };
        (anchor_tile + 2 * row_tile + 4 * labels + weights) as u32
    }

    /// The split of a memory of `capacity` rows: about two blocks for each multiprocessor. Depends on sizes and the device only, never
    /// on how many rows are in use, so that sums are always added in the same order.
    pub fn splits(&self, anchors: usize, capacity: usize, multiprocessors: usize) -> Splits {
        let tiles = capacity.div_ceil(self.rows).max(1);
        let wanted = (2 * multiprocessors).div_ceil(anchors.div_ceil(self.anchors).max(1)).clamp(1, tiles);
        let per_split = tiles.div_ceil(wanted);
        Splits { count: tiles.div_ceil(per_split), tiles: per_split }
    }

    /// Launch of `pair_loss` and `pair_row_stats`.
    pub fn shape(&self, anchors: usize, splits: Splits) -> LaunchShape {
        let threads = (self.row_groups * self.column_groups) as u32 * WARP_SIZE;
        let grid = (anchors.div_ceil(self.anchors).max(1) as u32, splits.count as u32);
        LaunchShape { grid, threads, shared_bytes: self.shared_bytes() }
    }
}
