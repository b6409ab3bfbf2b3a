//! Looks images up in an index.

use super::pictures::{Pictures, SharedIndex};
use super::queries::Query;
use crate::app::data::{DEFAULT_MAX_MEGAPIXELS, Image};
use crate::app::embed::embed_decoded;
use crate::app::index::store::Store;
use crate::app::index::{Opened, checksum};
use crate::app::report::{self, Gallery, Neighbour, Note, Report, Thumbnail};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, EvaluationSet, nearest};
use crate::files::write_atomically;
use crate::model::{Network, Weights, plan::Purpose};
use crate::ops::Backend;
use crate::words::counted;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// Queries that are embedded at a time.
const BATCH: usize = 8;

/// A row of the index near a query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// From 1.
    pub rank: usize,
    /// Cosine of the angle to the query.
    pub similarity: f32,
    /// Where the image is.
    pub path: String,
    /// Name of its class.
    pub label: String,
    /// Its row, or its id in an index that lives.
    pub row: usize,
    /// Whether it is the same picture as the query; unknown where the index does not know its pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_picture: Option<bool>,
    #[serde(skip)]
    position: usize,
}

/// What was found for a query.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Found {
    /// The query's file.
    pub query: PathBuf,
    /// Nearest first.
    pub hits: Vec<Hit>,
}

/// An index that is open to queries.
pub struct Search<'a, B: Backend> {
    backend: &'a B,
    index: SharedIndex,
    /// Rows of an index that is in memory.
    rows: Option<Embeddings>,
    network: Network<B>,
    weights: Weights<B>,
    max_megapixels: u32,
}

impl<'a, B: Backend> Search<'a, B> {
    /// Opens the index at `path`; its model is the one it names, or the same one in another place.
    ///
    /// # Errors
    /// Files that cannot be read, and a model that is not the index's.
    pub fn open(backend: &'a B, path: &Path, checkpoint: Option<PathBuf>) -> Result<Self> {
        let mut index = Opened::open(path)?;
        let (made_by, expected) = index.model();
        let checkpoint = checkpoint.unwrap_or_else(|| made_by.to_owned());
        if !checkpoint.is_file() {
            return Err(Error::data(&checkpoint, "the model that made the index is not here; say where it is with --checkpoint"));
        }
        let found = checksum(&checkpoint)?;
        if found != expected {
            return Err(Error::data(
                &checkpoint,
                format!(
                    "expected the model that made the index (checksum {expected:08x}), found another one ({found:08x}); run `xbm-fast embed` with it"
                ),
            ));
        }
        let (header, weights) = checkpoint::load_encoder(backend, &checkpoint)?;
        let network = Network::new(backend, header.architecture()?, BATCH, Purpose::Inference)?;
        let rows = match &mut index {
            // Held once: nobody asks the index itself for its rows.
            Opened::Files(index) => {
                let values = std::mem::take(&mut index.values);
                Some(Embeddings::new(values, vec![0; index.images.len()], index.dim)?)
            }
            Opened::Folder(_) => None,
        };
        let index = Arc::new(RwLock::new(Arc::new(index)));
        Ok(Self { backend, index, rows, network, weights, max_megapixels: DEFAULT_MAX_MEGAPIXELS })
    }

    /// With images of at most so many million pixels.
    #[must_use]
    pub fn with_max_megapixels(self, max_megapixels: u32) -> Self {
        Self { max_megapixels, ..self }
    }

    /// The index as it is now.
    pub fn index(&self) -> Arc<Opened> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where its pictures are, whatever becomes of it.
    pub(super) fn pictures(&self) -> Pictures {
        Pictures::of(self.index.clone(), self.max_megapixels)
    }

