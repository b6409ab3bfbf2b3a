//! The bytes of a packed file: header, index records and texts, written and read here and nowhere else.
//!
//! Little-endian throughout. Offsets are from the start of the file.
//!
//! ```text
//! header, 128 bytes
//!     0  magic            89 58 42 4D 0D 0A 1A 0A, so that a file mangled as text is noticed
//!     8  version          u32   1
//!    12  encoding         u32   0 raw RGB, 1 image files as they were
//!    16  images           u64
//!    24  classes          u64
//!    32  texts_len        u64   bytes of the texts, which follow the index records
//!    40  payload_offset   u64   a multiple of 4096
//!    48  payload_len      u64   the file ends where the payload does
//!    56  index_checksum   u32   CRC-32C of records and texts
//!    60  reserved         0
//!   124  header_checksum  u32   CRC-32C of the bytes before it
//! index, a record of 64 bytes for each image
//!     0  offset           u64
//!     8  length           u64   raw: height * width * 3
//!    16  height           u32
//!    20  width            u32
//!    24  label            i32   below `classes`
//!    28  instance         u32   position in the data set it was packed from
//!    32  split            u8    0 train, 1 test, 2 query, 3 gallery
//!    33  flags            u8    bit 0: only a part of the pixels is the image; bit 1: there is a soft label
//!    34  reserved         0
//!    36  part             4 x u32   left, top, right, bottom
//!    52  checksum         u32   CRC-32C of the image's bytes
//!    56  soft_label       f32
//!    60  reserved         0
//! texts
//!        ranks            u32 count, then as many u32
//!        remark, names of the classes, names of the images: each u32 length and UTF-8
//! payload
//! ```

use crate::app::data::{PixelBox, Protocol, Split};

pub(super) const MAGIC: [u8; 8] = *b"\x89XBM\r\n\x1a\n";
pub(super) const VERSION: u32 = 1;
pub(super) const HEADER_LEN: usize = 128;
pub(super) const RECORD_LEN: usize = 64;
/// Payloads begin at a page.
pub(super) const ALIGNMENT: u64 = 4096;

const HEADER_CHECKSUM_AT: usize = 124;
const HAS_PART: u8 = 1;
const HAS_SOFT_LABEL: u8 = 2;
const SPLITS: [Split; 4] = [Split::Train, Split::Test, Split::Query, Split::Gallery];

/// How the pixels of a packed file are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// 8-bit RGB, ready to be augmented: large and fast.
    Raw,
    /// Image files (usually JPEG) as they were: small, decoded at every use.
    Files,
}

impl Encoding {
    fn code(self) -> u32 {
        match self {
            Self::Raw => 0,
            Self::Files => 1,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        [Self::Raw, Self::Files].into_iter().find(|encoding| encoding.code() == code)
    }
}

/// What the header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub encoding: Encoding,
    pub images: u64,
    pub classes: u64,
    pub texts_len: u64,
    pub payload_offset: u64,
    pub payload_len: u64,
    pub index_checksum: u32,
}

impl Header {
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.encoding.code().to_le_bytes());
        put(16, &self.images.to_le_bytes());
        put(24, &self.classes.to_le_bytes());
        put(32, &self.texts_len.to_le_bytes());
        put(40, &self.payload_offset.to_le_bytes());
        put(48, &self.payload_len.to_le_bytes());
        put(56, &self.index_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]);
        bytes[HEADER_CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// The fields, or why these are not the first bytes of a packed file that this program reads.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        if !bytes.starts_with(&MAGIC) {
            return Err("expected a packed file of `xbm-fast pack`, found something else".to_owned());
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(format!("truncated: expected a header of {HEADER_LEN} bytes, found {}", bytes.len()));
        };
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(format!(
                "expected version {VERSION} of the packed format, found {version}; pack the data again, or use the program that wrote it"
            ));
        }
        let (stated, computed) = (u32_at(bytes, HEADER_CHECKSUM_AT), crc32c::crc32c(&bytes[..HEADER_CHECKSUM_AT]));
        if stated != computed {
            return Err(format!("damaged: expected a header with checksum {stated:08x}, found {computed:08x}"));
        }
        let code = u32_at(bytes, 12);
        let encoding = Encoding::from_code(code).ok_or_else(|| format!("expected encoding 0 or 1, found {code}"))?;
        Ok(Self {
            encoding,
            images: u64_at(bytes, 16),
            classes: u64_at(bytes, 24),
            texts_len: u64_at(bytes, 32),
            payload_offset: u64_at(bytes, 40),
            payload_len: u64_at(bytes, 48),
            index_checksum: u32_at(bytes, 56),
        })
    }
}

