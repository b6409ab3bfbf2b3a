//! Host side of `kernels/augment.cu`.

use crate::device::cuda::kernel::LaunchShape;
use bytemuck::{Pod, Zeroable};

const THREADS: u32 = 256;

/// Where an image lies among the pixels, and which part of it becomes the output; see [`crate::ops::augment::Crop`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct AugmentImage {
    /// First byte, from [`AugmentParams::pixels`] on.
    pub offset: u64,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Upper edge of the crop.
    pub top: f32,
    /// Left edge of the crop.
    pub left: f32,
    /// Height of the crop.
    pub crop_height: f32,
    /// Width of the crop.
    pub crop_width: f32,
    /// 1 if pixels outside the crop contribute at its edge.
    pub sees_surroundings: u32,
    /// 1 to mirror left to right.
    pub flip: u32,
}

/// Argument of `augment_<format>`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct AugmentParams {
    /// Address of the images, RGB bytes; 0 where their offsets are addresses.
    pub pixels: u64,
    /// `(count)` [`AugmentImage`].
    pub images: u64,
    /// `(count, size, size, 3)`, written.
    pub output: u64,
    /// Images.
    pub count: u32,
    /// Rows and columns of the output.
    pub size: u32,
}

/// A thread for each output pixel; blocks of one image only.
pub fn shape(count: usize, size: usize) -> LaunchShape {
    LaunchShape::linear(count * (size * size).div_ceil(THREADS as usize), THREADS)
}
