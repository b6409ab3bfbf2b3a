//! Neighbours by definition, over similarities of few different values: many are equal.

use crate::device::{Gpu, on_every_schedule};
use std::cmp::Ordering;
use xbm_fast::kernel_args::retrieval::{RetrievalParams, nearest_shape, rank_shape};
use xbm_fast::rng::Rng;

/// Numbers between the end of one row of similarities and the next row.
const GAP: usize = 3;

struct Case {
    gallery: usize,
    similarities: Vec<f32>,
    query_labels: Vec<i32>,
    gallery_labels: Vec<i32>,
    own_rows: Vec<i32>,
}

impl Case {
    /// With `classes` labels, and similarities that are quarters between `-spread` and `spread`, some of them minus zero.
    fn new((queries, gallery): (usize, usize), classes: usize, spread: usize) -> Self {
        let mut rng = Rng::new(9).at(gallery).at(queries);
        let mut quarter = || match rng.below(8 * spread + 2) {
            0 => -0.0,
            value => (value as f32 - 1.0) / 4.0 - spread as f32,
        };
        let similarities = (0..queries * gallery).map(|_| quarter()).collect();
        let mut labels = |count: usize| -> Vec<i32> { (0..count).map(|_| rng.below(classes) as i32).collect() };
        let (mut query_labels, gallery_labels) = (labels(queries), labels(gallery));
        query_labels[0] = -7;
        let own_rows = (0..queries).map(|i| if i % 2 == 0 { (i % gallery) as i32 } else { -1 }).collect();
        Self { gallery, similarities, query_labels, gallery_labels, own_rows }
    }

    fn row(&self, query: usize) -> &[f32] {
        &self.similarities[query * self.gallery..][..self.gallery]
    }

    /// Gallery rows in order of neighbourhood: similarity, then negatives first, then the row.
    fn neighbours(&self, query: usize) -> Vec<(i32, f32, bool)> {
        let others = (0..self.gallery).filter(|&row| self.own_rows[query] != row as i32);
        let is_positive = |row: usize| self.query_labels[query] == self.gallery_labels[row];
        let mut all: Vec<_> = others.map(|row| (row as i32, self.row(query)[row], is_positive(row))).collect();
        let descending = |a: f32, b: f32| b.partial_cmp(&a).expect("finite similarities");
        all.sort_by(|a, b| descending(a.1, b.1).then((a.2, a.0).cmp(&(b.2, b.0))));
        all
    }
}

/// What the kernels make of a case.
struct Found {
    ranks: Vec<i32>,
    rows: Vec<i32>,
    nearest: Vec<f32>,
    not_finite: u32,
}

fn search(gpu: &Gpu, case: &Case, depth: usize) -> Found {
    let queries = case.query_labels.len();
    let stride = case.gallery + GAP;
    let padded: Vec<f32> = (0..queries).flat_map(|query| [case.row(query), &[f32::NAN; GAP]].concat()).collect();
    let similarities = gpu.upload(&padded);
    let (query_labels, gallery_labels) = (gpu.upload(&case.query_labels), gpu.upload(&case.gallery_labels));
    let own_rows = gpu.upload(&case.own_rows);
    let (ranks, not_finite) = (gpu.uninitialised::<i32>(queries), gpu.upload(&[0u32]));
    let (rows, nearest) = (gpu.uninitialised::<i32>(queries * depth), gpu.uninitialised::<f32>(queries * depth));
    let params = RetrievalParams {
        similarities: gpu.address(&similarities),
        query_labels: gpu.address(&query_labels),
        gallery_labels: gpu.address(&gallery_labels),
        own_rows: gpu.address(&own_rows),
        ranks: gpu.address(&ranks),
        rows: gpu.address(&rows),
        nearest: gpu.address(&nearest),
        not_finite: gpu.address(&not_finite),
        stride: stride as u64,
        gallery_count: case.gallery as u32,
        depth: depth as u32,
        first_query: 100,
        padding: 0,
    };
    for (name, shape) in [("retrieval_rank", rank_shape(queries)), ("retrieval_nearest", nearest_shape(queries))] {
        gpu.launch(&gpu.kernel::<RetrievalParams>("retrieval", name, shape.shared_bytes), shape, params);
    }
    Found {
        ranks: gpu.download(&ranks),
        rows: gpu.download(&rows),
        nearest: gpu.download(&nearest),
        not_finite: gpu.download(&not_finite)[0],
    }
}

