//! The fused pair loss against three loops in double precision.

use crate::device::{Gpu, on, on_every_schedule, rounded};
use crate::support::{assert_close, unit_rows};
use crate::weighting::Reference;
use cudarc::driver::CudaSlice;
use xbm_fast::kernel::Format::{self, Bf16, F16};
use xbm_fast::kernel::pair_loss::{
    Aggregation, DIMS, PairLossCombineParams, PairLossParams, PairRows, PairScalesParams, PairWeightsParams, Splits, Tiling,
    item_shape, row_shape,
};
use xbm_fast::kernel::weighting::CurveKind;
use xbm_fast::rng::Rng;

/// Weights 0 and 1 are exact in 16 bit: what is left is single-precision summation.
const EXACT_WEIGHTS: f64 = 1e-5;
/// Curved weights are rounded to 16 bit from a similarity that differs by an ulp or so.
const ROUNDED_WEIGHTS: f64 = 1e-3;
const CLASSES: usize = 5;

/// A batch, a memory, and everything that may be said about their rows.
pub struct Case {
    pub format: Format,
    pub anchors: usize,
    pub rows: usize,
    pub in_use: usize,
    pub dim: usize,
    pub splits: Splits,
    pub positive: Reference,
    pub negative: Reference,
    pub own_slots: Option<Vec<i32>>,
    pub instances: Option<(Vec<i32>, Vec<i32>)>,
    pub row_scales: Option<Vec<f32>>,
    pub row_gates: Option<Vec<f32>>,
    pub normalised: bool,
    anchor_values: Vec<f32>,
    memory_values: Vec<f32>,
    anchor_labels: Vec<i32>,
    memory_labels: Vec<i32>,
}

impl Case {
    pub fn new(format: Format, (anchors, rows, dim): (usize, usize, usize), splits: usize) -> Self {
        let tiles = rows.div_ceil(Tiling::new(dim).map_or(64, |tiling| tiling.rows)).max(1);
        let per_split = tiles.div_ceil(splits);
        let mut rng = Rng::new(3).at(anchors).at(rows).at(dim);
        let mut labels = |count: usize| -> Vec<i32> { (0..count).map(|_| rng.below(CLASSES) as i32).collect() };
        let mut case = Self {
            format,
            anchors,
            rows,
            in_use: rows,
            dim,
            splits: Splits { count: tiles.div_ceil(per_split), tiles: per_split },
            positive: Reference::new(CurveKind::Constant, 1.0, 0.0),
            negative: Reference::new(CurveKind::Constant, 1.0, 0.0),
            own_slots: None,
            instances: None,
            row_scales: None,
            row_gates: None,
            normalised: false,
            anchor_labels: labels(anchors),
            memory_labels: labels(rows),
            anchor_values: rounded(&unit_rows("anchors", anchors, dim), format),
            memory_values: rounded(&unit_rows("memory", rows, dim), format),
        };
        // Embeddings of a class lean the same way, so that positives are more similar than negatives.
        let centres = unit_rows("centres", CLASSES, dim);
        let lean = |values: &mut [f32], labels: &[i32]| {
            for (row, &label) in values.chunks_mut(dim).zip(labels) {
                for (value, centre) in row.iter_mut().zip(&centres[label as usize * dim..]) {
                    *value = 0.7 * *value + 0.5 * centre;
                }
            }
        };
        lean(&mut case.anchor_values, &case.anchor_labels);
        lean(&mut case.memory_values, &case.memory_labels);
        case.anchor_values = rounded(&case.anchor_values, format);
        case.memory_values = rounded(&case.memory_values, format);
        case.negative = case.negative.clone().gated(case.threshold(0.05), f64::INFINITY);
        case
    }

    pub fn similarity(&self, anchor: usize, row: usize) -> f64 {
        let (a, m) = (&self.anchor_values[anchor * self.dim..], &self.memory_values[row * self.dim..]);
        (0..self.dim).map(|k| f64::from(a[k]) * f64::from(m[k])).sum()
    }

