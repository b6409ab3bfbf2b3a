//! How the pair loss goes through the memory on the CPU: blocks of anchors times ranges of the memory, in tiles that stay in cache.
//!
//! Work is split by the shapes only. Each range has a state of its own, and what comes of them is combined in the order of the
//! ranges, so the bits do not depend on the number of threads.

use super::super::{CompareWith, PairLossGeometry, PairLossInputs, SelfPairMask};
use super::epilogue::{Scan, Tile, tile_words};
use super::prune::NegativePruner;
use super::weigher::SEGMENT;
use crate::cpu::gemm::streamed::{BROADCASTS, LARGEST_STRIP, PANEL_COLUMNS, Similarities};
use crate::device::{Cpu, RowsView};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Anchors per block: enough to read each memory row from memory once per block, few enough that a tile stays in cache.
const BLOCK_ANCHORS: usize = 256;
const _: () = assert!(BLOCK_ANCHORS.is_multiple_of(LARGEST_STRIP), "a block starts at a strip of packed anchors");
/// Numbers of a tile of memory rows: a quarter of a mebibyte.
const TILE_FLOATS: usize = 64 * 1024;
/// Tiles and ranges are multiples of this many rows, which both the products and the epilogue divide without remainder.
const ROW_STEP: usize = 96;
const _: () = assert!(ROW_STEP.is_multiple_of(BROADCASTS) && ROW_STEP.is_multiple_of(SEGMENT), "no remainder");
/// Most memory rows of a tile, so that a tile of similarities has at most 192 KiB.
const MOST_TILE_ROWS: usize = 2 * ROW_STEP;
/// Fewest memory rows worth a range of their own.
const LEAST_RANGE_ROWS: usize = 480;
/// Most ranges of the memory.
const MOST_RANGES: usize = 32;
/// Numbers in all partial gradients together (8 MiB), unless the gradient itself is larger.
const PARTIAL_FLOATS: usize = 2 * 1024 * 1024;

/// How the work is split.
pub(super) struct Partition {
    pub(super) ranges: usize,
    pub(super) range_rows: usize,
    tile_rows: usize,
}

impl Partition {
    pub(super) fn new(geometry: &PairLossGeometry) -> Self {
        let PairLossGeometry { anchors, rows, dim } = *geometry;
        let affordable = (PARTIAL_FLOATS / (anchors * dim)).clamp(1, MOST_RANGES);
        let ranges = rows.div_ceil(LEAST_RANGE_ROWS).min(affordable);
        let tile_rows = (TILE_FLOATS / dim / ROW_STEP * ROW_STEP).clamp(ROW_STEP, MOST_TILE_ROWS);
        let range_rows = if ranges == 0 { 0 } else { rows.div_ceil(ranges).next_multiple_of(ROW_STEP) };
        Self { ranges: if range_rows == 0 { 0 } else { rows.div_ceil(range_rows) }, range_rows, tile_rows }
    }
}

/// Pairs that are no pairs, on the host.
#[derive(Clone, Copy)]
pub(super) enum HostSelfPairs<'a> {
    None,
    Slot(&'a [i32]),
    Instance(&'a [i32], &'a [i32]),
}

/// The inputs on the host.
#[derive(Clone, Copy)]
pub(super) struct HostInputs<'a> {
    pub(super) anchors: &'a [f32],
    pub(super) anchor_labels: &'a [i32],
    memory: RowsView<'a>,
    pub(super) memory_labels: &'a [i32],
    own: HostSelfPairs<'a>,
}

impl<'a> HostInputs<'a> {
    pub(super) fn new(inputs: &PairLossInputs<'a, Cpu>) -> Self {
        Self {
            anchors: inputs.anchors.as_slice(),
            anchor_labels: inputs.anchor_labels.as_slice(),
            memory: match inputs.memory {
                CompareWith::Numbers(numbers) => RowsView::Full(numbers.as_slice()),
                CompareWith::Stored(rows) => rows.view(),
            },
            memory_labels: inputs.memory_labels.as_slice(),
            own: match inputs.self_pairs {
                SelfPairMask::None => HostSelfPairs::None,
                SelfPairMask::Slot(slots) => HostSelfPairs::Slot(slots.as_slice()),
                SelfPairMask::Instance { anchors, rows } => HostSelfPairs::Instance(anchors.as_slice(), rows.as_slice()),
            },
        }
    }

    /// Says where a similarity of `anchor` that is not finite came from.
    fn not_finite(&self, dim: usize, anchor: usize) -> Error {
        let first = |rows: RowsView<'_>| rows.first_not_finite().map(|index| index / dim);
        let at = |what, row| Error::NotFinite { what, row };
        first(RowsView::Full(self.anchors))
            .map(|row| at("anchors", row))
            .or_else(|| first(self.memory).map(|row| at("memory", row)))
            .unwrap_or_else(|| at("similarities of the anchors", anchor))
    }
}

/// Everything the passes of one call over the memory share.
pub(super) struct Task<'a> {
    pub(super) cpu: &'a Cpu,
    pub(super) geometry: PairLossGeometry,
    pub(super) host: HostInputs<'a>,
    pub(super) partition: Partition,
    /// All anchors, packed for the products.
    pub(super) packed: &'a [f32],
}

