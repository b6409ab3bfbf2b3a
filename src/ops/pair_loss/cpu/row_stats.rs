//! Weights that depend on the row: the passes over the memory that find the numbers of each row, and weighing by them.

use super::epilogue::{Scan, Tile};
use super::tiling::Task;
use super::triplets::Triplets;
use super::weigher::{Pairs, SEGMENT, Weigher};
use crate::error::Result;
use crate::group::Group;
use crate::loss::{Mining, PairWeighting, RowNormalizer, SideNormalizer, SideStatistics, Totals};
use pulp::{Arch, Scalar, Simd, WithSimd};

/// Size of [`RowNormalizer`] in 32-bit words.
pub(super) const NORMALIZER_WORDS: usize = size_of::<RowNormalizer>() / size_of::<f32>();
/// Size of the statistics of both kinds in 32-bit words.
const STATISTICS_WORDS: usize = size_of::<[SideStatistics; 2]>() / size_of::<f32>();

/// The normalizer of every anchor's row.
pub(super) struct RowNormalizers<'a> {
    weighting: &'a PairWeighting,
    /// Those who hold the other rows of the memory.
    group: &'a Group,
    rows: &'a mut [RowNormalizer],
    triplets: Option<Triplets<'a>>,
}

impl<'a> RowNormalizers<'a> {
    /// Before anything is known of the rows, in `rows`, one for each anchor.
    pub(super) fn new(weighting: &'a PairWeighting, group: &'a Group, rows: &'a mut [RowNormalizer]) -> Self {
        rows.fill(RowNormalizer::new(weighting));
        Self { weighting, group, rows, triplets: None }
    }

    /// One for each anchor.
    pub(super) fn rows(&self) -> &[RowNormalizer] {
        self.rows
    }

    /// Goes through the memory as often as the weighting needs.
    pub(super) fn measure(&mut self, task: &Task<'a>) -> Result<()> {
        let passes = self.weighting.passes();
        let mut words = task.cpu.scratch(self.rows.len() * STATISTICS_WORDS);
        let statistics: &mut [[SideStatistics; 2]] = bytemuck::cast_slice_mut(&mut words);
        if passes.mining {
            self.observe(task, statistics)?;
            let mut last = task.cpu.scratch(2 * self.rows.len());
            let last: &mut [[f32; 2]] = bytemuck::cast_slice_mut(&mut last);
            self.last_kept(task, last)?;
            for ((normalizer, [positives, negatives]), &last) in self.rows.iter_mut().zip(&*statistics).zip(&*last) {
                normalizer.mine(self.weighting, [positives.hardest, negatives.hardest], last);
            }
        }
        if passes.sums {
            self.observe(task, statistics)?;
            let kept = |kind: usize| statistics.iter().map(|row| f64::from(row[kind].count)).sum();
            let totals = Totals { anchors: self.rows.len() as f64, kept: [kept(0), kept(1)] };
            for (normalizer, statistics) in self.rows.iter_mut().zip(&*statistics) {
                normalizer.scale(self.weighting, *statistics, totals);
            }
        }
        if passes.balance {
            self.observe(task, statistics)?;
            for (normalizer, [positives, _]) in self.rows.iter_mut().zip(&*statistics) {
                normalizer.balance(self.weighting, *positives);
            }
        }
        if passes.triplets {
            self.triplets = Some(Triplets::count(task, self.group, self.weighting)?);
        }
        Ok(())
    }

