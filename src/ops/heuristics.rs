//! Which kernel when: every choice between implementations by sizes and device, each with its table.
//!
//! Results do not depend on these choices but for the order of sums. The numbers were found by measuring (`docs/performance-log.md`),
//! except where a table says that they are expected.

use crate::device::ConvGeometry;
use crate::device::cuda::PairLossPath;

/// Anchors from which on products outweigh the bytes of a long memory.
const MANY_ANCHORS: usize = 128;
/// Longest rows whose anchors and sums the fused kernel holds in the registers of single warps.
const SHORT_ROWS: usize = 128;
/// Longest rows that products of warpgroups are made for with any number of anchors; twice as long ones with fewer than twice `MANY_ANCHORS`.
const WARPGROUP_ROWS: usize = 1024;
/// Longest rows for which the fused kernel takes 64 anchors at a time; it reads twice as much for its products of longer ones.
const LONG_ROWS: usize = 512;

impl PairLossPath {
    /// The pair loss on a GPU: which way is taken on a device of compute capability `capability` for `anchors` rows of length `dim`, where
    /// both can. `warpgroups` says whether this build has the fused kernels that multiply by `wgmma`, which only devices of 9.0 run.
    ///
    /// | capability | anchors | dim | way | reason |
    /// |---|---|---|---|---|
    /// | 8.x, 12.x | any | up to 512 | fused | both multiply by `mma`; the unfused way moves 12 bytes a pair besides |
    /// | 8.x, 12.x | 128 and more | above 512 | unfused | shared memory holds 32 anchors of such a length, and cannot feed the products |
    /// | 9.0 with `wgmma` | any | up to 1,024 | fused | as on 8.x: both multiply by it |
    /// | 9.0 with `wgmma` | below 256 | up to 2,048 | fused | bound by the bytes of the memory |
    /// | 9.0 with `wgmma` | 256 and more | above 1,024 | unfused | shared memory feeds the products of such rows at 70 % |
    /// | 9.x | any | up to 128 | fused | `wgmma`, which cuBLASLt uses, is half again as fast, which those bytes make up for |
    /// | 9.x | below 128 | up to 512 | fused | bound by the bytes of the memory, which both read once from device memory |
    /// | 9.x | 128 and more | above 128 | unfused | bound by products |
    /// | 9.x | any | above 512 | unfused | as on 8.x |
    /// | 10.x | any | up to 128 | fused | as on 9.x; `tcgen05` is four times as fast |
    /// | 10.x | any | above 128 | unfused | bound by products from fewer anchors on |
    ///
    /// Counted, not measured: `benches/counted` prints what both ways take at least, with half of the pairs easy, and where the other way is
    /// counted quicker (`docs/device-predictions.md`).
    #[must_use]
    pub fn chosen(self, (capability, warpgroups): (i32, bool), anchors: usize, dim: usize) -> Self {
        let many = anchors >= MANY_ANCHORS;
        let unfused = match capability / 10 {
            9 if warpgroups => dim > 2 * WARPGROUP_ROWS || (dim > WARPGROUP_ROWS && anchors >= 2 * MANY_ANCHORS),
            9 => dim > LONG_ROWS || (dim > SHORT_ROWS && many),
            10 => dim > SHORT_ROWS,
            _ => dim > LONG_ROWS && many,
        };
        match self {
            Self::Auto if unfused => Self::Unfused,
            Self::Auto => Self::Fused,
            wished => wished,
        }
    }
}

/// How the CPU convolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConvAlgorithm {
    /// `conv/winograd/`.
    Winograd,
    /// `conv/im2row.rs`.
    Im2Row,
    /// `conv/indirect_gemm.rs`.
    IndirectGemm,
}

/// Fewest tiles for which transforming a filter by Winograd's algorithm pays.
const FEW_TILES: usize = 32;
/// Side of a tile of the output in Winograd's F(4x4, 3x3), and its products for each pair of channels.
pub(super) const WINOGRAD_TILE: usize = 4;
pub(super) const WINOGRAD_PRODUCTS: usize = 36;
/// Longest row of a filter, in numbers, for which copying the image with its padding pays.
const LONGEST_RUN: usize = 64;

