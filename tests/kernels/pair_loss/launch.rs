//! A case on the device, the fused kernel run on it, and the comparison.

use super::case::{Case, SOFT_LEAST, SOFT_WIDTH};
use crate::device::Gpu;
use crate::support::assert_close;
use cudarc::driver::CudaSlice;
use xbm_fast::device::cuda::kernel::Format::F16;
use xbm_fast::device::cuda::tensor_map::TensorMap;
use xbm_fast::kernel_args::pair_loss::combine::{CombineParams, combine_shape};
use xbm_fast::kernel_args::pair_loss::fused::{Epilogue, PairLossParams, shape, shared_bytes};
use xbm_fast::kernel_args::pair_loss::tiling::Splits;
use xbm_fast::kernel_args::pair_loss::warpgroup::{STEM, WarpgroupParams, WarpgroupTiling};
use xbm_fast::kernel_args::pair_loss::{PairRows, PairTiles};
use xbm_fast::loss::{RowNormalizer, SideNormalizer};

/// Weights 0 and 1 are exact in 16 bit: what is left is single-precision summation.
pub const EXACT_WEIGHTS: f64 = 1e-5;
/// Curved weights are rounded to 16 bit from a similarity that differs by an ulp or so.
pub const ROUNDED_WEIGHTS: f64 = 1e-3;
/// Factor on a gradient.
const SCALE: f32 = 0.25;

/// A case on the device.
pub struct Buffers {
    pub anchors: CudaSlice<u8>,
    pub memory: CudaSlice<u8>,
    pub integers: Vec<Option<CudaSlice<i32>>>,
    pub count: CudaSlice<u32>,
    pub soft: Option<(CudaSlice<f32>, [CudaSlice<i32>; 2])>,
    pub normalizers: Option<CudaSlice<f32>>,
    pub gradients: CudaSlice<f32>,
    pub losses: CudaSlice<f32>,
    pub kept: CudaSlice<i32>,
}

impl Buffers {
    /// For the sums of so many splits.
    pub fn new(gpu: &Gpu, case: &Case, splits: usize) -> Self {
        let mut memory = case.memory_values.clone();
        memory[case.in_use * case.dim..].fill(f32::NAN);
        let (anchor_instances, memory_instances) = case.instances.clone().unzip();
        let integers = [
            Some(case.anchor_labels.clone()),
            Some(case.memory_labels.clone()),
            case.own_slots.clone(),
            anchor_instances,
            memory_instances,
        ];
        let anchors = case.anchors;
        Self {
            anchors: gpu.encode(&case.anchor_values, case.format),
            memory: gpu.encode(&memory, case.format),
            integers: integers.iter().map(|values| values.as_ref().map(|values| gpu.upload(values))).collect(),
            count: gpu.upload(&[case.in_use as u32]),
            soft: case
                .soft
                .as_ref()
                .map(|(labels, anchors, rows)| (gpu.upload(labels), [anchors, rows].map(|ids| gpu.upload(ids)))),
            normalizers: normalizers(case).map(|normalizers| gpu.upload(bytemuck::cast_slice::<RowNormalizer, f32>(&normalizers))),
            gradients: gpu.uninitialised(splits * anchors * case.dim),
            losses: gpu.uninitialised(splits * anchors),
            kept: gpu.uninitialised(2 * splits * anchors),
        }
    }

    pub fn rows(&self, gpu: &Gpu, case: &Case) -> PairRows {
        let integers = |which: usize| self.integers[which].as_ref().map_or(0, |buffer| gpu.address(buffer));
        let soft = |which: usize| self.soft.as_ref().map_or(0, |(_, ids)| gpu.address(&ids[which]));
        PairRows {
            anchor_labels: integers(0),
            memory_labels: integers(1),
            own_slots: integers(2),
            anchor_instances: integers(3),
            memory_instances: integers(4),
            soft_labels: self.soft.as_ref().map_or(0, |(labels, _)| gpu.address(labels)),
            soft_count: case.soft.as_ref().map_or(0, |(labels, _, _)| labels.len() as u32),
            anchor_soft: soft(0),
            memory_soft: soft(1),
            count: gpu.address(&self.count),
            row_normalizers: self.normalizers.as_ref().map_or(0, |normalizers| gpu.address(normalizers)),
            anchor_count: case.anchors as u32,
            rows: case.rows as u32,
            soft_width: SOFT_WIDTH,
            soft_least: SOFT_LEAST,
            ..PairRows::new(case.positive.params(), case.negative.params())
        }
    }

