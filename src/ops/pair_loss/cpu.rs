//! The pair loss on the CPU: the memory in tiles that stay in cache, one matrix product and one epilogue per tile.
//!
//! Work is split into blocks of anchors times ranges of the memory, by the shapes only. Each range sums into its own partial
//! gradient and row sums, which are added in the order of the ranges, so the bits do not depend on the number of threads. Held
//! at any time: the partial gradients ([`PARTIAL_FLOATS`], whatever the size of the memory) and one tile of similarities per
//! thread.

use super::epilogue::{ROW_WORDS, RowSums, SEGMENT, Scan, Tile, tile_words};
use super::product::{BROADCASTS, LARGEST_STRIP, Similarities, pack};
use super::{OwnRows, PairLoss, PairLossGeometry, PairLossInputs, PairLossOutputs};
use crate::backend::Cpu;
use crate::error::{Error, Result, expect_len};
use crate::weighting::PairWeighting;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Anchors per block: enough to read each memory row from memory once per block, few enough that a tile stays in cache.
const BLOCK_ANCHORS: usize = 128;
const _: () = assert!(BLOCK_ANCHORS.is_multiple_of(LARGEST_STRIP), "a block starts at a strip of packed anchors");
/// Numbers of a tile of memory rows: half a mebibyte.
const TILE_FLOATS: usize = 128 * 1024;
/// Tiles and ranges are multiples of this many rows, which both the products and the epilogue divide without remainder.
const ROW_STEP: usize = 96;
const _: () = assert!(ROW_STEP.is_multiple_of(BROADCASTS) && ROW_STEP.is_multiple_of(SEGMENT), "no remainder");
/// Most memory rows of a tile, so that a tile of similarities has at most 240 KiB.
const MOST_TILE_ROWS: usize = 5 * ROW_STEP;
/// Fewest memory rows worth a range of their own.
const LEAST_RANGE_ROWS: usize = 480;
/// Most ranges of the memory.
const MOST_RANGES: usize = 32;
/// Numbers in all partial gradients together (8 MiB), unless the gradient itself is larger.
const PARTIAL_FLOATS: usize = 2 * 1024 * 1024;

/// How the work is split.
struct Plan {
    ranges: usize,
    range_rows: usize,
    tile_rows: usize,
}

impl Plan {
    fn new(geometry: &PairLossGeometry) -> Self {
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
enum Own<'a> {
    None,
    Slot(&'a [i32]),
    Instance(&'a [i32], &'a [i32]),
}

/// The inputs on the host, lengths checked.
#[derive(Clone, Copy)]
struct Host<'a> {
    anchors: &'a [f32],
    anchor_labels: &'a [i32],
    memory: &'a [f32],
    memory_labels: &'a [i32],
    own: Own<'a>,
}

impl<'a> Host<'a> {
    fn new(geometry: &PairLossGeometry, inputs: PairLossInputs<'a, Cpu>) -> Result<Self> {
        let PairLossGeometry { anchors, rows, dim } = *geometry;
        expect_len("anchors", anchors * dim, inputs.anchors.len)?;
        expect_len("anchor labels", anchors, inputs.anchor_labels.len)?;
        expect_len("memory", rows * dim, inputs.memory.len)?;
        expect_len("memory labels", rows, inputs.memory_labels.len)?;
        let own = match inputs.own {
            OwnRows::None => Own::None,
            OwnRows::Slot(slots) => {
                expect_len("own slots", anchors, slots.len)?;
                Own::Slot(slots.as_slice())
            }
            OwnRows::Instance { anchors: anchor_ids, rows: row_ids } => {
                expect_len("anchor instance ids", anchors, anchor_ids.len)?;
                expect_len("memory instance ids", rows, row_ids.len)?;
                Own::Instance(anchor_ids.as_slice(), row_ids.as_slice())
            }
        };
        Ok(Self {
            anchors: inputs.anchors.as_slice(),
            anchor_labels: inputs.anchor_labels.as_slice(),
            memory: inputs.memory.as_slice(),
            memory_labels: inputs.memory_labels.as_slice(),
            own,
        })
    }

    /// Says where a similarity of `anchor` that is not finite came from.
    fn not_finite(&self, dim: usize, anchor: usize) -> Error {
        let first = |values: &[f32]| values.iter().position(|value| !value.is_finite()).map(|index| index / dim);
        let at = |what, row| Error::NotFinite { what, row };
        first(self.anchors)
            .map(|row| at("anchors", row))
            .or_else(|| first(self.memory).map(|row| at("memory", row)))
            .unwrap_or_else(|| at("similarities of the anchors", anchor))
    }
}

/// One block of anchors against one range of the memory.
struct Item<'a> {
    host: Host<'a>,
    /// The block's anchors, packed for the products.
    packed: &'a [f32],
    weighting: &'a PairWeighting,
    dim: usize,
    first_anchor: usize,
    first_row: usize,
    end_row: usize,
    tile_rows: usize,
}

