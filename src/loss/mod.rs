//! Pair weights as curves of similarity: what a pair-wise loss does, written directly.
//!
//! Any pair-wise loss acts on an embedding only through `w = |dL/ds|` of each pair, `s` being the cosine similarity. Here `w` is
//! chosen directly, as a [`Curve`] behind a [`Gate`], for positives and negatives independently ([`PairWeighting`]); the loss
//! that is reported is its integral, so that its derivative is the weight exactly:
//!
//! ```text
//! positive pair:  L+(s) = integral of w+ from s to 1       dL+/ds = -w+(s)
//! negative pair:  L-(s) = integral of w- from -1 to s      dL-/ds = +w-(s)
//! ```
//!
//! A gate makes `w` zero on one side of a threshold `t`, so a negative gated at `s > t` has `L-(s) = integral from t to s`.
//!
//! The default is the rule of arXiv 2103.14003 (discard easy negatives, do not weight positives): `w+ = 1`, `w- = 1` where
//! `s > 0.5`. Its losses are `1 - s` for a positive and `s - 0.5` for a kept negative. Cross-batch memory (CVPR 2020) reports `s`
//! for a kept negative instead. The two differ by the constant 0.5 per kept negative, hence have the same gradient; `s - 0.5` is
//! preferred because it is continuous where a negative enters or leaves, so a reported loss does not jump with the kept count.
//!
//! Beyond its similarity, the weight of a pair may depend on the other pairs of its row: [`Mining`] and [`Normalization`] of a [`Side`], with which
//! the published pair-wise losses are weights too ([`Named`]). `normalizer/` has their formulas.
//!
//! Curves are evaluated over arrays of similarities without branches, so that callers which hold many similarities get vector
//! code; the scalar functions are arrays of one. Every result is finite for `s` in [-1, 1] and a rounding error beyond.
//!
//! ```
//! use xbm_fast::loss::{Curve, Gate, PairWeighting, Normalization};
//!
//! let rule = PairWeighting::default();
//! assert_eq!((rule.negative.weight(0.4), rule.negative.weight(0.6)), (0.0, 1.0));
//! assert_eq!((rule.positive.positive_loss(0.25), rule.negative.negative_loss(0.75)), (0.75, 0.25));
//!
//! let harder: Curve = "exp:k=10,s0=1".parse()?;
//! assert_eq!(harder, Curve::Exponential { k: 10.0, s0: 1.0 });
//! assert_eq!("above:0.5".parse::<Gate>()?, Gate::Above(0.5));
//!
//! let multi_similarity: PairWeighting = "multi-similarity:beta=40".parse()?;
//! assert_eq!(multi_similarity.negative.curve, "exp:k=40,s0=0.5".parse()?);
//! assert_eq!(multi_similarity.negative.scale, Normalization::SoftmaxPlusOne);
//! # Ok::<(), xbm_fast::Error>(())
//! ```

mod curve;
mod elementary;
mod named;
mod normalizer;
mod reference;
mod soft;
mod text;

pub use curve::{Curve, LARGEST_EXPONENT, LARGEST_MARGIN, LARGEST_RATE};
pub use named::{Named, Parameter};
pub use normalizer::{Mining, Normalization, Passes, RowNormalizer, SideNormalizer, SideStatistics, Totals};
pub use reference::ReferenceRow;
pub use soft::Soft;

use crate::error::{Error, Result};
use curve::{between, each};
use serde::{Deserialize, Serialize};

/// The similarity above which the rule keeps a negative.
pub const NEGATIVE_THRESHOLD: f32 = 0.5;

/// Which similarities have a weight at all. Text forms: `none`, `above:0.5`, `below:0.9`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Gate {
    /// All.
    #[default]
    None,
    /// `s > t`: on negatives, discards the easy ones.
    Above(f32),
    /// `s < t`: on positives, discards the easy ones.
    Below(f32),
}

/// The weight of one kind of pair: a curve behind a gate, which pairs are mined, and how the row scales them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// Weight of the pairs that pass the gate.
    pub curve: Curve,
    /// Which pairs have a weight, by their similarity.
    #[serde(default)]
    pub gate: Gate,
    /// Which pairs have a weight, by the other pairs of their row.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mining: Mining,
    /// What the weights of a row are divided by.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale: Normalization,
    /// In front of all weights of the kind: the balance of positive and negative term.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub factor: f32,
    /// How soft labels weigh the pairs; negatives only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft: Option<Soft>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> f32 {
    1.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(factor: &f32) -> bool {
    factor.to_bits() == one().to_bits()
}

/// Weights of positive and negative pairs, chosen independently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairWeighting {
    /// Pairs of equal label, pulled together.
    pub positive: Side,
    /// Pairs of different label, pushed apart.
    pub negative: Side,
}

impl Gate {
    /// The open interval of similarities that pass.
    pub fn interval(self) -> (f32, f32) {
        match self {
            Self::None => (f32::NEG_INFINITY, f32::INFINITY),
            Self::Above(threshold) => (threshold, f32::INFINITY),
            Self::Below(threshold) => (f32::NEG_INFINITY, threshold),
        }
    }

