//! Host side of `kernels/weighting.cuh`: a weight curve as the kernels read it.

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

    /// The same with weights only inside the open interval.
    #[must_use]
    pub fn gated(self, low: f32, high: f32) -> Self {
        Self { gate_low: low, gate_high: high, ..self }
    }
}
