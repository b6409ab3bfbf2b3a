//! Host side of `kernels/cast.cu`: copies between number formats, scaled on the way.

use super::kernel::{Format, LaunchShape};
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;
/// Values a thread moves at once.
const CHUNK_VALUES: usize = 8;
/// Blocks of a grid-stride launch: enough for any device.
const BLOCKS: usize = 2048;

/// Argument of `cast_<input>_<output>`; see [`name`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CastParams {
    /// `(len)` of the input format.
    pub input: u64,
    /// `(len)` of the output format, written; must not overlap the input.
    pub output: u64,
    /// Number of values.
    pub len: u64,
    /// Factor on each value: 1 to convert only, `1 / loss_scale` to take a loss scale off a gradient.
    pub scale: f32,
    /// Zero.
    pub padding: u32,
}

/// The kernel between two formats: from or to single precision. There is none between the two 16-bit formats, and none that only
/// copies 16 bit.
pub fn name(input: Format, output: Format) -> Option<String> {
    let single = input == Format::F32 || output == Format::F32;
    single.then(|| format!("cast_{}_{}", input.suffix(), output.suffix()))
}

/// A thread for each chunk of values, up to a grid that strides.
pub fn shape(len: usize) -> LaunchShape {
    LaunchShape::linear(len.div_ceil(CHUNK_VALUES * THREADS as usize).min(BLOCKS), THREADS)
}
