//! An index: the embeddings of a data set's images on disk, and beside them which image each row is. Here it is files that are written
//! once; [`store`] is a folder that lives, and [`Opened`] either of them.
//!
//! `photos.npy` (or `photos.safetensors`) holds the rows, `photos.csv` one line a row (position in the data set, path, class, split, hash
//! of the pixels, part of the file), `photos.json` which model and which data made them, and where. Other programs need the first two, `xbm-fast search` all three.

mod faiss;
mod npy;
mod opened;
pub mod store;
mod tensors;

pub use opened::Opened;

use crate::app::data::{Content, PixelBox};
use crate::error::{Error, Result};
use crate::files::output::{self, Outputs};
use crate::files::{input, write_atomically};
use crate::unit::check_unit_rows;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// How the list of an index begins.
const LIST_HEADER: &str = "image,path,label,split";

/// What an index was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The model or checkpoint.
    pub checkpoint: PathBuf,
    /// CRC-32C of that file: rows of one model mean nothing to another.
    pub checkpoint_crc32c: u32,
    /// SPEC of the data set.
    pub data: String,
    /// Share of its classes that were held out for testing.
    pub holdout: f64,
    /// Seed of the held-out classes.
    pub seed: u64,
    /// The folder that relative paths start from; empty in indexes of earlier versions.
    #[serde(default)]
    pub folder: PathBuf,
    /// Version of the program.
    pub version: String,
}

/// Which image a row is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedImage {
    /// Its position in the data set.
    pub image: usize,
    /// Where its pixels are.
    pub path: String,
    /// Name of its class.
    pub label: String,
    /// Its split.
    pub split: String,
    /// What the picture is, whatever its path; unknown in indexes of earlier versions.
    #[serde(default)]
    pub content: Option<Content>,
    /// The part of the file that is the image, as `left top right bottom`; all of it if none is given.
    #[serde(default)]
    pub part: Option<PixelBox>,
}

/// Embeddings with what they were made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Model and data.
    pub about: About,
    /// One for each row.
    pub images: Vec<IndexedImage>,
    /// `(images, dim)`, unit rows.
    pub values: Vec<f32>,
    /// Length of a row.
    pub dim: usize,
}

/// How rows are stored.
#[derive(Clone, Copy)]
enum Format {
    Npy,
    Safetensors,
    Faiss,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Ok(Self::Npy),
            Some("safetensors") => Ok(Self::Safetensors),
            Some("faiss") => Ok(Self::Faiss),
            _ => Err(Error::data(path, "expected a name that ends in .npy or .safetensors, or .faiss to write")),
        }
    }
}

/// Fails unless an index can be written to `path`.
///
/// # Errors
/// [`Error::Data`] on a name that is neither `.npy` nor `.safetensors`.
pub fn check_name(path: &Path) -> Result<()> {
    Format::of(path).map(|_| ())
}

/// Fails unless all files of an index may be written to `path`.
///
/// # Errors
/// As [`check_name`] and [`Outputs::check`].
pub fn check_outputs(path: &Path, outputs: &Outputs<'_>) -> Result<()> {
    check_name(path)?;
    [path.to_owned(), path.with_extension("csv"), path.with_extension("json")]
        .iter()
        .try_for_each(|file| outputs.check(file, is_part))
}

/// Whether a file belongs to an index that was written to its end.
fn is_part(file: &Path) -> bool {
    let about = input::read(file.with_extension("json"));
    let list = file.with_extension("csv");
    about.is_ok_and(|text| serde_json::from_slice::<About>(&text).is_ok())
        && (!list.exists() || output::head(&list, LIST_HEADER.len() as u64) == LIST_HEADER.as_bytes())
}

impl Index {
    /// Writes rows, list and description; the description comes last, so that an index without it is one that was not finished.
    ///
    /// # Errors
    /// [`Error::Data`] on a name that is neither `.npy` nor `.safetensors`, [`Error::Io`] if a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let shape = [self.images.len(), self.dim];
        match Format::of(path)? {
            Format::Npy => npy::write(path, &self.values, shape)?,
            Format::Safetensors => tensors::write(path, &self.values, shape)?,
            Format::Faiss => faiss::write(path, &self.values, shape)?,
        }
        let list = path.with_extension("csv");
        write_atomically(&list, |file| {
            let mut writer = csv::Writer::from_writer(file);
            self.images.iter().try_for_each(|image| writer.serialize(image)).map_err(std::io::Error::other)?;
            writer.flush()
        })?;
        let text = serde_json::to_string_pretty(&self.about).expect("numbers and strings");
        write_atomically(path.with_extension("json"), |file| file.write_all(text.as_bytes()))
    }

    /// Reads an index.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Data`] on files that are missing, damaged or do not belong together.
    pub fn read(path: &Path) -> Result<Self> {
        let (values, [rows, dim]) = match Format::of(path)? {
            Format::Npy => npy::read(path)?,
            Format::Safetensors => tensors::read(path)?,
            Format::Faiss => {
                let words = "expected .npy or .safetensors, found a file for faiss, which is written only; search what it was exported from";
                return Err(Error::data(path, words));
            }
        };
        check_rows(path, &values, dim)?;
        let list = path.with_extension("csv");
        let file = input::open(&list)?;
        let images = csv::Reader::from_reader(file).into_deserialize().collect::<csv::Result<Vec<IndexedImage>>>();
        let images = images.map_err(|error| Error::data(&list, error.to_string()))?;
        if images.len() != rows {
            return Err(Error::data(
                &list,
                format!("expected {rows} lines, one for each row of {}, found {}", path.display(), images.len()),
            ));
        }
        let description = path.with_extension("json");
        let text = input::read_text(&description)?;
        let about = serde_json::from_str(&text).map_err(|error| Error::data(&description, error.to_string()))?;
        Ok(Self { about, images, values, dim })
    }
}

/// Fails unless the rows are embeddings: what `search` calls a similarity is their product.
fn check_rows(path: &Path, values: &[f32], dim: usize) -> Result<()> {
    if dim == 0 {
        return Err(Error::data(path, "expected rows of at least one number, found rows of none"));
    }
    check_unit_rows("rows of the index", values, dim).map_err(|error| Error::data(path, error.to_string()))
}

/// CRC-32C of a file.
///
/// # Errors
/// [`Error::Io`] if it cannot be read.
pub fn checksum(path: &Path) -> Result<u32> {
    Ok(crc32c::crc32c(&input::read(path)?))
}
