//! Host side of `kernels/pair_loss/weighting.cuh`: a weight curve as the kernels read it.

use crate::error::{Error, Result};
use crate::loss::{Curve, Side};
use bytemuck::{Pod, Zeroable};

/// Longest table of knots a kernel takes.
pub const MAX_KNOTS: usize = 16;

/// Which curve; what the two parameters mean is said at each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CurveKind {
    /// `first`.
    Constant = 0,
    /// `first + second s`.
    Linear = 1,
    /// `((s - first) / (1 - first))^second` above `first`.
    Power = 2,
    /// `exp(first (s - second))`, clipped at `e^11`.
    Exponential = 3,
    /// `1 / (1 + exp(-first (s - second)))`.
    Sigmoid = 4,
    /// 1 from `first` to `second`.
    Band = 5,
    /// Linear between knots.
    Table = 6,
    /// `gamma [x + m]+ exp(gamma [x + m]+ (x - m))`: `gamma` is the size of `first`, `m` is `second`, `x` is `s`, or `1 - s` where
    /// `first` is negative.
    Circle = 7,
}

/// A gated curve, by value in the arguments of a kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
pub struct CurveParams {
    kind: u32,
    first: f32,
    second: f32,
    gate_low: f32,
    gate_high: f32,
    knots: u32,
    knot_s: [f32; MAX_KNOTS],
    knot_weight: [f32; MAX_KNOTS],
}

impl CurveParams {
    /// A curve of two parameters, without a gate.
    pub fn new(kind: CurveKind, first: f32, second: f32) -> Self {
        let (gate_low, gate_high) = (f32::NEG_INFINITY, f32::INFINITY);
        Self {
            kind: kind as u32,
            first,
            second,
            gate_low,
            gate_high,
            knots: 1,
            knot_s: [0.0; MAX_KNOTS],
            knot_weight: [0.0; MAX_KNOTS],
        }
    }

    /// A table of `(similarity, weight)` in ascending order; `None` if it is empty or longer than [`MAX_KNOTS`].
    pub fn table(knots: &[(f32, f32)]) -> Option<Self> {
        if knots.is_empty() || knots.len() > MAX_KNOTS {
            return None;
        }
        let mut curve = Self { knots: knots.len() as u32, ..Self::new(CurveKind::Table, 0.0, 0.0) };
        for (index, &(s, weight)) in knots.iter().enumerate() {
            (curve.knot_s[index], curve.knot_weight[index]) = (s, weight);
        }
        Some(curve)
    }

    /// Whether all pairs that pass the gate weigh the same.
    pub fn is_constant(&self) -> bool {
        self.kind == CurveKind::Constant as u32
    }

    /// The same with weights only inside the open interval.
    #[must_use]
    pub fn gated(self, low: f32, high: f32) -> Self {
        Self { gate_low: low, gate_high: high, ..self }
    }
}

impl TryFrom<&Side> for CurveParams {
    type Error = Error;

    /// The curve as the kernels read it.
    ///
    /// # Errors
    /// [`Error::Config`] if a table has more than [`MAX_KNOTS`] knots.
    fn try_from(gated: &Side) -> Result<Self> {
        let curve = match gated.curve {
            Curve::Constant(c) => Self::new(CurveKind::Constant, c, 0.0),
            Curve::Linear { a, b } => Self::new(CurveKind::Linear, a, b),
            Curve::Power { s0, p } => Self::new(CurveKind::Power, s0, p),
            Curve::Exponential { k, s0 } => Self::new(CurveKind::Exponential, k, s0),
            Curve::Sigmoid { k, s0 } => Self::new(CurveKind::Sigmoid, k, s0),
            Curve::Band { lo, hi } => Self::new(CurveKind::Band, lo, hi),
            Curve::Circle { gamma, m } => Self::new(CurveKind::Circle, gamma, m),
            Curve::Table(ref knots) => Self::table(knots).ok_or_else(|| {
                let advice = "expected 1 to 16 knots on a GPU";
                Error::config(format!("weight curve `{}`: {advice}, found {}", gated.curve, knots.len()))
            })?,
        };
        let (low, high) = gated.gate.interval();
        Ok(curve.gated(low, high))
    }
}
