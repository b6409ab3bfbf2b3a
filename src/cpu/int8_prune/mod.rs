//! Exact pruning in 8 bits: which pairs of rows can have a similarity above a threshold.
//!
//! Most pairs of a batch and a memory are easy negatives, and most pairs of an evaluation come after every positive: all that is asked of
//! them is that their similarity is not above a threshold. It is what faiss calls a scalar quantizer with refinement
//! (<https://github.com/facebookresearch/faiss/wiki/Faiss-indexes>), with a bound that makes it exact: rows are quantised to 8-bit codes,
//! whose products are whole numbers and four times as fast as those of 32-bit numbers, and how far two rows are from their codes bounds
//! how far the product is from the similarity (Cauchy-Schwarz). A pair that cannot be above its threshold is pruned; the others, the
//! candidates, a superset of the pairs that matter, are computed in 32 bits. So nothing is approximate. The order of the work is the
//! caller's; the candidates depend on the two rows and their thresholds alone.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod error_bound;
mod kernel;
mod processor;
mod quantize;
mod scalar;

pub(crate) use error_bound::{rounding_error, threshold};
pub(crate) use processor::Pruner;

use kernel::Int8Kernel;
use processor::with_kernel;
use quantize::{Prune, QuantizeAnchors, QuantizeRows};
use scalar::Scalar;

/// Anchors of a tile, whose products are computed together.
pub(crate) const ANCHOR_TILE: usize = 32;
/// Rows of a tile, likewise.
const ROW_TILE: usize = 12;
/// Words that are quantised at a time, and their codes, four in each.
const WORDS: usize = 8;
const BLOCK_CODES: usize = 4 * WORDS;

/// Some codes of a row.
type Words = [i32; WORDS];
/// Some words of the codes of a tile of anchors, with their signs.
type AnchorBlock = [[i32; ANCHOR_TILE]; WORDS];
/// The same of a tile of rows, with the zero point added so that none is negative.
type RowBlock = [Words; ROW_TILE];

/// Rows whose codes are the vectors of the products.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedAnchors<'a> {
    /// `(anchor_tiles, blocks)`.
    codes: &'a [AnchorBlock],
    /// `(anchor_tiles, ANCHOR_TILE)`, like the next two: what the zero point of the rows' codes adds to the products of each anchor.
    offset_corrections: &'a [i32],
    scales: &'a [f32],
    error_bounds: &'a [f32],
    count: usize,
}

/// Rows whose codes are broadcast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantizedRows<'a> {
    /// `(row_tiles, blocks)`.
    codes: &'a [RowBlock],
    /// `(row_tiles, ROW_TILE)`, like the next.
    scales: &'a [f32],
    error_bounds: &'a [f32],
    count: usize,
}

/// Scratch memory of [`Pruner::quantize_anchors`].
pub(crate) fn anchors_len(count: usize, dim: usize) -> usize {
    let words = blocks(dim) * WORDS;
    count.next_multiple_of(ANCHOR_TILE) * (words + 3) + words
}

/// Scratch memory of [`Pruner::quantize_rows`].
pub(crate) fn rows_len(count: usize, dim: usize) -> usize {
    count.next_multiple_of(ROW_TILE) * (blocks(dim) * WORDS + 2)
}

fn blocks(dim: usize) -> usize {
    dim.div_ceil(BLOCK_CODES)
}

/// Calls `found` with the anchor and the row of each pair that codes cannot prove to be no more similar than `similarity`, of anchors
/// `(anchors, dim)` and rows `(rows, dim)`. Codes are those of AVX-512 on every processor: to count what they prune, not to be quick.
pub fn each_candidate(dim: usize, (anchors, rows): (&[f32], &[f32]), similarity: f32, found: impl FnMut(usize, usize)) {
    let thresholds = vec![threshold(similarity, dim); anchors.len() / dim];
    candidates(Pruner::Scalar(Scalar), dim, (anchors, rows), (thresholds, &[]), found);
}

