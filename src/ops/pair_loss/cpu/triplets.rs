//! Counted triplets: how many pairs of the other kind violate the margin with a pair.
//!
//! The positives of a row are few. Their similarities are stored, sorted, in a first pass; a second pass counts for each how many
//! negatives come within the margin of it. Then the weight of a negative is its rank among the positives, that of a positive its count,
//! both exact, and what is held is as large as the number of positive pairs, never as the memory.

use super::tiling::Task;
use crate::device::Scratch;
use crate::error::Result;
use crate::files::numbers;
use crate::group::Group;
use crate::loss::{Normalization, PairWeighting};
use pulp::Scalar;

/// The positives of every row, and what they are worth.
pub(super) struct Triplets<'a> {
    margin: f32,
    /// Anchors, each with as many places as the most positives of a row.
    places: usize,
    /// `(anchors)`: positives of each, as u32.
    found: Scratch<'a>,
    /// `(anchors, places)`: similarities, ascending within a row.
    positives: Scratch<'a>,
    /// `(anchors, places)`: negatives within the margin of each positive.
    counts: Scratch<'a>,
    /// `(anchors, places)`: sums of the similarities of the positives of a row up to and with each, in two parts that hold 48 bits.
    sums: Scratch<'a>,
}

impl<'a> Triplets<'a> {
    /// Goes through the memory twice, of which `group` holds the other rows.
    pub(super) fn count(task: &Task<'a>, group: &Group, weighting: &PairWeighting) -> Result<Self> {
        let margin = match weighting.negative.scale {
            Normalization::Triplets(margin) => margin,
            _ => 0.0,
        };
        let (anchors, places) = (task.geometry.anchors, most_positives(task, group)?);
        let scratch = |words: usize| task.cpu.scratch(anchors * words);
        let (found, positives) = (scratch(1), scratch(places));
        let mut triplets = Self { margin, places, found, positives, counts: scratch(places), sums: scratch(2 * places) };
        triplets.collect(task, weighting)?;
        triplets.merge(group)?;
        triplets.sum();
        triplets.count_negatives(task, group, weighting)?;
        Ok(triplets)
    }

    /// The positives of each range, then of all ranges together.
    fn collect(&mut self, task: &Task<'_>, weighting: &PairWeighting) -> Result<()> {
        let (anchors, places, (low, high)) = (task.geometry.anchors, self.places, weighting.positive.gate.interval());
        let places_of_range = places.min(task.partition.range_rows).max(1);
        let mut lists = task.cpu.scratch(task.partition.ranges * anchors * places_of_range);
        let mut words = task.cpu.scratch(task.partition.ranges * anchors);
        let lengths: &mut [u32] = bytemuck::cast_slice_mut(&mut words);
        lengths.fill(0);
        task.each_block((&mut lists, places_of_range), &mut *lengths, |block, lists, lengths| {
            block.each_tile(None, |tile, scan| {
                tile.each_segment(Scalar, scan, |anchor, segment| {
                    let mut rest = segment.positive;
                    while rest != 0 {
                        let s = segment.similarities[rest.trailing_zeros() as usize];
                        if s > low && s < high {
                            lists[anchor * places_of_range + lengths[anchor] as usize] = s;
                            lengths[anchor] += 1;
                        }
                        rest &= rest - 1;
                    }
                });
                Ok(())
            })
        })?;
        let found: &mut [u32] = bytemuck::cast_slice_mut(&mut self.found);
        for (anchor, found) in found.iter_mut().enumerate() {
            let row = &mut self.positives[anchor * places..][..places];
            *found = 0;
            for range in (anchor..lengths.len()).step_by(anchors) {
                let length = lengths[range] as usize;
                row[*found as usize..][..length].copy_from_slice(&lists[range * places_of_range..][..length]);
                *found += lengths[range];
            }
        }
        Ok(())
    }

    /// The positives of all ranks, ascending.
    fn merge(&mut self, group: &Group) -> Result<()> {
        let (found, places): (&mut [u32], _) = (bytemuck::cast_slice_mut(&mut self.found), self.places);
        let rows = || (0..).step_by(places);
        if !group.is_alone() {
            let own = rows().zip(&*found).flat_map(|(row, &found)| &self.positives[row..][..found as usize]).copied();
            let own: Vec<f32> = own.collect();
            let said = group
                .collect("the positives of each anchor", &[bytemuck::cast_slice(found), bytemuck::cast_slice(&own)].concat())?;
            found.fill(0);
            for message in said {
                let (lengths, values) = message.split_at(size_of_val(found));
                let (lengths, values): (Vec<u32>, Vec<f32>) = (numbers::from_bytes(lengths), numbers::from_bytes(values));
                let mut values = values.as_slice();
                for ((row, found), &length) in rows().zip(&mut *found).zip(&lengths) {
                    let (first, rest) = values.split_at(length as usize);
                    self.positives[row + *found as usize..][..first.len()].copy_from_slice(first);
                    (values, *found) = (rest, *found + length);
                }
            }
        }
        for (row, &found) in rows().zip(&*found) {
            self.positives[row..][..found as usize].sort_unstable_by(f32::total_cmp);
        }
        Ok(())
    }

