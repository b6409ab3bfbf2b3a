//! Ranks and nearest rows of a block of queries over a test set the size of Stanford Online Products, its similarities given.

use super::pair_loss::fused::labels;
use crate::gpu::{Gpu, agree};
use crate::measure::Floor;
use criterion::Criterion;
use std::cmp::Reverse;
use xbm_fast::kernel_args::retrieval::{RetrievalParams, nearest_shape, rank_shape};
use xbm_fast::rng::Rng;

const DEPTH: usize = 100;
/// Different similarities; many are equal.
const VALUES: usize = 1 << 20;

/// Gallery rows but the query's own, in order of neighbourhood: similarity, then negatives first, then the row.
fn neighbours(similarities: &[f32], labels: &[i32], query: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..labels.len()).filter(|&row| row != query).collect();
    rows.sort_by_key(|&row| (Reverse((similarities[row] * VALUES as f32) as i64), labels[row] == labels[query], row));
    rows
}

pub fn group(criterion: &mut Criterion, gpu: &Gpu) {
    let (queries, gallery, depth) = if gpu.software { (4, 96, 10) } else { (128, 60_502, DEPTH) };
    let mut rng = Rng::new(gallery as u64);
    let values: Vec<f32> = (0..queries * gallery).map(|_| rng.below(2 * VALUES) as f32 / VALUES as f32 - 1.0).collect();
    let classes = labels(gallery);
    let (similarities, row_labels) = (gpu.upload(&values), gpu.upload(&classes));
    let own_rows = gpu.upload(&(0..queries as i32).collect::<Vec<_>>());
    let (ranks, not_finite) = (gpu.zeros::<i32>(queries), gpu.zeros::<u32>(1));
    let (rows, nearest) = (gpu.zeros::<i32>(queries * depth), gpu.zeros::<f32>(queries * depth));
    let params = RetrievalParams {
        similarities: gpu.address(&similarities),
        query_labels: gpu.address(&row_labels),
        gallery_labels: gpu.address(&row_labels),
        own_rows: gpu.address(&own_rows),
        ranks: gpu.address(&ranks),
        rows: gpu.address(&rows),
        nearest: gpu.address(&nearest),
        not_finite: gpu.address(&not_finite),
        stride: gallery as u64,
        gallery_count: gallery as u32,
        depth: depth as u32,
        ..RetrievalParams::default()
    };
    let kernels = [("rank", rank_shape(queries)), ("nearest", nearest_shape(queries))];
    let kernels =
        kernels.map(|(name, shape)| (name, gpu.kernel("retrieval", &format!("retrieval_{name}"), shape.shared_bytes), shape));
    for (_, kernel, shape) in &kernels {
        gpu.launch(kernel, *shape, params);
    }
    let expected: Vec<Vec<usize>> =
        (0..queries).map(|query| neighbours(&values[query * gallery..][..gallery], &classes, query)).collect();
    agree("retrieval, ranks", &gpu.download(&ranks), 0.0, |query| {
        expected[query].iter().position(|&row| classes[row] == classes[query]).map_or(-1.0, |rank| rank as f64)
    });
    agree("retrieval, nearest", &gpu.download(&rows), 0.0, |at| expected[at / depth][at % depth] as f64);

    let floor = Floor::bytes(4 * queries * gallery);
    for (name, kernel, shape) in &kernels {
        gpu.measure(criterion, &format!("retrieval/{name}/{queries}x{gallery}"), floor, (kernel, *shape, params));
    }
}
