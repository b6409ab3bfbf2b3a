//! Which pairs of rows can have a similarity that matters, found out in 8 bits.
//!
//! Most pairs of a batch and a memory are easy negatives, and most pairs of an evaluation come after every positive: all that is asked of
//! them is that their similarity is not above a limit. Rows are rounded to codes of 8 bits, whose products are whole numbers and four
//! times as fast as those of 32-bit numbers; how far two rows are from their codes bounds how far the product is from the similarity
//! (Cauchy-Schwarz). A pair that cannot be above its limit is left out, and the others, a superset of the pairs that matter, are computed.
//! So nothing is approximate. The order of the work is the caller's; the pairs found depend on the two rows and their limits alone.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod error_bound;
mod kernel;
mod processor;
mod quantize;

pub(crate) use error_bound::{limit, rounding};
pub(crate) use processor::Sieve;

use kernel::Kernel;
use processor::with_kernel;
use quantize::{EncodeAnchors, EncodeRows, Sift};

/// Anchors of a strip, whose products are computed together.
pub(crate) const STRIP: usize = 32;
/// Rows of a group, likewise.
const GROUP: usize = 12;
/// Words that are encoded at a time, and their codes, four in each.
const WORDS: usize = 8;
const CODES: usize = 4 * WORDS;

/// Some codes of a row.
type Words = [i32; WORDS];
/// Some words of the codes of a strip of anchors, with their signs.
type AnchorBlock = [[i32; STRIP]; WORDS];
/// The same of a group of rows, shifted so that none is negative.
type RowBlock = [Words; GROUP];

/// Rows whose codes are the vectors of the products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchors<'a> {
    /// `(strips, blocks)`.
    codes: &'a [AnchorBlock],
    /// `(strips, STRIP)`, like the next two: what the products of each anchor have too much, as the codes of rows are shifted.
    corrections: &'a [i32],
    steps: &'a [f32],
    slacks: &'a [f32],
    count: usize,
}

/// Rows whose codes are broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// `(groups, blocks)`.
    codes: &'a [RowBlock],
    /// `(groups, GROUP)`, like the next.
    steps: &'a [f32],
    slacks: &'a [f32],
    count: usize,
}

/// Scratch memory of [`Sieve::anchors`].
pub(crate) fn anchors_len(count: usize, dim: usize) -> usize {
    let words = blocks(dim) * WORDS;
    count.next_multiple_of(STRIP) * (words + 3) + words
}

/// Scratch memory of [`Sieve::rows`].
pub(crate) fn rows_len(count: usize, dim: usize) -> usize {
    count.next_multiple_of(GROUP) * (blocks(dim) * WORDS + 2)
}

fn blocks(dim: usize) -> usize {
    dim.div_ceil(CODES)
}

impl Sieve {
    /// Encodes `count` anchors of length `dim` into `scratch` of [`anchors_len`] numbers.
    pub(crate) fn anchors<'a, 'b>(
        self,
        (count, dim): (usize, usize),
        anchor: impl Fn(usize) -> &'b [f32],
        scratch: &'a mut [f32],
    ) -> Anchors<'a> {
        let (padded, words) = (count.next_multiple_of(STRIP), blocks(dim) * WORDS);
        let scratch = &mut scratch[..anchors_len(count, dim)];
        scratch.fill(0.0);
        let (codes, rest) = scratch.split_at_mut(padded * words);
        let (corrections, rest) = rest.split_at_mut(padded);
        let (steps, rest) = rest.split_at_mut(padded);
        let (slacks, words) = rest.split_at_mut(padded);
        let (codes, words): (&mut [AnchorBlock], &mut [Words]) = (bytemuck::cast_slice_mut(codes), bytemuck::cast_slice_mut(words));
        let corrections: &mut [i32] = bytemuck::cast_slice_mut(corrections);
        with_kernel!(self, kernel => kernel.vectorize(EncodeAnchors {
            kernel, anchor, count, codes: &mut *codes, corrections: &mut *corrections, steps: &mut *steps, slacks: &mut *slacks, words,
        }));
        Anchors { codes, corrections, steps, slacks, count }
    }

    /// Encodes `count` rows of length `dim` into `scratch` of [`rows_len`] numbers.
    pub(crate) fn rows<'a, 'b>(
        self,
        (count, dim): (usize, usize),
        row: impl Fn(usize) -> &'b [f32],
        scratch: &'a mut [f32],
    ) -> Rows<'a> {
        let padded = count.next_multiple_of(GROUP);
        let (codes, rest) = scratch[..rows_len(count, dim)].split_at_mut(padded * blocks(dim) * WORDS);
        let (steps, slacks) = rest.split_at_mut(padded);
        let codes: &mut [RowBlock] = bytemuck::cast_slice_mut(codes);
        with_kernel!(self, kernel => kernel.vectorize(EncodeRows {
            kernel, row, count, codes: &mut *codes, steps: &mut *steps, slacks: &mut *slacks,
        }));
        Rows { codes, steps, slacks, count }
    }

    /// Calls `found` with a row, the first anchor of a strip, and a bit for each anchor of the strip whose similarity to the row can be
    /// above the lower one of their limits. `limits` are those of the anchors, in whole strips, and those of the rows, if these have
    /// any; `ahead` will be read next and is brought closer meanwhile.
    pub(crate) fn sift(
        self,
        anchors: Anchors<'_>,
        rows: Rows<'_>,
        limits: (&[f32], &[f32]),
        ahead: &[f32],
        found: impl FnMut(usize, usize, u32),
    ) {
        with_kernel!(self, kernel => kernel.vectorize(Sift { kernel, anchors, rows, limits, ahead, found }));
    }
}

