//! Makes packed files.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::imageops::{self, FilterType};

use super::layout::{ALIGNMENT, Encoding, HEADER_LEN, Header, RECORD_LEN, Record, Texts};
use crate::app::data::pipeline::Pipeline;
use crate::app::data::{Bytes, Dataset, Decoded, Image, ImageRecord, PixelBox, Source, decode};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::words::counted;

/// Quality of images that are made smaller and encoded again.
const JPEG_QUALITY: u8 = 95;
/// Images that a thread prepares ahead of the writing; all are held in memory.
const AHEAD: usize = 2;

/// How to pack.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// How pixels are kept.
    pub encoding: Encoding,
    /// Images whose short side is longer are made smaller, to this many pixels; 0 leaves all as they are. A file that is made smaller is
    /// kept as a JPEG of quality 95, whatever it was.
    pub short_side: usize,
    /// Threads that read, decode and encode.
    pub threads: usize,
    /// Largest share of images that may be unreadable and left out.
    pub max_unreadable: f64,
}

/// What was packed.
#[derive(Clone, Debug, PartialEq)]
pub struct PackReport {
    /// Images in the file.
    pub images: usize,
    /// Bytes of the file.
    pub bytes: u64,
    /// Images left out, by their position in the data set, with the reason.
    pub unreadable: Vec<(usize, String)>,
}

/// Packs a data set into the file at `path`, which appears when it is complete; `progress` is called after each image.
///
/// # Errors
/// [`Error::Io`] if the file cannot be written; [`Error::Config`] if too many images are unreadable or `interrupted` was set.
pub fn pack(
    dataset: &Arc<Dataset>,
    path: &Path,
    options: &PackOptions,
    interrupted: &AtomicBool,
    progress: impl Fn(),
) -> Result<PackReport> {
    let (total, options, shared) = (dataset.images.len(), *options, dataset.clone());
    let mut items = Pipeline::start(0..total as u64, options.threads, AHEAD * options.threads.max(1), move |index| {
        Ok(Item::new(&shared, index as usize, &options).map_err(|error| error.to_string()))
    })?;
    let mut report = PackReport { images: 0, bytes: 0, unreadable: Vec::new() };
    let mut stopped = None;
    let written = write_atomically(path, |file| {
        let mut writer = PackWriter::new(file, dataset, options.encoding)?;
        for index in 0..total {
            let item = items.next().expect("one for each image").map_err(io::Error::other)?;
            match item {
                Ok(item) => writer.push(index, &item)?,
                Err(reason) => report.unreadable.push((index, reason)),
            }
            stopped = refusal(&report.unreadable, total, options.max_unreadable, interrupted);
            if stopped.is_some() {
                return Err(io::ErrorKind::Other.into());
            }
            progress();
        }
        (report.images, report.bytes) = (writer.records.len(), writer.finish()?);
        Ok(())
    });
    match stopped {
        Some(reason) => Err(Error::config(reason)),
        None => written.map(|()| report),
    }
}

/// Why to stop packing, if there is a reason.
fn refusal(unreadable: &[(usize, String)], total: usize, share: f64, interrupted: &AtomicBool) -> Option<String> {
    if interrupted.load(Ordering::Relaxed) {
        return Some("packing was interrupted; nothing was written".to_owned());
    }
    let (count, allowed) = (unreadable.len(), share * total as f64);
    let (_, first) = unreadable.first().filter(|_| count as f64 > allowed || count == total)?;
    let limit = if count == total { String::new() } else { format!(", more than the {:.1} % of --max-unreadable", 100.0 * share) };
    Some(format!("{count} of {} cannot be read{limit}; nothing was written; the first: {first}", counted(total, "image")))
}

/// An image ready to be written.
struct Item {
    bytes: Bytes,
    height: usize,
    width: usize,
    part: Option<PixelBox>,
    checksum: u32,
}

impl Item {
    fn new(dataset: &Dataset, index: usize, options: &PackOptions) -> Result<Self> {
        let (bytes, seen, part) = match options.encoding {
            Encoding::Raw => {
                let image = dataset.decode(index)?;
                let image = shrunk(&image, options.short_side).unwrap_or(image);
                (image.rgb.clone(), image, None)
            }
            Encoding::Files => {
                let ImageRecord { source, part, .. } = &dataset.images[index];
                let (bytes, whole) = file_of(source, dataset.max_megapixels)?;
                let cut = part.map(|part| whole.cut(part, source.to_string().as_ref())).transpose()?;
                match shrunk(cut.as_ref().unwrap_or(&whole), options.short_side) {
                    Some(small) => (as_jpeg(&small)?.into(), small, None),
                    None => (bytes, whole, *part),
                }
            }
        };
        Ok(Self { checksum: crc32c::crc32c(&bytes), bytes, height: seen.height, width: seen.width, part })
    }
}