/// What the index says about an image.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub offset: u64,
    pub length: u64,
    pub height: u32,
    pub width: u32,
    pub label: i32,
    pub instance: u32,
    pub split: Split,
    pub part: Option<PixelBox>,
    pub checksum: u32,
    pub soft_label: Option<f32>,
}

impl Record {
    pub fn to_bytes(&self) -> [u8; RECORD_LEN] {
        let mut bytes = [0; RECORD_LEN];
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(0, &self.offset.to_le_bytes());
        put(8, &self.length.to_le_bytes());
        put(16, &self.height.to_le_bytes());
        put(20, &self.width.to_le_bytes());
        put(24, &self.label.to_le_bytes());
        put(28, &self.instance.to_le_bytes());
        let split = SPLITS.iter().position(|split| *split == self.split).expect("all splits are listed");
        let flags = u8::from(self.part.is_some()) * HAS_PART + u8::from(self.soft_label.is_some()) * HAS_SOFT_LABEL;
        put(32, &[split as u8, flags]);
        if let Some(PixelBox { left, top, right, bottom }) = self.part {
            for (index, edge) in [left, top, right, bottom].into_iter().enumerate() {
                put(36 + 4 * index, &edge.to_le_bytes());
            }
        }
        put(52, &self.checksum.to_le_bytes());
        put(56, &self.soft_label.unwrap_or(0.0).to_le_bytes());
        bytes
    }

    /// The fields, or which of them no writer of this version sets.
    pub fn from_bytes(bytes: &[u8; RECORD_LEN]) -> Result<Self, String> {
        let (split, flags) = (bytes[32], bytes[33]);
        let split = *SPLITS.get(usize::from(split)).ok_or_else(|| format!("expected a split of 0 to 3, found {split}"))?;
        if flags & !(HAS_PART | HAS_SOFT_LABEL) != 0 {
            return Err(format!("expected flags of 0 to {}, found {flags}", HAS_PART | HAS_SOFT_LABEL));
        }
        let [left, top, right, bottom] = [36, 40, 44, 48].map(|at| u32_at(bytes, at));
        Ok(Self {
            offset: u64_at(bytes, 0),
            length: u64_at(bytes, 8),
            height: u32_at(bytes, 16),
            width: u32_at(bytes, 20),
            label: u32_at(bytes, 24) as i32,
            instance: u32_at(bytes, 28),
            split,
            part: (flags & HAS_PART != 0).then_some(PixelBox { left, top, right, bottom }),
            checksum: u32_at(bytes, 52),
            soft_label: (flags & HAS_SOFT_LABEL != 0).then_some(f32::from_bits(u32_at(bytes, 56))),
        })
    }
}

/// What the texts say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Texts {
    pub protocol: Protocol,
    pub classes: Vec<String>,
    pub images: Vec<String>,
}

impl Texts {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        bytes.extend(number(self.protocol.recall_at.len()));
        bytes.extend(self.protocol.recall_at.iter().flat_map(|&rank| number(rank)));
        for text in std::iter::once(&self.protocol.remark).chain(&self.classes).chain(&self.images) {
            bytes.extend(number(text.len()));
            bytes.extend(text.as_bytes());
        }
        bytes
    }

    /// None unless the bytes hold exactly that many texts.
    pub fn from_bytes(bytes: &[u8], classes: usize, images: usize) -> Option<Self> {
        let mut rest = bytes;
        let ranks = take_u32(&mut rest)?;
        let recall_at = (0..ranks).map(|_| take_u32(&mut rest).map(|rank| rank as usize)).collect::<Option<_>>()?;
        let protocol = Protocol { recall_at, remark: take_text(&mut rest)? };
        let classes = (0..classes).map(|_| take_text(&mut rest)).collect::<Option<_>>()?;
        let images = (0..images).map(|_| take_text(&mut rest)).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { protocol, classes, images })
    }
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_le_bytes(*number))
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let len = take_u32(rest)? as usize;
    let (text, after) = rest.split_at_checked(len)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside a fixed-size block"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("inside a fixed-size block"))
}
