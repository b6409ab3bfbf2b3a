//! Ranks of a whole test set, at the best that `src/ops/retrieval/cuda.rs` can do: products at the device's peak, everything else at the
//! rate of the memory it lies in.

use crate::LAUNCH;
use crate::devices::Device;
use xbm_fast::kernel_args::retrieval::queries_at_once;

/// Every row searched in all others, with rows of `dim` 16-bit numbers: seconds of the products and of the ranks.
pub fn ranks(device: &Device, rows: usize, dim: usize) -> [f64; 2] {
    let at_once = queries_at_once(rows, 2 * dim, device.cache).min(rows);
    let (blocks, pairs) = (rows.div_ceil(at_once) as f64, (at_once * rows) as f64);
    // What does not fit into the cache passes through memory.
    let outside = |bytes: f64| if bytes <= device.cache as f64 { 0.0 } else { bytes };
    let launch = |flops: f64, memory: f64, cached: f64| {
        let moved = (memory / device.bytes_per_second).max(cached / device.cache_bytes_per_second());
        blocks * (LAUNCH + (flops / device.peak).max(moved))
    };
    let (gallery, similarities, labels) = ((2 * rows * dim) as f64, 4.0 * pairs, 4.0 * pairs);
    let product = launch(2.0 * pairs * dim as f64, outside(gallery) + outside(similarities), gallery + similarities);
    // The labels of the gallery are read for each query, once, from the cache.
    [product, launch(0.0, outside(similarities), similarities + labels)]
}
