//! What a pass over a row finds of the pairs of a kind: how many, how hard, and the sum of their curve.

use super::SideLaw;
use crate::loss::{Curve, Side};
use bytemuck::{Pod, Zeroable};

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
