//! With AVX2: two products of codes are summed in 16 bits by one instruction. Half a strip in two vectors, half a group broadcast, 12 sums in
//! 16 registers.
//!
//! All codes are equally fine, so that a product of rows of length 1 fits into 16 bits. The sums may overflow on the way; what they amount
//! to fits, and additions that wrap around do not mind. Bound: arithmetic.

use super::error_bound::{Encoded, LONGEST};
use super::kernel::{Group, Kernel, Strip, pieces};
use super::{CODES, GROUP, STRIP, Words};
use crate::cpu::simd::prefetch;
use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast, f32x8, i32x8};
use std::arch::x86_64::{__m256, __m256i};

/// A row is multiplied by this and rounded; numbers that are then too large for a code take the largest.
const SCALE: f32 = 178.0;
const _: () = assert!((SCALE * LONGEST) * (SCALE * LONGEST) < i16::MAX as f32, "products fit with their sign, by Cauchy-Schwarz");
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

impl Kernel for Avx2 {
    const SHIFT: u8 = LARGEST;

    fn vectorize<W: NullaryFnOnce>(self, work: W) -> W::Output {
        self.0.vectorize(work)
    }

    #[inline(always)]
    fn encode<'a>(self, values: &[f32], blocks: impl Iterator<Item = &'a mut Words>) -> Encoded {
        const STEP: f32 = 1.0 / SCALE;
        let (avx, avx2, fma) = (self.0.avx, self.0.avx2, self.0.fma);
        let (scale, step, shift) = (avx._mm256_set1_ps(SCALE), avx._mm256_set1_ps(STEP), avx._mm256_set1_epi8(LARGEST as i8));
        let (most, least) = (avx._mm256_set1_ps(f32::from(LARGEST)), avx._mm256_set1_ps(-f32::from(LARGEST)));
        let (mut squares, mut differences) = ([avx._mm256_setzero_ps(); 2], [avx._mm256_setzero_ps(); 2]);
        let (full, rest) = values.as_chunks::<CODES>();
        let mut last = [0.0; CODES];
        last[..rest.len()].copy_from_slice(rest);
        for (index, block) in blocks.enumerate() {
            let values: &[f32x8; 4] = bytemuck::cast_ref(full.get(index).unwrap_or(&last));
            let mut whole = [avx._mm256_setzero_si256(); 4];
            for (vector, whole) in whole.iter_mut().enumerate() {
                let values = cast(values[vector]);
                let scaled = avx._mm256_min_ps(avx._mm256_max_ps(avx._mm256_mul_ps(values, scale), least), most);
                *whole = avx._mm256_cvtps_epi32(scaled);
                let code = avx._mm256_cvtepi32_ps(*whole);
                let difference = fma._mm256_fnmadd_ps(code, step, values);
                squares[vector % 2] = fma._mm256_fmadd_ps(code, code, squares[vector % 2]);
                differences[vector % 2] = fma._mm256_fmadd_ps(difference, difference, differences[vector % 2]);
            }
            let pairs = [avx2._mm256_packs_epi32(whole[0], whole[1]), avx2._mm256_packs_epi32(whole[2], whole[3])];
            // Packing works on halves of vectors: codes are out of order, in the same way for all rows.
            let bytes = avx2._mm256_add_epi8(avx2._mm256_packs_epi16(pairs[0], pairs[1]), shift);
            *block = bytemuck::cast::<i32x8, _>(cast(bytes));
        }
        Encoded::new(STEP, STEP * STEP * sum(squares), sum(differences))
    }

    #[inline(always)]
    fn compare(self, strip: &Strip<'_>, group: &Group<'_>) -> Option<[u32; GROUP]> {
        let (mut bits, mut ahead) = ([0; GROUP], pieces(group.ahead, STRIP / WIDTH * (GROUP / ROWS)));
        for first in (0..STRIP).step_by(WIDTH) {
            for (rows, bits) in bits.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
                let ahead = ahead.next().unwrap_or_default();
                self.compare_tile(strip, group, (first, rows * ROWS), ahead, bits);
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
        strip: &Strip<'_>,
        group: &Group<'_>,
        (first, first_row): (usize, usize),
        ahead: &[f32],
        bits: &mut [u32; ROWS],
    ) {
        let (avx, fma) = (self.0.avx, self.0.fma);
        let products = self.products(strip, group, (first, first_row), ahead);
        let part = |numbers: &[f32; STRIP]| floats(&numbers[first..][..WIDTH]);
        let (steps, slacks, limits) = (part(strip.steps), part(strip.slacks), part(strip.limits));
        for (row, bits) in bits.iter_mut().enumerate() {
            let one = |numbers: &[f32; GROUP]| avx._mm256_set1_ps(numbers[first_row + row]);
            let (step, slack, limit) = (one(group.steps), one(group.slacks), one(&group.limits));
            for vector in 0..VECTORS {
                let product = avx._mm256_mul_ps(avx._mm256_cvtepi32_ps(products[row][vector]), step);
                let most = fma._mm256_fmadd_ps(product, steps[vector], avx._mm256_add_ps(slacks[vector], slack));
                let above = avx._mm256_cmp_ps::<{ std::arch::x86_64::_CMP_GT_OQ }>(most, avx._mm256_min_ps(limits[vector], limit));
                *bits |= (avx._mm256_movemask_ps(above) as u32) << (first + vector * LANES);
            }
        }
    }

    #[inline(always)]
    fn products(
        self,
        strip: &Strip<'_>,
        group: &Group<'_>,
        (first, first_row): (usize, usize),
        ahead: &[f32],
    ) -> [[__m256i; VECTORS]; ROWS] {
        let (avx, avx2) = (self.0.avx, self.0.avx2);
        let mut sums = [[avx._mm256_setzero_si256(); VECTORS]; ROWS];
        let mut ahead = pieces(ahead, group.codes.len());
        for (anchors, rows) in strip.codes.iter().zip(group.codes) {
            prefetch(ahead.next().unwrap_or_default());
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
        let corrections = whole(&strip.corrections[first..][..WIDTH]);
        for sums in &mut sums {
            for (sum, &correction) in sums.iter_mut().zip(&corrections) {
                // The two sums of a pair amount to its product, of which the lower 16 bits are right.
                let both = avx2._mm256_madd_epi16(*sum, avx._mm256_set1_epi16(1));
                let shifted = avx2._mm256_slli_epi32::<16>(avx2._mm256_sub_epi32(both, correction));
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
