//! With AVX2: a strip of anchors in two vectors, a group of rows broadcast, 12 sums in 16 registers.

use super::Sift;
use crate::backend::prefetch;
use crate::backend::sieve::codes::{CODES, LARGEST, NEVER, SCALE, WORDS, encode, slack};
use crate::backend::sieve::{AnchorBlock, GROUP, RowBlock, STRIP};
use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast, f32x8, i32x8};
use std::arch::x86_64::{__m256, __m256i};

/// Vectors of a strip.
const VECTORS: usize = 2;
const LANES: usize = STRIP / VECTORS;

/// A processor with the instructions that make this worth while.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sieve(V3);

impl Sieve {
    /// `None` on a processor that has nothing faster for codes than for 32-bit numbers.
    pub(crate) fn new() -> Option<Self> {
        V3::try_new().map(Self)
    }

    /// Encodes rows into `(groups, blocks)`, and writes their slacks. Groups are filled up with empty rows.
    pub(in crate::backend::sieve) fn encode_rows<'a>(
        self,
        row: impl Fn(usize) -> &'a [f32],
        blocks: usize,
        codes: &mut [RowBlock],
        slacks: &mut [i32],
    ) {
        self.0.vectorize(EncodeRows { simd: self.0, row, blocks, codes, slacks });
    }
}

struct EncodeRows<'a, F> {
    simd: V3,
    row: F,
    blocks: usize,
    codes: &'a mut [RowBlock],
    slacks: &'a mut [i32],
}

impl<'b, F: Fn(usize) -> &'b [f32]> NullaryFnOnce for EncodeRows<'_, F> {
    type Output = ();
    #[inline(always)]
    fn call(self) {
        for (row, slack) in self.slacks.iter_mut().enumerate() {
            let codes = &mut self.codes[row / GROUP * self.blocks..][..self.blocks];
            let values = (self.row)(row);
            *slack = encode_row(self.simd, values, codes, row % GROUP).unwrap_or_else(|| {
                // A code is larger than the largest.
                encode(values, |block, words| codes[block][row % GROUP] = words)
            });
        }
    }
}

/// As [`encode`], but for rows that have a code which is too large.
#[inline(always)]
fn encode_row(simd: V3, values: &[f32], codes: &mut [RowBlock], place: usize) -> Option<i32> {
    let (avx, avx2) = (simd.avx, simd.avx2);
    let shift = avx._mm256_set1_epi8(LARGEST);
    let (mut squares, mut rests) = ([avx._mm256_setzero_ps(); 2], [avx._mm256_setzero_ps(); 2]);
    let mut largest = shift;
    let (full, rest) = values.as_chunks::<CODES>();
    let mut last = [0.0; CODES];
    last[..rest.len()].copy_from_slice(rest);
    for (index, block) in codes.iter_mut().enumerate() {
        let values: &[f32x8; 4] = bytemuck::cast_ref(full.get(index).unwrap_or(&last));
        let mut whole = [avx._mm256_setzero_si256(); 4];
        for (vector, whole) in whole.iter_mut().enumerate() {
            let scaled = avx._mm256_mul_ps(cast(values[vector]), avx._mm256_set1_ps(SCALE));
            *whole = avx._mm256_cvtps_epi32(scaled);
            let code = avx._mm256_cvtepi32_ps(*whole);
            let difference = avx._mm256_sub_ps(scaled, code);
            squares[vector % 2] = simd.fma._mm256_fmadd_ps(code, code, squares[vector % 2]);
            rests[vector % 2] = simd.fma._mm256_fmadd_ps(difference, difference, rests[vector % 2]);
        }
        let pairs = [avx2._mm256_packs_epi32(whole[0], whole[1]), avx2._mm256_packs_epi32(whole[2], whole[3])];
        let bytes = avx2._mm256_packs_epi16(pairs[0], pairs[1]);
        largest = avx2._mm256_max_epu8(largest, avx2._mm256_abs_epi8(bytes));
        // Packing works on halves of vectors: their quarters are out of order.
        let bytes = avx2._mm256_permutevar8x32_epi32(bytes, avx._mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        block[place] = bytemuck::cast::<i32x8, _>(cast(avx2._mm256_add_epi8(bytes, shift)));
    }
    let fits = avx2._mm256_movemask_epi8(avx2._mm256_cmpeq_epi8(largest, shift)) == -1;
    fits.then(|| slack(sum(squares), sum(rests)))
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

impl<F: FnMut(usize, usize, u32)> Sift<'_, F> {
    pub(in crate::backend::sieve) fn run(self) {
        self.sieve.0.vectorize(self);
    }
}

impl<F: FnMut(usize, usize, u32)> NullaryFnOnce for Sift<'_, F> {
    type Output = ();
    #[inline(always)]
    fn call(mut self) {
        let (strips, groups) = (self.anchors.slacks.len() / STRIP, self.rows.slacks.len() / GROUP);
        if strips * groups == 0 {
            return;
        }
        let blocks = self.rows.codes.len() / groups;
        let mut ahead = self.ahead.chunks(self.ahead.len().div_ceil(strips * groups).max(1));
        for first in (0..strips * STRIP).step_by(STRIP) {
            let strip = Strip {
                simd: self.sieve.0,
                codes: &self.anchors.codes[first / STRIP * blocks..][..blocks],
                corrections: vectors(self.anchors.corrections, first),
                slacks: vectors(self.anchors.slacks, first),
                limits: vectors(self.limits.0, first),
            };
            for (group, codes) in self.rows.codes.chunks_exact(blocks).enumerate() {
                prefetch(ahead.next().unwrap_or_default());
                let row = group * GROUP;
                let limits = self.limits.1.get(row..).unwrap_or_default();
                strip.group(codes, &self.rows.slacks[row..], limits, |place, bits| {
                    // Strips and groups are filled up with what is no anchor and no row.
                    let bits = bits & (u32::MAX >> (u32::BITS as usize - STRIP.min(self.anchors.count - first)));
                    if row + place < self.rows.count && bits != 0 {
                        (self.found)(row + place, first, bits);
                    }
                });
            }
        }
    }
}

