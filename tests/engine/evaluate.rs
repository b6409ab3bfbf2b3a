//! Scores against published definitions, and the samples of pairs a report draws.


use crate::support::{cpu, unit_rows};
use xbm_fast::evaluate::{
    COLLAPSED, Embeddings, Evaluation, EvaluationSet, Scores, evaluate, evaluate_all, mean_random_similarity, nearest,
    similarity_histogram,
};
use xbm_fast::ops::retrieval::Retrieval;
use xbm_fast::rng::Rng;

/// Golden scores are printed with nine digits; the peer averages reciprocal ranks in 32 bits.
const SCORE_TOLERANCE: f64 = 1e-6;

/// What `tests/golden/evaluate.py` printed: Recall at 1, R-precision, MAP at R, mean reciprocal rank.
struct Golden {
    over_queries: [f64; 4],
    over_classes: [f64; 4],
    first_classes: [[f64; 4]; 3],
}

/// 300 images against each other.
const ALL: Golden = Golden {
    over_queries: [0.431972789, 0.29248147, 0.204147228, 0.566929102],
    over_classes: [0.352318213, 0.252187547, 0.187494542, 0.480367482],
    first_classes: [
        [1.0, 0.6, 0.496666667, 1.0],
        [0.545454545, 0.409090909, 0.262546898, 0.701754332],
        [0.285714286, 0.142857143, 0.09047619, 0.389239341],
    ],
};
/// 120 queries, 250 gallery images.
const QUERIES: Golden = Golden {
    over_queries: [0.368421053, 0.270188973, 0.188995198, 0.525371253],
    over_classes: [0.381825397, 0.267004607, 0.191856265, 0.536000252],
    first_classes: [
        [0.666666667, 0.476190476, 0.374829932, 0.833333313],
        [0.8, 0.433333333, 0.314578508, 0.899999976],
        [0.444444444, 0.299145299, 0.15488595, 0.604843318],
    ],
};
/// 200 images against each other, most of whose similarities tie.
const TIES: Golden = Golden {
    over_queries: [0.0, 0.039362809, 0.004631373, 0.05928855],
    over_classes: [0.0, 0.035675239, 0.004213991, 0.057381134],
    first_classes: [
        [0.0, 0.025, 0.002916667, 0.060826324],
        [0.0, 0.015151515, 0.00137741, 0.042952377],
        [0.0, 0.058823529, 0.010016599, 0.066681221],
    ],
};

/// The input of `tests/golden/evaluate.py`: class centre plus noise, classes of unequal size.
fn noisy_classes(name: &str, rows: usize) -> Embeddings {
    let (dim, classes) = (16, 60);
    let mut rng = Rng::new(0).at(name);
    let labels: Vec<i32> = (0..rows).map(|_| rng.below(classes).min(rng.below(classes)) as i32).collect();
    let mut centre_rng = Rng::new(0).at("centres");
    let centres: Vec<f32> = (0..classes * dim).map(|_| centre_rng.normal()).collect();
    let mut values = Vec::new();
    for &label in &labels {
        let row: Vec<f32> = (0..dim).map(|i| centres[label as usize * dim + i] + 1.2 * rng.normal()).collect();
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.extend(row.iter().map(|value| value / norm));
    }
    Embeddings::new(values, labels, dim).unwrap()
}

/// Unit rows of sixteen directions: halves are multiplied and added without rounding.
fn ties(rows: usize, classes: usize) -> Embeddings {
    let mut rng = Rng::new(0).at("ties");
    let values = (0..rows * 4).map(|_| if rng.below(2) == 1 { 0.5 } else { -0.5 }).collect();
    Embeddings::new(values, (0..rows).map(|_| rng.below(classes) as i32).collect(), 4).unwrap()
}

#[track_caller]
fn assert_scores(what: &str, scores: &Scores, expected: [f64; 4]) {
    let found = [scores.recall_at(1).unwrap(), scores.r_precision, scores.map_at_r, scores.mean_reciprocal_rank];
    for (found, expected) in found.into_iter().zip(expected) {
        assert!((found - expected).abs() < SCORE_TOLERANCE, "{what}: found {found}, expected {expected}");
    }
}

#[track_caller]
fn assert_golden(evaluation: &Evaluation, golden: &Golden) {
    assert_scores("over queries", &evaluation.scores(&[1, 10]), golden.over_queries);
    assert_scores("over classes", &evaluation.class_means(&[1, 10]), golden.over_classes);
    for ((label, scores), expected) in evaluation.per_class(&[1]).iter().zip(golden.first_classes) {
        assert_scores(&format!("class {label}"), scores, expected);
    }
}

fn scores_are_those_of_pytorch_metric_learning<B: Retrieval>(backend: &B) {
    assert_golden(&evaluate_all(backend, &noisy_classes("all", 300)).unwrap(), &ALL);
    let (queries, gallery) = (noisy_classes("queries", 120), noisy_classes("gallery", 250));
    let set = EvaluationSet { queries: &queries, gallery: &gallery, own_rows: &[-1; 120] };
    assert_golden(&evaluate(backend, &set).unwrap(), &QUERIES);
    assert_golden(&evaluate_all(backend, &ties(200, 12)).unwrap(), &TIES);
}

