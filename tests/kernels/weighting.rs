//! The curves of `kernels/weighting.cuh` over a dense grid, against the formulas in double precision.

use crate::device::on_every_schedule;
use crate::support::assert_close;
use xbm_fast::cuda::pair_loss::{WeighParams, item_shape};
use xbm_fast::cuda::weighting::{CurveKind, CurveParams};
use xbm_fast::loss::Side;

/// Single precision, and the cancellation of two nearly equal areas of steep curves.
const ARITHMETIC: f64 = 4e-6;

/// A curve in double precision.
#[derive(Clone, Debug)]
pub struct Reference {
    pub kind: CurveKind,
    pub first: f64,
    pub second: f64,
    pub gate: (f64, f64),
    pub knots: Vec<(f32, f32)>,
}

impl Reference {
    pub fn new(kind: CurveKind, first: f64, second: f64) -> Self {
        Self { kind, first, second, gate: (f64::NEG_INFINITY, f64::INFINITY), knots: Vec::new() }
    }

    pub fn gated(self, low: f64, high: f64) -> Self {
        Self { gate: (low, high), ..self }
    }

    pub fn params(&self) -> CurveParams {
        let curve = match self.kind {
            CurveKind::Table => CurveParams::table(&self.knots).unwrap(),
            kind => CurveParams::new(kind, self.first as f32, self.second as f32),
        };
        curve.gated(self.gate.0 as f32, self.gate.1 as f32)
    }

    fn ungated(&self, s: f64) -> f64 {
        let (first, second) = (self.first, self.second);
        match self.kind {
            CurveKind::Constant => first,
            CurveKind::Linear => first + second * s,
            CurveKind::Power if s <= first => 0.0,
            CurveKind::Power => ((s - first) / (1.0 - first)).powf(second),
            CurveKind::Exponential => (first * (s - second)).min(11.0).exp(),
            CurveKind::Sigmoid => 1.0 / (1.0 + (-first * (s - second)).exp()),
            CurveKind::Band => f64::from(u8::from(s >= first && s <= second)),
            CurveKind::Table => self.table(s),
            CurveKind::Circle => {
                let x = if first < 0.0 { 1.0 - s } else { s };
                let pace = first.abs() * (x + second).max(0.0);
                pace * (pace * (x - second)).min(11.0).exp()
            }
        }
    }

    fn table(&self, s: f64) -> f64 {
        let knots: Vec<(f64, f64)> = self.knots.iter().map(|&(s, w)| (f64::from(s), f64::from(w))).collect();
        match knots.iter().rposition(|knot| s >= knot.0) {
            None => knots[0].1,
            Some(last) if last + 1 == knots.len() => knots[last].1,
            Some(i) => {
                let ((s0, w0), (s1, w1)) = (knots[i], knots[i + 1]);
                w0 + (w1 - w0) / (s1 - s0) * (s - s0)
            }
        }
    }

    pub fn weight(&self, s: f64) -> f64 {
        if s > self.gate.0 && s < self.gate.1 { self.ungated(s) } else { 0.0 }
    }

    /// Integral of the weight, by Simpson's rule on pieces that end where a gate, a band, a clip or a knot does.
    fn integral(&self, from: f64, to: f64) -> f64 {
        const CELLS: usize = 200;
        if self.kind == CurveKind::Circle {
            return 0.0; // its loss is that of the row
        }
        if self.kind == CurveKind::Constant {
            return self.first * (to.min(self.gate.1) - from.max(self.gate.0)).max(0.0);
        }
        let mut ends = vec![from, to, self.gate.0, self.gate.1, self.first, self.second, self.second + 11.0 / self.first];
        ends.extend(self.knots.iter().map(|knot| f64::from(knot.0)));
        ends.retain(|end| (from..=to).contains(end));
        ends.sort_by(f64::total_cmp);
        let mut sum = 0.0;
        for piece in ends.windows(2).filter(|piece| piece[1] > piece[0] + 1e-9) {
            let width = (piece[1] - piece[0]) / CELLS as f64;
            // Just inside the piece: its ends may be jumps.
            let inside = |x: f64| self.weight(x.clamp(piece[0] + 1e-12, piece[1] - 1e-12));
            for cell in 0..CELLS {
                let left = piece[0] + width * cell as f64;
                sum += width / 6.0 * (inside(left) + 4.0 * inside(left + width / 2.0) + inside(left + width));
            }
        }
        sum
    }

    pub fn positive_loss(&self, s: f64) -> f64 {
        if s < 1.0 { self.integral(s, 1.0) } else { -self.integral(1.0, s) }
    }

    pub fn negative_loss(&self, s: f64) -> f64 {
        self.integral(-1.0, s)
    }
}

