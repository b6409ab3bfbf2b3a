//! The middle of the unfused path, which is also what a weight curve costs: constant weights beside exponential ones.

use super::fused::labels;
use crate::gpu::{Gpu, agree, normals};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pair_loss::PairRows;
use xbm_fast::kernel_args::pair_loss::materialized::{PairWeightsParams, weights_kernel, weights_parts, weights_shape};
use xbm_fast::kernel_args::pair_loss::weighting::{CurveKind, CurveParams};

/// A similarity read, a weight written.
const BYTES: usize = 4 + 2;
/// Half a unit in the last place of 16 bit.
const ROUNDING: f64 = 1e-3;
const STEEPNESS: f32 = 4.0;
const CENTRE: f32 = 0.5;

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let (anchors, rows) = if gpu.software { (8, 64) } else { (256, 60_000) };
    let pairs = anchors * rows;
    let values: Vec<f32> = normals(pairs).iter().map(|value| value.tanh()).collect();
    let (anchor_classes, memory_classes) = (labels(anchors), labels(rows));
    let (anchor_labels, memory_labels) = (gpu.upload(&anchor_classes), gpu.upload(&memory_classes));
    let (similarities, weights) = (gpu.upload(&values), gpu.zeros::<f16>(pairs));
    let parts = weights_parts(rows);
    let (losses, kept) = (gpu.zeros::<f32>(parts * anchors), gpu.zeros::<i32>(2 * parts * anchors));

    let curves = [
        ("constant", CurveParams::new(CurveKind::Constant, 1.0, 0.0)),
        ("exponential", CurveParams::new(CurveKind::Exponential, STEEPNESS, CENTRE)),
    ];
    for (name, curve) in curves {
        let params = PairWeightsParams {
            rows: PairRows {
                anchor_labels: gpu.address(&anchor_labels),
                memory_labels: gpu.address(&memory_labels),
                anchor_count: anchors as u32,
                rows: rows as u32,
                ..PairRows::new(curve, curve)
            },
            similarities: gpu.address(&similarities),
            weights: gpu.address(&weights),
            losses: gpu.address(&losses),
            kept: gpu.address(&kept),
            first_row: 0,
            columns: rows as u32,
            first_part: 0,
            first_anchor: 0,
        };
        let kernel = gpu.kernel("pair_loss/materialized", &weights_kernel(&params.rows, Format::F16), 0);
        gpu.launch(&kernel, weights_shape(anchors, rows), params);
        agree(&format!("pair_weights, {name}"), &gpu.download(&weights), ROUNDING, |i| {
            let weight = if name == "constant" { 1.0 } else { f64::from(STEEPNESS * (values[i] - CENTRE)).exp() };
            if anchor_classes[i / rows] == memory_classes[i % rows] { -weight } else { weight }
        });
        let what = format!("pair_loss/materialized/weights/{name}/{anchors}x{rows}");
        gpu.measure(criterion, &what, Floor::bytes(BYTES * pairs), (&kernel, weights_shape(anchors, rows), params));
    }
}
