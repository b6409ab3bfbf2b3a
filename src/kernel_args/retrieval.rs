//! Host side of `kernels/retrieval.cu`: `retrieval_rank` and `retrieval_nearest`, a block for each query.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 512;
/// 64-bit keys, bins and sums of a warp each, and what the block shares beside them.
const NEAREST_SHARED: usize = 2048 * 8 + 2048 * 4 + (THREADS as usize / 32) * 4 + 24;
/// The best similarity, and a sum of each warp.
const RANK_SHARED: usize = 4 + (THREADS as usize / 32) * 4;

/// Queries that fill the tiles of a product.
const QUERY_TILE: usize = 128;

/// Argument of both kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct RetrievalParams {
    /// `(queries, stride)` f32: of each query with the gallery, then numbers that are not read.
    pub similarities: u64,
    /// `(queries)` i32.
    pub query_labels: u64,
    /// `(gallery)` i32.
    pub gallery_labels: u64,
    /// `(queries)` i32: the gallery row that is the query itself, or -1.
    pub own_rows: u64,
    /// `(queries)` i32, written by `retrieval_rank`: the rank of the best positive, or -1.
    pub ranks: u64,
    /// `(queries, depth)` i32, written by `retrieval_nearest`: nearest first, -1 past the end of the gallery.
    pub rows: u64,
    /// `(queries, depth)` f32, likewise.
    pub nearest: u64,
    /// One u32, starts at 0: 1 + a query with a similarity that is not finite, counted from the search's first.
    pub not_finite: u64,
    /// Numbers from one row of similarities to the next.
    pub stride: u64,
    /// Number of gallery rows.
    pub gallery_count: u32,
    /// Rows wanted.
    pub depth: u32,
    /// How many of the search's queries come before these.
    pub first_query: u32,
    /// Unused.
    pub padding: u32,
}

/// A block for each query: `retrieval_rank`.
pub fn rank_shape(queries: usize) -> LaunchShape {
    LaunchShape::linear(queries, THREADS).with_shared(RANK_SHARED as u32)
}

/// A block for each query: `retrieval_nearest`.
pub fn nearest_shape(queries: usize) -> LaunchShape {
    LaunchShape::linear(queries, THREADS).with_shared(NEAREST_SHARED as u32)
}

/// Queries to search at once in a gallery of so many rows of so many bytes: as many as have similarities in half of the second-level
/// cache, in whole tiles of the product. With a gallery too long for that, similarities pass through memory, and take up to half as many
/// bytes as the gallery itself.
pub fn queries_at_once(gallery: usize, row_bytes: usize, second_level_cache: usize) -> usize {
    let cached = second_level_cache / 2 / (gallery.max(1) * size_of::<f32>());
    let streamed = row_bytes / 2 / size_of::<f32>();
    if 2 * cached >= QUERY_TILE { cached.next_multiple_of(QUERY_TILE) } else { cached.max(streamed).max(1) }
}

/// Dynamic shared memory of a block of the kernel of this name, in bytes.
pub(super) fn shared_bytes_of(kernel: &str) -> Option<u32> {
    match kernel {
        "retrieval_rank" => Some(RANK_SHARED as u32),
        "retrieval_nearest" => Some(NEAREST_SHARED as u32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_fit_half_the_cache_or_half_of_the_gallery() {
        let at_once = |gallery, row_bytes| queries_at_once(gallery, row_bytes, 50 << 20);
        assert_eq!(at_once(60_000, 1024), 128, "109 fit, a whole tile is taken");
        assert_eq!(at_once(10_000, 1024), 768);
        assert_eq!(at_once(10_000_000, 1024), 128, "5 GB beside a gallery of 10");
        assert_eq!(at_once(10_000_000, 512), 64);
        assert_eq!(at_once(100_000_000, 2), 1);
        assert_eq!(at_once(0, 1024), 6_553_600);
    }
}
