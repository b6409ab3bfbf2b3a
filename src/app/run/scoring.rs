//! Scores an encoder on the test images of a data set.

use crate::app::data::{Content, Dataset, LoaderOptions, Split};
use crate::app::embed::{EmbeddedImages, embed};
use crate::error::{Error, Result};
use crate::evaluate::{Embeddings, Evaluation, EvaluationSet, Neighbours, Scores, evaluate, nearest};
use crate::model::{Network, Weights};
use crate::ops::Backend;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The images that test an encoder: queries against a gallery, or every test image against all others.
#[derive(Clone, Debug)]
pub struct TestSet {
    dataset: Arc<Dataset>,
    queries: Vec<usize>,
    /// `None`: the queries themselves.
    gallery: Option<Vec<usize>>,
    loading: LoaderOptions,
    same_set: bool,
}

/// Embedded test images and their scores.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// Scores of the encoder.
    pub scores: Scores,
    /// Scores of each query.
    pub evaluation: Evaluation,
    /// Embedded queries.
    pub queries: EmbeddedImages,
    gallery: Option<EmbeddedImages>,
    /// For each query the row of the gallery that is the query itself, or -1.
    own_rows: Vec<i32>,
    /// Every embedded image, by its position in the data set.
    contents: Vec<(usize, Content)>,
}

impl TestSet {
    /// The test images of a data set.
    pub fn new(dataset: &Arc<Dataset>, loading: LoaderOptions) -> Self {
        let (queries, gallery) = (dataset.indices(Split::Query), dataset.indices(Split::Gallery));
        let (queries, gallery) = if queries.is_empty() { (dataset.indices(Split::Test), None) } else { (queries, Some(gallery)) };
        Self { dataset: dataset.clone(), queries, gallery, loading, same_set: false }
    }

    /// The validation images of a data set, each of which searches all others.
    pub fn of_validation(dataset: &Arc<Dataset>, loading: LoaderOptions) -> Self {
        Self { dataset: dataset.clone(), queries: dataset.indices(Split::Validation), gallery: None, loading, same_set: false }
    }

    /// With queries and gallery taken as one set of pictures: a query does not find itself, nor a copy of itself, under whatever name.
    #[must_use]
    pub fn same_set(self, same_set: bool) -> Self {
        Self { same_set, ..self }
    }

    /// Number of images to embed.
    pub fn len(&self) -> usize {
        self.queries.len() + self.gallery.as_ref().map_or(0, Vec::len)
    }

    /// Positions of the images that query.
    pub fn queries(&self) -> &[usize] {
        &self.queries
    }

    /// Whether there is nothing to test on.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// Embeds and scores.
    ///
    /// # Errors
    /// What reading, embedding or scoring reports.
    pub fn score<B: Backend>(&self, backend: &B, network: &mut Network<B>, weights: &Weights<B>) -> Result<TestResult> {
        let mut queries = embed(backend, network, weights, (&self.dataset, &self.queries), &self.loading)?;
        let mut gallery = match &self.gallery {
            Some(indices) => Some(embed(backend, network, weights, (&self.dataset, indices), &self.loading)?),
            None => None,
        };
        let all = std::iter::once(&queries).chain(&gallery);
        let contents = all.flat_map(|embedded| embedded.images.iter().copied().zip(embedded.contents.iter().copied())).collect();
        if self.same_set {
            let searched = gallery.as_mut().unwrap_or(&mut queries);
            *searched = without_copies(searched)?;
        }
        let own_rows = own_rows(&queries, gallery.as_ref(), self.same_set);
        let evaluation = evaluate(backend, &set(&queries, gallery.as_ref(), &own_rows))?;
        let scores = evaluation.scores(&self.dataset.protocol.recall_at);
        Ok(TestResult { scores, evaluation, queries, gallery, own_rows, contents })
    }
}

impl TestResult {
    /// What is searched: the gallery, or the queries themselves.
    pub fn gallery(&self) -> &EmbeddedImages {
        self.gallery.as_ref().unwrap_or(&self.queries)
    }

    /// Whether the queries search each other.
    pub fn is_all_against_all(&self) -> bool {
        self.gallery.is_none()
    }

    /// Test images that could not be read, with the reason.
    pub fn unreadable(&self) -> impl Iterator<Item = &(usize, String)> {
        self.queries.unreadable.iter().chain(self.gallery.iter().flat_map(|gallery| &gallery.unreadable))
    }

    /// What every embedded image is, by its position in the data set.
    pub fn contents(&self) -> impl Iterator<Item = (usize, Content)> {
        self.contents.iter().copied()
    }

    /// Images that were not searched, or not by the query that is the same picture.
    pub fn left_out(&self) -> usize {
        let copies =
            self.contents.len() - self.queries.images.len() - self.gallery.as_ref().map_or(0, |gallery| gallery.images.len());
        copies + if self.is_all_against_all() { 0 } else { self.own_rows.iter().filter(|&&row| row >= 0).count() }
    }

    /// For each query the row of the gallery that is the query itself, or -1.
    pub fn own_rows(&self) -> &[i32] {
        &self.own_rows
    }

    /// The `depth` nearest gallery images of every query.
    ///
    /// # Errors
    /// What the device reports.
    pub fn neighbours<B: Backend>(&self, backend: &B, depth: usize) -> Result<Neighbours> {
        nearest(backend, &set(&self.queries, self.gallery.as_ref(), &self.own_rows), depth)
    }
}

fn set<'a>(queries: &'a EmbeddedImages, gallery: Option<&'a EmbeddedImages>, own_rows: &'a [i32]) -> EvaluationSet<'a> {
    EvaluationSet { queries: &queries.embeddings, gallery: &gallery.unwrap_or(queries).embeddings, own_rows }
}

/// That nothing is there to score on, and what to do about it where the classes held out are `holdout` of all.
pub(super) fn no_test_images(dataset: &Dataset, holdout: f64) -> Error {
    let name = &dataset.name;
    Error::config(if dataset.split_is_drawn {
        format!("{name} has no test images with --holdout {holdout}; hold classes out, as --holdout 0.5 does")
    } else {
        format!("{name} has a split of its own and no test images in it; give some the split `test`, or `query` and `gallery`")
    })
}

/// All against all, a query is its own gallery row. In one set of pictures it is the one with its content.
fn own_rows(queries: &EmbeddedImages, gallery: Option<&EmbeddedImages>, same_set: bool) -> Vec<i32> {
    let Some(gallery) = gallery else { return (0..queries.images.len() as i32).collect() };
    let searched = if same_set { gallery.contents.as_slice() } else { &[] };
    let rows: HashMap<Content, i32> = searched.iter().copied().zip(0..).collect();
    queries.contents.iter().map(|content| rows.get(content).copied().unwrap_or(-1)).collect()
}

/// The first image of each picture.
fn without_copies(embedded: &EmbeddedImages) -> Result<EmbeddedImages> {
    let (mut found, mut values, mut labels) = (HashSet::new(), Vec::new(), Vec::new());
    let rows: Vec<usize> = (0..embedded.images.len()).filter(|&row| found.insert(embedded.contents[row])).collect();
    for &row in &rows {
        values.extend_from_slice(embedded.embeddings.row(row));
        labels.push(embedded.embeddings.labels[row]);
    }
    Ok(EmbeddedImages {
        embeddings: Embeddings::new(values, labels, embedded.embeddings.dim)?,
        images: rows.iter().map(|&row| embedded.images[row]).collect(),
        contents: rows.iter().map(|&row| embedded.contents[row]).collect(),
        unreadable: embedded.unreadable.clone(),
    })
}
