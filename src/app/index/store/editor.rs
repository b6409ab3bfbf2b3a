//! Changes an index folder. Nothing counts before [`Editor::commit`], and then all of it.

use super::list::StoredImage;
use super::manifest::{Entry, MANIFEST, Manifest, Origin, RowFormat};
use super::removed::Removed;
use super::shard::{self, Shard};
use super::{Store, codes};
use crate::error::{Error, Result, expect_len};
use crate::files::is_temporary;
use crate::files::lock::FolderLock;
use crate::unit::check_unit_rows;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A shard is written anew once so large a part of it counts no more.
const MOST_REMOVED: f64 = 0.25;
/// A shard is joined with the one after it unless it is so many times as long: there are never many, and no row is written often.
const LONGER: usize = 2;

/// An index folder that one process changes.
#[derive(Debug)]
pub struct Editor {
    store: Store,
    /// What was removed, by the shard, as far as it is not committed.
    removed: Vec<Removed>,
    _lock: FolderLock,
}

impl Editor {
    /// Makes an index without images in the folder at `root`, which may be there and must then hold nothing else.
    ///
    /// # Errors
    /// [`Error::Data`] on a folder that holds something, [`Error::Busy`] if another process is at work in it, [`Error::Shape`] on rows of a
    /// length that is not supported.
    pub fn create(root: &Path, model: (PathBuf, u32), dim: usize, rows: RowFormat) -> Result<Self> {
        if !(1..=codes::MOST_NUMBERS).contains(&dim) {
            return Err(Error::shape("rows of an index", format_args!("1 to {} numbers", codes::MOST_NUMBERS), dim));
        }
        fs::create_dir_all(root).map_err(Error::io(root))?;
        let lock = FolderLock::take(root)?;
        let is_foreign =
            |path: &PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.')) && !is_ours(path);
        let others = fs::read_dir(root).map_err(Error::io(root))?.filter_map(|entry| Some(entry.ok()?.path())).find(is_foreign);
        if let Some(other) = others {
            let words =
                format!("expected an index or an empty folder, found {}; give the index a folder of its own", other.display());
            return Err(Error::data(root, words));
        }
        Manifest::new(model, dim, rows).write(root)?;
        Self::with_lock(root, lock)
    }

    /// Opens an index to change it.
    ///
    /// # Errors
    /// As [`Store::open`]; [`Error::Busy`] if another process changes it.
    pub fn open(root: &Path) -> Result<Self> {
        if !Store::is_at(root) {
            // The reader's words.
            Store::open(root)?;
        }
        Self::with_lock(root, FolderLock::take(root)?)
    }

    fn with_lock(root: &Path, lock: FolderLock) -> Result<Self> {
        let store = Store::open(root)?;
        let removed = store.shards.iter().map(|shard| shard.removed.clone()).collect();
        let editor = Self { store, removed, _lock: lock };
        editor.sweep();
        Ok(editor)
    }

    /// The index as it was committed last.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The number of an origin, which is added if it is new.
    pub fn origin(&mut self, origin: Origin) -> usize {
        let origins = &mut self.store.manifest.origins;
        let same = |other: &Origin| (&other.data, &other.folder, &other.splits) == (&origin.data, &origin.folder, &origin.splits);
        match origins.iter().position(same) {
            Some(place) => {
                origins[place] = origin;
                place
            }
            None => {
                origins.push(origin);
                origins.len() - 1
            }
        }
    }

    /// Adds images, `values` being their rows, `(images, dim)`. They get new ids.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::NotFinite`] on what are no unit rows, [`Error::Io`] if a file cannot be written.
    pub fn append(&mut self, values: &[f32], images: Vec<StoredImage>) -> Result<()> {
        let dim = self.store.manifest.dim;
        expect_len("rows of the index", images.len() * dim, values.len())?;
        check_unit_rows("rows of the index", values, dim)?;
        if images.is_empty() {
            return Ok(());
        }
        let first = self.store.manifest.next_id;
        self.store.manifest.next_id += images.len() as u64;
        let count = images.len();
        let numbered = images.into_iter().zip(first..).map(|(image, id)| Ok(StoredImage { id, ..image }));
        let shard = self.write(values, count, numbered)?;
        self.store.manifest.shards.push(shard.0);
        self.store.shards.push(shard.1);
        self.removed.push(Removed::none(count));
        Ok(())
    }

