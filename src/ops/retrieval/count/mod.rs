//! Scores without a list of neighbours: what they need of a query is how many negatives come before each of its positives.
//!
//! Rows are visited in the order of their labels, so that the positives of a block of queries are a short run of rows: one small product
//! gives every positive's similarity. Then each similarity of the whole matrix is compared twice while it is in cache: with that of the
//! query's best positive, which counts its exact rank, and with that of its last positive that can still be among its `R` nearest. The
//! few negatives that pass the second are counted against the positives one by one; each lifts the cutoff, so that no query sees many.
//!
//! Where 8-bit codes tell that a similarity reaches neither, it is not computed (`pruned.rs`).
//!
//! All against all the matrix is symmetric: its upper half is computed, and each tile consumed by rows and by columns. A similarity's
//! bits depend on its two rows alone, whichever tile it is in and whichever of them is the query, so that a tie is a tie; counts are
//! whole numbers, so that the order of the tiles changes nothing.

mod pruned;
mod tallies;

use super::QueryScore;
use super::search::{Search, by_label};
use crate::cpu::gemm::{IndexedGemm, IndexedRow, Matrix, PANEL, pack_panel, packed_len};
use crate::cpu::simd::vectorized;
use crate::device::Cpu;
use pruned::TilePruner;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tallies::Tallies;

/// Queries, or gallery rows, of a block.
const BLOCK: usize = 512;
/// Queries whose similarities to a block are computed at a time: 256 KiB, which stay in the second-level cache.
const QUERY_TILE: usize = 128;
/// Similarities looked at together when searching for those that matter.
const LANES: usize = 64;
/// Similarities of positives held at a time, with a count each: 256 MiB.
const POSITIVES_AT_ONCE: usize = 1 << 25;

/// The score of every query, `None` for those without a positive.
pub(super) fn score(cpu: &Cpu, search: &Search<'_>) -> Vec<Option<QueryScore>> {
    let counting = Counting::new(cpu, search);
    let mut scores = vec![None; counting.queries.len()];
    let rounds = counting.rounds();
    let symmetric = search.is_symmetric() && rounds.len() == 1;
    for round in rounds {
        let blocks = counting.tallies(cpu, round.clone());
        counting.count(cpu, round.clone(), &blocks, symmetric);
        for (number, block) in round.zip(blocks) {
            let queries = &counting.queries[block_range(number, counting.queries.len())];
            let block = block.into_inner().unwrap_or_else(PoisonError::into_inner);
            for (slot, &query) in queries.iter().enumerate() {
                scores[query as usize] = block.score(slot);
            }
        }
    }
    scores
}

/// The gallery in label order, packed for products, and what each query looks for in it.
struct Counting<'a> {
    search: &'a Search<'a>,
    /// Rows of the gallery in label order.
    gallery: Vec<u32>,
    /// Queries in label order.
    queries: Vec<u32>,
    /// For each of them its positives, as positions in the gallery's label order; the query itself may be among them.
    runs: Vec<Range<usize>>,
    /// For each of them the position of the query itself.
    own: Vec<Option<usize>>,
    /// Labels of the gallery in label order.
    labels: Vec<i32>,
    packed: Vec<f32>,
}

impl<'a> Counting<'a> {
    fn new(cpu: &Cpu, search: &'a Search<'a>) -> Self {
        let (queries, gallery) = (by_label(search.query_labels), by_label(search.gallery_labels));
        let labels: Vec<i32> = gallery.iter().map(|&row| search.gallery_labels[row as usize]).collect();
        let mut positions = vec![0u32; gallery.len()];
        for (position, &row) in gallery.iter().enumerate() {
            positions[row as usize] = position as u32;
        }
        let run = |&query: &u32| {
            let label = search.query_labels[query as usize];
            labels.partition_point(|&other| other < label)..labels.partition_point(|&other| other <= label)
        };
        let own = |&query: &u32| usize::try_from(search.own_rows[query as usize]).ok().map(|row| positions[row] as usize);
        Self {
            search,
            runs: queries.iter().map(run).collect(),
            own: queries.iter().map(own).collect(),
            packed: cpu.run(|| pack_in_order(cpu, search.gallery, &gallery, search.dim)),
            gallery,
            queries,
            labels,
        }
    }

    fn positives(&self, query: usize) -> usize {
        self.runs[query].len() - usize::from(self.own[query].is_some_and(|own| self.runs[query].contains(&own)))
    }

    /// Blocks of queries in groups whose positives fit into memory together.
    fn rounds(&self) -> Vec<Range<usize>> {
        let (mut rounds, mut held) = (Vec::<Range<usize>>::new(), 0);
        for number in 0..self.queries.len().div_ceil(BLOCK) {
            let positives: usize = block_range(number, self.queries.len()).map(|query| self.positives(query)).sum();
            held += positives;
            match rounds.last_mut() {
                Some(round) if held <= POSITIVES_AT_ONCE => round.end = number + 1,
                _ => {
                    rounds.push(number..number + 1);
                    held = positives;
                }
            }
        }
        rounds
    }

