//! Bytes of device memory that a launch moves, counted by the software GPU.

use super::case::Case;
use super::launch::{Buffers, combine_params};
use crate::device::{Gpu, on};
use software_gpu::{SCHEDULES, counts_every_access, statistics};
use xbm_fast::device::cuda::kernel::Format::F16;
use xbm_fast::kernel_args::pair_loss::combine::combine_shape;
use xbm_fast::kernel_args::pair_loss::fused::{Epilogue, shape, shared_bytes};
use xbm_fast::kernel_args::pair_loss::tiling::LENGTHS;

/// What the rest may be: parameters that every thread reads for itself.
const SLACK: f64 = 1.05;
const ROWS: usize = 512;
const SPLITS: usize = 2;

/// Bytes that are read and written until `body` has run.
fn moved(gpu: &Gpu, body: impl FnOnce()) -> [u64; 2] {
    let before = statistics();
    body();
    gpu.stream.synchronize().unwrap();
    let after = statistics();
    [after.bytes_read - before.bytes_read, after.bytes_written - before.bytes_written]
}

/// `found` is what has to move, and little more; where only asynchronous copies are counted, it may be less than all of it.
#[track_caller]
fn assert_moved(what: &str, found: u64, needed: usize, copied: usize) {
    let least = if counts_every_access() { needed } else { copied } as u64;
    assert!((least..=(SLACK * needed as f64) as u64).contains(&found), "{what}: {found} bytes, {needed} are needed");
}

#[test]
fn the_fused_pair_loss_reads_the_memory_once_for_a_group_of_anchors_and_writes_sums_alone() {
    for length in LENGTHS {
        on(SCHEDULES[0], |gpu| {
            for tiling in gpu.tilings(length) {
                for groups in [1, 2] {
                    let anchors = groups * tiling.anchors;
                    let case = Case::new(F16, (anchors, ROWS, length), SPLITS);
                    let splits = case.splits(&tiling);
                    let buffers = Buffers::new(gpu, &case, splits.count);
                    let kernel = gpu.kernel("pair_loss/fused", &Epilogue::Constant.kernel(F16, &tiling), shared_bytes(&tiling));
                    let params = buffers.params(gpu, &case, splits);
                    let [read, written] = moved(gpu, || gpu.launch(&kernel, shape(&tiling, anchors, splits), params));

                    let what = format!("{} anchors of {length} numbers", anchors);
                    let rows = groups * ROWS * length * 2 + splits.count * anchors * length * 2;
                    let labels = (groups * ROWS + splits.count * anchors) * size_of::<i32>();
                    assert_moved(&format!("{what}, read"), read, rows + labels, rows);
                    let sums = splits.count * anchors * (length + 3) * size_of::<f32>();
                    assert_moved(&format!("{what}, written"), written, sums, 0);
                }
            }
        });
    }
}

#[test]
fn the_parts_of_a_gradient_are_read_once_and_their_sum_is_written_once() {
    on(SCHEDULES[0], |gpu| {
        let (anchors, dim, parts) = (40, 128, 3);
        let case = Case::new(F16, (anchors, ROWS, dim), parts);
        let buffers = Buffers::new(gpu, &case, parts);
        for buffer in [&buffers.gradients, &buffers.losses] {
            gpu.stream.memset_zeros(&mut buffer.clone()).unwrap();
        }
        let kernel = gpu.kernel("pair_loss/combine", "pair_loss_combine", 0);
        let sums = [gpu.uninitialised::<f32>(anchors * dim), gpu.uninitialised::<f32>(anchors)];
        let kept = gpu.uninitialised::<i32>(2 * anchors);
        let params = combine_params(gpu, &case, &buffers, [parts; 2], (&sums, &kept));
        let [read, written] = moved(gpu, || gpu.launch(&kernel, combine_shape(anchors, dim), params));
        let bytes = anchors * (dim + 3) * size_of::<f32>();
        assert_moved("read", read, parts * bytes, 0);
        assert_moved("written", written, bytes, 0);
    });
}
