//! Sums of outer products of listed rows: the filter gradients.

use super::rows::{IDENTITY, PANEL, RowPair, Tile, store};
use pulp::{Arch, Simd, WithSimd};

/// Pairs whose rows stay in the first-level cache.
const PAIR_BLOCK: usize = 128;

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
        for pairs in pairs.chunks(PAIR_BLOCK) {
            for first in (0..product.columns).step_by(PANEL) {
                let width = PANEL.min(product.columns - first);
                if width == PANEL {
                    let rows = Listed { numbers: product.right, stride: product.right_stride, first };
                    OuterBlock { product, pairs, first, width, accumulate }.run(simd, rows, output);
                } else {
                    let mut rows = Padded([[0.0; PANEL]; PAIR_BLOCK]);
                    for (row, pair) in rows.0.iter_mut().zip(pairs) {
                        row[..width].copy_from_slice(&product.right[pair.from as usize * product.right_stride + first..][..width]);
                    }
                    OuterBlock { product, pairs, first, width, accumulate }.run(simd, &rows, output);
                }
            }
            accumulate = true;
        }
    }
}

/// The right row of a pair, [`PANEL`] numbers of it.
trait RightRows: Copy {
    fn row(&self, index: usize, pair: RowPair) -> &[f32];
}

/// Rows in their place.
#[derive(Clone, Copy)]
struct Listed<'a> {
    numbers: &'a [f32],
    stride: usize,
    first: usize,
}

impl RightRows for Listed<'_> {
    #[inline(always)]
    fn row(&self, _index: usize, pair: RowPair) -> &[f32] {
        &self.numbers[pair.from as usize * self.stride + self.first..][..PANEL]
    }
}

/// Copies of rows that end before a whole panel.
struct Padded([[f32; PANEL]; PAIR_BLOCK]);

impl RightRows for &Padded {
    #[inline(always)]
    fn row(&self, index: usize, _pair: RowPair) -> &[f32] {
        &self.0[index]
    }
}

struct OuterBlock<'a> {
    product: &'a OuterProduct<'a>,
    pairs: &'a [RowPair],
    first: usize,
    width: usize,
    accumulate: bool,
}

impl OuterBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, right: impl RightRows, output: &mut [f32]) {
        let rows = self.product.rows;
        let mut row = 0;
        if S::F32_LANES >= 16 {
            while row + 8 <= rows {
                self.group::<S, 8>(simd, row, right, output);
                row += 8;
            }
        }
        while row + 4 <= rows {
            self.group::<S, 4>(simd, row, right, output);
            row += 4;
        }
        for row in row..rows {
            self.group::<S, 1>(simd, row, right, output);
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, first_row: usize, right: impl RightRows, output: &mut [f32]) {
        let product = self.product;
        for sub in (0..PANEL / S::F32_LANES).step_by(2) {
            let mut tile = Tile::<S, ROWS>::zero(simd);
            for (index, &pair) in self.pairs.iter().enumerate() {
                let left = &product.left[pair.to as usize * product.left_stride + first_row..][..ROWS];
                let (right, _) = S::as_simd_f32s(right.row(index, pair));
                tile.add(simd, |i| left[i], [right[sub], right[sub + 1]]);
            }
            let column = sub * S::F32_LANES;
            let width = self.width.saturating_sub(column).min(2 * S::F32_LANES);
            for (i, sums) in tile.0.into_iter().enumerate() {
                let start = (first_row + i) * product.output_stride + self.first + column;
                if width > 0 {
                    store(simd, sums, &mut output[start..][..width], self.accumulate);
                }
            }
        }
    }
}
