//! What a pass over a row finds of the pairs of a kind: how many, how hard, and the sum of their curve.

use super::SideNormalizer;
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
    row_max: f32,
    /// Sum of the curve divided by `e^row_max`: with `sum_exp_low`, what single precision rounds off, 48 bits of it.
    sum_exp: f32,
    sum_exp_low: f32,
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
            row_max: f32::NEG_INFINITY,
            sum_exp: 0.0,
            sum_exp_low: 0.0,
        }
    }

    /// Adds the pairs `mask` of 32 similarities at most, with a running maximum of the exponents: the online softmax.
    #[inline(always)]
    pub fn accumulate<const N: usize>(
        &mut self,
        side: &Side,
        normalizer: &SideNormalizer,
        positive: bool,
        s: &[f32; N],
        mask: u32,
    ) {
        let ((gate_low, gate_high), log) = (side.gate.interval(), side.curve.rate().is_some());
        let (low, high) = (normalizer.low.max(gate_low), normalizer.high.min(gate_high));
        let values = if log { side.curve.exponents(s) } else { side.curve.shifted_weights(s, &[normalizer.shift; N]) };
        let (mut kept, mut count) = ([false; N], 0);
        let (mut row_max, mut hardest) = (if log { f32::NEG_INFINITY } else { 0.0 }, self.hardest);
        for lane in 0..N {
            let pair = mask >> lane & 1 == 1;
            let s = s[lane];
            hardest = if pair && (if positive { s < hardest } else { s > hardest }) { s } else { hardest };
            kept[lane] = pair && s > low && s < high && (log || values[lane] != 0.0);
            count += u32::from(kept[lane]);
            row_max = if log && kept[lane] { row_max.max(values[lane]) } else { row_max };
        }
        self.hardest = hardest;
        if count == 0 {
            return;
        }
        let grown = if log { Curve::grown(&values, row_max) } else { values };
        let mut sum_exp = 0.0;
        for lane in 0..N {
            sum_exp += if kept[lane] { grown[lane] } else { 0.0 };
        }
        *self = self.plus(Self { count, hardest, row_max, sum_exp, sum_exp_low: 0.0 }, positive);
    }

    /// Of the pairs of both.
    #[must_use]
    pub fn plus(self, other: Self, positive: bool) -> Self {
        let row_max = self.row_max.max(other.row_max);
        let part = |side: Self| {
            if side.row_max == row_max { side.total() } else { side.total() * f64::from(side.row_max - row_max).exp() }
        };
        let total = if row_max == f32::NEG_INFINITY { 0.0 } else { part(self) + part(other) };
        let sum_exp = total as f32;
        let hardest = if positive { self.hardest.min(other.hardest) } else { self.hardest.max(other.hardest) };
        Self { count: self.count + other.count, hardest, row_max, sum_exp, sum_exp_low: (total - f64::from(sum_exp)) as f32 }
    }

    fn total(self) -> f64 {
        f64::from(self.sum_exp) + f64::from(self.sum_exp_low)
    }

    /// Sum of the curve, for curves that are no exponentials.
    pub fn weight(self) -> f64 {
        if self.count == 0 { 0.0 } else { self.total() * f64::from(self.row_max).exp() }
    }

    /// Logarithm of the sum of the curve; minus infinity where there is none.
    pub fn ln_sum(self) -> f64 {
        if self.count == 0 || self.total() <= 0.0 { f64::NEG_INFINITY } else { f64::from(self.row_max) + self.total().ln() }
    }
}