    /// One pass: the statistics of every row under its normalizer so far.
    fn observe(&self, task: &Task<'_>, rows: &mut [[SideStatistics; 2]]) -> Result<()> {
        let anchors = rows.len();
        let none = [SideStatistics::new(true), SideStatistics::new(false)];
        let mut words = task.cpu.scratch(task.partition.ranges * anchors * STATISTICS_WORDS);
        let partial: &mut [[SideStatistics; 2]] = bytemuck::cast_slice_mut(&mut words);
        partial.fill(none);
        let mut unused = vec![(); partial.len()];
        task.each_block((&mut *partial, 1), &mut unused, |block, statistics, _| {
            block.each_tile(None, |tile, scan| {
                let normalizers = &self.rows[block.first_anchor..];
                Arch::new().dispatch(Observe { tile, scan, weighting: self.weighting, normalizers, statistics });
                Ok(())
            })
        })?;
        for (anchor, row) in rows.iter_mut().enumerate() {
            let ranges = partial.iter().skip(anchor).step_by(anchors);
            *row = ranges.fold(none, plus);
        }
        self.group.fold("the row statistics", rows, |sum, part| *sum = plus(*sum, &part))
    }

    /// For [`Mining::Hardest`]: the similarity of the last positive and the last negative that each row keeps; else zeros.
    fn last_kept(&self, task: &Task<'_>, last: &mut [[f32; 2]]) -> Result<()> {
        last.fill([0.0; 2]);
        if ![self.weighting.positive.mining, self.weighting.negative.mining]
            .iter()
            .any(|mining| matches!(mining, Mining::Hardest(_)))
        {
            return Ok(());
        }
        let memory_rows = self.group.gather_parts("the numbers of memory rows", &[task.geometry.rows as u64])?;
        let memory_rows = memory_rows.iter().sum::<u64>() as usize;
        let wanted = |mining| if let Mining::Hardest(count) = mining { (count as usize).min(memory_rows) } else { 0 };
        let counts = [wanted(self.weighting.positive.mining), wanted(self.weighting.negative.mining)];
        let (anchors, width, ranges) = (self.rows.len(), counts[0] + counts[1], task.partition.ranges.max(1));
        if width == 0 {
            return Ok(());
        }
        // Sizes of similarities such that the hardest are the largest: of positives they are negated.
        let mut lists = task.cpu.scratch(ranges * anchors * width);
        lists.fill(f32::NEG_INFINITY);
        let mut unused = vec![(); ranges * anchors];
        task.each_block((&mut lists, width), &mut unused, |block, lists, _| {
            block.each_tile(None, |tile, scan| {
                tile.each_segment(Scalar, scan, |anchor, segment| {
                    let (positives, negatives) = lists[anchor * width..][..width].split_at_mut(counts[0]);
                    for (lane, &s) in segment.similarities.iter().enumerate() {
                        if segment.positive >> lane & 1 == 1 {
                            insert(positives, -s);
                        } else if segment.negative >> lane & 1 == 1 {
                            insert(negatives, s);
                        }
                    }
                });
                Ok(())
            })
        })?;
        // The lists of the other ranges go into that of the first.
        let (first, others) = lists.split_at_mut(anchors * width);
        insert_all(first, others, (anchors, width), counts[0]);
        if !self.group.is_alone() {
            let parts = self.group.gather_parts("the hardest pairs", first)?;
            first.fill(f32::NEG_INFINITY);
            insert_all(first, &parts, (anchors, width), counts[0]);
        }
        for (list, last) in first.chunks_exact(width).zip(last) {
            let (positives, negatives) = list.split_at(counts[0]);
            *last = [-positives.last().copied().unwrap_or(0.0), negatives.last().copied().unwrap_or(0.0)];
        }
        Ok(())
    }
}

/// The statistics of both kinds, of two parts of a row.
fn plus(sum: [SideStatistics; 2], part: &[SideStatistics; 2]) -> [SideStatistics; 2] {
    [sum[0].plus(part[0], true), sum[1].plus(part[1], false)]
}

/// Inserts the `others`, `(any, anchors, width)`, into the lists of each anchor, of which the first `positives` places are the positives'.
fn insert_all(lists: &mut [f32], others: &[f32], (anchors, width): (usize, usize), positives: usize) {
    for (index, &value) in others.iter().enumerate() {
        let (anchor, place) = (index / width % anchors, index % width);
        let (hardest_positives, hardest_negatives) = lists[anchor * width..][..width].split_at_mut(positives);
        insert(if place < positives { hardest_positives } else { hardest_negatives }, value);
    }
}

