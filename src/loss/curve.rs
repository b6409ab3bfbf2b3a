//! The curves: each with its weight and the closed form of its integral, over arrays of similarities.

use super::elementary::{exp, ln};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Largest exponent of [`Curve::Exponential`]: `e^11` is the last power of e below the largest 16-bit float, 65,504.
pub const LARGEST_EXPONENT: f32 = 11.0;

/// Largest size of a weight, a slope or a rate: their products and sums over any memory stay within 32-bit numbers.
pub const LARGEST_RATE: f32 = 1e6;

/// Largest size of a similarity to compare with, or of a margin: far beyond every difference of two similarities.
pub const LARGEST_MARGIN: f32 = 100.0;

/// Largest exponent and start of [`Curve::Power`], whose base exceeds 1 where a similarity does by a rounding.
const LARGEST_POWER: f32 = 1e3;
const LATEST_START: f32 = 0.999;

/// Steepest line between two knots.
const STEEPEST: f32 = 1e30;

/// A weight as a function of similarity on [-1, 1], before its gate.
///
/// Weights, slopes and rates may be as large as [`LARGEST_RATE`], similarities and margins as [`LARGEST_MARGIN`].
///
/// Text forms, as used in settings: `constant:1`, `linear:a=1,b=0.5`, `power:s0=0.5,p=2`, `exp:k=10,s0=0.5`,
/// `sigmoid:k=10,s0=0.5`, `band:lo=0.5,hi=0.9`, `circle:gamma=80,m=0.4`, `table:-1=0,0.5=0,1=1`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Curve {
    /// `c`.
    Constant(f32),
    /// `a + b s`. Not clipped: below zero it reverses the pull of a pair.
    Linear {
        /// Weight at similarity 0.
        a: f32,
        /// Slope.
        b: f32,
    },
    /// `((s - s0) / (1 - s0))^p` above `s0`, 0 elsewhere; 1 at similarity 1.
    Power {
        /// Similarity below which the weight is 0; at most 0.999.
        s0: f32,
        /// Exponent, from 0 to 1000.
        p: f32,
    },
    /// `exp(k (s - s0))`, clipped at `e^11` ([`LARGEST_EXPONENT`]).
    Exponential {
        /// Growth per unit of similarity; negative for a falling curve.
        k: f32,
        /// Similarity at which the weight is 1.
        s0: f32,
    },
    /// `1 / (1 + exp(-k (s - s0)))`.
    Sigmoid {
        /// Steepness; negative for a falling curve.
        k: f32,
        /// Similarity at which the weight is one half.
        s0: f32,
    },
    /// 1 in `[lo, hi]`, 0 elsewhere.
    Band {
        /// Lowest similarity inside.
        lo: f32,
        /// Highest similarity inside.
        hi: f32,
    },
    /// `gamma [x + m]+ exp(gamma [x + m]+ (x - m))` with `x = s`; for a negative `gamma` its size and `x = 1 - s`, a falling curve.
    /// It grows beyond every bound, so it is for the row scales that normalise it.
    Circle {
        /// Scale of the exponent; negative for a falling curve.
        gamma: f32,
        /// Relaxation margin.
        m: f32,
    },
    /// Knots `(similarity, weight)` in ascending order, linear between them, constant beyond the first and the last.
    Table(Vec<(f32, f32)>),
}

/// `function` of every element.
#[inline(always)]
pub(super) fn each<const N: usize>(input: &[f32; N], function: impl Fn(f32) -> f32) -> [f32; N] {
    let mut output = [0.0; N];
    for (output, &input) in output.iter_mut().zip(input) {
        *output = function(input);
    }
    output
}

/// `area` of every pair of elements.
#[inline(always)]
pub(super) fn between<const N: usize>(from: &[f32; N], to: &[f32; N], area: impl Fn(f32, f32) -> f32) -> [f32; N] {
    let mut output = [0.0; N];
    for (output, (&from, &to)) in output.iter_mut().zip(from.iter().zip(to)) {
        *output = area(from, to);
    }
    output
}

