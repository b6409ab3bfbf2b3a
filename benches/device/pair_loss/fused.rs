//! The fused pair loss: dense (every pair kept) and with nearly every negative discarded.

use crate::gpu::{Gpu, agree, unit_rows};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::pair_loss::fused::{Epilogue, PairLossParams, shape, shared_bytes};
use xbm_fast::kernel_args::pair_loss::tiling::Splits;
use xbm_fast::kernel_args::pair_loss::weighting::{CurveKind, CurveParams};
use xbm_fast::kernel_args::pair_loss::{PairRows, PairTiles};

const CLASSES: usize = 1000;
/// Weights 0 and 1 are exact in 16 bit: what is left is single-precision summation.
const SUMMATION: f64 = 1e-4;

/// Labels in ascending order, as a memory sorted by label has them.
pub fn labels(count: usize) -> Vec<i32> {
    (0..count).map(|i| (i * CLASSES / count) as i32).collect()
}

/// Rows and length of each memory, and the anchors that it is compared with.
fn sizes(gpu: &Gpu) -> Vec<(usize, usize, Vec<usize>)> {
    if gpu.software {
        return vec![(64, 64, vec![16])];
    }
    let batches = [64, 128, 256, 512];
    vec![
        (60_000, 128, batches.to_vec()),
        (60_000, 256, batches.to_vec()),
        (60_000, 512, batches.to_vec()),
        (1_000_000, 512, vec![256]),
    ]
}

/// Rows that are drawn; a longer memory holds them again and again, since drawing takes longer than measuring.
const DRAWN_ROWS: usize = 60_000;

fn memory_of(rows: usize, dim: usize) -> Vec<f16> {
    let drawn = unit_rows(rows.min(DRAWN_ROWS), dim);
    drawn.iter().copied().cycle().take(rows * dim).collect()
}

/// Batch and memory on the host.
struct Case<'a> {
    anchors: Vec<f16>,
    memory: &'a [f16],
    dim: usize,
    threshold: f32,
}

impl Case<'_> {
    /// Gradient of one anchor: every positive pulls, every negative above the threshold pushes.
    fn gradient(&self, anchor: usize) -> Vec<f64> {
        let labels = (labels(self.anchors.len() / self.dim), labels(self.memory.len() / self.dim));
        let query: Vec<f32> = self.anchors[anchor * self.dim..][..self.dim].iter().map(|value| value.to_f32()).collect();
        let mut gradient = vec![0.0; self.dim];
        for (row, &label) in self.memory.chunks(self.dim).zip(&labels.1) {
            let s: f32 = query.iter().zip(row).map(|(a, b)| a * b.to_f32()).sum();
            let weight = if labels.0[anchor] == label { -1.0 } else { f64::from(u8::from(s > self.threshold)) };
            if weight != 0.0 {
                gradient.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value.to_f64());
            }
        }
        gradient
    }

    fn check(&self, splits: Splits, partial: &[f32]) {
        let anchors = self.anchors.len() / self.dim;
        for anchor in [0, anchors / 2, anchors - 1] {
            let part = |split: usize| &partial[(split * anchors + anchor) * self.dim..][..self.dim];
            let found: Vec<f64> = (0..self.dim).map(|k| (0..splits.count).map(|split| f64::from(part(split)[k])).sum()).collect();
            let expected = self.gradient(anchor);
            agree(&format!("pair_loss, anchor {anchor}"), &found, SUMMATION, |k| expected[k]);
        }
    }
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    for (rows, dim, batches) in sizes(gpu) {
        let memory = memory_of(rows, dim);
        for anchors in batches {
            bench(criterion, gpu, &memory, (anchors, rows, dim));
        }
    }
}

/// With every pair kept, and with nearly every negative discarded.
fn bench(criterion: &mut Criterion, gpu: &Gpu, memory: &[f16], (anchors, rows, dim): (usize, usize, usize)) {
    let tiling = gpu.tiling(dim);
    let name = Epilogue::Constant.kernel(Format::F16, &tiling);
    let kernel = gpu.kernel("pair_loss/fused", &name, shared_bytes(&tiling));
    let splits = tiling.splits(anchors, rows, gpu.resident_blocks(&kernel, tiling.threads(), shared_bytes(&tiling)));
    let mut case = Case { anchors: unit_rows(anchors, dim), memory, dim, threshold: 0.0 };
    let (anchor_values, memory) = (gpu.upload(&case.anchors), gpu.upload(memory));
    let (anchor_labels, memory_labels) = (gpu.upload(&labels(anchors)), gpu.upload(&labels(rows)));
    let gradients = gpu.zeros::<f32>(splits.count * anchors * dim);
    let (losses, kept) = (gpu.zeros::<f32>(splits.count * anchors), gpu.zeros::<i32>(2 * splits.count * anchors));
    let floor = Floor { bytes: 2.0 * (rows * dim) as f64, flops: 4.0 * (anchors * rows * dim) as f64 };
    // A similarity of random rows is never near either threshold.
    for (regime, threshold) in [("dense", -2.0), ("discarded", 0.75)] {
        case.threshold = threshold;
        let one = CurveParams::new(CurveKind::Constant, 1.0, 0.0);
        let params = PairLossParams {
            tiles: PairTiles {
                rows: PairRows {
                    anchor_labels: gpu.address(&anchor_labels),
                    memory_labels: gpu.address(&memory_labels),
                    anchor_count: anchors as u32,
                    rows: rows as u32,
                    ..PairRows::new(one, one.gated(threshold, f32::INFINITY))
                },
                anchors: gpu.address(&anchor_values),
                memory: gpu.address(&memory),
                tiles_per_split: splits.tiles as u32,
                dim: dim as u32,
            },
            gradients: gpu.address(&gradients),
            losses: gpu.address(&losses),
            kept: gpu.address(&kept),
        };
        let shape = shape(&tiling, anchors, splits);
        gpu.launch(&kernel, shape, params);
        case.check(splits, &gpu.download(&gradients));
        gpu.measure(criterion, &format!("pair_loss/{regime}/{anchors}x{rows}x{dim}"), floor, (&kernel, shape, params));
    }
}
