//! Packed files: a whole data set in one file that is mapped, not read. [`layout`] describes the bytes, `write` makes them.
//!
//! Nothing is believed before it is checked: lengths against the file, checksums of header and index at opening, every record against
//! the payload before a view is made. The checksum of an image's own bytes is compared when asked for ([`PackedImage::verify`]), because
//! it would read pages that a crop never touches.

pub mod layout;
mod write;

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::builder::Builder;
use super::{Dataset, Decoded, Image, Source};
use crate::app::mapping::{Mapped, Mapping};
use crate::error::{Error, Result};
use crate::files::output;
pub use layout::Encoding;
use layout::{ALIGNMENT, HEADER_LEN, Header, MAGIC, RECORD_LEN, Record, Texts};
pub use write::{PackOptions, PackReport, pack};

/// Whether a file is a packed one, of whatever version.
pub fn is_packed(path: &Path) -> bool {
    output::head(path, MAGIC.len() as u64) == MAGIC
}

/// An open packed file.
#[derive(Debug)]
struct PackedFile {
    path: PathBuf,
    map: Arc<Mapping>,
    encoding: Encoding,
    records: Vec<Record>,
    names: Vec<String>,
}

/// An image of a packed file.
#[derive(Clone, Debug)]
pub struct PackedImage {
    file: Arc<PackedFile>,
    index: usize,
}

/// Opens the data set in the packed file at `path`.
///
/// # Errors
/// [`Error::Io`] if it cannot be read; [`Error::Data`] if it is no packed file, of another version, cut short or damaged.
pub fn open(path: &Path) -> Result<Dataset> {
    let map = Mapping::open(path)?;
    let damaged = |reason: String| Error::data(path, reason);
    let header = Header::from_bytes(map.get(0..map.len().min(HEADER_LEN)).unwrap_or_default()).map_err(damaged)?;
    let index = index_range(&header, map.len()).map_err(damaged)?;
    let (images, classes) = (header.images as usize, header.classes as usize);
    let (records, texts) = map.get(index).unwrap_or_default().split_at(images * RECORD_LEN);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(records), texts);
    if checksum != header.index_checksum {
        return Err(damaged(format!(
            "damaged: expected an index with checksum {:08x}, found {checksum:08x}",
            header.index_checksum
        )));
    }
    let texts = Texts::from_bytes(texts, classes, images)
        .ok_or_else(|| damaged(format!("expected the names of {classes} classes and {images} images, found others")))?;
    let checked = |(index, bytes): (usize, &[u8; RECORD_LEN])| {
        let record = Record::from_bytes(bytes).and_then(|record| check(&record, &header).map(|()| record));
        record.map_err(|reason| damaged(format!("image {index}: {reason}")))
    };
    let records = records.as_chunks().0.iter().enumerate().map(checked).collect::<Result<_>>()?;
    dataset(PackedFile { path: path.to_owned(), map, encoding: header.encoding, records, names: texts.images.clone() }, texts)
}

fn dataset(file: PackedFile, texts: Texts) -> Result<Dataset> {
    let file = Arc::new(file);
    let mut builder = Builder::new(&file.path, texts.protocol);
    builder.name_classes(texts.classes);
    for (index, record) in file.records.iter().enumerate() {
        builder.push_labelled(record.label, record.split, Source::Packed(PackedImage { file: file.clone(), index }), record.part);
        if let Some(label) = record.soft_label {
            builder.push_soft_label(label);
        }
    }
    let dataset = builder.finish()?;
    let (labels, images) = (dataset.soft_labels.len(), dataset.images.len());
    if labels != 0 && labels != images {
        return Err(Error::data(
            &file.path,
            format!("damaged: expected a soft label for each of {images} images or for none, found {labels}"),
        ));
    }
    Ok(dataset)
}

/// Where records and texts are, if the header fits the length of the file.
fn index_range(header: &Header, file_len: usize) -> Result<Range<usize>, String> {
    let Header { images, classes, texts_len, payload_offset, payload_len, .. } = *header;
    let index_end =
        images.checked_mul(RECORD_LEN as u64).and_then(|len| len.checked_add(texts_len)?.checked_add(HEADER_LEN as u64));
    let fits = |end: &u64| *end <= payload_offset && payload_offset.is_multiple_of(ALIGNMENT);
    let (Some(index_end), Some(end)) = (index_end.filter(fits), payload_offset.checked_add(payload_len)) else {
        return Err(format!("expected an index of {images} images before the payload at {payload_offset}, found no room for it"));
    };
    if end != file_len as u64 {
        let state = if (file_len as u64) < end { "truncated" } else { "too long" };
        return Err(format!("{state}: expected {end} bytes, found {file_len}"));
    }
    if images.max(classes) > i32::MAX as u64 {
        return Err(format!("expected at most {} images and classes, found {images} and {classes}", i32::MAX));
    }
    Ok(HEADER_LEN..index_end as usize)
}

