//! Counting without the similarities that change no count.
//!
//! A similarity that reaches neither the best positive of its query nor the last one that can be among the `R` nearest is not counted, and of
//! good embeddings nearly all are such. First 8-bit codes prune those that certainly are ([`crate::cpu::int8_prune`]), then a product of the
//! pair alone those that are but for the rounding of sums; the few that remain come out of the same products as all similarities do, so
//! that ties stay ties.

use super::{BLOCK, Counting, Search, Tallies, block_range, lock};
use crate::cpu::dot::dot;
use crate::cpu::gemm::{IndexedGemm, IndexedRow, PANEL};
use crate::cpu::int8_prune::{
    ANCHOR_TILE, Pruner, QuantizedAnchors, QuantizedRows, anchors_len, rounding_error, rows_len, threshold,
};
use crate::device::Cpu;
use crate::ops::heuristics::{PRUNING_PATIENCE, evaluation_prunes};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI32, Ordering};

/// Largest product of the lengths of a query and a gallery row, for which [`rounding_error`] holds.
const LARGEST: f64 = 1.5 * 1.5;
/// Words of a bit per column of a block.
const WORDS: usize = BLOCK / PANEL;
const _: () =
    assert!(PANEL == u32::BITS as usize && BLOCK.is_multiple_of(ANCHOR_TILE), "a word is a panel, and blocks are tiles of anchors");

/// The queries of a round and the gallery in 8 bits.
pub(super) struct TilePruner<'a> {
    counting: &'a Counting<'a>,
    pruner: Pruner,
    /// Of each block of queries.
    anchors: Vec<QuantizedAnchors<'a>>,
    /// Of each block of the gallery.
    rows: Vec<QuantizedRows<'a>>,
    /// What is left of the patience. It decides what is computed how, and not what comes of it.
    patience: AtomicI32,
}

/// A block of queries, and the block of gallery rows that are queries as well, if they are to be counted for too.
type Both<'a> = (&'a Mutex<Tallies>, Option<&'a Mutex<Tallies>>);

impl<'a> TilePruner<'a> {
    /// Scratch memory of [`TilePruner::new`].
    pub(super) fn room(counting: &Counting<'_>, round: Range<usize>) -> usize {
        let dim = counting.search.dim;
        round.len() * anchors_len(BLOCK, dim) + counting.gallery.len().div_ceil(BLOCK) * rows_len(BLOCK, dim)
    }

    /// Quantises the queries of a round and the gallery, if they are about of length 1 and the processor gains by it.
    pub(super) fn new(counting: &'a Counting<'a>, cpu: &Cpu, round: Range<usize>, room: &'a mut [f32]) -> Option<Self> {
        let (pruner, dim) = (Pruner::new().filter(|_| counting.search.largest <= LARGEST)?, counting.search.dim);
        let Counting { search, queries, gallery, .. } = counting;
        let (anchor_room, row_room) = room.split_at_mut(round.len() * anchors_len(BLOCK, dim));
        let quantize_queries = |(room, number): (&'a mut [f32], usize)| {
            let queries = &queries[block_range(number, queries.len())];
            pruner.quantize_anchors((queries.len(), dim), |index| row_of(search.queries, queries[index], dim), room)
        };
        let quantize_rows = |(room, rows): (&'a mut [f32], &[u32])| {
            pruner.quantize_rows((rows.len(), dim), |index| row_of(search.gallery, rows[index], dim), room)
        };
        let (anchors, rows) = cpu.run(|| {
            let anchors = anchor_room.par_chunks_exact_mut(anchors_len(BLOCK, dim)).zip(round).map(quantize_queries);
            let rows = row_room.par_chunks_exact_mut(rows_len(BLOCK, dim)).zip(gallery.par_chunks(BLOCK)).map(quantize_rows);
            (anchors.collect(), rows.collect())
        });
        Some(Self { counting, pruner, anchors, rows, patience: AtomicI32::new(PRUNING_PATIENCE) })
    }

