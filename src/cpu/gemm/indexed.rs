//! Products of listed left rows and a packed right operand: convolutions list the pixels that a filter tap connects, as pairs of row numbers.
//! While a block of rows meets the panels of the right operand, the next one is prefetched.

use super::packed::{HALF, PANEL, in_panel, packed_len};
use super::tile::Tile;
use crate::cpu::simd::prefetch;
use crate::device::AlignedBuf;
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;
use std::ops::Range;

/// Inner dimension up to which half a panel stays in the first-level cache.
const DEPTH_BLOCK: usize = 256;

/// Rows of the left operand that stay in the second-level cache while the panels pass: a multiple of every tile's rows.
const ROW_BLOCK: usize = 120;

thread_local! {
    /// A block of the left operand, row after row.
    static GATHERED: RefCell<AlignedBuf> = const { RefCell::new(AlignedBuf::new()) };
}

/// A row of one operand and the row of the other (or of the output) it meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexedRow {
    /// Row read.
    pub from: u32,
    /// Row written, or the row of the second operand.
    pub to: u32,
}

/// Most rows of a product without a list.
pub const IDENTITY_ROWS: usize = 128;

/// Every row with the row of the same number.
pub(super) const IDENTITY: [IndexedRow; IDENTITY_ROWS] = {
    let mut pairs = [IndexedRow { from: 0, to: 0 }; IDENTITY_ROWS];
    let mut row = 0;
    while row < IDENTITY_ROWS {
        pairs[row] = IndexedRow { from: row as u32, to: row as u32 };
        row += 1;
    }
    pairs
};

/// `output[to] (+)= left[from] * right` for every pair, where a row of `left` is `segments` runs of `depth` numbers.
#[derive(Debug)]
pub struct IndexedGemm<'a> {
    /// The left rows.
    pub left: &'a [f32],
    /// Distance between rows of `left`.
    pub left_stride: usize,
    /// Packed by [`super::pack()`]: `segments * depth` rows, `columns` columns.
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

impl<'a> IndexedGemm<'a> {
    /// Of dense left rows of `depth` numbers, each of one run, and dense output rows, which are overwritten.
    pub fn dense(left: &'a [f32], right: &'a [f32], depth: usize, columns: usize) -> Self {
        Self { left, left_stride: depth, right, depth, segments: (1, 0), columns, output_stride: columns, accumulate: false }
    }

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
    pub fn run(&self, pairs: &[IndexedRow], output: &mut [f32]) {
        let depth = self.segments.0 * self.depth;
        assert_eq!(self.right.len(), packed_len(depth, self.columns), "packed operand");
        if depth == 0 && !self.accumulate {
            pairs.iter().for_each(|pair| output[pair.to as usize * self.output_stride..][..self.columns].fill(0.0));
        }
        if depth > 0 {
            GATHERED.with_borrow_mut(|gathered| {
                Arch::new().dispatch(IndexedKernel { product: self, pairs, output, gathered });
            });
        }
    }
}

struct IndexedKernel<'a> {
    product: &'a IndexedGemm<'a>,
    pairs: &'a [IndexedRow],
    output: &'a mut [f32],
    gathered: &'a mut AlignedBuf,
}

impl WithSimd for IndexedKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, pairs, output, gathered } = self;
        let (segments, depth) = (product.segments.0, product.depth);
        let depth_block = if segments > 1 { depth } else { DEPTH_BLOCK };
        let mut blocks = pairs.chunks(ROW_BLOCK).peekable();
        while let Some(pairs) = blocks.next() {
            let following = blocks.peek().copied().unwrap_or_default();
            for start in (0..depth).step_by(depth_block) {
                let len = depth_block.min(depth - start);
                // The caches of processors with 512-bit vectors have more ways: there a copy costs more than it saves.
                let far = S::F32_LANES < 16 && segments == 1 && product.left_stride > DEPTH_BLOCK && product.columns > PANEL;
                if far {
                    product.gather(pairs, start..start + len, gathered);
                }
                let end = start + len;
                let next =
                    if end < depth { (pairs, end..depth.min(end + depth_block)) } else { (following, 0..depth.min(depth_block)) };
                let left = Left { product, pairs, start, len, gathered: far.then_some(&gathered[..]) };
                let accumulate = product.accumulate || start > 0;
                for (index, panel) in product.right.chunks_exact(PANEL * segments * depth).enumerate() {
                    product.prefetch((next.0, &next.1), index, product.columns.div_ceil(PANEL));
                    let first = index * PANEL;
                    let width = PANEL.min(product.columns - first);
                    let block = IndexedBlock { left, panel, first, width, accumulate };
                    block.run(simd, output);
                }
            }
        }
    }
}

