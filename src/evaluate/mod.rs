//! How good an embedding is: retrieval scores as the field reports them, the similarities of random pairs, and nearest neighbours to
//! look at.
//!
//! With `R` the number of a query's positives in the gallery (the query itself left out), as in pytorch-metric-learning's
//! `AccuracyCalculator` (Musgrave et al. 2020):
//!
//! * recall at k: share of queries with a positive among their k nearest;
//! * R-precision: mean of `positives among the R nearest / R`;
//! * MAP at R: mean of `1/R * sum over the places i <= R that hold a positive of (positives among the i nearest / i)`;
//! * mean reciprocal rank: mean of `1 / place of the first positive`.
//!
//! Queries without a positive in the gallery are left out and counted. Among equal similarities negatives come first, so that a
//! collapsed embedding scores 0 instead of by chance.

mod pairs;
mod scores;

pub use pairs::{SimilarityHistogram, mean_random_similarity, similarity_histogram};
pub use scores::{Evaluation, Scores};

use crate::device::{NumberFormat, Span, SpanMut, Storage, host_memory};
use crate::error::{Error, Result, expect_len};
use crate::ops::retrieval::{QueryScore, Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::unit::check_unit_rows;
use crate::words::counted;
use std::ops::Range;

/// What ranks say to each other of a query without a positive.
const UNSCORED: [f64; 3] = [-1.0; 3];

/// Above this mean similarity of random pairs the embedding is called collapsed: nearly all images map to one point.
pub const COLLAPSED: f64 = 0.9;

/// Embeddings on the host with their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// `(images, dim)`, unit rows.
    pub values: Vec<f32>,
    /// `(images)`.
    pub labels: Vec<i32>,
    /// Length of an embedding.
    pub dim: usize,
}

impl Embeddings {
    /// Embeddings `(labels.len(), dim)`.
    ///
    /// # Errors
    /// [`Error::Shape`] if the lengths do not agree.
    pub fn new(values: Vec<f32>, labels: Vec<i32>, dim: usize) -> Result<Self> {
        expect_len("embeddings", labels.len().saturating_mul(dim), values.len())?;
        Ok(Self { values, labels, dim })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The embedding of an image.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.dim..][..self.dim]
    }
}

/// Which images look for which.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationSet<'a> {
    /// Images that look for their class.
    pub queries: &'a Embeddings,
    /// Images that are looked at.
    pub gallery: &'a Embeddings,
    /// For each query the gallery row that is the query itself, or -1.
    pub own_rows: &'a [i32],
}

/// Scores every image against all others: the protocol of Stanford Online Products and most data sets.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all<B: Retrieval>(backend: &B, embeddings: &Embeddings) -> Result<Evaluation> {
    let own_rows: Vec<i32> = (0..embeddings.len() as i32).collect();
    evaluate(backend, &EvaluationSet { queries: embeddings, gallery: embeddings, own_rows: &own_rows })
}

/// Scores `set.queries` against `set.gallery`. Several ranks share the queries, and get all scores.
///
/// # Errors
/// [`Error::Shape`] on lengths that do not agree and on rows that are neither of length 1 nor zeros, [`Error::NotFinite`] on NaN or
/// infinity, [`Error::Config`] if no query has a positive in the gallery.
pub fn evaluate<B: Retrieval>(backend: &B, set: &EvaluationSet<'_>) -> Result<Evaluation> {
    let queries = DeviceSet::new(backend, set)?.score()?;
    if queries.iter().all(Option::is_none) {
        let found = format!("{} of a gallery of {}", counted(set.queries.len(), "query"), counted(set.gallery.len(), "image"));
        return Err(Error::config(format!(
            "cannot evaluate {found}: no query has another image of its class; a class needs at least two images"
        )));
    }
    Ok(Evaluation { queries, labels: set.queries.labels.clone() })
}

/// The nearest gallery rows of some queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Neighbours per query.
    pub depth: usize,
    /// `(queries, depth)`, nearest first, -1 where the gallery is too small.
    pub rows: Vec<i32>,
    /// `(queries, depth)`, each in `[-1, 1]`; minus infinity where the gallery is too small.
    pub similarities: Vec<f32>,
}

/// The `depth` nearest gallery rows of each query.
///
/// # Errors
/// As [`evaluate`], but that no class is asked for; [`Error::HostOutOfMemory`] if the system has no memory for as many neighbours.
pub fn nearest<B: Retrieval>(backend: &B, set: &EvaluationSet<'_>, depth: usize) -> Result<Neighbours> {
    let (rows, mut similarities) = DeviceSet::new(backend, set)?.nearest(depth)?;
    // A product of two unit rows is off by a rounding, or by what 16 bits leave of their lengths.
    for similarity in similarities.iter_mut().filter(|similarity| similarity.is_finite()) {
        *similarity = similarity.clamp(-1.0, 1.0);
    }
    Ok(Neighbours { depth, rows, similarities })
}

