//! Sums of outer products of listed rows: the gradients of filters.

use super::indexed::{IDENTITY, IndexedRow};
use super::packed::HALF;
use super::tile::{Columns, Tile, groups, most_rows, with_rows};
use crate::cpu::simd::prefetch;
use crate::device::AlignedBuf;
use pulp::{Arch, Simd, WithSimd};
use std::cell::RefCell;
use std::ops::Range;

/// Pairs of one block, of whose rows [`HALF`] numbers of each operand stay in the first-level cache.
const PAIR_BLOCK: usize = 120;
/// Rows and columns of the output of one block, of whose operands copies stay in the second-level cache.
const BLOCK: usize = 512;

/// Blocks of both operands, [`HALF`] numbers of the rows of all pairs after the other.
struct Gathered {
    left: AlignedBuf,
    right: AlignedBuf,
}

thread_local! {
    static GATHERED: RefCell<Gathered> = const { RefCell::new(Gathered { left: AlignedBuf::new(), right: AlignedBuf::new() }) };
}

/// `output[m, n] (+)= sum over pairs of left[to, m] * right[from, n]`, summed in the order of the pairs.
#[derive(Clone, Copy, Debug)]
pub struct OuterGemm<'a> {
    /// Rows of `left_stride` numbers, of which `rows` count, indexed by [`IndexedRow::to`].
    pub left: &'a [f32],
    /// Distance between rows of `left`.
    pub left_stride: usize,
    /// Rows of `right_stride` numbers, of which `columns` count, indexed by [`IndexedRow::from`].
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

impl OuterGemm<'_> {
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
    pub fn run(&self, pairs: &[IndexedRow], output: &mut [f32]) {
        GATHERED.with_borrow_mut(|gathered| Arch::new().dispatch(OuterKernel { product: self, pairs, output, gathered }));
    }
}

struct OuterKernel<'a> {
    product: &'a OuterGemm<'a>,
    pairs: &'a [IndexedRow],
    output: &'a mut [f32],
    gathered: &'a mut Gathered,
}

impl WithSimd for OuterKernel<'_> {
    type Output = ();
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, pairs, output, gathered } = self;
        let mut accumulate = product.accumulate;
        let mut blocks = pairs.chunks(PAIR_BLOCK).peekable();
        while let Some(pairs) = blocks.next() {
            let following = blocks.peek().copied().unwrap_or_default();
            for first_column in (0..product.columns).step_by(BLOCK) {
                let columns = first_column..product.columns.min(first_column + BLOCK);
                let starts = pairs.iter().map(|pair| pair.from as usize * product.right_stride);
                gather(product.right, starts, &columns, &mut gathered.right);
                for first_row in (0..product.rows).step_by(BLOCK) {
                    let rows = first_row..product.rows.min(first_row + BLOCK);
                    let starts = pairs.iter().map(|pair| pair.to as usize * product.left_stride);
                    gather(product.left, starts, &rows, &mut gathered.left);
                    let block = OuterBlock { product, gathered, pairs: pairs.len(), rows, columns: columns.clone(), accumulate };
                    block.run(simd, following, output);
                }
            }
            accumulate = true;
        }
    }
}

/// AlignedBuf from one half of the rows to the next: an odd number, so that the halves of a row lie in different sets of the cache.
const fn distance(rows: usize) -> usize {
    rows | 1
}

/// Copies the numbers `range` of the rows that begin at `starts`, [`HALF`] numbers of all rows after the other: where they lie, rows whose
/// distance is a power of two would share a few sets of the cache.
#[inline(always)]
fn gather(from: &[f32], starts: impl ExactSizeIterator<Item = usize>, range: &Range<usize>, to: &mut AlignedBuf) {
    let distance = distance(starts.len());
    to.grow(distance * range.len().next_multiple_of(HALF));
    let (to, _) = to.as_chunks_mut::<HALF>();
    for (row, start) in starts.enumerate() {
        let (halves, rest) = from[start + range.start..][..range.len()].as_chunks::<HALF>();
        for (number, half) in halves.iter().enumerate() {
            to[number * distance + row] = *half;
        }
        if !rest.is_empty() {
            to[halves.len() * distance + row][..rest.len()].copy_from_slice(rest);
        }
    }
}

/// A block of the output; what was gathered of the operands beyond `rows` and `columns` is undefined.
struct OuterBlock<'a> {
    product: &'a OuterGemm<'a>,
    gathered: &'a Gathered,
    pairs: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    accumulate: bool,
}

impl OuterBlock<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, following: &[IndexedRow], output: &mut [f32]) {
        let (stride, step, distance) = (self.product.output_stride, 2 * S::F32_LANES, distance(self.pairs));
        let (left, right) = (self.gathered.left.as_chunks::<HALF>().0, self.gathered.right.as_chunks::<HALF>().0);
        let halves = self.rows.len().div_ceil(HALF);
        // A few of them at each tile: the processor waits where more are asked for than it can keep track of.
        let tiles = self.columns.len().div_ceil(step) * halves * HALF.div_ceil(most_rows::<S>());
        let mut following = following.chunks(following.len().div_ceil(tiles).max(1));
        for column in (0..self.columns.len()).step_by(step) {
            let columns = Columns::new::<S>(column, |half| right.get(half * distance..)?.get(..self.pairs));
            let width = (self.columns.len() - column).min(step);
            for half in 0..halves {
                let left = &left[half * distance..][..self.pairs];
                let rows = HALF.min(self.rows.len() - half * HALF);
                for group in groups(rows, most_rows::<S>()) {
                    self.prefetch(following.next().unwrap_or_default());
                    let first_row = self.rows.start + half * HALF + group.start;
                    with_rows!(group.len(), ROWS => {
                        let tile = Tile::<S, ROWS>::of_pairs(simd, left, group.start, columns);
                        let start = first_row * stride + self.columns.start + column;
                        tile.store(simd, output, std::array::from_fn(|i| start + i * stride), width, self.accumulate);
                    });
                }
            }
        }
    }

    /// Asks for the operands of pairs to come.
    #[inline(always)]
    fn prefetch(&self, pairs: &[IndexedRow]) {
        let OuterGemm { left, left_stride, right, right_stride, .. } = *self.product;
        for pair in pairs {
            prefetch(&right[pair.from as usize * right_stride..][self.columns.clone()]);
            prefetch(&left[pair.to as usize * left_stride..][self.rows.clone()]);
        }
    }
}