/// The same with a pruner and thresholds of one's own: of each anchor, and of each row, if these have any.
fn candidates(
    pruner: Pruner,
    dim: usize,
    (anchors, rows): (&[f32], &[f32]),
    (mut anchor_thresholds, row_thresholds): (Vec<f32>, &[f32]),
    mut found: impl FnMut(usize, usize),
) {
    let (count, row_count) = (anchors.len() / dim, rows.len() / dim);
    // Whoever quantises must not rely on what is there.
    let (mut first, mut second) = (vec![f32::NAN; anchors_len(count, dim)], vec![f32::NAN; rows_len(row_count, dim)]);
    let anchors = pruner.quantize_anchors((count, dim), |index| &anchors[index * dim..][..dim], &mut first);
    let coded = pruner.quantize_rows((row_count, dim), |index| &rows[index * dim..][..dim], &mut second);
    anchor_thresholds.resize(count.next_multiple_of(ANCHOR_TILE), 0.0);
    pruner.prune(anchors, coded, (&anchor_thresholds, row_thresholds), rows, |row, anchor_tile, bits| {
        (0..ANCHOR_TILE).filter(|lane| bits >> lane & 1 == 1).for_each(|lane| found(anchor_tile + lane, row));
    });
}

impl Pruner {
    /// Quantises `count` anchors of length `dim` into `scratch` of [`anchors_len`] numbers.
    pub(crate) fn quantize_anchors<'a, 'b>(
        self,
        (count, dim): (usize, usize),
        anchor: impl Fn(usize) -> &'b [f32],
        scratch: &'a mut [f32],
    ) -> QuantizedAnchors<'a> {
        let (padded, words) = (count.next_multiple_of(ANCHOR_TILE), blocks(dim) * WORDS);
        let scratch = &mut scratch[..anchors_len(count, dim)];
        scratch.fill(0.0);
        let (codes, rest) = scratch.split_at_mut(padded * words);
        let (offset_corrections, rest) = rest.split_at_mut(padded);
        let (scales, rest) = rest.split_at_mut(padded);
        let (error_bounds, words) = rest.split_at_mut(padded);
        let (codes, words): (&mut [AnchorBlock], &mut [Words]) = (bytemuck::cast_slice_mut(codes), bytemuck::cast_slice_mut(words));
        let offset_corrections: &mut [i32] = bytemuck::cast_slice_mut(offset_corrections);
        with_kernel!(self, kernel => kernel.vectorize(QuantizeAnchors {
            kernel,
            anchor,
            count,
            codes: &mut *codes,
            offset_corrections: &mut *offset_corrections,
            scales: &mut *scales,
            error_bounds: &mut *error_bounds,
            words,
        }));
        QuantizedAnchors { codes, offset_corrections, scales, error_bounds, count }
    }

    /// Quantises `count` rows of length `dim` into `scratch` of [`rows_len`] numbers.
    pub(crate) fn quantize_rows<'a, 'b>(
        self,
        (count, dim): (usize, usize),
        row: impl Fn(usize) -> &'b [f32],
        scratch: &'a mut [f32],
    ) -> QuantizedRows<'a> {
        let padded = count.next_multiple_of(ROW_TILE);
        let (codes, rest) = scratch[..rows_len(count, dim)].split_at_mut(padded * blocks(dim) * WORDS);
        let (scales, error_bounds) = rest.split_at_mut(padded);
        let codes: &mut [RowBlock] = bytemuck::cast_slice_mut(codes);
        with_kernel!(self, kernel => kernel.vectorize(QuantizeRows {
            kernel,
            row,
            count,
            codes: &mut *codes,
            scales: &mut *scales,
            error_bounds: &mut *error_bounds,
        }));
        QuantizedRows { codes, scales, error_bounds, count }
    }

    /// Calls `found` with a row, the first anchor of a tile, and a bit for each anchor of the tile that is a candidate: its similarity to
    /// the row can be above the lower one of their thresholds. `thresholds` are those of the anchors, in whole tiles, and those of the
    /// rows, if these have any; `to_prefetch` will be read next and is prefetched meanwhile.
    pub(crate) fn prune(
        self,
        anchors: QuantizedAnchors<'_>,
        rows: QuantizedRows<'_>,
        thresholds: (&[f32], &[f32]),
        to_prefetch: &[f32],
        found: impl FnMut(usize, usize, u32),
    ) {
        with_kernel!(self, kernel => kernel.vectorize(Prune { kernel, anchors, rows, thresholds, to_prefetch, found }));
    }
}