    /// Counts the pairs of block `number` of the round's queries and a block of the gallery, unless that is better done by whole products.
    pub(super) fn count(
        &self,
        cpu: &Cpu,
        number: usize,
        queries: &Range<usize>,
        gallery: &Range<usize>,
        (own, mirror): Both<'_>,
    ) -> bool {
        if self.patience.load(Ordering::Relaxed) <= 0 {
            return false;
        }
        let mut words = cpu.scratch(BLOCK * WORDS);
        let words: &mut [u32] = bytemuck::cast_slice_mut(&mut words[..queries.len() * WORDS]);
        let (cutoffs, mirror_cutoffs) = (lock(own).lowest(), mirror.map(|mirror| lock(mirror).lowest()).unwrap_or_default());
        let candidates = self.prune((number, gallery.start / BLOCK), (&cutoffs, &mirror_cutoffs), words);
        if !evaluation_prunes(candidates, queries.len() * gallery.len()) {
            self.patience.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.patience.store(PRUNING_PATIENCE, Ordering::Relaxed);
        Arch::new().dispatch(Refine {
            search: self.counting.search,
            queries: &self.counting.queries[queries.clone()],
            gallery: &self.counting.gallery[gallery.clone()],
            cutoffs: (&cutoffs, &mirror_cutoffs),
            words,
        });
        self.consume(cpu, queries, gallery, (own, mirror), words);
        true
    }

    /// Sets the bits `(queries, WORDS)` of the pairs of two blocks whose codes may be of a similarity that counts, and returns their number.
    fn prune(&self, (queries, gallery): (usize, usize), (cutoffs, mirror_cutoffs): (&[f32], &[f32]), words: &mut [u32]) -> usize {
        let dim = self.counting.search.dim;
        let thresholds = |cutoffs: &[f32]| {
            let mut thresholds = vec![0.0; cutoffs.len().next_multiple_of(ANCHOR_TILE)];
            thresholds.iter_mut().zip(cutoffs).for_each(|(to, &cutoff)| *to = threshold(cutoff, dim));
            thresholds
        };
        words.fill(0);
        let mut candidates = 0;
        let (thresholds, mirror_thresholds) = (thresholds(cutoffs), thresholds(mirror_cutoffs));
        self.pruner.prune(
            self.anchors[queries],
            self.rows[gallery],
            (&thresholds, &mirror_thresholds),
            &[],
            |row, first, mut bits| {
                candidates += bits.count_ones() as usize;
                while bits != 0 {
                    words[(first + bits.trailing_zeros() as usize) * WORDS + row / PANEL] |= 1 << (row % PANEL);
                    bits &= bits - 1;
                }
            },
        );
        candidates
    }

    /// Computes what is left, panel by panel, and counts it.
    fn consume(&self, cpu: &Cpu, queries: &Range<usize>, gallery: &Range<usize>, (own, mirror): Both<'_>, words: &[u32]) {
        let (search, dim) = (self.counting.search, self.counting.search.dim);
        let mut similarities = cpu.scratch(BLOCK * PANEL);
        for panel in 0..gallery.len().div_ceil(PANEL) {
            let (mut pairs, mut filled) = ([IndexedRow::default(); BLOCK], 0);
            let found = |slot: usize| words[slot * WORDS + panel];
            for slot in (0..queries.len()).filter(|&slot| found(slot) != 0) {
                pairs[filled] = IndexedRow { from: self.counting.queries[queries.start + slot], to: filled as u32 };
                filled += 1;
            }
            if filled == 0 {
                continue;
            }
            let first = gallery.start + panel * PANEL;
            let packed = &self.counting.packed[first * dim..][..PANEL * dim];
            IndexedGemm::dense(search.queries, packed, dim, PANEL).run(&pairs[..filled], &mut similarities);
            let slots = (0..queries.len()).filter(|&slot| found(slot) != 0);
            let rows = slots.zip(similarities.chunks_exact(PANEL));
            let tallies = &mut *lock(own);
            for (slot, values) in rows.clone() {
                for (lane, &value) in values.iter().enumerate().filter(|(lane, _)| found(slot) >> lane & 1 == 1) {
                    self.counting.see(tallies, (slot, queries.start + slot), (value, first + lane));
                }
            }
            let Some(mirror) = mirror else { continue };
            let tallies = &mut *lock(mirror);
            for (slot, values) in rows {
                for (lane, &value) in values.iter().enumerate().filter(|(lane, _)| found(slot) >> lane & 1 == 1) {
                    self.counting.see(tallies, (panel * PANEL + lane, first + lane), (value, queries.start + slot));
                }
            }
        }
    }
}

/// Takes back the bits of pairs whose similarity, but for rounding, does not count.
struct Refine<'a> {
    search: &'a Search<'a>,
    /// Rows of the block's queries, and of its columns.
    queries: &'a [u32],
    gallery: &'a [u32],
    cutoffs: (&'a [f32], &'a [f32]),
    words: &'a mut [u32],
}

impl WithSimd for Refine<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (dim, (cutoffs, mirror_cutoffs)) = (self.search.dim, self.cutoffs);
        let error_bound = rounding_error(dim);
        for (slot, words) in self.words.chunks_exact_mut(WORDS).enumerate() {
            let query = row_of(self.search.queries, self.queries[slot], dim);
            for (panel, word) in words.iter_mut().enumerate() {
                let mut rest = *word;
                while rest != 0 {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    let column = panel * PANEL + bit as usize;
                    let cutoff = cutoffs[slot].min(mirror_cutoffs.get(column).copied().unwrap_or(f32::INFINITY));
                    let similarity = dot(simd, query, row_of(self.search.gallery, self.gallery[column], dim));
                    *word &= !(u32::from(similarity < cutoff - error_bound) << bit);
                }
            }
        }
    }
}

fn row_of(rows: &[f32], row: u32, dim: usize) -> &[f32] {
    &rows[row as usize * dim..][..dim]
}
