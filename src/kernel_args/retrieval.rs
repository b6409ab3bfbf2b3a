//! Host side of `kernels/retrieval.cu`.
//!
//! Ranks: `retrieval_best`, `retrieval_count`, `retrieval_ranks`. Nearest rows: [`PASSES`] times `retrieval_histogram` and
//! `retrieval_select`, then `retrieval_collect` and `retrieval_sort`.

use crate::device::cuda::kernel::{Format, LaunchShape, WARP_SIZE};
use crate::kernel_args::tiling::Tiling;
use bytemuck::{Pod, Zeroable};

/// Deepest search for nearest rows.
pub const MAX_DEPTH: usize = 1000;
/// Bins of a histogram.
pub const BINS: usize = 2048;
/// Rows that may be collected for a query.
pub const CANDIDATES: usize = 2048;
/// Digits of a key; all but the first two or so passes find nothing to do.
pub const PASSES: u32 = 6;

const SORT_THREADS: u32 = 256;

/// Argument of every kernel of the file; what starts at 0 must be cleared before the first launch.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct RetrievalParams {
    /// `(queries, dim)`, 16 bit.
    pub queries: u64,
    /// `(gallery, dim)`, 16 bit.
    pub gallery: u64,
    /// `(queries)` i32.
    pub query_labels: u64,
    /// `(gallery)` i32.
    pub gallery_labels: u64,
    /// `(queries)` i32: the gallery row that is the query itself, or -1.
    pub own_rows: u64,
    /// `(queries)` u32, starts at 0.
    pub best: u64,
    /// `(queries)` i32, starts at 0.
    pub counts: u64,
    /// `(queries)` i32, written: the rank of the best positive, or -1.
    pub ranks: u64,
    /// One u32, starts at 0: 1 + a query with a similarity that is not finite.
    pub not_finite: u64,
    /// `(queries)` u64, starts at 0.
    pub thresholds: u64,
    /// `(queries)` u32, starts at 0.
    pub above: u64,
    /// `(queries)` u32, starts at 0.
    pub done: u64,
    /// `(queries, BINS)` u32, starts at 0.
    pub histograms: u64,
    /// `(queries, CANDIDATES)` u64.
    pub candidates: u64,
    /// `(queries)` u32, starts at 0.
    pub candidate_counts: u64,
    /// `(queries, depth)` i32, written: nearest first, -1 past the end of the gallery.
    pub rows: u64,
    /// `(queries, depth)` f32, written.
    pub similarities: u64,
    /// Number of queries.
    pub query_count: u32,
    /// Number of gallery rows.
    pub gallery_count: u32,
    /// Tiles of gallery rows a block goes through.
    pub tiles_per_split: u32,
    /// Rows wanted, at most [`MAX_DEPTH`].
    pub depth: u32,
    /// Digit of the key, from 0.
    pub pass: u32,
    /// Length of a row, a multiple of [`DIM_MULTIPLE`](super::tiling::DIM_MULTIPLE).
    pub dim: u32,
}

/// One of the tiled kernels, `best`, `count`, `histogram` and `collect`, which are launched as [`Tiling::shape`] says.
pub fn kernel(what: &str, format: Format, tiling: &Tiling) -> String {
    format!("retrieval_{what}_{}_{}", format.suffix(), tiling.suffix())
}

/// A warp for each query: `select`.
pub fn select_shape(queries: usize) -> LaunchShape {
    LaunchShape::linear(queries, WARP_SIZE)
}

/// A block for each query: `sort`.
pub fn sort_shape(queries: usize) -> LaunchShape {
    LaunchShape::linear(queries, SORT_THREADS).with_shared((CANDIDATES * size_of::<u64>()) as u32)
}

/// A thread for each query: `ranks`.
pub fn rank_shape(queries: usize) -> LaunchShape {
    LaunchShape::linear(queries.div_ceil(SORT_THREADS as usize), SORT_THREADS)
}