impl Curve {
    /// The weight at similarity `s`.
    pub fn weight(&self, s: f32) -> f32 {
        self.weights(&[s])[0]
    }

    /// The integral of the weight between two similarities; negative if `to < from`.
    pub fn integral(&self, from: f32, to: f32) -> f32 {
        self.integrals(&[from], &[to])[0]
    }

    /// The weights at `N` similarities.
    #[inline(always)]
    pub fn weights<const N: usize>(&self, s: &[f32; N]) -> [f32; N] {
        match *self {
            Self::Constant(c) => [c; N],
            Self::Linear { a, b } => each(s, |s| a + b * s),
            Self::Power { s0, p } => each(s, |s| power((s - s0) / (1.0 - s0), p)),
            Self::Exponential { k, s0 } => each(s, |s| exp((k * (s - s0)).min(LARGEST_EXPONENT))),
            Self::Sigmoid { k, s0 } => each(s, |s| sigmoid(k * (s - s0))),
            Self::Band { lo, hi } => each(s, |s| if s >= lo && s <= hi { 1.0 } else { 0.0 }),
            Self::Circle { .. } => self.shifted_weights(s, &[0.0; N]),
            Self::Table(ref knots) => table_weights(knots, s),
        }
    }

    /// The integrals between `N` pairs of similarities.
    #[inline(always)]
    pub fn integrals<const N: usize>(&self, from: &[f32; N], to: &[f32; N]) -> [f32; N] {
        match *self {
            Self::Constant(c) => between(from, to, |from, to| c * (to - from)),
            Self::Linear { a, b } => between(from, to, |from, to| (to - from) * (a + 0.5 * b * (from + to))),
            Self::Power { s0, p } => {
                let width = 1.0 - s0;
                let area = |s: f32| power((s - s0) / width, p + 1.0) * width / (p + 1.0);
                between(from, to, |from, to| area(to) - area(from))
            }
            Self::Exponential { k, s0 } => between(from, to, |from, to| exponential_area(k, from - s0, to - s0)),
            Self::Sigmoid { k, s0 } => between(from, to, |from, to| sigmoid_area(k, from - s0, to - s0)),
            Self::Band { lo, hi } => between(from, to, |from, to| to.clamp(lo, hi) - from.clamp(lo, hi)),
            // Its loss is that of the row scale that normalises it.
            Self::Circle { .. } => [0.0; N],
            Self::Table(ref knots) => {
                let (from, to) = (table_areas(knots, from), table_areas(knots, to));
                between(&from, &to, |from, to| to - from)
            }
        }
    }

    /// For the curves that are exponentials of something, its derivative by the similarity: `k`, and for a circle the sign of `gamma`
    /// (the rest of it is its weight, held constant). `None` for all others.
    pub fn rate(&self) -> Option<f32> {
        match *self {
            Self::Exponential { k, .. } if k != 0.0 => Some(k),
            Self::Circle { gamma, .. } if gamma != 0.0 => Some(gamma.signum()),
            _ => None,
        }
    }

    /// The exponents of an exponential curve, or what is inside a sigmoid; elsewhere 0.
    #[inline(always)]
    pub fn exponents<const N: usize>(&self, s: &[f32; N]) -> [f32; N] {
        match *self {
            Self::Exponential { k, s0 } | Self::Sigmoid { k, s0 } => each(s, |s| k * (s - s0)),
            Self::Circle { gamma, m } => each(s, |s| {
                let x = circle_distance(gamma, s);
                gamma.abs() * (x + m).max(0.0) * (x - m)
            }),
            _ => [0.0; N],
        }
    }

