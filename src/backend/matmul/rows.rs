//! Products over listed rows: the micro-kernels of the convolutions, which find their operands through pairs of row numbers.
//!
//! One tile of the output stays in registers while the inner dimension runs; the instruction set is chosen at run time.

use super::Matrix;
use pulp::{Arch, Simd, WithSimd};

/// Columns of one panel of a packed right operand.
pub const PANEL: usize = 32;

/// Inner dimension up to which a panel stays in the first-level cache.
const DEPTH_BLOCK: usize = 128;

/// Products between two checks of the operands' bounds.
const UNROLLED: usize = 8;

/// A row of one operand and the row of the other (or of the output) it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowPair {
    /// Row read.
    pub from: u32,
    /// Row written, or the row of the second operand.
    pub to: u32,
}

/// Most rows of a product without a list.
pub const IDENTITY_ROWS: usize = 128;

/// Every row with the row of the same number.
pub(super) const IDENTITY: [RowPair; IDENTITY_ROWS] = {
    let mut pairs = [RowPair { from: 0, to: 0 }; IDENTITY_ROWS];
    let mut row = 0;
    while row < IDENTITY_ROWS {
        pairs[row] = RowPair { from: row as u32, to: row as u32 };
        row += 1;
    }
    pairs
};

/// Length of a packed right operand of `depth` rows and `columns` columns.
pub fn packed_len(depth: usize, columns: usize) -> usize {
    columns.div_ceil(PANEL) * PANEL * depth
}

/// Packs a right operand into panels: panel `p` holds columns `p * PANEL ..` row after row, padded with zeros.
///
/// # Panics
/// If `packed` has not the length [`packed_len`] says or the view reaches past its data.
pub fn pack(right: Matrix<'_>, packed: &mut [f32]) {
    assert_eq!(packed.len(), packed_len(right.rows, right.columns), "packed operand");
    for (index, panel) in packed.chunks_exact_mut((PANEL * right.rows).max(1)).enumerate() {
        pack_panel(right, index, panel);
    }
}

/// Packs panel `index` of `right`; see [`pack`].
pub fn pack_panel(right: Matrix<'_>, index: usize, panel: &mut [f32]) {
    let first = index * PANEL;
    let width = PANEL.min(right.columns - first);
    let start = |k: usize, column: usize| k * right.row_stride + (first + column) * right.column_stride;
    if right.column_stride == 1 {
        for (k, row) in panel.chunks_exact_mut(PANEL).enumerate() {
            row[..width].copy_from_slice(&right.data[start(k, 0)..][..width]);
            row[width..].fill(0.0);
        }
        return;
    }
    const BLOCK: usize = 64;
    panel.fill(0.0);
    for block in (0..right.rows).step_by(BLOCK) {
        let len = BLOCK.min(right.rows - block);
        let panel = &mut panel[block * PANEL..][..len * PANEL];
        for column in 0..width {
            let numbers = &right.data[start(block, column)..][..(len - 1) * right.row_stride + 1];
            let numbers = numbers.iter().step_by(right.row_stride);
            for (row, &number) in panel.chunks_exact_mut(PANEL).zip(numbers) {
                row[column] = number;
            }
        }
    }
}

/// `output[to] (+)= left[from] * right` for every pair, where a row of `left` is `segments` runs of `depth` numbers.
#[derive(Debug)]
pub struct RowsProduct<'a> {
    /// The left rows.
    pub left: &'a [f32],
    /// Distance between rows of `left`.
    pub left_stride: usize,
    /// Packed by [`pack`]: `segments * depth` rows, `columns` columns.
    pub right: &'a [f32],
    /// Numbers of one run: the inner dimension, if there is one segment.
    pub depth: usize,
    /// Runs that make up a row of `left`, and the distance between them.
    pub segments: (usize, usize),
    /// Columns of the output.
    pub columns: usize,
    /// Distance between rows of the output.
    pub output_stride: usize,
    /// Whether to add to the output.
    pub accumulate: bool,
}

impl RowsProduct<'_> {
    /// Computes rows `0 .. rows`, each from the row of `left` of the same number.
    ///
    /// # Panics
    /// If there are more than [`IDENTITY_ROWS`] rows or an operand is too short.
    pub fn run_all(&self, rows: usize, output: &mut [f32]) {
        self.run(&IDENTITY[..rows], output);
    }

    /// Computes the product into the listed rows of `output`.
    ///
    /// # Panics
    /// If a pair points outside an operand.
    pub fn run(&self, pairs: &[RowPair], output: &mut [f32]) {
        let depth = self.segments.0 * self.depth;
        assert_eq!(self.right.len(), packed_len(depth, self.columns), "packed operand");
        if depth == 0 && !self.accumulate {
            pairs.iter().for_each(|pair| output[pair.to as usize * self.output_stride..][..self.columns].fill(0.0));
        }
        if depth > 0 {
            Arch::new().dispatch(RowsKernel { product: self, pairs, output });
        }
    }
}

struct RowsKernel<'a> {
    product: &'a RowsProduct<'a>,
    pairs: &'a [RowPair],
    output: &'a mut [f32],
}

impl WithSimd for RowsKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, pairs, output } = self;
        let (segments, depth) = (product.segments.0, product.depth);
        for (index, panel) in product.right.chunks_exact(PANEL * segments * depth).enumerate() {
            let first = index * PANEL;
            let width = PANEL.min(product.columns - first);
            if segments > 1 {
                let block = RowsBlock { product, start: 0, depth, panel, first, width, accumulate: product.accumulate };
                block.run(simd, pairs, output);
                continue;
            }
            for start in (0..depth).step_by(DEPTH_BLOCK) {
                let end = depth.min(start + DEPTH_BLOCK);
                let panel = &panel[start * PANEL..end * PANEL];
                let accumulate = product.accumulate || start > 0;
                let block = RowsBlock { product, start, depth: end - start, panel, first, width, accumulate };
                block.run(simd, pairs, output);
            }
        }
    }
}