    /// Removes the images at these positions.
    pub fn remove(&mut self, positions: &[usize]) {
        for &position in positions {
            let (start, _) = self.store.place(position);
            let shard = self.store.starts().position(|(other, shard)| other == start && shard.stored() > 0).expect("it was found");
            self.removed[shard].insert(position - start);
        }
    }

    /// Makes the changes count.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be written; the index is then as it was.
    pub fn commit(&mut self) -> Result<()> {
        self.compact()?;
        let generation = self.store.manifest.generation + 1;
        for (index, removed) in self.removed.iter().enumerate() {
            let entry = &mut self.store.manifest.shards[index];
            if *removed != self.store.shards[index].removed {
                let name = format!("{}.removed-{generation}", entry.name);
                removed.write(&self.store.root.join(&name))?;
                entry.removed = Some(name);
            }
        }
        self.store.manifest.generation = generation;
        self.store.manifest.version = env!("CARGO_PKG_VERSION").to_owned();
        self.store.manifest.write(&self.store.root)?;
        self.store = Store::open(&self.store.root)?;
        self.sweep();
        Ok(())
    }

    /// Joins short shards and leaves out rows that count no more, where either is worth it.
    fn compact(&mut self) -> Result<()> {
        let living = |editor: &Self, index: usize| editor.store.shards[index].stored() - editor.removed[index].count();
        let mut index = self.store.shards.len();
        while index > 0 {
            index -= 1;
            let after = (index + 1 < self.store.shards.len()).then(|| living(self, index + 1));
            let joins = after.is_some_and(|after| living(self, index) < LONGER * after);
            let stored = self.store.shards[index].stored();
            let thin = self.removed[index].count() as f64 > MOST_REMOVED * stored as f64;
            if joins || thin {
                self.rewrite(index, if joins { 2 } else { 1 })?;
            }
        }
        Ok(())
    }

    /// Writes `count` shards from `index` on as one, without what was removed.
    fn rewrite(&mut self, index: usize, count: usize) -> Result<()> {
        let range = index..index + count;
        let (mut values, mut images) = (Vec::new(), Vec::new());
        for shard in range.clone() {
            for row in (0..self.store.shards[shard].stored()).filter(|&row| !self.removed[shard].contains(row)) {
                values.extend(self.store.shards[shard].row(row));
                images.push((shard, row));
            }
        }
        let written = if images.is_empty() {
            None
        } else {
            let described = images.iter().map(|&(shard, row)| self.store.shards[shard].image(row)).collect::<Vec<_>>();
            Some(self.write(&values, images.len(), described.into_iter())?)
        };
        self.store.manifest.shards.splice(range.clone(), written.iter().map(|(entry, _)| entry.clone()));
        self.removed.splice(range.clone(), written.iter().map(|(entry, _)| Removed::none(entry.rows)));
        self.store.shards.splice(range, written.into_iter().map(|(_, shard)| shard));
        Ok(())
    }

    fn write(&mut self, values: &[f32], count: usize, images: impl Iterator<Item = Result<StoredImage>>) -> Result<(Entry, Shard)> {
        let manifest = &mut self.store.manifest;
        let entry = Entry { name: format!("{:06}", manifest.next_shard), rows: count, removed: None };
        manifest.next_shard += 1;
        shard::write(&self.store.root, &entry.name, (values, manifest.dim), manifest.rows, images)?;
        let shard = Shard::open(&self.store.root, &entry, manifest)?;
        Ok((entry, shard))
    }

    /// Deletes what no manifest names any more: replaced files, and those of a change that did not come to its end. A reader that has them
    /// open keeps them.
    fn sweep(&self) {
        let manifest = &self.store.manifest;
        let mut named: BTreeSet<PathBuf> =
            manifest.shards.iter().flat_map(|entry| shard::files(&self.store.root, &entry.name)).collect();
        named.extend(manifest.shards.iter().filter_map(|entry| Some(self.store.root.join(entry.removed.as_ref()?))));
        for path in fs::read_dir(&self.store.root).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())) {
            if !named.contains(&path) && is_ours(&path) && path.file_name().is_some_and(|name| name != MANIFEST) {
                // What cannot be deleted takes room and does no other harm.
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// Whether a file has a name that only this room gives.
fn is_ours(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((number, kind)) = name.split_once('.') else { return false };
    let is_shard = number.len() >= 6 && number.bytes().all(|digit| digit.is_ascii_digit());
    name == MANIFEST
        || is_temporary(path)
        || (is_shard && (["npy", "codes", "images"].contains(&kind) || kind.starts_with("removed-")))
}