    /// The weights with the exponents less by `shift`; the same weights where there is no exponent.
    #[inline(always)]
    pub fn shifted_weights<const N: usize>(&self, s: &[f32; N], shift: &[f32; N]) -> [f32; N] {
        let grown = |exponent: f32, shift: f32| exp((exponent - shift).min(LARGEST_EXPONENT));
        match *self {
            Self::Exponential { .. } => between(&self.exponents(s), shift, grown),
            Self::Sigmoid { .. } => between(&self.exponents(s), shift, |exponent, shift| sigmoid(exponent - shift)),
            Self::Circle { gamma, m } => {
                let grown = between(&self.exponents(s), shift, grown);
                between(s, &grown, |s, grown| gamma.abs() * (circle_distance(gamma, s) + m).max(0.0) * grown)
            }
            _ => self.weights(s),
        }
    }

    /// `e^(exponent - peak)`.
    #[inline(always)]
    pub(super) fn grown<const N: usize>(exponents: &[f32; N], peak: f32) -> [f32; N] {
        each(exponents, |exponent| exp(exponent - peak))
    }

    /// Area below a shifted sigmoid from where it vanishes to each similarity; elsewhere 0.
    #[inline(always)]
    pub fn sigmoid_tails<const N: usize>(&self, s: &[f32; N], shift: &[f32; N]) -> [f32; N] {
        match *self {
            Self::Sigmoid { k, .. } => {
                between(&self.exponents(s), shift, |exponent, shift| softplus(exponent - shift) / k.abs().max(f32::MIN_POSITIVE))
            }
            _ => [0.0; N],
        }
    }

    /// An open interval outside of which the weight is exactly 0.
    pub(super) fn support(&self) -> (f32, f32) {
        match self {
            Self::Power { s0, .. } => (*s0, f32::INFINITY),
            Self::Band { lo, hi } => (lo.next_down(), hi.next_up()),
            Self::Table(knots) => table_support(knots),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        }
    }

    /// Fails if a parameter is outside the range its variant states.
    ///
    /// # Errors
    /// [`Error::Config`] naming the curve and the condition.
    pub fn validate(&self) -> Result<()> {
        let rate = |value: f32| value.abs() <= LARGEST_RATE;
        let similarity = |value: f32| value.abs() <= LARGEST_MARGIN;
        let bounded = match *self {
            Self::Constant(c) => rate(c),
            Self::Linear { a, b } => rate(a) && rate(b),
            Self::Exponential { k: rated, s0: s } | Self::Sigmoid { k: rated, s0: s } | Self::Circle { gamma: rated, m: s } => {
                rate(rated) && similarity(s)
            }
            Self::Power { s0: from, p: to } | Self::Band { lo: from, hi: to } => similarity(from) && (similarity(to) || rate(to)),
            Self::Table(ref knots) => knots.iter().all(|&(s, weight)| similarity(s) && rate(weight)),
        };
        let (sound, condition) = match *self {
            _ if !bounded => (false, "expected weights and rates from -1e6 to 1e6, similarities and margins from -100 to 100"),
            Self::Power { s0, p } => {
                (s0 <= LATEST_START && (0.0..=LARGEST_POWER).contains(&p), "power needs s0 of at most 0.999 and p from 0 to 1000")
            }
            Self::Band { lo, hi } => (lo <= hi, "band needs lo <= hi"),
            Self::Table(ref knots) => (
                !knots.is_empty() && knots.windows(2).all(|pair| pair[0].0 < pair[1].0 && slope(pair, 0).abs() <= STEEPEST),
                "table needs at least one knot, and knots in ascending order of similarity",
            ),
            _ => (true, ""),
        };
        if sound { Ok(()) } else { Err(Error::config(format!("weight curve `{self}`: {condition}"))) }
    }
}

#[inline(always)]
fn power(x: f32, p: f32) -> f32 {
    if x > 0.0 { exp(p * ln(x)) } else { 0.0 }
}

