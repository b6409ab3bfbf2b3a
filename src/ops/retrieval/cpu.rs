//! Retrieval on the host: a matrix product per tile of queries and gallery, whose similarities are consumed while they are in cache.
//!
//! Ranks need a query's best positive before they can count. Rows are therefore visited in the order of their labels, so that a
//! query's positives are one run of rows: the few tiles that hold the run give the best positive, then every tile is counted with
//! one comparison per similarity and no look at labels. Both visits make the same call for a tile, hence see the same bits, and a
//! tie is a tie.

use super::{Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::backend::{Cpu, Matrix, MatrixMut, matmul, vectorized};
use crate::error::{Error, Result, expect_len};
use crate::ops::{IntegersOut, Out};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of a tile: the unit of work of a thread.
const QUERY_TILE: usize = 512;
/// Gallery rows of a tile: 512 KiB of similarities, which stay in the second-level cache.
const GALLERY_TILE: usize = 256;
/// Similarities looked at together when searching for candidates.
const LANES: usize = 64;

impl Retrieval for Cpu {
    fn best_positive_rank(
        &self,
        geometry: &RetrievalGeometry,
        inputs: RetrievalInputs<'_, Self>,
        ranks: IntegersOut<'_, Self>,
    ) -> Result<()> {
        let ranks = ranks.into_slice();
        expect_len("ranks", geometry.queries, ranks.len())?;
        let search = self.run(|| Search::new(geometry, inputs))?;
        let queries = by_label(search.query_labels);
        let gallery = by_label(search.gallery_labels);
        let targets = search.targets(&queries, &gallery);
        let mut sorted_ranks = vec![0; ranks.len()];
        self.run(|| {
            let tiles = sorted_ranks.par_chunks_mut(QUERY_TILE).zip(queries.par_chunks(QUERY_TILE));
            tiles.zip(targets.par_chunks(QUERY_TILE)).for_each(|((ranks, queries), targets)| {
                let mut scratch = Tile::new(self, search.dim);
                search.rank_tile(queries, &gallery, targets, &mut scratch, ranks);
            });
        });
        for (&query, rank) in queries.iter().zip(sorted_ranks) {
            ranks[query as usize] = rank;
        }
        Ok(())
    }

    fn nearest(
        &self,
        geometry: &RetrievalGeometry,
        depth: usize,
        inputs: RetrievalInputs<'_, Self>,
        rows: IntegersOut<'_, Self>,
        similarities: Out<'_, Self>,
    ) -> Result<()> {
        let (rows, similarities) = (rows.into_slice(), similarities.into_slice());
        expect_len("rows", geometry.queries * depth, rows.len())?;
        expect_len("similarities", geometry.queries * depth, similarities.len())?;
        let search = self.run(|| Search::new(geometry, inputs))?;
        if depth == 0 {
            return Ok(());
        }
        self.run(|| {
            let tiles = rows.par_chunks_mut(QUERY_TILE * depth).zip(similarities.par_chunks_mut(QUERY_TILE * depth));
            tiles.enumerate().for_each_init(
                || Selection::new(depth, geometry.gallery),
                |selection, (tile, (rows, similarities))| {
                    let first = tile * QUERY_TILE;
                    let queries = first..(first + QUERY_TILE).min(geometry.queries);
                    search.select_tile(queries, &mut self.scratch(QUERY_TILE * GALLERY_TILE), selection);
                    selection.write(rows, similarities);
                },
            );
        });
        Ok(())
    }
}

/// The checked inputs of a retrieval.
struct Search<'a> {
    dim: usize,
    queries: &'a [f32],
    query_labels: &'a [i32],
    gallery: &'a [f32],
    gallery_labels: &'a [i32],
    own_rows: &'a [i32],
}

/// What a query looks for, as positions in the label order of the gallery.
struct Target {
    positives: Range<usize>,
    own: Option<usize>,
}

/// Scratch of a thread: a tile of similarities, and rows gathered in label order.
struct Tile<'a> {
    similarities: crate::backend::Scratch<'a>,
    queries: crate::backend::Scratch<'a>,
    gallery: crate::backend::Scratch<'a>,
}

