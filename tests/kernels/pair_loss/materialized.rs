//! The unfused path: weights of a stored chunk of similarities, between two matrix products.

use super::case::Case;
use super::launch::{Buffers, EXACT_WEIGHTS, ROUNDED_WEIGHTS};
use super::weighting::Reference;
use crate::device::{Gpu, on_every_schedule};
use crate::support::assert_close;
use xbm_fast::device::cuda::kernel::Format::{Bf16, F16};
use xbm_fast::kernel_args::pair_loss::materialized::{PairWeightsParams, weights_kernel, weights_parts, weights_shape};
use xbm_fast::kernel_args::pair_loss::weighting::CurveKind;

#[test]
fn the_unfused_path_weighs_chunks_of_any_length() {
    on_every_schedule(|gpu| {
        for format in [F16, Bf16] {
            let mut case = Case::new(format, (9, 70, 40), 1);
            case.own_slots = Some((0..9).map(|i| 7 * i).collect());
            case.in_use = 61;
            weights_case(gpu, &case, 32, EXACT_WEIGHTS);
            case.own_slots = None;
            case.instances = Some(((0..9).collect(), (0..70).map(|j| j % 10).collect()));
            weights_case(gpu, &case, 32, EXACT_WEIGHTS);
            case.negative = Reference::new(CurveKind::Exponential, 4.0, 0.5);
            weights_case(gpu, &case, 40, ROUNDED_WEIGHTS);
        }
    });
}

#[test]
fn blocks_that_share_a_row_leave_sums_of_their_own() {
    on_every_schedule(|gpu| {
        let case = Case::new(F16, (2, 4500, 8), 1);
        weights_case(gpu, &case, 4504, EXACT_WEIGHTS);
    });
}

/// Goes through the memory in chunks of so many rows, a multiple of 8, the last of which reaches beyond it.
fn weights_case(gpu: &Gpu, case: &Case, chunk: usize, tolerance: f64) {
    let (buffers, chunks, parts) = (Buffers::new(gpu, case, 1), case.rows.div_ceil(chunk), weights_parts(chunk));
    let rows = buffers.rows(gpu, case);
    let kernel = gpu.kernel("pair_loss/materialized", &weights_kernel(&rows, case.format), 0);
    let losses = gpu.uninitialised::<f32>(chunks * parts * case.anchors);
    let kept = gpu.uninitialised::<i32>(2 * chunks * parts * case.anchors);
    let mut gradient = vec![0.0; case.anchors * case.dim];
    for (index, first) in (0..case.rows).step_by(chunk).enumerate() {
        let pairs: Vec<(usize, usize)> = (0..case.anchors).flat_map(|i| (first..first + chunk).map(move |j| (i, j))).collect();
        let similarity = |&(i, j): &(usize, usize)| if j < case.rows { case.similarity(i, j) as f32 } else { f32::NAN };
        let similarities = gpu.upload(&pairs.iter().map(similarity).collect::<Vec<_>>());
        let weights = gpu.uninitialised::<u8>(2 * pairs.len());
        let params = PairWeightsParams {
            rows,
            similarities: gpu.address(&similarities),
            weights: gpu.address(&weights),
            losses: gpu.address(&losses),
            kept: gpu.address(&kept),
            first_row: first as u32,
            columns: chunk as u32,
            first_part: (index * parts) as u32,
            first_anchor: 0,
        };
        gpu.launch(&kernel, weights_shape(case.anchors, chunk), params);
        for (&(i, j), weight) in pairs.iter().zip(gpu.decode(&weights, case.format)) {
            if j >= case.rows {
                assert!(weight == 0.0, "weight {weight} of row {j} beyond the memory");
                continue;
            }
            for k in 0..case.dim {
                gradient[i * case.dim + k] += weight * case.memory_values[j * case.dim + k];
            }
        }
    }
    let expected = case.reference();
    assert_close("gradient", &gradient, &expected.gradient, tolerance);
    assert_close("row losses", &summed(&gpu.download(&losses), case.anchors), &expected.losses, EXACT_WEIGHTS);
    assert_eq!(summed(&gpu.download(&kept), 2 * case.anchors), expected.kept);
}

/// The sums of parts of `len` values each.
fn summed<T: Copy + std::iter::Sum>(parts: &[T], len: usize) -> Vec<T> {
    (0..len).map(|i| parts[i..].iter().step_by(len).copied().sum()).collect()
}
