//! Numbers of the GPU beside those of the CPU, and how far apart they may be.

use crate::device::cuda::Precision;
use serde::{Deserialize, Serialize};

/// Another order of sums and products in 32 bit, and library algorithms that add before they multiply (Winograd's).
const SUMS: f64 = 1e-3;
/// Operands and results rounded to 10 bits of mantissa, 5e-4 each, over a few operations.
const ROUNDED_TO_10_BITS: f64 = 1e-2;
/// The same of 7 bits, 4e-3 each.
const ROUNDED_TO_7_BITS: f64 = 6e-2;
/// One minus the cosine of vectors that went through a network: every layer rounds again, and a value beside zero may change sides of a
/// rectifier. A gradient that has nothing to do with the right one is 1 away.
const THROUGH_A_NETWORK: f64 = 0.1;

/// How near the CPU's numbers those of a GPU have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// Copies, counts and ranks: the same.
    Exact,
    /// Computed in 32 bit, whatever format activations have; relative to the largest number.
    Summed,
    /// Rounded to the format of activations; relative to the largest number.
    Rounded,
    /// The result of many layers: one minus the cosine.
    Directed,
}

/// Numbers that an operation computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity {
    /// What they are.
    pub what: String,
    /// The numbers.
    pub values: Vec<f32>,
    /// How near those of another device have to be.
    pub closeness: Closeness,
}

impl Quantity {
    /// Numbers that have to be that near.
    pub fn new(what: impl Into<String>, closeness: Closeness, values: Vec<f32>) -> Self {
        Self { what: what.into(), values, closeness }
    }

    /// Integers, which have to be the same. They must be small enough for 32-bit floats.
    pub fn integers(what: impl Into<String>, values: &[i32]) -> Self {
        Self::new(what, Closeness::Exact, values.iter().map(|&value| value as f32).collect())
    }
}

/// A quantity of both devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared.
    pub what: String,
    /// How far apart the devices are; `WRONG` where one of them has no number.
    pub error: f64,
    /// How far apart they may be.
    pub tolerance: f64,
}

/// The error of something that is no number, or of another length. (JSON has no infinity.)
pub const WRONG: f64 = 1e30;

impl Comparison {
    /// Of what the GPU found in a format with what the CPU expects.
    pub fn new(precision: Precision, expected: &Quantity, found: &Quantity) -> Self {
        let error = if expected.values.len() == found.values.len() {
            match expected.closeness {
                Closeness::Directed => 1.0 - cosine(&expected.values, &found.values),
                _ => relative_error(&expected.values, &found.values),
            }
        } else {
            WRONG
        };
        let error = if error.is_finite() { error.min(WRONG) } else { WRONG };
        Self { what: expected.what.clone(), error, tolerance: tolerance(expected.closeness, precision) }
    }

    /// Whether the devices agree.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }

    /// The error in units of what is allowed.
    pub fn share(&self) -> f64 {
        if self.holds() && self.tolerance == 0.0 { 0.0 } else { self.error / self.tolerance.max(f64::MIN_POSITIVE) }
    }

    /// What is wrong, in words.
    pub fn words(&self) -> String {
        let Self { what, error, tolerance } = self;
        if *error >= WRONG {
            format!("{what}: no number where the CPU's is one")
        } else if *tolerance == 0.0 {
            format!("{what}: not exactly the CPU's")
        } else {
            format!("{what}: {error:.1e} away from the CPU's, where at most {tolerance:.0e} is expected")
        }
    }
}

fn tolerance(closeness: Closeness, precision: Precision) -> f64 {
    match (closeness, precision) {
        (Closeness::Exact, _) => 0.0,
        (Closeness::Directed, _) => THROUGH_A_NETWORK,
        (Closeness::Summed, _) | (Closeness::Rounded, Precision::Fp32) => SUMS,
        // Factors of products keep 10 bits.
        (Closeness::Rounded, Precision::Fp16 | Precision::Tf32) => ROUNDED_TO_10_BITS,
        (Closeness::Rounded, Precision::Bf16) => ROUNDED_TO_7_BITS,
    }
}

/// The largest difference, relative to the largest expected number.
fn relative_error(expected: &[f32], found: &[f32]) -> f64 {
    let scale = expected.iter().fold(1e-30, |largest: f64, &value| largest.max(f64::from(value).abs()));
    let apart = |(&expected, &found): (&f32, &f32)| (f64::from(found) - f64::from(expected)).abs() / scale;
    // Not `max`, which passes over what is not a number.
    expected
        .iter()
        .zip(found)
        .map(apart)
        .fold(0.0, |largest, error| if error > largest || error.is_nan() { error } else { largest })
}

fn cosine(left: &[f32], right: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(closeness: Closeness, expected: &[f32], found: &[f32]) -> Comparison {
        let of = |values: &[f32]| Quantity::new("sum", closeness, values.to_vec());
        Comparison::new(Precision::Fp16, &of(expected), &of(found))
    }

    #[test]
    fn what_is_no_number_or_has_another_length_never_holds() {
        for closeness in [Closeness::Exact, Closeness::Summed, Closeness::Rounded, Closeness::Directed] {
            for found in [&[1.0, f32::NAN][..], &[f32::NAN, 2.0], &[1.0, f32::INFINITY], &[1.0], &[]] {
                let comparison = comparison(closeness, &[1.0, 2.0], found);
                assert!(!comparison.holds(), "{closeness:?} {found:?}");
            }
            assert!(comparison(closeness, &[1.0, 2.0], &[1.0, 2.0]).holds(), "{closeness:?}");
        }
    }

    #[test]
    fn an_error_is_relative_to_the_largest_number_expected() {
        assert!(comparison(Closeness::Rounded, &[100.0, 0.0], &[100.0, 0.9]).holds());
        assert!(!comparison(Closeness::Rounded, &[100.0, 0.0], &[100.0, 1.1]).holds());
        assert!(!comparison(Closeness::Exact, &[100.0, 0.0], &[100.0, 1e-6]).holds());
        assert!(!comparison(Closeness::Directed, &[1.0, 0.0], &[0.0, 1.0]).holds());
    }
}
