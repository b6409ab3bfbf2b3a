//! The numbers by which the pairs of a row are weighed, and how they follow from its statistics.

use super::{Mining, Normalization, SideStatistics, Totals};
use crate::loss::{Curve, PairWeighting, Side};
use bytemuck::{Pod, Zeroable};

/// The numbers of one kind of pairs in one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SideNormalizer {
    /// Pairs at or below this are not mined.
    pub low: f32,
    /// Pairs at or above this are not mined.
    pub high: f32,
    /// Added to every weight.
    pub offset: f32,
    /// Factor of the curve.
    pub scale: f32,
    /// Subtracted from the curve's exponent.
    pub shift: f32,
    /// Factor of a pair's integral in the loss.
    pub loss: f32,
}

/// The numbers of one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct RowNormalizer {
    /// Of its positives.
    pub positive: SideNormalizer,
    /// Of its negatives.
    pub negative: SideNormalizer,
    /// Part of the loss that is no sum over pairs.
    pub constant: f32,
}

impl SideNormalizer {
    /// Every pair, with the curve's weight times the side's factor.
    fn open(side: &Side) -> Self {
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        Self { low, high, offset: 0.0, scale: side.factor, shift: 0.0, loss: side.factor }
    }

    fn nothing(&mut self) {
        (self.offset, self.scale, self.shift, self.loss) = (0.0, 0.0, 0.0, 0.0);
    }

    /// Weights at `N` similarities, 0 where the pair is not mined or the gate is closed.
    #[inline(always)]
    pub fn weights<const N: usize>(normalizers: &[Self; N], side: &Side, s: &[f32; N]) -> [f32; N] {
        let (gate_low, gate_high) = side.gate.interval();
        let mut weights = side.curve.shifted_weights(s, &normalizers.map(|normalizer| normalizer.shift));
        for ((weight, normalizer), &s) in weights.iter_mut().zip(normalizers).zip(s) {
            let kept = s > normalizer.low.max(gate_low) && s < normalizer.high.min(gate_high);
            *weight = if kept { normalizer.offset + normalizer.scale * *weight } else { 0.0 };
        }
        weights
    }

    /// Losses at `N` similarities: the part of the row's loss that is a sum over pairs; 0 where the pair is not mined.
    #[inline(always)]
    pub fn losses<const N: usize>(normalizers: &[Self; N], side: &Side, positive: bool, s: &[f32; N]) -> [f32; N] {
        let mut losses = if side.reports_tails(positive) {
            side.curve.sigmoid_tails(s, &normalizers.map(|normalizer| normalizer.shift))
        } else if positive {
            side.positive_losses(s)
        } else {
            side.negative_losses(s)
        };
        for ((loss, normalizer), &s) in losses.iter_mut().zip(normalizers).zip(s) {
            let mined = s > normalizer.low && s < normalizer.high;
            let constant = if positive { normalizer.offset * (1.0 - s) } else { normalizer.offset * (1.0 + s) };
            *loss = if mined { normalizer.loss * *loss + constant } else { 0.0 };
        }
        losses
    }
}

impl RowNormalizer {
    /// Before any statistics.
    pub fn new(weighting: &PairWeighting) -> Self {
        Self {
            positive: SideNormalizer::open(&weighting.positive),
            negative: SideNormalizer::open(&weighting.negative),
            constant: 0.0,
        }
    }

    /// Lets only mined pairs in, from the similarities of the hardest pair of each kind and, for [`Mining::Hardest`], of the last
    /// pair that is kept.
    pub fn mine(&mut self, weighting: &PairWeighting, hardest: [f32; 2], last: [f32; 2]) {
        match weighting.positive.mining {
            Mining::All => {}
            Mining::Relative(margin) => self.positive.high = hardest[1] + margin,
            Mining::Hardest(_) => self.positive.high = last[0].next_up(),
        }
        match weighting.negative.mining {
            Mining::All => {}
            Mining::Relative(margin) => self.negative.low = hardest[0] - margin,
            Mining::Hardest(_) => self.negative.low = last[1].next_down(),
        }
    }

