//! Host side of `kernels/l2_normalize.cu`: rows to unit length and back.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
const ROWS_PER_BLOCK: usize = 8;

/// Argument of `l2_normalize_forward_<input>_<output>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct L2NormalizeParams {
    /// `(rows, dim)`.
    pub input: u64,
    /// `(rows, dim)`, written.
    pub output: u64,
    /// `(rows)` f32, written.
    pub norms: u64,
    /// Number of rows.
    pub rows: u32,
    /// Length of a row.
    pub dim: u32,
}

/// Argument of `l2_normalize_backward_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct L2NormalizeBackwardParams {
    /// Unit rows `(rows, dim)`.
    pub output: u64,
    /// Lengths before normalisation `(rows)` f32.
    pub norms: u64,
    /// `(rows, dim)` f32.
    pub output_gradient: u64,
    /// `(rows, dim)`, written.
    pub input_gradient: u64,
    /// Number of rows.
    pub rows: u32,
    /// Length of a row.
    pub dim: u32,
}

/// A warp for each row.
pub fn shape(rows: usize) -> LaunchShape {
    LaunchShape::linear(rows.div_ceil(ROWS_PER_BLOCK), THREADS)
}