    /// Similarities of queries, given by position, to the gallery's positions `columns`, which start at a panel: `(queries, columns)`.
    fn multiply(&self, queries: Range<usize>, columns: Range<usize>, similarities: &mut [f32]) {
        let dim = self.search.dim;
        let panels = columns.start / PANEL..columns.end.div_ceil(PANEL);
        let packed = &self.packed[panels.start * PANEL * dim..panels.end * PANEL * dim];
        let product = IndexedGemm::dense(self.search.queries, packed, dim, columns.len());
        let mut pairs = [IndexedRow::default(); QUERY_TILE];
        for (to, (pair, &from)) in pairs.iter_mut().zip(&self.queries[queries.clone()]).enumerate() {
            *pair = IndexedRow { from, to: to as u32 };
        }
        product.run(&pairs[..queries.len()], similarities);
    }

    /// Blocks of queries that know their positives and have counted nothing yet.
    fn tallies(&self, cpu: &Cpu, round: Range<usize>) -> Vec<Mutex<Tallies>> {
        let tally = |number: usize| {
            let mut scratch = cpu.scratch(QUERY_TILE * BLOCK);
            let queries = block_range(number, self.queries.len());
            let mut tallies = Tallies::new(queries.clone().map(|query| self.positives(query)));
            for tile_queries in query_tiles(queries.clone()) {
                self.find_positives(tile_queries, queries.start, &mut scratch, &mut tallies);
            }
            tallies.start();
            Mutex::new(tallies)
        };
        cpu.run(|| round.into_par_iter().map(tally).collect())
    }

    /// Similarities of a tile's queries to their positives and to themselves.
    fn find_positives(&self, tile_queries: Range<usize>, block_start: usize, scratch: &mut [f32], tallies: &mut Tallies) {
        let first = tile_queries.clone().map(|query| self.runs[query].start).min().unwrap_or(0);
        let last = tile_queries.clone().map(|query| self.runs[query].end).max().unwrap_or(0);
        let mut filled = [0; QUERY_TILE];
        for start in (first / PANEL * PANEL..last).step_by(BLOCK) {
            let columns = start..(start + BLOCK).min(last);
            self.multiply(tile_queries.clone(), columns.clone(), scratch);
            for (row, query) in tile_queries.clone().enumerate() {
                let run = &self.runs[query];
                let similarities = &scratch[row * columns.len()..][..columns.len()];
                let (slot, own) = (query - block_start, self.own[query]);
                for position in run.start.max(start)..run.end.min(columns.end) {
                    if own == Some(position) {
                        tallies.own[slot] = similarities[position - start];
                    } else {
                        tallies.positives_of(slot)[filled[row]] = similarities[position - start];
                        filled[row] += 1;
                    }
                }
            }
        }
        for query in tile_queries {
            // A query that is in the gallery under another label.
            if let Some(own) = self.own[query].filter(|own| !self.runs[query].contains(own)) {
                let start = own / PANEL * PANEL;
                self.multiply(query..query + 1, start..own + 1, scratch);
                tallies.own[query - block_start] = scratch[own - start];
            }
        }
    }

    /// Visits every pair of a query of the round and a gallery row.
    fn count(&self, cpu: &Cpu, round: Range<usize>, blocks: &[Mutex<Tallies>], symmetric: bool) {
        let columns = 0..self.labels.len().div_ceil(BLOCK);
        let tasks: Vec<(usize, usize)> = round
            .clone()
            .flat_map(|rows| columns.clone().map(move |columns| (rows, columns)))
            .filter(|(rows, columns)| !symmetric || rows <= columns)
            .collect();
        let mut codes = cpu.scratch(TilePruner::room(self, round.clone()));
        let pruner = TilePruner::new(self, cpu, round.clone(), &mut codes);
        let visit = |&(rows, columns): &(usize, usize)| {
            let (queries, gallery) = (block_range(rows, self.queries.len()), block_range(columns, self.labels.len()));
            let mirror = (symmetric && rows != columns).then(|| &blocks[columns]);
            let (own, number) = (&blocks[rows - round.start], rows - round.start);
            if pruner.as_ref().is_some_and(|pruner| pruner.count(cpu, number, &queries, &gallery, (own, mirror))) {
                return;
            }
            let mut scratch = cpu.scratch(QUERY_TILE * BLOCK);
            for tile_queries in query_tiles(queries.clone()) {
                self.multiply(tile_queries.clone(), gallery.clone(), &mut scratch);
                let similarities = &scratch[..tile_queries.len() * gallery.len()];
                let tile = Tile { similarities, width: gallery.len() };
                self.count_rows(&tile, &tile_queries, &gallery, tile_queries.start - queries.start, lock(own));
                if let Some(mirror) = mirror {
                    self.count_columns(&tile, &tile_queries, &gallery, lock(mirror));
                }
            }
        };
        cpu.run(|| tasks.par_iter().for_each(visit));
    }