fn check(gpu: &Gpu, case: &Case, depth: usize) {
    let found = search(gpu, case, depth);
    for query in 0..case.query_labels.len() {
        let expected = case.neighbours(query);
        let rank = expected.iter().position(|neighbour| neighbour.2).map_or(-1, |rank| rank as i32);
        assert_eq!(found.ranks[query], rank, "rank of query {query}");
        for place in 0..depth {
            let neighbour = (found.rows[query * depth + place], found.nearest[query * depth + place]);
            let wanted = expected.get(place).map_or((-1, f32::NEG_INFINITY), |neighbour| (neighbour.0, neighbour.1));
            assert_eq!(neighbour.0, wanted.0, "query {query}, neighbour {place} of similarity {} and {}", neighbour.1, wanted.1);
            assert_eq!(neighbour.1.partial_cmp(&wanted.1), Some(Ordering::Equal), "query {query}, neighbour {place}");
        }
    }
    assert_eq!(found.not_finite, 0);
}

/// Enough to notice any fault that is seeded.
pub fn check_thoroughly(gpu: &Gpu) {
    check(gpu, &Case::new((5, 4500), 6, 2), 10);
    check(gpu, &Case::new((3, 5), 2, 2), 8);
    a_collapsed_embedding(gpu);
    a_few_near_rows_before_a_crowd(gpu);
    check(gpu, &Case::new((2, 3000), 3, 40), 2500);
    check_not_finite(gpu);
}

/// More rows than one sort holds differ by label and row alone.
fn a_collapsed_embedding(gpu: &Gpu) {
    let mut case = Case::new((2, 2500), 3, 1);
    case.similarities.fill(0.25);
    check(gpu, &case, 2100);
}

/// The last neighbour is found by digits after the first, below rows that differ from it in the first and have a greater second.
fn a_few_near_rows_before_a_crowd(gpu: &Gpu) {
    let mut case = Case::new((1, 2600), 3, 1);
    let crowd = |row: usize| 0.5 + (row * 7919 % 2600) as f32 * 1e-6;
    case.similarities = (0..2600).map(|row| if row % 26 == 3 { 1.249_999_9 } else { crowd(row) }).collect();
    check(gpu, &case, 300);
}

fn check_not_finite(gpu: &Gpu) {
    let mut case = Case::new((3, 40), 3, 1);
    assert_eq!(search(gpu, &case, 4).not_finite, 0);
    case.similarities[40 + 7] = f32::INFINITY;
    assert_eq!(search(gpu, &case, 4).not_finite, 102, "one more than the query, which is the second after a hundred");
    // Of the query itself nothing is asked.
    case.similarities[40 + 7] = 0.0;
    case.similarities[2 * 40 + 2] = f32::NAN;
    assert_eq!(case.own_rows[2], 2);
    assert_eq!(search(gpu, &case, 4).not_finite, 0);
}

#[test]
fn ranks_and_nearest_rows_follow_the_order_with_its_ties() {
    on_every_schedule(|gpu| {
        check(gpu, &Case::new((35, 150), 6, 2), 10);
        check(gpu, &Case::new((5, 4500), 6, 2), 10);
        check(gpu, &Case::new((3, 5), 2, 2), 8);
        check(gpu, &Case::new((3, 1), 1, 2), 1);
    });
}

#[test]
fn a_collapsed_embedding_is_ordered_by_label_and_row_alone() {
    on_every_schedule(a_collapsed_embedding);
}

#[test]
fn a_few_near_rows_come_before_a_crowd() {
    on_every_schedule(a_few_near_rows_before_a_crowd);
}

#[test]
fn a_deep_search_fixes_further_digits() {
    on_every_schedule(|gpu| check(gpu, &Case::new((2, 3000), 3, 300), 700));
}

#[test]
fn deeper_searches_than_one_sort_holds_go_on_below_the_last_key() {
    on_every_schedule(|gpu| {
        check(gpu, &Case::new((2, 5000), 3, 2), 3500);
        check(gpu, &Case::new((1, 2100), 3, 90), 2300);
    });
}

#[test]
fn a_similarity_that_is_not_finite_names_its_query() {
    on_every_schedule(check_not_finite);
}
