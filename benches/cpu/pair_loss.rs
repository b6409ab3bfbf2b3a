//! Pair loss and gradient of a batch against a memory: batch 64 and 256, memory 8k and 60k, length 128 and 512; throughput in
//! pairs. Regimes are named by the share of pairs that are kept.

#[path = "../fixtures/pair_loss.rs"]
mod fixture;

use criterion::{BenchmarkId, Criterion, Throughput};
use fixture::{Case, Outputs, regimes};
use std::time::Duration;
use xbm_fast::device::{Cpu, RowPrecision, Span, SpanMut, Storage};
use xbm_fast::loss::PairWeighting;
use xbm_fast::ops::pair_loss::CompareWith;

pub fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pair_loss");
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let cpu = Cpu::new(None).expect("threads start");
    for (rows, dim) in [(8192, 128), (8192, 512), (60_000, 128), (60_000, 512)] {
        for anchors in [64, 256] {
            let case = Case::new(anchors, rows, dim);
            let mut outputs = Outputs::new(&case.geometry);
            group.throughput(Throughput::Elements((anchors * rows) as u64));
            for (name, weighting) in regimes(dim) {
                let id = BenchmarkId::new(name, format!("{anchors}x{rows}x{dim}"));
                group.bench_function(id, |bencher| bencher.iter(|| case.run(&cpu, &weighting, &mut outputs)));
            }
            let mut half = cpu.zero_rows(rows * dim, RowPrecision::F16).expect("there is room");
            cpu.upload_rows(&case.memory, SpanMut::new(&mut half, 0, rows * dim)).expect("they fit");
            let id = BenchmarkId::new("rule, 16-bit rows", format!("{anchors}x{rows}x{dim}"));
            let rule = PairWeighting::contrastive();
            group.bench_function(id, |bencher| {
                let memory = || CompareWith::Stored(Span::new(&half, 0, rows * dim));
                bencher.iter(|| case.run_against(&cpu, memory(), &rule, &mut outputs));
            });
        }
    }
}
