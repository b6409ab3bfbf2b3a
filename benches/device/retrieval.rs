//! Ranks of the best positives and the first digit of the nearest rows, over a test set the size of Stanford Online Products.

use super::pair_loss::fused::labels;
use crate::gpu::{Gpu, agree};
use crate::measure::Floor;
use criterion::Criterion;
use half::f16;
use xbm_fast::device::cuda::kernel::Format;
use xbm_fast::kernel_args::retrieval::{BINS, RetrievalParams, kernel, rank_shape};
use xbm_fast::rng::Rng;

/// Queries whose ranks are compared, so that the reference takes seconds.
const COMPARED: usize = 16;

/// Rows of sixteenths up to one: their products and the sums of those are exact, so that ranks are too.
fn sixteenths(rows: usize, dim: usize) -> Vec<f16> {
    let mut rng = Rng::new(rows as u64);
    (0..rows * dim).map(|_| f16::from_f32((rng.below(33) as f32 - 16.0) / 16.0)).collect()
}

/// The number of negatives that come before the best positive of a query, by definition.
fn rank(gallery: &[f32], labels: &[i32], dim: usize, query: usize) -> f64 {
    let own = &gallery[query * dim..][..dim];
    let others = (0..labels.len()).filter(|&row| row != query);
    let similarities: Vec<(f32, bool)> = others
        .map(|row| {
            let s = own.iter().zip(&gallery[row * dim..]).map(|(a, b)| a * b).sum();
            (s, labels[row] == labels[query])
        })
        .collect();
    let best = similarities.iter().filter(|pair| pair.1).fold(f32::NEG_INFINITY, |best, pair| best.max(pair.0));
    if best == f32::NEG_INFINITY { -1.0 } else { similarities.iter().filter(|pair| !pair.1 && pair.0 >= best).count() as f64 }
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let (gallery, dim) = if gpu.software { (96, 64) } else { (60_502, 512) };
    let queries = gallery;
    let tiling = gpu.tiling(dim);
    let tiled = |name: &str| gpu.kernel::<RetrievalParams>("retrieval", &kernel(name, Format::F16, &tiling), tiling.shared_bytes());
    let splits = tiling.splits(queries, gallery, gpu.resident_blocks(&tiled("histogram"), tiling.threads(), tiling.shared_bytes()));
    let (values, classes) = (sixteenths(gallery, dim), labels(gallery));
    let (rows, row_labels) = (gpu.upload(&values), gpu.upload(&classes));
    let own_rows = gpu.upload(&(0..gallery as i32).collect::<Vec<_>>());
    let (best, counts, ranks) = (gpu.zeros::<u32>(queries), gpu.zeros::<i32>(queries), gpu.zeros::<i32>(queries));
    let (not_finite, thresholds, done) = (gpu.zeros::<u32>(1), gpu.zeros::<u64>(queries), gpu.zeros::<u32>(queries));
    let histograms = gpu.zeros::<u32>(queries * BINS);
    let params = RetrievalParams {
        queries: gpu.address(&rows),
        gallery: gpu.address(&rows),
        query_labels: gpu.address(&row_labels),
        gallery_labels: gpu.address(&row_labels),
        own_rows: gpu.address(&own_rows),
        best: gpu.address(&best),
        counts: gpu.address(&counts),
        ranks: gpu.address(&ranks),
        not_finite: gpu.address(&not_finite),
        thresholds: gpu.address(&thresholds),
        done: gpu.address(&done),
        histograms: gpu.address(&histograms),
        query_count: queries as u32,
        gallery_count: gallery as u32,
        tiles_per_split: splits.tiles as u32,
        depth: 10,
        dim: dim as u32,
        ..RetrievalParams::default()
    };
    let tiled_shape = tiling.shape(queries, splits);
    for name in ["best", "count", "histogram"] {
        gpu.launch(&tiled(name), tiled_shape, params);
    }
    gpu.launch(&gpu.kernel("retrieval", "retrieval_ranks", 0), rank_shape(queries), params);
    let wide: Vec<f32> = values.iter().map(|value| value.to_f32()).collect();
    let step = queries / COMPARED;
    let found: Vec<i32> = gpu.download(&ranks).into_iter().step_by(step).collect();
    agree("retrieval, ranks", &found, 0.0, |i| rank(&wide, &classes, dim, i * step));
    let counted: Vec<u32> = gpu.download(&histograms).chunks(BINS).map(|bins| bins.iter().sum()).collect();
    agree("retrieval, histograms", &counted, 0.0, |_| (gallery - 1) as f64);

    let floor = Floor { bytes: 2.0 * (gallery * dim) as f64, flops: 2.0 * (queries * gallery * dim) as f64 };
    for name in ["best", "count", "histogram"] {
        gpu.measure(criterion, &format!("retrieval/{name}/{queries}x{gallery}x{dim}"), floor, (&tiled(name), tiled_shape, params));
    }
}
