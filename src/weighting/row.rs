//! Weights that depend on the row: what the pairs of one anchor say about one another.
//!
//! A pair of anchor `i` weighs `w = factor (offset_i + scale_i curve(s))` where its row mines it. The numbers of the row, its
//! [`RowLaw`], follow from [`SideStatistics`] of both kinds of its pairs. `S` is the sum of a kind's curve over the pairs that are
//! mined and pass the gate, `n` their number; `S'` and `n'` are those of the other kind:
//!
//! | [`RowScale`] | weight of a pair | loss of the row, as a function of this kind | used by |
//! |---|---|---|---|
//! | `sum` | `curve` | the curve's integral | contrastive |
//! | `mean` | `curve / n` | integral / n | binomial deviance |
//! | `mean-row` | `curve / (n + n')` | integral / (n + n') | |
//! | `mean-all` | `curve` anchors / pairs of the kind in all rows | in proportion | |
//! | `soft-one` | `curve / (1 + S)` | `ln(1 + S) / k` | multi-similarity |
//! | `soft` | `curve / S` | `ln S / k` | |
//! | `joint` | `curve / (S + S')` | `ln(S + S') / k` | NCA, InfoNCE: negatives |
//! | `remainder` | `curve S' / (S (S + S'))` | `(ln(S + S') - ln S) / k` | NCA: positives |
//! | `contrast` | `1/n - curve / (S + S')` | `ln(S + S') / k - mean s` | InfoNCE: positives |
//! | `product` | `curve S' / (1 + S S')` | `ln(1 + S S') / k` | circle |
//! | `hinge` | `curve / S` where `S S' > 1` | `[ln S + ln S']+ / k` | lifted structure |
//! | `balanced` | positives `sigmoid(k (s - s0) + ln S')`, negatives `curve / S` times the sum of those | softplus / k | N-pair |
//! | `triplets:m` | `curve` #{pairs of the other kind that are less than m better} | sum of `[s_n - s_p + m]+` | triplet |
//!
//! `k` is the rate of an exponential curve. For a circle the derivative is meant with its self-paced factor held constant, as
//! published. Where both kinds share one published loss it is counted once. A curve that is no exponential has no loss whose derivative
//! a normalised weight would be; then the integral is reported, times the row's scale as if that were a constant.
//!
//! Exponents are kept and the logarithm of the normaliser is taken from them before the exponential is, so every weight is finite:
//! `e^(k s) / S` is at most 1 however large `k` is.

use super::{Curve, PairWeighting, Side};
use crate::error::{Error, Result};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// Which pairs of a row have a weight, compared with the other pairs of the row. Text forms: `all`, `relative:0.1`, `hardest:8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Mining {
    /// All.
    #[default]
    All,
    /// Negatives above the row's least similar positive minus this, positives below its most similar negative plus this.
    Relative(f32),
    /// This many: the most similar negatives, or the least similar positives; more where the last of them are equal.
    Hardest(u32),
}

/// How the weights of a row are scaled; the module's head has the formulas. Text forms: `sum`, `mean`, .., `triplets:0.1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RowScale {
    /// Not at all.
    #[default]
    Sum,
    /// Mean over the pairs of the kind.
    Mean,
    /// Mean over the pairs of the row.
    MeanRow,
    /// Mean over the pairs of the kind in all rows.
    MeanAll,
    /// Softmax with a 1 in its denominator.
    SoftOne,
    /// Softmax over the pairs of the kind.
    Soft,
    /// Softmax over the pairs of the row.
    Joint,
    /// Softmax over the kind less the softmax over the row; positives only.
    Remainder,
    /// The mean less the softmax over the row; positives only.
    Contrast,
    /// Softmax over the kind, times the sigmoid of both kinds' logarithms.
    Product,
    /// Softmax over the kind in rows where positives and negatives together exceed their margin.
    Hinge,
    /// As much weight in all negatives as in all positives; both kinds.
    Balanced,
    /// The number of violated triplets; the margin of similarity.
    Triplets(f32),
}

/// What a pass over a row found of one kind of its pairs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SideStatistics {
    /// Pairs with a weight.
    pub count: u32,
    /// Smallest similarity of a positive, largest of a negative, of all pairs whether they have a weight or not.
    pub hardest: f32,
    /// Largest exponent of the pairs with a weight; 0 where the curve is no exponential.
    peak: f32,
    /// Sum of the curve divided by `e^peak`, in two parts that hold 48 bits.
    sum: f32,
    rest: f32,
}

