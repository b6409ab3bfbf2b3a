//! The stem's max pooling and the global poolings.

use criterion::{Criterion, Throughput};
use xbm_fast::device::{Cpu, Span, SpanMut};
use xbm_fast::ops::pool::{GlobalPooling, Pool, PoolGeometry};
use xbm_fast::rng::Rng;

pub fn bench(criterion: &mut Criterion) {
    let cpu = Cpu::new(None).expect("threads start");
    let mut group = criterion.benchmark_group("pool");
    let mut rng = Rng::new(0).at("pool");
    let mut normals = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.normal()).collect() };

    let stem = PoolGeometry { batch: 16, height: 56, width: 56, channels: 64 };
    let (input, gradient) = (normals(stem.input_len()), normals(stem.output_len()));
    let (mut output, mut input_gradient) = (gradient.clone(), input.clone());
    group.throughput(Throughput::Elements(stem.input_len() as u64));
    group.bench_function("max/16x56x56x64", |bencher| {
        bencher.iter(|| cpu.max_pool_forward(&stem, Span::all(&input), SpanMut::all(&mut output)));
    });
    group.bench_function("max_backward/16x56x56x64", |bencher| {
        bencher.iter(|| cpu.max_pool_backward(&stem, Span::all(&input), Span::all(&gradient), SpanMut::all(&mut input_gradient)));
    });

    let last = PoolGeometry { batch: 64, height: 7, width: 7, channels: 512 };
    let (input, gradient) = (normals(last.input_len()), normals(last.batch * last.channels));
    let (mut output, mut input_gradient) = (gradient.clone(), input.clone());
    group.throughput(Throughput::Elements(last.input_len() as u64));
    for (name, pooling) in [("global_avg", GlobalPooling::Avg), ("global_max", GlobalPooling::Max)] {
        group.bench_function(format!("{name}/64x7x7x512"), |bencher| {
            bencher.iter(|| cpu.global_pool_forward(&last, pooling, Span::all(&input), SpanMut::all(&mut output)));
        });
        group.bench_function(format!("{name}_backward/64x7x7x512"), |bencher| {
            bencher.iter(|| {
                let result = SpanMut::all(&mut input_gradient);
                cpu.global_pool_backward(&last, pooling, Span::all(&input), Span::all(&gradient), result)
            });
        });
    }
    group.finish();
}
