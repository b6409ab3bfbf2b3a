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

use crate::backend::{Precision, Span, SpanMut, Storage};
use crate::error::{Error, Result, expect_len};
use crate::ops::retrieval::{Retrieval, RetrievalGeometry, RetrievalInputs};
use crate::rng::Rng;
use std::collections::HashMap;

/// Numbers of neighbours fetched from the device at once: bounds the memory that deep searches take.
const NEIGHBOURS_AT_ONCE: usize = 1 << 22;
/// Pairs drawn by [`mean_random_similarity`] and, of each kind, by [`similarity_histogram`].
const SAMPLED_PAIRS: usize = 20_000;
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
        expect_len("embeddings", labels.len() * dim, values.len())?;
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

/// Scores of an embedding, each in `[0, 1]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Scores {
    /// `(k, recall at k)`, in the order in which they were asked for.
    pub recall: Vec<(usize, f64)>,
    /// Mean average precision at R.
    pub map_at_r: f64,
    /// R-precision.
    pub r_precision: f64,
    /// Mean reciprocal rank.
    pub mean_reciprocal_rank: f64,
    /// Queries that count.
    pub queries: usize,
    /// Queries left out because the gallery holds no positive of theirs.
    pub excluded_queries: usize,
}

impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (k, recall) in &self.recall {
            writeln!(f, "Recall@{k:<6} {:6.2} %", 100.0 * recall)?;
        }
        writeln!(f, "MAP@R         {:6.2} %", 100.0 * self.map_at_r)?;
        writeln!(f, "R-precision   {:6.2} %", 100.0 * self.r_precision)?;
        writeln!(f, "MRR           {:6.2} %", 100.0 * self.mean_reciprocal_rank)?;
        write!(f, "{} queries, {} without a positive left out", self.queries, self.excluded_queries)
    }
}

impl Scores {
    /// Recall at `k`, if it was asked for.
    pub fn recall_at(&self, k: usize) -> Option<f64> {
        self.recall.iter().find(|(at, _)| *at == k).map(|&(_, recall)| recall)
    }
}

/// Scores every image against all others: the protocol of Stanford Online Products and most data sets.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all<B: Retrieval>(backend: &B, embeddings: &Embeddings, ks: &[usize]) -> Result<Scores> {
    let own_rows: Vec<i32> = (0..embeddings.len() as i32).collect();
    evaluate(backend, &EvaluationSet { queries: embeddings, gallery: embeddings, own_rows: &own_rows }, ks)
}

/// Scores `set.queries` against `set.gallery`, with recall at each of `ks`.
///
/// # Errors
/// [`Error::Shape`] on lengths that do not agree, [`Error::NotFinite`] on NaN or infinity, [`Error::Config`] if no query has a
/// positive in the gallery.
pub fn evaluate<B: Retrieval>(backend: &B, set: &EvaluationSet<'_>, ks: &[usize]) -> Result<Scores> {
    let positives = count_positives(set)?;
    let mut order: Vec<usize> = (0..positives.len()).filter(|&query| positives[query] > 0).collect();
    if order.is_empty() {
        let found = format!("{} queries of a gallery of {} images", set.queries.len(), set.gallery.len());
        return Err(Error::config(format!(
            "cannot evaluate {found}: no query has another image of its class; a class needs at least two images"
        )));
    }
    order.sort_by_key(|&query| positives[query]);
    let search = DeviceSearch::new(backend, set, &order)?;
    let ranks = search.best_positive_ranks()?;
    let mut sums = Sums::default();
    let mut first = 0;
    while first < order.len() {
        let queries = chunk_of_similar_depth(&order[first..], &positives);
        let depth = positives[order[first + queries - 1]];
        let (rows, _) = search.nearest(first, queries, depth)?;
        for (&query, rows) in order[first..].iter().zip(rows.chunks(depth)) {
            let label = set.queries.labels[query];
            let nearest = rows[..positives[query]].iter();
            sums.add(nearest.map(|&row| usize::try_from(row).is_ok_and(|row| set.gallery.labels[row] == label)));
        }
        first += queries;
    }
    let queries = order.len();
    let share = |sum: f64| sum / queries as f64;
    let within = |k: usize| ranks.iter().filter(|&&rank| (0..k).contains(&(rank as usize))).count();
    Ok(Scores {
        recall: ks.iter().map(|&k| (k, share(within(k) as f64))).collect(),
        map_at_r: share(sums.average_precision),
        r_precision: share(sums.r_precision),
        mean_reciprocal_rank: share(ranks.iter().map(|&rank| 1.0 / (f64::from(rank) + 1.0)).sum()),
        queries,
        excluded_queries: positives.len() - queries,
    })
}

/// The nearest gallery rows of some queries.
#[derive(Clone, Debug, PartialEq)]
pub struct Neighbours {
    /// Neighbours per query.
    pub depth: usize,
    /// `(queries, depth)`, nearest first, -1 where the gallery is too small.
    pub rows: Vec<i32>,
    /// `(queries, depth)`.
    pub similarities: Vec<f32>,
}

