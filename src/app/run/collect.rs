//! Puts images into an index that lives, and takes them out again.

use super::model_data::{DataRequest, ModelData};
use crate::app::data::{Content, Dataset, Labels, LoaderOptions, PixelBox, Provenance, Source, Split};
use crate::app::embed::{EmbedOptions, embed};
use crate::app::index::checksum;
use crate::app::index::store::{Editor, FileStamp, Origin, RowFormat, Store, StoredImage};
use crate::app::terminal::Bar;
use crate::checkpoint::{self, Model};
use crate::error::{Error, Result};
use crate::files::input::STANDARD_INPUT;
use crate::files::name;
use crate::model::{Network, Weights, plan::Purpose};
use crate::ops::Backend;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images that are embedded before the index is written: what an interruption costs at most.
const CHUNK: usize = 1024;

/// What became of the images that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// New in the index.
    pub added: usize,
    /// In it before, with another picture.
    pub replaced: usize,
    /// In it before, and the same.
    pub unchanged: usize,
    /// No longer in it.
    pub removed: usize,
    /// Where images that cannot be read are, and what is wrong with them.
    pub unreadable: Vec<(String, String)>,
    /// Whether somebody asked to stop before all was done.
    pub interrupted: bool,
}

/// An index that images are put into.
pub struct Collector<'a, B: Backend> {
    backend: &'a B,
    editor: Editor,
    network: Network<B>,
    weights: Weights<B>,
    provenance: Option<Provenance>,
    loading: LoaderOptions,
}

/// What an image of the index is known by: where it is.
type Key = (String, Option<PixelBox>);

impl<'a, B: Backend> Collector<'a, B> {
    /// Opens the index in the folder at `root`, or makes one there for the model at `checkpoint`.
    ///
    /// # Errors
    /// A folder that is no index or is in use, a model that cannot be read or is not the index's, and none for a new index.
    pub fn open(
        backend: &'a B,
        root: &Path,
        checkpoint: Option<&Path>,
        rows: Option<RowFormat>,
        options: &EmbedOptions,
    ) -> Result<Self> {
        let existing = Store::is_at(root).then(|| Editor::open(root)).transpose()?;
        let model = existing.as_ref().map(|editor| editor.store().checkpoint());
        let path = match (checkpoint, &model) {
            (Some(path), _) => std::path::absolute(path).map_err(Error::io(path))?,
            (None, Some((path, _))) if path.is_file() => (*path).to_owned(),
            (None, Some((path, _))) => {
                return Err(Error::data(path, "the model that made the index is not here; say where it is with --checkpoint"));
            }
            (None, None) => {
                let words = "a new index needs a model: say which with --checkpoint, such as --checkpoint runs/001";
                return Err(Error::data(root, words));
            }
        };
        let crc32c = checksum(&path)?;
        if let Some((made_by, expected)) = model.filter(|(_, expected)| *expected != crc32c) {
            let words = format!(
                "expected the model that made the index ({}, checksum {expected:08x}), found another one ({crc32c:08x}); rows of two models cannot be \
                 compared: make a new index for it",
                made_by.display()
            );
            return Err(Error::data(path, words));
        }
        if let (Some(editor), Some(asked)) = (&existing, rows) {
            let stored = editor.store().rows();
            if stored != asked {
                let words = format!("--rows {}: the index has rows of {}; leave --rows out", asked.name(), stored.name());
                return Err(Error::config(words));
            }
        }
        let Model { network: header, weights, trained_on } = checkpoint::load_model(backend, &path)?;
        let network = Network::new(backend, header.architecture()?, options.batch_size.max(1), Purpose::Inference)?;
        let provenance = Provenance::from_value(trained_on, &path)?;
        let editor = match existing {
            Some(editor) => editor,
            None => Editor::create(root, (path, crc32c), header.dim, rows.unwrap_or(RowFormat::F32))?,
        };
        // An image that cannot be read is left out and named: it must not keep the others out.
        let loading = LoaderOptions { max_unreadable: 1.0, ..options.loading() };
        Ok(Self { backend, editor, network, weights, provenance, loading })
    }

