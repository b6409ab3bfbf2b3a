//! Cuts, resizes, flips and normalises images on the device: 8-bit RGB of any size in, `(images, size, size, 3)` out, normalised by
//! ImageNet's mean and deviation. Bilinear with antialiasing, the geometry of torchvision's `resize` on PIL images (pixel centres at
//! `+0.5`, support scaled by the reduction factor). Nothing is rounded to 8 bits, neither between the two passes nor at the end: in 32-bit
//! numbers a result is off by at most 2e-6 of the largest one (a two-thousandth of a level of 255), where Pillow and torchvision, which
//! round twice, are off by up to one level.

mod cpu;
mod crop;
mod cuda;
mod filter;
mod taps;

pub use crop::{RandomResizedCrop, ResizedCenterCrop};

use super::Out;
use crate::device::Storage;
use crate::error::Result;

const CHANNELS: usize = 3;

/// Mean of ImageNet's channels, for values in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// A decoded image, 8-bit RGB, rows from the top.
#[derive(Clone, Copy, Debug)]
pub struct Pixels<'a> {
    /// `height * width * 3` bytes.
    pub rgb: &'a [u8],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// The part of an image that becomes the output, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Upper edge.
    pub top: f32,
    /// Left edge.
    pub left: f32,
    /// Height of the part.
    pub height: f32,
    /// Width of the part.
    pub width: f32,
    /// Whether pixels outside the part may contribute at its edge (a centre crop taken after a resize) or not (a crop before a resize).
    pub sees_surroundings: bool,
    /// Whether the result is mirrored left to right.
    pub flip: bool,
}

/// Turns decoded images into network input.
pub trait Augment: Storage {
    /// Decoded images that stay on the device.
    type ImageCache: std::fmt::Debug + Send + Sync;

    /// Room for up to `bytes` of decoded images, taken as they come.
    fn image_cache(&self, bytes: usize) -> Self::ImageCache;

    /// As [`Augment::augment`], of images with ids: one that comes again is the same image, and need not be sent to the device again if
    /// there was room for it.
    ///
    /// # Errors
    /// As [`Augment::augment`].
    fn augment_cached(
        &self,
        cache: &mut Self::ImageCache,
        ids: &[i32],
        size: usize,
        images: &[Pixels<'_>],
        crops: &[Crop],
        output: Out<'_, Self>,
    ) -> Result<()>;

    /// One crop per image, to `(images, size, size, 3)`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] if counts differ, an image is empty, its bytes do not match its size, or a crop leaves it.
    fn augment(&self, size: usize, images: &[Pixels<'_>], crops: &[Crop], output: Out<'_, Self>) -> Result<()>;
}
