//! The fused pair loss: dense (every pair kept) and with nearly every negative discarded.

use crate::gpu::{Floor, Gpu};
use criterion::Criterion;
use half::f16;
use xbm_fast::kernel::pair_loss::{PairLossParams, PairRows, Tiling};
use xbm_fast::kernel::weighting::{CurveKind, CurveParams};
use xbm_fast::rng::Rng;

const CLASSES: usize = 1000;

fn unit_rows(rows: usize, dim: usize) -> Vec<f16> {
    let mut rng = Rng::new(rows as u64);
    let mut row = vec![0f32; dim];
    let mut all = Vec::with_capacity(rows * dim);
    for _ in 0..rows {
        row.iter_mut().for_each(|value| *value = rng.normal());
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        all.extend(row.iter().map(|value| f16::from_f32(value / norm)));
    }
    all
}

/// Anchors, memory rows and length of each benchmark.
fn sizes(gpu: &Gpu) -> Vec<(usize, usize, usize)> {
    if gpu.software {
        return vec![(16, 64, 64)];
    }
    let batches = [64, 128, 256, 512];
    let memories = [(60_000, 512), (1_000_000, 512), (60_000, 128)];
    memories.iter().flat_map(|&(rows, dim)| batches.iter().map(move |&anchors| (anchors, rows, dim))).collect()
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    for (anchors, rows, dim) in sizes(gpu) {
        let tiling = Tiling::new(dim).expect("a fused length");
        let splits = tiling.splits(anchors, rows, 132);
        let (anchor_values, memory) = (gpu.upload(&unit_rows(anchors, dim)), gpu.upload(&unit_rows(rows, dim)));
        let labels = |count: usize| -> Vec<i32> { (0..count).map(|i| (i * CLASSES / count) as i32).collect() };
        let (anchor_labels, memory_labels) = (gpu.upload(&labels(anchors)), gpu.upload(&labels(rows)));
        let gradients = gpu.zeros::<f32>(splits.count * anchors * dim);
        let (losses, kept) = (gpu.zeros::<f32>(splits.count * anchors), gpu.zeros::<i32>(2 * splits.count * anchors));
        let kernel = gpu.kernel("pair_loss", &format!("pair_loss_f16_{dim}"), tiling.shared_bytes());
        let floor = Floor { bytes: 2.0 * (rows * dim) as f64, flops: 4.0 * (anchors * rows * dim) as f64 };
        for (regime, threshold) in [("dense", -2.0), ("discarded", 0.5)] {
            let one = CurveParams::new(CurveKind::Constant, 1.0, 0.0);
            let params = PairLossParams {
                rows: PairRows {
                    anchor_labels: gpu.address(&anchor_labels),
                    memory_labels: gpu.address(&memory_labels),
                    own_slots: 0,
                    anchor_instances: 0,
                    memory_instances: 0,
                    count: 0,
                    row_scales: 0,
                    row_gates: 0,
                    anchor_count: anchors as u32,
                    rows: rows as u32,
                    positive: one,
                    negative: one.gated(threshold, f32::INFINITY),
                },
                anchors: gpu.address(&anchor_values),
                memory: gpu.address(&memory),
                gradients: gpu.address(&gradients),
                losses: gpu.address(&losses),
                kept: gpu.address(&kept),
                statistics: 0,
                tiles_per_split: splits.tiles as u32,
                padding: 0,
            };
            let name = format!("pair_loss/{regime}/{anchors}x{rows}x{dim}");
            gpu.measure(criterion, &name, floor, (&kernel, tiling.shape(anchors, splits), params));
        }
    }
}
