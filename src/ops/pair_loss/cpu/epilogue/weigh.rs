//! From similarities to signed weights: easy segments are left after a few comparisons, the others are evaluated without branches.

use super::super::weigher::{SEGMENT, Weigher};
use super::row_sums::{Found, RowSums};
use super::scan::{Scan, Segment, bits};
use super::{Tile, tile_words};
use crate::cpu::dot::dot;
use pulp::{Arch, Simd, WithSimd};

impl Tile<'_> {
    /// Replaces kept similarities by weights, adds to the row sums, and returns the number of kept pairs, or the
    /// first anchor with a similarity that is not finite.
    pub fn weigh(&mut self, scan: &Scan<'_>, weigher: &impl Weigher, sums: &mut [RowSums]) -> Result<usize, usize> {
        Arch::new().dispatch(Weigh { tile: self, scan, weigher, sums })
    }

    #[inline(always)]
    fn weigh_rows<S: Simd>(
        &mut self,
        simd: S,
        scan: &Scan<'_>,
        weigher: &impl Weigher,
        sums: &mut [RowSums],
    ) -> Result<usize, usize> {
        let (words, dim) = (tile_words(self.rows), self.memory.len() / self.rows);
        let rows = self.similarities.chunks_exact_mut(self.rows).zip(self.kept.chunks_exact_mut(words));
        let mut total = 0;
        for (anchor, ((similarities, kept), sums)) in rows.zip(sums).enumerate() {
            if !self.pruned && !all_finite(similarities) {
                return Err(anchor);
            }
            let (label, active) = (scan.anchor_labels[anchor], weigher.active(scan.first_anchor + anchor));
            let mut found = Found::default();
            for (index, kept) in kept.iter_mut().enumerate() {
                let columns = index * SEGMENT..self.rows.min((index + 1) * SEGMENT);
                let (similarities, labels) = (&mut similarities[columns.clone()], &scan.row_labels[columns]);
                let mut candidates = u32::MAX;
                if self.pruned {
                    candidates = *kept;
                    if !multiply(
                        simd,
                        candidates,
                        &self.anchors[anchor * dim..][..dim],
                        &self.memory[index * SEGMENT * dim..],
                        similarities,
                    ) {
                        return Err(anchor);
                    }
                } else if !any_active(similarities, labels, label, active) {
                    candidates = 0;
                }
                *kept = 0;
                if candidates == 0 {
                    continue;
                }
                let mut segment = scan.segment(simd, anchor, index * SEGMENT, similarities);
                segment.negative &= candidates;
                *kept = segment.weigh(simd, weigher, &mut found);
            }
            if found.any {
                total += (found.positives + found.negatives) as usize;
                *sums = found.added_to(*sums);
            }
        }
        Ok(total)
    }
}

/// [`Tile::weigh_rows`] with the vector instructions of the processor. Not a closure: a closure is called through a shim that the
/// compiler may leave outside, and there it would be compiled for the oldest processor.
struct Weigh<'a, 'tile, R> {
    tile: &'a mut Tile<'tile>,
    scan: &'a Scan<'a>,
    weigher: &'a R,
    sums: &'a mut [RowSums],
}

impl<R: Weigher> WithSimd for Weigh<'_, '_, R> {
    type Output = Result<usize, usize>;
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Self::Output {
        self.tile.weigh_rows(simd, self.scan, self.weigher, self.sums)
    }
}

#[inline(always)]
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7F80_0000;
    values.iter().fold(0, |highest: u32, value| highest.max(value.to_bits() & EXPONENT)) < EXPONENT
}

/// Computes the similarities of an anchor and those of the rows that have a bit; false if one is not finite.
#[inline(always)]
fn multiply<S: Simd>(simd: S, mut candidates: u32, anchor: &[f32], rows: &[f32], similarities: &mut [f32]) -> bool {
    let mut finite = true;
    while candidates != 0 {
        let lane = candidates.trailing_zeros() as usize;
        candidates &= candidates - 1;
        let similarity = dot(simd, anchor, &rows[lane * anchor.len()..][..anchor.len()]);
        finite &= similarity.is_finite();
        similarities[lane] = similarity;
    }
    finite
}

/// Whether any pair of a segment can have a weight or a loss: a positive below its support's end, a negative above its start.
#[inline(always)]
fn any_active(similarities: &[f32], labels: &[i32], label: i32, (positive_end, negative_start): (f32, f32)) -> bool {
    let mut active = 0;
    for (&s, &other) in similarities.iter().zip(labels) {
        let pulled = u32::from(other == label) & u32::from(s < positive_end);
        let pushed = u32::from(other != label) & u32::from(s > negative_start);
        active |= pulled | pushed;
    }
    active != 0
}

/// A bit per lane that is not zero.
#[inline(always)]
fn not_zero<S: Simd>(simd: S, values: &[f32; SEGMENT]) -> u32 {
    let (vectors, _) = S::as_simd_f32s(values);
    !bits(simd, |index| simd.equal_f32s(vectors[index], simd.splat_f32s(0.0)))
}

impl Segment<'_> {
    /// Writes signed weights (negatives push with plus, positives pull with minus), and returns the kept bits.
    #[inline(always)]
    fn weigh<S: Simd>(self, simd: S, weigher: &impl Weigher, found: &mut Found) -> u32 {
        let s = self.padded();
        let mut weights = [0.0; SEGMENT];
        if self.negative != 0 {
            let (values, losses) = weigher.weigh(false, self.pairs, &s);
            select(self.negative, 0, (&values, &losses), (&mut weights, &mut found.losses));
        }
        if self.positive != 0 {
            let (values, losses) = weigher.weigh(true, self.pairs, &s);
            select(self.positive, SIGN, (&values, &losses), (&mut weights, &mut found.losses));
        }
        let kept = not_zero(simd, &weights);
        found.any = true;
        found.positives += (kept & self.positive).count_ones();
        found.negatives += (kept & self.negative).count_ones();
        match self.similarities.first_chunk_mut() {
            Some(similarities) => *similarities = weights,
            None => self.similarities.copy_from_slice(&weights[..self.similarities.len()]),
        }
        kept
    }
}

/// The bit of a number's sign.
const SIGN: u32 = 1 << 31;

/// Takes the weights of the lanes in `mask`, which had none, with their signs changed by `sign`, and adds their losses. Of the other
/// lanes the bits are cleared: a choice would become a jump for each.
#[inline(always)]
fn select(
    mask: u32,
    sign: u32,
    (values, losses): (&[f32; SEGMENT], &[f32; SEGMENT]),
    (weights, sums): (&mut [f32; SEGMENT], &mut [f32; SEGMENT]),
) {
    for lane in 0..SEGMENT {
        let taken = (mask >> lane & 1).wrapping_neg();
        weights[lane] = f32::from_bits(weights[lane].to_bits() | (values[lane].to_bits() ^ sign) & taken);
        sums[lane] += f32::from_bits(losses[lane].to_bits() & taken);
    }
}
