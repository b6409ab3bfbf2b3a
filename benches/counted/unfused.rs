//! Ways that write similarities to memory, at the best that they can do: products at the device's peak, everything else at the rate of the
//! memory it lies in, nothing lost between.

use crate::devices::Device;
use crate::{LAUNCH, Sizes};

/// A launch that multiplies or moves: whichever takes longer.
fn launch(device: &Device, flops: f64, memory_bytes: f64, cache_bytes: f64) -> f64 {
    let moved = (memory_bytes / device.bytes_per_second).max(cache_bytes / device.cache_bytes_per_second());
    LAUNCH + (flops / device.peak).max(moved)
}

/// Our own way through cuBLASLt, as `src/ops/pair_loss/cuda/unfused.rs` divides it: the memory in chunks whose similarities (32 bit) and
/// weights (16 bit) stay in half of the second-level cache; three launches a chunk.
pub fn cublaslt(device: &Device, Sizes { anchors, rows, dim }: Sizes) -> f64 {
    let chunk = (device.cache / 2 / 6 / anchors).clamp(1, rows);
    let chunks = rows.div_ceil(chunk) as f64;
    let (pairs, flops) = ((anchors * rows) as f64, 2.0 * (anchors * rows * dim) as f64);
    let (row_bytes, sums) = ((2 * rows * dim) as f64, chunks * (8 * anchors * dim) as f64);
    launch(device, flops, row_bytes, row_bytes + 4.0 * pairs)
        + launch(device, 0.0, 0.0, 6.0 * pairs)
        + launch(device, flops, 0.0, row_bytes + 2.0 * pairs + sums)
        + 3.0 * (chunks - 1.0) * LAUNCH
}

/// `torch.compile` of the loss and its gradient, as Inductor of PyTorch 2.11 divides `benches/device/torch_beside.py`: a product writes
/// similarities (2 bytes); one launch reads them and writes which negatives count (1 byte), another adds what the first one's blocks have
/// summed; one reads that and writes weights (2 bytes), which a product reads.
pub fn torch_compile(device: &Device, Sizes { anchors, rows, dim }: Sizes) -> f64 {
    let (pairs, flops, row_bytes) = ((anchors * rows) as f64, 2.0 * (anchors * rows * dim) as f64, (2 * rows * dim) as f64);
    // What one launch leaves and the next one reads stays in the cache, if it fits.
    let place = |bytes: f64| if bytes <= device.cache as f64 { (0.0, bytes) } else { (bytes, bytes) };
    let moving = |flops: f64, rows: f64, bytes: f64| {
        let (memory, cache) = place(bytes);
        launch(device, flops, rows + memory, rows + cache)
    };
    moving(flops, row_bytes, 2.0 * pairs)
        + moving(0.0, 0.0, 3.0 * pairs)
        + LAUNCH
        + moving(0.0, 0.0, 3.0 * pairs)
        + moving(flops, row_bytes, 2.0 * pairs)
}