    pub fn tiles(&self, gpu: &Gpu, case: &Case, splits: Splits) -> PairTiles {
        PairTiles {
            rows: self.rows(gpu, case),
            anchors: gpu.address(&self.anchors),
            memory: gpu.address(&self.memory),
            tiles_per_split: splits.tiles as u32,
            dim: case.dim as u32,
        }
    }

    pub fn params(&self, gpu: &Gpu, case: &Case, splits: Splits) -> PairLossParams {
        PairLossParams {
            tiles: self.tiles(gpu, case, splits),
            gradients: gpu.address(&self.gradients),
            losses: gpu.address(&self.losses),
            kept: gpu.address(&self.kept),
        }
    }
}

/// Row scales and gates as normalizers.
fn normalizers(case: &Case) -> Option<Vec<RowNormalizer>> {
    (case.row_scales.is_some() || case.row_gates.is_some()).then(|| {
        let pair = |values: &Option<Vec<f32>>, row: usize, none: [f32; 2]| {
            values.as_ref().map_or(none, |values| [values[2 * row], values[2 * row + 1]])
        };
        let normalizer = |row| {
            let [positive, negative] = pair(&case.row_scales, row, [1.0; 2]);
            let [high, low] = pair(&case.row_gates, row, [f32::INFINITY, f32::NEG_INFINITY]);
            let side = |scale, low, high| SideNormalizer { low, high, offset: 0.0, scale, shift: 0.0, loss: scale };
            RowNormalizer {
                positive: side(positive, f32::NEG_INFINITY, high),
                negative: side(negative, low, f32::INFINITY),
                constant: 0.0,
            }
        };
        (0..case.anchors).map(normalizer).collect()
    })
}

/// Runs the fused kernels that can weigh this case, in every tiling of the next length, and compares everything they write.
pub fn check(gpu: &Gpu, case: &Case, tolerance: f64) {
    check_warps(gpu, case, tolerance);
    for tiling in gpu.warpgroup_tilings(case.dim) {
        for epilogue in [Epilogue::Constant, Epilogue::Curve] {
            check_warpgroups(gpu, case, (tiling, epilogue), tolerance);
        }
    }
}

/// The kernels whose warps multiply by themselves.
pub fn check_warps(gpu: &Gpu, case: &Case, tolerance: f64) {
    for (tiling, epilogue) in
        gpu.tilings(case.dim).iter().flat_map(|tiling| [Epilogue::Constant, Epilogue::Curve].map(|epilogue| (tiling, epilogue)))
    {
        let (name, tiling) = (epilogue.kernel(case.format, tiling), epilogue.tiling(tiling));
        let splits = case.splits(&tiling);
        let buffers = Buffers::new(gpu, case, splits.count);
        let params = buffers.params(gpu, case, splits);
        if epilogue == Epilogue::Constant && Epilogue::of(&params.tiles.rows) == Epilogue::Curve {
            continue;
        }
        let kernel = gpu.kernel("pair_loss/fused", &name, shared_bytes(&tiling));
        gpu.launch(&kernel, shape(&tiling, case.anchors, splits), params);
        combine_and_compare(gpu, case, &buffers, [splits.count; 2], tolerance);
    }
}