    /// Opens an index that lives again, where it was changed; one that cannot be opened stays as it was.
    pub(super) fn refresh(&mut self) {
        if let Opened::Folder(store) = &*self.index()
            && store.is_outdated()
            && let Ok(store) = Store::open(store.root())
        {
            *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Opened::Folder(store));
        }
    }

    /// The `depth` rows nearest to each of the queries, and why some were left out: images of folders that cannot be read.
    ///
    /// # Errors
    /// An image that was named and cannot be read, no image that can, and what the device reports.
    pub fn find(&mut self, queries: &[Query], depth: usize) -> Result<(Vec<Found>, Vec<String>)> {
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        for queries in queries.chunks(BATCH) {
            let mut read = Vec::new();
            for query in queries {
                match query.read(self.max_megapixels) {
                    Ok(image) => read.push((query, image)),
                    Err(error) if query.is_named => return Err(error),
                    Err(error) => unreadable.push(error.to_string()),
                }
            }
            let images: Vec<&Image> = read.iter().map(|(_, image)| image).collect();
            let embedded = embed_decoded(self.backend, &mut self.network, &self.weights, &images)?;
            for ((query, image), near) in read.iter().zip(self.nearest(embedded, depth)?) {
                let hits = near.into_iter().enumerate().map(|(place, near)| self.hit(place, near, image));
                found.push(Found { query: query.name.clone(), hits: hits.collect::<Result<_>>()? });
            }
        }
        match unreadable.first() {
            Some(first) if found.is_empty() => Err(Error::config(format!("no query can be read; the first: {first}"))),
            _ => Ok((found, unreadable)),
        }
    }

    /// For each of the unit rows `queries` the nearest positions, with their similarities.
    fn nearest(&self, queries: Vec<f32>, depth: usize) -> Result<Vec<Vec<(usize, f32)>>> {
        let dim = self.network.architecture().dim;
        let Some(gallery) = &self.rows else {
            let Opened::Folder(store) = &*self.index() else { unreachable!("rows of files are in memory") };
            return queries.chunks(dim).map(|query| store.nearest(query, depth)).collect();
        };
        // No class is known of a query: labels that never agree let equal similarities fall in the order of rows.
        let count = queries.len() / dim;
        let queries = Embeddings::new(queries, vec![-1; count], dim)?;
        let depth = depth.clamp(1, gallery.len().max(1));
        let found = nearest(self.backend, &EvaluationSet { queries: &queries, gallery, own_rows: &vec![-1; count] }, depth)?;
        let near = |(rows, similarities): (&[i32], &[f32])| {
            let pairs = rows.iter().zip(similarities);
            pairs.filter_map(|(&row, &similarity)| Some((usize::try_from(row).ok()?, similarity))).collect()
        };
        Ok(found.rows.chunks(depth).zip(found.similarities.chunks(depth)).map(near).collect())
    }

    fn hit(&self, place: usize, (position, similarity): (usize, f32), query: &Image) -> Result<Hit> {
        let index = self.index();
        let image = index.image(position)?.1;
        let same_picture = image.content.map(|content| content == query.content());
        let row = index.number(position)?;
        Ok(Hit { rank: place + 1, similarity, path: image.path, label: image.label, row, same_picture, position })
    }

    /// Writes a page that shows what was found, with the images in it; one that is gone or was replaced is named and crossed out.
    ///
    /// # Errors
    /// Queries that are no longer where they were, and a page that cannot be written.
    pub fn write_page(&self, found: &[Found], queries: &[Query], path: &Path) -> Result<()> {
        let (pictures, index, mut missing) = (self.pictures(), self.index(), Vec::new());
        let mut neighbour = |hit: &Hit| -> Result<Neighbour> {
            let (image, label) = match pictures.find(&index, hit.position) {
                Ok(image) => (thumbnail(&image)?, hit.label.clone()),
                Err(reason) => {
                    let words = format!("{} {reason}", hit.path);
                    let label = format!("{}: {words}", hit.label);
                    missing.push(words);
                    (Thumbnail::missing(), label)
                }
            };
            Ok(Neighbour { image, label, similarity: hit.similarity, correct: None })
        };
        let mut query = |found: &Found| -> Result<report::Query> {
            let asked = queries.iter().find(|query| query.name == found.query).expect("what was found was asked for");
            let label = found.query.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let neighbours = found.hits.iter().map(&mut neighbour).collect::<Result<_>>()?;
            Ok(report::Query { image: thumbnail(&asked.read(self.max_megapixels)?)?, label, neighbours })
        };
        let queries = found.iter().map(&mut query).collect::<Result<_>>()?;
        missing.sort_unstable();
        missing.dedup();
        let report = Report {
            title: format!("Search in {}", index.data()),
            subtitle: format!("{}, nearest first", counted(index.len(), "image")),
            galleries: vec![Gallery {
                title: "Found".to_owned(),
                description: "Each query, then the images whose embeddings are most similar.".to_owned(),
                queries,
            }],
            notes: notes(&index, &missing),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Report::default()
        };
        write_atomically(path, |file| file.write_all(report::render(&report).as_bytes()))
    }
}

fn notes(index: &Opened, missing: &[String]) -> Vec<Note> {
    let mut notes: Vec<Note> = missing.iter().map(|words| Note::Warning(words.clone())).collect();
    let command = match index {
        Opened::Files(_) => "xbm-fast embed",
        Opened::Folder(_) => "xbm-fast index update",
    };
    if !missing.is_empty() {
        let words = format!("{} has changed since the index was made; run `{command}` again", index.data());
        notes.push(Note::Warning(words));
    }
    if matches!(index, Opened::Files(files) if files.images.iter().any(|image| image.content.is_none())) {
        let words = "The index is of an earlier version: whether a picture was replaced since cannot be told";
        notes.push(Note::Information(words.to_owned()));
    }
    notes
}

fn thumbnail(image: &Image) -> Result<Thumbnail> {
    Thumbnail::from_rgb(&image.rgb, image.height, image.width)
}