    fn sum(&mut self) {
        let rows = self.positives.chunks(self.places).zip(self.sums.chunks_mut(2 * self.places));
        let found: &[u32] = bytemuck::cast_slice(&self.found);
        for ((positives, sums), &found) in rows.zip(found) {
            let mut sum = 0.0;
            for (positive, parts) in positives[..found as usize].iter().zip(sums.chunks_exact_mut(2)) {
                sum += f64::from(*positive);
                parts[0] = sum as f32;
                parts[1] = (sum - f64::from(parts[0])) as f32;
            }
        }
    }

    fn count_negatives(&mut self, task: &Task<'_>, group: &Group, weighting: &PairWeighting) -> Result<()> {
        let (anchors, (low, high)) = (task.geometry.anchors, weighting.negative.gate.interval());
        // A place for each rank that a negative may have: one more than there are positives.
        let widest = self.places + 1;
        let mut words = task.cpu.scratch(task.partition.ranges * anchors * widest);
        let ranks: &mut [u32] = bytemuck::cast_slice_mut(&mut words);
        ranks.fill(0);
        let mut unused = vec![(); task.partition.ranges * anchors];
        let this = &*self;
        task.each_block((&mut *ranks, widest), &mut unused, |block, ranks, _| {
            block.each_tile(None, |tile, scan| {
                tile.each_segment(Scalar, scan, |anchor, segment| {
                    let mut rest = segment.negative;
                    while rest != 0 {
                        let s = segment.similarities[rest.trailing_zeros() as usize];
                        if s > low && s < high {
                            ranks[anchor * widest + this.rank(block.first_anchor + anchor, s)] += 1;
                        }
                        rest &= rest - 1;
                    }
                });
                Ok(())
            })
        })?;
        let add = |parts: &[u32], anchor: usize, rank: usize| -> u32 {
            parts.chunks(widest).skip(anchor).step_by(anchors).map(|row| row[rank]).sum()
        };
        let mut parts = Vec::new();
        if !group.is_alone() {
            let own: Vec<u32> = (0..anchors * widest).map(|index| add(ranks, index / widest, index % widest)).collect();
            parts = group.gather_parts("the counts of negatives", &own)?;
        }
        let parts: &[u32] = if group.is_alone() { ranks } else { &parts };
        for anchor in 0..anchors {
            let at = |rank: usize| add(parts, anchor, rank);
            let mut above = 0;
            for index in (0..self.row(anchor).len()).rev() {
                above += at(index + 1);
                self.counts[anchor * self.places + index] = above as f32;
            }
        }
        Ok(())
    }

    fn row(&self, anchor: usize) -> &[f32] {
        let found: &[u32] = bytemuck::cast_slice(&self.found);
        &self.positives[anchor * self.places..][..found[anchor] as usize]
    }

    /// Positives of a row that are less than the margin above `s`.
    fn rank(&self, anchor: usize, s: f32) -> usize {
        self.row(anchor).partition_point(|&positive| positive < s + self.margin)
    }

    /// Number of violated triplets that a pair is part of, and, for negatives, their summed violation.
    pub(super) fn of(&self, anchor: usize, positive: bool, s: f32) -> (f32, f32) {
        let start = anchor * self.places;
        if positive {
            let row = self.row(anchor);
            let index = row.partition_point(|&other| other < s);
            return (if index < row.len() { self.counts[start + index] } else { 0.0 }, 0.0);
        }
        let rank = self.rank(anchor, s);
        if rank == 0 {
            return (0.0, 0.0);
        }
        let [head, rest] = [0, 1].map(|part| f64::from(self.sums[2 * (start + rank - 1) + part]));
        let violation = rank as f64 * f64::from(s + self.margin) - head - rest;
        (rank as f32, violation as f32)
    }
}

/// The most memory rows with the label of one anchor, and at least 1.
fn most_positives(task: &Task<'_>, group: &Group) -> Result<usize> {
    let of = |label: &i32| task.host.memory_labels.iter().filter(|other| *other == label).count();
    let own = task.host.anchor_labels.iter().map(of);
    if group.is_alone() {
        return Ok(own.max().unwrap_or(0).max(1));
    }
    let anchors = task.geometry.anchors;
    let parts = group.gather_parts("the numbers of positives", &own.map(|own| own as u64).collect::<Vec<_>>())?;
    let of_all = |anchor| parts.iter().skip(anchor).step_by(anchors).sum::<u64>() as usize;
    Ok((0..anchors).map(of_all).max().unwrap_or(0).max(1))
}