impl<'a> QuantizedAnchors<'a> {
    /// Half of how far the similarities of each anchor to rows that are as well quantised can be from the products of codes: anchors with a
    /// threshold below that gain nothing.
    pub(crate) fn error_bounds(self) -> &'a [f32] {
        self.error_bounds
    }

    /// From the tile of anchor `first` on, `count` anchors.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        assert!(first.is_multiple_of(ANCHOR_TILE), "a part starts with a tile");
        let (padded, blocks) = (count.next_multiple_of(ANCHOR_TILE), self.codes.len() / (self.error_bounds.len() / ANCHOR_TILE));
        Self {
            codes: &self.codes[first / ANCHOR_TILE * blocks..][..padded / ANCHOR_TILE * blocks],
            offset_corrections: &self.offset_corrections[first..][..padded],
            scales: &self.scales[first..][..padded],
            error_bounds: &self.error_bounds[first..][..padded],
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use std::collections::HashSet;

    /// How far below its threshold a pair may be that is found, for rows of 32 to a thousand numbers, none much larger than the others.
    fn widest(pruner: Pruner) -> f64 {
        match pruner {
            #[cfg(target_arch = "x86_64")]
            Pruner::Avx512(_) => 0.02,
            #[cfg(target_arch = "x86_64")]
            Pruner::Avx2(_) => 0.12,
            Pruner::Scalar(_) => 0.02,
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

    /// The pairs found, anchor first; what fills up a tile must not be among them.
    fn prune(pruner: Pruner, anchors: &[f32], rows: &[f32], dim: usize, thresholds: (&[f32], &[f32])) -> HashSet<(usize, usize)> {
        let (count, row_count) = (anchors.len() / dim, rows.len() / dim);
        let scaled = |thresholds: &[f32]| thresholds.iter().map(|&value| threshold(value, dim)).collect::<Vec<_>>();
        let mut found = HashSet::new();
        candidates(pruner, dim, (anchors, rows), (scaled(thresholds.0), &scaled(thresholds.1)), |anchor, row| {
            assert!(row < row_count && anchor < count && found.insert((anchor, row)), "row {row} of anchor {anchor}");
        });
        found
    }

    #[test]
    fn pairs_above_a_threshold_are_found_and_those_far_below_are_not() {
        for (pruner, (count, row_count, dim)) in everywhere([(1, 1, 1), (32, 12, 32), (33, 13, 33), (40, 100, 128), (5, 45, 1000)])
        {
            let (anchors, rows) = (unit_rows("anchors", count, dim), unit_rows("rows", row_count, dim));
            let mut rng = Rng::new(1).at("thresholds").at(dim);
            let mut random = |len: usize| (0..len).map(|_| rng.uniform(-0.3, 0.3)).collect::<Vec<_>>();
            let (anchor_thresholds, row_thresholds) = (random(count), random(row_count));
            let found = prune(pruner, &anchors, &rows, dim, (&anchor_thresholds, &row_thresholds));
            for (anchor, values) in anchors.chunks(dim).enumerate() {
                for (row, others) in rows.chunks(dim).enumerate() {
                    let threshold = f64::from(anchor_thresholds[anchor].min(row_thresholds[row]));
                    let (similarity, found) = (dot(values, others), found.contains(&(anchor, row)));
                    assert!(found || similarity <= threshold, "anchor {anchor} and row {row}: {similarity} is above {threshold}");
                    let near = dim < 32 || similarity > threshold - widest(pruner);
                    assert!(!found || near, "anchor {anchor} and row {row}: {similarity} is far below {threshold}");
                }
            }
        }
    }

    /// Every pruner of this processor with every case.
    fn everywhere<T: Copy>(cases: impl IntoIterator<Item = T> + Clone) -> impl Iterator<Item = (Pruner, T)> {
        Pruner::all().flat_map(move |pruner| cases.clone().into_iter().map(move |case| (pruner, case)))
    }

    #[test]
    fn rows_that_codes_cannot_bound_are_found_whatever_their_threshold() {
        let dim = 40;
        let sound = unit_rows("sound", 1, dim);
        let with = |value: f32| [&[value], &sound[1..]].concat();
        let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30, 2.0].map(with).concat();
        let all = |anchors, rows| (0..anchors).flat_map(|anchor| (0..rows).map(move |row| (anchor, row))).collect::<HashSet<_>>();
        for pruner in Pruner::all() {
            assert_eq!(prune(pruner, &strange, &sound, dim, (&[1.0; 5], &[])), all(5, 1));
            assert_eq!(prune(pruner, &sound, &strange, dim, (&[f32::INFINITY], &[])), all(1, 5));
            assert_eq!(prune(pruner, &strange, &strange, dim, (&[f32::INFINITY; 5], &[f32::INFINITY; 5])), all(5, 5));
            assert_eq!(prune(pruner, &sound, &sound, dim, (&[f32::NAN], &[])), all(1, 1));
        }
    }

    #[test]
    fn nothing_but_such_rows_is_above_an_infinite_threshold() {
        for (pruner, dim) in everywhere([1, 64, 333]) {
            let rows = unit_rows("rows", 40, dim);
            assert_eq!(prune(pruner, &rows, &rows, dim, (&[f32::INFINITY; 40], &[])), HashSet::new());
        }
    }

    #[test]
    fn rows_of_zeros_are_below_thresholds_above_zero_and_above_those_below() {
        for (pruner, (threshold, found)) in everywhere([(0.1, 0), (-0.1, 3)]) {
            let (zeros, rows) = (vec![0.0; 50], unit_rows("rows", 3, 50));
            assert_eq!(prune(pruner, &zeros, &rows, 50, (&[threshold], &[])).len(), found);
            assert_eq!(prune(pruner, &rows, &zeros, 50, (&[threshold; 3], &[])).len(), found);
        }
    }

    #[test]
    fn a_row_with_one_large_number_is_told_from_its_opposite() {
        let mut row = unit_rows("rest", 1, 100);
        row.iter_mut().for_each(|value| *value *= 0.8);
        row.push(0.6);
        let rows: Vec<f32> = row.iter().copied().chain(row.iter().map(|value| -value)).collect();
        for pruner in Pruner::all() {
            assert_eq!(prune(pruner, &row, &rows, 101, (&[0.5], &[])), HashSet::from([(0, 0)]));
        }
    }

    #[test]
    fn error_bounds_hold_where_differences_add_up() {
        // Codes 127 and 20 of one kernel, 22 of the other, with nearly half a step more everywhere.
        let scale = 1.0 / (127.0 * 127.0 + 63.0 * 20.49 * 20.49_f32).sqrt();
        let (own_scale, fixed_scale) = ([&[127.0 * scale][..], &[20.49 * scale; 63]].concat(), vec![22.49 / 178.0; 62]);
        for (pruner, row) in everywhere([&own_scale, &fixed_scale]) {
            let above = dot(row, row) as f32 - 1e-5;
            assert_eq!(prune(pruner, row, row, row.len(), (&[above], &[])).len(), 1, "{pruner:?}");
        }
    }

    #[test]
    fn error_bounds_hold_for_rows_of_any_shape() {
        let peaked = |name: &str, count: usize, dim: usize, power: i32| {
            let mut rows = unit_rows(name, count, dim);
            for row in rows.chunks_mut(dim) {
                row.iter_mut().for_each(|value| *value = value.powi(power));
                let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                row.iter_mut().for_each(|value| *value /= norm);
            }
            rows
        };
        for (pruner, (dim, power)) in everywhere([(2, 1), (3, 3), (48, 3), (200, 5), (600, 3), (1100, 1)]) {
            let (anchors, rows) = (peaked("anchors", 33, dim, power), peaked("rows", 50, dim, power));
            for (row, values) in rows.chunks(dim).enumerate() {
                let above: Vec<f32> = anchors.chunks(dim).map(|anchor| dot(anchor, values) as f32 - 1e-5).collect();
                let found = prune(pruner, &anchors, values, dim, (&above, &[]));
                assert_eq!(found.len(), 33, "row {row} of length {dim}");
            }
        }
    }
}
