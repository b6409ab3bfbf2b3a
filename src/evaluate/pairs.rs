//! The similarities of random pairs: what a report draws, and how a collapse is recognised.

use super::Embeddings;
use crate::cpu::dot::dot_f64;
use crate::rng::Rng;
use std::collections::HashMap;

/// Pairs drawn by [`mean_random_similarity`] and, of each kind, by [`similarity_histogram`].
const SAMPLED_PAIRS: usize = 20_000;

/// Mean similarity of random pairs of different images: near 1 when the embedding has [`COLLAPSED`](super::COLLAPSED). The same seed draws the same
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
    dot_f64::<1>(embeddings.row(first), embeddings.row(second)).clamp(-1.0, 1.0)
}