/// One block of anchors against one range of the memory.
pub(super) struct Block<'a> {
    task: &'a Task<'a>,
    /// First anchor of the block.
    pub(super) first_anchor: usize,
    count: usize,
    first_row: usize,
    end_row: usize,
}

impl Task<'_> {
    /// Goes once through the memory. `first` and `second` are `(ranges, anchors)` states, `first` with `width` entries an anchor, at
    /// least 1; `work` gets those of a block in a range, and fails with an anchor whose similarity is not finite. A memory without rows
    /// has no ranges.
    pub(super) fn each_block<A: Send, B: Send>(
        &self,
        (first, width): (&mut [A], usize),
        second: &mut [B],
        work: impl Fn(&Block<'_>, &mut [A], &mut [B]) -> Result<(), usize> + Sync,
    ) -> Result<()> {
        let anchors = self.geometry.anchors;
        let not_finite = AtomicUsize::new(usize::MAX);
        self.cpu.run(|| {
            let ranges = first.par_chunks_mut(anchors * width).zip(second.par_chunks_mut(anchors));
            ranges.enumerate().for_each(|(range, (first, second))| {
                let blocks = first.par_chunks_mut(BLOCK_ANCHORS * width).zip(second.par_chunks_mut(BLOCK_ANCHORS));
                blocks.enumerate().for_each(|(number, (first, second))| {
                    let block = self.block(range, number, second.len());
                    if let Err(anchor) = work(&block, first, second) {
                        not_finite.fetch_min(anchor, Ordering::Relaxed);
                    }
                });
            });
        });
        match not_finite.into_inner() {
            usize::MAX => Ok(()),
            anchor => Err(self.host.not_finite(self.geometry.dim, anchor)),
        }
    }

    fn block(&self, range: usize, number: usize, count: usize) -> Block<'_> {
        let first_row = range * self.partition.range_rows;
        let end_row = self.geometry.rows.min(first_row + self.partition.range_rows);
        Block { task: self, first_anchor: number * BLOCK_ANCHORS, count, first_row, end_row }
    }
}

impl Block<'_> {
    /// Shows the similarities of the block with each tile of memory rows to `visit`, with what is known of the pairs. With a pruner,
    /// easy negatives are left out for as long as that pays.
    pub(super) fn each_tile(
        &self,
        mut pruner: Option<&NegativePruner<'_>>,
        mut visit: impl FnMut(&mut Tile<'_>, &Scan<'_>) -> Result<(), usize>,
    ) -> Result<(), usize> {
        let Self { task, count, first_anchor, .. } = *self;
        let (dim, tile_rows) = (task.geometry.dim, task.partition.tile_rows);
        let mut similarities = task.cpu.scratch(count * tile_rows);
        let mut words = task.cpu.scratch(count * tile_words(tile_rows));
        let mut panel = task.cpu.scratch(tile_rows * PANEL_COLUMNS);
        let mut widened = task.cpu.scratch(if matches!(task.host.memory, RowsView::Half(_)) { tile_rows * dim } else { 0 });
        for row in (self.first_row..self.end_row).step_by(tile_rows) {
            let rows = tile_rows.min(self.end_row - row);
            let (memory, to_prefetch) = match task.host.memory {
                RowsView::Full(memory) => {
                    let (memory, rest) = memory[row * dim..self.end_row * dim].split_at(rows * dim);
                    (memory, &rest[..rest.len().min(tile_rows * dim)])
                }
                RowsView::Half(_) => {
                    task.host.memory.read(row * dim, &mut widened[..rows * dim]);
                    (&widened[..rows * dim], &[][..])
                }
            };
            let mut tile = Tile {
                anchors: &task.host.anchors[first_anchor * dim..][..count * dim],
                memory,
                similarities: &mut similarities[..count * rows],
                pruned: false,
                kept: bytemuck::cast_slice_mut(&mut words[..count * tile_words(rows)]),
                panel: &mut panel,
                rows,
            };
            let scan = self.scan(row, rows);
            pruner = pruner.filter(|pruner| pruner.prune(&mut tile, &scan, to_prefetch, task.cpu));
            if !tile.pruned {
                let packed = &task.packed[first_anchor * dim..];
                Similarities { packed, count, memory, dim, to_prefetch, output: tile.similarities }.run();
            }
            visit(&mut tile, &scan).map_err(|anchor| first_anchor + anchor)?;
        }
        Ok(())
    }

    fn scan(&self, row: usize, rows: usize) -> Scan<'_> {
        let (host, count) = (&self.task.host, self.count);
        let (anchor_ids, row_ids, own_slots) = match host.own {
            HostSelfPairs::None => (None, None, None),
            HostSelfPairs::Slot(slots) => (None, None, Some(&slots[self.first_anchor..][..count])),
            HostSelfPairs::Instance(anchors, ids) => {
                (Some(&anchors[self.first_anchor..][..count]), Some(&ids[row..][..rows]), None)
            }
        };
        Scan {
            anchor_labels: &host.anchor_labels[self.first_anchor..][..count],
            row_labels: &host.memory_labels[row..][..rows],
            instances: anchor_ids.zip(row_ids),
            own_slots,
            first_anchor: self.first_anchor,
            first_row: row,
        }
    }
}
