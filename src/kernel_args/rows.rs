//! Host side of `kernels/rows.cu`: rows by number.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
const ROWS_PER_BLOCK: usize = 8;

/// Argument of every kernel of this file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RowsParams {
    /// Rows `(.., dim)`, or one i32 a row.
    pub input: u64,
    /// Rows `(.., dim)`, or one i32 a row; written.
    pub output: u64,
    /// `(rows)` i32.
    pub indices: u64,
    /// Number of rows moved.
    pub rows: u32,
    /// Length of a row; unused for integers.
    pub dim: u32,
}

/// A warp for each row.
pub fn shape(rows: usize) -> LaunchShape {
    LaunchShape::linear(rows.div_ceil(ROWS_PER_BLOCK), THREADS)
}

/// Of `scatter_integers`: a thread for each row.
pub fn integers_shape(rows: usize) -> LaunchShape {
    LaunchShape::linear(rows.div_ceil(THREADS as usize), THREADS)
}
