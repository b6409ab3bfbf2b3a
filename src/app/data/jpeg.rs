//! What the segments of a JPEG file tell before it is decoded.

const START_OF_SCAN: u8 = 0xDA;
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// What was found before the first scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segments {
    /// Why no decoder here reads it.
    pub unsupported: Option<&'static str>,
    /// Whether an end marker follows the first scan.
    pub complete: bool,
}

/// Walks over the segments by their lengths, because the thumbnail inside an EXIF segment has markers of its own.
pub(super) fn segments(bytes: &[u8]) -> Segments {
    let mut found = Segments { unsupported: None, complete: false };
    let mut at = 2;
    while let Some(&[0xFF, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            START_OF_SCAN => {
                // Searched from the end, where an intact file has it.
                found.complete = bytes[at..].windows(2).rev().any(|pair| pair == END_OF_IMAGE);
                break;
            }
            0xFF => {
                at += 1;
                continue;
            }
            0xC3 => found.unsupported = Some("lossless"),
            0xC5..=0xC7 | 0xCD..=0xCF => found.unsupported = Some("hierarchical"),
            0xC9..=0xCB => found.unsupported = Some("arithmetically coded"),
            0xC0..=0xC2 if bytes.get(at + 4).is_some_and(|bits| *bits != 8) => found.unsupported = Some("12-bit"),
            _ => {}
        }
        at += 2 + usize::from(u16::from_be_bytes([high, low]));
    }
    found
}