/// Keeps a descending list the largest values seen.
fn insert(list: &mut [f32], value: f32) {
    let place = list.partition_point(|&other| other >= value);
    if place < list.len() {
        list[place..].rotate_right(1);
        list[place] = value;
    }
}

/// Takes a tile into the statistics of its rows, with the vector instructions of the processor.
struct Observe<'a, 'tile> {
    tile: &'a mut Tile<'tile>,
    scan: &'a Scan<'a>,
    weighting: &'a PairWeighting,
    normalizers: &'a [RowNormalizer],
    statistics: &'a mut [[SideStatistics; 2]],
}

impl WithSimd for Observe<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tile, scan, weighting, normalizers, statistics } = self;
        tile.each_segment(simd, scan, |anchor, segment| {
            let (s, normalizer, [positives, negatives]) = (segment.padded(), &normalizers[anchor], &mut statistics[anchor]);
            if segment.negative != 0 {
                negatives.accumulate(&weighting.negative, &normalizer.negative, false, &s, segment.negative);
            }
            if segment.positive != 0 {
                positives.accumulate(&weighting.positive, &normalizer.positive, true, &s, segment.positive);
            }
        });
    }
}

/// Weighs by the normalizer of the anchor's row; with `symmetric`, by that of the memory row too, which is an anchor as well.
pub(super) struct NormalizedWeigher<'a> {
    pub(super) normalizers: &'a RowNormalizers<'a>,
    pub(super) symmetric: bool,
}

impl Weigher for NormalizedWeigher<'_> {
    #[inline(always)]
    fn active(&self, anchor: usize) -> (f32, f32) {
        if self.symmetric {
            return (f32::INFINITY, f32::NEG_INFINITY);
        }
        let (normalizer, weighting) = (&self.normalizers.rows[anchor], self.normalizers.weighting);
        // The tail of a sigmoid is a loss beyond every similarity; other losses end with the support.
        let (end, start) = (weighting.positive.support().1, weighting.negative.support().0);
        (end.min(normalizer.positive.high), start.max(normalizer.negative.low))
    }

    #[inline(always)]
    fn weigh(&self, positive: bool, pairs: Pairs, s: &[f32; SEGMENT]) -> ([f32; SEGMENT], [f32; SEGMENT]) {
        let RowNormalizers { weighting, rows, triplets, .. } = self.normalizers;
        let side = if positive { &weighting.positive } else { &weighting.negative };
        let of = |normalizer: &RowNormalizer| if positive { normalizer.positive } else { normalizer.negative };
        let normalizer = [of(&rows[pairs.anchor]); SEGMENT];
        let mut weights = SideNormalizer::weights(&normalizer, side, s);
        if let Some(triplets) = triplets {
            let mut losses = [0.0; SEGMENT];
            for lane in 0..pairs.rows {
                let (count, loss) = triplets.of(pairs.anchor, positive, s[lane]);
                let partner = if self.symmetric { triplets.of(pairs.row + lane, positive, s[lane]).0 } else { 0.0 };
                losses[lane] = if weights[lane] == 0.0 { 0.0 } else { weights[lane] * loss };
                weights[lane] *= count + partner;
            }
            return (weights, losses);
        }
        let losses = SideNormalizer::losses(&normalizer, side, positive, s);
        if self.symmetric {
            let mut normalizers = normalizer;
            for (normalizer, row) in normalizers.iter_mut().zip(&rows[pairs.row..][..pairs.rows]) {
                *normalizer = of(row);
            }
            for (weight, partner) in weights.iter_mut().zip(SideNormalizer::weights(&normalizers, side, s)) {
                *weight += partner;
            }
        }
        (weights, losses)
    }
}