/// Everything that reading the image relies on.
fn check(record: &Record, header: &Header) -> Result<(), String> {
    let Record { offset, length, height, width, label, soft_label, .. } = *record;
    let payload_end = header.payload_offset + header.payload_len;
    if offset < header.payload_offset || offset.checked_add(length).is_none_or(|end| end > payload_end) {
        return Err(format!("expected bytes within {}..{payload_end}, found {length} bytes at {offset}", header.payload_offset));
    }
    let pixels = u64::from(height) * u64::from(width);
    if pixels == 0 {
        return Err(format!("expected at least one pixel, found {width} x {height}"));
    }
    if header.encoding == Encoding::Raw && pixels.checked_mul(3) != Some(length) {
        return Err(format!("expected 3 bytes for each of {width} x {height} pixels, found {length}"));
    }
    if soft_label.is_some_and(|label| !label.is_finite()) {
        return Err(format!("expected a finite soft label, found {soft_label:?}"));
    }
    if !u64::try_from(label).is_ok_and(|label| label < header.classes) {
        return Err(format!("expected a label below {}, found {label}", header.classes));
    }
    Ok(())
}

impl PackedImage {
    /// The image, upright and in RGB, before it is cut to its part. Raw pixels are not copied; an encoded image may have at most
    /// `max_megapixels` million.
    ///
    /// # Errors
    /// [`Error::Data`] if an encoded image is damaged or larger.
    pub fn decode(&self, max_megapixels: u32) -> Result<Decoded> {
        let Record { height, width, .. } = *self.record();
        let (height, width) = (height as usize, width as usize);
        let bytes = self.bytes();
        match self.file.encoding {
            Encoding::Raw => {
                bytes.prefetch();
                Ok(Decoded { image: Image { rgb: bytes.into(), height, width }, several: false })
            }
            Encoding::Files => {
                let place = PathBuf::from(self.to_string());
                let decoded = Decoded::from_bytes(&bytes, &place, max_megapixels)?;
                let image = &decoded.image;
                if (image.height, image.width) != (height, width) {
                    let found = format!("{} x {}", image.width, image.height);
                    return Err(Error::data(place, format!("expected {width} x {height} pixels, found {found}")));
                }
                Ok(decoded)
            }
        }
    }

    /// Compares the image's bytes with their checksum.
    ///
    /// # Errors
    /// [`Error::Data`] if they changed since the file was written.
    pub fn verify(&self) -> Result<()> {
        let (stated, computed) = (self.record().checksum, crc32c::crc32c(&self.bytes()));
        if stated == computed {
            return Ok(());
        }
        Err(Error::data(self.to_string(), format!("damaged: expected bytes with checksum {stated:08x}, found {computed:08x}")))
    }

    /// Height and width of its pixels.
    pub fn size(&self) -> [u32; 2] {
        [self.record().height, self.record().width]
    }

    /// The stored checksum of its bytes (CRC-32C).
    pub fn checksum(&self) -> u32 {
        self.record().checksum
    }

    /// Where the image came from, as it was called when it was packed.
    pub fn name(&self) -> &str {
        &self.file.names[self.index]
    }

    /// Its name where the packed file is called `file`.
    pub fn name_in(&self, file: &Path) -> String {
        format!("{} in {}", self.name(), file.display())
    }

    /// How the file keeps its images.
    pub fn encoding(&self) -> Encoding {
        self.file.encoding
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> Mapped {
        let Record { offset, length, .. } = *self.record();
        let range = offset as usize..(offset + length) as usize;
        Mapped::new(&self.file.map, range).expect("every record was checked when the file was opened")
    }

    fn record(&self) -> &Record {
        &self.file.records[self.index]
    }
}

impl PartialEq for PackedImage {
    fn eq(&self, other: &Self) -> bool {
        self.file.path == other.file.path && self.index == other.index
    }
}

impl fmt::Display for PackedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name_in(&self.file.path))
    }
}
