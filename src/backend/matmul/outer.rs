//! Sums of outer products of listed rows: the filter gradients.

use super::pack::HALF;
use super::rows::{IDENTITY, RowPair, Tile, store};
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;

/// Pairs whose rows, [`LEFT_ROWS`] and [`HALF`] numbers of each, stay in the first-level cache.
const PAIR_BLOCK: usize = 120;
/// Rows of the output computed at once.
const LEFT_ROWS: usize = 32;
/// Columns of the output computed at once, of whose operand a copy stays in the second-level cache.
const COLUMNS: usize = 512;

/// Numbers of the right operand's rows of one pair after the other.
type Half = [[f32; HALF]; PAIR_BLOCK];

thread_local! {
    /// A block of the right operand, [`HALF`] columns after the other.
    static GATHERED: RefCell<Vec<Half>> = const { RefCell::new(Vec::new()) };
}

/// `output[m, n] (+)= sum over pairs of left[to, m] * right[from, n]`, summed in the order of the pairs.
#[derive(Clone, Copy, Debug)]
pub struct OuterProduct<'a> {
    /// Rows of `left_stride` numbers, of which `rows` count, indexed by [`RowPair::to`].
    pub left: &'a [f32],
    /// Distance between rows of `left`.
    pub left_stride: usize,
    /// Rows of `right_stride` numbers, of which `columns` count, indexed by [`RowPair::from`].
    pub right: &'a [f32],
    /// Distance between rows of `right`.
    pub right_stride: usize,
    /// Rows of the output.
    pub rows: usize,
    /// Columns of the output.
    pub columns: usize,
    /// Distance between rows of the output.
    pub output_stride: usize,
    /// Whether to add to the output.
    pub accumulate: bool,
}

impl OuterProduct<'_> {
    /// Sums over rows `0 .. rows`, each with the row of the same number.
    ///
    /// # Panics
    /// If there are more than [`IDENTITY_ROWS`](super::IDENTITY_ROWS) rows or an operand is too short.
    pub fn run_all(&self, rows: usize, output: &mut [f32]) {
        self.run(&IDENTITY[..rows], output);
    }

    /// Sums over at least one pair.
    ///
    /// # Panics
    /// If a pair points outside an operand.
    pub fn run(&self, pairs: &[RowPair], output: &mut [f32]) {
        GATHERED.with_borrow_mut(|gathered| {
            gathered.resize(COLUMNS / HALF, [[0.0; HALF]; PAIR_BLOCK]);
            Arch::new().dispatch(OuterKernel { product: self, pairs, output, gathered });
        });
    }
}

struct OuterKernel<'a> {
    product: &'a OuterProduct<'a>,
    pairs: &'a [RowPair],
    output: &'a mut [f32],
    gathered: &'a mut [Half],
}

impl WithSimd for OuterKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, pairs, output, gathered } = self;
        let mut accumulate = product.accumulate;
        let mut left = [[0.0; LEFT_ROWS]; PAIR_BLOCK];
        for pairs in pairs.chunks(PAIR_BLOCK) {
            for first in (0..product.columns).step_by(COLUMNS) {
                let columns = COLUMNS.min(product.columns - first);
                for (half, gathered) in gathered[..columns.div_ceil(HALF)].iter_mut().enumerate() {
                    let start = first + half * HALF;
                    let starts = pairs.iter().map(|pair| pair.from as usize * product.right_stride + start);
                    gather(product.right, starts, HALF.min(product.columns - start), gathered);
                }
                for first_row in (0..product.rows).step_by(LEFT_ROWS) {
                    let rows = LEFT_ROWS.min(product.rows - first_row);
                    let starts = pairs.iter().map(|pair| pair.to as usize * product.left_stride + first_row);
                    gather(product.left, starts, rows, &mut left);
                    let left = &left[..pairs.len()];
                    let block = OuterBlock { left, right: gathered, rows, columns, stride: product.output_stride, accumulate };
                    block.run(simd, &mut output[first_row * product.output_stride + first..]);
                }
            }
            accumulate = true;
        }
    }
}

/// Copies `len` numbers from each of `starts`: where they lie, rows whose distance is a power of two would share a few sets of the cache.
#[inline(always)]
fn gather<const WIDTH: usize>(from: &[f32], starts: impl Iterator<Item = usize>, len: usize, to: &mut [[f32; WIDTH]]) {
    for (to, start) in to.iter_mut().zip(starts) {
        if len == WIDTH {
            to.copy_from_slice(&from[start..][..WIDTH]);
        } else {
            to[..len].copy_from_slice(&from[start..][..len]);
        }
    }
}

/// A block of the output: what is beyond `rows` and `columns` of the operands is undefined.
struct OuterBlock<'a> {
    left: &'a [[f32; LEFT_ROWS]],
    right: &'a [Half],
    rows: usize,
    columns: usize,
    stride: usize,
    accumulate: bool,
}

impl OuterBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, output: &mut [f32]) {
        for column in (0..self.columns).step_by(2 * S::F32_LANES) {
            let mut row = 0;
            if S::F32_LANES >= 16 {
                self.groups::<S, 8>(simd, column, &mut row, 8, output);
            }
            // What is left of eight rows keeps the multipliers busier as two groups of the same size.
            self.groups::<S, 6>(simd, column, &mut row, 9, output);
            self.groups::<S, 4>(simd, column, &mut row, 7, output);
            self.groups::<S, 6>(simd, column, &mut row, 6, output);
            self.groups::<S, 4>(simd, column, &mut row, 4, output);
            self.groups::<S, 1>(simd, column, &mut row, 1, output);
        }
    }

    /// Groups of rows while at least `least` are left.
    #[inline(always)]
    fn groups<S: Simd, const ROWS: usize>(&self, simd: S, column: usize, row: &mut usize, least: usize, output: &mut [f32]) {
        while *row + least <= self.rows {
            self.group::<S, ROWS>(simd, column, *row, output);
            *row += ROWS;
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, column: usize, first_row: usize, output: &mut [f32]) {
        let mut tile = Tile::<S, ROWS>::zero(simd);
        let half = |column: usize| (&self.right[(column / HALF).min(self.right.len() - 1)], column % HALF / S::F32_LANES);
        let ((first, first_at), (second, second_at)) = (half(column), half(column + S::F32_LANES));
        for ((left, first), second) in self.left.iter().zip(first).zip(second) {
            let left = &left[first_row..][..ROWS];
            let (first, second) = (S::as_simd_f32s(first).0, S::as_simd_f32s(second).0);
            tile.add(simd, |i| left[i], [first[first_at], second[second_at]]);
        }
        let width = (self.columns - column).min(2 * S::F32_LANES);
        for (i, &sums) in tile.0.iter().enumerate() {
            store(simd, sums, &mut output[(first_row + i) * self.stride + column..][..width], self.accumulate);
        }
    }
}
