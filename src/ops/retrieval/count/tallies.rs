//! What is counted for the queries of a block.

use super::QueryScore;
use std::ops::Range;

/// What a block of queries has counted.
pub(super) struct Tallies {
    /// Similarity of the best positive; infinite without one, so that nothing reaches it.
    pub(super) best: Vec<f32>,
    /// Gallery rows of any label that reach `best`.
    pub(super) above: Vec<i32>,
    /// Similarity of the last positive that can still be among the `R` nearest; infinite when there is none.
    pub(super) cutoffs: Vec<f32>,
    /// Similarity to the query itself.
    pub(super) own: Vec<f32>,
    /// Positives that can still be among the `R` nearest: the first so many.
    alive: Vec<u32>,
    /// Negatives that come before one of them.
    before_alive: Vec<u32>,
    /// Where each query's positives start in the two lists below, and where the last one's end.
    starts: Vec<usize>,
    /// Similarities of the positives, each query's descending.
    positives: Vec<f32>,
    /// For each positive the negatives that come before it but not before the one that precedes it.
    before: Vec<u32>,
}

impl Tallies {
    pub(super) fn new(positives: impl Iterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        starts.extend(positives.scan(0, |end, count| {
            *end += count;
            Some(*end)
        }));
        let (queries, total) = (starts.len() - 1, starts[starts.len() - 1]);
        Self {
            best: vec![f32::INFINITY; queries],
            above: vec![0; queries],
            cutoffs: vec![f32::INFINITY; queries],
            own: vec![f32::NEG_INFINITY; queries],
            alive: starts.windows(2).map(|ends| (ends[1] - ends[0]) as u32).collect(),
            before_alive: vec![0; queries],
            positives: vec![0.0; total],
            before: vec![0; total],
            starts,
        }
    }

    fn range(&self, slot: usize) -> Range<usize> {
        self.starts[slot]..self.starts[slot + 1]
    }

    pub(super) fn positives_of(&mut self, slot: usize) -> &mut [f32] {
        let range = self.range(slot);
        &mut self.positives[range]
    }

    /// All similarities of positives are there.
    pub(super) fn start(&mut self) {
        for slot in 0..self.best.len() {
            let positives = self.positives_of(slot);
            positives.sort_unstable_by(|a, b| b.total_cmp(a));
            if let (Some(&best), Some(&last)) = (positives.first(), positives.last()) {
                (self.best[slot], self.cutoffs[slot]) = (best, last);
            }
        }
    }

    /// For each query the lowest similarity that counts.
    pub(super) fn lowest(&self) -> Vec<f32> {
        self.best.iter().zip(&self.cutoffs).map(|(&best, &cutoff)| best.min(cutoff)).collect()
    }

    /// Counts a negative that reaches the cutoff.
    pub(super) fn add(&mut self, slot: usize, similarity: f32) {
        let range = self.range(slot);
        let (positives, before) = (&self.positives[range.clone()], &mut self.before[range]);
        let (alive, before_alive) = (&mut self.alive[slot], &mut self.before_alive[slot]);
        before[positives[..*alive as usize].partition_point(|&positive| positive > similarity)] += 1;
        *before_alive += 1;
        while *alive > 0 && (*alive + *before_alive) as usize > positives.len() {
            *alive -= 1;
            *before_alive -= before[*alive as usize];
        }
        self.cutoffs[slot] = alive.checked_sub(1).map_or(f32::INFINITY, |last| positives[last as usize]);
    }

    pub(super) fn score(&self, slot: usize) -> Option<QueryScore> {
        let range = self.range(slot);
        if range.is_empty() {
            return None;
        }
        let best = self.best[slot];
        let tied = self.positives[range.clone()].iter().take_while(|&&positive| positive >= best).count() as i32;
        let rank = self.above[slot] - tied - i32::from(self.own[slot] >= best);
        let (mut negatives, mut precisions) = (0, 0.0);
        let positives = range.len() as f64;
        let alive = self.alive[slot] as usize;
        for (index, before) in self.before[range][..alive].iter().enumerate() {
            negatives += before;
            let found = (index + 1) as f64;
            precisions += found / (found + f64::from(negatives));
        }
        Some(QueryScore { rank: rank as u32, average_precision: precisions / positives, r_precision: alive as f64 / positives })
    }
}
