//! With AVX-512 and its VNNI: four products of codes are added to a sum of 32 bits by one instruction. A tile of anchors in two vectors, a
//! tile of rows broadcast, 24 sums in 32 registers.
//!
//! Sums of 32 bits have room for any codes of rows up to [`LARGEST_DIM`], so that those of a row are as fine as its largest number allows:
//! error bounds are a fifth of those of AVX2 for 512 numbers that are normally distributed. Bound: arithmetic.

use super::error_bound::Quantized;
use super::kernel::{AnchorTile, Int8Kernel, RowTile, pieces};
use super::scalar::{LARGEST, LARGEST_DIM, SMALLEST, WHOLE, ZERO_POINT};
use super::{ANCHOR_TILE, AnchorBlock, BLOCK_CODES, ROW_TILE, RowBlock, WORDS, Words};
use crate::cpu::simd::prefetch;
use pulp::{NullaryFnOnce, cast, f32x16, i32x16, u8x16};
use std::arch::x86_64::{__m512, __m512i, _mm512_dpbusd_epi32};

pulp::simd_type! {
    /// What of AVX-512 is in every processor with its VNNI.
    pub(crate) struct Avx512 {
        pub popcnt: "popcnt",
        pub bmi1: "bmi1",
        pub bmi2: "bmi2",
        pub avx512f: "avx512f",
        pub avx512bw: "avx512bw",
        pub avx512dq: "avx512dq",
        pub avx512vl: "avx512vl",
        pub avx512vnni: "avx512vnni",
    }
}

const LANES: usize = 16;
/// Vectors of a tile of anchors.
const VECTORS: usize = ANCHOR_TILE / LANES;

impl Int8Kernel for Avx512 {
    const ZERO_POINT: u8 = ZERO_POINT;

    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output {
        Self::vectorize(self, work)
    }

    #[inline(always)]
    fn quantize<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Quantized {
        let avx = self.avx512f;
        let (full, rest) = values.as_chunks::<BLOCK_CODES>();
        let mut last = [0.0; BLOCK_CODES];
        last[..rest.len()].copy_from_slice(rest);
        let (largest, squares) = self.extent(full, &last);
        let largest = largest.max(SMALLEST);
        let scale = largest * (1.0 / LARGEST);
        let (scales, inverse_scale, whole) =
            (avx._mm512_set1_ps(scale), avx._mm512_set1_ps(LARGEST / largest), avx._mm512_set1_ps(WHOLE));
        let mut differences = [avx._mm512_setzero_ps(); 2];
        for (index, block) in blocks.enumerate() {
            let values = vectors(full.get(index).unwrap_or(&last));
            let codes: &mut [[u8; LANES]; 2] = bytemuck::cast_mut(block);
            for half in 0..2 {
                let shifted = avx._mm512_fmadd_ps(values[half], inverse_scale, whole);
                let code = avx._mm512_sub_ps(shifted, whole);
                let difference = avx._mm512_fnmadd_ps(code, scales, values[half]);
                differences[half] = avx._mm512_fmadd_ps(difference, difference, differences[half]);
                codes[half] = bytemuck::cast::<u8x16, _>(cast(avx._mm512_cvtepi32_epi8(avx._mm512_castps_si512(shifted))));
            }
        }
        let differences = avx._mm512_reduce_add_ps(avx._mm512_add_ps(differences[0], differences[1]));
        Quantized::new(scale, if values.len() <= LARGEST_DIM { squares } else { f32::INFINITY }, differences)
    }

