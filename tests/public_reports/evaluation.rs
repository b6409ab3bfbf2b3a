//! Retrieval scores: queries without positives, the query in its own gallery, copies, and numbers that are no embeddings.

use crate::support::{cpu, unit_rows};
use xbm_fast::evaluate::{Embeddings, EvaluationSet, Neighbours, Scores, evaluate, evaluate_all, nearest};

/// Means of a handful of fractions.
const ROUNDING: f64 = 1e-12;

/// Unit rows at these angles.
fn at_angles(angles: &[f32], labels: &[i32]) -> Embeddings {
    let values = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
    Embeddings::new(values, labels.to_vec(), 2).unwrap()
}

/// Scores of queries against another set.
fn scores(queries: &Embeddings, gallery: &Embeddings, ks: &[usize]) -> xbm_fast::Result<Scores> {
    let own_rows = vec![-1; queries.len()];
    Ok(evaluate(&cpu(1), &EvaluationSet { queries, gallery, own_rows: &own_rows })?.scores(ks))
}

fn neighbours(queries: &Embeddings, gallery: &Embeddings, depth: usize) -> Neighbours {
    let own_rows = vec![-1; queries.len()];
    nearest(&cpu(1), &EvaluationSet { queries, gallery, own_rows: &own_rows }, depth).unwrap()
}