    /// A threshold near `wish` that no similarity is near to, so that single precision decides every pair alike.
    pub fn threshold(&self, wish: f64) -> f64 {
        let all = (0..self.anchors).flat_map(|i| (0..self.rows).map(move |j| (i, j)));
        let mut near: Vec<f64> = all.map(|(i, j)| self.similarity(i, j)).filter(|s| (s - wish).abs() < 0.05).collect();
        near.extend([wish - 0.05, wish + 0.05]);
        near.sort_by(f64::total_cmp);
        let widest = near.windows(2).max_by(|a, b| (a[1] - a[0]).total_cmp(&(b[1] - b[0]))).unwrap();
        f64::from(((widest[0] + widest[1]) / 2.0) as f32)
    }

    fn is_pair(&self, anchor: usize, row: usize) -> bool {
        let own = self.own_slots.as_ref().is_some_and(|slots| slots[anchor] == row as i32);
        let same = self.instances.as_ref().is_some_and(|(anchors, rows)| anchors[anchor] == rows[row]);
        !own && !same
    }

    fn scales(&self, anchor: usize) -> (f64, f64) {
        self.row_scales.as_ref().map_or((1.0, 1.0), |s| (f64::from(s[2 * anchor]), f64::from(s[2 * anchor + 1])))
    }

    fn mined(&self, anchor: usize, positive: bool, s: f64) -> bool {
        let Some(gates) = &self.row_gates else { return true };
        if positive { s < f64::from(gates[2 * anchor]) } else { s > f64::from(gates[2 * anchor + 1]) }
    }

    /// Signed weight, loss and kind of a pair.
    fn weigh(&self, anchor: usize, row: usize) -> Option<(f64, f64, bool)> {
        let s = self.similarity(anchor, row);
        let positive = self.anchor_labels[anchor] == self.memory_labels[row];
        if !self.is_pair(anchor, row) || !self.mined(anchor, positive, s) {
            return None;
        }
        let (positive_scale, negative_scale) = self.scales(anchor);
        Some(if positive {
            (-positive_scale * self.positive.weight(s), positive_scale * self.positive.positive_loss(s), true)
        } else {
            (negative_scale * self.negative.weight(s), negative_scale * self.negative.negative_loss(s), false)
        })
    }

    pub fn reference(&self) -> Expected {
        let mut expected = Expected {
            gradient: vec![0.0; self.anchors * self.dim],
            losses: vec![0.0; self.anchors],
            kept: vec![0; 2 * self.anchors],
        };
        for anchor in 0..self.anchors {
            for row in 0..self.in_use {
                let Some((weight, loss, positive)) = self.weigh(anchor, row) else { continue };
                expected.losses[anchor] += loss;
                expected.kept[2 * anchor + usize::from(!positive)] += i32::from(weight != 0.0);
                let weight = f64::from(rounded(&[weight as f32], self.format)[0]);
                for k in 0..self.dim {
                    expected.gradient[anchor * self.dim + k] += weight * f64::from(self.memory_values[row * self.dim + k]);
                }
            }
        }
        expected
    }
}

/// What the kernels should write, before any scale.
#[derive(Debug)]
pub struct Expected {
    gradient: Vec<f64>,
    losses: Vec<f64>,
    kept: Vec<i32>,
}

/// A case on the device.
pub struct Buffers {
    anchors: CudaSlice<u8>,
    memory: CudaSlice<u8>,
    integers: Vec<Option<CudaSlice<i32>>>,
    count: CudaSlice<u32>,
    floats: Vec<Option<CudaSlice<f32>>>,
    gradients: CudaSlice<f32>,
    losses: CudaSlice<f32>,
    kept: CudaSlice<i32>,
    statistics: CudaSlice<f32>,
}

impl Buffers {
    pub fn new(gpu: &Gpu, case: &Case) -> Self {
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
        let (splits, anchors) = (case.splits.count, case.anchors);
        Self {
            anchors: gpu.encode(&case.anchor_values, case.format),
            memory: gpu.encode(&memory, case.format),
            integers: integers.iter().map(|values| values.as_ref().map(|values| gpu.upload(values))).collect(),
            count: gpu.upload(&[case.in_use as u32]),
            floats: [&case.row_scales, &case.row_gates].iter().map(|v| v.as_ref().map(|v| gpu.upload(v))).collect(),
            gradients: gpu.uninitialised(splits * anchors * case.dim),
            losses: gpu.uninitialised(splits * anchors),
            kept: gpu.uninitialised(2 * splits * anchors),
            statistics: gpu.uninitialised(4 * splits * anchors),
        }
    }