    #[inline(always)]
    fn compare(self, anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>) -> Option<[u32; ROW_TILE]> {
        let avx = self.avx512f;
        let products = self.products(anchor_tile, row_tile);
        let (scales, error_bounds, thresholds) =
            (vectors(anchor_tile.scales), vectors(anchor_tile.error_bounds), vectors(anchor_tile.thresholds));
        let (mut bits, mut any) = ([0; ROW_TILE], 0);
        for (row, bits) in bits.iter_mut().enumerate() {
            let (scale, error_bound) = (avx._mm512_set1_ps(row_tile.scales[row]), avx._mm512_set1_ps(row_tile.error_bounds[row]));
            let threshold = avx._mm512_set1_ps(row_tile.thresholds[row]);
            for vector in 0..VECTORS {
                let product = avx._mm512_mul_ps(avx._mm512_cvtepi32_ps(products[row][vector]), scale);
                let most = avx._mm512_fmadd_ps(product, scales[vector], avx._mm512_add_ps(error_bounds[vector], error_bound));
                let above = avx._mm512_cmp_ps_mask::<{ std::arch::x86_64::_CMP_GT_OQ }>(
                    most,
                    avx._mm512_min_ps(thresholds[vector], threshold),
                );
                *bits |= u32::from(above) << (vector * LANES);
            }
            any |= *bits;
        }
        (any != 0).then_some(bits)
    }
}

impl Avx512 {
    /// Largest absolute number, and the sum of the squares.
    #[inline(always)]
    fn extent(self, full: &[[f32; BLOCK_CODES]], last: &[f32; BLOCK_CODES]) -> (f32, f32) {
        let avx = self.avx512f;
        let mut largest = [avx._mm512_setzero_ps(); 2];
        let mut squares = [avx._mm512_setzero_ps(); 2];
        for values in full.iter().chain([last]) {
            let values = vectors(values);
            for half in 0..2 {
                largest[half] = avx._mm512_max_ps(largest[half], avx._mm512_abs_ps(values[half]));
                squares[half] = avx._mm512_fmadd_ps(values[half], values[half], squares[half]);
            }
        }
        let largest = avx._mm512_reduce_max_ps(avx._mm512_max_ps(largest[0], largest[1]));
        (largest, avx._mm512_reduce_add_ps(avx._mm512_add_ps(squares[0], squares[1])))
    }

    /// Products of a tile of anchors and one of rows.
    #[inline(always)]
    fn products(self, anchor_tile: &AnchorTile<'_>, row_tile: &RowTile<'_>) -> [[__m512i; VECTORS]; ROW_TILE] {
        let avx = self.avx512f;
        let offset_corrections: &[i32x16; VECTORS] = bytemuck::cast_ref(anchor_tile.offset_corrections);
        let mut start = [avx._mm512_setzero_si512(); VECTORS];
        for (start, &offset_correction) in start.iter_mut().zip(offset_corrections) {
            *start = avx._mm512_sub_epi32(*start, cast(offset_correction));
        }
        let mut sums = [start; ROW_TILE];
        let mut to_prefetch = pieces(row_tile.to_prefetch, row_tile.codes.len());
        for (anchors, rows) in anchor_tile.codes.iter().zip(row_tile.codes) {
            prefetch(to_prefetch.next().unwrap_or_default());
            self.add_block(anchors, rows, &mut sums);
        }
        sums
    }

    #[inline(always)]
    fn add_block(self, anchors: &AnchorBlock, rows: &RowBlock, sums: &mut [[__m512i; VECTORS]; ROW_TILE]) {
        let anchors: &[[i32x16; VECTORS]; WORDS] = bytemuck::cast_ref(anchors);
        for (word, anchors) in anchors.iter().enumerate() {
            for (row, sums) in rows.iter().zip(&mut *sums) {
                let row = self.avx512f._mm512_set1_epi32(row[word]);
                for (sum, &anchors) in sums.iter_mut().zip(anchors) {
                    *sum = self.add_products(*sum, row, cast(anchors));
                }
            }
        }
    }

    /// Adds to each sum four products of codes without and with sign.
    #[inline(always)]
    fn add_products(self, sums: __m512i, unsigned: __m512i, signed: __m512i) -> __m512i {
        // SAFETY: a value of this type is made only where the processor has been found to have AVX-512 and VNNI.
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, signed) }
    }
}

/// The vectors of as many numbers as a tile has anchors and a block has codes.
#[inline(always)]
fn vectors(numbers: &[f32; ANCHOR_TILE]) -> [__m512; VECTORS] {
    let vectors: &[f32x16; VECTORS] = bytemuck::cast_ref(numbers);
    [cast(vectors[0]), cast(vectors[1])]
}
