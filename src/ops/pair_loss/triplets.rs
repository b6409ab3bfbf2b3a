//! Counted triplets: how many pairs of the other kind violate the margin with a pair.
//!
//! The positives of a row are few. Their similarities are stored, sorted, in a first pass; a second pass counts for each how many
//! negatives come within the margin of it. Then the weight of a negative is its rank among the positives, that of a positive its count,
//! both exact, and what is held is as large as the number of positive pairs, never as the memory.

use super::sweep::Job;
use crate::error::Result;
use crate::weighting::{PairWeighting, RowScale};

/// The positives of every row, and what they are worth.
pub(super) struct Triplets {
    margin: f32,
    /// `(anchors + 1)`: where the positives of a row start.
    starts: Vec<usize>,
    /// Similarities, ascending within a row.
    positives: Vec<f32>,
    /// Negatives within the margin of each positive.
    counts: Vec<f32>,
    /// Sums of the similarities of the positives of a row up to and with each.
    sums: Vec<f64>,
}

impl Triplets {
    /// Goes through the memory twice.
    pub(super) fn count(job: &Job<'_>, weighting: &PairWeighting) -> Result<Self> {
        let margin = match weighting.negative.scale {
            RowScale::Triplets(margin) => margin,
            _ => 0.0,
        };
        let mut triplets = Self::collect(job, weighting, margin)?;
        triplets.count_negatives(job, weighting)?;
        Ok(triplets)
    }

    fn collect(job: &Job<'_>, weighting: &PairWeighting, margin: f32) -> Result<Self> {
        let (anchors, (low, high)) = (job.geometry.anchors, weighting.positive.gate.interval());
        let mut partial: Vec<Vec<f32>> = vec![Vec::new(); job.plan.ranges * anchors];
        let mut unused = vec![(); partial.len()];
        job.sweep((&mut partial, 1), &mut unused, |item, lists, _| {
            item.each_tile(|tile, scan, _| {
                tile.each_segment(scan, |anchor, segment| {
                    let mut rest = segment.positive;
                    while rest != 0 {
                        let s = segment.similarities[rest.trailing_zeros() as usize];
                        if s > low && s < high {
                            lists[anchor].push(s);
                        }
                        rest &= rest - 1;
                    }
                });
                Ok(())
            })
        })?;
        let (mut starts, mut positives, mut sums) = (vec![0], Vec::new(), Vec::new());
        for anchor in 0..anchors {
            let start = positives.len();
            partial.iter().skip(anchor).step_by(anchors).for_each(|list| positives.extend_from_slice(list));
            positives[start..].sort_unstable_by(f32::total_cmp);
            let mut sum = 0.0;
            sums.extend(positives[start..].iter().map(|&s| {
                sum += f64::from(s);
                sum
            }));
            starts.push(positives.len());
        }
        Ok(Self { margin, starts, counts: vec![0.0; positives.len()], positives, sums })
    }

    fn count_negatives(&mut self, job: &Job<'_>, weighting: &PairWeighting) -> Result<()> {
        let (anchors, (low, high)) = (job.geometry.anchors, weighting.negative.gate.interval());
        // A place for each rank that a negative may have: one more than there are positives.
        let widest = self.starts.windows(2).map(|pair| pair[1] - pair[0] + 1).max().unwrap_or(1);
        let mut ranks = vec![0u32; job.plan.ranges * anchors * widest];
        let mut unused = vec![(); job.plan.ranges * anchors];
        job.sweep((&mut ranks, widest), &mut unused, |item, ranks, _| {
            item.each_tile(|tile, scan, _| {
                tile.each_segment(scan, |anchor, segment| {
                    let mut rest = segment.negative;
                    while rest != 0 {
                        let s = segment.similarities[rest.trailing_zeros() as usize];
                        if s > low && s < high {
                            ranks[anchor * widest + self.rank(item.first_anchor + anchor, s)] += 1;
                        }
                        rest &= rest - 1;
                    }
                });
                Ok(())
            })
        })?;
        for anchor in 0..anchors {
            let at = |rank: usize| ranks.chunks(widest).skip(anchor).step_by(anchors).map(|row| row[rank]).sum::<u32>();
            let mut above = 0;
            for index in (0..self.starts[anchor + 1] - self.starts[anchor]).rev() {
                above += at(index + 1);
                self.counts[self.starts[anchor] + index] = above as f32;
            }
        }
        Ok(())
    }

    fn row(&self, anchor: usize) -> &[f32] {
        &self.positives[self.starts[anchor]..self.starts[anchor + 1]]
    }

    /// Positives of a row that are less than the margin above `s`.
    fn rank(&self, anchor: usize, s: f32) -> usize {
        self.row(anchor).partition_point(|&positive| positive < s + self.margin)
    }

    /// Number of violated triplets that a pair is part of, and, for negatives, their summed violation.
    pub(super) fn of(&self, anchor: usize, positive: bool, s: f32) -> (f32, f32) {
        let start = self.starts[anchor];
        if positive {
            let index = self.row(anchor).partition_point(|&other| other < s);
            return (self.counts[start..self.starts[anchor + 1]].get(index).copied().unwrap_or(0.0), 0.0);
        }
        let rank = self.rank(anchor, s);
        if rank == 0 {
            return (0.0, 0.0);
        }
        let violation = rank as f64 * f64::from(s + self.margin) - self.sums[start + rank - 1];
        (rank as f32, violation as f32)
    }
}