impl Item<'_> {
    /// Writes the block's gradient over the range, unless no pair is kept, and adds to the row sums, or fails with an anchor
    /// whose similarity is not finite.
    fn run(&self, cpu: &Cpu, gradient: &mut [f32], sums: &mut [RowSums]) -> Result<(), usize> {
        let (count, dim) = (sums.len(), self.dim);
        let mut untouched = true;
        let mut similarities = cpu.scratch(count * self.tile_rows);
        let mut words = cpu.scratch(count * tile_words(self.tile_rows));
        for row in (self.first_row..self.end_row).step_by(self.tile_rows) {
            let rows = self.tile_rows.min(self.end_row - row);
            let memory = &self.host.memory[row * dim..][..rows * dim];
            let mut tile = Tile {
                similarities: &mut similarities[..count * rows],
                kept: bytemuck::cast_slice_mut(&mut words[..count * tile_words(rows)]),
                rows,
            };
            Similarities { packed: self.packed, count, memory, dim, output: tile.similarities }.run();
            let scan = self.scan(row, rows, count);
            let kept = tile.weigh(&scan, sums).map_err(|anchor| self.first_anchor + anchor)?;
            if kept > 0 && std::mem::take(&mut untouched) {
                gradient.fill(0.0);
            }
            tile.accumulate(kept, memory, gradient);
        }
        Ok(())
    }

    fn scan(&self, row: usize, rows: usize, count: usize) -> Scan<'_> {
        let (anchor_ids, row_ids, own_slots) = match self.host.own {
            Own::None => (None, None, None),
            Own::Slot(slots) => (None, None, Some(&slots[self.first_anchor..][..count])),
            Own::Instance(anchors, ids) => (Some(&anchors[self.first_anchor..][..count]), Some(&ids[row..][..rows]), None),
        };
        Scan {
            weighting: self.weighting,
            anchor_labels: &self.host.anchor_labels[self.first_anchor..][..count],
            row_labels: &self.host.memory_labels[row..][..rows],
            instances: anchor_ids.zip(row_ids),
            own_slots,
            first_row: row,
        }
    }
}

impl PairLoss for Cpu {
    fn pair_loss(
        &self,
        geometry: &PairLossGeometry,
        weighting: &PairWeighting,
        scale: f32,
        inputs: PairLossInputs<'_, Self>,
        outputs: PairLossOutputs<'_, Self>,
        accumulate: bool,
    ) -> Result<()> {
        let PairLossGeometry { anchors, rows, dim } = *geometry;
        weighting.validate()?;
        if !weighting.is_plain() {
            return Err(Error::config("the CPU cannot weigh pairs by their row yet"));
        }
        let host = Host::new(geometry, inputs)?;
        expect_len("gradient", anchors * dim, outputs.gradient.len)?;
        expect_len("row losses", anchors, outputs.row_losses.len)?;
        expect_len("kept counts", 2 * anchors, outputs.kept.len)?;
        if anchors == 0 {
            return Ok(());
        }
        if dim == 0 {
            return Err(Error::shape("embedding length", "at least 1", 0));
        }
        let plan = Plan::new(geometry);
        let mut gradients = self.scratch(plan.ranges * anchors * dim);
        let mut sums = self.scratch(plan.ranges * anchors * ROW_WORDS);
        let sums: &mut [RowSums] = bytemuck::cast_slice_mut(&mut sums);
        let mut packed = self.scratch(anchors.next_multiple_of(LARGEST_STRIP) * dim);
        pack(host.anchors, dim, &mut packed);
        let not_finite = AtomicUsize::new(usize::MAX);
        self.run(|| {
            let ranges = gradients.par_chunks_mut(anchors * dim).zip(sums.par_chunks_mut(anchors));
            ranges.enumerate().for_each(|(range, (gradient, sums))| {
                let blocks = gradient.par_chunks_mut(BLOCK_ANCHORS * dim).zip(sums.par_chunks_mut(BLOCK_ANCHORS));
                blocks.enumerate().for_each(|(block, (gradient, sums))| {
                    sums.fill(RowSums::default());
                    let first_row = range * plan.range_rows;
                    let item = Item {
                        host,
                        packed: &packed[block * BLOCK_ANCHORS * dim..],
                        weighting,
                        dim,
                        first_anchor: block * BLOCK_ANCHORS,
                        first_row,
                        end_row: rows.min(first_row + plan.range_rows),
                        tile_rows: plan.tile_rows,
                    };
                    if let Err(anchor) = item.run(self, gradient, sums) {
                        not_finite.fetch_min(anchor, Ordering::Relaxed);
                    }
                });
            });
        });
        let not_finite = not_finite.into_inner();
        if not_finite < anchors {
            return Err(host.not_finite(dim, not_finite));
        }
        let factor = Factor { scale, accumulate };
        self.run(|| combine(geometry, &gradients, sums, factor, outputs));
        Ok(())
    }
}

/// What the sum of the partial gradients is multiplied by, and whether it is added to the output.
#[derive(Clone, Copy)]
struct Factor {
    scale: f32,
    accumulate: bool,
}

/// Adds the partial results in the order of the ranges.
fn combine(geometry: &PairLossGeometry, gradients: &[f32], sums: &[RowSums], factor: Factor, outputs: PairLossOutputs<'_, Cpu>) {
    let PairLossGeometry { anchors, dim, .. } = *geometry;
    let rows = outputs.gradient.into_slice().par_chunks_mut(dim);
    rows.enumerate().with_min_len(16).for_each(|(anchor, output)| {
        if !factor.accumulate {
            output.fill(0.0);
        }
        // A range that kept no pair of the anchor may not have written its partial gradient.
        let partials = gradients.chunks(dim).zip(sums).skip(anchor).step_by(anchors);
        for (partial, _) in partials.filter(|(_, sums)| sums.kept() > 0) {
            for (output, partial) in output.iter_mut().zip(partial) {
                *output += factor.scale * partial;
            }
        }
    });
    let losses = outputs.row_losses.into_slice().iter_mut();
    let counts = outputs.kept.into_slice().chunks_mut(2);
    for (anchor, (loss, counts)) in losses.zip(counts).enumerate() {
        let total = sums.iter().skip(anchor).step_by(anchors).copied().fold(RowSums::default(), RowSums::plus);
        *loss = total.loss() as f32;
        counts.copy_from_slice(&[total.positives as i32, total.negatives as i32]);
    }
}