impl IndexedGemm<'_> {
    /// Copies a range of the listed rows to one place: where they lie, rows whose distance is a power of two would share a few sets of
    /// the cache.
    #[inline(always)]
    fn gather(&self, pairs: &[IndexedRow], range: Range<usize>, gathered: &mut AlignedBuf) {
        gathered.grow(pairs.len() * range.len());
        for (to, pair) in gathered.chunks_exact_mut(range.len()).zip(pairs) {
            to.copy_from_slice(&self.left[pair.from as usize * self.left_stride + range.start..][..range.len()]);
        }
    }

    /// Asks for one of `parts` of a range of the listed rows.
    #[inline(always)]
    fn prefetch(&self, (pairs, range): (&[IndexedRow], &Range<usize>), part: usize, parts: usize) {
        if self.segments.0 == 1 {
            for pair in &pairs[part * pairs.len() / parts..(part + 1) * pairs.len() / parts] {
                prefetch(&self.left[pair.from as usize * self.left_stride..][range.clone()]);
            }
        }
    }
}

/// Numbers `start .. start + len` of the listed rows of the left operand.
#[derive(Clone, Copy)]
struct Left<'a> {
    product: &'a IndexedGemm<'a>,
    pairs: &'a [IndexedRow],
    start: usize,
    len: usize,
    gathered: Option<&'a [f32]>,
}

impl<'a> Left<'a> {
    #[inline(always)]
    fn row(&self, index: usize, segment: usize) -> &'a [f32] {
        match self.gathered {
            Some(gathered) => &gathered[index * self.len..][..self.len],
            None => {
                let start = self.pairs[index].from as usize * self.product.left_stride + segment * self.product.segments.1;
                &self.product.left[start + self.start..][..self.len]
            }
        }
    }
}

/// One panel and a range of the inner dimension.
struct IndexedBlock<'a> {
    left: Left<'a>,
    panel: &'a [f32],
    first: usize,
    width: usize,
    accumulate: bool,
}

impl IndexedBlock<'_> {
    /// Two vectors of columns after the other, so that they stay in the first-level cache while the rows pass.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, output: &mut [f32]) {
        for column in (0..self.width).step_by(2 * S::F32_LANES) {
            let mut row = 0;
            if S::F32_LANES >= 16 {
                self.groups::<S, 8>(simd, column, &mut row, 8, output);
            }
            // What is left of eight and seven rows keeps the multipliers busier as two groups of about the same size.
            self.groups::<S, 6>(simd, column, &mut row, 9, output);
            self.groups::<S, 4>(simd, column, &mut row, 7, output);
            self.groups::<S, 6>(simd, column, &mut row, 6, output);
            self.groups::<S, 4>(simd, column, &mut row, 4, output);
            self.groups::<S, 3>(simd, column, &mut row, 3, output);
            self.groups::<S, 1>(simd, column, &mut row, 1, output);
        }
    }

    /// Groups of rows while at least `least` are left.
    #[inline(always)]
    fn groups<S: Simd, const ROWS: usize>(&self, simd: S, column: usize, row: &mut usize, least: usize, output: &mut [f32]) {
        while *row + least <= self.left.pairs.len() {
            self.group::<S, ROWS>(simd, column, *row, output);
            *row += ROWS;
        }
    }

    #[inline(always)]
    fn group<S: Simd, const ROWS: usize>(&self, simd: S, column: usize, first_row: usize, output: &mut [f32]) {
        let Left { product, pairs, start, len, .. } = self.left;
        let mut tile = Tile::<S, ROWS>::zero(simd);
        let depth = product.segments.0 * product.depth;
        for segment in 0..product.segments.0 {
            let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = self.left.row(first_row + i, segment);
            }
            let right = |column: usize| {
                let first = in_panel(depth, segment * product.depth + start, column / HALF * HALF);
                (S::as_simd_f32s(&self.panel[first..][..len * HALF]).0, column % HALF / S::F32_LANES)
            };
            tile.add_rows(simd, rows, right(column), right(column + S::F32_LANES));
        }
        let width = (self.width - column).min(2 * S::F32_LANES);
        let starts = std::array::from_fn(|i| pairs[first_row + i].to as usize * product.output_stride + self.first + column);
        tile.store(simd, output, starts, width, self.accumulate);
    }
}
