//! Which kernel when: every choice between implementations by sizes and device, each with its table.
//!
//! Results do not depend on these choices but for the order of sums. The numbers were found by measuring (`docs/performance-log.md`),
//! except where a table says that they are expected.

use crate::device::ConvGeometry;
use crate::device::cuda::PairLossPath;

/// Devices of this compute capability and newer multiply by instructions that the fused kernel does not use (`wgmma`, `tcgen05`), and
/// cuBLASLt does.
const NEWER_MULTIPLICATION: i32 = 90;
/// Anchors from which on such a device is bound by products rather than by bytes: 92 on an H200, from 790 TFLOP/s over 4.3 TB/s.
const PRODUCT_BOUND_ANCHORS: usize = 128;
/// Length from which the fused kernel's shared memory, at half the rate of such a device's products, is what it waits for.
const LONG_ROWS: usize = 512;

impl PairLossPath {
    /// The pair loss on a GPU: which way is taken on a device of compute capability `capability` for `anchors` rows of length `dim`, where
    /// both can.
    ///
    /// | capability | anchors | dim | way | reason |
    /// |---|---|---|---|---|
    /// | below 90 | any | any | fused | both multiply by `mma`; the unfused way writes and reads 6 bytes a pair besides |
    /// | 90, 100 | below 128 | any | fused | bound by the bytes of the memory, which both read once from device memory |
    /// | 90, 100 | 128 and more | below 512 | fused | its products run at half the rate, which the bytes of the pairs make up for |
    /// | 90, 100 | 128 and more | 512 and more | unfused | bound by products, and cuBLASLt's are twice as fast |
    /// | 120 | any | any | fused | multiplies by `mma` only, as below 90 |
    ///
    /// These are expectations from the instructions' published rates until a device has been measured.
    #[must_use]
    pub fn chosen(self, capability: i32, anchors: usize, dim: usize) -> Self {
        let newer = (NEWER_MULTIPLICATION..120).contains(&capability);
        match self {
            Self::Auto if newer && anchors >= PRODUCT_BOUND_ANCHORS && dim >= LONG_ROWS => Self::Unfused,
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
