//! The fused pair loss: dense (every pair kept) and with nearly every negative discarded.

use crate::gpu::{Gpu, agree, unit_rows};
use crate::measure::Floor;
use criterion::Criterion;
use cudarc::driver::CudaSlice;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::device::cuda::tensor_map::TensorMap;
use xbm_fast::kernel_args::pair_loss::fused::{Epilogue, PairLossParams, shape, shared_bytes};
use xbm_fast::kernel_args::pair_loss::warpgroup::{STEM, WarpgroupParams, WarpgroupTiling};
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

    fn check(&self, splits: usize, partial: &[f32]) {
        let anchors = self.anchors.len() / self.dim;
        for anchor in [0, anchors / 2, anchors - 1] {
            let part = |split: usize| &partial[(split * anchors + anchor) * self.dim..][..self.dim];
            let found: Vec<f64> = (0..self.dim).map(|k| (0..splits).map(|split| f64::from(part(split)[k])).sum()).collect();
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

/// Batch and memory on the device.
struct Uploaded {
    anchors: CudaSlice<f16>,
    memory: CudaSlice<f16>,
    anchor_labels: CudaSlice<i32>,
    memory_labels: CudaSlice<i32>,
}

impl Uploaded {
    fn new(gpu: &Gpu, case: &Case<'_>) -> Self {
        let label = |values: &[f16]| gpu.upload(&labels(values.len() / case.dim));
        let (anchor_labels, memory_labels) = (label(&case.anchors), label(case.memory));
        Self { anchors: gpu.upload(&case.anchors), memory: gpu.upload(case.memory), anchor_labels, memory_labels }
    }

    fn rows(&self, gpu: &Gpu, threshold: f32) -> PairRows {
        let one = CurveParams::new(CurveKind::Constant, 1.0, 0.0);
        PairRows {
            anchor_labels: gpu.address(&self.anchor_labels),
            memory_labels: gpu.address(&self.memory_labels),
            anchor_count: self.anchor_labels.len() as u32,
            rows: self.memory_labels.len() as u32,
            ..PairRows::new(one, one.gated(threshold, f32::INFINITY))
        }
    }
}

/// What a launch leaves to be added: gradients in so many parts, sums of rows in others.
struct Sums {
    gradients: CudaSlice<f32>,
    losses: CudaSlice<f32>,
    kept: CudaSlice<i32>,
}

impl Sums {
    fn new(gpu: &Gpu, case: &Case<'_>, gradients: usize, rows: usize) -> Self {
        let anchors = case.anchors.len() / case.dim;
        Self {
            gradients: gpu.zeros(gradients * anchors * case.dim),
            losses: gpu.zeros(rows * anchors),
            kept: gpu.zeros(2 * rows * anchors),
        }
    }
}

/// With every pair kept, and with nearly every negative discarded: a similarity of random rows is never near either threshold.
const REGIMES: [(&str, f32); 2] = [("dense", -2.0), ("discarded", 0.75)];

fn bench(criterion: &mut Criterion, gpu: &Gpu, memory: &[f16], (anchors, rows, dim): (usize, usize, usize)) {
    let mut case = Case { anchors: unit_rows(anchors, dim), memory, dim, threshold: 0.0 };
    let uploaded = Uploaded::new(gpu, &case);
    let floor = Floor { bytes: 2.0 * (rows * dim) as f64, flops: 4.0 * (anchors * rows * dim) as f64 };
    for (regime, threshold) in REGIMES {
        case.threshold = threshold;
        let size = format!("{regime}/{anchors}x{rows}x{dim}");
        by_warps(criterion, gpu, (&case, &uploaded), (&format!("pair_loss/{size}"), floor));
        by_warpgroups(criterion, gpu, (&case, &uploaded), (&format!("pair_loss_warpgroup/{size}"), floor));
    }
}

fn by_warps(criterion: &mut Criterion, gpu: &Gpu, (case, uploaded): (&Case<'_>, &Uploaded), (what, floor): (&str, Floor)) {
    let (tiling, rows) = (gpu.tiling(case.dim), uploaded.rows(gpu, case.threshold));
    let (anchors, shared) = (rows.anchor_count as usize, shared_bytes(&tiling));
    let kernel = gpu.kernel("pair_loss/fused", &Epilogue::Constant.kernel(Format::F16, &tiling), shared);
    let splits = tiling.splits(anchors, rows.rows as usize, gpu.resident_blocks(&kernel, tiling.threads(), shared));
    let sums = Sums::new(gpu, case, splits.count, splits.count);
    let params = PairLossParams {
        tiles: PairTiles {
            rows,
            anchors: gpu.address(&uploaded.anchors),
            memory: gpu.address(&uploaded.memory),
            tiles_per_split: splits.tiles as u32,
            dim: case.dim as u32,
        },
        gradients: gpu.address(&sums.gradients),
        losses: gpu.address(&sums.losses),
        kept: gpu.address(&sums.kept),
    };
    let shape = shape(&tiling, anchors, splits);
    gpu.launch(&kernel, shape, params);
    case.check(splits.count, &gpu.download(&sums.gradients));
    gpu.measure(criterion, what, floor, (&kernel, shape, params));
}

/// Where the device has them.
fn by_warpgroups(criterion: &mut Criterion, gpu: &Gpu, (case, uploaded): (&Case<'_>, &Uploaded), (what, floor): (&str, Floor)) {
    let rows = uploaded.rows(gpu, case.threshold);
    let anchors = rows.anchor_count as usize;
    let Some(tiling) = WarpgroupTiling::new(case.dim, anchors) else { return };
    let name = tiling.kernel(Epilogue::Constant, Format::F16);
    let module = gpu.module(STEM);
    if !module.has(&name) {
        return;
    }
    let kernel = module.kernel(&name, tiling.shared_bytes()).expect("a kernel");
    let resident = kernel.resident_clusters(tiling.cluster_shape(anchors)).expect("an occupancy");
    let grid = tiling.grid(anchors, rows.rows as usize, resident);
    let sums = Sums::new(gpu, case, grid.gradients(), grid.row_sums());
    let map = |values: &CudaSlice<f16>, count: u32, box_rows| {
        TensorMap::of_rows(gpu.address(values), count as usize, case.dim, box_rows, Format::F16).expect("a tensor map")
    };
    let params = WarpgroupParams {
        anchors: map(&uploaded.anchors, rows.anchor_count, WarpgroupTiling::ANCHORS_OF_A_BOX),
        memory: map(&uploaded.memory, rows.rows, tiling.rows_of_a_box()),
        rows,
        gradients: gpu.address(&sums.gradients),
        losses: gpu.address(&sums.losses),
        kept: gpu.address(&sums.kept),
        tiles_per_split: grid.splits.tiles as u32,
        dim: case.dim as u32,
    };
    let shape = tiling.shape(anchors, &grid);
    gpu.launch(&kernel, shape, params);
    case.check(grid.gradients(), &gpu.download(&sums.gradients));
    gpu.measure(criterion, what, floor, (&kernel, shape, params));
}