    /// Counts for the queries of a tile, which are its rows.
    fn count_rows(
        &self,
        tile: &Tile<'_>,
        tile_queries: &Range<usize>,
        gallery: &Range<usize>,
        first_slot: usize,
        mut tallies: MutexGuard<'_, Tallies>,
    ) {
        let tallies = &mut *tallies;
        vectorized(
            #[inline(always)]
            || {
                for (row, query) in tile_queries.clone().enumerate() {
                    let slot = first_slot + row;
                    let mut above = 0;
                    for (chunk, values) in tile.row(row).chunks(LANES).enumerate() {
                        let (best, cutoff) = (tallies.best[slot], tallies.cutoffs[slot]);
                        let (mut reaching_best, mut reaching_cutoff) = (0, 0);
                        for &value in values {
                            reaching_best += i32::from(value >= best);
                            reaching_cutoff += i32::from(value >= cutoff);
                        }
                        above += reaching_best;
                        if reaching_cutoff > 0 {
                            let first = gallery.start + chunk * LANES;
                            self.weigh(tallies, (slot, query), values.iter().copied().zip(first..));
                        }
                    }
                    tallies.above[slot] += above;
                }
            },
        );
    }

    /// Counts for the columns of the tile as queries, where gallery and queries are the same; its rows are then gallery rows.
    fn count_columns(
        &self,
        tile: &Tile<'_>,
        tile_queries: &Range<usize>,
        gallery: &Range<usize>,
        mut tallies: MutexGuard<'_, Tallies>,
    ) {
        let tallies = &mut *tallies;
        vectorized(
            #[inline(always)]
            || {
                for (row, position) in tile_queries.clone().enumerate() {
                    for (chunk, values) in tile.row(row).chunks(LANES).enumerate() {
                        let slots = chunk * LANES..chunk * LANES + values.len();
                        let mut reaching_cutoff = 0;
                        let best = tallies.best[slots.clone()].iter().zip(&mut tallies.above[slots.clone()]);
                        for ((&value, &cutoff), (&best, above)) in values.iter().zip(&tallies.cutoffs[slots.clone()]).zip(best) {
                            *above += i32::from(value >= best);
                            reaching_cutoff += i32::from(value >= cutoff);
                        }
                        if reaching_cutoff > 0 {
                            for (slot, &value) in slots.zip(values) {
                                let query = gallery.start + slot;
                                self.weigh(tallies, (slot, query), std::iter::once((value, position)));
                            }
                        }
                    }
                }
            },
        );
    }

    /// Counts one similarity for a query.
    fn see(&self, tallies: &mut Tallies, (slot, query): (usize, usize), (similarity, position): (f32, usize)) {
        tallies.above[slot] += i32::from(similarity >= tallies.best[slot]);
        self.weigh(tallies, (slot, query), std::iter::once((similarity, position)));
    }

    /// Counts the negatives among `candidates`, pairs of similarity and position, against the positives they come before.
    fn weigh(&self, tallies: &mut Tallies, (slot, query): (usize, usize), candidates: impl Iterator<Item = (f32, usize)>) {
        for (similarity, position) in candidates {
            if similarity >= tallies.cutoffs[slot] && !self.runs[query].contains(&position) && self.own[query] != Some(position) {
                tallies.add(slot, similarity);
            }
        }
    }
}

/// Similarities of some rows and a block of columns.
struct Tile<'a> {
    similarities: &'a [f32],
    width: usize,
}

impl Tile<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.similarities[row * self.width..][..self.width]
    }
}

fn lock(block: &Mutex<Tallies>) -> MutexGuard<'_, Tallies> {
    block.lock().unwrap_or_else(PoisonError::into_inner)
}

fn block_range(number: usize, len: usize) -> Range<usize> {
    number * BLOCK..((number + 1) * BLOCK).min(len)
}

fn query_tiles(queries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    queries.clone().step_by(QUERY_TILE).map(move |start| start..(start + QUERY_TILE).min(queries.end))
}

/// The rows that `order` lists, packed as the right operand of products.
fn pack_in_order(cpu: &Cpu, rows: &[f32], order: &[u32], dim: usize) -> Vec<f32> {
    let mut packed = vec![0.0; packed_len(dim, order.len())];
    let panels = packed.par_chunks_exact_mut(PANEL * dim).zip(order.par_chunks(PANEL));
    panels.for_each(|(panel, order)| {
        let mut gathered = cpu.scratch(PANEL * dim);
        for (target, &row) in gathered.chunks_exact_mut(dim).zip(order) {
            target.copy_from_slice(&rows[row as usize * dim..][..dim]);
        }
        pack_panel(Matrix::new(&gathered[..order.len() * dim], order.len(), dim).transposed(), 0, panel);
    });
    packed
}
