//! With AVX2: two products of codes are summed in 16 bits by one instruction. Half a tile of anchors in two vectors, half a tile of rows
//! broadcast, 12 sums in 16 registers.
//!
//! All codes are equally fine, so that a product of rows of length 1 fits into 16 bits. The sums may overflow on the way; what they amount
//! to fits, and additions that wrap around do not mind. Bound: arithmetic.

use super::error_bound::{MAX_NORM, Quantized};
use super::kernel::{AnchorTile, Int8Kernel, RowTile, pieces};
use super::{ANCHOR_TILE, BLOCK_CODES, ROW_TILE, Words};
use crate::cpu::simd::prefetch;
use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast, f32x8, i32x8};
use std::arch::x86_64::{__m256, __m256i};

/// A row is multiplied by this and rounded; numbers that are then too large for a code take the largest.
const INVERSE_SCALE: f32 = 178.0;
const _: () = assert!(
    (INVERSE_SCALE * MAX_NORM) * (INVERSE_SCALE * MAX_NORM) < i16::MAX as f32,
    "products fit with their sign, by Cauchy-Schwarz"
);
/// Largest code.
const LARGEST: u8 = 90;
const _: () = assert!(2 * (2 * LARGEST as i32) * LARGEST as i32 <= i16::MAX as i32, "sums of two products do not saturate");

const LANES: usize = 8;
/// Vectors of a tile.
const VECTORS: usize = 2;
/// Rows of a tile.
const ROWS: usize = 6;
const WIDTH: usize = VECTORS * LANES;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(V3);

impl Avx2 {
    pub(super) fn try_new() -> Option<Self> {
        V3::try_new().map(Self)
    }
}

impl Int8Kernel for Avx2 {
    const ZERO_POINT: u8 = LARGEST;

    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output {
        self.0.vectorize(work)
    }

    #[inline(always)]
    fn quantize<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Quantized {
        const SCALE: f32 = 1.0 / INVERSE_SCALE;
        let (avx, avx2, fma) = (self.0.avx, self.0.avx2, self.0.fma);
        let (inverse_scale, scale, zero_point) =
            (avx._mm256_set1_ps(INVERSE_SCALE), avx._mm256_set1_ps(SCALE), avx._mm256_set1_epi8(LARGEST as i8));
        let (most, least) = (avx._mm256_set1_ps(f32::from(LARGEST)), avx._mm256_set1_ps(-f32::from(LARGEST)));
        let (mut squares, mut differences) = ([avx._mm256_setzero_ps(); 2], [avx._mm256_setzero_ps(); 2]);
        let (full, rest) = values.as_chunks::<BLOCK_CODES>();
        let mut last = [0.0; BLOCK_CODES];
        last[..rest.len()].copy_from_slice(rest);
        for (index, block) in blocks.enumerate() {
            let values: &[f32x8; 4] = bytemuck::cast_ref(full.get(index).unwrap_or(&last));
            let mut whole = [avx._mm256_setzero_si256(); 4];
            for (vector, whole) in whole.iter_mut().enumerate() {
                let values = cast(values[vector]);
                let scaled = avx._mm256_min_ps(avx._mm256_max_ps(avx._mm256_mul_ps(values, inverse_scale), least), most);
                *whole = avx._mm256_cvtps_epi32(scaled);
                let code = avx._mm256_cvtepi32_ps(*whole);
                let difference = fma._mm256_fnmadd_ps(code, scale, values);
                squares[vector % 2] = fma._mm256_fmadd_ps(code, code, squares[vector % 2]);
                differences[vector % 2] = fma._mm256_fmadd_ps(difference, difference, differences[vector % 2]);
            }
            let pairs = [avx2._mm256_packs_epi32(whole[0], whole[1]), avx2._mm256_packs_epi32(whole[2], whole[3])];
            // Packing works on halves of vectors: codes are out of order, in the same way for all rows.
            let bytes = avx2._mm256_add_epi8(avx2._mm256_packs_epi16(pairs[0], pairs[1]), zero_point);
            *block = bytemuck::cast::<i32x8, _>(cast(bytes));
        }
        Quantized::new(SCALE, SCALE * SCALE * sum(squares), sum(differences))
    }

    #[inline(always)]
    fn compare(self, anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>) -> Option<[u32; ROW_TILE]> {
        let (mut bits, mut to_prefetch) = ([0; ROW_TILE], pieces(row_tile.to_prefetch, ANCHOR_TILE / WIDTH * (ROW_TILE / ROWS)));
        for first in (0..ANCHOR_TILE).step_by(WIDTH) {
            for (rows, bits) in bits.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                let to_prefetch = to_prefetch.next().unwrap_or_default();
                self.compare_tile(anchor_tile, row_tile, (first, rows * ROWS), to_prefetch, bits);
            }
        }
        bits.iter().any(|&bits| bits != 0).then_some(bits)
    }
}

