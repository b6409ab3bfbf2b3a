//! Arguments and launch shapes of the CUDA kernels: one module for each source in `kernels/`, of the same stem, with
//! its argument structs field by field.
//!
//! What the kernels compute is written in the `.cu`; what an operation means, and who launches it, in [`crate::ops`].

pub mod augment;
pub mod batch_norm;
pub mod l2_normalize;
pub mod optimizer;
pub mod pad;
pub mod pair_loss;
pub mod pool;
pub mod retrieval;
pub mod rows;

use crate::device::cuda::kernel::Format;
use crate::device::cuda::width;
use pair_loss::tiling::Tiling;
use pair_loss::warpgroup::WarpgroupTiling;

/// Bytes that a thread moves in one access at most.
const VECTOR_BYTES: usize = 16;

/// Channels that move in one access: a vector of them, or one where a row is no whole number of vectors or a buffer does not start on one.
fn vector_width(channels: u32, format: Format, buffers: &[u64]) -> u32 {
    let vector = (VECTOR_BYTES / width(format)) as u32;
    let aligned = buffers.iter().all(|address| address.is_multiple_of(VECTOR_BYTES as u64));
    if channels.is_multiple_of(vector) && aligned { vector } else { 1 }
}

/// Dynamic shared memory of a block of the kernel of this name, in bytes, where every launch asks for the same.
pub fn shared_bytes_of(kernel: &str) -> Option<u32> {
    let warpgroups = || WarpgroupTiling::of_kernel(kernel).map(|tiling| tiling.shared_bytes());
    let pair_loss = warpgroups().or_else(|| pair_loss::fused::shared_bytes_of(kernel));
    let tiled = || Tiling::of_kernel(kernel).map(|tiling| tiling.shared_bytes());
    pair_loss.or_else(tiled).or_else(|| retrieval::shared_bytes_of(kernel))
}
