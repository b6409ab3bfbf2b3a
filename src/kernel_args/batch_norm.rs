//! Host side of `kernels/batch_norm.cu`.
//!
//! Training: `range_moments`, `statistics`, `normalise`. Frozen: `freeze`, `normalise`. Backward: `range_gradients`,
//! `parameter_gradients`, `input_gradient`.

use super::vector_width;
use crate::device::cuda::kernel::{Format, LaunchShape};
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
/// Vectors of channels that a block takes side by side at most: a warp then reads one row.
const MOST_ACROSS: u32 = 32;
/// Rows that a thread takes at once at most; a range is a whole number of such turns.
const ROWS_AT_ONCE: u32 = 4;
/// Blocks to aim at: enough for any device, and a function of nothing, so that sums have one order everywhere.
const BLOCKS: u32 = 512;
/// Channels of a block of `statistics` and `parameter_gradients`.
const SUM_CHANNELS: usize = 8;
/// Bytes of shared memory a thread uses in these: two f64 or three f32.
const SUM_SHARED: u32 = 16;

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
    /// Ranges of rows; with the four fields below set by [`BatchNormParams::divided`].
    pub ranges: u32,
    /// Rows of a range.
    pub rows_per_range: u32,
    /// Channels that a thread takes at once.
    pub width: u32,
    /// Threads of a block side by side along a row.
    pub across: u32,
    /// `1 / rows`.
    pub inverse_rows: f32,
    /// Added to the variance.
    pub epsilon: f32,
    /// Weight of the new value in the running statistics.
    pub momentum: f32,
    /// 1 if a ReLU follows.
    pub relu: u32,
    /// 1 if the statistics are constants.
    pub frozen: u32,
}

impl BatchNormParams {
    /// Divides rows and channels among blocks and threads: a function of the sizes, and of whether the buffers, all named by now, allow
    /// vectors.
    #[must_use]
    pub fn divided(self, format: Format) -> Self {
        let buffers = [self.input, self.output, self.residual, self.output_gradient, self.result, self.residual_gradient];
        let width = vector_width(self.channels, format, &buffers);
        let vectors = self.channels / width;
        let blocks = vectors.div_ceil(MOST_ACROSS).max(1);
        let across = vectors.div_ceil(blocks).max(1);
        let turn = u64::from(THREADS / across * ROWS_AT_ONCE);
        let most_ranges = u64::from((BLOCKS / blocks).max(1));
        let rows_per_range = self.rows.div_ceil(most_ranges).next_multiple_of(turn).max(turn);
        Self {
            ranges: self.rows.div_ceil(rows_per_range).max(1) as u32,
            rows_per_range: u32::try_from(rows_per_range).expect("a range has less than 2^32 rows"),
            width,
            across,
            inverse_rows: 1.0 / self.rows as f32,
            ..self
        }
    }

    /// Bytes of the partial sums.
    pub fn partial_bytes(&self) -> usize {
        self.ranges as usize * 2 * self.channels as usize * size_of::<f32>()
    }

    /// Launch of `range_moments`, `normalise`, `range_gradients` and `input_gradient`.
    pub fn range_shape(&self) -> LaunchShape {
        let columns = self.across * self.width;
        let row_lanes = THREADS / self.across;
        // Two numbers for each lane and column, and a count for each lane.
        let shared_bytes = (2 * columns + 1) * row_lanes * size_of::<f32>() as u32;
        LaunchShape::new((self.channels.div_ceil(columns).max(1), self.ranges), THREADS, shared_bytes)
    }

    /// Launch of `statistics` and `parameter_gradients`.
    pub fn sum_shape(&self) -> LaunchShape {
        LaunchShape::linear((self.channels as usize).div_ceil(SUM_CHANNELS), THREADS).with_shared(THREADS * SUM_SHARED)
    }

    /// Launch of `freeze` and `fold`: a thread for each channel.
    pub fn channel_shape(&self) -> LaunchShape {
        LaunchShape::linear(self.channels.div_ceil(THREADS) as usize, THREADS)
    }
}