/// The bytes of an image file, and the whole image in it. Pixels that are in no file are kept without loss.
fn file_of(source: &Source, max_megapixels: u32) -> Result<(Bytes, Image)> {
    match source {
        Source::File(path) => {
            let bytes = decode::read(path, max_megapixels)?;
            let image = Decoded::from_bytes(&bytes, path, max_megapixels)?.image;
            Ok((bytes.into(), image))
        }
        Source::Packed(packed) if packed.encoding() == Encoding::Files => {
            Ok((packed.bytes().into(), packed.decode(max_megapixels)?.image))
        }
        Source::Packed(packed) => with_png(packed.decode(max_megapixels)?.image),
        Source::Drawn(drawing) => with_png(drawing.draw()),
    }
}

/// The image with its short side made `short_side` long, unless that is 0 or would enlarge it.
fn shrunk(image: &Image, short_side: usize) -> Option<Image> {
    let short = image.height.min(image.width);
    if short_side == 0 || short <= short_side {
        return None;
    }
    let [height, width] = [image.height, image.width].map(|side| short_side * side / short);
    let small = imageops::resize(&buffer(image), width as u32, height as u32, FilterType::Triangle);
    Some(Image { rgb: small.into_raw().into(), height, width })
}

fn buffer(image: &Image) -> RgbImage {
    RgbImage::from_raw(image.width as u32, image.height as u32, image.rgb.to_vec()).expect("an image has a byte for each value")
}

fn with_png(image: Image) -> Result<(Bytes, Image)> {
    let mut bytes = Vec::new();
    buffer(&image).write_with_encoder(PngEncoder::new(&mut bytes)).map_err(unencodable)?;
    Ok((bytes.into(), image))
}

fn as_jpeg(image: &Image) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(&buffer(image)).map_err(unencodable)?;
    Ok(bytes)
}

fn unencodable(error: image::ImageError) -> Error {
    Error::config(format!("the image cannot be encoded again: {error}"))
}

/// Writes payload first and, into the room left for them, header and index last.
struct PackWriter<'a> {
    file: &'a mut BufWriter<File>,
    dataset: &'a Dataset,
    encoding: Encoding,
    records: Vec<Record>,
    names: Vec<String>,
    payload_offset: u64,
    position: u64,
}

impl<'a> PackWriter<'a> {
    fn new(file: &'a mut BufWriter<File>, dataset: &'a Dataset, encoding: Encoding) -> io::Result<Self> {
        let names = dataset.images.iter().map(|image| name(&image.source)).collect();
        let mut writer = Self { file, dataset, encoding, records: Vec::new(), names, payload_offset: 0, position: 0 };
        let room = HEADER_LEN + writer.names.len() * RECORD_LEN + writer.texts().to_bytes().len();
        writer.payload_offset = (room as u64).next_multiple_of(ALIGNMENT);
        writer.position = writer.payload_offset;
        writer.file.seek(SeekFrom::Start(writer.position))?;
        Ok(writer)
    }

    fn push(&mut self, index: usize, item: &Item) -> io::Result<()> {
        let ImageRecord { label, split, .. } = self.dataset.images[index];
        let side = |value: usize| u32::try_from(value).map_err(io::Error::other);
        self.records.push(Record {
            offset: self.position,
            length: item.bytes.len() as u64,
            height: side(item.height)?,
            width: side(item.width)?,
            label,
            instance: index as u32,
            split,
            part: item.part,
            checksum: item.checksum,
            soft_label: self.dataset.soft_labels.get(index).copied(),
        });
        self.position += item.bytes.len() as u64;
        self.file.write_all(&item.bytes)
    }

    /// Returns the length of the file.
    fn finish(mut self) -> io::Result<u64> {
        self.names = self.records.iter().map(|record| std::mem::take(&mut self.names[record.instance as usize])).collect();
        let records: Vec<u8> = self.records.iter().flat_map(Record::to_bytes).collect();
        let texts = self.texts().to_bytes();
        let header = Header {
            encoding: self.encoding,
            images: self.records.len() as u64,
            classes: self.dataset.classes.len() as u64,
            texts_len: texts.len() as u64,
            payload_offset: self.payload_offset,
            payload_len: self.position - self.payload_offset,
            index_checksum: crc32c::crc32c_append(crc32c::crc32c(&records), &texts),
        };
        self.file.seek(SeekFrom::Start(0))?;
        for bytes in [&header.to_bytes()[..], &records, &texts] {
            self.file.write_all(bytes)?;
        }
        Ok(self.position)
    }

    fn texts(&self) -> Texts {
        let Dataset { protocol, classes, .. } = self.dataset;
        Texts { protocol: protocol.clone(), classes: classes.clone(), images: self.names.clone() }
    }
}

/// What an image is called in messages once it is packed.
fn name(source: &Source) -> String {
    match source {
        Source::Packed(packed) => packed.name().to_owned(),
        other => other.to_string(),
    }
}
