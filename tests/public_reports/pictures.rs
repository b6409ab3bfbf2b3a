//! Small image files, some of kinds that no encoder at hand writes.

use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use std::io::{Cursor, Write};
use std::path::Path;
use xbm_fast::app::data::Image;

/// A picture in a format.
pub fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of one colour.
pub fn flat(colour: [u8; 3]) -> Vec<u8> {
    encoded(RgbImage::from_pixel(16, 16, Rgb(colour)), ImageFormat::Png)
}

/// Writes a file and the folders above it.
pub fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A folder data set: PNGs of as many classes as there are names, each image like no other.
pub fn write_classes(root: &Path, classes: &[&str], views: u8) {
    for (number, class) in (0u8..).zip(classes) {
        for view in 0..views {
            write(root, &format!("{class}/{view}.png"), &flat([number * 20, view.wrapping_mul(20), view]));
        }
    }
}

pub fn decode(bytes: &[u8]) -> xbm_fast::Result<Image> {
    Image::decode(bytes, Path::new("photos/picture.jpg"))
}

pub fn pixel(image: &Image, x: usize, y: usize) -> [u8; 3] {
    image.rgb[(y * image.width + x) * 3..][..3].try_into().unwrap()
}

/// A PNG of these chunks, each a name and its content.
pub fn png(chunks: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, content) in chunks {
        let named = [name.as_bytes(), content].concat();
        let mut checksum = flate2::Crc::new();
        checksum.update(&named);
        bytes.extend((content.len() as u32).to_be_bytes());
        bytes.extend(named);
        bytes.extend(checksum.sum().to_be_bytes());
    }
    bytes
}

/// The header of a PNG of this size; colour type 0 is grey, 2 RGB, 3 a palette.
pub fn png_header(width: u32, height: u32, depth: u8, colour_type: u8) -> Vec<u8> {
    [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, colour_type, 0, 0, 0]].concat()
}

pub fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
