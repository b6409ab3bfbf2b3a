//! The loops around a kernel: quantising rows and pruning pairs.

use super::error_bound::KEEPS_NONE;
use super::kernel::{AnchorTile, Int8Kernel, RowTile, pieces};
use super::{ANCHOR_TILE, AnchorBlock, QuantizedAnchors, QuantizedRows, ROW_TILE, RowBlock, WORDS, Words};
use pulp::NullaryFnOnce;

/// Quantises `count` anchors.
pub(super) struct QuantizeAnchors<'a, K, F> {
    pub(super) kernel: K,
    pub(super) anchor: F,
    pub(super) count: usize,
    /// `(anchor_tiles, blocks)`.
    pub(super) codes: &'a mut [AnchorBlock],
    /// `(anchor_tiles, ANCHOR_TILE)`, like the next two.
    pub(super) offset_corrections: &'a mut [i32],
    pub(super) scales: &'a mut [f32],
    pub(super) error_bounds: &'a mut [f32],
    /// Room for the codes of one anchor, `(blocks)`.
    pub(super) words: &'a mut [Words],
}

impl<'b, K: Int8Kernel, F: Fn(usize) -> &'b [f32]> NullaryFnOnce for QuantizeAnchors<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let blocks = self.words.len();
        for index in 0..self.count {
            let quantized = self.kernel.quantize((self.anchor)(index), self.words.iter_mut());
            (self.scales[index], self.error_bounds[index]) = (quantized.scale, quantized.error_bound);
            let anchor_tile = &mut self.codes[index / ANCHOR_TILE * blocks..][..blocks];
            for (block, words) in anchor_tile.iter_mut().zip(&mut *self.words) {
                self.offset_corrections[index] = self.offset_corrections[index].wrapping_add(to_signed(words, K::ZERO_POINT));
                for (to, &word) in block.iter_mut().zip(&*words) {
                    to[index % ANCHOR_TILE] = word;
                }
            }
        }
    }
}

/// Takes the zero point out of codes, and returns what that of the other side adds to their products.
#[inline(always)]
fn to_signed(words: &mut Words, zero_point: u8) -> i32 {
    let codes: &mut [u8; 4 * WORDS] = bytemuck::cast_mut(words);
    let mut sum = 0;
    for code in codes {
        *code = code.wrapping_sub(zero_point);
        sum += i32::from(*code as i8);
    }
    i32::from(zero_point) * sum
}

/// Quantises rows. The last tile is filled up with empty ones.
pub(super) struct QuantizeRows<'a, K, F> {
    pub(super) kernel: K,
    pub(super) row: F,
    pub(super) count: usize,
    /// `(row_tiles, blocks)`.
    pub(super) codes: &'a mut [RowBlock],
    /// `(row_tiles, ROW_TILE)`, like the next.
    pub(super) scales: &'a mut [f32],
    pub(super) error_bounds: &'a mut [f32],
}

impl<'b, K: Int8Kernel, F: Fn(usize) -> &'b [f32]> NullaryFnOnce for QuantizeRows<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        let blocks = self.codes.len() / (self.error_bounds.len() / ROW_TILE).max(1);
        for index in 0..self.error_bounds.len() {
            let values = if index < self.count { (self.row)(index) } else { &[] };
            let row_tile = self.codes[index / ROW_TILE * blocks..][..blocks].iter_mut();
            let quantized = self.kernel.quantize(values, row_tile.map(|block| &mut block[index % ROW_TILE]));
            (self.scales[index], self.error_bounds[index]) = (quantized.scale, quantized.error_bound);
        }
    }
}

/// See [`super::Pruner::prune`].
pub(super) struct Prune<'a, K, F> {
    pub(super) kernel: K,
    pub(super) anchors: QuantizedAnchors<'a>,
    pub(super) rows: QuantizedRows<'a>,
    pub(super) thresholds: (&'a [f32], &'a [f32]),
    pub(super) to_prefetch: &'a [f32],
    pub(super) found: F,
}

impl<K: Int8Kernel, F: FnMut(usize, usize, u32)> NullaryFnOnce for Prune<'_, K, F> {
    type Output = ();
    #[inline(always)]
    fn call(mut self) {
        let (anchor_tiles, row_tiles) = (self.anchors.error_bounds.len() / ANCHOR_TILE, self.rows.error_bounds.len() / ROW_TILE);
        let mut to_prefetch = pieces(self.to_prefetch, anchor_tiles * row_tiles);
        for first in (0..anchor_tiles * ANCHOR_TILE).step_by(ANCHOR_TILE) {
            let anchor_tile = self.anchor_tile(first);
            for row in (0..row_tiles * ROW_TILE).step_by(ROW_TILE) {
                let row_tile = self.row_tile(row, to_prefetch.next().unwrap_or_default());
                let Some(bits) = self.kernel.compare(&anchor_tile, &row_tile) else { continue };
                // Tiles are filled up with what is no anchor and no row.
                let inside = u32::MAX >> (u32::BITS as usize - ANCHOR_TILE.min(self.anchors.count - first));
                for (place, bits) in bits.into_iter().enumerate().take(self.rows.count - row) {
                    if bits & inside != 0 {
                        (self.found)(row + place, first, bits & inside);
                    }
                }
            }
        }
    }
}

impl<'a, K, F> Prune<'a, K, F> {
    #[inline(always)]
    fn anchor_tile(&self, first: usize) -> AnchorTile<'a> {
        let anchors = &self.anchors;
        let blocks = anchors.codes.len() / (anchors.error_bounds.len() / ANCHOR_TILE);
        AnchorTile {
            codes: &anchors.codes[first / ANCHOR_TILE * blocks..][..blocks],
            offset_corrections: part(anchors.offset_corrections, first),
            scales: part(anchors.scales, first),
            error_bounds: part(anchors.error_bounds, first),
            thresholds: part(self.thresholds.0, first),
        }
    }

    #[inline(always)]
    fn row_tile(&self, first: usize, to_prefetch: &'a [f32]) -> RowTile<'a> {
        let rows = &self.rows;
        let blocks = rows.codes.len() / (rows.error_bounds.len() / ROW_TILE);
        let mut thresholds = [KEEPS_NONE; ROW_TILE];
        for (to, &threshold) in thresholds.iter_mut().zip(self.thresholds.1.get(first..).unwrap_or_default()) {
            *to = threshold;
        }
        RowTile {
            codes: &rows.codes[first / ROW_TILE * blocks..][..blocks],
            scales: part(rows.scales, first),
            error_bounds: part(rows.error_bounds, first),
            thresholds,
            to_prefetch,
        }
    }
}

/// `N` numbers of a tile.
#[inline(always)]
fn part<T, const N: usize>(numbers: &[T], first: usize) -> &[T; N] {
    numbers[first..].first_chunk().expect("tiles are whole")
}