impl<'a> Tile<'a> {
    fn new(cpu: &'a Cpu, dim: usize) -> Self {
        Self {
            similarities: cpu.scratch(QUERY_TILE * GALLERY_TILE),
            queries: cpu.scratch(QUERY_TILE * dim),
            gallery: cpu.scratch(GALLERY_TILE * dim),
        }
    }
}

impl<'a> Search<'a> {
    fn new(geometry: &RetrievalGeometry, inputs: RetrievalInputs<'a, Cpu>) -> Result<Self> {
        let &RetrievalGeometry { queries, gallery, dim } = geometry;
        if dim == 0 || i32::try_from(gallery.max(queries)).is_err() {
            let found = format!("dim {dim}, {queries} queries, {gallery} gallery rows");
            return Err(Error::shape("retrieval", format_args!("a dim of at least 1 and at most {} rows", i32::MAX), found));
        }
        let search = Self {
            dim,
            queries: inputs.queries.as_slice(),
            query_labels: inputs.query_labels.as_slice(),
            gallery: inputs.gallery.as_slice(),
            gallery_labels: inputs.gallery_labels.as_slice(),
            own_rows: inputs.own_rows.as_slice(),
        };
        expect_len("queries", queries * dim, search.queries.len())?;
        expect_len("query labels", queries, search.query_labels.len())?;
        expect_len("gallery", gallery * dim, search.gallery.len())?;
        expect_len("gallery labels", gallery, search.gallery_labels.len())?;
        expect_len("own rows", queries, search.own_rows.len())?;
        if let Some(&row) = search.own_rows.iter().find(|&&row| row < -1 || row >= gallery as i32) {
            return Err(Error::shape("own rows", format_args!("-1 or a row below {gallery}"), row));
        }
        let largest = largest_norm("queries", search.queries, dim)? * largest_norm("gallery", search.gallery, dim)?;
        // By Cauchy and Schwarz no similarity, nor any partial sum of one, can then overflow and become NaN.
        if largest > f64::from(f32::MAX) / 2.0 {
            return Err(Error::shape("product of the largest norms", "at most half of f32::MAX", format_args!("{largest:e}")));
        }
        Ok(search)
    }

    fn gallery_rows(&self) -> usize {
        self.gallery_labels.len()
    }

    fn targets(&self, queries: &[u32], gallery: &[u32]) -> Vec<Target> {
        let mut positions = vec![0u32; gallery.len()];
        for (position, &row) in gallery.iter().enumerate() {
            positions[row as usize] = position as u32;
        }
        let target = |&query: &u32| {
            let label = self.query_labels[query as usize];
            let start = gallery.partition_point(|&row| self.gallery_labels[row as usize] < label);
            let end = gallery.partition_point(|&row| self.gallery_labels[row as usize] <= label);
            let own = usize::try_from(self.own_rows[query as usize]).ok().map(|row| positions[row] as usize);
            Target { positives: start..end, own }
        };
        queries.iter().map(target).collect()
    }

    /// Ranks of a tile of queries; `queries` and `gallery` list rows in label order.
    fn rank_tile(&self, queries: &[u32], gallery: &[u32], targets: &[Target], scratch: &mut Tile<'_>, ranks: &mut [i32]) {
        let queries = gather(self.queries, queries, self.dim, &mut scratch.queries);
        let mut multiply = |columns: Range<usize>, similarities: &mut [f32]| {
            let rows = gather(self.gallery, &gallery[columns], self.dim, &mut scratch.gallery);
            multiply_tile(queries, rows, self.dim, similarities);
        };
        let mut best = [f32::NEG_INFINITY; QUERY_TILE];
        for columns in tiles(self.gallery_rows()) {
            if targets.iter().any(|target| overlaps(&target.positives, &columns)) {
                multiply(columns.clone(), &mut scratch.similarities);
                let rows = scratch.similarities.chunks(columns.len());
                for ((best, target), similarities) in best.iter_mut().zip(targets).zip(rows) {
                    *best = best.max(best_positive(target, &columns, similarities));
                }
            }
        }
        ranks.fill(0);
        for columns in tiles(self.gallery_rows()) {
            multiply(columns.clone(), &mut scratch.similarities);
            let similarities = &scratch.similarities[..];
            vectorized(
                #[inline(always)]
                || {
                    for (query, target) in targets.iter().enumerate() {
                        let row = &similarities[query * columns.len()..][..columns.len()];
                        ranks[query] += negatives_at_least(best[query], target, &columns, row);
                    }
                },
            );
        }
        for (rank, best) in ranks.iter_mut().zip(best) {
            if best == f32::NEG_INFINITY {
                *rank = -1;
            }
        }
    }

