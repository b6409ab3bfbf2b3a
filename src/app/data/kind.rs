//! What a file is, by its first bytes: the name says too little, and "damaged" is the wrong word for a photograph in a format that is not
//! read here, or for the web page that a download left in its place.

use image::ImageFormat;

/// Bytes from the start of a file that decide what it is.
pub(super) const HEAD_LEN: usize = 512;
/// The formats that are read, for messages.
pub(super) const FORMATS: &str = "JPEG, PNG, WebP, BMP, GIF or TIFF";

const CONVERT: &str = ", which is not supported; convert it to JPEG or PNG";
const NO_IMAGE: &str = "";
const DOWNLOAD: &str = "; download the image again";

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image of a format that is read.
    Image(ImageFormat),
    /// Anything else: its name with an article, and what to do about it.
    Other(&'static str, &'static str),
}

impl Kind {
    /// The kind of the file that begins with `head`; [`HEAD_LEN`] bytes are enough.
    pub fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            return Self::Other("an empty file", NO_IMAGE);
        }
        let other = targa(head).or_else(|| signature(head)).or_else(|| iso_media(head)).or_else(|| raw_tiff(head));
        if let Some((name, advice)) = other {
            return Self::Other(name, advice);
        }
        if let Ok(format) = image::guess_format(head)
            && format.reading_enabled()
        {
            return Self::Image(format);
        }
        let (name, advice) = text(head).or_else(|| without_signature(head)).unwrap_or(("something else", NO_IMAGE));
        Self::Other(name, advice)
    }

    /// Why a file that is no readable image is left out.
    pub fn refusal(name: &str, advice: &str) -> String {
        format!("expected an image ({FORMATS}), found {name}{advice}")
    }
}

