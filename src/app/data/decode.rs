//! From an image file to upright 8-bit RGB. What a file says of itself is checked before anything of that size is allocated.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::frames::Frames;
use super::kind::{HEAD_LEN, Kind};
use super::{Image, jpeg};
use crate::error::{Error, Result};
use crate::files::input;

/// Extensions of the formats this build reads, in lower case; case is ignored when files are looked for. A file with another name is an
/// image if its content is.
pub const EXTENSIONS: [&str; 14] =
    ["jpg", "jpeg", "jpe", "jfif", "pjpeg", "pjp", "png", "apng", "webp", "bmp", "dib", "gif", "tif", "tiff"];

/// Largest image that is decoded where nothing else is asked for, in millions of pixels: more than telephones and most cameras make. While
/// it is decoded an image takes 3 to 15 bytes for each pixel.
pub const DEFAULT_MAX_MEGAPIXELS: u32 = 128;

/// Room for colour profiles, EXIF blocks, texts and tables of an image file.
const METADATA_ROOM: u64 = 64 << 20;
/// Of the deepest pixels that formats store, 16 bits of four channels.
const MOST_BYTES_PER_PIXEL: u64 = 8;

/// An image as it came out of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its pixels.
    pub image: Image,
    /// Whether the file holds more: later frames of an animation, further pages.
    pub several: bool,
}

impl Image {
    /// Reads and decodes the file at `path`, of at most [`DEFAULT_MAX_MEGAPIXELS`].
    ///
    /// # Errors
    /// As [`Decoded::open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Decoded::open(path, DEFAULT_MAX_MEGAPIXELS)?.image)
    }

    /// Decodes an encoded image of at most [`DEFAULT_MAX_MEGAPIXELS`]; `path` is only for messages.
    ///
    /// # Errors
    /// As [`Decoded::from_bytes`].
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        Ok(Decoded::from_bytes(bytes, path, DEFAULT_MAX_MEGAPIXELS)?.image)
    }
}

impl Decoded {
    /// Reads and decodes the file at `path`.
    ///
    /// # Errors
    /// As [`Decoded::from_bytes`], and [`Error::Io`] if the file cannot be read.
    pub fn open(path: &Path, max_megapixels: u32) -> Result<Self> {
        Self::from_bytes(&read(path, max_megapixels)?, path, max_megapixels)
    }

    /// Decodes an encoded image of at most `max_megapixels` million pixels; `path` is only for messages. The content decides the format,
    /// not the name. Grey, palette, CMYK and 16-bit images become 8-bit RGB, transparent ones are laid over white, the EXIF orientation is
    /// applied, and of an animation the first frame is taken.
    ///
    /// # Errors
    /// [`Error::Data`] if the bytes are no image of a format that is read, cut short or otherwise damaged, or if the image is larger.
    pub fn from_bytes(bytes: &[u8], path: &Path, max_megapixels: u32) -> Result<Self> {
        decode(bytes, max_megapixels).map_err(|reason| Error::data(path, reason))
    }
}

/// Whether the name ends as an image's does, in any case.
pub fn has_known_extension(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)))
}

/// Whether bytes begin as an image of a format that is read does.
pub fn has_image_bytes(bytes: &[u8]) -> bool {
    format_of(bytes).is_ok()
}

/// Why the file at `path` is no image, or none if its name or its first bytes say that it is one.
pub(super) fn no_image(path: &Path) -> Option<String> {
    if has_known_extension(path) {
        // What cannot be reached is said when it is decoded.
        return input::metadata(path).err().and_then(not_regular);
    }
    let mut head = Vec::with_capacity(HEAD_LEN);
    let read = input::open(path).and_then(|file| file.take(HEAD_LEN as u64).read_to_end(&mut head).map_err(Error::io(path)));
    match read {
        Ok(_) => format_of(&head).err(),
        Err(Error::Io { source, .. }) => Some(source.to_string()),
        Err(error) => not_regular(error),
    }
}

fn not_regular(error: Error) -> Option<String> {
    if let Error::Data { reason, .. } = error { Some(reason) } else { None }
}

/// Height and width that the header of an image file says it has, before its orientation is applied.
pub(super) fn size_of(path: &Path) -> Option<[u32; 2]> {
    let reader = ImageReader::new(BufReader::new(input::open(path).ok()?)).with_guessed_format().ok()?;
    let (width, height) = reader.into_dimensions().ok()?;
    Some([height, width])
}

