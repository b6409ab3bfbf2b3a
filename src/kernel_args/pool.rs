//! Host side of `kernels/pool.cu`.

use super::vector_width;
use crate::device::cuda::kernel::{Format, LaunchShape};
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 128;
/// Output rows that a thread of `max_pool_backward` goes down.
const STRIP: u32 = 8;

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
    /// Channels that a thread takes at once: set by [`PoolParams::in_vectors`].
    pub channels_at_once: u32,
    /// Zero.
    pub padding: u32,
}

impl PoolParams {
    /// With as many channels a thread as the sizes and the buffers, all named by now, allow.
    #[must_use]
    pub fn in_vectors(self, format: Format) -> Self {
        let buffers = [self.input, self.output, self.output_gradient, self.input_gradient];
        Self { channels_at_once: vector_width(self.channels, format, &buffers), ..self }
    }

    /// What `max_pool_backward` has a thread for, of each vector: columns of strips.
    pub fn strips(&self) -> usize {
        [self.batch, self.out_height.div_ceil(STRIP), self.out_width, self.channels].into_iter().map(|size| size as usize).product()
    }

    /// A thread for each vector of these items: outputs of the forward pass, [`PoolParams::strips`], channels of images for the global
    /// poolings.
    pub fn shape(&self, items: usize) -> LaunchShape {
        LaunchShape::linear((items / self.channels_at_once as usize).div_ceil(THREADS as usize), THREADS)
    }
}