/// A strip of anchors.
struct Strip<'a> {
    simd: V3,
    codes: &'a [AnchorBlock],
    corrections: [__m256i; VECTORS],
    slacks: [__m256i; VECTORS],
    limits: [__m256i; VECTORS],
}

impl Strip<'_> {
    /// Compares with a group of rows.
    #[inline(always)]
    fn group(&self, codes: &[RowBlock], slacks: &[i32], limits: &[i32], mut found: impl FnMut(usize, u32)) {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let sums = self.products(codes);
        let ones = avx._mm256_set1_epi16(1);
        let mut any = avx._mm256_setzero_si256();
        let mut above = [[any; VECTORS]; GROUP];
        for (row, above) in above.iter_mut().enumerate() {
            let slack = avx._mm256_set1_epi32(slacks[row]);
            let limit = avx._mm256_set1_epi32(limits.get(row).copied().unwrap_or(NEVER));
            for (vector, above) in above.iter_mut().enumerate() {
                // The two sums of a pair amount to its product, of which the lower 16 bits are right.
                let sum = avx2._mm256_madd_epi16(sums[row][vector], ones);
                let sum = avx2._mm256_slli_epi32::<16>(avx2._mm256_sub_epi32(sum, self.corrections[vector]));
                let product = avx2._mm256_srai_epi32::<16>(sum);
                let most = avx2._mm256_add_epi32(avx2._mm256_add_epi32(product, slack), self.slacks[vector]);
                *above = avx2._mm256_cmpgt_epi32(most, avx2._mm256_min_epi32(limit, self.limits[vector]));
                any = avx2._mm256_or_si256(any, *above);
            }
        }
        if avx2._mm256_movemask_epi8(any) == 0 {
            return;
        }
        for (row, above) in above.iter().enumerate() {
            let mut bits = 0;
            for (vector, &above) in above.iter().enumerate() {
                bits |= (avx._mm256_movemask_ps(avx._mm256_castsi256_ps(above)) as u32) << (vector * LANES);
            }
            if bits != 0 {
                found(row, bits);
            }
        }
    }

    /// Sums of products of two codes each, two sums for each pair.
    #[inline(always)]
    fn products(&self, codes: &[RowBlock]) -> [[__m256i; VECTORS]; GROUP] {
        let (avx, avx2) = (self.simd.avx, self.simd.avx2);
        let mut sums = [[avx._mm256_setzero_si256(); VECTORS]; GROUP];
        for (anchors, rows) in self.codes.iter().zip(codes) {
            let anchors: &[[i32x8; VECTORS]; WORDS] = bytemuck::cast_ref(anchors);
            for (word, anchors) in anchors.iter().enumerate() {
                for (row, sums) in rows.iter().zip(&mut sums) {
                    let row = avx._mm256_set1_epi32(row[word]);
                    for (sum, &anchors) in sums.iter_mut().zip(anchors) {
                        *sum = avx2._mm256_add_epi16(*sum, avx2._mm256_maddubs_epi16(row, cast(anchors)));
                    }
                }
            }
        }
        sums
    }
}

/// The vectors of a strip of numbers.
#[inline(always)]
fn vectors(numbers: &[i32], first: usize) -> [__m256i; VECTORS] {
    let vectors: &[i32x8] = bytemuck::cast_slice(&numbers[first..][..STRIP]);
    [cast(vectors[0]), cast(vectors[1])]
}