/// The bytes of an image file that may hold an image of that size. The first bytes decide whether the others are worth reading.
pub(super) fn read(path: &Path, max_megapixels: u32) -> Result<Vec<u8>> {
    let mut file = input::open(path)?;
    let mut bytes = Vec::with_capacity(HEAD_LEN);
    (&mut file).take(HEAD_LEN as u64).read_to_end(&mut bytes).map_err(Error::io(path))?;
    format_of(&bytes).map_err(|reason| Error::data(path, reason))?;
    let length = file.metadata().map_err(Error::io(path))?.len();
    if length > METADATA_ROOM + MOST_BYTES_PER_PIXEL * pixels(max_megapixels) {
        let size = format!("{:.0} MB", length as f64 / 1e6);
        return Err(Error::data(path, format!("{}, found a file of {size}", allowed(max_megapixels))));
    }
    let too_long = |error: std::collections::TryReserveError| Error::data(path, format!("{length} bytes cannot be read: {error}"));
    bytes.try_reserve_exact(usize::try_from(length).unwrap_or(usize::MAX)).map_err(too_long)?;
    file.read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

fn format_of(head: &[u8]) -> Result<ImageFormat, String> {
    match Kind::of(&head[..head.len().min(HEAD_LEN)]) {
        Kind::Image(format) => Ok(format),
        Kind::Other(name, advice) => Err(Kind::refusal(name, advice)),
    }
}

fn pixels(megapixels: u32) -> u64 {
    u64::from(megapixels) * 1_000_000
}

fn allowed(max_megapixels: u32) -> String {
    format!("expected an image of at most {max_megapixels} megapixels (--max-megapixels)")
}

fn decode(bytes: &[u8], max_megapixels: u32) -> Result<Decoded, String> {
    let format = format_of(bytes)?;
    let unsupported =
        |what: &str| format!("expected an image, found a {format:?} image of a kind that is not supported ({what}); convert it");
    let cut_short = || format!("expected an intact {format:?} image, found one that is cut short");
    if format == ImageFormat::Jpeg {
        let segments = jpeg::segments(bytes);
        if let Some(what) = segments.unsupported {
            return Err(unsupported(what));
        }
        // Decoders of JPEG paint what is missing grey and report success.
        if !segments.complete {
            return Err(cut_short());
        }
    }
    let fits = |(width, height): (u32, u32)| {
        if u64::from(width) * u64::from(height) > pixels(max_megapixels) {
            return Err(format!("{}, found {width} x {height} pixels", allowed(max_megapixels)));
        }
        Ok(())
    };
    let frames = Frames::of(bytes, format).ok_or_else(cut_short)?;
    fits(frames.largest)?;
    let refused = |error: ImageError| match error {
        ImageError::Unsupported(error) => unsupported(&error.to_string()),
        ImageError::Limits(_) => format!("{}, found one that takes more memory", allowed(max_megapixels)),
        error => format!("expected an intact {format:?} image, found a damaged one: {error}"),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits(format, max_megapixels));
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if height == 0 || width == 0 {
        return Err(format!("expected an image with pixels, found one of {width} x {height}"));
    }
    fits((width, height))?;
    let orientation = decoder.orientation().map_err(refused)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    image.apply_orientation(orientation);
    let (height, width) = (image.height() as usize, image.width() as usize);
    let rgb = if image.color().has_alpha() { over_white(image) } else { image.into_rgb8().into_raw() };
    Ok(Decoded { image: Image { rgb: rgb.into(), height, width }, several: frames.several })
}

/// What a decoder may allocate besides the pixels that are checked here.
fn limits(format: ImageFormat, max_megapixels: u32) -> Limits {
    let mut limits = Limits::no_limits();
    // The decoder of PNG counts only what is compressed beside the pixels, and a row.
    let room = if format == ImageFormat::Png { 0 } else { MOST_BYTES_PER_PIXEL * pixels(max_megapixels) };
    limits.max_alloc = Some(METADATA_ROOM + room);
    limits
}

fn over_white(image: DynamicImage) -> Vec<u8> {
    let blend = |value: u8, alpha: u8| {
        let (value, alpha) = (u32::from(value), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    image.into_rgba8().pixels().flat_map(|pixel| [0, 1, 2].map(|channel| blend(pixel[channel], pixel[3]))).collect()
}