fn every_curve() -> Vec<Reference> {
    let table = Reference { knots: vec![(-0.5, 0.0), (0.25, 1.0), (0.5, 0.5)], ..Reference::new(CurveKind::Table, 0.0, 0.0) };
    let one_knot = Reference { knots: vec![(0.25, 0.75)], ..table.clone() };
    let mut curves = vec![
        Reference::new(CurveKind::Constant, 1.5, 0.0),
        Reference::new(CurveKind::Linear, 1.0, 0.5),
        Reference::new(CurveKind::Power, 0.25, 2.0),
        Reference::new(CurveKind::Power, -1.5, 0.5),
        Reference::new(CurveKind::Exponential, 10.0, 0.5),
        Reference::new(CurveKind::Exponential, -4.0, 0.5),
        Reference::new(CurveKind::Exponential, 0.0, 0.5),
        Reference::new(CurveKind::Exponential, 40.0, 0.625),
        Reference::new(CurveKind::Sigmoid, 10.0, 0.5),
        Reference::new(CurveKind::Sigmoid, -50.0, 0.25),
        Reference::new(CurveKind::Sigmoid, 0.125, 0.5),
        Reference::new(CurveKind::Band, 0.25, 0.75),
        Reference::new(CurveKind::Circle, 8.0, 0.25),
        Reference::new(CurveKind::Circle, -8.0, 0.25),
        table,
        one_knot,
    ];
    for curve in curves.clone() {
        curves.push(curve.clone().gated(0.5, f64::INFINITY));
        curves.push(curve.clone().gated(f64::NEG_INFINITY, 0.875));
        curves.push(curve.gated(-0.25, 0.375));
    }
    curves
}

/// Weight, loss as a positive and loss as a negative at each similarity.
fn expected(curve: &Reference, similarities: &[f32]) -> [Vec<f64>; 3] {
    let each = |function: &dyn Fn(f64) -> f64| similarities.iter().map(|&s| function(f64::from(s))).collect();
    [each(&|s| curve.weight(s)), each(&|s| curve.positive_loss(s)), each(&|s| curve.negative_loss(s))]
}

#[test]
fn every_curve_and_gate_equals_its_formula_on_a_dense_grid() {
    // Powers of two are exact in single precision, so that gates and knots fall on grid points.
    let similarities: Vec<f32> = (-256..=256).map(|i| i as f32 / 256.0).collect();
    let curves: Vec<_> = every_curve().into_iter().map(|curve| (expected(&curve, &similarities), curve)).collect();
    on_every_schedule(|gpu| {
        let kernel = gpu.kernel("pair_loss_rows", "weigh_each", 0);
        let input = gpu.upload(&similarities);
        for (expected, curve) in &curves {
            let results = gpu.uninitialised::<f32>(3 * similarities.len());
            let params = WeighParams {
                curve: curve.params(),
                law: 0,
                similarities: gpu.address(&input),
                results: gpu.address(&results),
                count: similarities.len() as u32,
                tails: 0,
            };
            gpu.launch(&kernel, item_shape(similarities.len()), params);
            let found = gpu.download(&results);
            for (which, (what, expected)) in ["weight", "positive loss", "negative loss"].iter().zip(expected).enumerate() {
                let column: Vec<f32> = found.iter().skip(which).step_by(3).copied().collect();
                assert_close(&format!("{what} of {curve:?}"), &column, expected, ARITHMETIC);
            }
        }
    });
}

/// Two implementations of single-precision exponentials and powers.
const TWINS: f64 = 4e-6;

#[test]
fn the_device_twin_equals_the_host_on_a_dense_grid() {
    let curves = [
        "constant:1.5",
        "linear:a=1,b=0.5",
        "power:s0=0.25,p=2",
        "exp:k=10,s0=0.5",
        "exp:k=-4,s0=0.5",
        "exp:k=40,s0=0.625",
        "sigmoid:k=10,s0=0.5",
        "sigmoid:k=-50,s0=0.25",
        "sigmoid:k=0.125,s0=0.5",
        "band:lo=0.25,hi=0.75",
        "table:-0.5=0,0.25=1,0.5=0.5",
    ];
    let gates = ["none", "above:0.5", "below:0.875"];
    let similarities: Vec<f32> = (-2000..=2000).map(|i| i as f32 / 2000.0).collect();
    on_every_schedule(|gpu| {
        let kernel = gpu.kernel("pair_loss_rows", "weigh_each", 0);
        let input = gpu.upload(&similarities);
        for (curve, gate) in curves.iter().flat_map(|curve| gates.iter().map(move |gate| (curve, gate))) {
            let host = Side::new(curve.parse().unwrap(), gate.parse().unwrap());
            let results = gpu.uninitialised::<f32>(3 * similarities.len());
            let params = WeighParams {
                curve: CurveParams::try_from(&host).unwrap(),
                law: 0,
                similarities: gpu.address(&input),
                results: gpu.address(&results),
                count: similarities.len() as u32,
                tails: 0,
            };
            gpu.launch(&kernel, item_shape(similarities.len()), params);
            let found = gpu.download(&results);
            let functions: [&dyn Fn(f32) -> f32; 3] = [&|s| host.weight(s), &|s| host.positive_loss(s), &|s| host.negative_loss(s)];
            for (which, function) in functions.iter().enumerate() {
                // Against a weight of 1: a loss that is nothing beside it need not agree.
                let column: Vec<f32> = found.iter().skip(which).step_by(3).copied().chain([1.0]).collect();
                let expected: Vec<f64> = similarities.iter().map(|&s| f64::from(function(s))).chain([1.0]).collect();
                assert_close(&format!("column {which} of {curve} {gate}"), &column, &expected, TWINS);
            }
        }
    });
}
