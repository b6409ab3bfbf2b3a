//! How a segment of a row is weighed: by the curves alone, or by the normalizer of the row. Chosen once per call, at compile time.

use crate::loss::{PairWeighting, Soft};

/// Similarities evaluated at once; the bits of a word of kept pairs.
pub(super) const SEGMENT: usize = 32;

/// Weights and losses of the pairs of one row.
pub(super) trait Weigher: Sync {
    /// Positives at or above the first similarity and negatives at or below the second have neither weight nor loss.
    fn active(&self, anchor: usize) -> (f32, f32);

    /// Weights (without sign) and losses of the pairs of `anchor` and the memory rows from `row` on, as if all were of one kind. Lanes
    /// from `rows` on are ignored.
    fn weigh(&self, positive: bool, pairs: Pairs, s: &[f32; SEGMENT]) -> ([f32; SEGMENT], [f32; SEGMENT]);
}

/// Which pairs a segment holds.
#[derive(Clone, Copy)]
pub(super) struct Pairs {
    pub(super) anchor: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
}

/// By the curves.
pub(super) struct CurveWeigher<'a>(pub(super) &'a PairWeighting);

impl Weigher for CurveWeigher<'_> {
    #[inline(always)]
    fn active(&self, _: usize) -> (f32, f32) {
        (self.0.positive.support().1, self.0.negative.support().0)
    }

    #[inline(always)]
    fn weigh(&self, positive: bool, _: Pairs, s: &[f32; SEGMENT]) -> ([f32; SEGMENT], [f32; SEGMENT]) {
        if positive {
            (self.0.positive.weights(s), self.0.positive.positive_losses(s))
        } else {
            (self.0.negative.weights(s), self.0.negative.negative_losses(s))
        }
    }
}

/// By another weigher, negatives then by their soft labels.
pub(super) struct SoftLabelWeigher<'a, R> {
    pub(super) weigher: &'a R,
    pub(super) soft: Soft,
    pub(super) labels: &'a [f32],
    /// `(anchors)`: indices of their labels.
    pub(super) anchors: &'a [i32],
    /// `(rows)`.
    pub(super) rows: &'a [i32],
}

impl<R> SoftLabelWeigher<'_, R> {
    fn label(&self, index: i32) -> Option<f32> {
        self.labels.get(usize::try_from(index).ok()?).copied()
    }
}

impl<R: Weigher> Weigher for SoftLabelWeigher<'_, R> {
    #[inline(always)]
    fn active(&self, anchor: usize) -> (f32, f32) {
        self.weigher.active(anchor)
    }

    #[inline(always)]
    fn weigh(&self, positive: bool, pairs: Pairs, s: &[f32; SEGMENT]) -> ([f32; SEGMENT], [f32; SEGMENT]) {
        let (mut weights, mut losses) = self.weigher.weigh(positive, pairs, s);
        let Some(anchor) = self.label(self.anchors[pairs.anchor]).filter(|_| !positive) else { return (weights, losses) };
        let rows = &self.rows[pairs.row..][..pairs.rows];
        for ((weight, loss), &row) in weights.iter_mut().zip(&mut losses).zip(rows) {
            let factor = self.label(row).map_or(1.0, |label| self.soft.factor(anchor, label));
            *weight *= factor;
            *loss *= factor;
        }
        (weights, losses)
    }
}
