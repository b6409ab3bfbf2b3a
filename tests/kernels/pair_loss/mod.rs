//! The fused pair loss against three loops in double precision.

mod case;
mod launch;
mod materialized;
mod normalize;
mod row_stats;
mod traffic;
mod weighting;

pub use launch::check_thoroughly;

use crate::device::{on, on_every_schedule};
use case::Case;
use launch::{Buffers, EXACT_WEIGHTS, ROUNDED_WEIGHTS, check, check_warpgroups, check_warps};
use weighting::Reference;
use xbm_fast::device::cuda::kernel::Format::{Bf16, F16};
use xbm_fast::kernel_args::pair_loss::fused::{Epilogue, shape, shared_bytes};
use xbm_fast::kernel_args::pair_loss::tiling::{LARGE_SHARED_LIMIT, LENGTHS, Tiling};
use xbm_fast::kernel_args::pair_loss::warpgroup;
use xbm_fast::kernel_args::pair_loss::weighting::CurveKind;

#[test]
fn the_rule_keeps_what_it_should_for_every_length_and_format() {
    on_every_schedule(|gpu| {
        for format in [F16, Bf16] {
            check(gpu, &Case::new(format, (70, 200, 64), 2), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (40, 150, 128), 1), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (20, 100, 256), 2), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (70, 75, 512), 2), EXACT_WEIGHTS);
            check(gpu, &Case::new(format, (40, 50, 1024), 2), EXACT_WEIGHTS);
        }
    });
}

#[test]
fn rows_of_any_multiple_of_eight_are_read_as_if_zeros_followed() {
    on_every_schedule(|gpu| {
        for dim in [8, 96, 192, 384, 768] {
            check(gpu, &Case::new(Bf16, (35, 70, dim), 2), EXACT_WEIGHTS);
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
fn soft_labels_weigh_negatives_by_how_far_they_are_apart() {
    on_every_schedule(|gpu| {
        for dim in [64, 512] {
            let mut case = Case::new(F16, (18, 70, dim), 2);
            // One index before the labels and one after them.
            let indices = |count: i32| (0..count).map(|i| i % 9 - 1).collect();
            case.soft = Some(((0..7).map(|i| i as f32 / 8.0).collect(), indices(18), indices(70)));
            check(gpu, &case, ROUNDED_WEIGHTS);
        }
    });
}

#[test]
fn a_similarity_that_is_not_finite_shows_in_the_loss_of_its_row() {
    on_every_schedule(|gpu| {
        let mut case = Case::new(F16, (3, 70, 64), 1);
        let tiling = Tiling::of_length(64, false);
        for epilogue in [Epilogue::Constant, Epilogue::Curve] {
            for value in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
                case.memory_values[5 * 64] = value;
                let kernel = gpu.kernel("pair_loss/fused", &epilogue.kernel(F16, &tiling), shared_bytes(&tiling));
                let (splits, buffers) = (case.splits(&tiling), Buffers::new(gpu, &case, 1));
                gpu.launch(&kernel, shape(&tiling, 3, splits), buffers.params(gpu, &case, splits));
                assert!(gpu.download(&buffers.losses).iter().all(|loss| loss.is_nan()), "{epilogue:?}, {value}");
            }
        }
    });
}

#[test]
fn discarded_slices_skip_their_second_product_and_loads_meet_no_bank_conflict() {
    for dim in LENGTHS {
        let products = |threshold: f64| {
            let mut counts = (0, 0);
            on(software_gpu::SCHEDULES[0], |gpu| {
                let mut case = Case::new(F16, (64, 128, dim), 1);
                // Positives have no weight either: whether a slice has one depends on the threshold alone.
                case.positive = Reference::new(CurveKind::Constant, 0.0, 0.0);
                case.negative = Reference::new(CurveKind::Constant, 1.0, 0.0).gated(threshold, f64::INFINITY);
                let before = software_gpu::statistics();
                check_warps(gpu, &case, EXACT_WEIGHTS);
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
fn warpgroups_skip_the_second_product_of_discarded_rows() {
    on(software_gpu::SCHEDULES[0], |gpu| {
        for tiling in warpgroup::LENGTHS.into_iter().flat_map(|length| gpu.warpgroup_tilings(length)) {
            // One positive in the first 16 rows, for the first anchor.
            let products = |kept: bool| {
                let mut case = Case::new(F16, (64, 128, tiling.length), 1);
                case.negative = Reference::new(CurveKind::Constant, 1.0, 0.0).gated(2.0, f64::INFINITY);
                case.anchor_labels = vec![0; 64];
                case.memory_labels = vec![1; 128];
                if kept {
                    (case.anchor_labels[0], case.memory_labels[3]) = (2, 2);
                }
                let before = software_gpu::statistics().multiplications;
                check_warpgroups(gpu, &case, (tiling, Epilogue::Constant), EXACT_WEIGHTS);
                software_gpu::statistics().multiplications - before
            };
            // A product of a warpgroup counts for each of its warps.
            let (blocks, multiplied) = (tiling.slices() as u64, tiling.sharing() as u64);
            assert_eq!(products(true) - products(false), 4 * blocks * multiplied, "{tiling:?}");
        }
    });
}

#[test]
fn rows_of_more_than_one_group_of_anchors_are_sent_to_all_of_a_cluster() {
    on_every_schedule(|gpu| {
        for (anchors, dim) in [(200, 128), (129, 256), (70, 512), (100, 1000), (66, 1800)] {
            let mut case = Case::new(F16, (anchors, 150, dim), 2);
            case.in_use = 131;
            for tiling in gpu.warpgroup_tilings(dim) {
                check_warpgroups(gpu, &case, (tiling, Epilogue::Constant), EXACT_WEIGHTS);
            }
        }
    });
}

#[test]
fn the_split_depends_on_sizes_only_and_covers_the_memory() {
    for tiling in LENGTHS.map(|length| Tiling::of_length(length, length > 512)) {
        for (anchors, capacity) in [(1, 1), (64, 8192), (1024, 1_000_000), (100, 100)] {
            let splits = tiling.splits(anchors, capacity, 264);
            assert!(splits.count * splits.tiles * tiling.rows >= capacity);
            assert!((splits.count - 1) * splits.tiles * tiling.rows < capacity);
            // One block more than run at a time would run alone.
            assert!(splits.count * anchors.div_ceil(tiling.anchors) <= 264, "{tiling:?}, {anchors} anchors");
        }
    }
}

#[test]
fn a_row_takes_the_next_length_that_the_device_has_shared_memory_for() {
    let small = LARGE_SHARED_LIMIT - 1;
    let tiling = |dim, limit| Tiling::new(dim, limit).map(|tiling| tiling.suffix());
    assert_eq!(tiling(8, small).as_deref(), Some("64"));
    assert_eq!(tiling(200, small).as_deref(), Some("256"));
    assert_eq!(tiling(512, small).as_deref(), Some("512"));
    assert_eq!(tiling(512, LARGE_SHARED_LIMIT).as_deref(), Some("512_large"));
    assert_eq!(tiling(520, LARGE_SHARED_LIMIT).as_deref(), Some("1024_large"));
    assert_eq!(
        [tiling(520, small), tiling(1032, LARGE_SHARED_LIMIT), tiling(100, small), tiling(0, small)],
        [None, None, None, None]
    );
}
