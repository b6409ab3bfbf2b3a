//! What a few seeds can say: paired differences, Student's interval around their mean, and the exact sign-flip test.
//!
//! Seeds are paired: two variants under one seed see the same classes, the same batches and the same initial network, so the difference
//! of their scores varies less than the scores do. With `n` seeds the smallest two-sided p of a sign-flip test is `2^(1 - n)`: three seeds
//! can never go below 0.25, whatever they show, which is why verdicts rest on the interval.

use serde::{Deserialize, Serialize};

/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;
/// Scores, and sums of them, that differ by rounding are equal.
const EQUAL: f64 = 1e-12;
/// Most differences whose signs are all tried.
const MOST_FLIPS: usize = 20;

/// Mean and spread of a score over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their sample standard deviation (divisor `count - 1`), 0 of one value.
    pub deviation: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        (count > 0).then(|| Self { count, mean, deviation: (squares / (count - 1).max(1) as f64).sqrt() })
    }

    /// Half of the interval that holds the true mean with [`CONFIDENCE`]; `None` of fewer than two values, and of equal ones: how far
    /// others would lie from these cannot be told from a spread of nothing.
    pub fn half_width(&self) -> Option<f64> {
        let freedom = self.count.checked_sub(1).filter(|&freedom| freedom > 0 && self.deviation > EQUAL)?;
        Some(student_quantile(CONFIDENCE, freedom) * self.deviation / (self.count as f64).sqrt())
    }
}

/// The probability that Student's t with `freedom` degrees of freedom lies within `-t ..= t`, as the finite sums of Abramowitz and
/// Stegun 26.7.3 and 26.7.4.
pub fn student_within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let (mut term, mut sum) = if odd { (cosine, 0.0) } else { (1.0, 0.0) };
    let mut denominator = if odd { 1.0 } else { 0.0 };
    for _ in 0..freedom / 2 {
        sum += term;
        term *= cosine * cosine * (denominator + 1.0) / (denominator + 2.0);
        denominator += 2.0;
    }
    if odd { std::f64::consts::FRAC_2_PI * (angle + sine * sum) } else { sine * sum }
}

/// The `t` with [`student_within`]`(t, freedom) == probability`, to the last bits, by bisection.
pub fn student_quantile(probability: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while student_within(high, freedom) < probability {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if student_within(middle, freedom) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Two-sided p of the hypothesis that differences are as likely positive as negative: the share of all sign patterns whose sum is at
/// least as far from 0. `None` of none, and of more than 20.
pub fn sign_flip_p(differences: &[f64]) -> Option<f64> {
    let count = differences.len();
    if count == 0 || count > MOST_FLIPS {
        return None;
    }
    let observed = differences.iter().sum::<f64>().abs();
    let flipped = |pattern: u32| {
        let signed = differences.iter().enumerate().map(|(index, value)| if pattern >> index & 1 == 1 { -value } else { *value });
        signed.sum::<f64>().abs()
    };
    let extreme = (0..1u32 << count).filter(|&pattern| flipped(pattern) >= observed - EQUAL).count();
    Some(extreme as f64 / f64::from(1u32 << count))
}

/// What the seeds say about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The interval lies where the claim says.
    Confirmed,
    /// The interval lies where the claim does not.
    NotConfirmed,
    /// The interval holds both, or there is none: of fewer than two pairs, or of differences that are all equal.
    Undecided,
    /// No seed has a finished run of both variants.
    NotTested,
}

/// Which way a difference is claimed to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Above 0.
    #[serde(rename = "better")]
    Better,
    /// Not above a margin that matters.
    #[serde(rename = "no better")]
    NoBetter,
}

impl Direction {
    /// `better` is confirmed when the whole interval is above 0, and not confirmed when all of it is below `margin`, the smallest gain that
    /// matters. `no better` is confirmed when all of it is below `margin`, and not confirmed when all of it is above 0.
    pub fn judge(self, differences: &Spread, margin: f64) -> Verdict {
        let Some(half) = differences.half_width() else { return Verdict::Undecided };
        let (above_zero, below_margin) = (differences.mean - half > 0.0, differences.mean + half < margin);
        match (self, above_zero, below_margin) {
            (Self::Better, true, _) | (Self::NoBetter, _, true) => Verdict::Confirmed,
            (Self::Better, false, true) | (Self::NoBetter, true, false) => Verdict::NotConfirmed,
            (_, false, false) => Verdict::Undecided,
        }
    }
}

impl Verdict {
    /// Of several claims together: confirmed if all are, not confirmed if one is not.
    pub fn of_all(verdicts: impl IntoIterator<Item = Self>) -> Self {
        let mut together = None;
        for verdict in verdicts {
            together = Some(match (together, verdict) {
                (Some(Self::NotConfirmed), _) | (_, Self::NotConfirmed) => Self::NotConfirmed,
                (Some(Self::NotTested), _) | (_, Self::NotTested) => Self::NotTested,
                (Some(Self::Undecided), _) | (_, Self::Undecided) => Self::Undecided,
                _ => Self::Confirmed,
            });
        }
        together.unwrap_or(Self::NotTested)
    }

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::NotConfirmed => "not confirmed",
            Self::Undecided => "undecided",
            Self::NotTested => "not tested",
        }
    }
}
