//! Which pairs of rows can have a similarity that matters, found out in 8 bits.
//!
//! Most pairs of a batch and a memory are easy negatives, and most pairs of an evaluation come after every positive: all that is asked of
//! them is that their similarity is not above a limit. Rows are rounded to codes of 8 bits, whose products are whole numbers and four
//! times as fast as those of 32-bit numbers; how far two rows are from their codes bounds how far the product is from the similarity
//! (Cauchy-Schwarz). A pair that cannot be above its limit is left out, and the others, a superset of the pairs that matter, are computed.
//! So nothing is approximate. The order of the work is the caller's; the pairs found depend on the two rows and their limits alone.

mod codes;
mod kernel;

pub(crate) use codes::{limit, rounding};
pub(crate) use kernel::Sieve;

use codes::{CODES, WORDS, encode, to_signed};

/// Anchors of a strip, whose products are computed together.
pub(crate) const STRIP: usize = 16;
/// Rows of a group, likewise.
const GROUP: usize = 6;

/// Some words of the codes of a strip of anchors, with their signs.
type AnchorBlock = [[i32; STRIP]; WORDS];
/// The same of a group of rows, without signs.
type RowBlock = [[i32; WORDS]; GROUP];

/// Rows whose codes are the vectors of the products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchors<'a> {
    /// `(strips, blocks)`.
    codes: &'a [AnchorBlock],
    /// `(strips, STRIP)`: what the products of each anchor have too much, as the codes of rows are without sign.
    corrections: &'a [i32],
    /// `(strips, STRIP)`.
    slacks: &'a [i32],
    count: usize,
}

/// Rows whose codes are broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// `(groups, blocks)`.
    codes: &'a [RowBlock],
    /// `(groups, GROUP)`.
    slacks: &'a [i32],
    count: usize,
}

/// Scratch memory of [`Sieve::anchors`].
pub(crate) fn anchors_len(count: usize, dim: usize) -> usize {
    let padded = count.next_multiple_of(STRIP);
    padded * (blocks(dim) * WORDS + 2)
}

/// Scratch memory of [`Sieve::rows`].
pub(crate) fn rows_len(count: usize, dim: usize) -> usize {
    count.next_multiple_of(GROUP) * (blocks(dim) * WORDS + 1)
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
        let blocks = blocks(dim);
        let scratch: &mut [i32] = bytemuck::cast_slice_mut(&mut scratch[..anchors_len(count, dim)]);
        scratch.fill(0);
        let padded = count.next_multiple_of(STRIP);
        let (codes, rest) = scratch.split_at_mut(padded * blocks * WORDS);
        let (corrections, slacks) = rest.split_at_mut(padded);
        let codes: &mut [AnchorBlock] = bytemuck::cast_slice_mut(codes);
        for index in 0..count {
            let strip = &mut codes[index / STRIP * blocks..][..blocks];
            slacks[index] = encode(anchor(index), |block, mut words| {
                corrections[index] += to_signed(&mut words);
                for (to, word) in strip[block].iter_mut().zip(words) {
                    to[index % STRIP] = word;
                }
            });
        }
        Anchors { codes, corrections, slacks, count }
    }

    /// Encodes `count` rows of length `dim` into `scratch` of [`rows_len`] numbers.
    pub(crate) fn rows<'a, 'b>(
        self,
        (count, dim): (usize, usize),
        row: impl Fn(usize) -> &'b [f32],
        scratch: &'a mut [f32],
    ) -> Rows<'a> {
        let blocks = blocks(dim);
        let scratch: &mut [i32] = bytemuck::cast_slice_mut(&mut scratch[..rows_len(count, dim)]);
        let padded = count.next_multiple_of(GROUP);
        let (codes, slacks) = scratch.split_at_mut(padded * blocks * WORDS);
        let codes: &mut [RowBlock] = bytemuck::cast_slice_mut(codes);
        self.encode_rows(|index| if index < count { row(index) } else { &[] }, blocks, codes, slacks);
        Rows { codes, slacks, count }
    }

    /// Calls `found` with a row, the first anchor of a strip, and a bit for each anchor of the strip whose similarity to the row can be
    /// above the lower one of their limits. `limits` are those of the anchors, in whole strips, and those of the rows, if these have
    /// any; `ahead` will be read next and is brought closer meanwhile.
    pub(crate) fn sift(
        self,
        anchors: Anchors<'_>,
        rows: Rows<'_>,
        limits: (&[i32], &[i32]),
        ahead: &[f32],
        found: impl FnMut(usize, usize, u32),
    ) {
        kernel::Sift { sieve: self, anchors, rows, limits, ahead, found }.run();
    }
}

