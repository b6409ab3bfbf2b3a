//! An index of either kind: the three files of `embed`, or a folder that lives.

use super::store::{Origin, Store, StoredImage};
use super::{About, Index, IndexedImage};
use crate::error::Result;
use crate::words::counted;
use std::path::Path;

/// An index that is open for reading.
#[derive(Debug)]
pub enum Opened {
    /// Rows, list and description, all of it in memory.
    Files(Index),
    /// A folder of mapped shards.
    Folder(Store),
}

impl Opened {
    /// Opens what is at `path`.
    ///
    /// # Errors
    /// As [`Index::read`] and [`Store::open`].
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() { Store::open(path).map(Self::Folder) } else { Index::read(path).map(Self::Files) }
    }

    /// The model that made the rows, and the CRC-32C of its file.
    pub fn model(&self) -> (&Path, u32) {
        match self {
            Self::Files(index) => (&index.about.checkpoint, index.about.checkpoint_crc32c),
            Self::Folder(store) => store.checkpoint(),
        }
    }

    /// Where its images come from.
    pub fn origins(&self) -> Vec<Origin> {
        match self {
            Self::Files(Index { about, .. }) => vec![Origin {
                data: about.data.clone(),
                holdout: about.holdout,
                seed: about.seed,
                folder: about.folder.clone(),
                splits: Vec::new(),
            }],
            Self::Folder(store) => store.origins().to_vec(),
        }
    }

    /// The data that it was made of, in words.
    pub fn data(&self) -> String {
        let mut data: Vec<String> = self.origins().into_iter().map(|origin| origin.data).collect();
        data.dedup();
        match data.len() {
            0..=3 => data.join(", "),
            count => format!("{} and {} more", data[0], counted(count - 1, "source")),
        }
    }

    /// How many images are in it.
    pub fn len(&self) -> usize {
        match self {
            Self::Files(index) => index.images.len(),
            Self::Folder(store) => store.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The image at a position, and which of the origins it comes from.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn image(&self, position: usize) -> Result<(usize, IndexedImage)> {
        match self {
            Self::Files(index) => Ok((0, index.images[position].clone())),
            Self::Folder(store) => store.image(position).map(|image| (image.origin, described(image))),
        }
    }

    /// What a person calls the image at a position: its row, or its id where rows come and go.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn number(&self, position: usize) -> Result<usize> {
        match self {
            Self::Files(_) => Ok(position),
            Self::Folder(store) => store.image(position).map(|image| image.id as usize),
        }
    }

    /// The position of the image that is so called, if there is one.
    pub fn position(&self, number: usize) -> Option<usize> {
        match self {
            Self::Files(index) => (number < index.images.len()).then_some(number),
            Self::Folder(store) => store.positions_of(&[number as u64]).first().copied(),
        }
    }

    /// All of it in memory, to be written as files.
    ///
    /// # Errors
    /// As [`Store::image`].
    pub fn into_files(self) -> Result<Index> {
        let store = match self {
            Self::Files(index) => return Ok(index),
            Self::Folder(ref store) => store,
        };
        let origin = store.origins().first().cloned();
        let about = About {
            checkpoint: store.checkpoint().0.to_owned(),
            checkpoint_crc32c: store.checkpoint().1,
            data: self.data(),
            holdout: origin.as_ref().map_or(0.0, |origin| origin.holdout),
            seed: origin.as_ref().map_or(0, |origin| origin.seed),
            folder: origin.map(|origin| origin.folder).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let positions: Vec<usize> = store.positions().collect();
        let images = positions.iter().map(|&position| store.image(position).map(described)).collect::<Result<_>>()?;
        let values = positions.iter().flat_map(|&position| store.row(position)).collect();
        Ok(Index { about, images, values, dim: store.dim() })
    }
}

fn described(image: StoredImage) -> IndexedImage {
    let StoredImage { id, content, path, label, split, part, .. } = image;
    IndexedImage { image: id as usize, path, label, split, content, part }
}