impl<'a> Anchors<'a> {
    /// How far the similarities of each anchor can be from the products of its codes, of those to rows that are as well encoded: the
    /// anchors with a limit below that gain nothing.
    pub(crate) fn slacks(self) -> &'a [f32] {
        self.slacks
    }

    /// From the strip of anchor `first` on, `count` anchors.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        assert!(first.is_multiple_of(STRIP), "a part starts with a strip");
        let (padded, blocks) = (count.next_multiple_of(STRIP), self.codes.len() / (self.slacks.len() / STRIP));
        Self {
            codes: &self.codes[first / STRIP * blocks..][..padded / STRIP * blocks],
            corrections: &self.corrections[first..][..padded],
            steps: &self.steps[first..][..padded],
            slacks: &self.slacks[first..][..padded],
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::HashSet;

    /// How far below its limit a pair may be that is found, for rows of 32 to a thousand numbers, none much larger than the others.
    fn widest(sieve: Sieve) -> f64 {
        match sieve {
            #[cfg(target_arch = "x86_64")]
            Sieve::Avx512(_) => 0.02,
            #[cfg(target_arch = "x86_64")]
            Sieve::Avx2(_) => 0.12,
        }
    }

    fn unit_rows(name: &str, count: usize, dim: usize) -> Vec<f32> {
        let mut rng = Rng::new(7).at(name);
        let mut rows: Vec<f32> = (0..count * dim).map(|_| rng.normal()).collect();
        for row in rows.chunks_mut(dim) {
            let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
            row.iter_mut().for_each(|value| *value /= norm);
        }
        rows
    }

    fn dot(left: &[f32], right: &[f32]) -> f64 {
        left.iter().zip(right).map(|(&left, &right)| f64::from(left) * f64::from(right)).sum()
    }

    /// The pairs found, anchor first; what fills a strip or a group must not be among them.
    fn sift(sieve: Sieve, anchors: &[f32], rows: &[f32], dim: usize, limits: (&[f32], &[f32])) -> HashSet<(usize, usize)> {
        let (count, row_count) = (anchors.len() / dim, rows.len() / dim);
        let (mut first, mut second) = (vec![f32::NAN; anchors_len(count, dim)], vec![f32::NAN; rows_len(row_count, dim)]);
        let anchors = sieve.anchors((count, dim), |index| &anchors[index * dim..][..dim], &mut first);
        let coded = sieve.rows((row_count, dim), |index| &rows[index * dim..][..dim], &mut second);
        let scaled = |limits: &[f32]| limits.iter().map(|&value| limit(value, dim)).collect::<Vec<_>>();
        let mut anchor_limits = scaled(limits.0);
        anchor_limits.resize(count.next_multiple_of(STRIP), 0.0);
        let mut found = HashSet::new();
        sieve.sift(anchors, coded, (&anchor_limits, &scaled(limits.1)), rows, |row, strip, bits| {
            for lane in (0..STRIP).filter(|lane| bits >> lane & 1 == 1) {
                assert!(row < row_count && strip + lane < count && found.insert((strip + lane, row)), "row {row} of strip {strip}");
            }
        });
        found
    }

    #[test]
    fn pairs_above_a_limit_are_found_and_those_far_below_are_not() {
        for (sieve, (count, row_count, dim)) in everywhere([(1, 1, 1), (32, 12, 32), (33, 13, 33), (40, 100, 128), (5, 45, 1000)]) {
            let (anchors, rows) = (unit_rows("anchors", count, dim), unit_rows("rows", row_count, dim));
            let mut rng = Rng::new(1).at("limits").at(dim);
            let mut random = |len: usize| (0..len).map(|_| rng.uniform(-0.3, 0.3)).collect::<Vec<_>>();
            let (anchor_limits, row_limits) = (random(count), random(row_count));
            let found = sift(sieve, &anchors, &rows, dim, (&anchor_limits, &row_limits));
            for (anchor, values) in anchors.chunks(dim).enumerate() {
                for (row, others) in rows.chunks(dim).enumerate() {
                    let limit = f64::from(anchor_limits[anchor].min(row_limits[row]));
                    let (similarity, found) = (dot(values, others), found.contains(&(anchor, row)));
                    assert!(found || similarity <= limit, "anchor {anchor} and row {row}: {similarity} is above {limit}");
                    let near = dim < 32 || similarity > limit - widest(sieve);
                    assert!(!found || near, "anchor {anchor} and row {row}: {similarity} is far below {limit}");
                }
            }
        }
    }

    /// Every sieve of this processor with every case.
    fn everywhere<T: Copy>(cases: impl IntoIterator<Item = T> + Clone) -> impl Iterator<Item = (Sieve, T)> {
        Sieve::all().flat_map(move |sieve| cases.clone().into_iter().map(move |case| (sieve, case)))
    }

    #[test]
    fn rows_that_codes_cannot_bound_are_found_whatever_their_limit() {
        let dim = 40;
        let sound = unit_rows("sound", 1, dim);
        let with = |value: f32| [&[value], &sound[1..]].concat();
        let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 2.0].map(with).concat();
        let all = |anchors, rows| (0..anchors).flat_map(|anchor| (0..rows).map(move |row| (anchor, row))).collect::<HashSet<_>>();
        for sieve in Sieve::all() {
            assert_eq!(sift(sieve, &strange, &sound, dim, (&[1.0; 5], &[])), all(5, 1));
            assert_eq!(sift(sieve, &sound, &strange, dim, (&[f32::INFINITY], &[])), all(1, 5));
            assert_eq!(sift(sieve, &strange, &strange, dim, (&[f32::INFINITY; 5], &[f32::INFINITY; 5])), all(5, 5));
            assert_eq!(sift(sieve, &sound, &sound, dim, (&[f32::NAN], &[])), all(1, 1));
        }
    }

    #[test]
    fn nothing_but_such_rows_is_above_an_infinite_limit() {
        for (sieve, dim) in everywhere([1, 64, 333]) {
            let rows = unit_rows("rows", 40, dim);
            assert_eq!(sift(sieve, &rows, &rows, dim, (&[f32::INFINITY; 40], &[])), HashSet::new());
        }
    }

    #[test]
    fn rows_of_zeros_are_below_limits_above_zero_and_above_those_below() {
        for (sieve, (limit, found)) in everywhere([(0.1, 0), (-0.1, 3)]) {
            let (zeros, rows) = (vec![0.0; 50], unit_rows("rows", 3, 50));
            assert_eq!(sift(sieve, &zeros, &rows, 50, (&[limit], &[])).len(), found);
            assert_eq!(sift(sieve, &rows, &zeros, 50, (&[limit; 3], &[])).len(), found);
        }
    }

    #[test]
    fn a_row_with_one_large_number_is_told_from_its_opposite() {
        let mut row = unit_rows("rest", 1, 100);
        row.iter_mut().for_each(|value| *value *= 0.8);
        row.push(0.6);
        let rows: Vec<f32> = row.iter().copied().chain(row.iter().map(|value| -value)).collect();
        for sieve in Sieve::all() {
            assert_eq!(sift(sieve, &row, &rows, 101, (&[0.5], &[])), HashSet::from([(0, 0)]));
        }
    }

    #[test]
    fn slacks_hold_where_differences_add_up() {
        // Codes 127 and 20 of one kernel, 22 of the other, with nearly half a step more everywhere.
        let step = 1.0 / (127.0 * 127.0 + 63.0 * 20.49 * 20.49_f32).sqrt();
        let (own_scale, fixed_scale) = ([&[127.0 * step][..], &[20.49 * step; 63]].concat(), vec![22.49 / 178.0; 62]);
        for (sieve, row) in everywhere([&own_scale, &fixed_scale]) {
            let above = dot(row, row) as f32 - 1e-5;
            assert_eq!(sift(sieve, row, row, row.len(), (&[above], &[])).len(), 1, "{sieve:?}");
        }
    }

    #[test]
    fn slacks_hold_for_rows_of_any_shape() {
        let peaked = |name: &str, count: usize, dim: usize, power: i32| {
            let mut rows = unit_rows(name, count, dim);
            for row in rows.chunks_mut(dim) {
                row.iter_mut().for_each(|value| *value = value.powi(power));
                let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                row.iter_mut().for_each(|value| *value /= norm);
            }
            rows
        };
        for (sieve, (dim, power)) in everywhere([(2, 1), (3, 3), (48, 3), (200, 5), (600, 3), (1100, 1)]) {
            let (anchors, rows) = (peaked("anchors", 33, dim, power), peaked("rows", 50, dim, power));
            for (row, values) in rows.chunks(dim).enumerate() {
                let above: Vec<f32> = anchors.chunks(dim).map(|anchor| dot(anchor, values) as f32 - 1e-5).collect();
                let found = sift(sieve, &anchors, values, dim, (&above, &[]));
                assert_eq!(found.len(), 33, "row {row} of length {dim}");
            }
        }
    }
}