/// The numbers of one kind of pairs in one row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct SideLaw {
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
pub struct RowLaw {
    /// Of its positives.
    pub positive: SideLaw,
    /// Of its negatives.
    pub negative: SideLaw,
    /// Part of the loss that is no sum over pairs.
    pub constant: f32,
}

/// The passes over the similarities that a weighting needs before the one that makes the gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passes {
    /// For relative mining: the hardest pairs.
    pub mining: bool,
    /// For row scales: counts and sums.
    pub sums: bool,
    /// For balanced weights: the sum of the positive weights.
    pub balance: bool,
    /// For counted triplets.
    pub triplets: bool,
}

/// Pairs with a weight of both kinds, over all rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Rows.
    pub anchors: f64,
    /// Their positives and negatives with a weight.
    pub kept: [f64; 2],
}

impl SideStatistics {
    /// Before any pair was seen.
    pub fn new(positive: bool) -> Self {
        Self {
            count: 0,
            hardest: if positive { f32::INFINITY } else { f32::NEG_INFINITY },
            peak: f32::NEG_INFINITY,
            sum: 0.0,
            rest: 0.0,
        }
    }

    /// Takes in the pairs `mask` of 32 similarities at most.
    #[inline(always)]
    pub fn see<const N: usize>(&mut self, side: &Side, law: &SideLaw, positive: bool, s: &[f32; N], mask: u32) {
        let ((gate_low, gate_high), log) = (side.gate.interval(), side.curve.rate().is_some());
        let (low, high) = (law.low.max(gate_low), law.high.min(gate_high));
        let values = if log { side.curve.exponents(s) } else { side.curve.shifted_weights(s, &[law.shift; N]) };
        let (mut kept, mut count) = ([false; N], 0);
        let (mut peak, mut hardest) = (if log { f32::NEG_INFINITY } else { 0.0 }, self.hardest);
        for lane in 0..N {
            let pair = mask >> lane & 1 == 1;
            let s = s[lane];
            hardest = if pair && (if positive { s < hardest } else { s > hardest }) { s } else { hardest };
            kept[lane] = pair && s > low && s < high && (log || values[lane] != 0.0);
            count += u32::from(kept[lane]);
            peak = if log && kept[lane] { peak.max(values[lane]) } else { peak };
        }
        self.hardest = hardest;
        if count == 0 {
            return;
        }
        let grown = if log { Curve::grown(&values, peak) } else { values };
        let mut sum = 0.0;
        for lane in 0..N {
            sum += if kept[lane] { grown[lane] } else { 0.0 };
        }
        *self = self.plus(Self { count, hardest, peak, sum, rest: 0.0 }, positive);
    }

    /// Of the pairs of both.
    #[must_use]
    pub fn plus(self, other: Self, positive: bool) -> Self {
        let peak = self.peak.max(other.peak);
        let part = |side: Self| if side.peak == peak { side.total() } else { side.total() * f64::from(side.peak - peak).exp() };
        let total = if peak == f32::NEG_INFINITY { 0.0 } else { part(self) + part(other) };
        let sum = total as f32;
        let hardest = if positive { self.hardest.min(other.hardest) } else { self.hardest.max(other.hardest) };
        Self { count: self.count + other.count, hardest, peak, sum, rest: (total - f64::from(sum)) as f32 }
    }

    fn total(self) -> f64 {
        f64::from(self.sum) + f64::from(self.rest)
    }

    /// Sum of the curve, for curves that are no exponentials.
    pub fn weight(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total() * f64::from(self.peak).exp() }
    }

    /// Logarithm of the sum of the curve; minus infinity where there is none.
    pub fn ln_sum(self) -> f64 {
        if self.count == 0 || self.total() <= 0.0 { f64::NEG_INFINITY } else { f64::from(self.peak) + self.total().ln() }
    }
}

impl SideLaw {
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
    pub fn weights<const N: usize>(laws: &[Self; N], side: &Side, s: &[f32; N]) -> [f32; N] {
        let (gate_low, gate_high) = side.gate.interval();
        let mut weights = side.curve.shifted_weights(s, &laws.map(|law| law.shift));
        for ((weight, law), &s) in weights.iter_mut().zip(laws).zip(s) {
            let kept = s > law.low.max(gate_low) && s < law.high.min(gate_high);
            *weight = if kept { law.offset + law.scale * *weight } else { 0.0 };
        }
        weights
    }