    fn rows(&self, gpu: &Gpu, case: &Case) -> PairRows {
        let integers = |which: usize| self.integers[which].as_ref().map_or(0, |buffer| gpu.address(buffer));
        let floats = |which: usize| self.floats[which].as_ref().map_or(0, |buffer| gpu.address(buffer));
        PairRows {
            anchor_labels: integers(0),
            memory_labels: integers(1),
            own_slots: integers(2),
            anchor_instances: integers(3),
            memory_instances: integers(4),
            count: gpu.address(&self.count),
            row_scales: floats(0),
            row_gates: floats(1),
            anchor_count: case.anchors as u32,
            rows: case.rows as u32,
            positive: case.positive.params(),
            negative: case.negative.params(),
        }
    }

    pub fn params(&self, gpu: &Gpu, case: &Case) -> PairLossParams {
        PairLossParams {
            rows: self.rows(gpu, case),
            anchors: gpu.address(&self.anchors),
            memory: gpu.address(&self.memory),
            gradients: gpu.address(&self.gradients),
            losses: gpu.address(&self.losses),
            kept: gpu.address(&self.kept),
            statistics: gpu.address(&self.statistics),
            tiles_per_split: case.splits.tiles as u32,
            padding: 0,
        }
    }
}

fn check(gpu: &Gpu, case: &Case, tolerance: f64) {
    let tiling = Tiling::new(case.dim).unwrap();
    let name = format!("pair_loss_{}_{}", case.format.suffix(), case.dim);
    let kernel = gpu.kernel("pair_loss", &name, tiling.shared_bytes());
    let buffers = Buffers::new(gpu, case);
    gpu.launch(&kernel, tiling.shape(case.anchors, case.splits), buffers.params(gpu, case));
    combine_and_compare(gpu, case, &buffers, tolerance);
}

fn combine_and_compare(gpu: &Gpu, case: &Case, buffers: &Buffers, tolerance: f64) {
    const SCALE: f32 = 0.25;
    let (unit, norms) = (unit_rows("unit", case.anchors, case.dim), vec![2.0f32; case.anchors]);
    let (unit_buffer, norm_buffer) = (gpu.upload(&unit), gpu.upload(&norms));
    let gradient = gpu.uninitialised::<f32>(case.anchors * case.dim);
    let (losses, kept) = (gpu.uninitialised::<f32>(case.anchors), gpu.uninitialised::<i32>(2 * case.anchors));
    let params = PairLossCombineParams {
        gradients: gpu.address(&buffers.gradients),
        losses: gpu.address(&buffers.losses),
        kept: gpu.address(&buffers.kept),
        unit: if case.normalised { gpu.address(&unit_buffer) } else { 0 },
        norms: gpu.address(&norm_buffer),
        gradient: gpu.address(&gradient),
        row_losses: gpu.address(&losses),
        row_kept: gpu.address(&kept),
        anchors: case.anchors as u32,
        dim: case.dim as u32,
        splits: case.splits.count as u32,
        accumulate: 0,
        scale: SCALE,
        padding: 0,
    };
    let combine = gpu.kernel("pair_loss_rows", "pair_loss_combine", 0);
    gpu.launch(&combine, row_shape(case.anchors), params);
    gpu.launch(&combine, row_shape(case.anchors), PairLossCombineParams { accumulate: 1, ..params });

    let expected = case.reference();
    assert_eq!(gpu.download(&kept), expected.kept, "kept pairs");
    assert_close("row losses", &gpu.download(&losses), &expected.losses, EXACT_WEIGHTS);
    let mut pulled: Vec<f64> = expected.gradient.iter().map(|g| 2.0 * f64::from(SCALE) * g).collect();
    if case.normalised {
        for (row, unit) in pulled.chunks_mut(case.dim).zip(unit.chunks(case.dim)) {
            let along: f64 = row.iter().zip(unit).map(|(g, &f)| g * f64::from(f)).sum();
            row.iter_mut().zip(unit).for_each(|(g, &f)| *g = (*g - along * f64::from(f)) / 2.0);
        }
    }
    assert_close("gradient", &gpu.download(&gradient), &pulled, tolerance);
}

