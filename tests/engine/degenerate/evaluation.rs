//! Scores, neighbours and statistics of hardly any embeddings.

use crate::support::{cpu, on_gpu, unit_rows};
use xbm_fast::Error;
use xbm_fast::evaluate::{
    Embeddings, EvaluationSet, evaluate, evaluate_all, mean_random_similarity, nearest, similarity_histogram,
};
use xbm_fast::memory::DriftMeter;
use xbm_fast::ops::Backend;

const DIM: usize = 64;

fn embeddings(labels: &[i32]) -> Embeddings {
    Embeddings::new(unit_rows("few", labels.len(), DIM), labels.to_vec(), DIM).unwrap()
}

fn scores_of_hardly_any_images<B: Backend>(backend: &B) {
    for labels in [&[][..], &[3], &[3, 4]] {
        let error = evaluate_all(backend, &embeddings(labels)).unwrap_err();
        assert!(matches!(&error, Error::Config(words) if words.contains("no query has another image of its class")), "{error}");
    }
    let scores = evaluate_all(backend, &embeddings(&[5, 5])).unwrap().scores(&[1, 10]);
    assert_eq!((scores.recall_at(1), scores.recall_at(10), scores.map_at_r, scores.queries), (Some(1.0), Some(1.0), 1.0, 2));
    let scores = evaluate_all(backend, &embeddings(&[5, 5, 6])).unwrap();
    assert_eq!((scores.scores(&[1]).queries, scores.scores(&[1]).excluded_queries), (2, 1));
    assert_eq!(scores.per_class(&[1]).len(), 1);
    assert_eq!(scores.scores(&[]).recall, []);
}

fn neighbours_of_hardly_any_images<B: Backend>(backend: &B) {
    let count = |queries: usize, gallery: usize, depth: usize| {
        let (queries, gallery) = (embeddings(&vec![0; queries]), embeddings(&vec![0; gallery]));
        let own = vec![-1; queries.len()];
        nearest(backend, &EvaluationSet { queries: &queries, gallery: &gallery, own_rows: &own }, depth).unwrap()
    };
    for (queries, gallery, depth) in [(0, 0, 1), (0, 2, 1), (2, 2, 0)] {
        assert!(count(queries, gallery, depth).rows.is_empty());
    }
    let found = count(2, 0, 2);
    assert_eq!((found.rows, found.similarities), (vec![-1; 4], vec![f32::NEG_INFINITY; 4]));
    let found = count(1, 1, 2);
    assert_eq!(found.rows, [0, -1]);
    assert!((0.99..=1.0).contains(&found.similarities[0]), "{found:?}");
    let (queries, gallery) = (embeddings(&[0, 0]), embeddings(&[]));
    let none = evaluate(backend, &EvaluationSet { queries: &queries, gallery: &gallery, own_rows: &[-1, -1] }).unwrap_err();
    assert!(matches!(none, Error::Config(_)), "{none}");
}

#[test]
fn hardly_any_images_are_scored_or_refused_in_words() {
    scores_of_hardly_any_images(&cpu(1));
    neighbours_of_hardly_any_images(&cpu(1));
}

#[test]
fn hardly_any_images_are_scored_or_refused_in_words_on_a_gpu() {
    on_gpu(scores_of_hardly_any_images);
    on_gpu(neighbours_of_hardly_any_images);
}

#[test]
fn statistics_of_hardly_any_images_are_zeros_where_there_is_no_pair() {
    for labels in [&[][..], &[1], &[1, 1], &[1, 2]] {
        let set = embeddings(labels);
        assert!((-1.0..=1.0).contains(&mean_random_similarity(&set, 0)));
        let histogram = similarity_histogram(&set, 4, 0);
        let total = |bins: &[f64]| bins.iter().sum::<f64>().round();
        let expected = (f64::from(u8::from(labels == [1, 1])), f64::from(u8::from(labels == [1, 2])));
        assert_eq!((total(&histogram.positive), total(&histogram.negative)), expected, "{labels:?}");
    }
    assert_eq!((DriftMeter::default().by_age().count(), DriftMeter::default().oldest_below(0.5)), (0, 0));
}
