//! Ranks and neighbours of the GPU against the CPU's: every length, precision, depth and size of gallery.

use crate::support::{cpu, integer_values, integers, on_gpu, on_gpu_in, values};
use xbm_fast::device::cuda::Precision;
use xbm_fast::device::{NumberFormat, Span, SpanMut};
use xbm_fast::ops::retrieval::{Retrieval, RetrievalGeometry, RetrievalInputs};
use xbm_fast::rng::Rng;

/// Queries and gallery on the host.
struct Case {
    geometry: RetrievalGeometry,
    queries: Vec<f32>,
    gallery: Vec<f32>,
    query_labels: Vec<i32>,
    gallery_labels: Vec<i32>,
    own_rows: Vec<i32>,
}

impl Case {
    /// Every number is one of few, so that similarities of short rows are exact; `fine` ones have 12 bits, more than TF32.
    fn new([queries, gallery, dim]: [usize; 3], fine: bool) -> Self {
        let mut rng = Rng::new(5).at(queries).at(gallery).at(dim);
        let unit = if fine { 1.0 / 2048.0 } else { 0.25 };
        let mut numbers = |len: usize| -> Vec<f32> {
            (0..len).map(|_| if fine { 1.0 + rng.below(4) as f32 * unit } else { (rng.below(9) as f32 - 4.0) * unit }).collect()
        };
        let (query_values, gallery_values) = (numbers(queries * dim), numbers(gallery * dim));
        let mut labels = |len: usize| -> Vec<i32> { (0..len).map(|_| rng.below(7) as i32 - 3).collect() };
        let (query_labels, gallery_labels) = (labels(queries), labels(gallery));
        let own_rows = (0..queries).map(|query| if query % 3 == 0 && query < gallery { query as i32 } else { -1 }).collect();
        let geometry = RetrievalGeometry { queries, gallery, dim };
        Self { geometry, queries: query_values, gallery: gallery_values, query_labels, gallery_labels, own_rows }
    }

    /// Ranks; rows and similarities of the neighbours.
    fn search<B: Retrieval>(&self, backend: &B, depth: usize) -> xbm_fast::Result<(Vec<i32>, Vec<i32>, Vec<f32>)> {
        let numbers = |values: &[f32]| {
            let mut buffer = backend.zeros(values.len(), NumberFormat::Compute)?;
            backend.upload(values, SpanMut::new(&mut buffer, 0, values.len())).map(|()| buffer)
        };
        let (queries, gallery) = (numbers(&self.queries)?, numbers(&self.gallery)?);
        let [query_labels, gallery_labels, own_rows] =
            [&self.query_labels, &self.gallery_labels, &self.own_rows].map(|labels| integers(backend, labels));
        let (count, len) = (self.geometry.queries, self.geometry.queries * depth);
        let inputs = RetrievalInputs {
            queries: Span::new(&queries, 0, self.queries.len()),
            query_labels: Span::new(&query_labels, 0, count),
            gallery: Span::new(&gallery, 0, self.gallery.len()),
            gallery_labels: Span::new(&gallery_labels, 0, self.geometry.gallery),
            own_rows: Span::new(&own_rows, 0, count),
        };
        let (mut ranks, mut rows) = (integers(backend, &vec![7; count]), integers(backend, &vec![7; len]));
        let mut similarities = backend.zeros(len, NumberFormat::Full)?;
        backend.best_positive_rank(&self.geometry, inputs, SpanMut::new(&mut ranks, 0, count))?;
        let outputs = (SpanMut::new(&mut rows, 0, len), SpanMut::new(&mut similarities, 0, len));
        backend.nearest(&self.geometry, depth, inputs, outputs.0, outputs.1)?;
        Ok((integer_values(backend, &ranks, count), integer_values(backend, &rows, len), values(backend, &similarities, len)))
    }

    #[track_caller]
    fn agrees(&self, precision: Precision, depth: usize) {
        on_gpu_in(precision, |cuda| {
            let [found, expected] = [self.search(cuda, depth), self.search(&cpu(2), depth)].map(Result::unwrap);
            assert_eq!(found.0, expected.0, "ranks in {}", precision.name());
            assert_eq!(found.1, expected.1, "rows in {}", precision.name());
            assert_eq!(found.2, expected.2, "similarities in {}", precision.name());
        });
    }
}

#[test]
fn every_length_and_precision_is_searched_on_the_device() {
    for (precision, dim) in
        [(Precision::Fp16, 64), (Precision::Bf16, 36), (Precision::Fp16, 7), (Precision::Fp32, 1100), (Precision::Tf32, 5)]
    {
        Case::new([21, 90, dim], false).agrees(precision, 12);
    }
}

#[test]
fn numbers_of_32_bits_are_not_rounded_to_find_neighbours() {
    let case = Case::new([9, 200, 3], true);
    case.agrees(Precision::Fp32, 20);
    case.agrees(Precision::Tf32, 20);
}

#[test]
fn searches_deeper_than_a_thousand_and_than_the_gallery_are_whole() {
    Case::new([3, 1500, 4], false).agrees(Precision::Fp16, 1600);
}

#[test]
fn a_gallery_too_long_for_the_cache_is_searched_for_some_queries_at_a_time() {
    Case::new([70, 90_000, 3], false).agrees(Precision::Fp32, 5);
}

#[test]
fn nothing_is_found_in_an_empty_gallery_nor_for_no_queries() {
    Case::new([3, 0, 8], false).agrees(Precision::Fp16, 2);
    Case::new([0, 5, 8], false).agrees(Precision::Fp16, 2);
    Case::new([3, 5, 8], false).agrees(Precision::Fp16, 0);
}

#[test]
fn a_query_that_is_not_finite_is_named() {
    let mut case = Case::new([70, 90_000, 1], false);
    case.queries[64] = f32::INFINITY;
    on_gpu(|cuda| {
        let error = case.search(cuda, 1).unwrap_err().to_string();
        assert!(error.contains("64"), "{error}");
    });
}
