//! From a tile of similarities to weights, loss, counts and gradient.
//!
//! A row of the tile is read in segments of [`SEGMENT`] similarities. Most segments hold no pair with a weight or a loss and are
//! left after a few vector comparisons; the others are evaluated without branches, and a bit per kept pair is noted. The
//! gradient then reads only the memory rows of kept pairs, or, where many are kept, comes from one matrix product.

mod gradient;
mod row_sums;
mod scan;
mod weigh;

pub(super) use row_sums::{ROW_WORDS, RowSums};
pub(super) use scan::Scan;

use super::weigher::SEGMENT;

/// Words of kept bits for a row of a tile.
pub(super) fn tile_words(rows: usize) -> usize {
    rows.div_ceil(SEGMENT)
}

/// A tile of similarities `(anchors, rows)`, overwritten by signed weights where a pair is kept.
pub(super) struct Tile<'a> {
    /// `(anchors, dim)`.
    pub(super) anchors: &'a [f32],
    /// `(rows, dim)`.
    pub(super) memory: &'a [f32],
    /// Not there yet where the tile is pruned.
    pub(super) similarities: &'a mut [f32],
    /// Whether the bits say which pairs can have a weight or a loss.
    pub(super) pruned: bool,
    /// `(anchors, tile_words(rows))`: a bit per kept pair.
    pub(super) kept: &'a mut [u32],
    /// Room for a part of the memory rows: `rows * PANEL_COLUMNS` numbers or more.
    pub(super) panel: &'a mut [f32],
    pub(super) rows: usize,
}
