//! What differs from processor to processor: how fine codes are, and the instructions that make, multiply and compare them.

use super::error_bound::Encoded;
use super::{AnchorBlock, GROUP, RowBlock, STRIP, Words};
use pulp::NullaryFnOnce;
use std::slice::Chunks;

/// Methods other than [`Kernel::vectorize`] are called within it alone.
pub(super) trait Kernel: Copy {
    /// What codes of rows are shifted by, so that none is negative.
    const SHIFT: u8;

    /// Runs `work`, compiled for the kernel's instructions.
    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output;

    /// Writes the codes of a row, shifted, in an order that is the same for all rows, and fills up with those of zeros.
    fn encode<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Encoded;

    /// For each row of a group a bit for each anchor of the strip whose similarity to it can be above the lower one of their limits, if
    /// there is any.
    fn compare(self, strip: &Strip<'_>, group: &Group<'_>) -> Option<[u32; GROUP]>;
}

/// A strip of anchors.
pub(super) struct Strip<'a> {
    pub(super) codes: &'a [AnchorBlock],
    /// What products have too much, as the codes of rows are shifted.
    pub(super) corrections: &'a [i32; STRIP],
    pub(super) steps: &'a [f32; STRIP],
    pub(super) slacks: &'a [f32; STRIP],
    pub(super) limits: &'a [f32; STRIP],
}

/// A group of rows.
pub(super) struct Group<'a> {
    pub(super) codes: &'a [RowBlock],
    pub(super) steps: &'a [f32; GROUP],
    pub(super) slacks: &'a [f32; GROUP],
    pub(super) limits: [f32; GROUP],
    /// What will be read next: bringing it closer keeps the products from waiting if it is asked for a few lines at a time.
    pub(super) ahead: &'a [f32],
}

/// Numbers in `count` parts or less.
#[inline(always)]
pub(super) fn pieces(numbers: &[f32], count: usize) -> Chunks<'_, f32> {
    numbers.chunks(numbers.len().div_ceil(count.max(1)).max(1))
}
