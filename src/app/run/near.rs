//! Near-duplicates: pictures that are not the same, but that the model hardly tells apart, across splits or under two classes.

use super::scoring::TestResult;
use crate::app::data::{Dataset, LoaderOptions, Split};
use crate::app::embed::{EmbeddedImages, embed};
use crate::error::Result;
use crate::evaluate::{EvaluationSet, nearest};
use crate::model::{Network, Weights};
use crate::ops::Backend;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Nearest images that are looked at for each image.
const DEPTH: usize = 10;

/// Test images that are nearly the same as others.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NearDuplicates {
    /// What the others are: training images, gallery images, or images of another class.
    pub others: &'static str,
    /// How many test images.
    pub images: usize,
    /// The most similar of them.
    pub first: String,
    /// What it is nearly the same as.
    pub near: String,
    /// Similarity of these two.
    pub similarity: f32,
}

impl NearDuplicates {
    /// Pairs of at least `threshold` among the images of a test, and between them and the training images, which are embedded for this.
    ///
    /// # Errors
    /// What reading or embedding the training images reports.
    pub fn find<B: Backend>(
        backend: &B,
        (network, weights): (&mut Network<B>, &Weights<B>),
        dataset: &Arc<Dataset>,
        result: &TestResult,
        (threshold, loading): (f32, &LoaderOptions),
    ) -> Result<Vec<Self>> {
        let among = |others, pair: Pair<'_>, own: &[i32], fits: &dyn Fn(i32, i32) -> bool| -> Result<Option<Self>> {
            Finder { backend, dataset, threshold }.find(others, pair, own, fits)
        };
        let mut found = Vec::new();
        let tested = (&result.queries, result.gallery());
        found.extend(among("images of another class", tested, result.own_rows(), &|one, other| one != other)?);
        if !result.is_all_against_all() {
            found.extend(among("gallery images", tested, result.own_rows(), &|_, _| true)?);
        }
        let training = dataset.indices(Split::Train);
        if !training.is_empty() {
            let trained = embed(backend, network, weights, (dataset, &training), loading)?;
            let own = vec![-1; result.queries.images.len()];
            found.extend(among("training images", (&result.queries, &trained), &own, &|_, _| true)?);
        }
        Ok(found)
    }
}

type Pair<'a> = (&'a EmbeddedImages, &'a EmbeddedImages);

struct Finder<'a, B: Backend> {
    backend: &'a B,
    dataset: &'a Dataset,
    threshold: f32,
}

impl<B: Backend> Finder<'_, B> {
    fn find(
        &self,
        others: &'static str,
        (queries, searched): Pair<'_>,
        own_rows: &[i32],
        fits: &dyn Fn(i32, i32) -> bool,
    ) -> Result<Option<NearDuplicates>> {
        let set = EvaluationSet { queries: &queries.embeddings, gallery: &searched.embeddings, own_rows };
        let depth = DEPTH.min(searched.images.len());
        let found = nearest(self.backend, &set, depth)?;
        let (mut images, mut best) = (0, None::<(usize, usize, f32)>);
        for query in 0..queries.images.len() {
            let places = query * depth..(query + 1) * depth;
            let near = places.filter_map(|place| Some((usize::try_from(found.rows[place]).ok()?, found.similarities[place])));
            let label = queries.embeddings.labels[query];
            let mut near =
                near.filter(|&(row, similarity)| similarity >= self.threshold && fits(label, searched.embeddings.labels[row]));
            let Some((row, similarity)) = near.next() else { continue };
            images += 1;
            if best.is_none_or(|(_, _, most)| similarity > most) {
                best = Some((query, row, similarity));
            }
        }
        Ok(best.map(|(query, row, similarity)| NearDuplicates {
            others,
            images,
            first: self.dataset.name_of(queries.images[query]),
            near: self.dataset.name_of(searched.images[row]),
            similarity,
        }))
    }
}

impl fmt::Display for NearDuplicates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { others, images, first, near, similarity } = self;
        write!(f, "{images} test images are nearly the same as {others}: {first} as {near} (similarity {similarity:.4})")
    }
}
