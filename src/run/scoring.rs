//! Scores an encoder on the classes it never trained on.

use crate::backbone::{Network, Weights};
use crate::data::{Dataset, LoaderOptions, Split};
use crate::embed::{EmbeddedImages, embed};
use crate::error::{Error, Result};
use crate::evaluate::{Evaluation, EvaluationSet, Neighbours, Scores, evaluate, nearest};
use crate::ops::Backend;
use std::sync::Arc;

/// The images that test an encoder: queries against a gallery, or every test image against all others.
#[derive(Clone, Debug)]
pub struct TestSet {
    dataset: Arc<Dataset>,
    queries: Vec<usize>,
    /// `None`: the queries themselves.
    gallery: Option<Vec<usize>>,
    loading: LoaderOptions,
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
}

impl TestSet {
    /// The test images of a data set.
    pub fn new(dataset: &Arc<Dataset>, loading: LoaderOptions) -> Self {
        let (queries, gallery) = (dataset.indices(Split::Query), dataset.indices(Split::Gallery));
        let (queries, gallery) = if queries.is_empty() { (dataset.indices(Split::Test), None) } else { (queries, Some(gallery)) };
        Self { dataset: dataset.clone(), queries, gallery, loading }
    }

    /// Number of images to embed.
    pub fn len(&self) -> usize {
        self.queries.len() + self.gallery.as_ref().map_or(0, Vec::len)
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
        let queries = embed(backend, network, weights, (&self.dataset, &self.queries), &self.loading)?;
        let gallery = match &self.gallery {
            Some(indices) => Some(embed(backend, network, weights, (&self.dataset, indices), &self.loading)?),
            None => None,
        };
        let own_rows = own_rows(&queries, gallery.as_ref());
        let evaluation = evaluate(backend, &set(&queries, gallery.as_ref(), &own_rows))?;
        Ok(TestResult { scores: evaluation.scores(&self.dataset.protocol.recall_at), evaluation, queries, gallery })
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

    /// The `depth` nearest gallery images of every query.
    ///
    /// # Errors
    /// What the device reports.
    pub fn neighbours<B: Backend>(&self, backend: &B, depth: usize) -> Result<Neighbours> {
        let own_rows = own_rows(&self.queries, self.gallery.as_ref());
        nearest(backend, &set(&self.queries, self.gallery.as_ref(), &own_rows), depth)
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

/// All against all, a query is its own gallery row.
fn own_rows(queries: &EmbeddedImages, gallery: Option<&EmbeddedImages>) -> Vec<i32> {
    (0..queries.images.len() as i32).map(|row| if gallery.is_some() { -1 } else { row }).collect()
}
