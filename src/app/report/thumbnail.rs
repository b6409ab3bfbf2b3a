//! Small images inside the page.

use crate::error::{Error, Result, expect_len};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, RgbImage};

/// Longest side, in pixels: twice the size at which it is shown, for dense screens.
const LONGEST_SIDE: u32 = 192;
/// JPEG quality: a page of a hundred thumbnails stays below a megabyte or so.
const QUALITY: u8 = 82;

/// A small image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Thumbnail {
    jpeg: Vec<u8>,
}

impl Thumbnail {
    /// A thumbnail of `height * width * 3` bytes of 8-bit RGB.
    ///
    /// # Errors
    /// [`Error::Shape`] if the bytes do not match the size or a side is zero.
    pub fn from_rgb(rgb: &[u8], height: usize, width: usize) -> Result<Self> {
        expect_len("pixels", height * width * 3, rgb.len())?;
        let refused = || Error::shape("image", "sides from 1 to 65535", format_args!("{width} x {height}"));
        let side = |length: usize| u16::try_from(length).ok().filter(|&side| side > 0).map(u32::from).ok_or_else(refused);
        let image = RgbImage::from_raw(side(width)?, side(height)?, rgb.to_vec()).ok_or_else(refused)?;
        let mut image = DynamicImage::ImageRgb8(image);
        if image.width().max(image.height()) > LONGEST_SIDE {
            image = image.resize(LONGEST_SIDE, LONGEST_SIDE, FilterType::Triangle);
        }
        let mut jpeg = Vec::new();
        let encoded = JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&image);
        encoded.map_err(|error| Error::shape("thumbnail", "an image that JPEG can hold", error))?;
        Ok(Self { jpeg })
    }

    /// A crossed-out square, where there is no picture.
    pub fn missing() -> Self {
        const SIDE: usize = 96;
        let grey = |x: usize, y: usize| if x == y || x + y + 1 == SIDE { 96 } else { 208 };
        let rgb: Vec<u8> = (0..SIDE * SIDE).flat_map(|place| [grey(place % SIDE, place / SIDE); 3]).collect();
        Self::from_rgb(&rgb, SIDE, SIDE).expect("a square of pixels")
    }

    /// As a `data:` address.
    pub fn address(&self) -> String {
        format!("data:image/jpeg;base64,{}", STANDARD.encode(&self.jpeg))
    }

    /// The file.
    pub fn into_jpeg(self) -> Vec<u8> {
        self.jpeg
    }
}
