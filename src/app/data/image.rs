//! A decoded image: its pixels, wherever they are kept, and the part of it that belongs to one object.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::path::Path;

use crate::app::mapping::Mapped;
use crate::error::{Error, Result};
use crate::ops::augment::Pixels;

const CHANNELS: usize = 3;

/// A decoded image: 8-bit RGB, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `height * width * 3` bytes.
    pub rgb: Bytes,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Image {
    /// The image as the augmentation reads it.
    pub fn pixels(&self) -> Pixels<'_> {
        Pixels { rgb: &self.rgb, height: self.height, width: self.width }
    }

    /// The pixels inside `part`, as far as it lies on the image; `path` is only for messages.
    ///
    /// # Errors
    /// [`Error::Data`] if no pixel lies inside.
    pub fn cut(&self, part: PixelBox, path: &Path) -> Result<Self> {
        let end = |value: u32, limit: usize| (value as usize).min(limit);
        let (right, bottom) = (end(part.right, self.width), end(part.bottom, self.height));
        let (left, top) = (part.left as usize, part.top as usize);
        if left >= right || top >= bottom {
            let found = format!("expected a box on the image of {} x {} pixels, found {part}", self.width, self.height);
            return Err(Error::data(path, found));
        }
        let (height, width) = (bottom - top, right - left);
        if (height, width) == (self.height, self.width) {
            return Ok(self.clone());
        }
        let mut rgb = Vec::with_capacity(height * width * CHANNELS);
        for row in self.rgb.chunks_exact(self.width * CHANNELS).skip(top).take(height) {
            rgb.extend_from_slice(&row[left * CHANNELS..right * CHANNELS]);
        }
        Ok(Self { rgb: rgb.into(), height, width })
    }
}

/// Bytes of an image: its own, or a part of a mapped file that many share. Reads as a slice.
#[derive(Clone)]
pub struct Bytes(Place);

#[derive(Clone)]
enum Place {
    Owned(Vec<u8>),
    Mapped(Mapped),
}

impl Bytes {
    /// Memory of its own, in bytes; 0 for a part of a mapped file.
    pub fn owned_len(&self) -> usize {
        match &self.0 {
            Place::Owned(bytes) => bytes.len(),
            Place::Mapped(_) => 0,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Owned(bytes) => bytes,
            Place::Mapped(part) => part,
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Place::Owned(bytes))
    }
}

impl FromIterator<u8> for Bytes {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        Self(Place::Owned(bytes.into_iter().collect()))
    }
}

impl From<Mapped> for Bytes {
    fn from(part: Mapped) -> Self {
        Self(Place::Mapped(part))
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

/// The part of an image that shows one object, in pixels of the upright image; right and bottom edges are exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PixelBox {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// First column to the right of it.
    pub right: u32,
    /// First row below it.
    pub bottom: u32,
}

impl PixelBox {
    /// The pixels that a box with corners `(x1, y1)` and `(x2, y2)` touches. What sticks out to the left or above is cut off; what
    /// sticks out to the right or below is cut off when the size of the image is known. None if there is nothing inside.
    pub fn from_corners([x1, y1, x2, y2]: [f64; 4]) -> Option<Self> {
        let edge = |value: f64| value.clamp(0.0, f64::from(u32::MAX)) as u32;
        let part = Self { left: edge(x1.floor()), top: edge(y1.floor()), right: edge(x2.ceil()), bottom: edge(y2.ceil()) };
        (part.left < part.right && part.top < part.bottom).then_some(part)
    }
}

impl From<PixelBox> for String {
    fn from(PixelBox { left, top, right, bottom }: PixelBox) -> Self {
        format!("{left} {top} {right} {bottom}")
    }
}

impl TryFrom<String> for PixelBox {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        let edges: Vec<u32> = text.split(' ').filter_map(|edge| edge.parse().ok()).collect();
        match edges[..] {
            [left, top, right, bottom] if left < right && top < bottom => Ok(Self { left, top, right, bottom }),
            _ => Err(format!("expected a part as `left top right bottom`, found `{text}`")),
        }
    }
}

impl fmt::Display for PixelBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, top, right, bottom } = self;
        write!(f, "({left}, {top}) to ({right}, {bottom})")
    }
}
