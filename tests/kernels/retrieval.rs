//! Neighbours by definition, over embeddings of few small whole numbers: every similarity is exact, and many are equal.

use crate::device::{Gpu, on_every_schedule};
use std::cmp::Reverse;
use xbm_fast::device::cuda::kernel::Format::{self, Bf16, F16};
use xbm_fast::kernel_args::retrieval::{BINS, CANDIDATES, PASSES, RetrievalParams, kernel, rank_shape, select_shape, sort_shape};
use xbm_fast::kernel_args::tiling::{LENGTHS, Tiling};
use xbm_fast::rng::Rng;

struct Case {
    queries: usize,
    gallery: usize,
    dim: usize,
    format: Format,
    query_values: Vec<f32>,
    gallery_values: Vec<f32>,
    query_labels: Vec<i32>,
    gallery_labels: Vec<i32>,
    own_rows: Vec<i32>,
}

impl Case {
    /// With `classes` labels, and values that are whole numbers up to `spread`.
    fn new(format: Format, (queries, gallery, dim): (usize, usize, usize), classes: usize, spread: usize) -> Self {
        let mut rng = Rng::new(9).at(gallery).at(dim);
        let mut values =
            |count: usize| -> Vec<f32> { (0..count).map(|_| rng.below(2 * spread + 1) as f32 - spread as f32).collect() };
        let (query_values, gallery_values) = (values(queries * dim), values(gallery * dim));
        let mut labels = |count: usize| -> Vec<i32> { (0..count).map(|_| rng.below(classes) as i32).collect() };
        let (mut query_labels, gallery_labels) = (labels(queries), labels(gallery));
        query_labels[0] = -7;
        let own_rows = (0..queries).map(|i| if i % 2 == 0 { (i % gallery) as i32 } else { -1 }).collect();
        Self { queries, gallery, dim, format, query_values, gallery_values, query_labels, gallery_labels, own_rows }
    }

    /// Gallery rows in order of neighbourhood: similarity, then negatives first, then the row.
    fn neighbours(&self, query: usize) -> Vec<(i32, f32, bool)> {
        let mut all: Vec<(i32, f32, bool)> = Vec::new();
        for row in (0..self.gallery).filter(|&row| self.own_rows[query] != row as i32) {
            let (a, b) = (&self.query_values[query * self.dim..], &self.gallery_values[row * self.dim..]);
            let s: f32 = a.iter().zip(b).take(self.dim).map(|(a, b)| a * b).sum();
            all.push((row as i32, s, self.query_labels[query] == self.gallery_labels[row]));
        }
        all.sort_by_key(|&(row, s, positive)| (Reverse(s as i64), positive, row));
        all
    }
}

fn zeros<T: cudarc::driver::DeviceRepr + cudarc::driver::ValidAsZeroBits>(gpu: &Gpu, len: usize) -> cudarc::driver::CudaSlice<T> {
    gpu.stream.alloc_zeros(len).unwrap()
}

fn check(gpu: &Gpu, case: &Case, depth: usize) {
    for tiling in &gpu.tilings(case.dim) {
        check_tiling(gpu, case, tiling, depth);
    }
}

