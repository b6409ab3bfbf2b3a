//! A shard: some rows, their codes and what they are, in files that never change.

use super::codes::Codes;
use super::list::{List, StoredImage};
use super::manifest::{Entry, Manifest, RowFormat};
use super::removed::Removed;
use crate::app::index::npy;
use crate::app::mapping::Mapping;
use crate::error::{Error, Result};
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open shard.
#[derive(Debug)]
pub struct Shard {
    rows: Arc<Mapping>,
    /// Where numbers begin.
    start: usize,
    format: RowFormat,
    dim: usize,
    count: usize,
    pub codes: Codes,
    list: List,
    pub removed: Removed,
}

/// The files of a shard: rows, codes, images.
pub fn files(root: &Path, name: &str) -> [PathBuf; 3] {
    ["npy", "codes", "images"].map(|extension| root.join(format!("{name}.{extension}")))
}

/// Writes a shard of `values`, `(images, dim)`.
pub fn write(
    root: &Path,
    name: &str,
    (values, dim): (&[f32], usize),
    format: RowFormat,
    images: impl Iterator<Item = Result<StoredImage>>,
) -> Result<()> {
    let [rows, codes, list] = files(root, name);
    let shape = [values.len() / dim, dim];
    let rounded = match format {
        RowFormat::F32 => {
            npy::write(&rows, values, shape)?;
            Cow::Borrowed(values)
        }
        RowFormat::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            npy::write(&rows, &halves, shape)?;
            Cow::Owned(halves.to_f32_vec())
        }
    };
    Codes::write(&codes, rounded.chunks_exact(dim))?;
    List::write(&list, images)
}

impl Shard {
    pub fn open(root: &Path, entry: &Entry, manifest: &Manifest) -> Result<Self> {
        let [rows, codes, list] = files(root, &entry.name);
        let (count, dim) = (entry.rows, manifest.dim);
        let file = Mapping::open(&rows)?;
        let bytes = file.get(0..file.len()).expect("all of it");
        let (shape, start) = match manifest.rows {
            RowFormat::F32 => npy::matrix::<f32>(bytes, &rows)?,
            RowFormat::F16 => npy::matrix::<f16>(bytes, &rows)?,
        };
        if shape != [count, dim] {
            return Err(Error::data(&rows, format!("expected {count} rows of {dim} numbers, found {} of {}", shape[0], shape[1])));
        }
        let removed = match &entry.removed {
            Some(name) => Removed::read(&root.join(name), count)?,
            None => Removed::none(count),
        };
        let (codes, list) = (Codes::open(&codes, count, dim)?, List::open(&list, count)?);
        Ok(Self { rows: file, start, format: manifest.rows, dim, count, codes, list, removed })
    }

    /// Rows in it, whether they count or not.
    pub fn stored(&self) -> usize {
        self.count
    }

    /// Rows that count.
    pub fn living(&self) -> usize {
        self.count - self.removed.count()
    }

    pub fn rows_that_count(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.count).filter(|&row| !self.removed.contains(row))
    }

    pub fn bytes(&self) -> u64 {
        (self.rows.len() + self.codes.bytes() + self.list.bytes()) as u64
    }

    pub fn image(&self, row: usize) -> Result<StoredImage> {
        self.list.image(row)
    }

    /// Of the image in a row.
    pub fn id(&self, row: usize) -> u64 {
        self.list.id(row)
    }

    /// The row that counts of the image with that id.
    pub fn row_of(&self, id: u64) -> Option<usize> {
        let (mut start, mut end) = (0, self.count);
        while start < end {
            let middle = start + (end - start) / 2;
            if self.id(middle) < id { start = middle + 1 } else { end = middle }
        }
        (start < self.count && self.id(start) == id && !self.removed.contains(start)).then_some(start)
    }

    pub fn row(&self, row: usize) -> Vec<f32> {
        let width = self.dim * self.format.bytes();
        let bytes = self.rows.get(self.start + row * width..self.start + (row + 1) * width).expect("checked at opening");
        match self.format {
            RowFormat::F32 => bytemuck::cast_slice(bytes).to_vec(),
            RowFormat::F16 => bytemuck::cast_slice::<_, f16>(bytes).to_f32_vec(),
        }
    }
}

impl RowFormat {
    /// Of a number.
    fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F16 => size_of::<f16>(),
        }
    }
}