    /// The index as it is now.
    pub fn store(&self) -> &Store {
        self.editor.store()
    }

    /// Adds the images of a data set that are new or have changed.
    ///
    /// # Errors
    /// Data that cannot be opened, none of whose images can be read, and what the device or the disk reports.
    pub fn add(&mut self, request: DataRequest<'_>, splits: &[Split], interrupted: &AtomicBool) -> Result<Collected> {
        let spec = absolute(request.spec.unwrap_or_default())?;
        let request = DataRequest { spec: Some(&spec), labels: Labels::Optional, ..request };
        let ModelData { dataset, options, .. } = ModelData::open(request, self.provenance.as_ref())?;
        let origin = self.editor.origin(Origin {
            data: spec,
            holdout: options.holdout,
            seed: options.seed,
            folder: std::env::current_dir().map_err(Error::io("."))?,
            splits: splits.iter().map(|split| split.name().to_owned()).collect(),
        });
        let (collected, _) = self.take(dataset, origin, interrupted)?;
        let Collected { added, replaced, unchanged, unreadable, .. } = &collected;
        match unreadable.first() {
            Some((path, reason)) if added + replaced + unchanged == 0 => {
                let words = format!("none of {} images can be read; the first: {path}: {reason}", unreadable.len());
                Err(Error::config(words))
            }
            _ => Ok(collected),
        }
    }

    /// Looks at every origin again: adds what is new, replaces what has changed, and removes what is gone.
    ///
    /// # Errors
    /// As [`Collector::add`].
    pub fn update(&mut self, max_megapixels: u32, interrupted: &AtomicBool) -> Result<Collected> {
        let mut total = Collected::default();
        for (number, origin) in self.store().origins().to_vec().into_iter().enumerate() {
            let dataset = self.again(&origin, number, max_megapixels)?;
            let (collected, gone) = match dataset {
                Some(dataset) => self.take(dataset, number, interrupted)?,
                None => (Collected::default(), self.known_of(number)?.into_values().map(|(position, _)| position).collect()),
            };
            total.added += collected.added;
            total.replaced += collected.replaced;
            total.unchanged += collected.unchanged;
            total.unreadable.extend(collected.unreadable);
            if collected.interrupted {
                return Ok(Collected { interrupted: true, ..total });
            }
            if !gone.is_empty() {
                total.removed += gone.len();
                self.editor.remove(&gone);
                self.editor.commit()?;
            }
        }
        Ok(total)
    }

    /// The data set of an origin as it is now; none where nothing is left of it. Of a list that was piped, the files that are still there.
    fn again(&self, origin: &Origin, number: usize, max_megapixels: u32) -> Result<Option<Dataset>> {
        if origin.data.ends_with(STANDARD_INPUT) {
            let known = self.known_of(number)?;
            let files: Vec<PathBuf> =
                known.into_keys().map(|(path, _)| name::path_of(&path)).filter(|path| path.is_file()).collect();
            return Ok((!files.is_empty()).then(|| Dataset::of_files(files)));
        }
        let request = DataRequest {
            spec: Some(&origin.data),
            holdout: Some(origin.holdout),
            seed: Some(origin.seed),
            max_megapixels: Some(max_megapixels),
            labels: Labels::Optional,
        };
        ModelData::open(request, self.provenance.as_ref()).map(|data| Some(data.dataset))
    }

    /// All images, with their positions.
    fn known(&self) -> Result<HashMap<Key, (usize, StoredImage)>> {
        let store = self.store();
        let named = |position| store.image(position).map(|image| ((image.path.clone(), image.part), (position, image)));
        store.positions().map(named).collect()
    }

    /// Those of an origin.
    fn known_of(&self, origin: usize) -> Result<HashMap<Key, (usize, StoredImage)>> {
        let mut known = self.known()?;
        known.retain(|_, (_, image)| image.origin == origin);
        Ok(known)
    }