    /// Losses at `N` similarities: the part of the row's loss that is a sum over pairs; 0 where the pair is not mined.
    #[inline(always)]
    pub fn losses<const N: usize>(laws: &[Self; N], side: &Side, positive: bool, s: &[f32; N]) -> [f32; N] {
        let mut losses = if side.reports_tails(positive) {
            side.curve.sigmoid_tails(s, &laws.map(|law| law.shift))
        } else if positive {
            side.positive_losses(s)
        } else {
            side.negative_losses(s)
        };
        for ((loss, law), &s) in losses.iter_mut().zip(laws).zip(s) {
            let mined = s > law.low && s < law.high;
            let constant = if positive { law.offset * (1.0 - s) } else { law.offset * (1.0 + s) };
            *loss = if mined { law.loss * *loss + constant } else { 0.0 };
        }
        losses
    }
}

impl RowLaw {
    /// Before any statistics.
    pub fn new(weighting: &PairWeighting) -> Self {
        Self { positive: SideLaw::open(&weighting.positive), negative: SideLaw::open(&weighting.negative), constant: 0.0 }
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

/// `ln(e^a + e^b)`.
fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = (a.min(b), a.max(b));
    if low == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// Fills in the law of one side and returns its loss that is no sum over pairs. `statistics` are of this kind and of the other.
fn scaled(law: &mut SideLaw, side: &Side, positive: bool, statistics: [SideStatistics; 2], (anchors, kept): (f64, f64)) -> f64 {
    let [own, other] = statistics;
    let (count, other_count) = (f64::from(own.count), f64::from(other.count));
    let (sum, other_sum) = (own.ln_sum(), other.ln_sum());
    let factor = f64::from(side.factor);
    let per_rate = side.curve.rate().map_or(0.0, |rate| if positive { -1.0 / f64::from(rate) } else { 1.0 / f64::from(rate) });
    let mut linear = |scale: f64| {
        (law.scale, law.loss) = ((factor * scale) as f32, (factor * scale) as f32);
        0.0
    };
    if side.scale == RowScale::Sum || matches!(side.scale, RowScale::Triplets(_)) {
        return 0.0;
    }
    if own.count == 0 {
        law.nothing();
        return 0.0;
    }
    let both = ln_add(sum, other_sum);
    let (normaliser, loss) = match side.scale {
        RowScale::Sum | RowScale::Triplets(_) => return 0.0,
        RowScale::Mean => return linear(1.0 / count),
        RowScale::MeanRow => return linear(1.0 / (count + other_count)),
        RowScale::MeanAll => return linear(anchors / kept),
        RowScale::SoftOne => (ln_add(0.0, sum), ln_add(0.0, sum)),
        RowScale::Soft => (sum, sum),
        RowScale::Joint => (both, both),
        RowScale::Remainder => (both + sum - other_sum, sum - both),
        RowScale::Contrast => (both, 0.0),
        RowScale::Product => (ln_add(0.0, sum + other_sum) - other_sum, ln_add(0.0, sum + other_sum)),
        RowScale::Hinge if sum + other_sum > 0.0 => (sum, sum + other_sum),
        RowScale::Hinge => (f64::INFINITY, 0.0),
        RowScale::Balanced if positive => (-other_sum, 0.0),
        RowScale::Balanced => (sum, 0.0),
    };
    if !normaliser.is_finite() {
        law.nothing();
        return factor * per_rate * loss;
    }
    if side.scale == RowScale::Contrast {
        let Curve::Exponential { k, s0 } = side.curve else { return 0.0 };
        (law.offset, law.scale, law.shift, law.loss) = ((factor / count) as f32, -side.factor, both as f32, 0.0);
        return factor * (both / f64::from(k) + f64::from(s0) - 1.0);
    }
    if side.curve.rate().is_none() && side.scale != RowScale::Balanced {
        return linear((-normaliser).exp());
    }
    law.shift = normaliser as f32;
    law.loss = if side.scale == RowScale::Balanced && positive { side.factor } else { 0.0 };
    factor * per_rate * loss
}

impl PairWeighting {
    /// Whether the weight of a pair depends on its similarity alone, and not on the other pairs of its row.
    pub fn is_plain(&self) -> bool {
        [&self.positive, &self.negative]
            .iter()
            .all(|side| side.scale == RowScale::Sum && side.mining == Mining::All && side.factor.to_bits() == 1f32.to_bits())
    }

    /// What has to be known of the rows first.
    pub fn passes(&self) -> Passes {
        let sides = [&self.positive, &self.negative];
        let any = |test: fn(&Side) -> bool| sides.iter().any(|side| test(side));
        Passes {
            mining: any(|side| side.mining != Mining::All),
            sums: any(|side| !matches!(side.scale, RowScale::Sum | RowScale::Triplets(_))),
            balance: any(|side| side.scale == RowScale::Balanced),
            triplets: any(|side| matches!(side.scale, RowScale::Triplets(_))),
        }
    }

    /// Whether both sides are parts of one loss, which is counted once.
    pub fn shares_its_loss(&self) -> bool {
        use RowScale::{Balanced, Contrast, Hinge, Joint, Product, Remainder};
        matches!(
            (self.positive.scale, self.negative.scale),
            (Remainder | Contrast, Joint) | (Product, Product) | (Hinge, Hinge) | (Balanced, Balanced)
        )
    }

    pub(super) fn validate_rows(&self) -> Result<()> {
        let (positive, negative) = (&self.positive, &self.negative);
        let exponential = |side: &Side| side.curve.rate().is_some();
        for (kind, side, other) in [("positive", positive, negative), ("negative", negative, positive)] {
            let ensure = |fine: bool, needs: &str| {
                let (scale, curve) = (side.scale, &side.curve);
                if fine {
                    Ok(())
                } else {
                    Err(Error::config(format!("{kind} pairs, curve `{curve}`, row scale `{scale}`: {needs}")))
                }
            };
            ensure(side.factor.is_finite() && side.factor >= 0.0, "the factor must be a number of at least 0")?;
            match side.mining {
                Mining::Relative(margin) => ensure(margin.is_finite(), "the margin of relative mining must be finite")?,
                Mining::Hardest(count) => ensure(count > 0, "mining needs at least 1 hardest pair")?,
                Mining::All => {}
            }
            match side.scale {
                RowScale::Remainder | RowScale::Contrast => {
                    ensure(kind == "positive", "this row scale is for positive pairs")?;
                    ensure(
                        matches!(side.curve, Curve::Exponential { .. }) && exponential(side),
                        "this row scale needs an `exp` curve with k other than 0",
                    )?;
                    ensure(exponential(other), "this row scale needs exponential curves on both sides")?;
                }
                RowScale::Product | RowScale::Hinge => {
                    ensure(
                        exponential(side) && exponential(other),
                        "this row scale needs an `exp` or `circle` curve on both sides",
                    )?;
                }
                RowScale::Balanced => {
                    let (positive, negative) = (&positive.curve, &negative.curve);
                    let fits = matches!(positive, Curve::Sigmoid { .. }) && matches!(negative, Curve::Exponential { .. });
                    ensure(
                        fits && exponential(&self.negative),
                        "balanced weights need a `sigmoid` for positives and an `exp` for negatives",
                    )?;
                    ensure(other.scale == RowScale::Balanced, "balanced weights need this row scale on both sides")?;
                }
                RowScale::Triplets(margin) => {
                    ensure(margin.is_finite(), "the margin must be finite")?;
                    let constant = |side: &Side| matches!(side.curve, Curve::Constant(_));
                    let same = other.scale == side.scale && constant(side) && constant(other);
                    ensure(same, "counted triplets need this row scale, with one margin, and a constant curve on both sides")?;
                    ensure(other.mining == Mining::All && side.mining == Mining::All, "counted triplets know no mining")?;
                }
                RowScale::Sum | RowScale::Mean | RowScale::MeanRow | RowScale::MeanAll => {
                    let circle = matches!(side.curve, Curve::Circle { .. });
                    ensure(!circle, "a circle needs a row scale that normalises it: soft, soft-one, joint, product or hinge")?;
                }
                RowScale::SoftOne | RowScale::Soft | RowScale::Joint => {}
            }
        }
        Ok(())
    }
}
