//! The pass over the sums of the rows: what scales and gates become of them.

use super::case::Case;
use super::launch::{Buffers, EXACT_WEIGHTS};
use crate::device::{Gpu, on_every_schedule};
use crate::support::assert_close;
use crate::weighting::Reference;
use xbm_fast::kernel::Format::F16;
use xbm_fast::kernel::pair_loss::{Aggregation, DIMS, PairScalesParams, Tiling, item_shape};
use xbm_fast::kernel::weighting::CurveKind;

#[test]
fn row_statistics_become_scales_and_gates() {
    const MARGIN: f32 = 0.1;
    let aggregations = [
        Aggregation::Sum,
        Aggregation::MeanOfKind,
        Aggregation::MeanOfRow,
        Aggregation::SoftWithOne,
        Aggregation::Soft,
        Aggregation::JointSoft,
    ];
    on_every_schedule(|gpu| {
        for (dim, aggregation) in aggregations.into_iter().enumerate().map(|(i, a)| (DIMS[i % 4], a)) {
            let mut case = Case::new(F16, (20, 90, dim), 2);
            case.positive = Reference::new(CurveKind::Exponential, -2.0, 0.5);
            statistics_case(gpu, &case, aggregation, MARGIN);
        }
    });
}

fn statistics_case(gpu: &Gpu, case: &Case, aggregation: Aggregation, margin: f32) {
    let tiling = Tiling::new(case.dim).unwrap();
    let buffers = Buffers::new(gpu, case);
    let kernel = gpu.kernel("pair_loss", &format!("pair_statistics_f16_{}", case.dim), tiling.shared_bytes());
    gpu.launch(&kernel, tiling.shape(case.anchors, case.splits), buffers.params(gpu, case));
    let (scales, gates) = (gpu.uninitialised::<f32>(2 * case.anchors), gpu.uninitialised::<f32>(2 * case.anchors));
    let params = PairScalesParams {
        statistics: gpu.address(&buffers.statistics),
        kept: gpu.address(&buffers.kept),
        row_scales: gpu.address(&scales),
        row_gates: gpu.address(&gates),
        anchors: case.anchors as u32,
        splits: case.splits.count as u32,
        aggregation: aggregation as u32,
        margin,
    };
    gpu.launch(&gpu.kernel("pair_loss_rows", "pair_scales", 0), item_shape(case.anchors), params);

    let (mut expected_scales, mut expected_gates) = (Vec::new(), Vec::new());
    for anchor in 0..case.anchors {
        let (mut weight, mut kept, mut hardest) = ([0.0f64; 2], [0.0f64; 2], [f64::INFINITY, f64::NEG_INFINITY]);
        for row in 0..case.in_use {
            let Some((signed, _, positive)) = case.weigh(anchor, row) else { continue };
            let kind = usize::from(!positive);
            weight[kind] += signed.abs();
            kept[kind] += f64::from(u8::from(signed != 0.0));
            let s = case.similarity(anchor, row);
            hardest[kind] = if positive { hardest[0].min(s) } else { hardest[1].max(s) };
        }
        for kind in 0..2 {
            let inverse = |value: f64| if value > 0.0 { 1.0 / value } else { 0.0 };
            expected_scales.push(match aggregation {
                Aggregation::Sum => 1.0,
                Aggregation::MeanOfKind => inverse(kept[kind]),
                Aggregation::MeanOfRow => inverse(kept[0] + kept[1]),
                Aggregation::SoftWithOne => 1.0 / (1.0 + weight[kind]),
                Aggregation::Soft => inverse(weight[kind]),
                Aggregation::JointSoft => inverse(weight[0] + weight[1]),
            });
        }
        expected_gates.extend([hardest[1] + f64::from(margin), hardest[0] - f64::from(margin)]);
    }
    assert_close("scales", &gpu.download(&scales), &expected_scales, EXACT_WEIGHTS);
    assert_close("gates", &gpu.download(&gates), &expected_gates, EXACT_WEIGHTS);
}
