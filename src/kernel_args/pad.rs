//! Host side of `kernels/pad.cu`: rows made wider by zeros, or narrower.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;

/// Argument of `pad_<input>_<output>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct PadParams {
    /// `(rows, from)`.
    pub input: u64,
    /// `(rows, to)`, written.
    pub output: u64,
    /// Number of rows.
    pub rows: u64,
    /// Width of an input row.
    pub from: u32,
    /// Width of an output row.
    pub to: u32,
}

/// A thread for each value written.
pub fn shape(values: usize) -> LaunchShape {
    LaunchShape::linear(values.div_ceil(THREADS as usize), THREADS)
}
