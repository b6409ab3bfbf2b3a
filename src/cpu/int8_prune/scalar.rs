//! The codes of AVX-512 in plain loops, for any processor: what counts pairs ([`super::each_candidate`]), and what the quick ones are read
//! beside. Codes of a row are as fine as its largest number allows, and sums of products have 32 bits, as on a tensor core.

use super::error_bound::Quantized;
use super::kernel::{AnchorTile, Int8Kernel, RowTile};
use super::{ANCHOR_TILE, BLOCK_CODES, ROW_TILE, Words};
use crate::cpu::simd::vectorized;
use pulp::NullaryFnOnce;

/// Largest code.
pub(super) const LARGEST: f32 = 127.0;
pub(super) const ZERO_POINT: u8 = 128;
/// A sum with this is rounded to a whole number, whose last byte is the code with the zero point added.
pub(super) const WHOLE: f32 = 1.5 * (1 << 23) as f32 + ZERO_POINT as f32;
/// What the numbers of a row that is about zero are compared with.
pub(super) const SMALLEST: f32 = 1e-30;
/// Longest rows whose products fit, with the zero point added to one row's codes.
pub(super) const LARGEST_DIM: usize = i32::MAX as usize / (255 * 127);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

impl Int8Kernel for Scalar {
    const ZERO_POINT: u8 = ZERO_POINT;

    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output {
        vectorized(
            #[inline(always)]
            || work.call(),
        )
    }

    #[inline(always)]
    fn quantize<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Quantized {
        let largest = values.iter().fold(SMALLEST, |largest, value| largest.max(value.abs()));
        let (scale, inverse_scale) = (largest * (1.0 / LARGEST), LARGEST / largest);
        let (mut squares, mut differences) = (0.0, 0.0);
        for (index, block) in blocks.enumerate() {
            let codes: &mut [u8; BLOCK_CODES] = bytemuck::cast_mut(block);
            for (place, code) in codes.iter_mut().enumerate() {
                let value = values.get(index * BLOCK_CODES + place).copied().unwrap_or_default();
                let shifted = value.mul_add(inverse_scale, WHOLE);
                *code = shifted.to_bits() as u8;
                let difference = (WHOLE - shifted).mul_add(scale, value);
                squares += value * value;
                differences += difference * difference;
            }
        }
        Quantized::new(scale, if values.len() <= LARGEST_DIM { squares } else { f32::INFINITY }, differences)
    }

    #[inline(always)]
    fn compare(self, anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>) -> Option<[u32; ROW_TILE]> {
        let mut bits = [0; ROW_TILE];
        for (row, bits) in bits.iter_mut().enumerate() {
            let (scale, error_bound, threshold) = (row_tile.scales[row], row_tile.error_bounds[row], row_tile.thresholds[row]);
            for (anchor, product) in products(anchor_tile, row_tile, row).into_iter().enumerate() {
                let product = product as f32 * scale;
                let most = product.mul_add(anchor_tile.scales[anchor], anchor_tile.error_bounds[anchor] + error_bound);
                *bits |= u32::from(most > anchor_tile.thresholds[anchor].min(threshold)) << anchor;
            }
        }
        bits.iter().any(|&bits| bits != 0).then_some(bits)
    }
}

/// Products of a tile of anchors and one row.
#[inline(always)]
fn products(anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>, row: usize) -> [i32; ANCHOR_TILE] {
    let mut sums = anchor_tile.offset_corrections.map(i32::wrapping_neg);
    for (anchors, rows) in anchor_tile.codes.iter().zip(row_tile.codes) {
        for (anchors, row) in anchors.iter().zip(rows[row]) {
            let row: [u8; 4] = bytemuck::cast(row);
            for (sum, &anchor) in sums.iter_mut().zip(anchors) {
                let anchor: [i8; 4] = bytemuck::cast(anchor);
                let products = row.iter().zip(anchor).map(|(&row, anchor)| i32::from(row) * i32::from(anchor));
                *sum = sum.wrapping_add(products.sum());
            }
        }
    }
    sums
}
