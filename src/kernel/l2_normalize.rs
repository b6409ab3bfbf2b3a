//! Host side of `kernels/l2_normalize.cu`: rows to unit length, back, and into the ring of the memory.

use super::LaunchShape;
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

/// Argument of `enqueue_<input>_<memory>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct EnqueueParams {
    /// Rows before normalisation `(rows, dim)`.
    pub input: u64,
    /// `(rows)` i32.
    pub labels: u64,
    /// `(rows)` i32.
    pub instances: u64,
    /// Ring `(capacity, dim)`, written.
    pub memory: u64,
    /// `(capacity)` i32, written.
    pub memory_labels: u64,
    /// `(capacity)` i32, written.
    pub memory_instances: u64,
    /// The slot of the first row, one u32.
    pub head: u64,
    /// Number of rows, at most `capacity`.
    pub rows: u32,
    /// Length of a row.
    pub dim: u32,
    /// Slots of the ring.
    pub capacity: u32,
    /// Zero.
    pub padding: u32,
}

/// Argument of `ring_advance`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct RingAdvanceParams {
    /// One u32, updated.
    pub head: u64,
    /// One u32, updated: slots in use.
    pub count: u64,
    /// Rows that were enqueued.
    pub rows: u32,
    /// Slots of the ring.
    pub capacity: u32,
}

/// A warp for each row: all kernels of this file but `ring_advance`.
pub fn shape(rows: usize) -> LaunchShape {
    LaunchShape::linear(rows.div_ceil(ROWS_PER_BLOCK), THREADS)
}

/// Of `ring_advance`.
pub fn advance_shape() -> LaunchShape {
    LaunchShape::linear(1, super::WARP_SIZE)
}
