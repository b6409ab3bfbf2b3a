//! Sums of outer products of listed rows: the filter gradients.

use super::rows::{IDENTITY, PANEL, RowPair, Tile, store};
use pulp::{Arch, Simd, WithSimd};

/// Pairs whose rows, [`LEFT_ROWS`] and [`PANEL`] numbers of each, stay in the first-level cache.
const PAIR_BLOCK: usize = 64;
/// Rows of the output computed at once.
const LEFT_ROWS: usize = 64;

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
        Arch::new().dispatch(OuterKernel { product: self, pairs, output });
    }
}

struct OuterKernel<'a> {
    product: &'a OuterProduct<'a>,
    pairs: &'a [RowPair],
    output: &'a mut [f32],
}

impl WithSimd for OuterKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, pairs, output } = self;
        let mut accumulate = product.accumulate;
        let (mut left, mut right) = ([[0.0; LEFT_ROWS]; PAIR_BLOCK], [[0.0; PANEL]; PAIR_BLOCK]);
        for pairs in pairs.chunks(PAIR_BLOCK) {
            for first_row in (0..product.rows).step_by(LEFT_ROWS) {
                let rows = LEFT_ROWS.min(product.rows - first_row);
                gather(product.left, pairs.iter().map(|pair| pair.to as usize * product.left_stride + first_row), rows, &mut left);
                for first in (0..product.columns).step_by(PANEL) {
                    let width = PANEL.min(product.columns - first);
                    let starts = pairs.iter().map(|pair| pair.from as usize * product.right_stride + first);
                    gather(product.right, starts, width, &mut right);
                    let (left, right) = (&left[..pairs.len()], &right[..pairs.len()]);
                    let block = OuterBlock { left, right, rows, width, stride: product.output_stride, accumulate };
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

/// A block of the output: what is beyond `rows` and `width` of the operands is undefined.
struct OuterBlock<'a> {
    left: &'a [[f32; LEFT_ROWS]],
    right: &'a [[f32; PANEL]],
    rows: usize,
    width: usize,
    stride: usize,
    accumulate: bool,
}

impl OuterBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, output: &mut [f32]) {
        for sub in (0..self.width.div_ceil(S::F32_LANES)).step_by(2) {
            let mut row = 0;
            if S::F32_LANES >= 16 {
                self.groups::<S, 8>(simd, sub, &mut row, output);
            }
            self.groups::<S, 6>(simd, sub, &mut row, output);
            self.groups::<S, 4>(simd, sub, &mut row, output);
            self.groups::<S, 1>(simd, sub, &mut row, output);
        }
    }

    #[inline(always)]
    fn groups<S: Simd, const ROWS: usize>(&self, simd: S, sub: usize, row: &mut usize, output: &mut [f32]) {
        while *row + ROWS <= self.rows {
            self.group::<S, ROWS>(simd, sub, *row, output);
            *row += ROWS;
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, sub: usize, first_row: usize, output: &mut [f32]) {
        let mut tile = Tile::<S, ROWS>::zero(simd);
        for (left, right) in self.left.iter().zip(self.right) {
            let left = &left[first_row..][..ROWS];
            let (right, _) = S::as_simd_f32s(right);
            tile.add(simd, |i| left[i], [right[sub], right[sub + 1]]);
        }
        let column = sub * S::F32_LANES;
        let width = (self.width - column).min(2 * S::F32_LANES);
        for (i, sums) in tile.0.into_iter().enumerate() {
            store(simd, sums, &mut output[(first_row + i) * self.stride + column..][..width], self.accumulate);
        }
    }
}