#[test]
fn scores_equal_those_of_pytorch_metric_learning() {
    scores_are_those_of_pytorch_metric_learning(&cpu(1));
    scores_are_those_of_pytorch_metric_learning(&cpu(2));
}

/// Four images on a line of angles: a a b a, then a class of one.
fn five_images() -> Embeddings {
    let angles = [0.0f32, 0.2, 0.3, 0.6, 2.0];
    let values = angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect();
    Embeddings::new(values, vec![0, 0, 1, 0, 2], 2).unwrap()
}

#[test]
fn scores_of_five_images_are_those_computed_by_hand() {
    let scores = evaluate_all(&cpu(1), &five_images()).unwrap().scores(&[1, 2, 3]);
    // Neighbours: image 0 sees a b, image 1 sees b a, image 3 sees b a; images 2 and 4 have no positive.
    assert_eq!((3, 2), (scores.queries, scores.excluded_queries));
    assert_eq!(vec![(1, 1.0 / 3.0), (2, 1.0), (3, 1.0)], scores.recall);
    assert!((scores.r_precision - 0.5).abs() < SCORE_TOLERANCE);
    assert!((scores.map_at_r - (0.5 + 0.25 + 0.25) / 3.0).abs() < SCORE_TOLERANCE);
    assert!((scores.mean_reciprocal_rank - (1.0 + 0.5 + 0.5) / 3.0).abs() < SCORE_TOLERANCE);
}

#[test]
fn classes_count_their_own_queries_and_those_without_one_are_left_out() {
    let evaluation = evaluate_all(&cpu(1), &five_images()).unwrap();
    let classes = evaluation.per_class(&[1]);
    assert_eq!(classes.iter().map(|(label, scores)| (*label, scores.queries)).collect::<Vec<_>>(), [(0, 3)]);
    assert_eq!(evaluation.class_means(&[1]), evaluation.scores(&[1]));
}

#[test]
fn a_set_without_any_positive_is_refused_with_the_reason() {
    let lonely = Embeddings::new(unit_rows("lonely", 3, 4), vec![0, 1, 2], 4).unwrap();
    let error = evaluate_all(&cpu(1), &lonely).unwrap_err().to_string();
    assert!(error.contains("at least two images"), "{error}");
}

#[test]
fn queries_and_gallery_of_different_length_are_refused() {
    let queries = Embeddings::new(vec![1.0; 4], vec![0, 0], 2).unwrap();
    let gallery = Embeddings::new(vec![1.0; 3], vec![0], 3).unwrap();
    let set = EvaluationSet { queries: &queries, gallery: &gallery, own_rows: &[-1, -1] };
    assert!(evaluate(&cpu(1), &set).unwrap_err().to_string().contains("dim of the gallery: expected 2, found 3"));
}

#[test]
fn a_collapsed_embedding_scores_zero_and_is_recognised() {
    let healthy = noisy_classes("all", 200);
    let row = healthy.row(0).to_vec();
    let collapsed = Embeddings::new(row.repeat(200), healthy.labels.clone(), healthy.dim).unwrap();
    let scores = evaluate_all(&cpu(1), &collapsed).unwrap().scores(&[1, 10]);
    assert_eq!((0.0, Some(0.0)), (scores.map_at_r, scores.recall_at(10)));
    assert!(mean_random_similarity(&collapsed, 0) > COLLAPSED);
    assert!(mean_random_similarity(&healthy, 0) < 0.2);
    assert_eq!(mean_random_similarity(&healthy, 3), mean_random_similarity(&healthy, 3));
}

#[test]
fn neighbours_leave_out_the_query_and_are_sorted() {
    let embeddings = five_images();
    let own_rows: Vec<i32> = (0..5).collect();
    let set = EvaluationSet { queries: &embeddings, gallery: &embeddings, own_rows: &own_rows };
    let neighbours = nearest(&cpu(1), &set, 5).unwrap();
    assert_eq!([1, 2, 3, 4, -1], neighbours.rows[..5]);
    assert!((neighbours.similarities[0] - 0.2f32.cos()).abs() < 1e-6);
}

#[test]
fn histograms_separate_positive_pairs_from_negative_ones() {
    let values = [[1.0f32, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]].concat();
    let embeddings = Embeddings::new(values, vec![0, 0, 1, 1], 2).unwrap();
    let histogram = similarity_histogram(&embeddings, 4, 0);
    assert!((histogram.positive[3] - 1.0).abs() < 1e-9 && (histogram.negative[0] - 1.0).abs() < 1e-9, "{histogram:?}");
    let alone = Embeddings::new(vec![1.0, 0.0], vec![0], 2).unwrap();
    assert_eq!(vec![0.0; 4], similarity_histogram(&alone, 4, 0).negative);
}
