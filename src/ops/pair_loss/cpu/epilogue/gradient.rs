//! From weights to the gradient: the memory rows of kept pairs, or one matrix product.

use super::super::weigher::SEGMENT;
use super::{Tile, tile_words};
use crate::cpu::gemm::streamed::WeightedRows;
use crate::ops::heuristics::active_pairs_are_few;
use pulp::{Arch, Simd, WithSimd};

impl Tile<'_> {
    /// Adds weight times memory row of every kept pair to the gradient `(anchors, dim)`.
    pub fn accumulate(&mut self, kept: usize, gradient: &mut [f32]) {
        if kept == 0 {
            return;
        }
        if active_pairs_are_few(kept, self.similarities.len()) {
            return Arch::new().dispatch(AddKeptRows { tile: self, gradient });
        }
        let words = tile_words(self.rows);
        for (weights, kept) in self.similarities.chunks_exact_mut(self.rows).zip(self.kept.chunks_exact(words)) {
            for (weights, _) in weights.chunks_mut(SEGMENT).zip(kept).filter(|(_, kept)| **kept == 0) {
                weights.fill(0.0);
            }
        }
        let dim = self.memory.len() / self.rows;
        WeightedRows { weights: self.similarities, memory: self.memory, dim, panel: self.panel, gradient }.run();
    }

    #[inline(always)]
    fn add_kept_rows(&self, gradient: &mut [f32]) {
        let (dim, words) = (self.memory.len() / self.rows, tile_words(self.rows));
        let row = |index: usize| &self.memory[index * dim..][..dim];
        let anchors = self.similarities.chunks_exact(self.rows).zip(self.kept.chunks_exact(words));
        for ((weights, kept), gradient) in anchors.zip(gradient.chunks_exact_mut(dim)) {
            let mut kept = Bits::new(kept);
            while let Some(first) = kept.next() {
                // Four rows per pass over the gradient, or its loads and stores would take most of the time.
                match (kept.next(), kept.next(), kept.next()) {
                    (Some(second), Some(third), Some(fourth)) => {
                        let rows = [first, second, third, fourth];
                        add_scaled(gradient, rows.map(|index| weights[index]), rows.map(row));
                    }
                    (second, third, _) => {
                        for index in [Some(first), second, third].into_iter().flatten() {
                            add_scaled(gradient, [weights[index]], [row(index)]);
                        }
                    }
                }
            }
        }
    }
}

/// [`Tile::add_kept_rows`] with the vector instructions of the processor; not a closure, for the reason given at `Weigh`.
struct AddKeptRows<'a, 'tile> {
    tile: &'a Tile<'tile>,
    gradient: &'a mut [f32],
}

impl WithSimd for AddKeptRows<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.tile.add_kept_rows(self.gradient);
    }
}

/// Positions of the set bits of a row of words, ascending.
struct Bits<'a> {
    words: &'a [u32],
    word: u32,
    index: usize,
}

impl<'a> Bits<'a> {
    #[inline(always)]
    fn new(words: &'a [u32]) -> Self {
        Self { words, word: words.first().copied().unwrap_or(0), index: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        while self.word == 0 {
            self.index += 1;
            self.word = *self.words.get(self.index)?;
        }
        let bit = self.word.trailing_zeros() as usize;
        self.word &= self.word - 1;
        Some(self.index * SEGMENT + bit)
    }
}

#[inline(always)]
fn add_scaled<const N: usize>(gradient: &mut [f32], weights: [f32; N], rows: [&[f32]; N]) {
    let rows = rows.map(|row| &row[..gradient.len()]);
    for index in 0..gradient.len() {
        let mut sum = gradient[index];
        for (weight, row) in weights.iter().zip(rows) {
            sum += weight * row[index];
        }
        gradient[index] = sum;
    }
}