/// One panel and a range of the inner dimension.
struct RowsBlock<'a> {
    product: &'a RowsProduct<'a>,
    start: usize,
    depth: usize,
    panel: &'a [f32],
    first: usize,
    width: usize,
    accumulate: bool,
}

impl RowsBlock<'_> {
    /// Two vectors of columns after the other, so that they stay in the first-level cache while the rows pass.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, pairs: &[RowPair], output: &mut [f32]) {
        for sub in (0..PANEL / S::F32_LANES).step_by(2) {
            let mut pairs = pairs;
            if S::F32_LANES >= 16 {
                self.groups::<S, 8>(simd, sub, &mut pairs, output);
            }
            self.groups::<S, 6>(simd, sub, &mut pairs, output);
            self.groups::<S, 4>(simd, sub, &mut pairs, output);
            self.groups::<S, 2>(simd, sub, &mut pairs, output);
            self.groups::<S, 1>(simd, sub, &mut pairs, output);
        }
    }

    #[inline(always)]
    fn groups<S: Simd, const ROWS: usize>(&self, simd: S, sub: usize, pairs: &mut &[RowPair], output: &mut [f32]) {
        while let Some((group, rest)) = pairs.split_first_chunk::<ROWS>() {
            self.group(simd, sub, group, output);
            *pairs = rest;
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, sub: usize, pairs: &[RowPair; ROWS], output: &mut [f32]) {
        let mut tile = Tile::<S, ROWS>::zero(simd);
        for (segment, panel) in self.panel.chunks_exact(self.depth * PANEL).enumerate() {
            let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
            for (row, pair) in rows.iter_mut().zip(pairs) {
                let start = pair.from as usize * self.product.left_stride + segment * self.product.segments.1;
                *row = &self.product.left[start + self.start..][..self.depth];
            }
            tile.add_rows(simd, sub, rows, panel);
        }
        let column = sub * S::F32_LANES;
        let width = self.width.saturating_sub(column).min(2 * S::F32_LANES);
        for (sums, pair) in tile.0.into_iter().zip(pairs) {
            let start = pair.to as usize * self.product.output_stride + self.first + column;
            if width > 0 {
                store(simd, sums, &mut output[start..][..width], self.accumulate);
            }
        }
    }
}

/// Sums of a few output rows and two vectors of columns, in registers.
pub(super) struct Tile<S: Simd, const ROWS: usize>(pub(super) [[S::f32s; 2]; ROWS]);

impl<S: Simd, const ROWS: usize> Tile<S, ROWS> {
    #[inline(always)]
    pub(super) fn zero(simd: S) -> Self {
        Self([[simd.splat_f32s(0.0); 2]; ROWS])
    }

    /// Adds the product of `rows` of the left operand with two vectors of columns, the `sub`-th of each row of `panel`.
    #[inline(always)]
    fn add_rows(&mut self, simd: S, sub: usize, rows: [&[f32]; ROWS], panel: &[f32]) {
        let (panel, _) = S::as_simd_f32s(panel);
        let per_row = PANEL / S::F32_LANES;
        let vectors = panel.chunks_exact(per_row * UNROLLED);
        let rest = vectors.remainder();
        let mut blocks = [&[[0.0; UNROLLED]; 0][..]; ROWS];
        let mut ends = [&[][..]; ROWS];
        for (i, row) in rows.into_iter().enumerate() {
            (blocks[i], ends[i]) = row.as_chunks();
        }
        for (index, vectors) in vectors.enumerate() {
            let mut block = [&[0.0; UNROLLED]; ROWS];
            for (block, rows) in block.iter_mut().zip(blocks) {
                *block = &rows[index];
            }
            for k in 0..UNROLLED {
                self.add(simd, |i| block[i][k], [vectors[k * per_row + sub], vectors[k * per_row + sub + 1]]);
            }
        }
        for (k, vectors) in rest.chunks_exact(per_row).enumerate() {
            self.add(simd, |i| ends[i][k], [vectors[sub], vectors[sub + 1]]);
        }
    }

    /// Adds the outer product of one column of the left operand and one row of the right one.
    #[inline(always)]
    pub(super) fn add(&mut self, simd: S, left: impl Fn(usize) -> f32, right: [S::f32s; 2]) {
        for (i, sums) in self.0.iter_mut().enumerate() {
            let left = simd.splat_f32s(left(i));
            sums[0] = simd.mul_add_e_f32s(left, right[0], sums[0]);
            sums[1] = simd.mul_add_e_f32s(left, right[1], sums[1]);
        }
    }
}

/// Writes or adds one row of a tile; `row` may be shorter than the tile.
#[inline(always)]
pub(super) fn store<S: Simd>(simd: S, sums: [S::f32s; 2], row: &mut [f32], accumulate: bool) {
    if row.len() == 2 * S::F32_LANES {
        let (row, _) = S::as_mut_simd_f32s(row);
        for (to, sum) in row.iter_mut().zip(sums) {
            *to = if accumulate { simd.add_f32s(*to, sum) } else { sum };
        }
    } else {
        let sums: &[f32] = bytemuck::cast_slice(&sums);
        for (to, &sum) in row.iter_mut().zip(sums) {
            *to = if accumulate { *to + sum } else { sum };
        }
    }
}