impl ConvAlgorithm {
    /// Convolutions on the CPU, and their gradients; the first row that holds.
    ///
    /// | condition | algorithm | reason |
    /// |---|---|---|
    /// | 3x3, stride 1, padding 1, 32 tiles of 4x4 pixels or more, two thirds of the products or fewer | Winograd | fewer products |
    /// | larger than 1x1, a row of the filter of at most 64 numbers | im2row (the input's gradient: indirect GEMM) | few channels: long rows for the products |
    /// | any other | indirect GEMM | pixels that meet the padding are not multiplied, nothing is copied |
    pub(super) fn chosen(geometry: &ConvGeometry, winograd_is_possible: bool) -> Self {
        let ConvGeometry { batch, height, width, in_channels, kernel, .. } = *geometry;
        let tiles = height.div_ceil(WINOGRAD_TILE) * width.div_ceil(WINOGRAD_TILE);
        let products = (3 * height).saturating_sub(2) * (3 * width).saturating_sub(2);
        if winograd_is_possible && batch * tiles >= FEW_TILES && 3 * tiles * WINOGRAD_PRODUCTS < 2 * products {
            Self::Winograd
        } else if kernel > 1 && kernel * in_channels <= LONGEST_RUN {
            Self::Im2Row
        } else {
            Self::IndirectGemm
        }
    }
}

/// Indirect GEMM on the CPU: how the work is split.
///
/// | pixels written | channels written | tasks are | reason |
/// |---|---|---|---|
/// | at most 512 | more than 64 | panels of channels | each weight is read once |
/// | any other | any | ranges of pixels | each pixel is read once |
pub(super) fn splits_channels(pixels: usize, channels: usize) -> bool {
    pixels <= 512 && channels > 64
}

/// Filters on the CPU that many batches read: whether their panels are kept.
///
/// | pixels of the output | panels | reason |
/// |---|---|---|
/// | 1 to 1,024 | kept | ResNet-50, 8 images of 224 pixels: 6 % of a pass up to here for 75 MB |
/// | more | made each time | packing is lost in the product: another 1 % for 55 MB up to twice as many |
pub(super) fn keeps_panels(pixels: usize) -> bool {
    (1..=1024).contains(&pixels)
}

/// Winograd's algorithm on the CPU, of so many pairs of channels: whether tiles are taken through all stages block by block.
///
/// | pairs of channels | order | reason |
/// |---|---|---|
/// | at most 128 x 128 | block by block | the transformed filter stays in the second-level cache |
/// | more | all tiles, then the filter part by part | each part of the filter is read once |
pub(super) fn goes_by_blocks(channel_pairs: usize) -> bool {
    channel_pairs <= 128 * 128
}

/// The pair loss on the CPU: whether pruning negatives in 8 bits can pay, for embeddings of length `dim` of which `promising` of `anchors`
/// have a threshold above their error bound.
///
/// | condition | way |
/// |---|---|
/// | dim below 32 | every pair in 32 bits: products are not most of the work |
/// | half the anchors or fewer are promising | every pair in 32 bits: few negatives can be pruned |
/// | any other | pruned, tile by tile, while [`candidates_are_few`] |
pub(super) fn prunes_negatives(dim: usize, promising: usize, anchors: usize) -> bool {
    can_prune_negatives(dim) && 2 * promising > anchors
}

/// What of [`prunes_negatives`] is known before anything is quantised.
pub(super) fn can_prune_negatives(dim: usize) -> bool {
    dim >= 32
}

/// The pair loss on the CPU: whether the candidates of a tile are multiplied one by one.
///
/// | candidates | way |
/// |---|---|
/// | fewer than one pair in 10 | one by one |
/// | more | one product over the tile, and no more pruning in this range |
pub(super) fn candidates_are_few(candidates: usize, pairs: usize) -> bool {
    candidates * 10 < pairs
}

/// The pair loss on the CPU: whether the gradient adds the memory rows of active pairs one by one.
///
/// | active pairs of a tile | way |
/// |---|---|
/// | fewer than one in 3 | row by row |
/// | more | one product over the tile |
pub(super) fn active_pairs_are_few(active: usize, pairs: usize) -> bool {
    active * 3 < pairs
}

/// Blocks in a row, about, that were not worth pruning until an evaluation prunes no other.
pub(super) const PRUNING_PATIENCE: i32 = 4;

/// Evaluation on the CPU: whether pruning a block of queries and gallery rows was worth it.
///
/// | candidates | way |
/// |---|---|
/// | at most one pair in 8 | computed panel by panel |
/// | more | the whole block; after four such blocks nothing is pruned |
pub(super) fn evaluation_prunes(candidates: usize, pairs: usize) -> bool {
    candidates * 8 <= pairs
}
