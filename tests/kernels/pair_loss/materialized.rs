//! The unfused path: weights of a stored chunk of similarities, between two matrix products.

use super::case::Case;
use super::launch::{Buffers, EXACT_WEIGHTS};
use crate::device::{Gpu, on_every_schedule};
use crate::support::assert_close;
use xbm_fast::device::cuda::kernel::Format::{Bf16, F16};
use xbm_fast::kernel_args::pair_loss::materialized::{PairWeightsParams, row_shape};

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
    let kernel = gpu.kernel("pair_loss/materialized", &format!("pair_weights_{}", case.format.suffix()), 0);
    let buffers = Buffers::new(gpu, case, 1);
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
            first_anchor: 0,
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