/// The cases that any fault in the fused kernel must fail: ragged in every direction, several splits, one of them empty.
pub fn check_thoroughly(gpu: &Gpu) {
    for (shape, in_use) in [((20, 150, 64), 150), ((70, 65, 64), 65), ((5, 300, 64), 130), ((40, 75, 512), 75), ((1, 33, 512), 33)]
    {
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

#[test]
fn the_rule_keeps_what_it_should_for_every_length_and_format() {
    on_every_schedule(|gpu| {
        for format in [F16, Bf16] {
            check(gpu, &Case::new(format, (70, 200, 64), 2), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (40, 150, 128), 1), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (20, 100, 256), 2), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (40, 75, 512), 2), EXACT_WEIGHTS);
        }
    });
}

#[test]
fn ragged_edges_and_single_rows_are_handled() {
    on_every_schedule(|gpu| {
        for shape in [(1, 1, 64), (16, 64, 64), (17, 65, 64), (65, 63, 128), (1, 33, 512)] {
            check(gpu, &Case::new(F16, shape, 3), EXACT_WEIGHTS);
        }
    });
}

#[test]
fn only_the_rows_in_use_are_read() {
    on_every_schedule(|gpu| {
        for (dim, in_use) in [(64, 1), (64, 130), (512, 40)] {
            let mut case = Case::new(F16, (10, 200, dim), 2);
            case.in_use = in_use;
            check(gpu, &case, EXACT_WEIGHTS);
        }
    });
}

#[test]
fn an_image_is_no_pair_with_itself_by_slot_or_by_instance() {
    on_every_schedule(|gpu| {
        for dim in [64, 256] {
            let mut case = Case::new(F16, (20, 90, dim), 1);
            case.own_slots = Some((0..20).map(|i| if i % 3 == 0 { -1 } else { 4 * i }).collect());
            check(gpu, &case, EXACT_WEIGHTS);
            case.own_slots = None;
            case.instances = Some(((0..20).collect(), (0..90).map(|j| j % 30).collect()));
            check(gpu, &case, EXACT_WEIGHTS);
        }
    });
}

#[test]
fn curved_weights_and_row_scales_enter_gradient_and_loss() {
    let curves = [
        Reference::new(CurveKind::Linear, 1.0, 0.5),
        Reference::new(CurveKind::Exponential, 4.0, 0.5),
        Reference::new(CurveKind::Sigmoid, -10.0, 0.25),
        Reference::new(CurveKind::Power, -1.0, 2.0),
    ];
    on_every_schedule(|gpu| {
        for curve in &curves {
            for dim in [64, 256] {
                let mut case = Case::new(F16, (18, 70, dim), 2);
                (case.positive, case.negative) = (curve.clone(), curve.clone().gated(case.threshold(0.0), f64::INFINITY));
                check(gpu, &case, ROUNDED_WEIGHTS);
                case.row_scales = Some((0..36).map(|i| 0.25 + i as f32 / 32.0).collect());
                check(gpu, &case, ROUNDED_WEIGHTS);
            }
        }
    });
}

#[test]
fn row_gates_mine_relative_to_the_row() {
    on_every_schedule(|gpu| {
        let mut case = Case::new(F16, (18, 70, 128), 2);
        let (low, high) = (case.threshold(0.0), case.threshold(0.3));
        case.negative = Reference::new(CurveKind::Constant, 1.0, 0.0);
        case.row_gates = Some((0..18).flat_map(|i| [if i % 2 == 0 { high } else { low }, low].map(|gate| gate as f32)).collect());
        check(gpu, &case, EXACT_WEIGHTS);
    });
}

#[test]
fn the_gradient_is_pulled_back_through_the_normalisation() {
    on_every_schedule(|gpu| {
        let mut case = Case::new(Bf16, (20, 90, 128), 2);
        case.normalised = true;
        check(gpu, &case, EXACT_WEIGHTS);
    });
}

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

#[test]
fn the_unfused_path_weighs_chunks_of_any_length() {
    on_every_schedule(|gpu| {
        for format in [F16, Bf16] {
            let mut case = Case::new(format, (9, 70, 40), 1);
            case.own_slots = Some((0..9).map(|i| 7 * i).collect());
            case.in_use = 61;
            weights_case(gpu, &case);
        }
    });
}

