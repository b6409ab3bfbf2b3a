//! Looks images up in an index.

use super::pictures::Pictures;
use crate::app::data::{Content, DEFAULT_MAX_MEGAPIXELS, Decoded, Image};
use crate::app::embed::embed_decoded;
use crate::app::index::{Index, checksum};
use crate::app::report::{self, Gallery, Neighbour, Note, Query, Report, Thumbnail};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, EvaluationSet, nearest};
use crate::files::write_atomically;
use crate::model::{Network, plan::Purpose};
use crate::ops::Backend;
use crate::words::counted;
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

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
    /// Its row.
    pub row: usize,
    /// Whether it is the same picture as the query; unknown where the index does not know its pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_picture: Option<bool>,
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
#[derive(Debug)]
pub struct Search<'a, B: Backend> {
    backend: &'a B,
    index: Index,
    checkpoint: PathBuf,
    max_megapixels: u32,
}

impl<'a, B: Backend> Search<'a, B> {
    /// Opens the index at `path`; its model is the one it names, or the same one in another place.
    ///
    /// # Errors
    /// Files that cannot be read, and a model that is not the index's.
    pub fn open(backend: &'a B, path: &Path, checkpoint: Option<PathBuf>) -> Result<Self> {
        let index = Index::read(path)?;
        let checkpoint = checkpoint.unwrap_or_else(|| index.about.checkpoint.clone());
        if !checkpoint.is_file() {
            return Err(Error::data(&checkpoint, "the model that made the index is not here; say where it is with --checkpoint"));
        }
        let found = checksum(&checkpoint)?;
        if found != index.about.checkpoint_crc32c {
            let expected = index.about.checkpoint_crc32c;
            return Err(Error::data(
                &checkpoint,
                format!(
                    "expected the model that made the index (checksum {expected:08x}), found another one ({found:08x}); run `xbm-fast embed` with it"
                ),
            ));
        }
        Ok(Self { backend, index, checkpoint, max_megapixels: DEFAULT_MAX_MEGAPIXELS })
    }

    /// With images of at most so many million pixels.
    #[must_use]
    pub fn with_max_megapixels(self, max_megapixels: u32) -> Self {
        Self { max_megapixels, ..self }
    }

    fn read(&self, path: &Path) -> Result<Image> {
        Ok(Decoded::open(path, self.max_megapixels)?.image)
    }

    /// The `depth` rows nearest to each of the images at `queries`.
    ///
    /// # Errors
    /// Images that cannot be read, and what the device reports.
    pub fn find(&self, queries: &[PathBuf], depth: usize) -> Result<Vec<Found>> {
        let images = queries.iter().map(|path| self.read(path)).collect::<Result<Vec<_>>>()?;
        let (header, weights) = checkpoint::load_encoder(self.backend, &self.checkpoint)?;
        let mut network = Network::new(self.backend, header.architecture()?, 1, Purpose::Inference)?;
        let rows = embed_decoded(self.backend, &mut network, &weights, &images.iter().collect::<Vec<_>>())?;
        // No class is known of a query: labels that never agree let equal similarities fall in the order of rows.
        let queries_embedded = Embeddings::new(rows, vec![-1; queries.len()], header.dim)?;
        let gallery = Embeddings::new(self.index.values.clone(), vec![0; self.index.images.len()], self.index.dim)?;
        let own_rows = vec![-1; queries.len()];
        let set = EvaluationSet { queries: &queries_embedded, gallery: &gallery, own_rows: &own_rows };
        let depth = depth.clamp(1, self.index.images.len().max(1));
        let neighbours = nearest(self.backend, &set, depth)?;
        let found = queries.iter().zip(neighbours.rows.chunks(depth).zip(neighbours.similarities.chunks(depth)));
        Ok(found
            .zip(&images)
            .map(|((query, (rows, similarities)), image)| {
                let near =
                    rows.iter().zip(similarities).filter_map(|(&row, &similarity)| Some((usize::try_from(row).ok()?, similarity)));
                let content = image.content();
                let hits = near.enumerate().map(|(place, near)| self.hit(place, near, content));
                Found { query: query.clone(), hits: hits.collect() }
            })
            .collect())
    }

    fn hit(&self, place: usize, (row, similarity): (usize, f32), query: Content) -> Hit {
        let image = &self.index.images[row];
        let same_picture = image.content.map(|content| content == query);
        Hit { rank: place + 1, similarity, path: image.path.clone(), label: image.label.clone(), row, same_picture }
    }

    /// Writes a page that shows what was found, with the images in it; one that is gone or was replaced is named and crossed out.
    ///
    /// # Errors
    /// Queries that are no longer where they were, and a page that cannot be written.
    pub fn write_page(&self, found: &[Found], path: &Path) -> Result<()> {
        let (pictures, mut missing) = (Pictures::of(&self.index, self.max_megapixels), Vec::new());
        let mut neighbour = |hit: &Hit| -> Result<Neighbour> {
            let (image, label) = match pictures.find(&self.index.images[hit.row]) {
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
        let mut query = |found: &Found| -> Result<Query> {
            let label = found.query.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let neighbours = found.hits.iter().map(&mut neighbour).collect::<Result<_>>()?;
            Ok(Query { image: thumbnail(&self.read(&found.query)?)?, label, neighbours })
        };
        let queries = found.iter().map(&mut query).collect::<Result<_>>()?;
        missing.sort_unstable();
        missing.dedup();
        let report = Report {
            title: format!("Search in {}", self.index.about.data),
            subtitle: format!("{}, nearest first", counted(self.index.images.len(), "image")),
            galleries: vec![Gallery {
                title: "Found".to_owned(),
                description: "Each query, then the images whose embeddings are most similar.".to_owned(),
                queries,
            }],
            notes: self.notes(&missing),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..Report::default()
        };
        write_atomically(path, |file| file.write_all(report::render(&report).as_bytes()))
    }

    fn notes(&self, missing: &[String]) -> Vec<Note> {
        let mut notes: Vec<Note> = missing.iter().map(|words| Note::Warning(words.clone())).collect();
        if !missing.is_empty() {
            let words = format!("{} has changed since the index was made; run `xbm-fast embed` again", self.index.about.data);
            notes.push(Note::Warning(words));
        }
        if self.index.images.iter().any(|image| image.content.is_none()) {
            let words = "The index is of an earlier version: whether a picture was replaced since cannot be told";
            notes.push(Note::Information(words.to_owned()));
        }
        notes
    }
}

fn thumbnail(image: &Image) -> Result<Thumbnail> {
    Thumbnail::from_rgb(&image.rgb, image.height, image.width)
}
