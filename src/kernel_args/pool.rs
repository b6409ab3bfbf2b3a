//! Host side of `kernels/pool.cu`.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;

/// Argument of every kernel of the file, by name `max_pool_forward_<format>`, `global_avg_pool_backward_<format>` and so on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PoolParams {
    /// `(batch, height, width, channels)`.
    pub input: u64,
    /// `(batch, out_height, out_width, channels)` or `(batch, channels)`: written by the forward pass.
    pub output: u64,
    /// As `output`: read by the backward pass.
    pub output_gradient: u64,
    /// As `input`: written by the backward pass.
    pub input_gradient: u64,
    /// Images.
    pub batch: u32,
    /// Input rows.
    pub height: u32,
    /// Input columns.
    pub width: u32,
    /// Channels.
    pub channels: u32,
    /// Output rows of the window pooling.
    pub out_height: u32,
    /// Output columns of the window pooling.
    pub out_width: u32,
}

/// A thread for each item: outputs of the forward pass, inputs of the backward pass, channels of images for the global poolings.
pub fn shape(items: usize) -> LaunchShape {
    LaunchShape::linear(items.div_ceil(THREADS as usize), THREADS)
}
