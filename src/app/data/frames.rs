//! What a file's own structure says before it is decoded: whether it holds more than one frame or page, and how large its parts claim to
//! be, as far as decoders would believe it.

use image::ImageFormat;

/// Frames and sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Frames {
    /// Whether there is more than one.
    pub several: bool,
    /// Width and height of the part that claims the most pixels, where parts have sizes of their own.
    pub largest: (u32, u32),
}

impl Frames {
    /// None if a part leaves the file.
    pub fn of(bytes: &[u8], format: ImageFormat) -> Option<Self> {
        match format {
            ImageFormat::Gif => Some(gif(bytes).unwrap_or_default()),
            ImageFormat::Png => Some(Self { several: png_is_animated(bytes).unwrap_or(false), ..Self::default() }),
            ImageFormat::Tiff => Some(tiff(bytes).unwrap_or_default()),
            ImageFormat::WebP => {
                let (mut frames, mut count) = (Self::default(), 0);
                webp(bytes.get(12..)?, true, &mut frames, &mut count)?;
                frames.several = count > 1;
                Some(frames)
            }
            _ => Some(Self::default()),
        }
    }

    fn claim(&mut self, width: u32, height: u32) {
        let pixels = |(width, height): (u32, u32)| u64::from(width) * u64::from(height);
        if pixels((width, height)) > pixels(self.largest) {
            self.largest = (width, height);
        }
    }
}

/// Walks over blocks until a second image is met; none at the end of a file that is cut short, which its decoder will say.
fn gif(bytes: &[u8]) -> Option<Frames> {
    const EXTENSION: u8 = 0x21;
    const IMAGE: u8 = 0x2C;
    let table = |flags: u8| if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let side = |at: usize| Some(u32::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let (mut at, mut frames, mut images) = (13 + table(*bytes.get(10)?), Frames::default(), 0);
    loop {
        let Some(block) = bytes.get(at) else { return Some(frames) };
        match *block {
            EXTENSION => at += 2,
            IMAGE if images == 0 => {
                images = 1;
                let (Some(width), Some(height), Some(flags)) = (side(at + 5), side(at + 7), bytes.get(at + 9)) else {
                    return Some(frames);
                };
                frames.claim(width, height);
                at += 11 + table(*flags);
            }
            other => {
                frames.several = other == IMAGE;
                return Some(frames);
            }
        }
        // Data in blocks of up to 255 bytes, ended by an empty one.
        while let Some(&length) = bytes.get(at) {
            at += 1 + usize::from(length);
            if length == 0 {
                break;
            }
        }
    }
}

/// An animation says so before its pixels.
fn png_is_animated(bytes: &[u8]) -> Option<bool> {
    let mut at = 8;
    loop {
        let length = u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?) as usize;
        match bytes.get(at + 4..at + 8)? {
            b"acTL" => return Some(u32::from_be_bytes(*bytes.get(at + 8..)?.first_chunk()?) > 1),
            b"IDAT" | b"IEND" => return Some(false),
            _ => at = at.checked_add(length)?.checked_add(12)?,
        }
    }
}

/// The first directory, in files of 32-bit or (BigTIFF) 64-bit places, and whether a second one follows it.
fn tiff(bytes: &[u8]) -> Option<Frames> {
    const BIG: u64 = 43;
    const WIDTH: u64 = 256;
    const HEIGHT: u64 = 257;
    const SHORT: u64 = 3;
    let little = bytes.starts_with(b"II");
    let number = |at: usize, length: usize| {
        let field = bytes.get(at..at.checked_add(length)?)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if little { field.iter().rev().fold(0, add) } else { field.iter().fold(0, add) })
    };
    let (place_at, place_len, count_len, entry_len) = if number(2, 2)? == BIG { (8, 8, 8, 20) } else { (4, 4, 2, 12) };
    let directory = usize::try_from(number(place_at, place_len)?).ok()?;
    let entries = directory.checked_add(count_len)?;
    let next = entries.checked_add(usize::try_from(number(directory, count_len)?).ok()?.checked_mul(entry_len)?)?;
    let several = number(next, place_len)? != 0;
    let mut sides = [0; 2];
    for entry in (entries..next).step_by(entry_len) {
        let value = || number(entry + 4 + place_len, if number(entry + 2, 2)? == SHORT { 2 } else { 4 });
        match number(entry, 2)? {
            WIDTH => sides[0] = value()?,
            HEIGHT => sides[1] = value()?,
            _ => {}
        }
    }
    let [width, height] = sides.map(|side| u32::try_from(side).unwrap_or(u32::MAX));
    Some(Frames { several, largest: (width, height) })
}

/// Walks over chunks: name, length, content, padded to an even length. What follows the last known chunk may be anything.
fn webp(mut rest: &[u8], outermost: bool, frames: &mut Frames, count: &mut usize) -> Option<()> {
    const FRAME_HEADER: usize = 16;
    const KNOWN: [&[u8; 4]; 9] = [b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "];
    while let Some((header, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let Some(content) = after.get(..length) else {
            return if KNOWN.iter().any(|known| header.starts_with(*known)) { None } else { Some(()) };
        };
        let short = |at: usize| content.get(at..at + 2).map(|bytes| u32::from(u16::from_le_bytes([bytes[0], bytes[1]])));
        let three = |at: usize| content.get(at..at + 3).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]));
        match &header[..4] {
            b"VP8X" => frames.claim(three(4)? + 1, three(7)? + 1),
            b"VP8 " => frames.claim(short(6)? & 0x3FFF, short(8)? & 0x3FFF),
            b"VP8L" => {
                let sides = u32::from_le_bytes(*content.get(1..)?.first_chunk()?);
                frames.claim((sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1);
            }
            b"ANMF" if outermost => {
                *count += 1;
                frames.claim(three(6)? + 1, three(9)? + 1);
                webp(content.get(FRAME_HEADER..)?, false, frames, count)?;
            }
            _ => {}
        }
        rest = after.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    Some(())
}