/// Runs a kernel of warpgroups on as many clusters as the case has splits.
pub fn check_warpgroups(gpu: &Gpu, case: &Case, (tiling, epilogue): (WarpgroupTiling, Epilogue), tolerance: f64) {
    let grid = tiling.grid(case.anchors, case.rows, case.splits);
    let parts = grid.row_sums();
    let buffers = Buffers::new(gpu, case, parts);
    let map = |rows: &CudaSlice<u8>, count, box_rows| {
        TensorMap::of_rows(gpu.address(rows), count, case.dim, box_rows, case.format).unwrap_or_else(|error| panic!("{error}"))
    };
    let params = WarpgroupParams {
        anchors: map(&buffers.anchors, case.anchors, WarpgroupTiling::ANCHORS_OF_A_BOX),
        memory: map(&buffers.memory, case.rows, tiling.rows_of_a_box()),
        rows: buffers.rows(gpu, case),
        gradients: gpu.address(&buffers.gradients),
        losses: gpu.address(&buffers.losses),
        kept: gpu.address(&buffers.kept),
        tiles_per_split: grid.splits.tiles as u32,
        dim: case.dim as u32,
    };
    if epilogue == Epilogue::Constant && Epilogue::of(&params.rows) == Epilogue::Curve {
        return;
    }
    let kernel = gpu.kernel(STEM, &tiling.kernel(epilogue, case.format), tiling.shared_bytes());
    gpu.launch(&kernel, tiling.shape(case.anchors, &grid), params);
    combine_and_compare(gpu, case, &buffers, [grid.gradients(), parts], tolerance);
}

/// To add the splits of a gradient, and the parts of row sums, into the gradient, and into row losses, and into counts.
pub fn combine_params(
    gpu: &Gpu,
    case: &Case,
    buffers: &Buffers,
    [splits, parts]: [usize; 2],
    ([gradient, losses], kept): (&[CudaSlice<f32>; 2], &CudaSlice<i32>),
) -> CombineParams {
    CombineParams {
        gradients: gpu.address(&buffers.gradients),
        losses: gpu.address(&buffers.losses),
        kept: gpu.address(&buffers.kept),
        row_normalizers: 0,
        gradient: gpu.address(gradient),
        row_losses: gpu.address(losses),
        row_kept: gpu.address(kept),
        anchors: case.anchors as u32,
        dim: case.dim as u32,
        splits: splits as u32,
        accumulate: 0,
        scale: SCALE,
        loss_parts: parts as u32,
        kept_parts: parts as u32,
        padding: 0,
    }
}

fn combine_and_compare(gpu: &Gpu, case: &Case, buffers: &Buffers, splits: [usize; 2], tolerance: f64) {
    let sums = [gpu.uninitialised::<f32>(case.anchors * case.dim), gpu.uninitialised::<f32>(case.anchors)];
    let kept = gpu.uninitialised::<i32>(2 * case.anchors);
    let params = combine_params(gpu, case, buffers, splits, (&sums, &kept));
    let combine = gpu.kernel("pair_loss/combine", "pair_loss_combine", 0);
    gpu.launch(&combine, combine_shape(case.anchors, case.dim), params);
    gpu.launch(&combine, combine_shape(case.anchors, case.dim), CombineParams { accumulate: 1, ..params });

    let expected = case.reference();
    assert_eq!(gpu.download(&kept), expected.kept, "kept pairs");
    assert_close("row losses", &gpu.download(&sums[1]), &expected.losses, EXACT_WEIGHTS);
    let gradients: Vec<f64> = expected.gradient.iter().map(|g| 2.0 * f64::from(SCALE) * g).collect();
    assert_close("gradient", &gpu.download(&sums[0]), &gradients, tolerance);
}

/// The cases that any fault in the fused kernel must fail: ragged in every direction, several splits, one of them empty.
pub fn check_thoroughly(gpu: &Gpu) {
    let shapes = [
        ((20, 150, 64), 150),
        ((70, 65, 64), 65),
        ((5, 300, 64), 130),
        ((40, 75, 512), 75),
        ((1, 33, 512), 33),
        ((7, 40, 40), 40),
        ((33, 40, 1024), 40),
    ];
    for (shape, in_use) in shapes {
        let mut case = Case::new(F16, shape, 3);
        case.in_use = in_use;
        case.own_slots = Some((0..shape.0).map(|i| if i % 3 == 0 { -1 } else { (i % shape.1) as i32 }).collect());
        check(gpu, &case, EXACT_WEIGHTS);
    }
    let mut case = Case::new(F16, (20, 90, 64), 1);
    case.instances = Some(((0..20).collect(), (0..90).map(|j| j % 30).collect()));
    case.row_gates = Some((0..20).flat_map(|_| [case.threshold(0.3), case.threshold(0.0)].map(|gate| gate as f32)).collect());
    check(gpu, &case, EXACT_WEIGHTS);
}
