//! What differs from processor to processor: how fine codes are, and the instructions that make, multiply and compare them.

use super::error_bound::Quantized;
use super::{ANCHOR_TILE, AnchorBlock, ROW_TILE, RowBlock, Words};
use pulp::NullaryFnOnce;
use std::slice::Chunks;

/// Methods other than [`Int8Kernel::vectorize`] are called within it alone.
pub(super) trait Int8Kernel: Copy {
    /// What is added to the codes of rows, so that none is negative.
    const ZERO_POINT: u8;

    /// Runs `work`, compiled for the kernel's instructions.
    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output;

    /// Writes the codes of a row, with the zero point added, in an order that is the same for all rows, and fills up with those of zeros.
    fn quantize<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Quantized;

    /// For each row of a tile a bit for each anchor of the other that is a candidate, if there is any: its similarity to the row can be
    /// above the lower one of their thresholds.
    fn compare(self, anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>) -> Option<[u32; ROW_TILE]>;
}

/// A tile of anchors.
pub(super) struct AnchorTile<'a> {
    pub(super) codes: &'a [AnchorBlock],
    /// What the zero point of the rows' codes adds to the products.
    pub(super) offset_corrections: &'a [i32; ANCHOR_TILE],
    pub(super) scales: &'a [f32; ANCHOR_TILE],
    pub(super) error_bounds: &'a [f32; ANCHOR_TILE],
    pub(super) thresholds: &'a [f32; ANCHOR_TILE],
}

/// A tile of rows.
pub(super) struct RowTile<'a> {
    pub(super) codes: &'a [RowBlock],
    pub(super) scales: &'a [f32; ROW_TILE],
    pub(super) error_bounds: &'a [f32; ROW_TILE],
    pub(super) thresholds: [f32; ROW_TILE],
    /// What will be read next: prefetched a few lines at a time, so that the products need not wait for it.
    pub(super) to_prefetch: &'a [f32],
}

/// Numbers in `count` parts or less.
#[inline(always)]
pub(super) fn pieces(numbers: &[f32], count: usize) -> Chunks<'_, f32> {
    numbers.chunks(numbers.len().div_ceil(count.max(1)).max(1))
}