fn check_tiling(gpu: &Gpu, case: &Case, tiling: &Tiling, depth: usize) {
    let conflicts = software_gpu::statistics().bank_conflicts;
    let Case { queries, gallery, dim, .. } = *case;
    let splits = tiling.splits(queries, gallery, 4);
    let (query_values, gallery_values) =
        (gpu.encode(&case.query_values, case.format), gpu.encode(&case.gallery_values, case.format));
    let (query_labels, gallery_labels) = (gpu.upload(&case.query_labels), gpu.upload(&case.gallery_labels));
    let own_rows = gpu.upload(&case.own_rows);
    let (best, counts, ranks) = (zeros::<u32>(gpu, queries), zeros::<i32>(gpu, queries), gpu.uninitialised::<i32>(queries));
    let (not_finite, thresholds) = (zeros::<u32>(gpu, 1), zeros::<u64>(gpu, queries));
    let (above, done, histograms) = (zeros::<u32>(gpu, queries), zeros::<u32>(gpu, queries), zeros::<u32>(gpu, queries * BINS));
    let (candidates, candidate_counts) = (gpu.uninitialised::<u64>(queries * CANDIDATES), zeros::<u32>(gpu, queries));
    let (rows, similarities) = (gpu.uninitialised::<i32>(queries * depth), gpu.uninitialised::<f32>(queries * depth));
    let params = RetrievalParams {
        queries: gpu.address(&query_values),
        gallery: gpu.address(&gallery_values),
        query_labels: gpu.address(&query_labels),
        gallery_labels: gpu.address(&gallery_labels),
        own_rows: gpu.address(&own_rows),
        best: gpu.address(&best),
        counts: gpu.address(&counts),
        ranks: gpu.address(&ranks),
        not_finite: gpu.address(&not_finite),
        thresholds: gpu.address(&thresholds),
        above: gpu.address(&above),
        done: gpu.address(&done),
        histograms: gpu.address(&histograms),
        candidates: gpu.address(&candidates),
        candidate_counts: gpu.address(&candidate_counts),
        rows: gpu.address(&rows),
        similarities: gpu.address(&similarities),
        query_count: queries as u32,
        gallery_count: gallery as u32,
        tiles_per_split: splits.tiles as u32,
        depth: depth as u32,
        pass: 0,
        dim: dim as u32,
    };
    let tiled = |name: &str| gpu.kernel::<RetrievalParams>("retrieval", &kernel(name, case.format, tiling), tiling.shared_bytes());
    let plain = |name: &str| gpu.kernel::<RetrievalParams>("retrieval", &format!("retrieval_{name}"), 0);
    let tiled_shape = tiling.shape(queries, splits);
    gpu.launch(&tiled("best"), tiled_shape, params);
    gpu.launch(&tiled("count"), tiled_shape, params);
    gpu.launch(&plain("ranks"), rank_shape(queries), params);
    let (histogram, select) = (tiled("histogram"), plain("select"));
    for pass in 0..PASSES {
        gpu.launch(&histogram, tiled_shape, RetrievalParams { pass, ..params });
        gpu.launch(&select, select_shape(queries), RetrievalParams { pass, ..params });
    }
    gpu.launch(&tiled("collect"), tiled_shape, params);
    gpu.launch(&plain("sort"), sort_shape(queries), params);

    let (ranks, rows, similarities) = (gpu.download(&ranks), gpu.download(&rows), gpu.download(&similarities));
    for query in 0..queries {
        let expected = case.neighbours(query);
        let rank = expected.iter().position(|neighbour| neighbour.2).map_or(-1, |rank| rank as i32);
        assert_eq!(ranks[query], rank, "rank of query {query}");
        for place in 0..depth {
            let found = (rows[query * depth + place], similarities[query * depth + place]);
            let wanted = expected.get(place).map_or((-1, f32::NEG_INFINITY), |neighbour| (neighbour.0, neighbour.1));
            assert_eq!(found, wanted, "query {query}, neighbour {place}");
        }
    }
    assert_eq!(gpu.download(&not_finite), [0]);
    assert_eq!(software_gpu::statistics().bank_conflicts, conflicts, "matrix loads wait for no bank");
}

#[test]
fn ranks_and_nearest_rows_follow_the_order_with_its_ties() {
    on_every_schedule(|gpu| {
        for (dim, format) in LENGTHS.into_iter().chain([96, 384]).zip([F16, Bf16].into_iter().cycle()) {
            check(gpu, &Case::new(format, (35, 150, dim), 6, 2), 10);
        }
        check(gpu, &Case::new(F16, (3, 5, 64), 2, 2), 8);
    });
}

#[test]
fn a_collapsed_embedding_is_ordered_by_label_and_row_alone() {
    on_every_schedule(|gpu| check(gpu, &Case::new(F16, (2, 2500, 64), 3, 0), 1000));
}

#[test]
fn a_deep_search_fixes_further_digits() {
    on_every_schedule(|gpu| check(gpu, &Case::new(Bf16, (2, 3000, 64), 3, 3), 700));
}
