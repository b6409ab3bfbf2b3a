//! Neighbour search against a sort of all similarities, on every backend.

use crate::support::{buffer, cpu, integer_values, integers, unit_rows, values};
use proptest::prelude::*;
use xbm_fast::Error;
use xbm_fast::device::{NumberFormat, Span, SpanMut};
use xbm_fast::ops::retrieval::{QueryScore, Retrieval, RetrievalGeometry, RetrievalInputs, score_by_neighbours};
use xbm_fast::rng::Rng;

/// A retrieval on the host.
#[derive(Clone, Debug)]
struct Case {
    dim: usize,
    queries: Vec<f32>,
    query_labels: Vec<i32>,
    gallery: Vec<f32>,
    gallery_labels: Vec<i32>,
    own_rows: Vec<i32>,
}

/// The neighbours of a query in their order: row, similarity, whether positive.
fn reference(case: &Case, query: usize) -> Vec<(i32, f64, bool)> {
    let value = |rows: &[f32], row: usize, i: usize| f64::from(rows[row * case.dim + i]);
    let mut neighbours: Vec<(i32, f64, bool)> = (0..case.gallery_labels.len())
        .filter(|&row| row as i32 != case.own_rows[query])
        .map(|row| {
            let similarity = (0..case.dim).map(|i| value(&case.queries, query, i) * value(&case.gallery, row, i)).sum();
            (row as i32, similarity, case.gallery_labels[row] == case.query_labels[query])
        })
        .collect();
    neighbours.sort_by(|a, b| b.1.partial_cmp(&a.1).expect("finite").then(a.2.cmp(&b.2)).then(a.0.cmp(&b.0)));
    neighbours
}

fn geometry(case: &Case) -> RetrievalGeometry {
    RetrievalGeometry { queries: case.query_labels.len(), gallery: case.gallery_labels.len(), dim: case.dim }
}

