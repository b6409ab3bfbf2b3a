//! The pass over the statistics of the rows, fused and over stored rows, against loops in double precision.

use super::case::Case;
use super::launch::{Buffers, EXACT_WEIGHTS};
use super::weighting::Reference;
use crate::device::{Gpu, on_every_schedule};
use crate::support::assert_close;
use cudarc::driver::CudaSlice;
use xbm_fast::device::cuda::kernel::Format::{Bf16, F16};
use xbm_fast::kernel_args::pair_loss::materialized::{MaterializedRows, MaterializedStatsParams, stats_shape};
use xbm_fast::kernel_args::pair_loss::row_stats::{self, RowStatsParams};
use xbm_fast::kernel_args::pair_loss::tiling::LENGTHS;
use xbm_fast::kernel_args::pair_loss::weighting::CurveKind;
use xbm_fast::loss::SideStatistics;

/// Number, hardest similarity and sum of the curve, of positives and negatives of an anchor.
type Row = [(f64, f64, f64); 2];

fn expected(case: &Case) -> Vec<Row> {
    let row = |anchor: usize| {
        let mut sides = [(0.0, f64::INFINITY, 0.0), (0.0, f64::NEG_INFINITY, 0.0)];
        for row in 0..case.in_use {
            let Some((weight, _, positive)) = case.weigh(anchor, row) else { continue };
            let s = case.similarity(anchor, row);
            let side = &mut sides[usize::from(!positive)];
            side.0 += f64::from(u8::from(weight != 0.0));
            side.1 = if positive { side.1.min(s) } else { side.1.max(s) };
            side.2 += weight.abs();
        }
        sides
    };
    (0..case.anchors).map(row).collect()
}

/// The statistics of all splits together.
fn found(case: &Case, splits: usize, words: &[f32]) -> Vec<Row> {
    let statistics: &[[SideStatistics; 2]] = bytemuck::cast_slice(words);
    let row = |anchor: usize| {
        [true, false].map(|positive| {
            let parts = (0..splits).map(|split| statistics[split * case.anchors + anchor][usize::from(!positive)]);
            let total = parts.fold(SideStatistics::new(positive), |sum, part| sum.plus(part, positive));
            (f64::from(total.count), f64::from(total.hardest), total.weight())
        })
    };
    (0..case.anchors).map(row).collect()
}

fn compare(what: &str, found: &[Row], expected: &[Row]) {
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert_eq!(found.0, expected.0, "{what}: number of pairs");
        assert_close(&format!("{what}: hardest"), &[found.1 as f32, 1.0], &[expected.1, 1.0], EXACT_WEIGHTS);
        assert_close(&format!("{what}: sum"), &[found.2 as f32], &[expected.2], EXACT_WEIGHTS);
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let curves = [(CurveKind::Exponential, -2.0, 0.5), (CurveKind::Exponential, 8.0, 0.5), (CurveKind::Sigmoid, 10.0, 0.25)];
    LENGTHS.into_iter().zip(curves.into_iter().cycle()).flat_map(|(dim, (kind, first, second))| {
        [F16, Bf16].map(|format| {
            let mut case = Case::new(format, (20, 90, dim), 3);
            case.in_use = 81;
            case.own_slots = Some((0..20).map(|i| 3 * i).collect());
            case.positive = Reference::new(kind, first, second);
            case.negative = Reference::new(kind, -first, second).gated(case.threshold(-0.1), f64::INFINITY);
            // Every pair is mined: normalizers are what the pass reads.
            case.row_gates = Some([f32::INFINITY, f32::NEG_INFINITY].repeat(20));
            case
        })
    })
}

fn statistics_of(gpu: &Gpu, case: &Case, splits: usize) -> CudaSlice<f32> {
    gpu.uninitialised(splits * case.anchors * size_of::<[SideStatistics; 2]>() / size_of::<f32>())
}

#[test]
fn the_fused_pass_finds_number_hardest_and_sum_of_the_pairs_of_a_row() {
    on_every_schedule(|gpu| {
        for case in cases() {
            for tiling in &gpu.tilings(case.dim) {
                let (name, splits) = (row_stats::kernel(case.format, tiling), case.splits(tiling));
                let kernel = gpu.kernel("pair_loss/row_stats", &name, tiling.shared_bytes());
                let (buffers, statistics) = (Buffers::new(gpu, &case, splits.count), statistics_of(gpu, &case, splits.count));
                let params = RowStatsParams { tiles: buffers.tiles(gpu, &case, splits), statistics: gpu.address(&statistics) };
                gpu.launch(&kernel, tiling.shape(case.anchors, splits), params);
                compare(&name, &found(&case, splits.count, &gpu.download(&statistics)), &expected(&case));
            }
        }
    });
}

#[test]
fn stored_rows_have_the_same_statistics() {
    on_every_schedule(|gpu| {
        for case in cases().step_by(2) {
            let pitch = case.rows.next_multiple_of(8);
            let similarity = |i, j| if j < case.in_use { case.similarity(i, j) as f32 } else { f32::NAN };
            let similarities: Vec<f32> = (0..case.anchors).flat_map(|i| (0..pitch).map(move |j| similarity(i, j))).collect();
            let (buffers, statistics) = (Buffers::new(gpu, &case, 1), statistics_of(gpu, &case, 1));
            let kernel = gpu.kernel("pair_loss/materialized", "materialized_row_stats", 0);
            // In two groups, as anchors come where the memory is large.
            for (first, count) in [(0, 7), (7, case.anchors - 7)] {
                let group = gpu.upload(&similarities[first * pitch..(first + count) * pitch]);
                let stored = MaterializedRows {
                    rows: buffers.rows(gpu, &case),
                    similarities: gpu.address(&group),
                    first_anchor: first as u32,
                    pitch: pitch as u32,
                };
                let params = MaterializedStatsParams { stored, statistics: gpu.address(&statistics) };
                gpu.launch(&kernel, stats_shape(count), params);
            }
            compare("stored", &found(&case, 1, &gpu.download(&statistics)), &expected(&case));
        }
    });
}
