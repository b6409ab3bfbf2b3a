//! Retrieval on the host. Scores are counted ([`super::count`]); lists of neighbours come from a matrix product per tile of queries and
//! gallery, whose similarities are consumed while they are in cache.

use super::search::Search;
use super::{QueryScore, Retrieval, RetrievalGeometry, RetrievalInputs, count};
use crate::cpu::gemm::{Matrix, MatrixMut, matmul};
use crate::cpu::simd::vectorized;
use crate::device::Cpu;
use crate::error::{Result, expect_len};
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
        for (rank, score) in ranks.iter_mut().zip(self.score(geometry, inputs)?) {
            *rank = score.map_or(-1, |score| score.rank as i32);
        }
        Ok(())
    }

    fn score(&self, geometry: &RetrievalGeometry, inputs: RetrievalInputs<'_, Self>) -> Result<Vec<Option<QueryScore>>> {
        let search = self.run(|| Search::new(geometry, inputs))?;
        Ok(count::score(self, &search))
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

impl Search<'_> {
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

fn tiles(gallery: usize) -> impl Iterator<Item = Range<usize>> {
    (0..gallery).step_by(GALLERY_TILE).map(move |start| start..(start + GALLERY_TILE).min(gallery))
}

fn multiply_tile(queries: &[f32], gallery: &[f32], dim: usize, similarities: &mut [f32]) {
    let (rows, columns) = (queries.len() / dim, gallery.len() / dim);
    let output = MatrixMut::new(&mut similarities[..rows * columns], rows, columns);
    matmul(Matrix::new(queries, rows, dim), Matrix::new(gallery, columns, dim).transposed(), output, false);
}

#[inline(always)]
fn any_at_least(values: &[f32], threshold: f32) -> bool {
    values.iter().fold(false, |any, &value| any | (value >= threshold))
}