/// Calls `search` with the case's inputs on the device.
fn with_inputs<B: Retrieval, R>(backend: &B, case: &Case, search: impl FnOnce(RetrievalInputs<'_, B>) -> R) -> R {
    let (queries, gallery) = (buffer(backend, &case.queries), buffer(backend, &case.gallery));
    let query_labels = integers(backend, &case.query_labels);
    let gallery_labels = integers(backend, &case.gallery_labels);
    let own_rows = integers(backend, &case.own_rows);
    search(RetrievalInputs {
        queries: Span::new(&queries, 0, case.queries.len()),
        query_labels: Span::new(&query_labels, 0, case.query_labels.len()),
        gallery: Span::new(&gallery, 0, case.gallery.len()),
        gallery_labels: Span::new(&gallery_labels, 0, case.gallery_labels.len()),
        own_rows: Span::new(&own_rows, 0, case.own_rows.len()),
    })
}

fn ranks<B: Retrieval>(backend: &B, case: &Case) -> xbm_fast::Result<Vec<i32>> {
    let len = case.query_labels.len();
    let mut ranks = integers(backend, &vec![7; len]);
    with_inputs(backend, case, |inputs| backend.best_positive_rank(&geometry(case), inputs, SpanMut::new(&mut ranks, 0, len)))?;
    Ok(integer_values(backend, &ranks, len))
}

fn scores<B: Retrieval>(backend: &B, case: &Case) -> Vec<Option<QueryScore>> {
    with_inputs(backend, case, |inputs| backend.score(&geometry(case), inputs)).unwrap()
}

/// As [`scores`] where the gallery is the queries themselves, in one buffer.
fn scores_all_against_all<B: Retrieval>(backend: &B, case: &Case) -> Vec<Option<QueryScore>> {
    with_inputs(backend, case, |inputs| {
        let inputs = RetrievalInputs { gallery: inputs.queries, gallery_labels: inputs.query_labels, ..inputs };
        backend.score(&geometry(case), inputs)
    })
    .unwrap()
}

/// The scores' definitions, written down on the sorted neighbours.
fn reference_score(case: &Case, query: usize) -> Option<QueryScore> {
    let positive: Vec<bool> = reference(case, query).iter().map(|neighbour| neighbour.2).collect();
    let total = positive.iter().filter(|positive| **positive).count();
    let found = |places: usize| positive[..places].iter().filter(|positive| **positive).count() as f64;
    let precisions = (1..=total).filter(|&place| positive[place - 1]).map(|place| found(place) / place as f64);
    (total > 0).then(|| QueryScore {
        rank: positive.iter().position(|positive| *positive).unwrap() as u32,
        average_precision: precisions.sum::<f64>() / total as f64,
        r_precision: found(total) / total as f64,
    })
}

fn nearest<B: Retrieval>(backend: &B, case: &Case, depth: usize) -> xbm_fast::Result<(Vec<i32>, Vec<f32>)> {
    let len = case.query_labels.len() * depth;
    let mut rows = integers(backend, &vec![7; len]);
    let mut similarities = backend.zeros(len, NumberFormat::Full)?;
    with_inputs(backend, case, |inputs| {
        let (rows, similarities) = (SpanMut::new(&mut rows, 0, len), SpanMut::new(&mut similarities, 0, len));
        backend.nearest(&geometry(case), depth, inputs, rows, similarities)
    })?;
    Ok((integer_values(backend, &rows, len), values(backend, &similarities, len)))
}

/// Embeddings of a few small whole numbers: every dot product is exact in any order and precision, and most of them tie.
fn tied_case(seed: u64, queries: usize, gallery: usize, classes: usize) -> Case {
    let dim = 3;
    let mut rng = Rng::new(seed).at("tied");
    let mut rows = |count: usize| (0..count * dim).map(|_| rng.below(5) as f32 - 2.0).collect::<Vec<f32>>();
    let (queries_values, gallery_values) = (rows(queries), rows(gallery));
    let mut labels = |count: usize| (0..count).map(|_| rng.below(classes) as i32 - 1).collect::<Vec<i32>>();
    let (query_labels, gallery_labels) = (labels(queries), labels(gallery));
    let own_rows = (0..queries).map(|_| rng.below(gallery + 1) as i32 - 1).collect();
    Case { dim, queries: queries_values, query_labels, gallery: gallery_values, gallery_labels, own_rows }
}

fn assert_is_the_sorted_order<B: Retrieval>(backend: &B, case: &Case, depth: usize) {
    let found_ranks = ranks(backend, case).unwrap();
    let (rows, similarities) = nearest(backend, case, depth).unwrap();
    for query in 0..case.query_labels.len() {
        let expected = reference(case, query);
        let rank = expected.iter().position(|neighbour| neighbour.2).map_or(-1, |rank| rank as i32);
        assert_eq!(rank, found_ranks[query], "rank of query {query}");
        for place in 0..depth {
            let (row, similarity) = expected.get(place).map_or((-1, f64::NEG_INFINITY), |n| (n.0, n.1));
            assert_eq!((row, similarity), (rows[query * depth + place], f64::from(similarities[query * depth + place])));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn ranks_and_neighbours_are_those_of_a_sort_whatever_ties_there_are(
        seed in any::<u64>(), queries in 1usize..40, gallery in 1usize..150, classes in 1usize..12, depth in 1usize..30,
    ) {
        let case = tied_case(seed, queries, gallery, classes);
        assert_is_the_sorted_order(&cpu(1), &case, depth);
    }
}

/// Every query of a gallery made of the queries, each its own row.
fn tied_square(seed: u64, rows: usize, classes: usize) -> Case {
    let case = tied_case(seed, rows, rows, classes);
    let own_rows = (0..rows as i32).collect();
    Case { gallery: case.queries.clone(), gallery_labels: case.query_labels.clone(), own_rows, ..case }
}

fn assert_scores_are_the_defined_ones<B: Retrieval>(backend: &B, case: &Case, found: &[Option<QueryScore>]) {
    for (query, found) in found.iter().enumerate() {
        assert_eq!(*found, reference_score(case, query), "query {query}");
    }
    let listed = with_inputs(backend, case, |inputs| score_by_neighbours(backend, &geometry(case), inputs)).unwrap();
    assert_eq!(listed, found, "counted and listed scores differ");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn scores_are_the_defined_ones_whatever_ties_there_are(
        seed in any::<u64>(), queries in 1usize..40, gallery in 1usize..150, classes in 1usize..12,
    ) {
        let case = tied_case(seed, queries, gallery, classes);
        assert_scores_are_the_defined_ones(&cpu(1), &case, &scores(&cpu(1), &case));
        let square = tied_square(seed, gallery, classes);
        assert_scores_are_the_defined_ones(&cpu(1), &square, &scores_all_against_all(&cpu(1), &square));
    }
}

#[test]
fn scores_are_the_defined_ones_across_many_blocks() {
    for classes in [3, 40, 700] {
        let case = tied_case(classes as u64, 700, 1700, classes);
        assert_scores_are_the_defined_ones(&cpu(2), &case, &scores(&cpu(2), &case));
        let square = tied_square(classes as u64, 1300, classes);
        assert_scores_are_the_defined_ones(&cpu(2), &square, &scores_all_against_all(&cpu(2), &square));
    }
}

/// In one buffer the upper half of the matrix is used twice; in two, all of it once. Long rows, so that rounding would show.
/// Rows of length 1 around the patterns of their classes, of eighths with either sign: products are exact in any order, and many tie, but
/// most are far from those of equal labels.
fn tied_patterns(rows: usize, classes: usize) -> Case {
    let dim = 64;
    let mut rng = Rng::new(3).at("patterns");
    let patterns: Vec<f32> = (0..classes * dim).map(|_| if rng.below(2) == 0 { 0.125 } else { -0.125 }).collect();
    let labels: Vec<i32> = (0..rows).map(|_| rng.below(classes) as i32).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for &label in &labels {
        let mut row = patterns[label as usize * dim..][..dim].to_vec();
        (0..6).for_each(|_| row[rng.below(dim)] *= -1.0);
        values.extend(row);
    }
    let own_rows = (0..rows as i32).collect();
    Case { dim, gallery: values.clone(), queries: values, gallery_labels: labels.clone(), query_labels: labels, own_rows }
}

#[test]
fn similarities_that_change_no_count_are_left_out_and_ties_stay_ties() {
    let case = tied_patterns(1300, 90);
    assert_scores_are_the_defined_ones(&cpu(2), &case, &scores_all_against_all(&cpu(2), &case));
    assert_scores_are_the_defined_ones(&cpu(1), &case, &scores(&cpu(1), &case));
}

#[test]
fn half_the_matrix_and_all_of_it_give_the_same_bits_on_any_number_of_threads() {
    for dim in [33, 600] {
        let case = random_case(1500, dim, 100);
        let expected = scores(&cpu(1), &case);
        for threads in [1, 2, 5] {
            assert_eq!(scores_all_against_all(&cpu(threads), &case), expected, "{threads} threads");
        }
    }
}

#[test]
fn ranks_and_neighbours_are_those_of_a_sort_across_many_tiles() {
    assert_is_the_sorted_order(&cpu(2), &tied_case(1, 700, 1700, 90), 200);
}

/// All against all, labels not sorted.
fn random_case(rows: usize, dim: usize, classes: usize) -> Case {
    let embeddings = unit_rows("embeddings", rows, dim);
    let mut rng = Rng::new(3).at("labels");
    let labels: Vec<i32> = (0..rows).map(|_| rng.below(classes) as i32).collect();
    let own_rows = (0..rows as i32).collect();
    Case { dim, queries: embeddings.clone(), query_labels: labels.clone(), gallery: embeddings, gallery_labels: labels, own_rows }
}

/// Similarities of unit rows are sums of `dim` products rounded to 24 bits; neighbours closer than this may change places.
const SIMILARITY_TOLERANCE: f64 = 1e-6;

fn finds_neighbours_of_random_embeddings<B: Retrieval>(backend: &B) {
    let case = random_case(1100, 40, 200);
    let depth = 10;
    let found_ranks = ranks(backend, &case).unwrap();
    let (_, similarities) = nearest(backend, &case, depth).unwrap();
    for query in 0..1100 {
        let expected = reference(&case, query);
        match expected.iter().find(|neighbour| neighbour.2) {
            None => assert_eq!(-1, found_ranks[query]),
            Some(best) => {
                let above = expected.iter().filter(|n| !n.2 && n.1 > best.1 + SIMILARITY_TOLERANCE).count() as i32;
                let at_least = expected.iter().filter(|n| !n.2 && n.1 > best.1 - SIMILARITY_TOLERANCE).count() as i32;
                assert!((above..=at_least).contains(&found_ranks[query]), "query {query}");
            }
        }
        for place in 0..depth {
            assert!((f64::from(similarities[query * depth + place]) - expected[place].1).abs() < SIMILARITY_TOLERANCE);
        }
    }
}

#[test]
fn random_embeddings_find_their_neighbours() {
    finds_neighbours_of_random_embeddings(&cpu(2));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let case = random_case(1500, 33, 100);
    assert_eq!(ranks(&cpu(1), &case).unwrap(), ranks(&cpu(2), &case).unwrap());
    let (one, two) = (nearest(&cpu(1), &case, 20).unwrap(), nearest(&cpu(2), &case, 20).unwrap());
    assert_eq!(one.0, two.0);
    assert!(one.1.iter().zip(&two.1).all(|(a, b)| a.to_bits() == b.to_bits()));
}

fn a_collapsed_embedding_scores_as_badly_as_it_can<B: Retrieval>(backend: &B) {
    let mut case = random_case(1301, 77, 13);
    let row = case.gallery[..case.dim].to_vec();
    case.gallery = row.repeat(1301);
    case.queries = case.gallery.clone();
    for (query, rank) in ranks(backend, &case).unwrap().into_iter().enumerate() {
        let negatives = case.gallery_labels.iter().filter(|&&label| label != case.query_labels[query]).count();
        assert_eq!(negatives as i32, rank);
    }
}

#[test]
fn a_collapsed_embedding_ranks_every_negative_first() {
    a_collapsed_embedding_scores_as_badly_as_it_can(&cpu(2));
}

#[test]
fn a_gallery_of_the_query_alone_has_no_neighbour() {
    let case = Case {
        dim: 2,
        queries: vec![1.0, 0.0],
        query_labels: vec![4],
        gallery: vec![1.0, 0.0],
        gallery_labels: vec![4],
        own_rows: vec![0],
    };
    assert_eq!(vec![-1], ranks(&cpu(1), &case).unwrap());
    assert_eq!((vec![-1, -1], vec![f32::NEG_INFINITY; 2]), nearest(&cpu(1), &case, 2).unwrap());
}

#[test]
fn an_empty_gallery_and_no_queries_are_answered() {
    let empty = |queries: usize| Case {
        dim: 2,
        queries: vec![1.0; queries * 2],
        query_labels: vec![0; queries],
        gallery: vec![],
        gallery_labels: vec![],
        own_rows: vec![-1; queries],
    };
    assert_eq!(vec![-1, -1], ranks(&cpu(1), &empty(2)).unwrap());
    assert!(ranks(&cpu(1), &empty(0)).unwrap().is_empty());
    assert_eq!(vec![-1, -1], nearest(&cpu(1), &empty(1), 2).unwrap().0);
}

#[test]
fn nan_and_overflow_are_rejected_with_their_row() {
    let mut case = tied_case(2, 5, 9, 3);
    case.gallery[4 * case.dim + 1] = f32::NAN;
    let error = ranks(&cpu(2), &case).unwrap_err();
    assert!(matches!(error, Error::NotFinite { what: "gallery", row: 4 }), "{error}");
    case.gallery[4 * case.dim + 1] = 1e30;
    case.queries[0] = 1e30;
    assert!(nearest(&cpu(1), &case, 2).unwrap_err().to_string().contains("norms"));
}

#[test]
fn wrong_lengths_and_rows_are_named() {
    let mut case = tied_case(2, 5, 9, 3);
    case.own_rows[1] = 9;
    assert_eq!("own rows: expected -1 or a row below 9, found 9", ranks(&cpu(1), &case).unwrap_err().to_string());
    case.own_rows[1] = -1;
    case.gallery.pop();
    assert_eq!("gallery: expected 27 values, found 26 values", ranks(&cpu(1), &case).unwrap_err().to_string());
}
