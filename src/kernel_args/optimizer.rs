//! Host side of `kernels/optimizer.cu`: one launch over the flat parameter buffer.

use crate::device::cuda::kernel::{LaunchShape, WARP_SIZE};
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
/// Blocks of a grid-stride launch: enough for any device, and the number of partial sums of a norm.
pub const BLOCKS: usize = 1024;

/// A parameter group on the device; groups ascend and do not overlap.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct DeviceGroup {
    /// First parameter.
    pub start: u64,
    /// Number of parameters.
    pub len: u64,
    /// Learning rate.
    pub learning_rate: f32,
    /// Weight decay.
    pub weight_decay: f32,
}

/// What changes from step to step, in device memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct OptimizerScalars {
    /// Number of this step, from 1; `optimizer_begin` sets all else.
    pub step: u32,
    /// 1 when the gradient is not finite: the step changes nothing.
    pub skip: u32,
    /// Factor on the gradient: what clipping leaves of it.
    pub gradient_scale: f32,
    /// Adam's `1 / (1 - beta1^step)`.
    pub first_correction: f32,
    /// Adam's `1 / sqrt(1 - beta2^step)`.
    pub second_correction: f32,
}

/// What outlives a step, in device memory.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct GradientScaler {
    /// What the gradient of the embeddings is multiplied by.
    pub loss_scale: f32,
    /// Steps since it last changed.
    pub clean: f32,
    /// Steps left out.
    pub skipped: f32,
    /// 1 or 0: whether the last gradient was finite.
    pub finite: f32,
}

/// Argument of `optimizer_begin`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OptimizerBeginParams {
    /// One [`OptimizerScalars`], updated.
    pub scalars: u64,
    /// One [`GradientScaler`], which says whether the step is made.
    pub scaler: u64,
    /// 0 for no clipping, or one f64: the sum of squares of all gradients in use.
    pub squared_norm: u64,
    /// Largest norm, read with `squared_norm`.
    pub clip_norm: f32,
    /// Adam's first decay.
    pub beta1: f32,
    /// Adam's second decay.
    pub beta2: f32,
    /// Zero.
    pub padding: u32,
}

/// Argument of `follow_scale`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct FollowScaleParams {
    /// One [`GradientScaler`], updated.
    pub scaler: u64,
    /// One f64.
    pub squared_norm: u64,
    /// Clean steps before the loss scale doubles; 0 if it never changes.
    pub growth_interval: u32,
    /// Zero.
    pub padding: u32,
}

/// Argument of `optimizer_step`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct OptimizerParams {
    /// `(len)` f32.
    pub gradients: u64,
    /// `(len)` f32, updated.
    pub parameters: u64,
    /// `(len)` f32, updated.
    pub first_moment: u64,
    /// `(len)` f32, updated; unused by SGD.
    pub second_moment: u64,
    /// 0, or `(len)` 16 bit, written.
    pub copy: u64,
    /// `(group_count)` [`DeviceGroup`].
    pub groups: u64,
    /// One [`OptimizerScalars`].
    pub scalars: u64,
    /// Number of parameters.
    pub len: u64,
    /// Number of groups.
    pub group_count: u32,
    /// 0 SGD, 1 Adam, 2 AdamW.
    pub rule: u32,
    /// 0 no copy, 1 f16, 2 bf16.
    pub copy_format: u32,
    /// Momentum, or Adam's first decay.
    pub beta1: f32,
    /// Adam's second decay.
    pub beta2: f32,
    /// Adam's denominator term.
    pub epsilon: f32,
}

/// Argument of `squared_norm_partial` and `squared_norm_total`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct SquaredNormParams {
    /// `(len)` f32.
    pub values: u64,
    /// 0 where all values count, or `(group_count)` [`DeviceGroup`]: those whose values do.
    pub groups: u64,
    /// `(partial_count)` f64, written, then read.
    pub partials: u64,
    /// One f64, written.
    pub result: u64,
    /// Number of values.
    pub len: u64,
    /// Number of groups.
    pub group_count: u32,
    /// Blocks of the first launch.
    pub partial_count: u32,
}

/// Argument of `moving_average`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct MovingAverageParams {
    /// `(len)` f32.
    pub source: u64,
    /// `(len)` f32, updated.
    pub target: u64,
    /// Number of values.
    pub len: u64,
    /// Weight of the old value.
    pub momentum: f32,
    /// Zero.
    pub padding: u32,
}

/// Argument of `scale_loss` and `unscale`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct ScaleLossParams {
    /// `(len)` f32, updated.
    pub values: u64,
    /// One [`GradientScaler`].
    pub scaler: u64,
    /// Number of values.
    pub len: u64,
}

/// Launch of the kernels that stride over `len` values.
pub fn shape(len: usize) -> LaunchShape {
    LaunchShape::linear(len.div_ceil(THREADS as usize).min(BLOCKS), THREADS)
}

/// Launch of `squared_norm_partial`; its grid is the number of partial sums.
pub fn norm_shape(len: usize) -> LaunchShape {
    shape(len).with_shared(THREADS * size_of::<f64>() as u32)
}

/// Launch of `squared_norm_total`: one block.
pub fn total_shape() -> LaunchShape {
    norm_shape(1)
}

/// Launch of the kernels of one thread: `optimizer_begin`, `follow_scale`.
pub fn single() -> LaunchShape {
    LaunchShape::linear(1, WARP_SIZE)
}