    /// Scales the row by what its mined pairs sum to.
    pub fn scale(&mut self, weighting: &PairWeighting, statistics: [SideStatistics; 2], totals: Totals) {
        let [positives, negatives] = statistics;
        let (positive, negative) = (&weighting.positive, &weighting.negative);
        let own = scaled(&mut self.positive, positive, true, [positives, negatives], (totals.anchors, totals.kept[0]));
        let other = scaled(&mut self.negative, negative, false, [negatives, positives], (totals.anchors, totals.kept[1]));
        let shared = weighting.shares_its_loss();
        self.constant = (own + if shared { 0.0 } else { other }) as f32;
        if shared && positives.count == 0 {
            self.negative.nothing();
        }
    }

    /// Gives the negatives of a balanced weighting as much weight in all as the positives have.
    pub fn balance(&mut self, weighting: &PairWeighting, positives: SideStatistics) {
        let sum = f64::from(self.positive.scale) * positives.weight();
        self.negative.scale = if self.negative.scale == 0.0 { 0.0 } else { (f64::from(weighting.negative.factor) * sum) as f32 };
    }
}

/// Logarithm of the least sum that weights are divided by: what is smaller is as good as nothing, and one over it leaves 32-bit numbers.
const LEAST_LN_SUM: f64 = -60.0;

/// `ln(e^a + e^b)`.
fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// Fills in the normalizer of one side and returns its loss that is no sum over pairs. `statistics` are of this kind and of the other.
fn scaled(
    normalizer: &mut SideNormalizer,
    side: &Side,
    positive: bool,
    statistics: [SideStatistics; 2],
    (anchors, kept): (f64, f64),
) -> f64 {
    let [own, other] = statistics;
    let (count, other_count) = (f64::from(own.count), f64::from(other.count));
    let (sum, other_sum) = (own.ln_sum(), other.ln_sum());
    let factor = f64::from(side.factor);
    let per_rate = side.curve.rate().map_or(0.0, |rate| if positive { -1.0 / f64::from(rate) } else { 1.0 / f64::from(rate) });
    let mut linear = |scale: f64| {
        (normalizer.scale, normalizer.loss) = ((factor * scale) as f32, (factor * scale) as f32);
        0.0
    };
    if side.scale == Normalization::Sum || matches!(side.scale, Normalization::Triplets(_)) {
        return 0.0;
    }
    if own.count == 0 {
        normalizer.nothing();
        return 0.0;
    }
    let joint = ln_add(sum, other_sum);
    let (ln_denominator, loss) = match side.scale {
        Normalization::Sum | Normalization::Triplets(_) => return 0.0,
        Normalization::Mean => return linear(1.0 / count),
        Normalization::MeanRow => return linear(1.0 / (count + other_count)),
        Normalization::MeanAll => return linear(anchors / kept),
        Normalization::SoftmaxPlusOne => (ln_add(0.0, sum), ln_add(0.0, sum)),
        Normalization::Softmax => (sum, sum),
        Normalization::SoftmaxAll => (joint, joint),
        Normalization::Remainder => (joint + sum - other_sum, sum - joint),
        Normalization::Contrast => (joint, 0.0),
        Normalization::Product => (ln_add(0.0, sum + other_sum) - other_sum, ln_add(0.0, sum + other_sum)),
        Normalization::Hinge if sum + other_sum > 0.0 => (sum, sum + other_sum),
        Normalization::Hinge => (f64::INFINITY, 0.0),
        Normalization::Balanced if positive => (-other_sum, 0.0),
        Normalization::Balanced => (sum, 0.0),
    };
    if !ln_denominator.is_finite() {
        normalizer.nothing();
        // The sum of a curve that is no exponential may be negative, and its logarithm is then no loss.
        return if per_rate == 0.0 { 0.0 } else { factor * per_rate * loss };
    }
    if side.scale == Normalization::Contrast {
        let Curve::Exponential { k, s0 } = side.curve else { return 0.0 };
        (normalizer.offset, normalizer.scale, normalizer.shift, normalizer.loss) =
            ((factor / count) as f32, -side.factor, joint as f32, 0.0);
        return factor * (joint / f64::from(k) + f64::from(s0) - 1.0);
    }
    if side.curve.rate().is_none() && side.scale != Normalization::Balanced {
        if ln_denominator < LEAST_LN_SUM {
            normalizer.nothing();
            return 0.0;
        }
        return linear((-ln_denominator).exp());
    }
    normalizer.shift = ln_denominator as f32;
    normalizer.loss = if side.scale == Normalization::Balanced && positive { side.factor } else { 0.0 };
    factor * per_rate * loss
}