/// The `depth` nearest gallery rows of each query.
///
/// # Errors
/// [`Error::Shape`] on lengths that do not agree, [`Error::NotFinite`] on NaN or infinity.
pub fn nearest<B: Retrieval>(backend: &B, set: &EvaluationSet<'_>, depth: usize) -> Result<Neighbours> {
    check(set)?;
    let order: Vec<usize> = (0..set.queries.len()).collect();
    let (rows, similarities) = DeviceSearch::new(backend, set, &order)?.nearest(0, order.len(), depth)?;
    Ok(Neighbours { depth, rows, similarities })
}

/// Mean similarity of random pairs of different images: near 1 when the embedding has [`COLLAPSED`]. The same seed draws the same
/// pairs. 0 with fewer than two images.
pub fn mean_random_similarity(embeddings: &Embeddings, seed: u64) -> f64 {
    let mut rng = Rng::new(seed).at("random pairs");
    let images = embeddings.len();
    if images < 2 {
        return 0.0;
    }
    let sum: f64 = (0..SAMPLED_PAIRS).map(|_| similarity(embeddings, random_pair(&mut rng, images))).sum();
    sum / SAMPLED_PAIRS as f64
}

/// How the similarities of positive and of negative pairs are distributed.
#[derive(Clone, Debug, PartialEq)]
pub struct SimilarityHistogram {
    /// Share of the sampled positive pairs in each of the equal bins of `[-1, 1]`.
    pub positive: Vec<f64>,
    /// Share of the sampled negative pairs in each bin.
    pub negative: Vec<f64>,
}

/// Distribution of similarity over a random sample of pairs of each kind; a kind of which there is no pair has only zeros. The same
/// seed draws the same pairs.
pub fn similarity_histogram(embeddings: &Embeddings, bins: usize, seed: u64) -> SimilarityHistogram {
    let mut rng = Rng::new(seed).at("similarity histogram");
    let images = embeddings.len();
    let mut classes: HashMap<i32, Vec<usize>> = HashMap::new();
    for (image, &label) in embeddings.labels.iter().enumerate() {
        classes.entry(label).or_default().push(image);
    }
    let with_positives: Vec<usize> = (0..images).filter(|&image| classes[&embeddings.labels[image]].len() > 1).collect();
    let mut histogram = SimilarityHistogram { positive: vec![0.0; bins], negative: vec![0.0; bins] };
    for _ in 0..SAMPLED_PAIRS {
        if !with_positives.is_empty() {
            let image = with_positives[rng.below(with_positives.len())];
            let class = &classes[&embeddings.labels[image]];
            // Rows of a class ascend, so that one draw among the others suffices: those from the image on move up by one.
            let other = rng.below(class.len() - 1);
            let other = class[other + usize::from(class[other] >= image)];
            count(&mut histogram.positive, similarity(embeddings, (image, other)));
        }
        if classes.len() > 1 {
            let pair = loop {
                let pair = random_pair(&mut rng, images);
                if embeddings.labels[pair.0] != embeddings.labels[pair.1] {
                    break pair;
                }
            };
            count(&mut histogram.negative, similarity(embeddings, pair));
        }
    }
    histogram
}

fn count(bins: &mut [f64], similarity: f64) {
    let bin = ((similarity + 1.0) / 2.0 * bins.len() as f64).max(0.0) as usize;
    let last = bins.len() - 1;
    bins[bin.min(last)] += 1.0 / SAMPLED_PAIRS as f64;
}

fn random_pair(rng: &mut Rng, images: usize) -> (usize, usize) {
    let first = rng.below(images);
    let second = rng.below(images - 1);
    (first, second + usize::from(second >= first))
}

