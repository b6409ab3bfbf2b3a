//! The nearest rows of shards: a first look at all codes, then one at the rows that may be among the nearest.

use super::codes::CodedQuery;
use super::shard::Shard;
use rayon::prelude::*;
use std::cmp::Ordering;

/// Rows that a thread looks at in one go: their codes fit its cache.
const BLOCK: usize = 4096;

/// What a first look at a block of rows gives.
struct Look<'a> {
    start: usize,
    shard: &'a Shard,
    /// The most that each row's similarity may be, by the row.
    most: Vec<(usize, f32)>,
    /// The largest of what similarities are at least.
    least: Vec<f32>,
}

/// The positions in `shards`, each with the position of its first row, of the `depth` rows nearest to `query`, with their similarities.
pub fn nearest(shards: &[(usize, &Shard)], query: &[f32], depth: usize) -> Vec<(usize, f32)> {
    let coded = CodedQuery::new(query);
    let blocks: Vec<(usize, &Shard, usize)> =
        shards.iter().flat_map(|&(start, shard)| (0..shard.stored()).step_by(BLOCK).map(move |row| (start, shard, row))).collect();
    let looks: Vec<Look<'_>> = blocks.into_par_iter().map(|block| look(block, &coded, depth)).collect();
    let mut least: Vec<f32> = looks.iter().flat_map(|look| look.least.iter().copied()).collect();
    least.sort_unstable_by(|one, other| other.total_cmp(one));
    // With so many rows at least so similar, no row that is less so at most is among the nearest.
    let enough = least.get(depth.saturating_sub(1)).copied().unwrap_or(f32::NEG_INFINITY);
    let mut found: Vec<(usize, f32)> = looks
        .par_iter()
        .flat_map_iter(|look| {
            let candidates = look.most.iter().filter(move |(_, most)| *most >= enough);
            candidates.map(|&(row, _)| (look.start + row, similarity(&look.shard.row(row), query)))
        })
        .collect();
    found.sort_unstable_by(by_similarity);
    found.truncate(depth);
    found
}

fn look<'a>((start, shard, first): (usize, &'a Shard, usize), query: &CodedQuery, depth: usize) -> Look<'a> {
    let len = BLOCK.min(shard.stored() - first);
    let mut look = Look { start, shard, most: Vec::with_capacity(len), least: Vec::new() };
    // Of a block that is no longer than what is looked for, nothing can be left out by itself.
    let kept = depth.min(len);
    let mut enough = f32::NEG_INFINITY;
    shard.codes.bounds(query, first, len, |row, least, most| {
        if most < enough || shard.removed.contains(row) {
            return;
        }
        look.most.push((row, most));
        if least > enough {
            look.least.push(least);
            // Sorted only now and then: what is beyond the first `kept` is of no use.
            if look.least.len() >= 2 * kept + BLOCK / 64 {
                look.least.sort_unstable_by(|one, other| other.total_cmp(one));
                look.least.truncate(kept);
                enough = look.least[kept - 1];
            }
        }
    });
    look.least.sort_unstable_by(|one, other| other.total_cmp(one));
    look.least.truncate(kept);
    look
}

fn by_similarity(one: &(usize, f32), other: &(usize, f32)) -> Ordering {
    other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
}

/// In double precision: a similarity does not depend on how rows are divided among vectors.
fn similarity(row: &[f32], query: &[f32]) -> f32 {
    let product: f64 = row.iter().zip(query).map(|(&one, &other)| f64::from(one) * f64::from(other)).sum();
    (product as f32).clamp(-1.0, 1.0)
}