    /// Fails unless the threshold is a similarity.
    ///
    /// # Errors
    /// [`Error::Config`] naming the gate.
    pub fn validate(self) -> Result<()> {
        match self {
            Self::Above(threshold) | Self::Below(threshold) if !(-1.0..=1.0).contains(&threshold) => {
                Err(Error::config(format!("gate `{self}`: expected a similarity in -1..1, found {threshold}")))
            }
            _ => Ok(()),
        }
    }
}

impl Side {
    /// A curve behind a gate, for all pairs of a row alike.
    pub fn new(curve: Curve, gate: Gate) -> Self {
        Self { curve, gate, mining: Mining::All, scale: Normalization::Sum, factor: 1.0, soft: None }
    }

    /// A curve without a gate.
    pub fn ungated(curve: Curve) -> Self {
        Self::new(curve, Gate::None)
    }

    /// The same under a row scale.
    #[must_use]
    pub fn scaled(self, scale: Normalization) -> Self {
        Self { scale, ..self }
    }

    /// The same times a factor.
    #[must_use]
    pub fn times(self, factor: f32) -> Self {
        Self { factor, ..self }
    }

    /// The same for mined pairs only.
    #[must_use]
    pub fn mined(self, mining: Mining) -> Self {
        Self { mining, ..self }
    }

    /// Whether the loss of a pair is the area below a sigmoid from where it vanishes, as published losses have it, rather than from the
    /// end of the similarities.
    pub fn reports_tails(&self, positive: bool) -> bool {
        let falls_away = matches!(self.curve, Curve::Sigmoid { k, .. } if if positive { k < 0.0 } else { k > 0.0 });
        falls_away && self.gate == Gate::None && self.scale != Normalization::Sum
    }

    /// The weight at similarity `s`, 0 where the gate is closed.
    pub fn weight(&self, s: f32) -> f32 {
        self.weights(&[s])[0]
    }

    /// Loss of a positive pair: the integral of the weight from `s` to 1.
    pub fn positive_loss(&self, s: f32) -> f32 {
        self.positive_losses(&[s])[0]
    }

    /// Loss of a negative pair: the integral of the weight from -1 to `s`.
    pub fn negative_loss(&self, s: f32) -> f32 {
        self.negative_losses(&[s])[0]
    }

    /// [`Side::weight`] at `N` similarities.
    #[inline(always)]
    pub fn weights<const N: usize>(&self, s: &[f32; N]) -> [f32; N] {
        let (lo, hi) = self.gate.interval();
        let curve = self.curve.weights(s);
        between(s, &curve, |s, weight| if s > lo && s < hi { weight } else { 0.0 })
    }

    /// [`Side::positive_loss`] at `N` similarities.
    #[inline(always)]
    pub fn positive_losses<const N: usize>(&self, s: &[f32; N]) -> [f32; N] {
        let (lo, hi) = self.gate.interval();
        self.curve.integrals(&each(s, |s| s.clamp(lo, hi)), &[hi.min(1.0); N])
    }

    /// [`Side::negative_loss`] at `N` similarities.
    #[inline(always)]
    pub fn negative_losses<const N: usize>(&self, s: &[f32; N]) -> [f32; N] {
        let (lo, hi) = self.gate.interval();
        self.curve.integrals(&[lo.max(-1.0); N], &each(s, |s| s.clamp(lo, hi)))
    }

    /// An open interval outside of which the weight is exactly 0. Above it a positive has no loss, below it a negative has none.
    pub fn support(&self) -> (f32, f32) {
        let (curve, gate) = (self.curve.support(), self.gate.interval());
        (curve.0.max(gate.0), curve.1.min(gate.1))
    }

    /// Fails if a parameter of curve or gate is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] naming it.
    pub fn validate(&self) -> Result<()> {
        self.curve.validate()?;
        self.gate.validate()
    }
}

impl PairWeighting {
    /// The rule: every positive weighs 1, a negative weighs 1 where its similarity exceeds [`NEGATIVE_THRESHOLD`].
    pub fn contrastive() -> Self {
        let negative = Side::new(Curve::Constant(1.0), Gate::Above(NEGATIVE_THRESHOLD));
        Self { positive: Side::ungated(Curve::Constant(1.0)), negative }
    }

    /// The same, as a loss takes it.
    ///
    /// # Errors
    /// [`Error::Config`] naming a parameter of either side that is out of range.
    pub fn valid(self) -> Result<ValidWeighting> {
        self.validate().map(|()| ValidWeighting(self))
    }

    /// Fails if a parameter of either side is out of range.
    ///
    /// # Errors
    /// [`Error::Config`] naming it.
    pub fn validate(&self) -> Result<()> {
        self.positive.validate()?;
        self.negative.validate()?;
        self.validate_rows()
    }
}

/// A weighting whose parameters are in range: what every loss takes, so that it is checked once, where it enters.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidWeighting(PairWeighting);

impl std::ops::Deref for ValidWeighting {
    type Target = PairWeighting;

    fn deref(&self) -> &PairWeighting {
        &self.0
    }
}

impl Default for PairWeighting {
    fn default() -> Self {
        Self::contrastive()
    }
}