    /// The nearest rows of a tile of queries.
    fn select_tile(&self, queries: Range<usize>, similarities: &mut [f32], selection: &mut Selection) {
        selection.clear(queries.len());
        let values = &self.queries[queries.start * self.dim..queries.end * self.dim];
        for columns in tiles(self.gallery_rows()) {
            let rows = &self.gallery[columns.start * self.dim..columns.end * self.dim];
            multiply_tile(values, rows, self.dim, similarities);
            let similarities = &similarities[..queries.len() * columns.len()];
            vectorized(
                #[inline(always)]
                || {
                    for (slot, row) in similarities.chunks_exact(columns.len()).enumerate() {
                        let query = queries.start + slot;
                        let (label, own) = (self.query_labels[query], self.own_rows[query]);
                        for (chunk, values) in row.chunks(LANES).enumerate() {
                            if !any_at_least(values, selection.thresholds[slot]) {
                                continue;
                            }
                            for (offset, &similarity) in values.iter().enumerate() {
                                let row = columns.start + chunk * LANES + offset;
                                if similarity >= selection.thresholds[slot] && row as i32 != own {
                                    selection.offer(slot, similarity, row as u32, self.gallery_labels[row] == label);
                                }
                            }
                        }
                    }
                },
            );
        }
    }
}

/// For each query of a tile its best candidates, as numbers whose order is the order of neighbours.
///
/// Candidates are appended; when a query's room is full, the best `depth` are kept and the worst of them becomes the threshold.
struct Selection {
    depth: usize,
    capacity: usize,
    candidates: Vec<u64>,
    filled: Vec<usize>,
    thresholds: Vec<f32>,
}

impl Selection {
    fn new(depth: usize, gallery: usize) -> Self {
        let capacity = (2 * depth.max(LANES)).min(gallery + 1);
        let candidates = vec![0; QUERY_TILE * capacity];
        Self { depth, capacity, candidates, filled: Vec::with_capacity(QUERY_TILE), thresholds: Vec::with_capacity(QUERY_TILE) }
    }

    fn clear(&mut self, queries: usize) {
        self.filled.clear();
        self.filled.resize(queries, 0);
        self.thresholds.clear();
        self.thresholds.resize(queries, f32::NEG_INFINITY);
    }

    fn offer(&mut self, slot: usize, similarity: f32, row: u32, positive: bool) {
        let candidates = &mut self.candidates[slot * self.capacity..][..self.capacity];
        candidates[self.filled[slot]] = candidate(similarity, row, positive);
        self.filled[slot] += 1;
        if self.filled[slot] == self.capacity {
            candidates.select_nth_unstable_by(self.depth - 1, |a, b| b.cmp(a));
            self.filled[slot] = self.depth;
            self.thresholds[slot] = candidate_similarity(candidates[self.depth - 1]);
        }
    }

    /// Writes the neighbours of the tile, nearest first.
    fn write(&mut self, rows: &mut [i32], similarities: &mut [f32]) {
        let outputs = rows.chunks_mut(self.depth).zip(similarities.chunks_mut(self.depth));
        for (slot, (rows, similarities)) in outputs.enumerate() {
            let candidates = &mut self.candidates[slot * self.capacity..][..self.filled[slot]];
            candidates.sort_unstable_by(|a, b| b.cmp(a));
            rows.fill(-1);
            similarities.fill(f32::NEG_INFINITY);
            for ((row, similarity), &candidate) in rows.iter_mut().zip(similarities).zip(&*candidates) {
                (*row, *similarity) = (candidate_row(candidate) as i32, candidate_similarity(candidate));
            }
        }
    }
}

const POSITIVE: u32 = 1 << 31;