impl Avx2 {
    /// Compares the anchors and rows from the first ones on.
    #[inline(always)]
    fn compare_tile(
        self,
        anchor_tile: &AnchorTile<'_>,
        row_tile: &RowTile<'_>,
        (first, first_row): (usize, usize),
        to_prefetch: &[f32],
        bits: &mut [u32; ROWS],
    ) {
        let (avx, fma) = (self.0.avx, self.0.fma);
        let products = self.products(anchor_tile, row_tile, (first, first_row), to_prefetch);
        let part = |numbers: &[f32; ANCHOR_TILE]| floats(&numbers[first..][..WIDTH]);
        let (scales, error_bounds, thresholds) =
            (part(anchor_tile.scales), part(anchor_tile.error_bounds), part(anchor_tile.thresholds));
        for (row, bits) in bits.iter_mut().enumerate() {
            let one = |numbers: &[f32; ROW_TILE]| avx._mm256_set1_ps(numbers[first_row + row]);
            let (scale, error_bound, threshold) = (one(row_tile.scales), one(row_tile.error_bounds), one(&row_tile.thresholds));
            for vector in 0..VECTORS {
                let product = avx._mm256_mul_ps(avx._mm256_cvtepi32_ps(products[row][vector]), scale);
                let most = fma._mm256_fmadd_ps(product, scales[vector], avx._mm256_add_ps(error_bounds[vector], error_bound));
                let above =
                    avx._mm256_cmp_ps::<{ std::arch::x86_64::_CMP_GT_OQ }>(most, avx._mm256_min_ps(thresholds[vector], threshold));
                *bits |= (avx._mm256_movemask_ps(above) as u32) << (first + vector * LANES);
            }
        }
    }

    #[inline(always)]
    fn products(
        self,
        anchor_tile: &AnchorTile<'_>,
        row_tile: &RowTile<'_>,
        (first, first_row): (usize, usize),
        to_prefetch: &[f32],
    ) -> [[__m256i; VECTORS]; ROWS] {
        let (avx, avx2) = (self.0.avx, self.0.avx2);
        let mut sums = [[avx._mm256_setzero_si256(); VECTORS]; ROWS];
        let mut to_prefetch = pieces(to_prefetch, row_tile.codes.len());
        for (anchors, rows) in anchor_tile.codes.iter().zip(row_tile.codes) {
            prefetch(to_prefetch.next().unwrap_or_default());
            for (word, anchors) in anchors.iter().enumerate() {
                let anchors = whole(&anchors[first..][..WIDTH]);
                for (row, sums) in rows[first_row..][..ROWS].iter().zip(&mut sums) {
                    let row = avx._mm256_set1_epi32(row[word]);
                    for (sum, &anchors) in sums.iter_mut().zip(&anchors) {
                        *sum = avx2._mm256_add_epi16(*sum, avx2._mm256_maddubs_epi16(row, anchors));
                    }
                }
            }
        }
        let offset_corrections = whole(&anchor_tile.offset_corrections[first..][..WIDTH]);
        for sums in &mut sums {
            for (sum, &offset_correction) in sums.iter_mut().zip(&offset_corrections) {
                // The two sums of a pair amount to its product, of which the lower 16 bits are right.
                let both = avx2._mm256_madd_epi16(*sum, avx._mm256_set1_epi16(1));
                let shifted = avx2._mm256_slli_epi32::<16>(avx2._mm256_sub_epi32(both, offset_correction));
                *sum = avx2._mm256_srai_epi32::<16>(shifted);
            }
        }
        sums
    }
}

#[inline(always)]
fn sum(vectors: [__m256; 2]) -> f32 {
    let [first, second]: [[f32; LANES]; 2] =
        [bytemuck::cast::<f32x8, _>(cast(vectors[0])), bytemuck::cast::<f32x8, _>(cast(vectors[1]))];
    let mut sums = [0.0; LANES / 2];
    for (lane, sum) in sums.iter_mut().enumerate() {
        *sum = (first[lane] + second[lane]) + (first[lane + LANES / 2] + second[lane + LANES / 2]);
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// The vectors of a tile's numbers.
#[inline(always)]
fn floats(numbers: &[f32]) -> [__m256; VECTORS] {
    let vectors: &[f32x8] = bytemuck::cast_slice(numbers);
    [cast(vectors[0]), cast(vectors[1])]
}

#[inline(always)]
fn whole(numbers: &[i32]) -> [__m256i; VECTORS] {
    let vectors: &[i32x8] = bytemuck::cast_slice(numbers);
    [cast(vectors[0]), cast(vectors[1])]
}