    /// Embeds what is new or has changed; also the positions of what is no longer in the data set.
    fn take(&mut self, dataset: Dataset, origin: usize, interrupted: &AtomicBool) -> Result<(Collected, Vec<usize>)> {
        let mut known = self.known()?;
        let splits = &self.store().origins()[origin].splits;
        let (mut collected, mut todo) = (Collected::default(), Vec::new());
        for index in 0..dataset.images.len() {
            let split = dataset.images[index].split.name();
            if !splits.is_empty() && !splits.iter().any(|wanted| wanted == split) {
                continue;
            }
            let image = describe(&dataset, index, origin)?;
            match known.remove(&(image.path.clone(), image.part)) {
                Some((_, before)) if is_same(&before, &image) => collected.unchanged += 1,
                before => todo.push((index, image, before.map(|(position, before)| (position, before.id)))),
            }
        }
        // Of what is gone, ids: positions change while shards are joined.
        let gone = known.into_values().filter(|(_, image)| image.origin == origin).map(|(_, image)| image.id);
        let gone: Vec<u64> = gone.collect();
        let dataset = Arc::new(dataset);
        let bar = Bar::new(todo.len() as u64, 0, "images");
        for chunk in todo.chunks(CHUNK) {
            if interrupted.load(Ordering::Acquire) {
                collected.interrupted = true;
                break;
            }
            let indices: Vec<usize> = chunk.iter().map(|(index, ..)| *index).collect();
            let embedded = embed(self.backend, &mut self.network, &self.weights, (&dataset, &indices), &self.loading)?;
            let contents: HashMap<usize, Content> =
                embedded.images.iter().copied().zip(embedded.contents.iter().copied()).collect();
            let readable = chunk.iter().filter(|(index, ..)| contents.contains_key(index));
            let images = readable.clone().map(|(index, image, _)| StoredImage { content: Some(contents[index]), ..image.clone() });
            let before: Vec<u64> = readable.clone().filter_map(|(.., before)| before.map(|(_, id)| id)).collect();
            collected.replaced += before.len();
            collected.added += embedded.images.len() - before.len();
            self.editor.append(&embedded.embeddings.values, images.collect())?;
            let positions = self.store().positions_of(&before);
            self.editor.remove(&positions);
            self.editor.commit()?;
            let faults = embedded.unreadable.iter().map(|(index, reason)| dataset.fault(*index, reason));
            collected.unreadable.extend(faults);
            bar.iter().for_each(|bar| chunk.iter().for_each(|_| bar.advance()));
        }
        drop(bar);
        let gone = self.store().positions_of(&gone);
        Ok((collected, gone))
    }
}

/// What the index keeps of an image, but for its picture.
fn describe(dataset: &Dataset, index: usize, origin: usize) -> Result<StoredImage> {
    let record = &dataset.images[index];
    let (path, stamp) = match &record.source {
        Source::File(path) => {
            let path = std::path::absolute(path).map_err(Error::io(path))?;
            (name::text_of(&path), FileStamp::of(&path))
        }
        source => (source.to_string(), None),
    };
    Ok(StoredImage {
        id: 0,
        content: None,
        origin,
        path,
        label: dataset.class_of(index).to_owned(),
        split: record.split.name().to_owned(),
        part: record.part,
        stamp,
    })
}

/// Whether an image is as it was, by what is known without reading it. Pictures inside a packed file or drawn ones have no stamp: they are
/// what their names say.
fn is_same(before: &StoredImage, now: &StoredImage) -> bool {
    (&before.label, &before.split, before.stamp) == (&now.label, &now.split, now.stamp)
}

/// A SPEC that means the same wherever it is read.
fn absolute(spec: &str) -> Result<String> {
    match spec.split_once(':') {
        Some((kind, path)) if kind != "synthetic" && path != STANDARD_INPUT && !path.is_empty() => {
            let place = std::path::absolute(path).map_err(Error::io(path))?;
            Ok(format!("{kind}:{}", place.display()))
        }
        _ => Ok(spec.to_owned()),
    }
}