/// A number that is greater the earlier the neighbour comes: similarity, then negatives before positives, then lower rows.
fn candidate(similarity: f32, row: u32, positive: bool) -> u64 {
    // Adding zero turns -0 into +0, which must tie.
    let bits = (similarity + 0.0).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    let tie = !(row | if positive { POSITIVE } else { 0 });
    u64::from(ordered) << 32 | u64::from(tie)
}

fn candidate_similarity(candidate: u64) -> f32 {
    let ordered = (candidate >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

fn candidate_row(candidate: u64) -> u32 {
    !(candidate as u32) & !POSITIVE
}

/// Rows in the order of their labels, equal labels in the order of rows.
fn by_label(labels: &[i32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|&row| labels[row as usize]);
    order
}

/// The rows that `order` lists: in place when they are contiguous, else copied to `scratch`.
fn gather<'a>(rows: &'a [f32], order: &[u32], dim: usize, scratch: &'a mut [f32]) -> &'a [f32] {
    let first = order[0] as usize;
    if order.iter().enumerate().all(|(position, &row)| row as usize == first + position) {
        return &rows[first * dim..(first + order.len()) * dim];
    }
    for (target, &row) in scratch.chunks_exact_mut(dim).zip(order) {
        target.copy_from_slice(&rows[row as usize * dim..][..dim]);
    }
    &scratch[..order.len() * dim]
}

fn tiles(gallery: usize) -> impl Iterator<Item = Range<usize>> {
    (0..gallery).step_by(GALLERY_TILE).map(move |start| start..(start + GALLERY_TILE).min(gallery))
}

fn overlaps(first: &Range<usize>, second: &Range<usize>) -> bool {
    first.start.max(second.start) < first.end.min(second.end)
}

fn multiply_tile(queries: &[f32], gallery: &[f32], dim: usize, similarities: &mut [f32]) {
    let (rows, columns) = (queries.len() / dim, gallery.len() / dim);
    let output = MatrixMut::new(&mut similarities[..rows * columns], rows, columns);
    matmul(Matrix::new(queries, rows, dim), Matrix::new(gallery, columns, dim).transposed(), output, false);
}

/// The greatest similarity of a positive within the tile, or minus infinity.
fn best_positive(target: &Target, columns: &Range<usize>, similarities: &[f32]) -> f32 {
    let (start, end) = (target.positives.start.max(columns.start), target.positives.end.min(columns.end));
    let others = (start..end).filter(|&position| Some(position) != target.own);
    others.map(|position| similarities[position - columns.start]).fold(f32::NEG_INFINITY, f32::max)
}

/// Number of negatives of the tile with at least the given similarity.
#[inline(always)]
fn negatives_at_least(threshold: f32, target: &Target, columns: &Range<usize>, similarities: &[f32]) -> i32 {
    let inside = |position: usize| position.clamp(columns.start, columns.end) - columns.start;
    let (before, after) = (inside(target.positives.start), inside(target.positives.end));
    let mut count = count_at_least(&similarities[..before], threshold) + count_at_least(&similarities[after..], threshold);
    if let Some(own) = target.own.filter(|own| columns.contains(own) && !target.positives.contains(own)) {
        count -= i32::from(similarities[own - columns.start] >= threshold);
    }
    count
}

#[inline(always)]
fn count_at_least(values: &[f32], threshold: f32) -> i32 {
    values.iter().map(|&value| i32::from(value >= threshold)).sum()
}

#[inline(always)]
fn any_at_least(values: &[f32], threshold: f32) -> bool {
    values.iter().fold(false, |any, &value| any | (value >= threshold))
}

/// The greatest length of a row.
fn largest_norm(what: &'static str, values: &[f32], dim: usize) -> Result<f64> {
    let norms = values.par_chunks(dim).enumerate().map(|(row, values)| {
        let square: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
        if square.is_finite() { Ok(square) } else { Err(row) }
    });
    let largest = norms.reduce(
        || Ok(0.0),
        |first, second| match (first, second) {
            (Ok(first), Ok(second)) => Ok(first.max(second)),
            (Err(first), Err(second)) => Err(first.min(second)),
            (Err(row), _) | (_, Err(row)) => Err(row),
        },
    );
    largest.map(f64::sqrt).map_err(|row| Error::NotFinite { what, row })
}
