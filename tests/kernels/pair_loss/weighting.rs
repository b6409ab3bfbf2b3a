//! The curves of `kernels/pair_loss/weighting.cuh` over a dense grid, against the formulas in double precision.

use crate::device::{Gpu, on};
use crate::support::assert_close;
use software_gpu::SCHEDULES;
use xbm_fast::device::cuda::kernel::Format::F32;
use xbm_fast::device::cuda::kernel::LaunchShape;
use xbm_fast::kernel_args::pair_loss::PairRows;
use xbm_fast::kernel_args::pair_loss::materialized::{PairWeightsParams, weights_kernel};
use xbm_fast::kernel_args::pair_loss::weighting::{CurveKind, CurveParams};
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

/// Weight and loss of pairs, at each similarity.
pub struct Weighed<T> {
    pub weights: Vec<T>,
    pub losses: Vec<T>,
}

/// Pairs that are alone in their rows, as positives and as negatives, weighed by `pair_weights` in 32 bits. Of `rows` curves, tails and
/// normalizers are read: the normalizers are those of the positives, then of the negatives.
pub fn weigh_pairs(gpu: &Gpu, rows: PairRows, similarities: &[f32]) -> [Weighed<f32>; 2] {
    /// What a thread reads at once.
    const COLUMNS: usize = 4;
    let (count, anchors) = (similarities.len(), 2 * similarities.len());
    let labels = gpu.upload(&[vec![0; count], vec![1; count]].concat());
    let memory_label = gpu.upload(&[0]);
    // Columns beyond the one row are no pairs, whatever their similarity.
    let padded = |&s: &f32| [s, f32::NAN, f32::NAN, f32::NAN];
    let input = gpu.upload(&[similarities, similarities].concat().iter().flat_map(padded).collect::<Vec<_>>());
    let (weights, losses) = (gpu.uninitialised::<f32>(COLUMNS * anchors), gpu.uninitialised::<f32>(anchors));
    let kept = gpu.uninitialised::<i32>(2 * anchors);
    let params = PairWeightsParams {
        rows: PairRows {
            anchor_labels: gpu.address(&labels),
            memory_labels: gpu.address(&memory_label),
            anchor_count: anchors as u32,
            rows: 1,
            ..rows
        },
        similarities: gpu.address(&input),
        weights: gpu.address(&weights),
        losses: gpu.address(&losses),
        kept: gpu.address(&kept),
        first_row: 0,
        columns: COLUMNS as u32,
        first_part: 0,
        first_anchor: 0,
    };
    // A warp for each row: it has one pair.
    let shape = LaunchShape::linear(anchors, 32).with_shared(4);
    gpu.launch(&gpu.kernel("pair_loss/materialized", &weights_kernel(&params.rows, F32), 0), shape, params);
    let weights: Vec<f32> = gpu.download(&weights).into_iter().step_by(COLUMNS).collect();
    let losses = gpu.download(&losses);
    let side = |from: usize, sign: f32| Weighed {
        weights: weights[from..from + count].iter().map(|weight| sign * weight).collect(),
        losses: losses[from..from + count].to_vec(),
    };
    [side(0, -1.0), side(count, 1.0)]
}

/// Compares pairs with what they should be; `floor` beside each column: what is nothing beside it need not agree.
pub fn compare(what: &str, found: &Weighed<f32>, expected: &Weighed<f64>, floor: f32, tolerance: f64) {
    let columns = [("weight", &found.weights, &expected.weights), ("loss", &found.losses, &expected.losses)];
    for (column, found, expected) in columns {
        let found: Vec<f32> = found.iter().copied().chain([floor]).collect();
        let expected: Vec<f64> = expected.iter().copied().chain([f64::from(floor)]).collect();
        assert_close(&format!("{column} of {what}"), &found, &expected, tolerance);
    }
}

/// What functions of the similarity make of each.
pub fn weighed<S: Copy>(similarities: &[S], weight: impl Fn(S) -> f64, loss: impl Fn(S) -> f64) -> Weighed<f64> {
    let each = |function: &dyn Fn(S) -> f64| similarities.iter().map(|&s| function(s)).collect();
    Weighed { weights: each(&weight), losses: each(&loss) }
}

/// Positives and negatives by the formulas.
fn expected(curve: &Reference, similarities: &[f32]) -> [Weighed<f64>; 2] {
    let exact: Vec<f64> = similarities.iter().map(|&s| f64::from(s)).collect();
    [
        weighed(&exact, |s| curve.weight(s), |s| curve.positive_loss(s)),
        weighed(&exact, |s| curve.weight(s), |s| curve.negative_loss(s)),
    ]
}

#[test]
fn every_curve_and_gate_equals_its_formula_on_a_dense_grid() {
    // Powers of two are exact in single precision, so that gates and knots fall on grid points.
    let similarities: Vec<f32> = (-256..=256).map(|i| i as f32 / 256.0).collect();
    on(SCHEDULES[0], |gpu| {
        for curve in every_curve() {
            let found = weigh_pairs(gpu, PairRows::new(curve.params(), curve.params()), &similarities);
            for (found, expected) in found.iter().zip(&expected(&curve, &similarities)) {
                compare(&format!("{curve:?}"), found, expected, 0.0, ARITHMETIC);
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
    let similarities: Vec<f32> = (-500..=500).map(|i| i as f32 / 500.0).collect();
    on(SCHEDULES[0], |gpu| {
        for (curve, gate) in curves.iter().flat_map(|curve| gates.iter().map(move |gate| (curve, gate))) {
            let host = Side::new(curve.parse().unwrap(), gate.parse().unwrap());
            let params = CurveParams::try_from(&host).unwrap();
            let [positives, negatives] = weigh_pairs(gpu, PairRows::new(params, params), &similarities);
            let weight = |s| f64::from(host.weight(s));
            let expected = weighed(&similarities, weight, |s| f64::from(host.positive_loss(s)));
            compare(&format!("positives of {curve} {gate}"), &positives, &expected, 1.0, TWINS);
            let expected = weighed(&similarities, weight, |s| f64::from(host.negative_loss(s)));
            compare(&format!("negatives of {curve} {gate}"), &negatives, &expected, 1.0, TWINS);
        }
    });
}
