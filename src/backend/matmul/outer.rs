//! Sums of outer products of listed rows: the filter gradients.

use super::rows::{IDENTITY, PANEL, RowPair, Tile, store};
use pulp::{Arch, Simd, WithSimd};

/// Pairs whose right rows are copied side by side into the first-level cache.
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
}

impl OuterProduct<'_> {
    /// Adds the sum over rows `0 .. rows`, each with the row of the same number.
    ///
    /// # Panics
    /// If there are more than [`IDENTITY_ROWS`](super::IDENTITY_ROWS) rows or an operand is too short.
    pub fn add_all(&self, rows: usize, output: &mut [f32]) {
        self.add(&IDENTITY[..rows], output);
    }

    /// Adds the sum over `pairs` to `output`.
    ///
    /// # Panics
    /// If a pair points outside an operand.
    pub fn add(&self, pairs: &[RowPair], output: &mut [f32]) {
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
        let mut panel = [0.0; PAIR_BLOCK * PANEL];
        for pairs in pairs.chunks(PAIR_BLOCK) {
            for first in (0..product.columns).step_by(PANEL) {
                let width = PANEL.min(product.columns - first);
                for (row, pair) in panel.chunks_exact_mut(PANEL).zip(pairs) {
                    let right = &product.right[pair.from as usize * product.right_stride + first..][..width];
                    if width == PANEL {
                        row.copy_from_slice(right);
                    } else {
                        row[..width].copy_from_slice(right);
                    }
                }
                let block = OuterBlock { product, pairs, panel: &panel[..pairs.len() * PANEL], first, width };
                block.run(simd, output);
            }
        }
    }
}

struct OuterBlock<'a> {
    product: &'a OuterProduct<'a>,
    pairs: &'a [RowPair],
    panel: &'a [f32],
    first: usize,
    width: usize,
}

impl OuterBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, output: &mut [f32]) {
        let rows = self.product.rows;
        let mut row = 0;
        if S::F32_LANES >= 16 {
            while row + 8 <= rows {
                self.group::<S, 8>(simd, row, output);
                row += 8;
            }
        }
        while row + 4 <= rows {
            self.group::<S, 4>(simd, row, output);
            row += 4;
        }
        for row in row..rows {
            self.group::<S, 1>(simd, row, output);
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, first_row: usize, output: &mut [f32]) {
        let product = self.product;
        let (panel, _) = S::as_simd_f32s(self.panel);
        let per_panel = PANEL / S::F32_LANES;
        for sub in (0..per_panel).step_by(2) {
            let mut tile = Tile::<S, ROWS>::zero(simd);
            for (right, pair) in panel.chunks_exact(per_panel).zip(self.pairs) {
                let left = &product.left[pair.to as usize * product.left_stride + first_row..][..ROWS];
                tile.add(simd, |i| left[i], [right[sub], right[sub + 1]]);
            }
            let column = sub * S::F32_LANES;
            let width = self.width.saturating_sub(column).min(2 * S::F32_LANES);
            for (i, sums) in tile.0.into_iter().enumerate() {
                let start = (first_row + i) * product.output_stride + self.first + column;
                if width > 0 {
                    store(simd, sums, &mut output[start..][..width], true);
                }
            }
        }
    }
}