/// Place, bytes, name, advice.
type Signature = (usize, &'static [u8], &'static str, &'static str);

const SIGNATURES: &[Signature] = &[
    (0, b"\0\0\0\x0CjP  ", "a JPEG 2000 image", CONVERT),
    (0, b"\xFF\x4F\xFF\x51", "a JPEG 2000 image", CONVERT),
    (0, b"\0\0\0\x0CJXL ", "a JPEG XL image", CONVERT),
    (0, b"\xFF\x0A", "a JPEG XL image", CONVERT),
    (0, b"\xFF\xD8\xFF\xF7", "a JPEG-LS image", CONVERT),
    (0, b"II\xBC", "a JPEG XR image", CONVERT),
    (0, b"8BPS", "a Photoshop image", CONVERT),
    (0, b"gimp xcf", "a GIMP image", CONVERT),
    (0, b"qoif", "a QOI image", CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (0, b"#?RGBE", "a Radiance HDR image", CONVERT),
    (0, b"\x76\x2F\x31\x01", "an OpenEXR image", CONVERT),
    (0, b"DDS ", "a DDS image", CONVERT),
    (0, b"farbfeld", "a farbfeld image", CONVERT),
    (0, b"BPG\xFB", "a BPG image", CONVERT),
    (0, b"FLIF", "a FLIF image", CONVERT),
    (0, b"\x8AMNG", "an MNG animation", CONVERT),
    (0, b"\x8BJNG", "a JNG image", CONVERT),
    (0, b"\0\0\x01\0", "an icon (ICO)", CONVERT),
    (0, b"\0\0\x02\0", "a cursor (CUR)", CONVERT),
    (0, b"\x0A\x05\x01", "a PCX image", CONVERT),
    (0, b"SIMPLE  =", "a FITS image", CONVERT),
    (128, b"DICM", "a DICOM image", CONVERT),
    (0, b"\xD7\xCD\xC6\x9A", "a Windows metafile", CONVERT),
    (0, b"FUJIFILMCCD-RAW", "a raw photograph of a camera", CONVERT),
    (0, b"IIRO", "a raw photograph of a camera", CONVERT),
    (0, b"IIRS", "a raw photograph of a camera", CONVERT),
    (0, b"IIU\0", "a raw photograph of a camera", CONVERT),
    (0, b"FOVb", "a raw photograph of a camera", CONVERT),
    (8, b"CR\x02", "a raw photograph of a camera", CONVERT),
    (0, b"\0\x05\x16\x07", "a macOS file of attributes (AppleDouble)", NO_IMAGE),
    (0, b"\0\x05\x16\0", "a macOS file of attributes (AppleSingle)", NO_IMAGE),
    (0, b"%PDF", "a PDF document", CONVERT),
    (0, b"%!PS", "a PostScript document", CONVERT),
    (0, b"\xD0\xCF\x11\xE0", "a Windows compound file (as Thumbs.db is)", NO_IMAGE),
    (0, b"PK\x03\x04", "a ZIP archive", "; unpack it"),
    (0, b"\x1F\x8B", "a gzip archive", "; unpack it"),
    (0, b"7z\xBC\xAF", "a 7z archive", "; unpack it"),
    (0, b"Rar!", "a RAR archive", "; unpack it"),
    (0, b"BZh", "a bzip2 archive", "; unpack it"),
    (0, b"\xFD7zXZ", "an xz archive", "; unpack it"),
    (0, b"\x28\xB5\x2F\xFD", "a Zstandard archive", "; unpack it"),
    (257, b"ustar", "a tar archive", "; unpack it"),
    (0, b"\x1A\x45\xDF\xA3", "a video (Matroska or WebM)", NO_IMAGE),
    (8, b"AVI ", "a video (AVI)", NO_IMAGE),
    (0, b"FLV", "a video (FLV)", NO_IMAGE),
    (0, b"\x30\x26\xB2\x75", "a video (WMV)", NO_IMAGE),
    (0, b"\0\0\x01\xBA", "a video (MPEG)", NO_IMAGE),
    (0, b"\0\0\x01\xB3", "a video (MPEG)", NO_IMAGE),
    (0, b"ID3", "a sound file", NO_IMAGE),
    (0, b"OggS", "a sound file", NO_IMAGE),
    (0, b"fLaC", "a sound file", NO_IMAGE),
    (8, b"WAVE", "a sound file", NO_IMAGE),
    (0, b"\x93NUMPY", "a NumPy array", NO_IMAGE),
    (0, b"\x89HDF", "an HDF5 file", NO_IMAGE),
    (0, b"\x89XBM", "a packed file", "; open it with packed:"),
    (0, b"SQLite format 3", "a SQLite database", NO_IMAGE),
    (0, b"\x7FELF", "a program", NO_IMAGE),
    (0, b"MZ", "a Windows program", NO_IMAGE),
    (0, b"version https://git-lfs", "the pointer that Git LFS leaves in place of a file", "; run `git lfs pull`"),
];

fn signature(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let fits = |&&(at, bytes, ..): &&Signature| head.get(at..).is_some_and(|rest| rest.starts_with(bytes));
    SIGNATURES.iter().find(fits).map(|&(_, _, name, advice)| (name, advice))
}

/// Files of ISO base media boxes, told apart by their brands: photographs of telephones, and videos.
fn iso_media(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let rest = head.get(4..)?.strip_prefix(b"ftyp")?;
    let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let brands = rest.get(..length.saturating_sub(8).min(rest.len()))?.as_chunks::<4>().0;
    let any = |known: &[&[u8; 4]]| brands.iter().any(|brand| known.contains(&brand));
    Some(if any(&[b"avif", b"avis"]) {
        ("an AVIF image", CONVERT)
    } else if any(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        ("a HEIC image", CONVERT)
    } else if any(&[b"crx "]) {
        ("a raw photograph of a camera", CONVERT)
    } else {
        ("a video (MP4 or QuickTime)", NO_IMAGE)
    })
}

/// Raw photographs that call themselves TIFF: the first image in them is a small preview, which nobody means.
fn raw_tiff(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const NEW_SUBFILE_TYPE: u16 = 254;
    const DNG_VERSION: u16 = 50706;
    let little = match head.first_chunk()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |bytes: [u8; 2]| if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    let long = |bytes: [u8; 4]| if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
    let directory = head.get(long(*head.get(4..)?.first_chunk()?) as usize..)?;
    let entries = directory.get(2..)?.as_chunks::<12>().0;
    let raw = entries.iter().take(usize::from(short(*directory.first_chunk()?))).any(|entry| {
        let value = long([entry[8], entry[9], entry[10], entry[11]]);
        match short([entry[0], entry[1]]) {
            NEW_SUBFILE_TYPE => value & 1 == 1,
            tag => tag == DNG_VERSION,
        }
    });
    raw.then_some(("a raw photograph of a camera", CONVERT))
}

fn text(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if head.starts_with(b"\xFF\xFE") || head.starts_with(b"\xFE\xFF") {
        return Some(("a text file", NO_IMAGE));
    }
    // A character may be cut in two by the end of the head.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return None,
    };
    if text.is_empty() || text.chars().any(|character| character.is_control() && !character.is_whitespace()) {
        return None;
    }
    let lower = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    let begins = |words: &[&str]| words.iter().any(|word| lower.starts_with(word));
    Some(if begins(&["<!doctype html", "<html", "<head", "<body"]) {
        ("an HTML page", DOWNLOAD)
    } else if lower.contains("<svg") {
        ("an SVG drawing", CONVERT)
    } else if begins(&["<?xml", "<error"]) {
        ("an XML text", DOWNLOAD)
    } else if matches!(lower.as_bytes(), [b'p', b'1'..=b'7', blank, ..] if blank.is_ascii_whitespace()) {
        ("a PNM image", CONVERT)
    } else {
        ("a text file", NO_IMAGE)
    })
}

/// Formats that have no signature, and files without content.
fn without_signature(head: &[u8]) -> Option<(&'static str, &'static str)> {
    if head.iter().all(|byte| *byte == 0) {
        return Some(("a file of zeros", DOWNLOAD));
    }
    if matches!(head, [b'P', b'1'..=b'7', blank, ..] if blank.is_ascii_whitespace()) {
        return Some(("a PNM image", CONVERT));
    }
    None
}

/// By the numbers of its header, which has no signature: a palette and its size, or none, the kind of pixels, sides and depth.
fn targa(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let header: &[u8; 18] = head.first_chunk()?;
    let fits = match header[1] {
        0 => header[3..8] == [0; 5] && matches!(header[2], 2 | 3 | 10 | 11),
        1 => matches!(header[2], 1 | 9) && matches!(header[7], 15 | 16 | 24 | 32),
        _ => false,
    };
    let sides = header[12..14] != [0; 2] && header[14..16] != [0; 2];
    (fits && sides && matches!(header[16], 8 | 15 | 16 | 24 | 32)).then_some(("a TGA image", CONVERT))
}
