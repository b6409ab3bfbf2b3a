//! From an image file to upright 8-bit RGB.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::Image;
use crate::error::{Error, Result};
use crate::files::input;

/// Extensions of the formats this build reads, in lower case; case is ignored when files are looked for.
pub const EXTENSIONS: [&str; 9] = ["jpg", "jpeg", "jpe", "png", "webp", "bmp", "gif", "tif", "tiff"];

impl Image {
    /// Reads and decodes the file at `path`.
    ///
    /// # Errors
    /// As [`Image::decode`], and [`Error::Io`] if the file cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        Self::decode(&input::read(path)?, path)
    }

    /// Decodes an encoded image; `path` is only for messages. The content decides the format, not the name. Grey, palette, CMYK and
    /// 16-bit images become 8-bit RGB, transparent ones are laid over white, the EXIF orientation is applied, and of an animation
    /// the first frame is taken.
    ///
    /// # Errors
    /// [`Error::Data`] if the bytes are empty, no image, cut short or otherwise damaged.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let fail = |reason: String| Error::data(path, reason);
        if bytes.is_empty() {
            return Err(fail("expected an image, found an empty file".to_owned()));
        }
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(Error::io(path))?;
        let Some(format) = reader.format() else {
            return Err(fail(format!("expected an image ({}), found something else", EXTENSIONS.join(", "))));
        };
        let damaged = |error: image::ImageError| fail(format!("expected an intact {format:?} image, found a damaged one: {error}"));
        // Decoders of JPEG paint what is missing grey and report success.
        if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
            return Err(fail("expected an intact Jpeg image, found one that is cut short".to_owned()));
        }
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let orientation = decoder.orientation().map_err(damaged)?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(orientation);
        let (height, width) = (image.height() as usize, image.width() as usize);
        if height == 0 || width == 0 {
            return Err(fail(format!("expected an image with pixels, found one of {width} x {height}")));
        }
        let rgb = if image.color().has_alpha() { over_white(image) } else { image.into_rgb8().into_raw() };
        Ok(Self { rgb: rgb.into(), height, width })
    }
}

/// Whether the name ends as an image's does, in any case.
pub fn has_known_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

fn over_white(image: DynamicImage) -> Vec<u8> {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image.into_rgba8().pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel[channel], pixel[3]))).collect()
}

/// Whether the end-of-image marker follows the first scan. Segments before it are skipped by their length, because the thumbnail
/// inside an EXIF segment has an end marker of its own.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            // Searched from the end, where an intact file has it.
            START_OF_SCAN => return bytes[at..].windows(2).rev().any(|pair| pair == END_OF_IMAGE),
            0xFF => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    false
}