fn similarity(embeddings: &Embeddings, (first, second): (usize, usize)) -> f64 {
    let values = embeddings.row(first).iter().zip(embeddings.row(second));
    values.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Sums over queries.
#[derive(Default)]
struct Sums {
    average_precision: f64,
    r_precision: f64,
}

impl Sums {
    /// Adds a query, given for each of its R nearest whether it is a positive.
    fn add(&mut self, nearest: impl ExactSizeIterator<Item = bool>) {
        let positives = nearest.len() as f64;
        let (mut found, mut precisions) = (0.0, 0.0);
        for (place, is_positive) in nearest.enumerate() {
            if is_positive {
                found += 1.0;
                precisions += found / (place as f64 + 1.0);
            }
        }
        self.average_precision += precisions / positives;
        self.r_precision += found / positives;
    }
}

fn check(set: &EvaluationSet<'_>) -> Result<()> {
    if set.queries.dim != set.gallery.dim {
        return Err(Error::shape("dim of the gallery", set.queries.dim, set.gallery.dim));
    }
    expect_len("own rows", set.queries.len(), set.own_rows.len())?;
    match set.own_rows.iter().find(|&&row| row < -1 || row >= set.gallery.len() as i32) {
        Some(row) => Err(Error::shape("own rows", format_args!("-1 or a row below {}", set.gallery.len()), row)),
        None => Ok(()),
    }
}

/// For each query the number of its positives in the gallery.
fn count_positives(set: &EvaluationSet<'_>) -> Result<Vec<usize>> {
    check(set)?;
    let mut counts: HashMap<i32, usize> = HashMap::new();
    for &label in &set.gallery.labels {
        *counts.entry(label).or_default() += 1;
    }
    let positives = |(label, &own): (&i32, &i32)| {
        let is_own = usize::try_from(own).is_ok_and(|own| set.gallery.labels[own] == *label);
        counts.get(label).map_or(0, |count| count - usize::from(is_own))
    };
    Ok(set.queries.labels.iter().zip(set.own_rows).map(positives).collect())
}

/// How many of the queries, whose numbers of positives ascend, to search at once: as many as fit, but none much deeper than the first.
fn chunk_of_similar_depth(order: &[usize], positives: &[usize]) -> usize {
    let shallowest = positives[order[0]];
    let similar = order.partition_point(|&query| positives[query] <= 2 * shallowest);
    similar.min((NEIGHBOURS_AT_ONCE / (2 * shallowest)).max(1))
}

/// Queries, in a given order, and gallery on the device.
struct DeviceSearch<'a, B: Storage> {
    backend: &'a B,
    geometry: RetrievalGeometry,
    queries: B::Buffer,
    query_labels: B::Integers,
    gallery: B::Buffer,
    gallery_labels: B::Integers,
    own_rows: B::Integers,
}

impl<'a, B: Retrieval> DeviceSearch<'a, B> {
    fn new(backend: &'a B, set: &EvaluationSet<'_>, order: &[usize]) -> Result<Self> {
        let queries: Vec<f32> = order.iter().flat_map(|&query| set.queries.row(query)).copied().collect();
        let query_labels: Vec<i32> = order.iter().map(|&query| set.queries.labels[query]).collect();
        let own_rows: Vec<i32> = order.iter().map(|&query| set.own_rows[query]).collect();
        Ok(Self {
            backend,
            geometry: RetrievalGeometry { queries: order.len(), gallery: set.gallery.len(), dim: set.queries.dim },
            queries: upload(backend, &queries)?,
            query_labels: upload_integers(backend, &query_labels)?,
            gallery: upload(backend, &set.gallery.values)?,
            gallery_labels: upload_integers(backend, &set.gallery.labels)?,
            own_rows: upload_integers(backend, &own_rows)?,
        })
    }

    fn inputs(&self, first: usize, queries: usize) -> RetrievalInputs<'_, B> {
        let RetrievalGeometry { gallery, dim, .. } = self.geometry;
        RetrievalInputs {
            queries: Span::new(&self.queries, first * dim, queries * dim),
            query_labels: Span::new(&self.query_labels, first, queries),
            gallery: Span::new(&self.gallery, 0, gallery * dim),
            gallery_labels: Span::new(&self.gallery_labels, 0, gallery),
            own_rows: Span::new(&self.own_rows, first, queries),
        }
    }

    fn best_positive_ranks(&self) -> Result<Vec<i32>> {
        let queries = self.geometry.queries;
        let mut ranks = self.backend.zero_integers(queries)?;
        self.backend.best_positive_rank(&self.geometry, self.inputs(0, queries), SpanMut::new(&mut ranks, 0, queries))?;
        let mut host = vec![0; queries];
        self.backend.download_integers(Span::new(&ranks, 0, queries), &mut host)?;
        Ok(host)
    }

    fn nearest(&self, first: usize, queries: usize, depth: usize) -> Result<(Vec<i32>, Vec<f32>)> {
        let len = queries * depth;
        let mut rows = self.backend.zero_integers(len)?;
        let mut similarities = self.backend.zeros(len, Precision::Full)?;
        let geometry = RetrievalGeometry { queries, ..self.geometry };
        let (rows_out, similarities_out) = (SpanMut::new(&mut rows, 0, len), SpanMut::new(&mut similarities, 0, len));
        self.backend.nearest(&geometry, depth, self.inputs(first, queries), rows_out, similarities_out)?;
        let (mut host_rows, mut host_similarities) = (vec![0; len], vec![0.0; len]);
        self.backend.download_integers(Span::new(&rows, 0, len), &mut host_rows)?;
        self.backend.download(Span::new(&similarities, 0, len), &mut host_similarities)?;
        Ok((host_rows, host_similarities))
    }
}

fn upload<B: Storage>(backend: &B, values: &[f32]) -> Result<B::Buffer> {
    let mut buffer = backend.zeros(values.len(), Precision::Full)?;
    backend.upload(values, SpanMut::new(&mut buffer, 0, values.len()))?;
    Ok(buffer)
}

fn upload_integers<B: Storage>(backend: &B, values: &[i32]) -> Result<B::Integers> {
    let mut buffer = backend.zero_integers(values.len())?;
    backend.upload_integers(values, SpanMut::new(&mut buffer, 0, values.len()))?;
    Ok(buffer)
}