#[track_caller]
fn assert_equal(found: f64, expected: f64) {
    assert!((found - expected).abs() < ROUNDING, "found {found}, expected {expected}");
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/398: what happens to queries whose label is not in the reference set.
#[test]
fn a_query_without_positives_is_left_out_of_the_mean_and_counted() {
    let queries = at_angles(&[0.0, 1.0, 2.0], &[0, 1, 9]);
    let gallery = at_angles(&[0.1, 1.1, 0.8, 2.0], &[0, 2, 1, 0]);
    let scores = scores(&queries, &gallery, &[1, 2]).unwrap();
    assert_eq!((scores.queries, scores.excluded_queries), (2, 1));
    // The first finds its class at once, the second behind a stranger.
    assert_eq!(scores.recall, [(1, 0.5), (2, 1.0)]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/129: no query with its label in the reference set gave NaN.
#[test]
fn a_gallery_without_any_of_the_queries_classes_is_refused_in_words() {
    let message = scores(&at_angles(&[0.0, 1.0], &[0, 1]), &at_angles(&[0.0, 1.0], &[2, 3]), &[1]).unwrap_err().to_string();
    assert!(message.contains("no query"), "{message}");
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/464: that the query itself is the first neighbour if it is in the gallery.
// github.com/embeddings-benchmark/results/pull/487: the query took the first place and recall at 1 was 0.
#[test]
fn a_query_in_its_own_gallery_is_not_found() {
    let images = at_angles(&[0.0, 0.1, 1.0, 1.2], &[0, 0, 1, 1]);
    let scores = evaluate_all(&cpu(1), &images).unwrap().scores(&[1]);
    assert_eq!((scores.recall_at(1), scores.map_at_r), (Some(1.0), 1.0));
    let swapped = at_angles(&[0.0, 1.0, 0.1, 1.2], &[0, 0, 1, 1]);
    let scores = evaluate_all(&cpu(1), &swapped).unwrap().scores(&[1]);
    assert_eq!((scores.recall_at(1), scores.map_at_r), (Some(0.0), 0.0));
}

// github.com/TorchDR/TorchDR/pull/295: the first neighbour was dropped as the query itself, which of two copies it need not be.
// github.com/KevinMusgrave/pytorch-metric-learning/issues/453: one neighbour too few was left after that.
#[test]
fn the_query_is_left_out_by_its_row_and_its_copy_is_found() {
    let images = at_angles(&[0.5, 0.5, 0.5, 2.0], &[0, 1, 0, 1]);
    let own_rows = [0, 1, 2, 3];
    let set = EvaluationSet { queries: &images, gallery: &images, own_rows: &own_rows };
    let found = nearest(&cpu(1), &set, 3).unwrap();
    for (query, rows) in found.rows.chunks(3).enumerate() {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        let others: Vec<i32> = (0..4).filter(|&row| row != query as i32).collect();
        assert_eq!(rows, others, "query {query}");
    }
}

// github.com/facebookresearch/faiss/issues/1731: fewer vectors than neighbours asked for gave row numbers that no vector has.
// github.com/facebookresearch/faiss/issues/1780: the places beyond the data have a distance of 3.4e38.
// github.com/facebookresearch/faiss/issues/3830: an empty index answered with row 0 and distance 0 from 20 queries on.
#[test]
fn places_beyond_the_gallery_hold_no_row() {
    let queries = Embeddings::new(unit_rows("queries", 25, 4), vec![0; 25], 4).unwrap();
    for size in [0, 1, 3] {
        let gallery = Embeddings::new(unit_rows("gallery", size, 4), vec![0; size], 4).unwrap();
        let found = neighbours(&queries, &gallery, 5);
        for (rows, similarities) in found.rows.chunks(5).zip(found.similarities.chunks(5)) {
            let mut there = rows[..size].to_vec();
            there.sort_unstable();
            assert_eq!(there, (0..size as i32).collect::<Vec<_>>());
            assert!(rows[size..].iter().all(|&row| row == -1), "{rows:?}");
            assert!(similarities[size..].iter().all(|&similarity| similarity == f32::NEG_INFINITY), "{similarities:?}");
        }
    }
}

// github.com/facebookresearch/faiss/issues/2723: distances that are NaN, and neighbours by chance.
// github.com/KevinMusgrave/pytorch-metric-learning/issues/530: embeddings of a diverged network reached the evaluation.
#[test]
fn embeddings_that_are_no_numbers_are_refused() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut spoiled = at_angles(&[0.0, 0.1, 1.0, 1.2], &[0, 0, 1, 1]);
        spoiled.values[5] = bad;
        let sound = at_angles(&[0.0, 1.0], &[0, 1]);
        assert!(evaluate_all(&cpu(1), &spoiled).is_err(), "{bad}");
        assert!(scores(&sound, &spoiled, &[1]).is_err() && scores(&spoiled, &sound, &[1]).is_err(), "{bad}");
    }
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/331: whether MAP at R divides by R or by the positives found within R.
// github.com/sounakdey/doodle2search/issues/18: a mean over the positives found flatters.
// github.com/NTMC-Community/MatchZoo-py/issues/164: the denominator was counted from the ranked list.
#[test]
fn average_precision_divides_by_all_positives_not_by_those_found() {
    // Four positives; of the four nearest the first and the third are such: (1/1 + 2/3) / 4.
    let queries = at_angles(&[0.0], &[0]);
    let gallery = at_angles(&[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], &[0, 1, 0, 1, 0, 0]);
    let scores = scores(&queries, &gallery, &[1]).unwrap();
    assert_equal(scores.map_at_r, (1.0 + 2.0 / 3.0) / 4.0);
    assert_equal(scores.r_precision, 0.5);
}

// github.com/KevinMusgrave/pytorch-metric-learning/issues/217: R is a number of each query, not of the set.
#[test]
fn the_depth_of_a_query_is_the_number_of_its_own_positives() {
    // The class of three looks two deep, the class of two one deep.
    let images = at_angles(&[0.0, 0.1, 0.3, 1.0, 1.1], &[0, 0, 0, 1, 1]);
    let evaluation = evaluate_all(&cpu(1), &images).unwrap();
    assert_equal(evaluation.scores(&[1]).r_precision, 1.0);
    // One stranger beside the class of two takes the one place that each of them looks at.
    let disturbed = at_angles(&[0.0, 0.1, 0.3, 1.0, 1.2, 1.1], &[0, 0, 0, 1, 1, 2]);
    let classes = evaluate_all(&cpu(1), &disturbed).unwrap().per_class(&[1]);
    assert_eq!(classes.iter().map(|(label, scores)| (*label, scores.r_precision)).collect::<Vec<_>>(), [(0, 1.0), (1, 0.0)]);
}

// github.com/PkuRainBow/HDC.caffe/issues/14: recall at k of this field counts a query as found by one positive among k.
#[test]
fn one_positive_among_k_makes_a_query_found() {
    let queries = at_angles(&[0.0], &[0]);
    let gallery = at_angles(&[0.1, 0.2, 0.3, 0.4], &[1, 0, 1, 0]);
    let scores = scores(&queries, &gallery, &[1, 2, 3, 4]).unwrap();
    assert_eq!(scores.recall, [(1, 0.0), (2, 1.0), (3, 1.0), (4, 1.0)]);
}

// github.com/KevinMusgrave/pytorch-metric-learning/pull/395: scores of each class, and what those without a query that counts are.
#[test]
fn a_class_without_a_query_that_counts_has_no_score() {
    let images = at_angles(&[0.0, 0.1, 1.0, 1.1, 2.5], &[4, 4, 7, 7, 9]);
    let classes = evaluate_all(&cpu(1), &images).unwrap().per_class(&[1]);
    assert_eq!(classes.iter().map(|(label, scores)| (*label, scores.queries)).collect::<Vec<_>>(), [(4, 2), (7, 2)]);
}

// github.com/facebookresearch/faiss/issues/915: similarities of normalised vectors came back as 1.0000001.
#[test]
fn a_similarity_is_never_above_one() {
    for dim in [3, 17, 128, 513] {
        let images = Embeddings::new(unit_rows("cosines", 40, dim), vec![0; 40], dim).unwrap();
        let found = neighbours(&images, &images, 40);
        let beyond = found.similarities.iter().copied().fold(0.0f32, |most, similarity| most.max(similarity.abs()));
        assert!(beyond <= 1.0, "{beyond} in {dim} dimensions");
    }
}