fn weights_case(gpu: &Gpu, case: &Case) {
    const CHUNK: usize = 32;
    let kernel = gpu.kernel("pair_loss_rows", &format!("pair_weights_{}", case.format.suffix()), 0);
    let buffers = Buffers::new(gpu, case);
    let (losses, kept) = (gpu.uninitialised::<f32>(case.anchors), gpu.uninitialised::<i32>(2 * case.anchors));
    let mut gradient = vec![0.0; case.anchors * case.dim];
    for first in (0..case.rows).step_by(CHUNK) {
        let columns = CHUNK.min(case.rows - first);
        let pairs: Vec<(usize, usize)> = (0..case.anchors).flat_map(|i| (first..first + columns).map(move |j| (i, j))).collect();
        let similarities = gpu.upload(&pairs.iter().map(|&(i, j)| case.similarity(i, j) as f32).collect::<Vec<_>>());
        let weights = gpu.uninitialised::<u8>(2 * pairs.len());
        let params = PairWeightsParams {
            rows: buffers.rows(gpu, case),
            similarities: gpu.address(&similarities),
            weights: gpu.address(&weights),
            row_losses: gpu.address(&losses),
            kept: gpu.address(&kept),
            first_row: first as u32,
            columns: columns as u32,
            first_chunk: u32::from(first == 0),
            padding: 0,
        };
        gpu.launch(&kernel, row_shape(case.anchors), params);
        for (&(i, j), weight) in pairs.iter().zip(gpu.decode(&weights, case.format)) {
            for k in 0..case.dim {
                gradient[i * case.dim + k] += weight * case.memory_values[j * case.dim + k];
            }
        }
    }
    let expected = case.reference();
    assert_close("gradient", &gradient, &expected.gradient, EXACT_WEIGHTS);
    assert_close("row losses", &gpu.download(&losses), &expected.losses, EXACT_WEIGHTS);
    assert_eq!(gpu.download(&kept), expected.kept);
}

#[test]
fn a_similarity_that_is_not_finite_shows_in_the_loss_of_its_row() {
    on_every_schedule(|gpu| {
        let mut case = Case::new(F16, (3, 70, 64), 1);
        case.memory_values[5 * 64] = f32::INFINITY;
        let tiling = Tiling::new(64).unwrap();
        let kernel = gpu.kernel("pair_loss", "pair_loss_f16_64", tiling.shared_bytes());
        let buffers = Buffers::new(gpu, &case);
        gpu.launch(&kernel, tiling.shape(3, case.splits), buffers.params(gpu, &case));
        assert!(gpu.download(&buffers.losses).iter().all(|loss| loss.is_nan()));
    });
}

#[test]
fn discarded_slices_skip_their_second_product_and_loads_meet_no_bank_conflict() {
    for dim in DIMS {
        let products = |threshold: f64| {
            let mut counts = (0, 0);
            on(software_gpu::SCHEDULES[0], |gpu| {
                let mut case = Case::new(F16, (64, 128, dim), 1);
                // Positives have no weight either: whether a slice has one depends on the threshold alone.
                case.positive = Reference::new(CurveKind::Constant, 0.0, 0.0);
                case.negative = Reference::new(CurveKind::Constant, 1.0, 0.0).gated(threshold, f64::INFINITY);
                let before = software_gpu::statistics();
                check(gpu, &case, EXACT_WEIGHTS);
                let after = software_gpu::statistics();
                counts = (after.multiplications - before.multiplications, after.bank_conflicts - before.bank_conflicts);
            });
            counts
        };
        let (kept, discarded) = (products(-2.0), products(2.0));
        assert_eq!((kept.1, discarded.1), (0, 0), "bank conflicts at length {dim}");
        assert_eq!(kept.0, 2 * discarded.0, "matrix products at length {dim}");
    }
}

#[test]
fn the_split_depends_on_sizes_only_and_covers_the_memory() {
    for dim in DIMS {
        let tiling = Tiling::new(dim).unwrap();
        for (anchors, capacity) in [(1, 1), (64, 8192), (1024, 1_000_000), (100, 100)] {
            let splits = tiling.splits(anchors, capacity, 132);
            assert!(splits.count * splits.tiles * tiling.rows >= capacity);
            assert!((splits.count - 1) * splits.tiles * tiling.rows < capacity);
        }
    }
    assert_eq!(Tiling::new(100), None);
}
