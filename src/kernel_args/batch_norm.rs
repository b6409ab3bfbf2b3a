//! Host side of `kernels/batch_norm.cu`.
//!
//! Training: `range_moments`, `statistics`, `normalise`. Frozen: `freeze`, `normalise`. Backward: `range_gradients`,
//! `parameter_gradients`, `input_gradient`.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
const CHANNELS: usize = 32;
/// Bytes of shared memory a thread uses in the range kernels: three numbers.
const SHARED_PER_THREAD: u32 = 12;
const MOST_RANGES: usize = 64;
const LEAST_ROWS: usize = 64;

/// Argument of every kernel of the file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct BatchNormParams {
    /// `(rows, channels)`.
    pub input: u64,
    /// Output of the forward pass `(rows, channels)`; read by the backward pass.
    pub output: u64,
    /// 0, or `(rows, channels)`.
    pub residual: u64,
    /// `(rows, channels)`; read by the backward pass.
    pub output_gradient: u64,
    /// `(rows, channels)`, written: the output, or the gradient of the input.
    pub result: u64,
    /// 0, or `(rows, channels)`, written.
    pub residual_gradient: u64,
    /// `(channels)` f32.
    pub weight: u64,
    /// `(channels)` f32.
    pub bias: u64,
    /// `(channels)` f32: mean of the batch, or the running mean.
    pub mean: u64,
    /// `(channels)` f32.
    pub inverse_deviation: u64,
    /// `(channels)` f32, updated in training.
    pub running_mean: u64,
    /// `(channels)` f32, updated in training.
    pub running_variance: u64,
    /// `(channels)` f32, written by the backward pass.
    pub weight_gradient: u64,
    /// `(channels)` f32, written by the backward pass.
    pub bias_gradient: u64,
    /// `(ranges, 2, channels)` f32 of scratch.
    pub partials: u64,
    /// Batch times height times width.
    pub rows: u64,
    /// Channels.
    pub channels: u32,
    /// Ranges of rows.
    pub ranges: u32,
    /// Rows of a range.
    pub rows_per_range: u32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the new value in the running statistics.
    pub momentum: f32,
    /// 1 if a ReLU follows.
    pub relu: u32,
    /// 1 if the statistics are constants.
    pub frozen: u32,
    /// Zero.
    pub padding: u32,
}

/// Number of ranges and rows of each, a function of the shape only.
pub fn ranges(rows: usize) -> (usize, usize) {
    let count = rows.div_ceil(LEAST_ROWS).clamp(1, MOST_RANGES);
    let each = rows.div_ceil(count).max(1);
    (rows.div_ceil(each).max(1), each)
}

/// Launch of `range_moments` and `range_gradients`.
pub fn range_shape(rows: usize, channels: usize) -> LaunchShape {
    let grid = (channels.div_ceil(CHANNELS).max(1) as u32, ranges(rows).0 as u32);
    LaunchShape { grid, threads: THREADS, shared_bytes: THREADS * SHARED_PER_THREAD }
}

/// A thread for each item: channels for `statistics`, `freeze` and `parameter_gradients`, values for the others.
pub fn item_shape(items: usize) -> LaunchShape {
    LaunchShape::linear(items.div_ceil(THREADS as usize), THREADS)
}