fn check(set: &EvaluationSet<'_>) -> Result<()> {
    if set.queries.dim != set.gallery.dim {
        return Err(Error::shape("dim of the gallery", set.queries.dim, set.gallery.dim));
    }
    expect_len("own rows", set.queries.len(), set.own_rows.len())?;
    check_unit_rows("queries", &set.queries.values, set.queries.dim)?;
    if !std::ptr::eq(set.queries, set.gallery) {
        check_unit_rows("gallery", &set.gallery.values, set.gallery.dim)?;
    }
    match set.own_rows.iter().find(|&&row| row < -1 || row >= set.gallery.len() as i32) {
        Some(row) => Err(Error::shape("own rows", format_args!("-1 or a row below {}", set.gallery.len()), row)),
        None => Ok(()),
    }
}

/// Queries and gallery on the device, in one buffer where they are the same.
struct DeviceSet<'a, B: Storage> {
    backend: &'a B,
    geometry: RetrievalGeometry,
    queries: (B::Buffer, B::Integers),
    gallery: Option<(B::Buffer, B::Integers)>,
    own_rows: B::Integers,
}

impl<'a, B: Retrieval> DeviceSet<'a, B> {
    fn new(backend: &'a B, set: &EvaluationSet<'_>) -> Result<Self> {
        check(set)?;
        let device = |embeddings: &Embeddings| -> Result<_> {
            Ok((upload(backend, &embeddings.values)?, upload_integers(backend, &embeddings.labels)?))
        };
        Ok(Self {
            backend,
            geometry: RetrievalGeometry { queries: set.queries.len(), gallery: set.gallery.len(), dim: set.queries.dim },
            queries: device(set.queries)?,
            gallery: if std::ptr::eq(set.queries, set.gallery) { None } else { Some(device(set.gallery)?) },
            own_rows: upload_integers(backend, set.own_rows)?,
        })
    }

    /// Of some of the queries against the whole gallery.
    fn inputs(&self, own: Range<usize>) -> (RetrievalGeometry, RetrievalInputs<'_, B>) {
        let RetrievalGeometry { gallery, dim, .. } = self.geometry;
        let found = self.gallery.as_ref().unwrap_or(&self.queries);
        let inputs = RetrievalInputs {
            queries: Span::new(&self.queries.0, own.start * dim, own.len() * dim),
            query_labels: Span::new(&self.queries.1, own.start, own.len()),
            gallery: Span::new(&found.0, 0, gallery * dim),
            gallery_labels: Span::new(&found.1, 0, gallery),
            own_rows: Span::new(&self.own_rows, own.start, own.len()),
        };
        (RetrievalGeometry { queries: own.len(), gallery, dim }, inputs)
    }

    /// Each rank searches for its part of the queries.
    fn score(&self) -> Result<Vec<Option<QueryScore>>> {
        let group = self.backend.group();
        let (geometry, inputs) = self.inputs(group.part(self.geometry.queries));
        let own = self.backend.score(&geometry, inputs)?;
        if group.is_alone() {
            return Ok(own);
        }
        let own: Vec<[f64; 3]> = own.iter().map(|score| score.map_or(UNSCORED, QueryScore::to_numbers)).collect();
        let all = group.concat("the scores of queries", &own)?;
        Ok(all.into_iter().map(|numbers| (numbers[0] >= 0.0).then(|| QueryScore::from_numbers(numbers))).collect())
    }

    fn nearest(&self, depth: usize) -> Result<(Vec<i32>, Vec<f32>)> {
        let (geometry, inputs) = self.inputs(0..self.geometry.queries);
        let len = geometry.queries.saturating_mul(depth);
        let mut rows = self.backend.zero_integers(len)?;
        let mut similarities = self.backend.zeros(len, NumberFormat::Full)?;
        let (rows_out, similarities_out) = (SpanMut::new(&mut rows, 0, len), SpanMut::new(&mut similarities, 0, len));
        self.backend.nearest(&geometry, depth, inputs, rows_out, similarities_out)?;
        let (mut host_rows, mut host_similarities) = (host_memory::zeros(len)?, host_memory::zeros(len)?);
        self.backend.download_integers(Span::new(&rows, 0, len), &mut host_rows)?;
        self.backend.download(Span::new(&similarities, 0, len), &mut host_similarities)?;
        Ok((host_rows, host_similarities))
    }
}

fn upload<B: Storage>(backend: &B, values: &[f32]) -> Result<B::Buffer> {
    let mut buffer = backend.zeros(values.len(), NumberFormat::Full)?;
    backend.upload(values, SpanMut::new(&mut buffer, 0, values.len()))?;
    Ok(buffer)
}

fn upload_integers<B: Storage>(backend: &B, values: &[i32]) -> Result<B::Integers> {
    let mut buffer = backend.zero_integers(values.len())?;
    backend.upload_integers(values, SpanMut::new(&mut buffer, 0, values.len()))?;
    Ok(buffer)
}