impl<'a> Anchors<'a> {
    /// How far the similarities of each anchor can be from the products of its codes, of those to rows that are as well encoded: the
    /// anchors with a limit below that gain nothing.
    pub(crate) fn slacks(self) -> &'a [i32] {
        self.slacks
    }

    /// From the strip of anchor `first` on, `count` anchors.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        assert!(first.is_multiple_of(STRIP), "a part starts with a strip");
        let (padded, blocks) = (count.next_multiple_of(STRIP), self.codes.len() / (self.slacks.len() / STRIP));
        Self {
            codes: &self.codes[first / STRIP * blocks..][..padded / STRIP * blocks],
            corrections: &self.corrections[first..][..padded],
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

    /// Slack of two rows of 32 to a thousand numbers, none much larger than the others, as a similarity.
    const WIDEST: f64 = 0.12;

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
        anchor_limits.resize(count.next_multiple_of(STRIP), 0);
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
        let Some(sieve) = Sieve::new() else { return };
        for (count, row_count, dim) in [(1, 1, 1), (16, 6, 32), (17, 7, 33), (40, 100, 128), (5, 45, 1000)] {
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
                    let near = dim < 32 || similarity > limit - WIDEST;
                    assert!(!found || near, "anchor {anchor} and row {row}: {similarity} is far below {limit}");
                }
            }
        }
    }

    #[test]
    fn rows_that_codes_cannot_bound_are_found_whatever_their_limit() {
        let Some(sieve) = Sieve::new() else { return };
        let dim = 40;
        let sound = unit_rows("sound", 1, dim);
        let with = |value: f32| [&[value], &sound[1..]].concat();
        let strange: Vec<f32> = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 2.0].into_iter().flat_map(with).collect();
        let all = |anchors, rows| (0..anchors).flat_map(|anchor| (0..rows).map(move |row| (anchor, row))).collect::<HashSet<_>>();
        assert_eq!(sift(sieve, &strange, &sound, dim, (&[1.0; 5], &[])), all(5, 1));
        assert_eq!(sift(sieve, &sound, &strange, dim, (&[f32::INFINITY], &[])), all(1, 5));
        assert_eq!(sift(sieve, &sound, &sound, dim, (&[f32::NAN], &[])), all(1, 1));
    }

    #[test]
    fn a_row_with_a_number_too_large_for_a_code_is_told_from_its_opposite() {
        let Some(sieve) = Sieve::new() else { return };
        let mut row = unit_rows("rest", 1, 100);
        row.iter_mut().for_each(|value| *value *= 0.8);
        row.push(0.6);
        let rows: Vec<f32> = row.iter().copied().chain(row.iter().map(|value| -value)).collect();
        assert_eq!(sift(sieve, &row, &rows, 101, (&[0.5], &[])), HashSet::from([(0, 0)]));
    }

    #[test]
    fn both_ways_to_encode_give_the_same_codes() {
        let Some(sieve) = Sieve::new() else { return };
        for dim in [1, 32, 77] {
            let rows = unit_rows("codes", 13, dim);
            let mut room = vec![0.0; rows_len(13, dim)];
            let coded = sieve.rows((13, dim), |index| &rows[index * dim..][..dim], &mut room);
            for (row, values) in rows.chunks(dim).enumerate() {
                let slack = encode(values, |block, words| {
                    assert_eq!(coded.codes[row / GROUP * blocks(dim) + block][row % GROUP], words, "row {row} of length {dim}");
                });
                assert!((coded.slacks[row] - slack).abs() <= 1, "{} and {slack}", coded.slacks[row]);
            }
        }
    }
}