#[inline(always)]
fn circle_distance(gamma: f32, s: f32) -> f32 {
    if gamma < 0.0 { 1.0 - s } else { s }
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`.
#[inline(always)]
fn softplus(x: f32) -> f32 {
    x.max(0.0) + ln(1.0 + exp(-x.abs()))
}

/// Area below the clipped `exp(k x)`: the part below the clip, then a rectangle.
#[inline(always)]
fn exponential_area(k: f32, from: f32, to: f32) -> f32 {
    let clip = if k == 0.0 { f32::INFINITY } else { LARGEST_EXPONENT / k };
    let below_clip = |x: f32| if k < 0.0 { x.max(clip) } else { x.min(clip) };
    let (low, high) = (below_clip(from), below_clip(to));
    let (low_exponent, high_exponent) = (k * low, k * high);
    // From the larger end the mean is at most 1, so nothing overflows and nothing cancels.
    let curved = (high - low) * exp(low_exponent.max(high_exponent)) * mean_of_decay((high_exponent - low_exponent).abs());
    curved + exp(LARGEST_EXPONENT) * ((to - high) - (from - low))
}

/// `(1 - e^-x) / x` for `x >= 0`.
#[inline(always)]
fn mean_of_decay(x: f32) -> f32 {
    let series = 1.0 - x / 2.0 * (1.0 - x / 3.0 * (1.0 - x / 4.0 * (1.0 - x / 5.0 * (1.0 - x / 6.0 * (1.0 - x / 7.0)))));
    if x < 0.4 { series } else { (1.0 - exp(-x)) / x }
}

/// Area below `1 / (1 + e^(-k x))`. Flat curves use Gauss's three points, as the difference of two softplus would cancel.
#[inline(always)]
fn sigmoid_area(k: f32, from: f32, to: f32) -> f32 {
    const FLAT: f32 = 0.25;
    const GAUSS_POINT: f32 = 0.774_596_7;
    if k.abs() >= FLAT {
        return (softplus(k * to) - softplus(k * from)) / k;
    }
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    let outer = sigmoid(k * (middle - half * GAUSS_POINT)) + sigmoid(k * (middle + half * GAUSS_POINT));
    half * (5.0 * outer + 8.0 * sigmoid(k * middle)) / 9.0
}

/// Slope of the segment that starts at knot `index`; 0 after the last.
#[inline(always)]
fn slope(knots: &[(f32, f32)], index: usize) -> f32 {
    let (s, weight) = knots[index];
    knots.get(index + 1).map_or(0.0, |&(next_s, next_weight)| (next_weight - weight) / (next_s - s))
}

#[inline(always)]
fn table_weights<const N: usize>(knots: &[(f32, f32)], s: &[f32; N]) -> [f32; N] {
    let mut weights = [knots.first().map_or(0.0, |knot| knot.1); N];
    for (index, &(start, weight)) in knots.iter().enumerate() {
        let slope = slope(knots, index);
        for (output, &s) in weights.iter_mut().zip(s) {
            *output = if s >= start { weight + slope * (s - start) } else { *output };
        }
    }
    weights
}

/// Areas from the first knot to each similarity.
#[inline(always)]
fn table_areas<const N: usize>(knots: &[(f32, f32)], s: &[f32; N]) -> [f32; N] {
    let (first, first_weight) = knots.first().copied().unwrap_or_default();
    let mut areas = each(s, |s| first_weight * (s - first));
    let mut before = 0.0;
    for (index, &(start, weight)) in knots.iter().enumerate() {
        let slope = slope(knots, index);
        let area = |s: f32| before + (s - start) * (weight + 0.5 * slope * (s - start));
        for (output, &s) in areas.iter_mut().zip(s) {
            *output = if s >= start { area(s) } else { *output };
        }
        before = knots.get(index + 1).map_or(before, |next| area(next.0));
    }
    areas
}

fn table_support(knots: &[(f32, f32)]) -> (f32, f32) {
    let leading = knots.iter().take_while(|knot| knot.1 == 0.0).last();
    let trailing = knots.iter().rev().take_while(|knot| knot.1 == 0.0).last();
    (leading.map_or(f32::NEG_INFINITY, |knot| knot.0), trailing.map_or(f32::INFINITY, |knot| knot.0))
}
