//! An index that lives: a folder of shards that are mapped, not read, so that an image is found in a million within milliseconds, and that
//! images are added to, taken out of and replaced in without embedding the others again.
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | model, sources, and which shards count, each with its rows and what was removed of them |
//! | `000001.npy` | a shard's rows, 32-bit or 16-bit floats, as NumPy maps them |
//! | `000001.codes` | the same in 8 bits, with what that leaves out (`codes`) |
//! | `000001.images` | ids, hashes and descriptions of its images (`list`) |
//! | `000001.removed-7` | a bit for each row that counts no more, as of the seventh change |
//!
//! Files are written once, under another name first; the manifest, renamed last, makes a change: readers see all of it or nothing.

mod codes;
mod editor;
mod list;
mod manifest;
mod removed;
mod scan;
mod shard;

pub use editor::Editor;
pub use list::{FileStamp, StoredImage};
pub use manifest::{MANIFEST, Origin, RowFormat};

use crate::error::{Error, Result};
use manifest::Manifest;
use shard::Shard;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How often opening is tried while another process changes the folder.
const TRIES: usize = 8;

/// An index folder, open for reading. What changes afterwards is seen by opening it again.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    manifest: Manifest,
    shards: Vec<Shard>,
}

impl Store {
    /// Whether a folder holds an index.
    pub fn is_at(path: &Path) -> bool {
        path.join(MANIFEST).is_file()
    }

    /// Opens the index in the folder at `path`.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Data`] on files that are missing, damaged or of another version.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() && !Self::is_at(path) {
            let words = "expected an index, found a folder without one; make one with `xbm-fast index add`";
            return Err(Error::data(path, words));
        }
        let mut last = None;
        // A shard may be replaced between the manifest that names it and its opening.
        for _ in 0..TRIES {
            let manifest = Manifest::read(path)?;
            match manifest.shards.iter().map(|entry| Shard::open(path, entry, &manifest)).collect() {
                Ok(shards) => return Ok(Self { root: path.to_owned(), manifest, shards }),
                Err(Error::Io { path, source }) if source.kind() == ErrorKind::NotFound => last = Some(Error::Io { path, source }),
                Err(error) => return Err(error),
            }
        }
        Err(last.expect("tried at least once"))
    }

    /// Whether the folder was changed since this was opened.
    pub fn is_outdated(&self) -> bool {
        Manifest::read(&self.root).is_ok_and(|manifest| manifest.generation != self.manifest.generation)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The model that made the rows.
    pub fn checkpoint(&self) -> (&Path, u32) {
        (&self.manifest.checkpoint, self.manifest.checkpoint_crc32c)
    }

    /// Where its images come from.
    pub fn origins(&self) -> &[Origin] {
        &self.manifest.origins
    }

    /// Length of a row.
    pub fn dim(&self) -> usize {
        self.manifest.dim
    }

    /// How rows are stored.
    pub fn rows(&self) -> RowFormat {
        self.manifest.rows
    }

    /// How many images are in it.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::living).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows that count no more and still take room, the number of shards, and the bytes of all files.
    pub fn room(&self) -> (usize, usize, u64) {
        let stored: usize = self.shards.iter().map(Shard::stored).sum();
        (stored - self.len(), self.shards.len(), self.shards.iter().map(Shard::bytes).sum())
    }

    /// Positions of all images, in the order in which they were added.
    pub fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.starts().flat_map(|(start, shard)| shard.rows_that_count().map(move |row| start + row))
    }

    /// The image at a position.
    ///
    /// # Errors
    /// [`Error::Data`] if its description is damaged.
    pub fn image(&self, position: usize) -> Result<StoredImage> {
        let (start, shard) = self.place(position);
        shard.image(position - start)
    }

    /// The embedding at a position.
    pub fn row(&self, position: usize) -> Vec<f32> {
        let (start, shard) = self.place(position);
        shard.row(position - start)
    }

    /// The `depth` positions nearest to a unit row, with their similarities, nearest first and of equal ones the earliest; fewer where there
    /// are fewer. It is exact, by the stored rows.
    ///
    /// # Errors
    /// [`Error::Shape`] on a row of another length.
    pub fn nearest(&self, query: &[f32], depth: usize) -> Result<Vec<(usize, f32)>> {
        if query.len() != self.manifest.dim {
            return Err(Error::shape("query", format_args!("{} numbers, as rows of the index", self.manifest.dim), query.len()));
        }
        Ok(scan::nearest(&self.starts().collect::<Vec<_>>(), query, depth))
    }

    /// Positions of the images with these ids that are in it.
    pub fn positions_of(&self, ids: &[u64]) -> Vec<usize> {
        // Ids ascend with positions: images are added at the end, and joined shards keep their order.
        let place = |id: u64| {
            let (start, shard) = self.starts().take_while(|(_, shard)| shard.id(0) <= id).last()?;
            shard.row_of(id).map(|row| start + row)
        };
        ids.iter().filter_map(|&id| place(id)).collect()
    }

    fn starts(&self) -> impl Iterator<Item = (usize, &Shard)> {
        self.shards.iter().scan(0, |end, shard| {
            let start = *end;
            *end += shard.stored();
            Some((start, shard))
        })
    }

    fn place(&self, position: usize) -> (usize, &Shard) {
        self.starts().take_while(|(start, _)| *start <= position).last().expect("a position of this index")
    }
}
