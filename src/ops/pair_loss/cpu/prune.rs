//! Pruning easy negatives before their similarities are known exactly.
//!
//! The default weighting discards negatives below a threshold, and they are nearly all pairs there are. Those that 8-bit codes prove to be
//! below it ([`crate::cpu::int8_prune`]) are never multiplied in 32 bits; the candidates that remain are computed pair by pair.

use super::super::PairLossGeometry;
use super::epilogue::{Scan, Tile, tile_words};
use super::weigher::{SEGMENT, Weigher};
use crate::cpu::int8_prune::{ANCHOR_TILE, Pruner, QuantizedAnchors, anchors_len, rows_len, threshold};
use crate::cpu::simd::vectorized;
use crate::device::Cpu;
use crate::ops::heuristics::{can_prune_negatives, candidates_are_few, prunes_negatives};

/// The anchors of a call in 8 bits, with the similarity up to which the negatives of each are easy.
pub(super) struct NegativePruner<'a> {
    pruner: Pruner,
    anchors: QuantizedAnchors<'a>,
    /// `(anchors)`, in whole tiles.
    thresholds: &'a [f32],
}

impl<'a> NegativePruner<'a> {
    /// Scratch memory of [`NegativePruner::new`].
    pub(super) fn room(geometry: &PairLossGeometry) -> usize {
        anchors_len(geometry.anchors, geometry.dim) + geometry.anchors.next_multiple_of(ANCHOR_TILE)
    }

    /// Quantises anchors `(anchors, dim)`. `None` where nothing is to be gained: few negatives are easy, or the processor lacks what it takes.
    pub(super) fn new(geometry: &PairLossGeometry, values: &[f32], weigher: &impl Weigher, room: &'a mut [f32]) -> Option<Self> {
        let PairLossGeometry { anchors: count, dim, .. } = *geometry;
        let pruner = Pruner::new().filter(|_| can_prune_negatives(dim))?;
        let (codes, thresholds) = room.split_at_mut(anchors_len(count, dim));
        thresholds.fill(0.0);
        for (anchor, to) in thresholds.iter_mut().take(count).enumerate() {
            *to = threshold(weigher.active(anchor).1, dim);
        }
        let anchors = pruner.quantize_anchors((count, dim), |anchor| &values[anchor * dim..][..dim], codes);
        let promising =
            anchors.error_bounds().iter().zip(&*thresholds).filter(|(error_bound, threshold)| **error_bound < **threshold).count();
        prunes_negatives(dim, promising, count).then_some(Self { pruner, anchors, thresholds })
    }

    /// Marks the positives of a tile and the negatives that may not be easy, if these are few; otherwise it returns false.
    pub(super) fn prune(&self, tile: &mut Tile<'_>, scan: &Scan<'_>, to_prefetch: &[f32], cpu: &Cpu) -> bool {
        let (count, words) = (scan.anchor_labels.len(), tile_words(tile.rows));
        let dim = tile.memory.len() / tile.rows;
        mark_positives(scan, tile.kept);
        let mut room = cpu.scratch(rows_len(tile.rows, dim));
        let rows = self.pruner.quantize_rows((tile.rows, dim), |row| &tile.memory[row * dim..][..dim], &mut room);
        let anchors = self.anchors.part(scan.first_anchor, count);
        let (thresholds, mut candidates) = (&self.thresholds[scan.first_anchor..], 0);
        self.pruner.prune(anchors, rows, (thresholds, &[]), to_prefetch, |row, first, mut bits| {
            candidates += bits.count_ones() as usize;
            while bits != 0 {
                let anchor = first + bits.trailing_zeros() as usize;
                tile.kept[anchor * words + row / SEGMENT] |= 1 << (row % SEGMENT);
                bits &= bits - 1;
            }
        });
        tile.pruned = candidates_are_few(candidates, tile.similarities.len());
        tile.pruned
    }
}

/// Sets the bits of the pairs of equal label, and no others.
fn mark_positives(scan: &Scan<'_>, kept: &mut [u32]) {
    let words = tile_words(scan.row_labels.len());
    vectorized(
        #[inline(always)]
        || {
            for (&label, kept) in scan.anchor_labels.iter().zip(kept.chunks_exact_mut(words)) {
                for (kept, labels) in kept.iter_mut().zip(scan.row_labels.chunks(SEGMENT)) {
                    *kept = 0;
                    if labels.iter().fold(false, |any, &other| any | (other == label)) {
                        let bits = labels.iter().enumerate().map(|(lane, &other)| u32::from(other == label) << lane);
                        *kept = bits.fold(0, |word, bit| word | bit);
                    }
                }
            }
        },
    );
}
