//! All-against-all retrieval over 10,000 unit rows of 1,000 classes.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::retrieval::{Retrieval, RetrievalGeometry, RetrievalInputs};
use xbm_fast::rng::Rng;

const ROWS: usize = 10_000;
const CLASSES: usize = 1_000;
const DEPTH: usize = 10;

/// The group `retrieval`; throughput counts multiply-adds.
pub fn group(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("retrieval");
    group.sample_size(10);
    for dim in [128, 512] {
        let geometry = RetrievalGeometry { queries: ROWS, gallery: ROWS, dim };
        let embeddings = unit_rows(dim);
        let mut labels: Vec<i32> = (0..ROWS).map(|row| (row % CLASSES) as i32).collect();
        Rng::new(1).shuffle(&mut labels);
        let own_rows: Vec<i32> = (0..ROWS as i32).collect();
        let inputs = || RetrievalInputs {
            queries: Span::all(&embeddings),
            query_labels: Span::all(&labels),
            gallery: Span::all(&embeddings),
            gallery_labels: Span::all(&labels),
            own_rows: Span::all(&own_rows),
        };
        group.throughput(Throughput::Elements((ROWS * ROWS * dim) as u64));
        group.bench_function(BenchmarkId::new("score", dim), |bencher| {
            bencher.iter(|| black_box(cpu.score(&geometry, inputs())));
        });
        let (mut rows, mut similarities) = (vec![0; ROWS * DEPTH], vec![0.0; ROWS * DEPTH]);
        group.bench_function(BenchmarkId::new("nearest", dim), |bencher| {
            bencher.iter(|| {
                let (rows, similarities) = (SpanMut::all(black_box(&mut rows)), SpanMut::all(&mut similarities));
                cpu.nearest(&geometry, DEPTH, inputs(), rows, similarities)
            });
        });
    }
    group.finish();
}

fn unit_rows(dim: usize) -> Vec<f32> {
    let mut rng = Rng::new(0);
    let mut values: Vec<f32> = (0..ROWS * dim).map(|_| rng.normal()).collect();
    for row in values.chunks_mut(dim) {
        let norm = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().for_each(|value| *value /= norm);
    }
    values
}
